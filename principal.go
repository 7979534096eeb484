package caddysession

import (
	"context"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-session/caddy-session/codec"
)

// principalOf names the user in encoded values; "" where nobody is signed in,
// or no key is configured that would tell.
func (h *Handler) principalOf(data []byte) (string, error) {
	if h.owner == "" {
		return "", nil
	}
	_, values, err := codec.JSON{}.Decode(data)
	if err != nil {
		return "", err
	}
	return h.principalIn(values), nil
}

func (h *Handler) principalIn(values map[string]any) string {
	value, _ := lookup(values, h.owner)
	return caddy.ToString(placeholderValue(value))
}

// renewForOwner renews a stored session whose principal this request changed,
// unless the request did so itself.
func (s *Session) renewForOwner(ctx context.Context) error {
	s.mu.Lock()
	rec, token, unfit := s.rec, s.token, s.grace || s.closed
	s.mu.Unlock()
	if s.h.owner == "" || rec.ID == "" || unfit || s.h.manager.Token(ctx) != token {
		return nil
	}
	if s.h.principalIn(s.values()) == rec.Principal {
		return nil
	}
	return s.Renew()
}
