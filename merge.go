package caddysession

import (
	"context"
	"maps"
	"time"

	"github.com/caddy-session/caddy-session/codec"
	"github.com/caddy-session/caddy-session/rqlitestore"
)

// merge makes the request's changes on what is stored now, unless that has
// become another user's session.
func (s *Session) merge(read, current rqlitestore.Record, mine []byte) ([]byte, time.Time, error) {
	until, theirs, err := s.h.keys.values(current)
	if err != nil {
		return nil, until, err
	}
	s.mu.Lock()
	owner, rotation := s.owner, s.rotate
	s.mu.Unlock()
	same := s.h.principalIn(theirs) == owner
	if s.h.owner == "" {
		same = s.h.keys.samePrincipal(read.Principal, current.Principal, theirs)
	}
	if !same {
		return nil, until, errDropped
	}
	if rotation {
		s.h.keys.noteBefore(theirs, current.Token)
	}
	return s.replay(until, theirs, mine)
}

// replay makes the request's edits on their values in order, then whatever else
// differs, which is what was done through scs itself.
func (s *Session) replay(until time.Time, theirs map[string]any, mine []byte) ([]byte, time.Time, error) {
	s.mu.Lock()
	base, edits := s.base, s.edits
	s.mu.Unlock()
	var json codec.JSON
	oldDeadline, before, err := json.Decode(base)
	if err != nil {
		return nil, until, err
	}
	deadline, after, err := json.Decode(mine)
	if err != nil {
		return nil, until, err
	}
	for _, e := range edits {
		e(theirs)
		e(before)
	}
	for key := range before {
		if _, ok := after[key]; !ok {
			delete(theirs, key)
		}
	}
	for key, value := range after {
		if old, ok := before[key]; !ok || !codec.Equal(old, value) {
			theirs[key] = value
		}
	}
	if !deadline.Equal(oldDeadline) {
		until = deadline
	}
	merged, err := json.Encode(until, theirs)
	return merged, until, err
}

// readInGrace returns what is the same before and after the renewal that
// superseded the row; nil if the session has ended.
func (s *Session) readInGrace(rec foundRow) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.request), loadTimeout)
	defer cancel()
	current, found, err := s.h.backend.store.Current(ctx, rec.ID)
	if err != nil || !found {
		return nil, err
	}
	_, now, err := s.h.keys.values(current)
	if err != nil {
		return nil, nil //nolint:nilerr // an unreadable row is no session
	}
	_, before, err := codec.JSON{}.Decode(rec.values)
	if err != nil {
		return nil, nil //nolint:nilerr // an unreadable row is no session
	}
	maps.DeleteFunc(before, func(key string, value any) bool {
		other, ok := now[key]
		return !ok || !codec.Equal(value, other)
	})
	return before, nil
}

// restrict takes from scs's data what is not among the common values.
func (s *Session) restrict(loaded context.Context, common map[string]any) context.Context {
	for _, key := range s.h.manager.Keys(loaded) {
		if _, ok := common[key]; !ok {
			s.h.manager.Remove(loaded, key)
		}
	}
	return loaded
}
