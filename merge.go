package caddysession

import (
	"time"

	"github.com/caddy-session/caddy-session/codec"
	"github.com/caddy-session/caddy-session/rqlitestore"
)

// content is what a row has of a session, but for whose it is.
type content struct {
	values     []byte // encoded
	deadline   time.Time
	remembered bool
}

// merge makes the request's changes on what is stored now, unless that has
// become another user's session.
func (s *Session) merge(read row, current rqlitestore.Record, mine []byte, renewal bool) (content, error) {
	until, theirs, err := s.h.keys.values(current)
	if err != nil {
		return content{}, err
	}
	// A token that was replaced often is no longer known, nor is one from before a
	// renewal, which makes another secret, whatever the database says.
	if !knows(current, theirs, read.rec.Token) && !codec.Equal(theirs[csrfKey], s.valuesRead(false)[csrfKey]) {
		return content{}, rqlitestore.ErrSuperseded
	}
	same := s.h.principalIn(theirs) == read.principal
	if s.h.principalKey == "" {
		same = s.h.keys.samePrincipal(read.rec.Principal, current.Principal, theirs) ||
			read.rec.Principal == "" && s.wasNamed(current.Principal, theirs)
	}
	if !same {
		return content{}, errOtherPrincipal
	}
	switch {
	case s.isRotation():
		s.h.keys.putBefore(theirs, current.Token)
	case renewal:
		delete(theirs, beforeKey) // see renewSecret
	}
	return s.replay(read, until, theirs, mine)
}

// wasNamed reports whether a row without a principal, as it was read, has been
// given one meanwhile that its values named already: by a handler with the option
// principal, which came with a reload, or stands on another site.
func (s *Session) wasNamed(principal string, theirs map[string]any) bool {
	named, fresh := s.h.keys.countNaming(principal, theirs, s.valuesRead(false))
	return named > 0 && fresh == 0
}

// replay makes the request's edits on their values in order, then whatever else
// differs, which is what was done through scs itself.
func (s *Session) replay(read row, until time.Time, theirs map[string]any, mine []byte) (content, error) {
	s.mu.Lock()
	edits := s.edits
	s.mu.Unlock()
	var json codec.JSON
	oldDeadline, before, err := json.Decode(read.values)
	if err != nil {
		return content{}, err
	}
	deadline, after, err := json.Decode(mine)
	if err != nil {
		return content{}, err
	}
	for _, e := range edits {
		e(theirs)
		e(before)
	}
	for key := range before {
		if _, ok := after[key]; !ok {
			delete(theirs, key)
		}
	}
	for key, value := range after {
		if old, ok := before[key]; !ok || !codec.Equal(old, value) {
			theirs[key] = value
		}
	}
	// A lifetime that begins anew, as by a renewal, is that of who thought as is stored
	// now whether the session is remembered: `remember on` beside it is not cut short.
	remembered := theirs[rememberKey] == true
	if !deadline.Equal(oldDeadline) && remembered == (after[rememberKey] == true) {
		until = deadline
	}
	merged, err := json.Encode(until, theirs)
	return content{merged, until, remembered}, err
}
