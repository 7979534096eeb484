package caddysession

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types/ref"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Match matches requests by values of their session. A request without a
// session has none. All keys must match; one of the values of a key is enough.
//
// In CEL: session('user'), session('role', 'admin', 'editor').
type Match struct {
	// The keys, or paths with dots into nested objects, and the values they
	// may have. No values: it is enough that the session has the key, be its
	// value empty. Values may contain placeholders. A list matches if one of its
	// elements does.
	Values map[string][]string `json:"values,omitempty"`

	literal bool // the values are what they are: in CEL their placeholders were replaced before
}

// CaddyModule returns the Caddy module information.
func (*Match) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.matchers.session",
		New: func() caddy.Module { return new(Match) },
	}
}

// UnmarshalCaddyfile reads a `session` matcher. Syntax:
//
//	session <key> [<value>...]
//
// Lines with different keys are ANDed, values on a line ORed.
func (m *Match) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	for d.Next() {
		if !d.NextArg() {
			return d.WrapErr(errNoMatch)
		}
		key := d.Val()
		if _, twice := m.Values[key]; twice {
			return d.Errf("%s is given twice: name all the values it may have on one line", key)
		}
		if m.Values == nil {
			m.Values = make(map[string][]string)
		}
		m.Values[key] = d.RemainingArgs()
		if err := cmp.Or(checkMatch(key, m.Values[key]), checkWritten(key, m.Values[key])); err != nil {
			return d.WrapErr(err)
		}
		if d.NextBlock(0) {
			return noBlock(d, "the session matcher")
		}
	}
	return nil
}

// Validate reports a matcher that would match everybody, or nobody.
func (m *Match) Validate() error {
	if len(m.Values) == 0 {
		return errNoMatch
	}
	for _, key := range slices.Sorted(maps.Keys(m.Values)) { // so that the error is always the same
		if err := checkMatch(key, m.Values[key]); err != nil {
			return err
		}
	}
	return nil
}

var errNoMatch = errors.New("the session matcher takes a key, and the values it may have")

// checkMatch reports a key that no session has: with `not` it would match everybody.
func checkMatch(key string, values []string) error {
	if key == "" {
		return errNoMatch
	}
	if name, not := strings.CutPrefix(key, "!"); not {
		return fmt.Errorf("the session matcher takes no !: write not session %s", name)
	}
	if err := checkKey(key); err != nil {
		return fmt.Errorf("the session matcher: %w", err)
	}
	if name, value, ok := strings.Cut(key, "="); ok && len(values) == 0 {
		return fmt.Errorf("the session matcher takes a key and its values one after the other: session %s %s", name, value)
	}
	return nil
}

// checkWritten reports what other languages have between values, and would be one
// here: `role != admin` would match the admins.
func checkWritten(key string, values []string) error {
	for i, value := range values[:max(len(values)-1, 0)] { // the last one may be such a text
		switch {
		case i == 0 && value == "!=":
			return fmt.Errorf("the session matcher takes a key and its values one after the other: not session %s %s", key, values[1])
		case i == 0 && (value == "=" || value == "=="):
			return fmt.Errorf("the session matcher takes a key and its values one after the other: session %s %s", key, values[1])
		case strings.HasSuffix(value, ","):
			return fmt.Errorf("the session matcher: %q: values stand with a blank between them, and no comma", value)
		}
	}
	return nil
}

// MatchWithError reports whether the session has what is asked for. The error
// is that of the store: a visitor is not a guest because it is down.
func (m *Match) MatchWithError(r *http.Request) (bool, error) {
	sessions, err := enclosing(r, "this session matcher")
	if err != nil {
		return false, err
	}
	session := sessions.current
	if err := session.Load(); err != nil {
		return false, session.httpError(err)
	}
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	for key, values := range m.Values {
		have, ok := session.Lookup(key)
		if !ok || len(values) > 0 && !m.matches(have, values, repl) {
			return false, nil
		}
	}
	return true, nil
}

func (m *Match) matches(have any, values []string, repl *caddy.Replacer) bool {
	switch list := have.(type) {
	case []any:
		return slices.ContainsFunc(list, func(element any) bool { return m.matches(element, values, repl) })
	case []string:
		return slices.ContainsFunc(list, func(element string) bool { return m.matches(element, values, repl) })
	case []int:
		return slices.ContainsFunc(list, func(element int) bool { return m.matches(element, values, repl) })
	}
	text := caddy.ToString(placeholderValue(have))
	return slices.ContainsFunc(values, func(value string) bool {
		if !m.literal {
			value = repl.ReplaceAll(value, "")
		}
		return value == text
	})
}

// CELLibrary makes the matcher a function of CEL expressions:
//
//	expression session('user') && !session('role', 'banned')
func (*Match) CELLibrary(caddy.Context) (cel.Library, error) {
	const call = "session_match_request_list"
	library, err := caddyhttp.CELMatcherImpl("session", call, []*cel.Type{cel.ListType(cel.StringType)}, matchOf)
	if err != nil {
		return nil, err
	}
	// What the expression says itself is checked when it is loaded. A key that is
	// the value of a placeholder may be whatever a client has sent.
	written := func(data ref.Val) (caddyhttp.RequestMatcherWithError, error) {
		m, err := matchOf(data)
		if err != nil {
			return nil, err
		}
		return m, m.(*Match).Validate()
	}
	return caddyhttp.NewMatcherCELLibrary(library.CompileOptions(),
		[]cel.ProgramOption{cel.CustomDecorator(caddyhttp.CELMatcherDecorator(call, written))}), nil
}

// matchOf makes the matcher of what session() is called with in CEL.
func matchOf(data ref.Val) (caddyhttp.RequestMatcherWithError, error) {
	args, err := data.ConvertToNative(reflect.TypeFor[[]string]())
	if err != nil {
		return nil, err
	}
	words := args.([]string)
	if len(words) == 0 {
		return nil, errors.New("session() takes a key, and the values it may have")
	}
	return &Match{Values: map[string][]string{words[0]: words[1:]}, literal: true}, nil
}

var (
	_ caddy.Validator                   = (*Match)(nil)
	_ caddyfile.Unmarshaler             = (*Match)(nil)
	_ caddyhttp.RequestMatcherWithError = (*Match)(nil)
	_ caddyhttp.CELLibraryProducer      = (*Match)(nil)
)
