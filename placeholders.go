package caddysession

import (
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-session/caddy-session/codec"
)

// placeholder returns the value of {http.session.<name>}:
//
//	{http.session.id}          the public id; safe to log
//	{http.session.data.<key>}  a value; dots lead into nested objects
//	{http.session.is_new}      whether the request came without a session
//	{http.session.created}     when the session was first stored (RFC 3339)
//	{http.session.csrf_token}  for the forms of this session, see session_csrf
//	{http.session.expires}     when it ends at the latest (RFC 3339)
//
// What is absent is empty.
func (s *Session) placeholder(name string) (any, bool) {
	if path, ok := strings.CutPrefix(name, "data."); ok {
		value, _ := s.Lookup(path)
		return placeholderValue(value), true
	}
	switch name {
	case "id":
		return s.ID(), true
	case "csrf_token":
		return s.CSRFToken(), true
	case "is_new":
		return s.IsNew(), true
	case "created":
		return placeholderTime(s.Created()), true
	case "expires":
		return placeholderTime(s.Expires()), true
	}
	return nil, false
}

// warnOfMisspelt says in the log that Caddy replaces a placeholder by nothing, or
// leaves it as it is written, which an application may take for a user's name.
func (h *Handler) warnOfMisspelt(name string) {
	h.sampled.warn("there is no such placeholder: {http.session.data.<key>} is a value of the session, and beside these there are {http.session.id}, is_new, csrf_token, created and expires",
		zap.String("placeholder", "{"+name+"}"))
}

// fill replaces placeholders. One that is not known becomes nothing, as elsewhere in
// Caddy; a message says in the log what that means here.
func (h *Handler) fill(repl *caddy.Replacer, text, message string) string {
	filled, err := repl.ReplaceOrErr(text, false, true)
	if err != nil {
		h.sampled.warn(message, zap.Error(err))
		filled = repl.ReplaceAll(text, "")
	}
	return filled
}

// placeholderValue leaves what Caddy's replacer prints well, so that numbers are
// numbers in expressions, and makes JSON of the rest. What is absent is the empty
// string: in an expression a nil would be unlike it.
func placeholderValue(value any) any {
	switch value.(type) {
	case nil:
		return ""
	case string, bool, int, float64:
		return value
	}
	encoded, err := codec.EncodeValue(value)
	if err != nil {
		return ""
	}
	return strings.Trim(string(encoded), `"`)
}

func placeholderTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
