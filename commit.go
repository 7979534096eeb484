package caddysession

import (
	"context"
	"errors"
	"time"

	"github.com/alexedwards/scs/v2"
	"go.uber.org/zap"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

// commit stores what the request did and decides about the cookie. It runs
// before the final header, on a context that a client going away does not end.
func (s *Session) commit() (err error) {
	s.loading.Lock()
	loaded := s.scs
	s.loading.Unlock()
	if loaded == nil || s.isAnswered() {
		return nil
	}
	pending, err := s.pending()
	if !pending {
		return err
	}
	defer func() {
		if err != nil {
			s.noteChange()
		}
	}()
	s.noteEnd()
	if stop, err := s.readOnly(loaded); stop {
		return err
	}
	s.noteRemembered(loaded)
	s.retireAliases() // here, for a new token or a change may be stored at every visit
	if !s.hasChanged(loaded) {
		s.upkeep(loaded)
		return nil
	}
	ctx, cancel := context.WithTimeout(loaded, commitTimeout)
	defer cancel()
	ctx, span := s.startSpan(ctx, "session.commit")
	defer func() { endSpan(span, s.id(), err) }()
	if err := s.destroyOthers(ctx); err != nil {
		return err
	}
	if err := s.end(ctx); err != nil {
		return err
	}
	s.noteAlone(ctx)
	switch {
	case s.isUntouched(ctx):
	case s.isModified(ctx):
		return s.store(ctx)
	default:
		s.upkeep(ctx)
	}
	return nil
}

// pending reports whether anything may have changed since the last commit, and takes
// it for committed: noteChange takes that back. Without that each commit would encode
// the values again, for scs calls them modified for as long as the request lasts.
func (s *Session) pending() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.settled && !s.handedOut {
		return false, s.err
	}
	s.settled = true
	return true, nil
}

func (s *Session) noteHandedOut() {
	s.mu.Lock()
	s.handedOut = true
	s.mu.Unlock()
}

// noteChange has the next commit look for what changed. It comes after the change.
func (s *Session) noteChange() {
	s.mu.Lock()
	s.settled = false
	s.mu.Unlock()
}

// hasChanged reports whether there is more to commit than upkeep.
func (s *Session) hasChanged(ctx context.Context) bool {
	s.mu.Lock()
	ending := s.ended || s.endOthers
	s.mu.Unlock()
	return ending || s.isModified(ctx)
}

// isModified reports whether there are values to store. What was set to what it
// was is none of these, unless others may have set it to something else meanwhile.
func (s *Session) isModified(ctx context.Context) bool {
	if s.h.manager.Status(ctx) == scs.Modified {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec.ID != "" && len(s.edits) > 0 && !s.isSure()
}

// readOnly reports whether the session was not loaded because the store was
// down and visitors are anonymous meanwhile: then nothing can be stored either.
func (s *Session) readOnly(ctx context.Context) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outage != nil && (s.endOthers || s.h.manager.Status(ctx) != scs.Unmodified) {
		return true, s.outage
	}
	return s.outage != nil, nil
}

// noteRemembered finds out whether the session's cookie is to outlive the browser.
func (s *Session) noteRemembered(ctx context.Context) {
	remembered := s.h.manager.GetBool(ctx, rememberKey)
	s.mu.Lock()
	s.issue = s.issue || remembered != s.remembered
	s.remembered, s.marked = remembered, remembered
	s.mu.Unlock()
}

