package caddysession

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

// errInGrace is why a request under a token that was renewed stores nothing.
var errInGrace = errors.New("the session was renewed meanwhile")

// errForNobody is why a session does not begin. Nobody would have its cookie, and it
// would be shown, and count, as one of its user's.
var errForNobody = errors.New("the client has gone: the session that its request would begin would be nobody's")

// errDropped ends an update whose changes must not be stored: the session it
// was meant for is over, or is somebody else's by now.
var errDropped = errors.New("the session has another owner by now")

// ownBytes is what a session may keep of its own, beside max_size: a User-Agent,
// hashes of older tokens, the host.
const ownBytes = 2 << 10

// write is what is to be stored of a session.
type write struct {
	content
	token string
	owner string // the name of the principal in the values
}

// save is scs's commit within a request: the encoded values are to be stored
// under the token. It runs while scs holds its data.
func (s *Session) save(ctx context.Context, token string, data []byte, deadline time.Time) error {
	if err := s.checkSize(data); err != nil {
		return err
	}
	owner, err := s.h.principalOf(data)
	if err != nil {
		return err
	}
	s.mu.Lock()
	w := write{content{data, deadline, s.remembered}, token, owner}
	rec, edits := s.rec, s.edits
	renewal := s.token != "" && token != s.token
	unchanged := !renewal && bytes.Equal(data, s.base) && (s.isSure() || len(edits) == 0)
	grace, closed := s.grace, s.closed
	begins := !closed && (rec.ID == "" || grace && renewal || s.owner == "" && owner != "")
	s.mu.Unlock()

	switch {
	case begins && s.request.Err() != nil:
		return errForNobody
	case closed && renewal:
		return errAfterHeader
	case rec.ID == "":
		return s.create(ctx, w, nil)
	case grace && renewal:
		return s.createBeside(ctx, rec, w)
	case grace:
		s.dropped(errInGrace)
		return nil
	case unchanged:
		s.touch(deadline)
		return nil
	}
	if err = s.update(ctx, rec, w, renewal); err == nil {
		return nil
	}
	s.h.backend.ended(rec.Token) // what is known of it is out of date
	switch {
	case errors.Is(err, rqlitestore.ErrSuperseded) && renewal && !s.isRotation():
		return s.createBeside(ctx, rec, w)
	case errors.Is(err, rqlitestore.ErrGone), errors.Is(err, rqlitestore.ErrSuperseded), errors.Is(err, errDropped):
		s.dropped(err)
		return nil
	case errors.As(err, &tooLarge{}):
		return err
	case errors.Is(err, context.DeadlineExceeded) && ctx.Value(readerWaits{}) != nil:
		err = fmt.Errorf("%w: %w", errSlow, err)
	}
	return s.storeFailed(doingStore, err)
}

// isSure reports whether the values as read or last written are what was stored
// then, so that to set one to what it was changes nothing. s.mu is held.
func (s *Session) isSure() bool { return s.h.backend.strict && !s.cached && !s.merged }

// tooLarge is why values are not stored: they are more than a session may have.
type tooLarge struct{ error }

func (s *Session) checkSize(data []byte) error {
	size, fits := s.h.fits(data)
	if fits {
		return nil
	}
	s.h.backend.metrics.tooLarge.Inc()
	return tooLarge{fmt.Errorf("the session has grown to %d bytes, more than max_size allows (%d): nothing of this request is stored", size, s.h.maxSize)}
}

// fits reports whether encoded values are no more than a session may have. What it
// keeps of its own counts apart: it grows by itself, where the application's
// values leave no room too.
func (h *Handler) fits(data []byte) (size int64, ok bool) {
	if size = int64(len(data)); size <= h.maxSize {
		return size, true
	}
	own := ownSize(data)
	if own > ownBytes {
		return size, false
	}
	size -= own
	return size, size <= h.maxSize
}

// create stores a session that has no row. An insert whose outcome is unknown
// is not repeated: scs makes another token, and nobody ever learns the first.
// With still it is made only if that returns nil when the row is there.
func (s *Session) create(ctx context.Context, w write, still func() error) error {
	if err := s.mayBegin(); err != nil {
		return err
	}
	s.mu.Lock()
	id := s.fresh
	s.fresh, s.trying = "", w.token
	s.mu.Unlock()
	if id == "" {
		id = newID()
	}
	keys, began := s.h.keys, time.Now()
	rec := rqlitestore.Record{Token: tokenHash(keys.first(), w.token), ID: id, Expiry: s.expiry(w.deadline), Version: 1, Principal: keys.principalHash(w.owner)}
	rec.Data = keys.first().sealRow(rec, w.values)
	if err := s.h.backend.store.Create(ctx, rec); err != nil {
		if w.owner != "" && !errors.Is(err, errBusy) {
			s.endLater(rec) // it may be there, among the user's sessions, and nobody has its token
		}
		if ctx.Value(triedAnew{}) != nil {
			return storeError{notTold{err}}
		}
		return s.storeFailed(doingStore, err)
	}
	if still != nil {
		if err := s.keepMade(ctx, rec, still); err != nil {
			if w.owner != "" && errors.As(err, &storeError{}) {
				s.endLater(rec)
			}
			return err
		}
	}
	s.noteCreated(id, w.owner)
	s.stored(rec, w, false)
	s.h.backend.wrote(rec, w.values, began)
	s.logID(id)
	return nil
}

