package caddysession

import (
	"maps"
	"math"
	"reflect"
	"slices"
	"time"

	"github.com/caddy-session/caddy-session/codec"
)

// edit is one change, so that it can be made again on what another request stored meanwhile.
type edit func(values map[string]any)

// Put stores a value under a key, which must not begin with __: such keys are
// the session's own. That the value has no form in a session, as a channel has
// none, comes out when the session is stored: the response is a 500 then.
func (s *Session) Put(key string, value any) error {
	if isReserved(key) {
		return errReservedKey
	}
	value = codec.Clone(value)
	return s.change(func(values map[string]any) { values[key] = value }, key)
}

// Remove deletes keys. Those that begin with __ are the session's own.
func (s *Session) Remove(keys ...string) error {
	if slices.ContainsFunc(keys, isReserved) {
		return errReservedKey
	}
	return s.change(func(values map[string]any) {
		for _, key := range keys {
			delete(values, key)
		}
	}, keys...)
}

// Clear deletes all of the application's keys. The session itself goes on.
func (s *Session) Clear() error {
	return s.change(clearValues)
}

func clearValues(values map[string]any) {
	maps.DeleteFunc(values, func(key string, _ any) bool { return !isReserved(key) })
}

// Increment adds n to a number; a key that is absent, or no integer, counts as
// 0. Parallel requests lose no step. The largest 64-bit number, and the smallest,
// stay what they are.
func (s *Session) Increment(key string, n int) error {
	if isReserved(key) {
		return errReservedKey
	}
	return s.change(func(values map[string]any) { values[key] = plus(values[key], n) }, key)
}

// plus adds n to an integer, which keeps its type unless it would be too narrow,
// or an unsigned one below 0.
func plus(value any, n int) any {
	number := reflect.ValueOf(value)
	if !number.CanInt() && !number.CanUint() {
		return n
	}
	sum := reflect.New(number.Type()).Elem()
	if number.CanUint() {
		total := number.Uint() + uint64(n)
		switch {
		case n > 0 && total < number.Uint():
			total = math.MaxUint64
		case n < 0 && number.Uint() < uint64(-n):
			return integer(int64(number.Uint()) + int64(n))
		}
		if number.OverflowUint(total) {
			return integer(int64(total))
		}
		sum.SetUint(total)
		return sum.Interface()
	}
	total := number.Int() + int64(n)
	switch {
	case n > 0 && total < number.Int():
		total = math.MaxInt64
	case n < 0 && total > number.Int():
		total = math.MinInt64
	}
	if number.OverflowInt(total) {
		return integer(total)
	}
	sum.SetInt(total)
	return sum.Interface()
}

// integer returns an int, or an int64 where that is too narrow, as it is on 32 bits.
func integer(n int64) any {
	if int64(int(n)) == n {
		return int(n)
	}
	return n
}

// change makes an edit on scs's values and remembers it for a lost race. It
// concerns these keys, or all where none are given.
func (s *Session) change(e edit, keys ...string) error {
	if err := s.beginChange(); err != nil {
		return err
	}
	defer s.changing.Unlock()
	s.mu.Lock()
	if s.closed && (!s.keepsRow() || slices.Contains(keys, rememberKey)) { // the cookie is out
		s.mu.Unlock()
		return errAfterHeader
	}
	s.edits, s.heldInVain = append(s.edits, e), nil
	s.mu.Unlock()
	s.apply(e, keys...)
	s.setNextID(keys)
	s.markChanged()
	return nil
}

// beginChange loads the session and locks s.changing, unless nobody is left to store
// a change.
func (s *Session) beginChange() error {
	if err := s.Load(); err != nil {
		return err
	}
	if s.isAnswered() {
		return errAnswered
	}
	s.changing.Lock()
	if !s.serving {
		s.changing.Unlock()
		return errReturned
	}
	return nil
}

// setServing says whether what changes from now on will be stored. It waits for
// changes being made, so that the commit that follows has them.
func (s *Session) setServing(on bool) {
	s.changing.Lock()
	defer s.changing.Unlock()
	s.serving = on
}

// setNextID gives a session that is not stored yet the id that it will have, and
// takes it back when there is nothing left to store, after a change of these keys.
func (s *Session) setNextID(changed []string) {
	s.mu.Lock()
	kept := s.keepsRow()
	s.mu.Unlock()
	if kept {
		return
	}
	// To go through all keys after each change would take a new session of many keys
	// the square of their number.
	toStore := slices.ContainsFunc(changed, func(key string) bool {
		return !isReserved(key) && s.h.manager.Exists(s.scs, key)
	}) || len(s.Keys()) > 0
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !toStore:
		s.nextID = ""
	case s.nextID == "":
		s.nextID = newID()
	}
}

// apply makes an edit on the values that scs holds: of these keys alone, which is
// quicker, or of all.
func (s *Session) apply(e edit, keys ...string) {
	before := s.values(keys...)
	after := maps.Clone(before)
	e(after)
	for key := range before {
		if _, ok := after[key]; !ok {
			s.h.manager.Remove(s.scs, key)
		}
	}
	for key, value := range after {
		if old, ok := before[key]; !ok || !codec.Equal(old, value) {
			s.h.manager.Put(s.scs, key, value)
		}
	}
}

// Renew gives the session a new token and restarts its lifetime; do that at
// login and at every change of rights (OWASP ASVS 7.2.4), or a token that
// somebody knew before is good for what comes after. The session, its values
// and its ID stay.
func (s *Session) Renew() error {
	if err := s.beginChange(); err != nil {
		return err
	}
	defer s.changing.Unlock()
	if s.isClosed() {
		return errAfterHeader
	}
	defer s.markChanged()
	return s.renew()
}

// renew is Renew within a commit, too: what that does is no change for another one.
func (s *Session) renew() error {
	if err := s.h.manager.RenewToken(s.scs); err != nil {
		return err
	}
	s.detectRenewal(s.scs)
	if !s.isUnstored() {
		s.h.manager.Put(s.scs, csrfKey, newID()) // whoever knew the old one must not know this
	}
	if s.h.manager.GetBool(s.scs, rememberKey) {
		s.h.manager.SetDeadline(s.scs, time.Now().Add(s.h.remember).UTC())
	}
	return nil
}

// Destroy ends the session: all its tokens, and the cookie. What is stored
// afterwards begins a new one.
func (s *Session) Destroy() error {
	if err := s.beginChange(); err != nil {
		return err
	}
	defer s.changing.Unlock()
	if err := s.h.manager.Destroy(s.scs); err != nil {
		return err
	}
	s.mu.Lock()
	s.ending, s.edits, s.nextID = true, nil, ""
	s.committed = false
	s.mu.Unlock()
	return nil
}

// Remember gives the session the longer lifetime of remember_lifetime and a
// cookie that outlives the browser, or takes both back. One that is as asked for
// ends when it would have: Renew begins another lifetime.
func (s *Session) Remember(on bool) error {
	if err := s.Load(); err != nil {
		return err
	}
	already := s.h.manager.GetBool(s.scs, rememberKey)
	err := s.change(func(values map[string]any) {
		if on {
			values[rememberKey] = true
		} else {
			delete(values, rememberKey)
		}
	}, rememberKey)
	if err != nil || on == already {
		return err
	}
	lifetime := s.h.lifetime
	if on {
		lifetime = s.h.remember
	}
	s.h.manager.SetDeadline(s.scs, time.Now().Add(lifetime).UTC())
	s.markChanged()
	return nil
}
