// Package caddysession keeps sessions at the edge: the Caddy module
// http.handlers.session puts an scs SessionManager over an RqliteStore around
// everything downstream of it.
//
// A [Session] is lazy: the store is asked only when something reads or writes
// it, and what was changed is stored before the first byte of the response's
// header goes out. Other Go modules get at it with [FromContext].
package caddysession

import (
	"cmp"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/dustin/go-humanize"
	"go.uber.org/zap"
)

func init() {
	caddy.RegisterModule(&App{})
	caddy.RegisterModule(&Handler{})
	caddy.RegisterModule(&Edit{})
	caddy.RegisterModule(&Match{})
	caddy.RegisterModule(&Auth{})
	caddy.RegisterModule(&CSRF{})
	caddy.RegisterModule(&Devices{})
	caddy.RegisterModule(AdminAPI{})
	caddy.OnExit(live.closeAbandoned)
}

// Handler keeps a session for every visitor that stores something in one, and
// makes it available to everything downstream: as placeholders, to the
// `session_edit` handler and to other modules.
//
// Without any configuration the sessions live in an embedded single node, one
// durable SQLite file in Caddy's data directory.
//
// Placeholder | Description
// ------------|---------------
// `{http.session.data.<key>}` | A value; dots lead into nested objects; objects and arrays are JSON
// `{http.session.id}` | The public id: random, the same through renewals, safe to log
// `{http.session.is_new}` | Whether the request came without a session
// `{http.session.csrf_token}` | A token for this session's forms, see the handler `session_csrf`
// `{http.session.created}` | When it was first stored (RFC 3339)
// `{http.session.expires}` | When it ends however busy it is (RFC 3339)
type Handler struct {
	// Where the sessions are kept. Default: the embedded node.
	Store *StoreConfig `json:"store,omitempty"`

	// The cookie that carries the session's token.
	Cookie *CookieConfig `json:"cookie,omitempty"`

	// How long a session lasts from its creation or from its last renewal at
	// a login, however busy it is (the absolute timeout of OWASP ASVS 7.3.2).
	// Default: 24h.
	Lifetime caddy.Duration `json:"lifetime,omitempty"`

	// How long a session may go unused before it ends (the inactivity timeout
	// of OWASP ASVS 7.3.1). Sessions marked with `remember on` are exempt.
	// Default: as long as its lifetime.
	IdleTimeout caddy.Duration `json:"idle_timeout,omitempty"`

	// How often the use of a session is noted in the store when nothing else
	// of it changes: an idle session may end so much before its `idle_timeout`.
	// Default: a tenth of `idle_timeout`, at least 1s.
	TouchInterval caddy.Duration `json:"touch_interval,omitempty"`

	// How often a session is given a new token without a change of rights.
	// The old one stays good until ten seconds after the new one was first
	// used, so that a lost response logs nobody out. Default: never.
	RenewInterval caddy.Duration `json:"renew_interval,omitempty"`

	// Whether the cookie outlives the browser. When off, only sessions that
	// were marked with `remember on` do. Default: true.
	Persist *bool `json:"persist,omitempty"`

	// The lifetime of sessions marked with `remember on`. Default: 30d, or
	// `lifetime` where that is longer.
	RememberLifetime caddy.Duration `json:"remember_lifetime,omitempty"`

	// The largest a session may grow, in bytes as stored; up to 2KiB more is for
	// what the session keeps of its own, like a User-Agent. A write that would
	// exceed it is an error of the request and stores nothing. Default: 64KiB,
	// at most 15MiB.
	MaxSize int64 `json:"max_size,omitempty"`

	// How long a session that was read may be answered from memory, at most
	// 10m. What this Caddy changes is seen by it at once; what another one
	// changes, a logout too, may be missed for so long. Default: never. On the
	// embedded node, which no other Caddy can change, it is 1s at least.
	Cache caddy.Duration `json:"cache,omitempty"`

	// The key of the session whose value names the user; an empty one, false, 0,
	// [] and {} name nobody. Changing it is a login or a logout: the session is
	// renewed by itself, and what another user's slow request did is not stored
	// in it. Default: none.
	Principal string `json:"principal,omitempty"`

	// How many sessions one principal may have. Default: any number.
	MaxPerPrincipal *PrincipalLimit `json:"max_per_principal,omitempty"`

	// Placeholders that must stay what they were when the session was stored,
	// like {http.request.header.User-Agent}, as they are when a request reaches
	// `session`: one for which any differs has no session. That makes a stolen
	// cookie worth less; addresses change too often for it. Default: none.
	Bind []string `json:"bind,omitempty"`

	// For whom sessions are good: one that was begun for another audience is none
	// here, even if it is kept in the same table. Give several sites the same
	// audience if they are to share sessions. May have placeholders. Default: the
	// host that the client asked for, or the cookie's domain where it has one, and
	// the cookie's name.
	Audience string `json:"audience,omitempty"`

	// Whether sessions keep when they were last used, from which address and by
	// which User-Agent, for `session_devices` and the admin API. Noted every five
	// minutes, and within a minute when the client changed. Default: false.
	Track *bool `json:"track,omitempty"`

	// What a request is that needs its session while the store cannot be reached:
	// `fail` answers 503; `anonymous` serves it without one, read-only: what would
	// be stored is a 503 all the same. Default: fail.
	OnStoreError string `json:"on_store_error,omitempty"`

	// How often a response that goes on, like a websocket or server-sent
	// events, is checked: it is closed once its session has ended or has
	// another principal. What goes over it is no use of the session: with an
	// `idle_timeout`, one that is used in no other way ends. Default: never.
	Revalidate caddy.Duration `json:"revalidate,omitempty"`

	// Signs the cookies and seals the rows. Every Caddy that shares the store
	// needs the same keys. Default: none; cookies are random and rows are plain JSON.
	Keys *KeysConfig `json:"keys,omitempty"`

	// How many new sessions a client may begin. A request that would begin one
	// more gets a 429 with Retry-After and stores nothing. Clients are told
	// apart by Caddy's client_ip, IPv6 by its /64. Default: any number.
	MaxNewPerClient *ClientLimit `json:"max_new_per_client,omitempty"`

	// Which requests from other sites may use a session. Default: those that
	// change nothing and open no websocket.
	CrossOrigin *CrossOriginConfig `json:"cross_origin,omitempty"`

	// Shares the session with the application behind reverse_proxy or
	// php_fastcgi, in any language, over HTTP headers. Default: it is not shared.
	Upstream *UpstreamConfig `json:"upstream,omitempty"`

	backend      *backend
	lease        *lease // of the backend
	keys         *keyring
	manager      *scs.SessionManager
	scsKey       any // under which scs keeps its data in a context
	cookie       cookieJar
	persist      bool
	lifetime     time.Duration
	idle         time.Duration
	touch        time.Duration
	renew        time.Duration
	remember     time.Duration
	maxSize      int64
	cacheAge     time.Duration
	principalKey string // the key whose value names the principal
	limit        *PrincipalLimit
	perClient    *clientLimiter // nil without max_new_per_client
	bind         []string
	audience     string
	track        bool
	anonymous    bool // on_store_error
	revalidate   time.Duration
	origins      *originGuard
	upstream     *upstream
	logger       *zap.Logger
	sampled      *sampledLog
	joined       *sync.Map    // *Handler that enclose this one with the same session
	mapped       *atomic.Bool // browsers send the cookie where its path says they do not: a proxy in front changes paths
}