// end destroys the stored session if that was asked for.
func (s *Session) end(ctx context.Context) error {
	s.mu.Lock()
	ended, rec, principal := s.ended, s.rec, s.owner
	s.mu.Unlock()
	if !ended {
		return nil
	}
	if rec.ID != "" {
		if err := s.h.backend.destroy(ctx, rec); err != nil {
			return s.storeFailed(doingEnd, err)
		}
		s.noteDestroyed(rec.ID, principal)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rec, s.token, s.key, s.owner = rqlitestore.Record{}, "", nil, ""
	s.base, s.grace, s.ended = nil, false, false
	if s.presented.token != "" {
		s.cookie = s.h.cookie.write("", time.Time{}, s.secure)
	}
	return nil
}

// store writes the values through scs, which calls save.
func (s *Session) store(ctx context.Context) error {
	before := s.row().ID
	isNew := before == ""
	if isNew {
		if len(s.Keys()) == 0 {
			return nil // nothing to keep: no row, no cookie
		}
		if s.isClosed() {
			return errAfterHeader // no cookie, so no row
		}
	}
	s.noteRenewal(ctx)
	s.completeOwn(ctx)
	principal, login := s.isLogin(ctx)
	if login {
		if err := s.admit(ctx, principal); err != nil {
			return err
		}
	}
	if err := s.renewForOwner(ctx); err != nil {
		return err
	}
	s.renewSecret(ctx)
	if s.rotationDue(ctx, true) {
		s.startRotation(ctx)
	}
	s.noteBinding(ctx)
	s.noteAudience(ctx)
	s.noteUse(ctx)
	if err := s.commitValues(ctx, isNew); err != nil {
		return err
	}
	if s.isBeside(before) {
		principal, login = s.isOneMore()
	}
	err := s.destroyOthersAgain(ctx)
	if login {
		if err := s.makeRoom(ctx, principal); err != nil {
			return err
		}
	}
	s.writeCookie(ctx) // of what is stored, whatever became of the others: the token from before is good for the grace only
	return err
}

// triedAnew is the context key of a commit after which a new session that could not be
// stored is tried anew: its failure is none that the request has met.
type triedAnew struct{}

// commitValues lets scs commit, a new session under another token if need be.
func (s *Session) commitValues(ctx context.Context, isNew bool) error {
	ctx = context.WithValue(ctx, triedAnew{}, true)
	err := s.commitThrough(ctx)
	for range createRetries {
		if !isNew || !errors.As(err, &storeError{}) || errors.Is(err, errBusy) || ctx.Err() != nil {
			break
		}
		// The same token must not be sent twice, for the first insert may still
		// arrive: nobody ever learns that one.
		if err := s.replaceToken(ctx); err != nil {
			return err
		}
		err = s.commitThrough(ctx)
	}
	if failed := (notTold{}); errors.As(err, &failed) {
		err = s.storeFailed(doingStore, failed.error)
	}
	// One that ran out of time may be stored yet: were it free, a flood could hold a slow store up for ever.
	if errors.As(err, &storeError{}) && ctx.Err() == nil {
		s.hasNotBegun()
	}
	return err
}

// createRetries is how often a session that may or may not have been inserted is tried anew.
const createRetries = 2

// replaceToken lets scs make another token, and keeps the deadline, which scs's
// RenewToken would move.
func (s *Session) replaceToken(ctx context.Context) error {
	deadline := s.h.manager.Deadline(ctx)
	err := s.h.manager.RenewToken(ctx)
	if err == nil {
		s.h.manager.SetDeadline(ctx, deadline)
	}
	return err
}

// commitThrough lets scs commit. Whoever makes an edit meanwhile waits: it would be
// in the values and not among the edits that were stored with them, or the other
// way round.
func (s *Session) commitThrough(ctx context.Context) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	_, _, err := s.h.manager.Commit(ctx)
	return err
}

// writeCookie makes the Set-Cookie if the commit gave the session a new token or another lifetime.
func (s *Session) writeCookie(ctx context.Context) {
	deadline := s.h.manager.Deadline(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.marked:
		deadline = s.rec.Expiry
	case !s.h.persist:
		deadline = time.Time{}
	}
	if s.issue && s.token != "" {
		s.cookie = s.h.cookie.write(s.key.write(s.token), deadline, s.secure)
		s.issue = false
	}
}

// commitLate stores what was changed after the header of a session that has its
// cookie already. Nobody is left to be told of an error but the log.
func (s *Session) commitLate() {
	if s.isUnstored() {
		return
	}
	if err := s.commit(); err != nil {
		s.h.logger.Error("what a handler changed after the response's header is lost", zap.Error(err))
	}
}

// noteDelete is what scs's Delete means within a request: the commit will know
// why. It reports false for a token that is not this session's.
func (s *Session) noteDelete(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if token != "" && (token == s.token || token == s.rotating) {
		s.deleted = true
		return true
	}
	return token == "" || token == s.trying
}

// noteEnd tells scs's Destroy from its RenewToken: both delete, one leaves no token.
func (s *Session) noteEnd() {
	s.mu.Lock()
	pending := s.deleted && !s.ended
	s.mu.Unlock()
	if !pending || s.h.manager.Token(s.scs) != "" { // scs locks its data for it, and saves under that lock
		return
	}
	s.mu.Lock()
	s.ended, s.deleted, s.edits = true, false, nil
	s.mu.Unlock()
}
