package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/internal/idempotent"
	"github.com/caddy-session/caddy-session/rqlitestore/internal/prepared"
	"github.com/caddy-session/caddy-session/rqlitestore/internal/trouble"
)

// call is one request on its way through the cluster: the attempts at nodes
// that it takes until one of them answers.
type call struct {
	t       *Transport
	q       *question
	anyNode bool // a read at level none: every node answers it alike
	begun   time.Time

	outcomes chan outcome
	inFlight []flight
	hedged   int
	failed   int             // attempts
	pause    time.Time       // no new attempt before
	reasons  map[*node]error // why it did not answer, newest
	useless  map[*node]bool  // its answer to this request was no good, asking again is pointless
}

// flight is an attempt under way.
type flight struct {
	n    *node
	mode mode
}

// outcome is how an attempt ended.
type outcome struct {
	flight
	reply
	took time.Duration
}

// mostInFlight bounds the attempts of one request that are under way together:
// the first, a hedge, and one at a leader that turned up meanwhile.
const mostInFlight = 4

// begin makes the first attempt, on the caller's own goroutine: most requests
// need no more, and handing each over to another one takes a tenth of the time
// that rqlite takes to answer. What comes after it is up to run, which also
// takes over, beside the attempt, as soon as that has lasted unusually long.
func (c *call) begin(ctx context.Context) (*http.Response, error) {
	n, m := c.next(c.t.view.Load())
	if n == nil {
		return c.run(ctx, time.Time{})
	}
	f := flight{n, m}
	c.inFlight = append(c.inFlight, f)
	attempt, cancel := context.WithTimeout(ctx, c.t.cfg.Timeout)
	defer cancel()
	type result struct {
		res *http.Response
		err error
	}
	ended := make(chan result, 1)
	takeover := time.AfterFunc(c.t.hedgeDelay(), func() {
		res, err := c.run(ctx, time.Now())
		ended <- result{res, err}
		cancel()
	})
	o := outcome{f, c.t.put(attempt, c.q, n, m), time.Since(c.begun)}
	if !takeover.Stop() {
		c.outcomes <- o // there is always room for it
		r := <-ended
		return r.res, r.err
	}
	if res, err, done := c.settle(ctx, o); done {
		return res, err
	}
	return c.run(ctx, time.Time{})
}

// run makes attempts until one is answered or there is nothing left to try.
// hedgeAt is when those under way have lasted unusually long.
func (c *call) run(ctx context.Context, hedgeAt time.Time) (*http.Response, error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		v := c.t.view.Load()
		n, m := c.next(v)
		switch {
		case len(c.inFlight) == 0 && (n == nil || c.failed > 0 && c.t.inVain(v)) && c.hopeless(v):
			return nil, c.failure(errNoNode)
		case n != nil:
			c.launch(ctx, n, m)
			hedgeAt = time.Now().Add(c.t.hedgeDelay())
		}
		if c.superseded(v) {
			return nil, c.failure(errOutcomeUnknown)
		}
		trouble.Tell(ctx, func() error { return c.failure(errNoAnswer) })
		timer.Reset(c.sleep(v, hedgeAt))
		select {
		case o := <-c.outcomes:
			if res, err, done := c.settle(ctx, o); done {
				return res, err
			}
		case <-timer.C:
			if len(c.inFlight) > 0 {
				c.hedge(ctx)
				hedgeAt = time.Now().Add(c.t.hedgeDelay())
			}
		case <-v.changed:
		case <-ctx.Done():
			return nil, c.leave(ctx)
		case <-c.t.ctx.Done():
			return nil, ErrClosed
		}
	}
}

// bounded ends with the call, at the latest at the deadline of the request.
func (c *call) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, c.begun.Add(c.t.cfg.budget()))
}

// next chooses the node to send to now, or none.
func (c *call) next(v *view) (*node, mode) {
	if len(c.inFlight) > 0 {
		// What may be repeated follows a leader that turned up meanwhile.
		if !c.q.delicate && !c.anyNode && c.usable(v.leader) && len(c.inFlight) < mostInFlight && !c.pausing() {
			return v.leader, direct
		}
		return nil, 0
	}
	switch {
	case c.pausing():
		return nil, 0
	case c.anyNode:
		return c.another(roleUnknown), local
	case c.usable(v.leader):
		return v.leader, direct
	case v.outOfReach, v.leader != nil && c.useless[v.leader]:
		return c.another(roleFollower), forward
	}
	c.t.kick()
	return nil, 0
}

func (c *call) pausing() bool { return c.failed > 1 && time.Now().Before(c.pause) }

// usable reports whether this call may be sent to n.
func (c *call) usable(n *node) bool {
	return n != nil && n.closed.Load() && !c.useless[n] && !c.flying(n)
}

