package caddysession

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"
)

// Load asks the store for the session unless that was done already. The error is
// that of the store. Return it, and those of the other methods, from the handler:
// where the store cannot be reached the client gets a 503, whatever the handler
// makes of it, and the request's context ends. Methods without an error give what
// an empty session has then.
func (s *Session) Load() error {
	s.loading.Lock()
	defer s.loading.Unlock()
	if s.scs != nil {
		return s.failure()
	}
	s.mu.Lock()
	cookie := s.presented
	if s.closed {
		cookie = ticket{}
	} else {
		s.read = true
	}
	s.mu.Unlock()
	return s.loadRow(cookie)
}

// loaded is what carries scs's data; nil while nothing is known of the session.
func (s *Session) loaded() context.Context {
	s.loading.Lock()
	defer s.loading.Unlock()
	return s.scs
}

// loadRow loads the row of a ticket; without one, or when there is no such row, the session is empty.
func (s *Session) loadRow(cookie ticket) error {
	if cookie.token == "" {
		s.h.backend.metrics.loadNone.Inc()
		s.scs = s.empty()
		return nil
	}
	found := foundRow{row: row{ticket: cookie}}
	kept := s.newDataContext()
	kept.found = &found
	ctx, span := s.startSpan(kept, "session.load")
	loaded, err := s.h.manager.Load(ctx, cookie.token)
	rec := found.rec
	endSpan(span, rec.ID, err)
	if broken := (brokenRow{}); errors.As(err, &broken) {
		s.h.backend.metrics.unreadable.Inc()
		s.h.sampled.counted(zap.WarnLevel, "a session's row cannot be read: it is left as it is, and the visitor starts anew",
			zap.String("session_id", rec.ID), zap.Error(err))
		s.scs = s.empty()
		return nil
	}
	if err != nil {
		return s.fail(err)
	}
	if !found.cached {
		s.h.backend.observeRead(nil)
	}
	if rec.ID == "" || !s.h.manager.Deadline(loaded).After(time.Now()) || !s.isBound(loaded, rec.ID) || !s.isHere(loaded, rec.ID) {
		s.scs = s.empty()
		return nil
	}
	kept.found, kept.data = nil, loaded.Value(s.h.scsKey)
	return s.adopt(found.row, kept)
}

// adopt makes a row that was found the session's own.
func (s *Session) adopt(found row, loaded context.Context) error {
	if found.inGrace() {
		common, err := s.readInGrace(found)
		if err != nil {
			return s.fail(err)
		}
		if common == nil { // the session ended meanwhile
			s.scs = s.empty()
			return nil
		}
		if loaded, err = s.restricted(loaded, found.ticket.token, common); err != nil {
			return s.fail(err)
		}
	}
	found.remembered = s.h.manager.GetBool(loaded, rememberKey)
	found.principal = s.h.principal(loaded)
	s.mu.Lock()
	s.found, s.row, s.remembered = true, found, found.remembered
	s.mu.Unlock()
	s.scs = loaded
	s.touch(s.h.manager.Deadline(loaded)) // its request may take longer than the session has
	s.logID(found.rec.ID)
	return nil
}

// empty is scs's data of a session that is not stored.
func (s *Session) empty() context.Context {
	loaded, _ := s.h.manager.Load(s.request, "") // asks no store: it cannot fail
	kept := s.newDataContext()
	kept.data = loaded.Value(s.h.scsKey)
	return kept
}

// dataContext carries scs's data. It lives on when the client is gone, who ends
// neither a load nor a commit, and scs's store finds the session in it.
type dataContext struct {
	context.Context
	session *Session
	data    any
	found   *foundRow // while the row is looked for
}

func (s *Session) newDataContext() *dataContext {
	return &dataContext{Context: context.WithoutCancel(s.request), session: s}
}

func (c *dataContext) Value(key any) any {
	switch key {
	case sessionKey{}:
		return c.session
	case foundKey{}:
		return c.found
	case c.session.h.scsKey:
		return c.data
	}
	return c.Context.Value(key)
}

// storeContext is for a call of the store that is about the session and does not end
// with the client: it would fail then, as if the store were down, and end nothing.
func (s *Session) storeContext(limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(s.request), limit)
}
