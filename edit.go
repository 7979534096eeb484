package caddysession

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-session/caddy-session/codec"
)

// Edit changes the session of the `session` that encloses it, and can redirect
// afterwards, so that a login or a logout is one directive.
type Edit struct {
	// What is done, in this order.
	Operations []Operation `json:"operations,omitempty"`

	// Where the client is sent afterwards instead of going on with the route.
	// May contain placeholders, which see the session as changed.
	Redirect string `json:"redirect,omitempty"`

	// The status of the redirect, 301 to 308. Default: 303, which browsers
	// follow with a GET whatever the method was.
	StatusCode int `json:"status_code,omitempty"`
}

// Operation is one change of a session.
type Operation struct {
	// One of put, put_json, increment, remove, clear, renew, destroy,
	// destroy_others, remember and forget, which is `remember off`.
	// destroy_others ends all other sessions of the principal, which the
	// enclosing session has to name.
	Action string `json:"action"`

	// The key of put, put_json and increment, taken as it is: dots lead into no
	// object. The same holds for keys.
	Key string `json:"key,omitempty"`

	// The keys of remove.
	Keys []string `json:"keys,omitempty"`

	// The value of put: a string, in which placeholders are replaced. That of
	// put_json: JSON, in whose strings placeholders are replaced, so that no
	// value can break out of its place.
	Value string `json:"value,omitempty"`

	// What increment adds, to 0 where there is no whole number, from
	// -9007199254740991 to 9007199254740991. Default: 1.
	By *int `json:"by,omitempty"`

	json any // Value of put_json, parsed
}

// CaddyModule returns the Caddy module information.
func (*Edit) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.session_edit",
		New: func() caddy.Module { return new(Edit) },
	}
}

// Provision parses the JSON of put_json.
func (e *Edit) Provision(caddy.Context) error {
	for i := range e.Operations {
		if err := e.Operations[i].parse(); err != nil {
			return err
		}
	}
	return nil
}

// Validate reports operations that cannot be meant.
func (e *Edit) Validate() error {
	if len(e.Operations) == 0 {
		return errors.New("session_edit does nothing: give it at least one operation")
	}
	for i := range e.Operations {
		if err := e.Operations[i].checkUnused(); err != nil {
			return err
		}
	}
	if e.StatusCode != 0 && e.Redirect == "" {
		return errors.New("session_edit has a status_code without a redirect")
	}
	if e.StatusCode != 0 && (e.StatusCode < 301 || e.StatusCode > 308) {
		return fmt.Errorf("%d is no status of a redirect: use 301 to 308", e.StatusCode)
	}
	return nil
}

// mostIncrement is the largest number that Caddy, which reads its config as JavaScript does, leaves as it is.
const mostIncrement = int64(1)<<53 - 1

// parse checks one operation and prepares it.
func (o *Operation) parse() (err error) {
	for _, key := range append([]string{o.Key}, o.Keys...) {
		if err := checkKey(key); err != nil {
			return fmt.Errorf("%s %w", o.Action, err)
		}
	}
	switch o.Action {
	case "put":
	case "increment":
		if o.By != nil && (int64(*o.By) > mostIncrement || int64(*o.By) < -mostIncrement) {
			return fmt.Errorf("increment %s: %d is the most that can be added at a time: Caddy keeps no larger number exactly in its config", o.Key, mostIncrement)
		}
	case "put_json":
		if o.json, err = codec.DecodeValue([]byte(o.Value)); err != nil {
			return fmt.Errorf("put_json %s: the value is not JSON, in which a text has quotes (in a Caddyfile `\"text\"`): %w", o.Key, err)
		}
		if err := checkNames(o.json); err != nil {
			return fmt.Errorf("put_json %s: %w", o.Key, err)
		}
	case "remove":
		if len(o.Keys) == 0 {
			return errors.New("remove needs the keys to remove; clear removes them all")
		}
		return nil
	case "clear", "renew", "destroy", "destroy_others", "remember", "forget":
		return nil
	default:
		return fmt.Errorf("unknown operation %q: use put, put_json, increment, remove, clear, renew, destroy, destroy_others, remember, forget", o.Action)
	}
	if o.Key == "" {
		return fmt.Errorf("%s needs a key", o.Action)
	}
	return nil
}

