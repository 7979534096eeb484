package caddysession

import (
	"bytes"
	"context"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

// rowUpdate stores what a request did to a row that others may have changed since it
// was read.
type rowUpdate struct {
	*Session
	read    row
	write   write
	renewal bool // it is to be under another token
	behind  bool // the row has changes that this request knows nothing of

	// What the last call of apply decided.
	next    content
	sealed  []byte // its values, as they are stored
	renewed bool   // they are under the request's token, for no other request was first
}

// update stores what a request did to the row that it read, and whatever that has
// become meanwhile.
func (s *Session) update(ctx context.Context, read row, w write, renewal bool) error {
	u := &rowUpdate{Session: s, read: read, write: w, renewal: renewal, behind: read.merged}
	began := time.Now()
	saved, err := s.h.backend.store.Update(ctx, read.rec, u.apply)
	if err != nil {
		return err
	}
	s.reportSaved(saved.ID, w.principal, u.renewed)
	values := u.next.values
	if !bytes.Equal(saved.Data, u.sealed) {
		values = nil // another change of this process was stored with it
	}
	s.stored(u.written(saved, values))
	if saved.Version > read.rec.Version {
		s.h.backend.wrote(saved, values, began)
	} else {
		s.h.backend.ended(read.rec.Token) // a backup was restored: what is known counts as newer
	}
	return nil
}

// apply makes the row's next version of the current one.
func (u *rowUpdate) apply(current rqlitestore.Record) (next rqlitestore.Record, err error) {
	if current.Version != u.read.rec.Version {
		u.h.backend.metrics.conflicts.Inc()
		u.behind = true
	}
	u.next = u.write.content
	if u.behind {
		if u.next, err = u.merge(u.read, current, u.write.values, u.renewal); err != nil {
			return current, err
		}
		if err := u.checkSize(u.next.values, u.read.values); err != nil { // each may fit, and all together not
			return current, err
		}
	}
	u.renewed = u.renewal && !u.wasRotated(current)
	next = current
	next.Expiry = u.nextExpiry(current)
	if next.Principal, err = u.nextPrincipal(current); err != nil {
		return current, err
	}
	keys := u.h.keys
	sealing := keys.keyOfRow(current.Data)
	if u.renewed {
		sealing = keys.first()
		next.Token, next.Alias, next.AliasUntil = tokenHash(sealing, u.write.token), u.isRotation(), u.next.deadline
	}
	next.Version++
	u.sealed = sealing.sealRow(next, u.next.values)
	next.Data = u.sealed
	return next, nil
}

// wasRotated reports whether another request has replaced the token meanwhile,
// so that this one need not. Otherwise all the requests of a page would get a
// token of their own, more than a sealed session knows (see putBefore).
func (u *rowUpdate) wasRotated(current rqlitestore.Record) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.rotating != "" && !u.issue && current.Token != u.read.rec.Token
}

// nextExpiry is expiry for a row that is stored again. As with touch, what another
// handler's idle_timeout has set is left as it is, unless a new lifetime begins.
func (u *rowUpdate) nextExpiry(current rqlitestore.Record) time.Time {
	if u.next.remembered {
		return u.next.deadline
	}
	expiry := u.h.expiry(u.next.deadline)
	begins := u.renewal && !u.isRotation()
	if u.h.idle == 0 && u.h.lease.idle && !begins && current.Expiry.Before(expiry) {
		return current.Expiry
	}
	return expiry
}

// nextPrincipal is what the table is to hold of the principal.
func (u *rowUpdate) nextPrincipal(current rqlitestore.Record) (string, error) {
	switch {
	case u.h.principalKey != "":
		return u.h.keys.principalHash(u.write.principal), nil
	case u.renewed:
		return u.h.keys.movedPrincipal(current)
	}
	return current.Principal, nil
}

// written is the row that was stored, with these values, if they are known. Those
// that later changes are told by are the request's own, not what they were merged
// with: later changes are merged, too.
func (u *rowUpdate) written(saved rqlitestore.Record, values []byte) row {
	w := row{
		rec: saved, ticket: u.read.ticket, void: u.read.void, principal: u.write.principal,
		values: u.write.values, merged: !bytes.Equal(values, u.write.values), remembered: u.next.remembered,
	}
	if u.renewal {
		w.ticket, w.void = ticket{u.write.token, u.h.keys.first()}, !u.renewed
	}
	return w
}
