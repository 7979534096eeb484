package caddysession

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-session/caddy-session/rqlitestore"
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

// expiry is when a session that is used now ends: at its deadline, or earlier when it is left idle.
func (h *Handler) expiry(deadline time.Time) time.Time {
	if h.idle > 0 {
		// Round takes the monotonic clock off, which stands still while the machine sleeps.
		if idle := time.Now().Round(0).Add(h.idle); idle.Before(deadline) {
			return idle
		}
	}
	return deadline
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
		if err == nil {
			s.h.backend.observeWrite(nil)
			return
		}
		err = storeError{doing, err}
		s.h.backend.report(err)
		s.h.logger.Debug("upkeep of a session failed", zap.Error(err))
	})
}

// destroyLater ends a session that nobody was given, or is to have, in the background.
func (s *Session) destroyLater(rec rqlitestore.Record) {
	s.background(doingEnd, rec.ID, func(ctx context.Context) error {
		defer s.h.backend.ended(rec.ID)
		return s.h.backend.store.RqliteStore.Destroy(ctx, rec.ID)
	})
}

// isOld reports whether what was noted at a time is to be noted anew. What another
// Caddy noted whose clock is ahead is not: the two would do that in turns, at every
// request. Further ahead than a session lasts it is from before this clock was set back.
func (h *Handler) isOld(noted time.Time, after time.Duration) bool {
	age := time.Since(noted)
	return age >= after || age <= -h.lifetime
}
