package caddysession

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// sessions are those of one request. It lies in Caddy's vars, where error
// routes find it too, after the handlers have returned.
type sessions struct {
	current   *Session // the innermost: what placeholders, matchers and edits mean
	all       []*Session
	page      http.Header // of the response, once an error route may read the session
	csrfField string      // of forms, where session_csrf asks for it
	upstreams upstreams   // whose headers change with the session
	shared    upstreams   // all that were, in the order in which they were met
	room      [2]*Session // for all, which are seldom more
	replacer  *caddy.Replacer
	asking    atomic.Bool // other modules are asked for a placeholder
}

const sessionsVar = "caddysession"

// sessionsOf returns the sessions of a request; at first it adds the
// placeholders, which are then those of the current session.
func sessionsOf(r *http.Request) *sessions {
	ctx := r.Context()
	if have, ok := caddyhttp.GetVar(ctx, sessionsVar).(*sessions); ok {
		return have
	}
	all := new(sessions)
	caddyhttp.SetVar(ctx, sessionsVar, all)
	all.replacer = ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	all.replacer.Map(all.placeholder)
	return all
}

// placeholder returns the value of a placeholder of the current session.
func (all *sessions) placeholder(name string) (any, bool) {
	short, ours := strings.CutPrefix(name, "http.session.")
	if all.current == nil || !ours && !strings.HasPrefix(name, "session.") {
		return nil, false
	}
	if ours {
		if value, known := all.current.placeholder(short); known {
			if all.page != nil { // no writer of ours says so there
				addVary(all.page)
			}
			return value, true
		}
	}
	if !all.asking.CompareAndSwap(false, true) {
		return nil, false
	}
	defer all.asking.Store(false)
	value, known := all.replacer.Get(name) // of another module, which comes later
	if !known {
		all.current.h.warnOfMisspelt(name)
	}
	return value, known
}

func (all *sessions) find(h *Handler) *Session {
	for _, s := range all.all {
		if s.is(h) {
			return s
		}
	}
	return nil
}

// checkCookie refuses a session whose cookie another one of the request has taken
// for its own: it would find none, and what it begins would be lost.
func (all *sessions) checkCookie(h *Handler, r *http.Request) error {
	for _, s := range all.all {
		if name := h.cookie.name(h.cookie.isSecure(r)); s.h.cookie.owns(name) {
			return mistake(r.Context(),
				fmt.Errorf("two `session` of this request have different stores and the same cookie, %s: give one of them another, with `cookie <name>`", name))
		}
	}
	return nil
}

func (all *sessions) add(s *Session) {
	if all.all == nil {
		all.all = all.room[:0]
	}
	all.all = append(all.all, s)
}

// keepCookies puts into the header of a failure what the sessions within the one
// that failed have stored and said already.
func (all *sessions) keepCookies(header http.Header, failed *Session) {
	for _, s := range all.all {
		if s != failed && s.setsCookie() {
			s.writeHeader(header)
		}
	}
}

// enclosure is what was the case outside of a session.
type enclosure struct {
	outer, inner *Session
	serving      bool // of the inner
}

// enter makes s the current session until leave is called with what it returns.
func (all *sessions) enter(s *Session) enclosure {
	e := enclosure{all.current, s, s.serving}
	all.current = s
	s.setServing(true)
	return e
}

// leave ends what enter began. The outermost session stays, for the error routes.
func (all *sessions) leave(e enclosure) {
	e.inner.setServing(e.serving)
	if e.outer != nil {
		all.current = e.outer
	}
}

// String keeps the sessions out of {http.vars.*}.
func (all *sessions) String() string { return "" }
