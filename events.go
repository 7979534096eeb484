package caddysession

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"
)

// The events of Caddy's events app.
const (
	sessionCreated   = "session_created"
	sessionRenewed   = "session_renewed"
	sessionDestroyed = "session_destroyed"
	storeUnavailable = "session_store_unavailable"
)

const (
	maxEvents     = 1024            // that wait for slow subscribers
	eventsEndTime = 2 * time.Second // that subscribers have at the end of a config
)

// event is what subscribers are told. It carries no token.
type event struct {
	name      string
	metrics   *storeMetrics // of the store that it is about
	id        string        // the session's public id
	principal string
	others    bool // all sessions of the principal but that with the id have ended
}

// data is what {event.data.*} shows.
func (e *event) data() map[string]any {
	data := map[string]any{"store": e.metrics.store}
	if e.others {
		data["all_but"] = e.id
	} else if e.id != "" {
		data["session_id"] = e.id
	}
	if e.principal != "" {
		data["principal"] = e.principal
	}
	return data
}

// events hands events to the subscribers of one config, one after the other and
// off the path of requests. When too many wait the newest are lost.
type events struct {
	app   *caddyevents.App
	ctx   caddy.Context
	queue chan event

	pending atomic.Int64 // queued or with a subscriber
	start   sync.Once
	started atomic.Bool
	ending  chan struct{} // closed when nothing is handed on any more
	ended   chan struct{} // closed when the last subscriber has returned
}

// newEvents makes the queue of a config. Events are handed on when Caddy says
// that the config has started: not before have all subscribers been heard.
func newEvents(ctx caddy.Context) (*events, error) {
	module, err := ctx.App("events")
	if err != nil {
		return nil, fmt.Errorf("the events app: %w", err)
	}
	e := &events{
		app: module.(*caddyevents.App), ctx: ctx, queue: make(chan event, maxEvents),
		ending: make(chan struct{}), ended: make(chan struct{}),
	}
	if err := e.app.On("started", e); err != nil {
		return nil, err
	}
	return e, nil
}

// Handle implements caddyevents.Handler.
func (e *events) Handle(context.Context, caddy.Event) error {
	e.start.Do(func() {
		e.started.Store(true)
		go e.run()
	})
	return nil
}

func (e *events) run() {
	defer close(e.ended)
	for {
		select {
		case next := <-e.queue:
			e.hand(next)
		case <-e.ending:
			return
		}
	}
}

// hand gives an event to its subscribers. One that panics is logged: elsewhere in
// Caddy a request would end by it, here all of Caddy would.
func (e *events) hand(next event) {
	defer e.pending.Add(-1)
	defer func() {
		if p := recover(); p != nil {
			e.ctx.Logger().Error("a subscriber panicked", zap.String("event", next.name), zap.Any("panic", p), zap.StackSkip("stack", 1))
		}
	}()
	e.app.Emit(e.ctx, next.name, next.data())
}

// drain waits until the subscribers have what happened so far, but not for long.
func (e *events) drain() {
	deadline := time.After(eventsEndTime)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for e.started.Load() && e.pending.Load() > 0 {
		select {
		case <-deadline:
			return
		case <-tick.C:
		}
	}
}

// end stops the queue and waits for a subscriber that is at work, but not for
// long. What was still queued is lost.
func (e *events) end() {
	close(e.ending)
	e.start.Do(func() { close(e.ended) }) // it never ran
	select {
	case <-e.ended:
	case <-time.After(eventsEndTime):
	}
	for {
		select {
		case lost := <-e.queue: // unless that subscriber is back and takes it
			lost.metrics.lostEvents.Inc()
		default:
			return
		}
	}
}

// tell queues an event without waiting.
func (e *events) tell(next event) {
	e.pending.Add(1)
	select {
	case e.queue <- next:
	default:
		e.pending.Add(-1)
		next.metrics.lostEvents.Inc()
	}
}

// listeners are the queues of the configs that use a store: the newest is told.
// During a reload there are two, and when the new config fails the old goes on.
type listeners struct {
	mu  sync.RWMutex
	all []*events
}

func (l *listeners) add(e *events) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, e)
}

func (l *listeners) remove(e *events) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = slices.DeleteFunc(l.all, func(other *events) bool { return other == e })
}

// tell hands an event to the newest config. Of a store that this has no longer it is
// told what requests of earlier ones do, but not how that store is.
func (b *backend) tell(next event) {
	next.metrics = b.metrics
	b.listeners.mu.RLock()
	defer b.listeners.mu.RUnlock()
	if n := len(b.listeners.all); n > 0 {
		b.listeners.all[n-1].tell(next)
	} else if next.name != storeUnavailable {
		tellRunning(next)
	}
}

// tellRunning hands an event to the config that is running.
func tellRunning(next event) {
	running.mu.Lock()
	defer running.mu.Unlock()
	if n := len(running.apps); n > 0 {
		running.apps[n-1].events.tell(next)
	}
}

// reportCreated counts a session that was stored for the first time, and tells of it.
func (s *Session) reportCreated(id, principal string) {
	s.h.backend.metrics.created.Inc()
	s.h.backend.tell(event{name: sessionCreated, id: id, principal: principal})
}

// reportSaved counts a change that was stored, and tells of it if it was a renewal.
func (s *Session) reportSaved(id, principal string, renewal bool) {
	s.h.backend.metrics.saves.Inc()
	switch {
	case !renewal:
	case s.isRotation():
		s.h.backend.metrics.rotations.Inc()
	default:
		s.h.backend.metrics.renewals.Inc()
		s.h.backend.tell(event{name: sessionRenewed, id: id, principal: principal})
	}
}

// reportDestroyed counts a session that a request ended, and tells of it.
func (s *Session) reportDestroyed(id, principal string) {
	s.h.backend.metrics.destroyed.Inc()
	s.h.backend.tell(event{name: sessionDestroyed, id: id, principal: principal})
}

// reportOthersDestroyed tells that a principal has no session any more but that with the id.
func (s *Session) reportOthersDestroyed(id, principal string) {
	s.h.backend.tell(event{name: sessionDestroyed, id: id, principal: principal, others: true})
}

var _ caddyevents.Handler = (*events)(nil)