// checkUnused reports what the operation takes no notice of: `remember` with the
// value off would remember.
func (o *Operation) checkUnused() error {
	for _, field := range []struct {
		name   string
		unused bool
	}{
		{"key", o.Key != "" && !slices.Contains([]string{"put", "put_json", "increment"}, o.Action)},
		{"keys", len(o.Keys) > 0 && o.Action != "remove"},
		{"value", o.Value != "" && o.Action != "put" && o.Action != "put_json"},
		{"by", o.By != nil && o.Action != "increment"},
	} {
		if field.unused {
			what := o.Action + " takes no " + field.name
			return fmt.Errorf("%s, which would do nothing%s", what, instead[what])
		}
	}
	return nil
}

// instead says what does what was meant.
var instead = map[string]string{
	"remember takes no value":  "; remember off is the action forget",
	"increment takes no value": "; what it adds is by",
	"clear takes no keys":      "; remove takes some",
}

// ServeHTTP changes the session, then redirects or goes on.
func (e *Edit) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	sessions, err := enclosing(r, "this session_edit")
	if err != nil {
		return err
	}
	session := sessions.current
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	fill := func(text string) string { return session.h.fill(repl, text, unknownInEdit) }
	operations := e.Operations
	if session.isAnswered() { // its error page changes nothing, but there is one
		operations = nil
	}
	for i := range operations {
		if err := operations[i].apply(session, fill); err != nil {
			return session.httpError(err)
		}
	}
	if err := sessions.edited(r.Header); err != nil {
		return session.httpError(err)
	}
	if e.Redirect == "" {
		return next.ServeHTTP(w, r)
	}
	w.Header().Set("Location", fill(e.Redirect))
	w.WriteHeader(cmp.Or(e.StatusCode, http.StatusSeeOther))
	return nil
}

// A login that puts nothing is none, and should not fail in silence.
const unknownInEdit = "session_edit puts nothing in the place of a placeholder that this request does not know: is it misspelt, or has what sets it, like basic_auth, not run before?"

// enclosing returns the sessions of a request, the current of which a `session`
// keeps; what asks for them is named in the error.
func enclosing(r *http.Request, what string) (*sessions, error) {
	all, _ := caddyhttp.GetVar(r.Context(), sessionsVar).(*sessions)
	if all == nil || all.current == nil || !all.current.serving {
		return nil, mistake(r.Context(),
			fmt.Errorf("no `session` encloses %s: put `session` before it, in handle_errors too", what))
	}
	return all, nil
}

func (o *Operation) apply(s *Session, fill func(text string) string) error {
	switch o.Action {
	case "put":
		return s.Put(o.Key, fill(o.Value))
	case "put_json":
		return s.Put(o.Key, fillIn(o.json, fill))
	case "increment":
		by := 1
		if o.By != nil {
			by = *o.By
		}
		return s.Increment(o.Key, by)
	case "remove":
		return s.Remove(o.Keys...)
	case "clear":
		return s.Clear()
	case "remember":
		return s.Remember(true)
	case "forget":
		return s.Remember(false)
	}
	return s.act(o.Action) // renew, destroy or destroy_others
}

// fillIn replaces placeholders in the strings of a JSON value.
func fillIn(value any, fill func(text string) string) any {
	switch value := value.(type) {
	case string:
		return fill(value)
	case []any:
		filled := make([]any, len(value))
		for i := range value {
			filled[i] = fillIn(value[i], fill)
		}
		return filled
	case map[string]any:
		filled := make(map[string]any, len(value))
		for key := range value {
			filled[key] = fillIn(value[key], fill)
		}
		return filled
	}
	return value
}

// checkNames reports a placeholder in the name of an object's member, where it is
// not replaced: two might come out the same.
func checkNames(value any) error {
	switch value := value.(type) {
	case []any:
		for i := range value {
			if err := checkNames(value[i]); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(value)) { // so that the error is always the same
			if hasPlaceholder(name) {
				return fmt.Errorf("placeholders are replaced in strings that are values, not in the name %q", name)
			}
			if err := checkNames(value[name]); err != nil {
				return err
			}
		}
	}
	return nil
}

var (
	_ caddy.Provisioner           = (*Edit)(nil)
	_ caddy.Validator             = (*Edit)(nil)
	_ caddyhttp.MiddlewareHandler = (*Edit)(nil)
)
