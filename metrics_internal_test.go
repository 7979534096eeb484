package caddysession

import (
	"context"
	"errors"
	"testing"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

// What every request does for the metrics, traces and limits costs no memory.
func TestMetrics_allocateNothing(t *testing.T) {
	b := &backend{metrics: newStoreMetrics("allocations")}
	b.store = newBoundedStore(nil, b.metrics)
	s := &Session{h: &Handler{backend: b}, request: context.Background()}
	queue := &events{queue: make(chan event, 10_000)}
	b.listeners.add(queue)
	failure := errors.Join(rqlitestore.ErrGone)
	for name, do := range map[string]func(){
		"a load":            func() { b.metrics.countLoad(true, nil) },
		"a load that fails": func() { b.metrics.countLoad(false, failure) },
		"no session":        func() { b.metrics.loadNone.Inc() },
		"a new session":     func() { s.reportCreated("id", "alice") },
		"a save":            func() { s.reportSaved("id", "alice", false) },
		"a renewal":         func() { s.reportSaved("id", "alice", true) },
		"an end":            func() { s.reportDestroyed("id", "alice") },
		"a dropped change":  func() { s.late = false; s.countDropped(failure) },
		"a failure":         func() { b.metrics.countFailure(doingLoad, failure) },
		"no span":           func() { _, span := s.startSpan(s.request, "session.load"); endSpan(span, "", nil) },
		"a call":            func() { _ = b.store.begin(); b.store.end() },
		"a call too many":   func() { b.store.limit.Store(0); _ = b.store.begin(); b.store.limit.Store(1) },
		"no limit":          func() { _ = s.mayBegin() },
	} {
		t.Run(name, func(t *testing.T) {
			if n := testing.AllocsPerRun(1000, do); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}
