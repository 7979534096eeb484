package caddysession

import (
	"context"
	"time"

	"github.com/caddy-session/caddy-session/codec"
)

// completeOwn gives a session that is being stored what it keeps of its own. One
// that was stored before has it, unless code written against scs has cleared it,
// or the session is built on what a login elsewhere left of another (see grace).
func (s *Session) completeOwn(ctx context.Context) {
	m := s.h.manager
	if m.Exists(ctx, createdKey) && m.Exists(ctx, csrfKey) {
		return
	}
	for key, value := range s.ownBefore() {
		if !m.Exists(ctx, key) {
			m.Put(ctx, key, value)
		}
	}
	if !m.Exists(ctx, createdKey) {
		m.Put(ctx, createdKey, int(time.Now().Unix()))
	}
	if !m.Exists(ctx, csrfKey) {
		m.Put(ctx, csrfKey, newID())
	}
}

// renewSecret gives a stored session that scs's own RenewToken renewed another
// secret for its forms, as Renew does. However it was renewed, the tokens from
// before are none of those that lead here any more.
func (s *Session) renewSecret(ctx context.Context) {
	known := s.knownRow()
	if !known.exists() || s.isRotation() || s.h.manager.Token(ctx) == known.ticket.token {
		return
	}
	if s.ownBefore()[csrfKey] == s.h.manager.Get(ctx, csrfKey) {
		s.h.manager.Put(ctx, csrfKey, newID())
	}
	s.h.manager.Remove(ctx, beforeKey)
}

// ownBefore is what the session kept of its own when it was read. Whether it is
// remembered is scs's, who forgets it with the rest.
func (s *Session) ownBefore() map[string]any {
	own := s.valuesRead(false)
	clearValues(own)
	delete(own, rememberKey)
	return own
}

// valuesRead are all values as they were read or last stored, of a session in the
// grace or of one that is not; nil of the other.
func (s *Session) valuesRead(grace bool) map[string]any {
	known := s.knownRow()
	if !known.exists() || known.inGrace() != grace {
		return nil
	}
	_, values, err := codec.JSON{}.Decode(known.values)
	if err != nil {
		return nil // it was decoded before
	}
	return values
}

// ownSize is how many bytes of encoded values are not the application's.
func ownSize(data []byte) int64 {
	until, own, err := codec.JSON{}.Decode(data)
	if err != nil {
		return 0 // it was encoded just now
	}
	clearValues(own)
	encoded, err := codec.JSON{}.Encode(until, own)
	if err != nil {
		return 0
	}
	return int64(len(encoded))
}
