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

// errOtherPrincipal ends an update whose changes must not be stored: the session it
// was meant for is over, or is somebody else's by now.
var errOtherPrincipal = errors.New("the session has another owner by now")

// ownBytes is what a session may keep of its own, beside max_size: a User-Agent,
// hashes of older tokens, the host.
const ownBytes = 2 << 10

// write is what is to be stored of a session: what scs holds, under its token.
type write struct {
	content
	token     string
	principal string // whom the values name
}

// save is scs's commit within a request: the encoded values are to be stored
// under the token. It runs while scs holds its data.
func (s *Session) save(ctx context.Context, token string, data []byte, deadline time.Time) error {
	if err := s.checkSize(data, s.knownRow().values); err != nil {
		return err
	}
	principal, err := s.h.principalOf(data)
	if err != nil {
		return err
	}
	s.mu.Lock()
	w := write{content{data, deadline, s.remembered}, token, principal}
	known, closed := s.row, s.closed
	renewal := known.exists() && token != known.ticket.token
	unchanged := !renewal && bytes.Equal(data, known.values) && (s.isSure() || len(s.edits) == 0)
	begins := !closed && (!known.exists() || known.inGrace() && renewal || known.principal == "" && principal != "")
	s.mu.Unlock()

	switch {
	case begins && s.request.Err() != nil:
		return errForNobody
	case closed && renewal:
		return errAfterHeader
	case !known.exists():
		return s.create(ctx, w, w.content, nil)
	case known.inGrace() && renewal:
		return s.createBeside(ctx, known, w)
	case known.inGrace():
		s.drop(errInGrace)
		return nil
	case unchanged:
		s.touch(deadline)
		return nil
	}
	if err = s.update(ctx, known, w, renewal); err == nil {
		return nil
	}
	s.h.backend.ended(known.rec.Token) // what is known of it is out of date
	switch {
	case errors.Is(err, rqlitestore.ErrSuperseded) && renewal && !s.isRotation():
		return s.createBeside(ctx, known, w)
	case errors.Is(err, rqlitestore.ErrGone), errors.Is(err, rqlitestore.ErrSuperseded), errors.Is(err, errOtherPrincipal):
		s.drop(err)
		return nil
	case errors.As(err, &tooLarge{}):
		return err
	}
	return storeError{doingStore, err}
}

// isSure reports whether the values as read or last written are what was stored
// then, so that to set one to what it was changes nothing. s.mu is held.
func (s *Session) isSure() bool { return s.h.backend.strict && !s.row.cached && !s.row.merged }

// tooLarge is why values are not stored: they are more than a session may have.
type tooLarge struct{ error }

func (s *Session) checkSize(data, before []byte) error {
	size, fits := s.h.fits(data, before)
	if fits {
		return nil
	}
	s.h.backend.metrics.tooLarge.Inc()
	return tooLarge{fmt.Errorf("the session has grown to %d bytes, more than max_size allows (%d): nothing of this request is stored", size, s.h.maxSize)}
}

// fits reports whether encoded values are no more than a session may have, or than
// they were before: one that a larger max_size let in may be renewed, and shrink.
func (h *Handler) fits(data, before []byte) (size int64, ok bool) {
	size = h.countedSize(data)
	return size, size <= h.maxSize || size <= h.countedSize(before)
}

// countedSize is what of encoded values counts for max_size. What the session keeps of
// its own counts apart: it grows by itself, where the application's values leave no
// room too.
func (h *Handler) countedSize(data []byte) int64 {
	size := int64(len(data))
	if size <= h.maxSize {
		return size
	}
	if own := ownSize(data); own <= ownBytes {
		size -= own
	}
	return size
}

// create stores a session that has no row, with a content that may have less than
// what scs holds. An insert whose outcome is unknown is not repeated: scs makes another
// token, and nobody ever learns the first. With still it is made only if that returns
// nil when the row is there.
func (s *Session) create(ctx context.Context, w write, made content, still func() error) error {
	if err := s.mayBegin(); err != nil {
		return err
	}
	s.mu.Lock()
	id := s.nextID
	s.nextID, s.lost = "", w.token
	s.mu.Unlock()
	if id == "" {
		id = newID()
	}
	first, began := s.h.keys.first(), time.Now()
	rec := rqlitestore.Record{Token: tokenHash(first, w.token), ID: id, Expiry: s.expiry(made.deadline), Version: 1, Principal: s.h.keys.principalHash(w.principal)}
	rec.Data = first.sealRow(rec, made.values)
	if err := s.h.backend.store.Create(ctx, rec); err != nil {
		if w.principal != "" && !errors.Is(err, errBusy) {
			s.destroyLater(rec) // it may be there, among the user's sessions, and nobody has its token
		}
		return storeError{doingStore, err}
	}
	if still != nil {
		if err := s.keepMade(ctx, rec, still); err != nil {
			if w.principal != "" && errors.As(err, &storeError{}) {
				s.destroyLater(rec)
			}
			return err
		}
	}
	s.reportCreated(id, w.principal)
	s.stored(row{
		rec: rec, ticket: ticket{w.token, first}, principal: w.principal,
		values: w.values, merged: !bytes.Equal(made.values, w.values), remembered: w.remembered,
	})
	s.h.backend.wrote(rec, made.values, began)
	s.logID(id)
	return nil
}

// drop says that a request came too late to change its session, or to say
// anything of its cookie: the browser may have a newer one.
func (s *Session) drop(why error) {
	s.countDropped(why)
	s.mu.Lock()
	s.issue = false
	s.mu.Unlock()
	s.h.logger.Debug("the changes of a request are dropped", zap.String("session_id", s.id()), zap.String("why", why.Error()))
}
