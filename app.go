package caddysession

import (
	"errors"
	"fmt"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// App is what all `session` handlers of one config share: the defaults they
// start from, and the stores, which are opened when the config starts and
// closed when nothing uses them any more.
type App struct {
	// What every `session` handler starts from where it sets nothing itself.
	Defaults *Handler `json:"defaults,omitempty"`

	backends map[string]*lease // by identity: what the store is
	named    []namedStore      // the same, since the start
	handlers int               // how many there are
	events   *events           // those of this config
	logger   *zap.Logger
}

// lease is one store that this config has taken from the pool.
type lease struct {
	backend  *backend
	key      string
	settings liveSettings
	keys     *keyring
	place    place
	owners   []string // the values that name the user, of the handlers on it
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "session",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision sets up the app.
func (a *App) Provision(ctx caddy.Context) error {
	a.logger = ctx.Logger()
	a.backends = make(map[string]*lease)
	var err error
	if a.events, err = newEvents(ctx); err != nil {
		return err
	}
	return registerMetrics(ctx.GetMetricsRegistry())
}

// backend returns the store for a handler's configuration, shared with every
// other handler, of this config or of the one before it, that has the same.
func (a *App) backend(config *StoreConfig, keys *keyring, logger *zap.Logger) (*backend, error) {
	resolved, err := config.resolve(logger)
	if err != nil {
		return nil, err
	}
	if have, ok := a.backends[resolved.identity()]; ok {
		if !have.keys.sameAs(keys) {
			return nil, fmt.Errorf("%s is configured twice with different keys: give every session on it the same ones, best in the global session option", resolved.name())
		}
		if have.key != resolved.key() || have.settings != resolved.live {
			return nil, fmt.Errorf("%s is configured twice with different settings: give every session on it the same ones, best in the global session option", resolved.name())
		}
		return have.backend, nil
	}
	b, err := takeBackend(resolved, a.logger)
	if err != nil {
		return nil, err
	}
	a.backends[resolved.identity()] = &lease{backend: b, key: resolved.key(), settings: resolved.live, keys: keys, place: resolved.place()}
	return b, nil
}

// Start opens the stores and begins their upkeep. A store that cannot be
// reached stops nothing: it is tried again by every request that needs it.
func (a *App) Start() error {
	for _, l := range a.backends {
		l.backend.start(l.settings)
		l.backend.listeners.add(a.events)
	}
	a.named = nameStores(a.backends)
	a.enter()
	return nil
}

// lease returns what this config has of a store, and notes by which value a
// handler on it names the user.
func (a *App) lease(b *backend, owner string) *lease {
	for _, l := range a.backends {
		if l.backend != b {
			continue
		}
		if owner != "" && !slices.Contains(l.owners, owner) {
			l.owners = append(l.owners, owner)
		}
		return l
	}
	return nil
}

// Stop hands on what events are left. The stores may be in use by the config
// that comes after this one.
func (a *App) Stop() error {
	a.events.drain()
	return nil
}

// Cleanup gives the stores back; those that nothing else uses are closed.
func (a *App) Cleanup() error {
	a.leave()
	var errs []error
	for identity, l := range a.backends {
		l.backend.listeners.remove(a.events)
		errs = append(errs, l.backend.release(l.key))
		delete(a.backends, identity)
	}
	if a.events != nil { // nil: provisioning failed before
		a.events.end()
	}
	return errors.Join(errs...)
}

var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
