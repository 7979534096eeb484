package caddysession

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-session/caddy-session/codec"
	"github.com/caddy-session/caddy-session/rqlitestore"
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
	repl := s.request.Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
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

// putInto writes the use among the values of a session.
func (u use) putInto(values map[string]any) {
	values[usedKey], values[addressKey], values[agentKey] = int(u.at.Unix()), u.address, u.agent
}

// putUse tracks the use of a session that is being stored.
func (s *Session) putUse(ctx context.Context) {
	if !s.h.track {
		return
	}
	values := make(map[string]any, 3)
	s.thisUse().putInto(values)
	for key, value := range values {
		if s.h.manager.Get(ctx, key) != value {
			s.h.manager.Put(ctx, key, value)
		}
	}
}

// trackingDue reports whether the use of a session that was only read is to be
// noted: every now and then.
func (s *Session) trackingDue(ctx context.Context) bool {
	s.mu.Lock()
	unfit := !s.row.exists() || s.row.inGrace() || s.row.rec.Alias || s.closed
	s.mu.Unlock()
	if !s.h.track || unfit {
		return false
	}
	last, now := s.h.lastUse(ctx), s.thisUse()
	return s.h.isOld(last.at, trackInterval) || s.h.isOld(last.at, trackAtMost) && (last.address != now.address || last.agent != now.agent)
}

// trackUse notes the use of a session that was only read, off the request's path.
func (s *Session) trackUse() {
	rec, now := s.knownRow().rec, s.thisUse()
	s.background(doingTrack, rec.ID, func(ctx context.Context) error {
		err := s.h.storeUse(ctx, rec, now)
		if errors.Is(err, rqlitestore.ErrGone) || errors.Is(err, rqlitestore.ErrSuperseded) {
			return nil // there is nothing left to note it in
		}
		return err
	})
}

// storeUse adds a use to what is stored, whatever that has become meanwhile.
func (h *Handler) storeUse(ctx context.Context, rec rqlitestore.Record, last use) error {
	began := time.Now()
	saved, err := h.backend.store.Track(ctx, rec, func(current rqlitestore.Record) (rqlitestore.Record, error) {
		deadline, values, err := h.keys.values(current)
		if err != nil {
			return current, err
		}
		last.putInto(values)
		data, err := codec.JSON{}.Encode(deadline, values)
		if err != nil {
			return current, err
		}
		return h.keys.withValues(current, data), nil
	})
	if err == nil {
		h.backend.wrote(saved, nil, began)
	}
	return err
}
