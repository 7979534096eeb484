package rqlitestore

import (
	"sync/atomic"
	"time"
)

// deadline is a time limit that calls share which begin at about the same
// moment: a timer for each of them costs as much as a tenth of a commit.
type deadline struct {
	after  time.Duration
	newest atomic.Pointer[sharedTimer]
}

type sharedTimer struct {
	until time.Time // it is for calls that begin before
	fired chan struct{}
}

// begin returns a channel that is closed when the time is up for a call that
// begins now, or up to a twentieth of it later.
func (d *deadline) begin() <-chan struct{} {
	now := time.Now()
	if t := d.newest.Load(); t != nil && now.Before(t.until) {
		return t.fired
	}
	slack := d.after / 20
	t := &sharedTimer{until: now.Add(slack), fired: make(chan struct{})}
	time.AfterFunc(d.after+slack, func() { close(t.fired) })
	d.newest.Store(t)
	return t.fired
}
