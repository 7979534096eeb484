package caddysession

import (
	"errors"
	"fmt"
	"slices"

	"github.com/caddy-session/caddy-session/internal/realfile"
	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// App is what all `session` handlers of one config share: the defaults they
// start from, and the stores, which are opened when the config starts and
// closed when nothing uses them any more.
type App struct {
	// What every `session` handler starts from where it sets nothing itself.
	Defaults *Handler `json:"defaults,omitempty"`

	leases   map[string]*lease // by identity: what the store is
	files    map[string]string // of embedded nodes: without links → as configured
	handlers int               // how many there are
	events   *events           // those of this config
	logger   *zap.Logger
}

// lease is one store that this config has taken from the pool.
type lease struct {
	backend       *backend
	store         *resolvedStore // what it is, and its settings
	keys          *keyring
	principalKeys []string // whose values name the user, of the handlers on it
	idle          bool     // whether any of them has an idle_timeout
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
	a.leases = make(map[string]*lease)
	a.files = make(map[string]string)
	var err error
	if a.events, err = newEvents(ctx); err != nil {
		return err
	}
	return registerMetrics(ctx.GetMetricsRegistry())
}

// lease returns the store for a handler's configuration, shared with every
// other handler, of this config or of the one before it, that has the same.
func (a *App) lease(config *StoreConfig, keys *keyring, logger *zap.Logger) (*lease, error) {
	resolved, err := config.resolve(logger)
	if err != nil {
		return nil, err
	}
	if have, ok := a.leases[resolved.identity()]; ok {
		if !have.keys.sameAs(keys) {
			return nil, fmt.Errorf("%s is configured twice with different keys: give every session on it the same ones, best in the global session option", resolved.name())
		}
		if have.store.key() != resolved.key() || have.store.live != resolved.live {
			return nil, fmt.Errorf("%s is configured twice with different settings: give every session on it the same ones, best in the global session option", resolved.name())
		}
		return have, nil
	}
	if err := a.checkFile(resolved); err != nil {
		return nil, err
	}
	b, err := takeBackend(resolved, a.logger)
	if err != nil {
		return nil, err
	}
	resolved.warnOfPlainText(logger)
	l := &lease{backend: b, store: resolved, keys: keys}
	a.leases[resolved.identity()] = l
	return l, nil
}

// checkFile reports a file that tables are to be kept in with different values of
// synchronous, which is that of the file, or under two names: it is open once.
func (a *App) checkFile(r *resolvedStore) error {
	if r.file == "" {
		return nil
	}
	for _, have := range a.leases {
		if have.store.file == r.file && have.store.live.synchronous != r.live.synchronous {
			return fmt.Errorf("the embedded store %s is configured twice with different settings: synchronous is one for the file, whatever the table", r.file)
		}
	}
	real, err := realfile.Of(r.file) // as far as the links are there by now
	if err != nil {
		return nil //nolint:nilerr // nor is its directory: that is said when it is opened
	}
	if known, ok := a.files[real]; ok && known != r.file {
		return fmt.Errorf("the embedded stores %s and %s are one file: give every session on it the same name of it", known, r.file)
	}
	a.files[real] = r.file
	return nil
}

// Start opens the stores and begins their upkeep. A store that cannot be
// reached stops nothing: it is tried again by every request that needs it.
func (a *App) Start() error {
	for _, l := range a.leases {
		l.backend.start(l.store.live, l.keys, a.logger)
		l.backend.listeners.add(a.events)
	}
	a.enter()
	return nil
}

// applySettings gives the stores the settings and the log of this config back, after
// those of one that failed to start.
func (a *App) applySettings() {
	for _, l := range a.leases {
		l.backend.apply(l.store.live, l.keys, a.logger)
	}
}

// include takes into account by which value a handler on the store names the user, and
// whether it has an idle_timeout.
func (l *lease) include(principalKey string, idle bool) {
	if principalKey != "" && !slices.Contains(l.principalKeys, principalKey) {
		l.principalKeys = append(l.principalKeys, principalKey)
	}
	l.idle = l.idle || idle
}

// Stop hands on what events are left. The stores may be in use by the config
// that comes after this one.
func (a *App) Stop() error {
	a.events.drain()
	return nil
}

// Cleanup gives the stores back; those that nothing else uses are closed.
func (a *App) Cleanup() error {
	if goesOn := a.leave(); goesOn != nil {
		goesOn.applySettings()
	}
	var errs []error
	for identity, l := range a.leases {
		l.backend.listeners.remove(a.events)
		_, err := backends.Delete(l.store.key())
		errs = append(errs, err)
		delete(a.leases, identity)
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
