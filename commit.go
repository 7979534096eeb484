package caddysession

import (
	"context"
	"errors"
	"time"

	"github.com/alexedwards/scs/v2"
	"go.uber.org/zap"
)

// commit stores what the request did and decides about the cookie. It runs
// before the final header, on a context that a client going away does not end.
func (s *Session) commit() (err error) {
	loaded := s.loaded()
	if loaded == nil || s.isAnswered() {
		return nil
	}
	pending, err := s.pending()
	if !pending {
		return err
	}
	defer func() {
		if err != nil {
			s.markChanged()
		}
	}()
	s.detectDestroy()
	if stop, err := s.readOnly(loaded); stop {
		return err
	}
	s.detectRemember(loaded)
	s.retireAliases() // here, for a new token or a change may be stored at every visit
	if !s.hasChanged(loaded) {
		s.upkeep(loaded)
		return nil
	}
	ctx, cancel := context.WithTimeout(loaded, commitTimeout)
	defer cancel()
	ctx, span := s.startSpan(ctx, "session.commit")
	defer func() {
		endSpan(span, s.id(), err)
		s.h.backend.report(err)
	}()
	if err := s.destroyOthers(ctx); err != nil {
		return err
	}
	if err := s.destroySelf(ctx); err != nil {
		return err
	}
	s.putAlone(ctx)
	switch {
	case s.hasOnlyUpkeep(ctx):
	case s.isModified(ctx):
		return s.store(ctx)
	default:
		s.upkeep(ctx)
	}
	return nil
}

// pending reports whether anything may have changed since the last commit, and takes
// it for committed: markChanged takes that back. Without that each commit would encode
// the values again, for scs calls them modified for as long as the request lasts.
func (s *Session) pending() (bool, error) {
	if err := s.failure(); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.committed && !s.handedOut {
		return false, nil
	}
	s.committed = true
	return true, nil
}

func (s *Session) markHandedOut() {
	s.mu.Lock()
	s.handedOut = true
	s.mu.Unlock()
}

// markChanged has the next commit look for what changed. It comes after the change.
func (s *Session) markChanged() {
	s.mu.Lock()
	s.committed = false
	s.mu.Unlock()
}

// hasChanged reports whether there is more to commit than upkeep.
func (s *Session) hasChanged(ctx context.Context) bool {
	s.mu.Lock()
	ending := s.ending || s.endingOthers
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
	return s.row.exists() && len(s.edits) > 0 && !s.isSure()
}

// readOnly reports whether the session was not loaded because the store was
// down and visitors are anonymous meanwhile: then nothing can be stored either.
func (s *Session) readOnly(ctx context.Context) (bool, error) {
	s.mu.Lock()
	why, endingOthers := s.loadErr, s.endingOthers
	s.mu.Unlock()
	if why != nil && (endingOthers || s.h.manager.Status(ctx) != scs.Unmodified) {
		return true, why
	}
	return why != nil, nil
}

// destroySelf destroys the stored session if that was asked for.
func (s *Session) destroySelf(ctx context.Context) error {
	s.mu.Lock()
	ending, known := s.ending, s.row
	s.mu.Unlock()
	if !ending {
		return nil
	}
	if known.exists() {
		if err := s.h.backend.destroy(ctx, known.rec); err != nil {
			return storeError{doingEnd, err}
		}
		s.reportDestroyed(known.rec.ID, known.principal)
		s.dropRow()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = false
	if s.presented.token != "" {
		s.cookie = s.h.cookie.write("", time.Time{}, s.secure)
	}
	return nil
}

// store writes the values through scs, which calls save.
func (s *Session) store(ctx context.Context) error {
	before := s.knownRow().rec.ID
	isNew := before == ""
	if isNew {
		if len(s.Keys()) == 0 {
			return nil // nothing to keep: no row, no cookie
		}
		if s.isClosed() {
			return errAfterHeader // no cookie, so no row
		}
	}
	s.detectRenewal(ctx)
	s.completeOwn(ctx)
	principal, login := s.isLogin(ctx)
	if login {
		if err := s.admit(ctx, principal); err != nil {
			return err
		}
	}
	if err := s.renewForPrincipal(ctx); err != nil {
		return err
	}
	s.renewSecret(ctx)
	if s.rotationDue(ctx, true) {
		s.startRotation(ctx)
	}
	s.putBinding(ctx)
	s.putAudience(ctx)
	s.putUse(ctx)
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

// commitValues lets scs commit, a new session under another token if need be.
func (s *Session) commitValues(ctx context.Context, isNew bool) error {
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
	case s.row.remembered:
		deadline = s.row.rec.Expiry
	case !s.h.persist:
		deadline = time.Time{}
	}
	if has := s.row.ticket; s.issue && has.token != "" {
		s.cookie = s.h.cookie.write(has.key.write(has.token), deadline, s.secure)
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