const (
	defaultLifetime         = 24 * time.Hour
	defaultRememberLifetime = 30 * 24 * time.Hour
	defaultMaxSize          = 64 << 10
	mostMaxSize             = 15 << 20    // the store takes a little more, sealed and with what the session keeps of its own
	leastTouch              = time.Second // unless touch_interval says otherwise
)

const anonymousPolicy = "anonymous"

var outagePolicies = []string{"fail", anonymousPolicy}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.session",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision completes the configuration with the app's defaults and takes the
// store from the pool. It asks neither the store nor the network for anything.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	h.sampled = &sampledLog{logger: h.logger}
	module, err := ctx.App("session")
	if err != nil {
		return err
	}
	app := module.(*App)

	settings, err := h.with(app.Defaults)
	if err != nil {
		return err
	}
	settings.resolve(h)

	h.cookie = newCookieJar(settings.Cookie)
	if h.keys, err = newKeyring(settings.Keys, h.logger); err != nil {
		return err
	}
	h.joined, h.mapped = new(sync.Map), new(atomic.Bool)
	if h.lease, err = app.lease(settings.Store, h.keys, h.logger); err != nil {
		return fmt.Errorf("session store: %w", err)
	}
	h.backend = h.lease.backend
	h.useCache()
	h.principalKey = settings.Principal
	h.lease.include(h.principalKey, h.idle > 0)
	h.limit = settings.MaxPerPrincipal
	h.perClient = h.backend.limiterOf(settings.MaxNewPerClient)
	h.origins = newOriginGuard(settings.CrossOrigin)
	h.upstream = newUpstream(settings.Upstream)
	h.manager, h.scsKey = newManager(h, app.handlers)
	app.handlers++
	return nil
}

