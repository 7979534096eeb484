package caddysession

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/alexedwards/scs/v2"
	"go.uber.org/zap"

	"github.com/caddy-session/caddy-session/codec"
	"github.com/caddy-session/caddy-session/rqlitestore"
)

// errInGrace is why a request under a token that was renewed stores nothing.
var errInGrace = errors.New("the session was renewed meanwhile")

// errDropped ends an update whose changes must not be stored: the session it
// was meant for is over, or is somebody else's by now.
var errDropped = errors.New("the session has another owner by now")

// commit stores what the request did and decides about the cookie. It runs
// before the final header, on a context that a client going away does not end.
func (s *Session) commit() (err error) {
	s.loading.Lock()
	loaded := s.scs
	s.loading.Unlock()
	if loaded == nil || s.answered {
		return nil
	}
	pending, changes, err := s.pending()
	if !pending {
		return err
	}
	defer func() {
		if err == nil {
			s.noteCommitted(changes)
		}
	}()
	s.noteEnd()
	if stop, err := s.readOnly(loaded); stop {
		return err
	}
	s.noteRemembered(loaded)
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
	switch {
	case s.isUntouched():
	case s.h.manager.Status(ctx) == scs.Modified:
		return s.store(ctx)
	default:
		s.upkeep(ctx)
	}
	return nil
}

// pending reports whether anything may have changed since the last commit, and
// how many changes there were. Without that each commit would encode the values
// again, for scs calls them modified for as long as the request lasts.
func (s *Session) pending() (pending bool, changes int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err == nil && (s.handedOut || s.committed <= s.changes), s.changes, s.err
}

func (s *Session) noteCommitted(changes int) {
	s.mu.Lock()
	s.committed = changes + 1
	s.mu.Unlock()
}

func (s *Session) noteHandedOut() {
	s.mu.Lock()
	s.handedOut = true
	s.mu.Unlock()
}

// noteChange has the next commit look for what changed. It comes after the change.
func (s *Session) noteChange() {
	s.mu.Lock()
	s.changes++
	s.mu.Unlock()
}

// hasChanged reports whether there is more to commit than upkeep.
func (s *Session) hasChanged(ctx context.Context) bool {
	s.mu.Lock()
	ending := s.ended || s.endOthers
	s.mu.Unlock()
	return ending || s.h.manager.Status(ctx) == scs.Modified
}

// readOnly reports whether the session was not loaded because the store was
// down and visitors are anonymous meanwhile: then nothing can be stored either.
func (s *Session) readOnly(ctx context.Context) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outage != nil && (s.ended || s.endOthers || s.h.manager.Status(ctx) != scs.Unmodified) {
		return true, s.outage
	}
	return s.outage != nil, nil
}

// noteRemembered finds out whether the session's cookie is to outlive the browser.
func (s *Session) noteRemembered(ctx context.Context) {
	remembered := s.h.manager.GetBool(ctx, rememberKey)
	s.mu.Lock()
	s.issue = s.issue || remembered != s.remembered
	s.remembered = remembered
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
	isNew := s.isUnstored()
	if isNew {
		if len(s.Keys()) == 0 {
			return nil // nothing to keep: no row, no cookie
		}
	}
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
	err := s.commitValues(ctx, isNew)
	if err == nil && login {
		err = s.makeRoom(ctx, principal)
	}
	if err == nil {
		s.writeCookie(ctx)
	}
	return err
}

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
// secret for its forms, as Renew does.
func (s *Session) renewSecret(ctx context.Context) {
	s.mu.Lock()
	stored, token := s.rec.ID != "", s.token
	s.mu.Unlock()
	renewed := stored && s.h.manager.Token(ctx) != token
	if renewed && s.ownBefore()[csrfKey] == s.h.manager.Get(ctx, csrfKey) {
		s.h.manager.Put(ctx, csrfKey, newID())
	}
}

// ownBefore is what the session kept of its own when it was read. Whether it is
// remembered is scs's, who forgets it with the rest.
func (s *Session) ownBefore() map[string]any {
	s.mu.Lock()
	base, grace := s.base, s.grace
	s.mu.Unlock()
	if grace || base == nil {
		return nil
	}
	_, own, err := codec.JSON{}.Decode(base)
	if err != nil {
		return nil // it was decoded before
	}
	maps.DeleteFunc(own, func(key string, _ any) bool {
		return !strings.HasPrefix(key, reserved) || key == rememberKey
	})
	return own
}

