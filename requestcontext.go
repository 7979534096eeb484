package caddysession

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"
)

// requestContext finds the session, and loads it when code written against scs
// asks for scs's data: scs itself would panic where it has not been loaded.
type requestContext struct {
	outer, inner context.Context
	session      *Session
	left         atomic.Bool
}

// enter makes c the context of the request itself, not of a copy: Caddy's
// placeholders hold this request, and what they do to its body, or a handler to its
// method, everybody has to see.
func (c *requestContext) enter(r *http.Request, inner context.Context, s *Session) {
	c.outer, c.inner, c.session = r.Context(), inner, s
	*r = *r.WithContext(c)
}

// leave makes c what the request's context was before, for the error routes. The
// request is not touched again: a transport may still be reading it.
func (c *requestContext) leave() { c.left.Store(true) }

func (c *requestContext) now() context.Context {
	if c.left.Load() {
		return c.outer
	}
	return c.inner
}

func (c *requestContext) Deadline() (time.Time, bool) { return c.now().Deadline() }
func (c *requestContext) Done() <-chan struct{}       { return c.now().Done() }
func (c *requestContext) Err() error                  { return c.now().Err() }

func (c *requestContext) Value(key any) any {
	if c.left.Load() {
		if key == c.session.h.scsKey && c.outer.Value(key) == nil {
			// In a goroutine that outlives the handlers scs's panic would end Caddy.
			_ = c.session.Load() // what could not be loaded is empty
			return c.session.scs.Value(key)
		}
		return c.outer.Value(key)
	}
	switch key {
	case sessionKey{}:
		return c.session
	case c.session.h.scsKey:
		_ = c.session.Load()
		c.session.detectDestroy()
		c.session.markHandedOut()
		return c.session.scs.Value(key)
	}
	return c.inner.Value(key)
}
