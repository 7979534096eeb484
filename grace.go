package caddysession

import (
	"context"
	"errors"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

// createBeside stores a session of its own for a request that renews one which
// another request renewed first, as a login button pressed twice does. It has what
// is the same before and after, as that is now, and what this request did: what was
// taken away meanwhile is not brought back, and nothing where the session has ended.
func (s *Session) createBeside(ctx context.Context, read rqlitestore.Record, token string, data []byte, deadline time.Time) error {
	s.mu.Lock()
	base := s.base
	s.mu.Unlock()
	values, err := s.readInGrace(foundRow{Record: read, values: base})
	if err != nil {
		return s.storeFailed(doingStore, err)
	}
	if values == nil {
		s.dropped(rqlitestore.ErrGone)
		return nil
	}
	merged, _, err := s.replay(deadline, values, data)
	if err != nil {
		return err
	}
	if !hasKeys(values) {
		s.dropped(rqlitestore.ErrSuperseded)
		return nil
	}
	owner, err := s.h.principalOf(merged)
	if err != nil {
		return err
	}
	err = s.create(ctx, token, merged, deadline, owner, read.ID)
	if errors.Is(err, rqlitestore.ErrGone) {
		s.dropped(err)
		return nil
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.base, s.merged = data, true // of what scs holds the row may have less
	s.mu.Unlock()
	return nil
}

// keepBeside takes a session back that was made beside one which has ended
// meanwhile: whoever ended that, and all others of its user, did not see this one.
func (s *Session) keepBeside(ctx context.Context, id string, made rqlitestore.Record) error {
	_, found, err := s.h.backend.store.Current(ctx, id)
	if err == nil && found {
		return nil
	}
	if err == nil {
		if err = s.h.backend.destroy(ctx, made); err == nil {
			return rqlitestore.ErrGone
		}
	}
	return s.storeFailed(doingStore, err) // its token stays unknown to all
}
