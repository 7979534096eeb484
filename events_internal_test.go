package caddysession

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/prometheus/client_golang/prometheus"
)

// When a config ends its subscribers hear what has happened, and none of them holds it
// up for long.
func TestEvents_atTheEnd(t *testing.T) {
	const told = 10
	for name, c := range map[string]struct {
		starts      bool
		hear        func(stuck <-chan struct{})
		heard, lost int
		takes       time.Duration
	}{
		"of a slow subscriber":         {true, func(<-chan struct{}) { <-time.After(time.Second / 100) }, told, 0, told * time.Second / 100},
		"of one that is stuck":         {true, func(stuck <-chan struct{}) { <-stuck }, 1, told - 1, 2 * eventsEndTime},
		"of a config that never began": {false, nil, 0, told, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
				defer cancel()
				e := &events{
					app: new(caddyevents.App), ctx: ctx, queue: make(chan event, maxEvents),
					ending: make(chan struct{}), ended: make(chan struct{}),
				}
				heard, lost, stuck := 0, new(lostEvents), make(chan struct{})
				if err := e.app.Provision(ctx); err != nil {
					t.Fatal(err)
				}
				if err := e.app.On(sessionCreated, hearing(func() { heard++; c.hear(stuck) })); err != nil {
					t.Fatal(err)
				}
				if c.starts {
					_ = e.Handle(ctx, caddy.Event{})
				}
				for range told {
					e.tell(event{name: sessionCreated, metrics: &storeMetrics{lostEvents: lost}})
				}
				began := time.Now()
				e.drain()
				e.end()
				if took := time.Since(began).Round(10 * time.Millisecond); took != c.takes {
					t.Errorf("it takes %v, want %v", took, c.takes)
				}
				close(stuck)
				synctest.Wait()
				if heard != c.heard || lost.n != c.lost {
					t.Errorf("of %d events %d are heard and %d lost, want %d and %d", told, heard, lost.n, c.heard, c.lost)
				}
			})
		})
	}
}

type hearing func()

func (h hearing) Handle(context.Context, caddy.Event) error {
	h()
	return nil
}

type lostEvents struct {
	prometheus.Counter
	n int
}

func (l *lostEvents) Inc() { l.n++ }