// update stores what this request did to a row that others may have changed since it was read.
func (s *Session) update(ctx context.Context, read rqlitestore.Record, w write, renewal bool) error {
	keys, began := s.h.keys, time.Now()
	renewed := renewal
	s.mu.Lock()
	behind := s.merged // the row has changes that this request knows nothing of
	s.mu.Unlock()
	var stored content
	var sealed []byte
	saved, err := s.h.backend.store.Update(ctx, read, func(current rqlitestore.Record) (_ rqlitestore.Record, err error) {
		next := current
		stored = w.content
		if current.Version != read.Version {
			s.h.backend.metrics.conflicts.Inc()
			behind = true
		}
		if behind {
			if stored, err = s.merge(read, current, w.values, renewal); err != nil {
				return current, err
			}
			if err := s.checkSize(stored.values); err != nil { // each may fit, and all together not
				return current, err
			}
		}
		next.Expiry = s.nextExpiry(current, stored, renewal)
		renewed = renewal && !s.wasRotated(read, current)
		switch {
		case s.h.ownerKey != "":
			next.Principal = keys.principalHash(w.owner)
		case renewed:
			if next.Principal, err = keys.movedPrincipal(current); err != nil {
				return current, err
			}
		}
		sealing := keys.keyOfRow(current.Data)
		if renewed {
			sealing = keys.first()
			next.Token, next.Alias, next.AliasUntil = tokenHash(keys.first(), w.token), s.isRotation(), stored.deadline
		}
		next.Version++
		sealed = sealing.sealRow(next, stored.values)
		next.Data = sealed
		return next, nil
	})
	if err != nil {
		return err
	}
	s.noteSaved(saved.ID, w.owner, renewed)
	if !bytes.Equal(saved.Data, sealed) {
		stored.values = nil // another change of this process was stored with it
	}
	s.stored(saved, w, !bytes.Equal(stored.values, w.values))
	if saved.Version > read.Version {
		s.h.backend.wrote(saved, stored.values, began)
	} else {
		s.h.backend.ended(read.Token) // a backup was restored: what is known counts as newer
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marked = stored.remembered
	if renewal && !renewed {
		s.issue, s.unnamed = false, true
	}
	return nil
}

// wasRotated reports whether another request has replaced the token meanwhile,
// so that this one need not. Otherwise all the requests of a page would get a
// token of their own, more than a sealed session knows (see noteBefore).
func (s *Session) wasRotated(read, current rqlitestore.Record) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rotating != "" && !s.issue && current.Token != read.Token
}

// stored notes what the row is now. The base for later changes is what this
// request wrote, not what it was merged with: later changes are merged, too.
func (s *Session) stored(rec rqlitestore.Record, w write, merged bool) {
	s.h.backend.noteWrite(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rec.Token != "" && s.rec.Token != rec.Token {
		s.h.backend.ended(s.rec.Token)
	}
	s.cached = false
	if w.token != s.token {
		s.issue, s.token, s.key, s.unnamed = true, w.token, s.h.keys.first(), false
	}
	s.rec, s.owner, s.base, s.merged, s.edits = rec, w.owner, w.values, merged, nil
	s.grace, s.deleted, s.rotating = false, false, ""
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
	if doing == doingLoad || doing == doingList {
		s.h.backend.noteRead(err)
	} else {
		s.h.backend.noteWrite(err)
	}
	return storeError{err}
}

// storeError is an error of the store, not of what was to be stored.
type storeError struct{ error }

func (e storeError) Unwrap() error { return e.error }

// notTold is such an error before storeFailed knows of it.
type notTold struct{ error }

func (e notTold) Unwrap() error { return e.error }

// takeBack makes the session what it was before what could not be stored: an
// error page must not name the user of a login that was refused. It may ask for
// it, unless it is not known what it was.
func (s *Session) takeBack() {
	s.mu.Lock()
	s.answered = true
	if !s.unloaded {
		s.err = nil
	}
	s.mu.Unlock()
	s.loading.Lock()
	loaded := s.scs
	s.loading.Unlock()
	if loaded == nil {
		return
	}
	s.mu.Lock()
	s.edits, s.fresh = nil, ""
	s.mu.Unlock()
	stored := s.valuesRead(false) // of the values in the grace not all are to be seen
	_ = s.h.manager.Clear(loaded) // asks no store: it cannot fail
	for key, value := range stored {
		s.h.manager.Put(loaded, key, value)
	}
}
