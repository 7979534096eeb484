package caddysession

import (
	"bytes"
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-session/caddy-session/codec"
	"github.com/caddy-session/caddy-session/rqlitestore"
)

const (
	rotateTimeout = time.Second      // what a new token may cost a reader
	rotationPause = 10 * time.Second // for how long no reader is given one after that failed
)

// upkeep is what a session that was only read still needs now and then: a new
// token, a later expiry. None of it fails the request, or holds it up for long.
func (s *Session) upkeep(ctx context.Context) {
	tracking := s.trackingDue(ctx)
	if s.rotationDue(ctx, tracking) && s.h.backend.takesTokens() {
		s.giveToken(ctx)
		return
	}
	if tracking {
		s.trackUse()
	}
	s.touch(s.h.manager.Deadline(ctx))
}

// takesTokens reports whether the store is worth asking for what no reader has
// to wait for: one after the other they would wait for one that does not answer.
func (b *backend) takesTokens() bool {
	from := b.rotateFrom.Load()
	return !b.down.Load() && (from == nil || time.Now().After(*from))
}

// errSlow says that a reader waits no longer. The store may take its time, and be well.
var errSlow = errors.New("the store takes longer than a reader waits for a new token")

// readerWaits is the context key of a commit that is given up after rotateTimeout.
type readerWaits struct{}

// giveToken stores a new token, and the use of the session with it. When that
// fails it is made up for by a later request.
func (s *Session) giveToken(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, readerWaits{}, true), rotateTimeout)
	defer cancel()
	s.startRotation(ctx)
	s.putUse(ctx)
	if err := s.commitThrough(ctx); err != nil {
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

// touch moves the expiry of a session in use, at most once in touch_interval,
// and off the request's path: a touch that gets lost is made up for by the next.
// Without an idle_timeout there is something to move only where there was one
// when the session was stored; if another handler has it still, that is not to be
// undone by a visit elsewhere.
func (s *Session) touch(deadline time.Time) {
	expiry := s.expiry(deadline)
	if s.h.idle == 0 && s.h.lease.idle || !s.claimTouch(expiry, deadline) {
		return
	}
	rec := s.knownRow().rec
	s.background(doingTouch, rec.ID, func(ctx context.Context) error {
		err := s.h.backend.store.Touch(ctx, rec.ID, expiry)
		if err == nil {
			s.h.backend.touched(rec.Token, expiry)
		}
		return err
	})
}

// claimTouch reports whether to have the session go on until expiry is worth a write,
// and takes it for done.
func (s *Session) claimTouch(expiry, deadline time.Time) bool {
	least := s.h.touch
	if expiry.Equal(deadline) {
		least = min(least, 10*time.Millisecond) // the last one, or it would end that much before its lifetime
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	due := s.row.exists() && !s.row.inGrace() && expiry.Sub(s.row.rec.Expiry) >= least && expiry.Sub(s.touchedUntil) >= least
	if due {
		s.touchedUntil = expiry
	}
	return due
}

// retireAliases ends older tokens, now that the newest has been presented: that the
// request itself was given it, or found it in the row, says nothing of the client.
func (s *Session) retireAliases() {
	known := s.knownRow()
	rec := known.rec
	if !rec.Aliased || known.inGrace() || rec.Token != tokenHash(s.presented.key, s.presented.token) {
		return
	}
	s.background(doingEndAliases, rec.ID, func(ctx context.Context) error {
		return s.h.backend.store.Presented(ctx, rec.ID, rec.Token)
	})
}

// expiry is when the session ends if it is not used again.
func (s *Session) expiry(deadline time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.remembered {
		return deadline
	}
	return s.h.expiry(deadline)
}

// nextExpiry is expiry for a row that is stored again. As with touch, what another
// handler's idle_timeout has set is left as it is, unless a new lifetime begins.
func (s *Session) nextExpiry(current rqlitestore.Record, next content, renewal bool) time.Time {
	if next.remembered {
		return next.deadline
	}
	expiry := s.h.expiry(next.deadline)
	begins := renewal && !s.isRotation()
	if s.h.idle == 0 && s.h.lease.idle && !begins && current.Expiry.Before(expiry) {
		return current.Expiry
	}
	return expiry
}

// background does work off the request's path. Requests of one session that
// come while another one has it done leave it at that.
func (s *Session) background(doing, id string, work func(context.Context) error) {
	what := doing + id
	if _, busy := s.h.backend.underWay.LoadOrStore(what, nil); busy {
		return
	}
	s.h.backend.background.Go(func() {
		defer s.h.backend.underWay.Delete(what)
		ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
		defer cancel()
		err := work(ctx)
		if err != nil {
			err = s.h.backend.unavailable(doing, err)
		}
		s.h.backend.observeWrite(err)
		if err != nil {
			s.h.logger.Debug("upkeep of a session failed", zap.Error(err))
		}
	})
}

// endLater ends a session that nobody was given, or is to have, in the background.
func (s *Session) endLater(rec rqlitestore.Record) {
	s.background(doingEnd, rec.ID, func(ctx context.Context) error {
		defer s.h.backend.endedSession(rec)
		return s.h.backend.store.RqliteStore.Destroy(ctx, rec.ID)
	})
}

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

// isOld reports whether what was noted at a time is to be noted anew. What another
// Caddy noted whose clock is ahead is not: the two would do that in turns, at every
// request. Further ahead than a session lasts it is from before this clock was set back.
func (h *Handler) isOld(noted time.Time, after time.Duration) bool {
	age := time.Since(noted)
	return age >= after || age <= -h.lifetime
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

// detectRenewal finds out whether the session was renewed since a rotation began
// that was not stored. Whoever renews it wants more than another token.
func (s *Session) detectRenewal(ctx context.Context) {
	token := s.h.manager.Token(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if token != s.rotating {
		s.rotating = ""
	}
}
