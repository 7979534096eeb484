package caddysession

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-session/caddy-session/codec"
	"github.com/caddy-session/caddy-session/rqlitestore"
)

const (
	rotateTimeout = time.Second      // what a new token may cost a reader
	rotationPause = 10 * time.Second // for how long no reader is given one after that failed
)

// rotationDue reports whether the token is old enough for a new one, or was
// issued under another key than the first. An older token that is still in use
// after the grace says that the response with the newer one got lost. It is given
// one at a time, and each after twice as long: there are clients that keep no
// cookie, and what they were given stays in the store. To give an older one out
// again would take the newest from the browser.
func (s *Session) rotationDue(ctx context.Context, storing bool) bool {
	s.mu.Lock()
	known, closed := s.row, s.closed
	needed := s.issue && (known.void || known.rec.Alias)
	s.mu.Unlock()
	if !known.exists() || known.inGrace() || closed || s.h.manager.Token(ctx) != known.ticket.token {
		return false
	}
	rotated := time.Unix(int64(s.h.manager.GetInt(ctx, rotatedKey)), 0)
	if needed {
		return true
	}
	if known.rec.Alias {
		age := time.Since(known.rec.AliasSince)
		return age > rqlitestore.Grace && time.Since(rotated) > max(rqlitestore.Grace, age/2)
	}
	// What is plain is sealed at once, what another key sealed when it is stored anyway.
	if first, issued := s.h.keys.first(), known.ticket.key; issued != first && (issued == nil || storing) {
		return true
	}
	if s.h.renew == 0 {
		return false
	}
	if rotated.Unix() == 0 {
		rotated = time.Unix(int64(s.h.manager.GetInt(ctx, createdKey)), 0)
	}
	return s.h.isOld(rotated, s.h.renew)
}

// startRotation lets scs make a new token and keeps all else as it was.
func (s *Session) startRotation(ctx context.Context) {
	if s.replaceToken(ctx) != nil {
		return
	}
	token, now := s.h.manager.Token(ctx), int(time.Now().Unix())
	s.changing.Lock()
	defer s.changing.Unlock()
	s.mu.Lock()
	presented, current := tokenHash(s.row.ticket.key, s.row.ticket.token), s.row.rec.Token
	rotated := func(values map[string]any) {
		values[rotatedKey] = now
		s.h.keys.putBefore(values, presented)
		s.h.keys.putBefore(values, current)
	}
	s.edits = append(s.edits, rotated)
	s.rotating = token
	s.mu.Unlock()
	s.apply(rotated)
}

func (s *Session) isRotation() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rotating != ""
}

// takesTokens reports whether the store is worth asking for what no reader has
// to wait for: one after the other they would wait for one that does not answer.
func (b *backend) takesTokens() bool {
	from := b.rotateFrom.Load()
	return !b.down.Load() && (from == nil || time.Now().After(*from))
}

// errSlow says that a reader waits no longer. The store may take its time, and be well.
var errSlow = errors.New("the store takes longer than a reader waits for a new token")

// giveToken stores a new token, and the use of the session with it. When that
// fails it is made up for by a later request.
func (s *Session) giveToken(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, rotateTimeout)
	defer cancel()
	s.startRotation(ctx)
	s.putUse(ctx)
	if err := s.commitThrough(ctx); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("%w: %w", errSlow, err)
		}
		s.h.backend.report(err)
		if errors.As(err, &storeError{}) && !errors.Is(err, rqlitestore.ErrConflict) { // and not something about this one session
			s.h.backend.rotateFrom.Store(new(time.Now().Add(rotationPause)))
		}
		held := s.held(ctx)
		s.mu.Lock()
		s.heldInVain = held
		s.mu.Unlock()
		s.h.logger.Warn("a session could not be given a new token; that is tried again in a while", zap.Error(err))
		return
	}
	s.writeCookie(ctx)
}

// hasOnlyUpkeep reports whether the session has nothing to store but upkeep that
// was tried in vain.
func (s *Session) hasOnlyUpkeep(ctx context.Context) bool {
	s.mu.Lock()
	inVain := s.heldInVain
	s.mu.Unlock()
	return inVain != nil && bytes.Equal(inVain, s.held(ctx))
}

// held is what scs holds: the token and the values; nil where those cannot be encoded.
func (s *Session) held(ctx context.Context) []byte {
	values, err := codec.JSON{}.Encode(s.h.manager.Deadline(ctx), s.h.values(ctx))
	if err != nil {
		return nil
	}
	return append(values, s.h.manager.Token(ctx)...)
}