// with returns the settings of h, completed by the defaults and checked. An error
// that is not in h itself names them: they stand elsewhere.
func (h *Handler) with(defaults *Handler) (*Handler, error) {
	settings := *h
	settings.inherit(defaults)
	err := settings.check()
	if err != nil && defaults != nil && h.check() == nil {
		err = fmt.Errorf("with the defaults of every session: %w", err)
	}
	return &settings, err
}

// inherit fills what h leaves open from the defaults.
func (h *Handler) inherit(defaults *Handler) {
	if defaults == nil {
		return
	}
	h.Store = h.Store.inherit(defaults.Store)
	h.Cookie = h.Cookie.inherit(defaults.Cookie)
	inherit(&h.Lifetime, defaults.Lifetime)
	inherit(&h.IdleTimeout, defaults.IdleTimeout)
	inherit(&h.TouchInterval, defaults.TouchInterval)
	inherit(&h.RenewInterval, defaults.RenewInterval)
	inherit(&h.Persist, defaults.Persist)
	inherit(&h.RememberLifetime, defaults.RememberLifetime)
	inherit(&h.MaxSize, defaults.MaxSize)
	inherit(&h.Cache, defaults.Cache)
	inherit(&h.Principal, defaults.Principal)
	inherit(&h.MaxPerPrincipal, defaults.MaxPerPrincipal)
	inherit(&h.Audience, defaults.Audience)
	inherit(&h.Track, defaults.Track)
	inherit(&h.OnStoreError, defaults.OnStoreError)
	inherit(&h.Revalidate, defaults.Revalidate)
	if h.Bind == nil {
		h.Bind = defaults.Bind
	}
	inherit(&h.Keys, defaults.Keys)
	inherit(&h.MaxNewPerClient, defaults.MaxNewPerClient)
	inherit(&h.CrossOrigin, defaults.CrossOrigin)
	inherit(&h.Upstream, defaults.Upstream)
}

// inherit sets a field that was left open.
func inherit[T comparable](field *T, fallback T) {
	*field = cmp.Or(*field, fallback)
}