func (c *call) flying(n *node) bool {
	return slices.ContainsFunc(c.inFlight, func(f flight) bool { return f.n == n })
}

// another returns a node that this call may be sent to, one in the wanted role
// if possible, beginning with the one that last answered so. One of another
// cluster will not do, which one that leads is where a follower is wanted.
func (c *call) another(wanted role) *node {
	nodes := c.t.nodes
	first := int(c.t.turn.Load())
	var found *node
	for i := range nodes {
		n := nodes[(first+i)%len(nodes)]
		if !c.usable(n) || n.followsElsewhere() != "" {
			continue
		}
		switch said := n.lastWord(time.Time{}); {
		case wanted == roleFollower && said == roleLeader:
		case wanted == roleUnknown || said == wanted:
			return n
		case found == nil:
			found = n
		}
	}
	return found
}

// launch begins an attempt.
func (c *call) launch(ctx context.Context, n *node, m mode) {
	f := flight{n, m}
	c.inFlight = append(c.inFlight, f)
	go func() {
		begun := time.Now()
		attempt, cancel := context.WithTimeout(ctx, c.t.cfg.Timeout)
		defer cancel()
		r := c.t.put(attempt, c.q, n, m)
		select {
		case c.outcomes <- outcome{f, r, time.Since(begun)}:
		case <-ctx.Done():
		}
	}()
}

// hedge is called when the nodes asked are slow to answer. It finds out whether
// they are alive and asks another one, if the request allows it.
func (c *call) hedge(ctx context.Context) {
	for _, f := range c.inFlight {
		c.t.check(f.n)
	}
	if c.q.delicate || c.hedged >= 2 || len(c.inFlight) >= mostInFlight {
		return
	}
	wanted, m := roleFollower, forward
	if c.anyNode {
		wanted, m = roleUnknown, local
	}
	n := c.another(wanted)
	if n == nil || !c.t.hedges.spend() {
		return
	}
	c.hedged++
	c.t.observe(Hedged, n, nil)
	c.launch(ctx, n, m)
}

// settle takes in how an attempt ended. done means that the call has ended too.
func (c *call) settle(ctx context.Context, o outcome) (res *http.Response, err error, done bool) {
	if o.verdict != answered && ctx.Err() != nil {
		return nil, c.leave(ctx), true // it failed because of that
	}
	c.inFlight = slices.DeleteFunc(c.inFlight, func(f flight) bool { return f == o.flight })
	if o.verdict == answered && o.reason == errNoTable && o.mode != local && prepared.Is(ctx) && c.t.mayHaveLostData() {
		o.verdict = emptied
	}
	c.t.learn(o)
	refused := o.reason == errRefused && len(c.inFlight) > 0 // by one node, while others may yet answer
	if o.verdict == answered && !refused {
		return o.response, nil, true
	}
	if c.reasons == nil {
		c.reasons = make(map[*node]error)
		c.useless = make(map[*node]bool)
	}
	c.reasons[o.n] = o.reason
	if o.verdict == garbled || refused {
		c.useless[o.n] = true
	}
	switch {
	case !o.verdict.unknown():
		idempotent.NotApplied(ctx)
	case c.q.delicate:
		return nil, c.failure(errOutcomeUnknown), true
	}
	c.failed++
	// The first repetition is at once, later ones leave the cluster time.
	pause := 10 * time.Millisecond << min(c.failed, 5)
	c.pause = time.Now().Add(pause/2 + rand.N(pause/2))
	c.t.observe(Retried, o.n, o.reason)
	return nil, nil, false
}

// leave ends the call because its context has ended. A node that was silent
// until the deadline may be down, also when it was given too little time to
// show it.
func (c *call) leave(ctx context.Context) error {
	if len(c.inFlight) == 0 {
		return c.failure(fmt.Errorf("%w: %w", errNoNode, ctx.Err()))
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		for _, f := range c.inFlight {
			c.t.check(f.n)
		}
	}
	return c.failure(ctx.Err())
}

// superseded reports whether waiting for an attempt has become pointless: a
// write that must not be repeated hangs at a node, and another one leads now.
func (c *call) superseded(v *view) bool {
	return c.q.delicate && len(c.inFlight) > 0 && c.inFlight[0].mode == direct &&
		v.leader != nil && v.leader != c.inFlight[0].n
}

// sleep is how long to wait for something to happen.
func (c *call) sleep(v *view, hedgeAt time.Time) time.Duration {
	if len(c.inFlight) > 0 {
		return time.Until(hedgeAt)
	}
	if c.pausing() {
		return time.Until(c.pause)
	}
	return time.Until(c.givingUpAt(v))
}