// takeBack makes the session what it was before what could not be stored: an
// error page must not name the user of a login that was refused.
func (s *Session) takeBack() {
	s.loading.Lock()
	loaded := s.scs
	s.loading.Unlock()
	if loaded == nil {
		return
	}
	s.mu.Lock()
	base, grace := s.base, s.grace
	s.edits, s.fresh = nil, ""
	s.mu.Unlock()
	var stored map[string]any
	if base != nil && !grace { // of the values in the grace not all are to be seen
		_, stored, _ = codec.JSON{}.Decode(base) // it was decoded before
	}
	_ = s.h.manager.Clear(loaded) // asks no store: it cannot fail
	for key, value := range stored {
		s.h.manager.Put(loaded, key, value)
	}
}

// commitValues lets scs commit, a new session under another token if need be.
func (s *Session) commitValues(ctx context.Context, isNew bool) error {
	_, _, err := s.h.manager.Commit(ctx)
	for range createRetries {
		if !isNew || !errors.As(err, &storeError{}) || errors.Is(err, errBusy) || ctx.Err() != nil {
			break
		}
		err = s.commitUnderFreshToken(ctx)
	}
	return err
}

// createRetries is how often a session that may or may not have been inserted is tried anew.
const createRetries = 2

// commitUnderFreshToken tries a new session again. The same token must not be
// sent twice, for the first insert may still arrive: nobody ever learns that one.
func (s *Session) commitUnderFreshToken(ctx context.Context) error {
	deadline := s.h.manager.Deadline(ctx)
	if err := s.h.manager.RenewToken(ctx); err != nil {
		return err
	}
	s.h.manager.SetDeadline(ctx, deadline)
	_, _, err := s.h.manager.Commit(ctx)
	return err
}

func (s *Session) isUnstored() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec.ID == ""
}

// writeCookie makes the Set-Cookie if the commit gave the session a new token or another lifetime.
func (s *Session) writeCookie(ctx context.Context) {
	deadline := s.h.manager.Deadline(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.h.persist && !s.remembered {
		deadline = time.Time{}
	}
	if s.issue && s.token != "" {
		s.cookie = s.h.cookie.write(s.key.write(s.token), deadline, s.secure)
		s.issue = false
	}
}

// ownBytes is what a session may take beside the application's values.
const ownBytes = 1 << 10

// save is scs's commit within a request: the encoded values are to be stored
// under the token. It runs while scs holds its data.
func (s *Session) save(ctx context.Context, token string, data []byte, deadline time.Time) error {
	if int64(len(data)) > s.h.maxSize+ownBytes {
		s.h.backend.metrics.tooLarge.Inc()
		return fmt.Errorf("the session has grown to %d bytes, more than max_size allows (%d): nothing of this request is stored", len(data), s.h.maxSize)
	}
	owner, err := s.h.principalOf(data)
	if err != nil {
		return err
	}
	s.mu.Lock()
	rec, edits := s.rec, s.edits
	renewal := s.token != "" && token != s.token
	unchanged := !renewal && bytes.Equal(data, s.base) && (s.h.backend.strict && !s.cached || len(edits) == 0)
	grace, closed := s.grace, s.closed
	s.mu.Unlock()

	switch {
	case closed && renewal:
		return errAfterHeader
	case rec.ID == "", grace && renewal:
		return s.create(ctx, token, data, deadline, owner)
	case grace:
		s.dropped(errInGrace)
		return nil
	case unchanged:
		s.touch(deadline)
		return nil
	}
	err = s.update(ctx, rec, token, data, deadline, owner, renewal)
	if err != nil {
		s.h.backend.ended(rec.Token) // what is known of it is out of date
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, rqlitestore.ErrGone), errors.Is(err, errDropped):
		s.dropped(err)
		return nil
	case errors.Is(err, rqlitestore.ErrSuperseded):
		if renewal && !s.isRotation() {
			return s.create(ctx, token, data, deadline, owner) // the login button pressed twice
		}
		s.dropped(err)
		return nil
	}
	return s.storeFailed(doingStore, err)
}

