package caddysession

import (
	"context"
	"errors"
	"time"

	"github.com/caddy-session/caddy-session/codec"
	"github.com/caddy-session/caddy-session/rqlitestore"
)

// createBeside stores a session of its own for a request that renews one which
// another request renewed first, as a login button pressed twice does. It has what
// is the same before and after, as that is now, and what this request did: what was
// taken away meanwhile is not brought back, and nothing where the session has ended.
func (s *Session) createBeside(ctx context.Context, read rqlitestore.Record, token string, data []byte, deadline time.Time) error {
	s.mu.Lock()
	base, known := s.base, s.owner
	s.mu.Unlock()
	_, before, err := codec.JSON{}.Decode(base)
	if err != nil {
		return err
	}
	now, err := s.valuesNow(ctx, read.ID)
	if err != nil {
		return s.droppedOr(err)
	}
	values := inCommon(before, now)
	merged, _, err := s.replay(deadline, values, data)
	if err != nil {
		return err
	}
	owner, err := s.h.principalOf(merged)
	if err != nil {
		return err
	}
	// Who has ended all other sessions since is not joined by one that an older
	// token begins. Who signs in does not need that one.
	lasts := func(now map[string]any) error {
		if owner != "" && owner == known && now[aloneKey] != before[aloneKey] {
			return rqlitestore.ErrSuperseded
		}
		return nil
	}
	if err := lasts(now); err != nil || !hasKeys(values) {
		s.dropped(rqlitestore.ErrSuperseded)
		return nil
	}
	err = s.create(ctx, token, merged, deadline, owner, func() error {
		now, err := s.valuesNow(ctx, read.ID)
		if err == nil {
			err = lasts(now)
		}
		return err
	})
	if err != nil {
		return s.droppedOr(err)
	}
	s.mu.Lock()
	s.base, s.merged = data, true // of what scs holds the row may have less
	s.mu.Unlock()
	return nil
}

// valuesNow are those of the session with an id; ErrGone where there is none.
func (s *Session) valuesNow(ctx context.Context, id string) (map[string]any, error) {
	rec, found, err := s.h.backend.store.Current(ctx, id)
	if err != nil {
		return nil, s.storeFailed(doingStore, err)
	}
	if !found {
		return nil, rqlitestore.ErrGone
	}
	_, now, err := s.h.keys.values(rec)
	if err != nil {
		return nil, rqlitestore.ErrGone //nolint:nilerr // an unreadable row is no session
	}
	return now, nil
}

// droppedOr drops what the request did where err says that it came too late, and
// returns any other error.
func (s *Session) droppedOr(err error) error {
	if errors.Is(err, rqlitestore.ErrGone) || errors.Is(err, rqlitestore.ErrSuperseded) {
		s.dropped(err)
		return nil
	}
	return err
}

// keepMade takes a row that was made back where that has become wrong meanwhile:
// whoever ended the session beside it, or all of its user's, did not see this one.
func (s *Session) keepMade(ctx context.Context, made rqlitestore.Record, still func() error) error {
	wrong := still()
	if wrong == nil || errors.As(wrong, &storeError{}) {
		return wrong // its token stays unknown to all
	}
	if err := s.h.backend.destroy(ctx, made); err != nil {
		return s.storeFailed(doingEnd, err)
	}
	return wrong
}

// isBeside reports whether a commit made the session beside the one with an id.
func (s *Session) isBeside(id string) bool { return id != "" && s.row().ID != id }

// noteAlone keeps in a session that the others of its user were destroyed.
func (s *Session) noteAlone(ctx context.Context) {
	s.mu.Lock()
	alone := s.alone != "" && s.alone == s.rec.ID
	s.mu.Unlock()
	if alone {
		s.h.manager.Put(ctx, aloneKey, newID())
	}
}

// destroyOthersAgain destroys what began between destroyOthers and the commit, from
// which on no older token begins any more, and the session that another was made
// beside: it was spared as the one at hand. It is finished even where max_calls
// would allow no other call: the commit is done.
func (s *Session) destroyOthersAgain(ctx context.Context) error {
	s.mu.Lock()
	alone, id, owner, late := s.alone, s.rec.ID, s.owner, s.late
	s.mu.Unlock()
	if alone == "" || owner == "" || late {
		return nil
	}
	if err := s.h.backend.destroyOthers(ctx, s.h.backend.store.RqliteStore, s.h.keys.principalHashes(owner), id); err != nil {
		return s.storeFailed(doingEndOthers, err)
	}
	if id != alone {
		s.noteOthersDestroyed(id, owner)
	}
	return nil
}