// check reports a configuration that cannot be meant.
func (h *Handler) check() error {
	if err := h.checkDurations(); err != nil {
		return err
	}
	if h.MaxSize < 0 {
		return fmt.Errorf("max_size must be a positive size, not %d", h.MaxSize)
	}
	if h.MaxSize > mostMaxSize {
		return fmt.Errorf("max_size is %s, more than a session can have: use %s at most", humanize.IBytes(uint64(h.MaxSize)), humanize.IBytes(mostMaxSize))
	}
	if err := checkKey(h.Principal); err != nil {
		return fmt.Errorf("principal %w", err)
	}
	return cmp.Or(
		h.Cookie.check(),
		h.MaxPerPrincipal.check(h.Principal),
		h.checkBind(),
		h.checkAudience(),
		checkChoice("on_store_error", h.OnStoreError, outagePolicies),
		h.Keys.check(),
		h.MaxNewPerClient.check(),
		h.CrossOrigin.check(),
		h.Upstream.check(),
		h.Store.check(),
	)
}

func (h *Handler) checkDurations() error {
	for _, d := range []struct {
		name  string
		value caddy.Duration
		least time.Duration
	}{
		{"lifetime", h.Lifetime, leastDuration},
		{"idle_timeout", h.IdleTimeout, leastDuration},
		{"touch_interval", h.TouchInterval, 0},
		{"renew_interval", h.RenewInterval, leastDuration},
		{"remember_lifetime", h.RememberLifetime, leastDuration},
		{"cache", h.Cache, 0},
		{"revalidate", h.Revalidate, leastDuration},
	} {
		if err := checkDuration(d.name, d.value, d.least); err != nil {
			return err
		}
	}
	lifetime := cmp.Or(time.Duration(h.Lifetime), defaultLifetime)
	idle, touch := time.Duration(h.IdleTimeout), time.Duration(h.TouchInterval)
	if idle > lifetime {
		return fmt.Errorf("idle_timeout %v is longer than lifetime %v: it would never apply; shorten it or lengthen the lifetime", idle, lifetime)
	}
	if touch > 0 && idle == 0 {
		return fmt.Errorf("touch_interval has no effect without an idle_timeout: set one, or leave touch_interval out")
	}
	if touch > 0 && touch >= idle {
		return fmt.Errorf("touch_interval %v must be shorter than idle_timeout %v, or sessions in use would end", touch, idle)
	}
	if touch == 0 && idle > 0 && idle <= leastTouch {
		return fmt.Errorf("idle_timeout %v is too short for the touch_interval of %v that it has unless another is set, so sessions in use would end: lengthen it, or set touch_interval", idle, leastTouch)
	}
	if remember := time.Duration(h.RememberLifetime); remember > 0 && remember < lifetime && idle == 0 && (h.Persist == nil || *h.Persist) {
		return fmt.Errorf("remember_lifetime %v is shorter than lifetime %v, so a session would end sooner for being remembered: lengthen it, or leave it out", remember, lifetime)
	}
	if renew := time.Duration(h.RenewInterval); renew > lifetime {
		return fmt.Errorf("renew_interval %v is longer than lifetime %v: it would never apply", renew, lifetime)
	}
	if age := time.Duration(h.Cache); age > cacheMaxAge {
		return fmt.Errorf("cache %v is too long: a logout would be missed for so long; use %v at most", age, cacheMaxAge)
	}
	return nil
}

// resolve writes the settings with their built-in defaults where the request's path reads them.
func (h *Handler) resolve(to *Handler) {
	to.lifetime = cmp.Or(time.Duration(h.Lifetime), defaultLifetime)
	to.idle = time.Duration(h.IdleTimeout)
	to.touch = cmp.Or(time.Duration(h.TouchInterval), max(to.idle/10, leastTouch))
	to.renew = time.Duration(h.RenewInterval)
	to.remember = cmp.Or(time.Duration(h.RememberLifetime), max(defaultRememberLifetime, to.lifetime))
	to.maxSize = cmp.Or(h.MaxSize, defaultMaxSize)
	to.cacheAge = time.Duration(h.Cache)
	to.persist = h.Persist == nil || *h.Persist
	to.bind = h.Bind
	to.audience = h.Audience
	to.track = h.Track != nil && *h.Track
	to.anonymous = h.OnStoreError == anonymousPolicy
	to.revalidate = time.Duration(h.Revalidate)
}

var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
