package caddysession

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
)

// Auth authenticates requests by their session: whoever's session has the key
// is the user that its value names, {http.auth.user.id}.
type Auth struct {
	// The key of the session that names the user. Who has none, or an empty
	// value there (false, 0, [] and {} name nobody either), gets a 401.
	Key string `json:"key"`
}

// CaddyModule returns the Caddy module information.
func (*Auth) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.authentication.providers.session",
		New: func() caddy.Module { return new(Auth) },
	}
}

// Validate reports a provider without a key.
func (a *Auth) Validate() error {
	if a.Key == "" {
		return errors.New("session_auth needs the key of the session that names the user")
	}
	if err := checkKey(a.Key); err != nil {
		return fmt.Errorf("session_auth %w", err)
	}
	if name, _, ok := strings.Cut(a.Key, "="); ok {
		return fmt.Errorf("session_auth takes the key alone: session_auth %s; ask for its value with the session matcher", name)
	}
	return nil
}

// Authenticate implements caddyauth.Authenticator. Caddy takes an error of a
// provider for a 401. An outage is answered by the enclosing `session` all the
// same; a missing `session` is answered here, or a mistake in the configuration
// would look like a visitor who is not signed in.
func (a *Auth) Authenticate(w http.ResponseWriter, r *http.Request) (caddyauth.User, bool, error) {
	sessions, err := enclosing(r, "this session_auth")
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return caddyauth.User{}, false, err
	}
	session := sessions.current
	if session.Load() != nil { // the enclosing `session` answers with it; Caddy would log it here as well, for each request
		return caddyauth.User{}, false, nil
	}
	value, _ := session.Lookup(a.Key)
	user := caddyauth.User{ID: nameIn(value)}
	if user.ID == "" {
		return caddyauth.User{}, false, nil
	}
	user.Metadata = map[string]string{"session_id": session.ID()}
	return user, true, nil
}

func parseAuth(helper httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	auth := new(Auth)
	if err := auth.UnmarshalCaddyfile(helper.Dispenser); err != nil {
		return nil, err
	}
	return caddyauth.Authentication{
		ProvidersRaw: caddy.ModuleMap{"session": caddyconfig.JSON(auth, nil)},
	}, nil
}

// UnmarshalCaddyfile reads a `session_auth` directive. Syntax:
//
//	session_auth [<matcher>] <key>
func (a *Auth) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume directive name
	if !d.AllArgs(&a.Key) || a.Key == "" {
		return d.Err("session_auth takes one key: that of the session which names the user")
	}
	if err := a.Validate(); err != nil {
		return d.WrapErr(err)
	}
	if d.NextBlock(0) {
		return noBlock(d, "session_auth")
	}
	return nil
}

var (
	_ caddy.Validator         = (*Auth)(nil)
	_ caddyfile.Unmarshaler   = (*Auth)(nil)
	_ caddyauth.Authenticator = (*Auth)(nil)
)
