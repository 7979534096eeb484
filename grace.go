package caddysession

import (
	"context"
	"errors"
	"maps"

	"github.com/caddy-session/caddy-session/codec"
	"github.com/caddy-session/caddy-session/rqlitestore"
)

// readInGrace returns what is the same before and after the renewal that
// superseded the row; nil if the session has ended.
func (s *Session) readInGrace(found row) (map[string]any, error) {
	ctx, cancel := s.storeContext(loadTimeout)
	defer cancel()
	now, err := s.currentValues(ctx, found.rec.ID)
	if errors.Is(err, rqlitestore.ErrGone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	_, before, err := codec.JSON{}.Decode(found.values)
	if err != nil {
		return nil, nil //nolint:nilerr // an unreadable row is no session
	}
	return inCommon(before, now), nil
}

// inCommon are the values that are the same in both.
func inCommon(before, now map[string]any) map[string]any {
	common := maps.Clone(before)
	maps.DeleteFunc(common, func(key string, value any) bool {
		other, ok := now[key]
		return !ok || !codec.Equal(value, other)
	})
	return common
}

// restricted is scs's data of a session of which only some values are to be seen:
// loaded anew, for to remove the others would be a change.
func (s *Session) restricted(loaded context.Context, token string, to map[string]any) (context.Context, error) {
	values, err := codec.JSON{}.Encode(s.h.manager.Deadline(loaded), to)
	if err != nil {
		return nil, err
	}
	kept := s.newDataContext()
	kept.found = &foundRow{given: values}
	if loaded, err = s.h.manager.Load(kept, token); err != nil {
		return nil, err
	}
	kept.found, kept.data = nil, loaded.Value(s.h.scsKey)
	return kept, nil
}

// createBeside stores a session of its own for a request that renews one which
// another request renewed first, as a login button pressed twice does. It has what
// is the same before and after, as that is now, and what this request did: what was
// taken away meanwhile is not brought back, and nothing where the session has ended.
func (s *Session) createBeside(ctx context.Context, read row, w write) error {
	_, before, err := codec.JSON{}.Decode(read.values)
	if err != nil {
		return err
	}
	now, err := s.valuesNow(ctx, read.rec.ID)
	if err != nil {
		return s.dropIfLate(err)
	}
	values := inCommon(before, now)
	made, err := s.replay(read, w.deadline, values, w.values)
	if err != nil {
		return err
	}
	if w.principal, err = s.h.principalOf(made.values); err != nil {
		return err
	}
	// Who has ended all other sessions since is not joined by one that an older
	// token begins. Who signs in does not need that one.
	lasts := func(now map[string]any) error {
		if w.principal != "" && w.principal == read.principal && now[aloneKey] != before[aloneKey] {
			return rqlitestore.ErrSuperseded
		}
		return nil
	}
	if err := lasts(now); err != nil || !hasKeys(values) {
		s.drop(rqlitestore.ErrSuperseded)
		return nil
	}
	err = s.create(ctx, w, made, func() error {
		now, err := s.valuesNow(ctx, read.rec.ID)
		if err == nil {
			err = lasts(now)
		}
		return err
	})
	return s.dropIfLate(err)
}

// valuesNow is currentValues for a commit.
func (s *Session) valuesNow(ctx context.Context, id string) (map[string]any, error) {
	now, err := s.currentValues(ctx, id)
	if err != nil && !errors.Is(err, rqlitestore.ErrGone) {
		return nil, storeError{doingStore, err}
	}
	return now, err
}

// currentValues are those of the session with an id, as it is now; ErrGone where
// there is none.
func (s *Session) currentValues(ctx context.Context, id string) (map[string]any, error) {
	rec, found, err := s.h.backend.store.Current(ctx, id)
	if err != nil {
		return nil, err
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

// dropIfLate drops what the request did where err says that it came too late, and
// returns any other error.
func (s *Session) dropIfLate(err error) error {
	if errors.Is(err, rqlitestore.ErrGone) || errors.Is(err, rqlitestore.ErrSuperseded) {
		s.drop(err)
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
		return storeError{doingEnd, err}
	}
	return wrong
}

// isBeside reports whether a commit made the session beside the one with an id.
func (s *Session) isBeside(id string) bool { return id != "" && s.knownRow().rec.ID != id }