// create stores a session that has no row. An insert whose outcome is unknown
// is not repeated: scs makes another token, and nobody ever learns the first.
func (s *Session) create(ctx context.Context, token string, data []byte, deadline time.Time, owner string) error {
	if err := s.mayBegin(); err != nil {
		return err
	}
	s.mu.Lock()
	id := s.fresh
	s.fresh, s.trying = "", token
	s.mu.Unlock()
	if id == "" {
		id = newID()
	}
	keys, began := s.h.keys, time.Now()
	rec := rqlitestore.Record{Token: tokenHash(keys.first(), token), ID: id, Expiry: s.expiry(deadline), Version: 1, Principal: keys.principalHash(owner)}
	rec.Data = keys.first().sealRow(rec.Token, rec.ID, rec.Version, data)
	if err := s.h.backend.store.Create(ctx, rec); err != nil {
		return s.storeFailed(doingStore, err)
	}
	s.noteCreated(id, owner)
	s.stored(rec, token, data, owner)
	s.h.backend.wrote(rec, data, began)
	s.logID(id)
	return nil
}

// update stores what this request did to a row that others may have changed since it was read.
func (s *Session) update(ctx context.Context, read rqlitestore.Record, token string, data []byte, deadline time.Time, owner string, renewal bool) error {
	keys, began := s.h.keys, time.Now()
	renewed := renewal
	var sealed, values []byte
	saved, err := s.h.backend.store.Update(ctx, read, func(current rqlitestore.Record) (_ rqlitestore.Record, err error) {
		next := current
		values = data
		next.Expiry = s.expiry(deadline)
		if s.h.owner != "" {
			next.Principal = keys.principalHash(owner)
		}
		if current.Version != read.Version {
			s.h.backend.metrics.conflicts.Inc()
			merged, until, err := s.merge(read, current, data)
			if err != nil {
				return current, err
			}
			values, next.Expiry = merged, s.expiry(until)
		}
		sealing := keys.keyOfRow(current.Data)
		renewed = renewal && !s.wasRotated(read, current)
		if renewed {
			if s.h.owner == "" {
				if next.Principal, err = keys.movedPrincipal(current); err != nil {
					return current, err
				}
			}
			sealing = keys.first()
			next.Token, next.Alias, next.AliasUntil = tokenHash(keys.first(), token), s.isRotation(), deadline
		}
		sealed = sealing.sealRow(next.Token, next.ID, current.Version+1, values)
		next.Data = sealed
		return next, nil
	})
	if err != nil {
		return err
	}
	s.noteSaved(saved.ID, owner, renewed)
	s.stored(saved, token, data, owner)
	if !bytes.Equal(saved.Data, sealed) {
		values = nil // another change of this process was stored with it
	}
	s.h.backend.wrote(saved, values, began)
	if renewal && !renewed {
		s.mu.Lock()
		s.issue, s.unnamed = false, true
		s.mu.Unlock()
	}
	return nil
}

// wasRotated reports whether another request has replaced the token meanwhile,
// so that this one need not. Otherwise all the requests of a page would get a
// token of their own, more than a sealed session knows (see noteBefore).
func (s *Session) wasRotated(read, current rqlitestore.Record) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rotate && !s.issue && current.Token != read.Token
}

// stored notes what the row is now. The base for later changes is what this
// request wrote, not what it was merged with.
func (s *Session) stored(rec rqlitestore.Record, token string, data []byte, owner string) {
	s.h.backend.noteError(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rec.Token != "" && s.rec.Token != rec.Token {
		s.h.backend.ended(s.rec.Token)
	}
	s.cached = false
	if token != s.token {
		s.issue, s.token, s.key, s.unnamed = true, token, s.h.keys.first(), false
	}
	s.rec, s.owner, s.base, s.edits = rec, owner, data, nil
	s.grace, s.deleted, s.rotate = false, false, false
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

// dropped notes that a request came too late to change its session, or to say
// anything of its cookie: the browser may have a newer one.
func (s *Session) dropped(why error) {
	s.countDropped(why)
	s.mu.Lock()
	s.issue = false
	s.mu.Unlock()
	s.h.logger.Debug("the changes of a request are dropped", zap.String("session_id", s.id()), zap.String("why", why.Error()))
}

func (s *Session) storeFailed(doing string, err error) error {
	err = s.h.backend.unavailable(doing, err)
	s.h.backend.noteError(err)
	return storeError{err}
}

// storeError is an error of the store, not of what was to be stored.
type storeError struct{ error }

func (e storeError) Unwrap() error { return e.error }

// noteDelete is what scs's Delete means within a request: the commit will know
// why. It reports false for a token that is not this session's.
func (s *Session) noteDelete(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if token != "" && token == s.token {
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
	if !pending || s.h.manager.Token(s.scs) != "" {
		return
	}
	s.mu.Lock()
	s.ended, s.deleted, s.edits = true, false, nil
	s.mu.Unlock()
}
