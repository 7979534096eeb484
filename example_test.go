package caddysession_test

import (
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	caddysession "github.com/caddy-session/caddy-session"
)

// Greeter is a Caddy handler that keeps something in the session.
type Greeter struct{}

func (Greeter) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	session := caddysession.FromContext(r.Context())
	if session == nil {
		return caddyhttp.Error(http.StatusInternalServerError, errors.New("put `session` before this handler"))
	}
	if err := session.Increment("visits", 1); err != nil {
		return err // a 503 where the store cannot be reached
	}
	if user, ok := session.Get("user").(string); ok {
		w.Header().Set("X-Greeting", "Hello "+user)
	}
	return next.ServeHTTP(w, r)
}

// The handler of another module uses the session of the request.
func ExampleFromContext() {
	var _ caddyhttp.MiddlewareHandler = Greeter{}
}
