package caddysession

import (
	"context"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

const (
	trackInterval = 5 * time.Minute // how often the use of a session is tracked
	trackAtMost   = time.Minute     // also while the client keeps changing
	agentLength   = 200             // bytes that are kept of a User-Agent
)

// use is what is kept of the last use of a session, with `track on`.
type use struct {
	at             time.Time
	address, agent string
}

// thisUse is the request's.
func (s *Session) thisUse() use {
	repl, _ := s.request.Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	agent := strings.ToValidUTF8(repl.ReplaceAll("{http.request.header.User-Agent}", ""), "")
	if len(agent) > agentLength {
		agent = strings.ToValidUTF8(agent[:agentLength], "")
	}
	address, _ := caddyhttp.GetVar(s.request, caddyhttp.ClientIPVarKey).(string)
	return use{time.Now(), address, agent}
}

// lastUse is what the session has of it.
func (h *Handler) lastUse(ctx context.Context) use {
	return use{
		at:      time.Unix(int64(h.manager.GetInt(ctx, usedKey)), 0),
		address: h.manager.GetString(ctx, addressKey),
		agent:   h.manager.GetString(ctx, agentKey),
	}
}

// noteUse tracks the use of a session that is being stored.
func (s *Session) noteUse(ctx context.Context) {
	if !s.h.track {
		return
	}
	now := s.thisUse()
	used := int(now.at.Unix())
	for key, value := range map[string]any{usedKey: used, addressKey: now.address, agentKey: now.agent} {
		if s.h.manager.Get(ctx, key) != value {
			s.h.manager.Put(ctx, key, value)
		}
	}
}

// trackingDue reports whether the use of a session that was only read is to be
// stored: every now and then.
func (s *Session) trackingDue(ctx context.Context) bool {
	s.mu.Lock()
	unfit := s.rec.ID == "" || s.grace || s.rec.Alias || s.closed
	s.mu.Unlock()
	if !s.h.track || unfit {
		return false
	}
	last, now := s.h.lastUse(ctx), s.thisUse()
	age := now.at.Sub(last.at)
	return age >= trackInterval || age >= trackAtMost && (last.address != now.address || last.agent != now.agent)
}
