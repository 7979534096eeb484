package rqlitestore_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/internal/rqlited"
	"github.com/caddy-session/caddy-session/rqlitestore"
	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
)

// Clients create, load, change, renew and destroy a few sessions all at once
// while the database fails in every way; then the history of each session is
// checked against the model.

var linearizableDuration = flag.Duration("linearizable.duration", 5*time.Second, "how long each history of the linearizability tests is recorded")

const (
	arenaClients = 8
	arenaSlots   = 3
	// A session is destroyed after so many updates, because short histories are
	// checked fast: where replies get lost, and where they do not.
	arenaUpdates       = 20
	arenaSteadyUpdates = 40
	arenaUnknown       = 2   // or after so many of which nobody knows: each doubles what there is to check, and more
	arenaCalls         = 300 // fewer prove nothing
)

// arena is the sessions that the clients fight for.
type arena struct {
	history
	stores  []*rqlitestore.RqliteStore
	timeout time.Duration // of one call
	updates int           // of one session, until it is destroyed

	names atomic.Int64
	mu    sync.Mutex
	slots [arenaSlots]struct{ now, before *contested }
}

// contested is one session and what the clients know of it.
type contested struct {
	id      string
	created time.Time

	mu      sync.Mutex
	tokens  []string
	updates int
	unknown int // updates of which nobody knows whether they were stored
}

func (c *contested) learn(token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.tokens, token) {
		c.tokens = append(c.tokens, token)
	}
}

// token is one of those that are known, most often a new one.
func (c *contested) token() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if rand.IntN(4) > 0 {
		return c.tokens[len(c.tokens)-1]
	}
	return c.tokens[rand.IntN(len(c.tokens))]
}

func (a *arena) name(prefix string) string { return fmt.Sprint(prefix, a.names.Add(1)) }

// run lets the clients work for a time, and longer where the machine is slow.
func (a *arena) run(d time.Duration) {
	a.begun = time.Now()
	var clients sync.WaitGroup
	for i := range arenaClients {
		clients.Go(func() {
			c := &client{arena: a, number: i, store: a.stores[i%len(a.stores)], known: map[string]rqlitestore.Record{}}
			for took := time.Duration(0); took < d || took < d+time.Minute && a.calls() < arenaCalls; took = time.Since(a.begun) {
				c.act()
			}
		})
	}
	clients.Wait()
}

// client makes one call after the other.
type client struct {
	*arena
	number int
	store  *rqlitestore.RqliteStore
	known  map[string]rqlitestore.Record // what it last loaded, by session
}

func (c *client) act() {
	slot := rand.IntN(arenaSlots)
	c.mu.Lock()
	s := c.slots[slot].now
	if before := c.slots[slot].before; before != nil && rand.IntN(8) == 0 {
		s = before // a session that has ended must stay so
	}
	c.mu.Unlock()
	if s == nil {
		c.create(slot)
		return
	}
	s.mu.Lock()
	worn := s.updates > c.arena.updates || s.unknown >= arenaUnknown
	s.mu.Unlock()
	switch n := rand.IntN(100); {
	case worn || n < 2:
		c.destroy(slot, s)
	case n < 45:
		c.load(s)
	case n < 85:
		c.update(s, "", false)
	case n < 90:
		c.update(s, c.name("token"), false)
	case n < 95:
		c.update(s, c.name("token"), true)
	default:
		ctx, cancel := c.context()
		defer cancel()
		_ = c.store.Touch(ctx, s.id, inAnHour()) // it changes nothing that the model knows
	}
}

func (c *client) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), c.timeout)
}

func (c *client) create(slot int) {
	s := &contested{id: c.name("id"), created: time.Now(), tokens: []string{c.name("token")}}
	in := asked{what: creates, id: s.id, token: s.tokens[0], tag: c.name("c") + "."}
	ctx, cancel := c.context()
	defer cancel()
	call := c.now()
	err := c.store.Create(ctx, rqlitestore.Record{Token: in.token, ID: s.id, Data: []byte(in.tag), Expiry: inAnHour()})
	if err != nil {
		return // if it was stored, nobody will ever learn its token
	}
	c.note(c.number, call, in, told{})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.slots[slot].now == nil {
		c.slots[slot].now = s
	}
}

func (c *client) load(s *contested) {
	in := asked{what: loads, id: s.id, token: s.token()}
	ctx, cancel := c.context()
	defer cancel()
	call := c.now()
	rec, found, err := c.store.Load(ctx, in.token)
	if err != nil {
		return
	}
	in.graceOver = time.Since(s.created) > rqlitestore.Grace-time.Second
	out := told{found: found}
	if found {
		out.seen = see(rec)
	}
	c.note(c.number, call, in, out)
	if found && rec.Superseded.IsZero() {
		c.known[s.id] = rec
		s.learn(rec.Token)
	}
}

// update adds a tag to what is stored, based on what the client last loaded,
// however old that is.
func (c *client) update(s *contested, token string, rotation bool) {
	base, ok := c.known[s.id]
	if !ok || rand.IntN(2) == 0 {
		c.load(s)
		if base, ok = c.known[s.id]; !ok {
			return
		}
	}
	in := asked{what: updates, id: s.id, token: token, rotation: rotation, tag: c.name("u") + ".", rights: base.Rights}
	ctx, cancel := c.context()
	defer cancel()
	call := c.now()
	rec, err := c.store.Update(ctx, base, func(cur rqlitestore.Record) (rqlitestore.Record, error) {
		cur.Data = slices.Concat(cur.Data, []byte(in.tag))
		if token != "" {
			cur.Token, cur.Alias, cur.AliasUntil = token, rotation, inAnHour()
		}
		return cur, nil
	})
	switch {
	case err == nil:
		// Updates that were stored together all get what they became together.
		c.note(c.number, call, in, told{})
		c.note(c.number, call, asked{what: returns, id: s.id}, told{seen: see(rec)})
		c.known[s.id] = rec
		s.learn(rec.Token)
		s.mu.Lock()
		s.updates++
		s.mu.Unlock()
	case errors.Is(err, rqlitestore.ErrGone):
		// It may have been stored before the session ended; nobody has to care.
		c.add(c.number, call, c.now(), in, told{unknown: true})
		c.note(c.number, call, asked{what: isGone, id: s.id}, told{})
		delete(c.known, s.id)
	case errors.Is(err, rqlitestore.ErrSuperseded):
		c.note(c.number, call, asked{what: isRenewed, id: s.id, rights: in.rights}, told{})
		delete(c.known, s.id)
	default:
		c.note(c.number, call, in, told{unknown: true})
		s.mu.Lock()
		s.unknown++
		s.mu.Unlock()
		if token != "" {
			s.learn(token)
		}
	}
}

func (c *client) destroy(slot int, s *contested) {
	ctx, cancel := c.context()
	defer cancel()
	call := c.now()
	err := c.store.Destroy(ctx, s.id)
	c.note(c.number, call, asked{what: destroys, id: s.id}, told{unknown: err != nil})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.slots[slot].now == s {
		c.slots[slot].now, c.slots[slot].before = nil, s
	}
}

// check judges what was recorded.
func (a *arena) check(t *testing.T) {
	t.Helper()
	t.Logf("%d calls: %s", len(a.ops), a.counts())
	if len(a.ops) < arenaCalls {
		t.Errorf("only %d calls were made: this proves nothing", len(a.ops))
	}
	if v := a.violation(t); v != "" {
		t.Errorf("no order of these calls explains what was seen:\n%s", v)
	}
}

// embeddedArena is two stores, as of two processes, on an embedded node behind
// what wrap does to their requests.
func embeddedArena(t *testing.T, wrap func(http.RoundTripper) http.RoundTripper) *arena {
	t.Helper()
	e := embeddedEnv(t)
	must(t, e.store(t).Prepare(t.Context()))
	a := &arena{timeout: time.Second, updates: arenaUpdates}
	for range 2 {
		a.stores = append(a.stores, e.store(t, wrap))
	}
	return a
}

func TestLinearizable_embedded(t *testing.T) {
	t.Parallel()
	var late chaos
	a := embeddedArena(t, late.wrap)
	a.run(*linearizableDuration)
	late.settle()
	a.check(t)
}

func TestLinearizable_threeNodes(t *testing.T) {
	t.Parallel()
	for _, fault := range []struct {
		name  string
		wreak func(t *testing.T, c *rqlited.Cluster, wait func(time.Duration))
	}{
		{"killed leader", func(t *testing.T, c *rqlited.Cluster, wait func(time.Duration)) {
			leader := c.Leader(t)
			leader.Kill()
			wait(2 * time.Second)
			leader.Restart(t)
		}},
		{"frozen leader", func(t *testing.T, c *rqlited.Cluster, wait func(time.Duration)) {
			leader := c.Leader(t)
			leader.Freeze(t)
			wait(3 * time.Second)
			leader.Thaw(t)
		}},
		{"stopped leader", func(t *testing.T, c *rqlited.Cluster, wait func(time.Duration)) {
			leader := c.Leader(t)
			leader.Stop()
			wait(time.Second)
			leader.Restart(t)
		}},
		{"frozen follower", func(t *testing.T, c *rqlited.Cluster, wait func(time.Duration)) {
			follower := c.Followers(t)[0]
			follower.Freeze(t)
			wait(2 * time.Second)
			follower.Thaw(t)
		}},
	} {
		t.Run(fault.name, func(t *testing.T) {
			c := rqlited.Start(t, 3)
			a := clusterArena(t, c)
			ctx, over := context.WithTimeout(t.Context(), *linearizableDuration)
			defer over()
			wait := func(d time.Duration) {
				select {
				case <-time.After(d):
				case <-ctx.Done():
				}
			}
			faults := 0
			var wreaking sync.WaitGroup
			wreaking.Go(func() {
				for wait(time.Second); ctx.Err() == nil; wait(2 * time.Second) {
					fault.wreak(t, c, wait)
					c.WaitReady(t)
					faults++
				}
			})
			a.run(*linearizableDuration)
			wreaking.Wait()
			t.Logf("%d times", faults)
			a.check(t)
		})
	}
}

// clusterArena is two stores, as of two processes, on a cluster.
func clusterArena(t *testing.T, c *rqlited.Cluster) *arena {
	t.Helper()
	a := &arena{timeout: 5 * time.Second, updates: arenaUpdates}
	for range 2 {
		tr, err := cluster.New(cluster.Config{Nodes: c.URLs()})
		must(t, err)
		t.Cleanup(tr.Close)
		tr.Start()
		conn, err := tr.Connection()
		must(t, err)
		a.stores = append(a.stores, rqlitestore.NewWithOptions(conn, rqlitestore.Options{}))
	}
	must(t, a.stores[0].Prepare(t.Context()))
	return a
}
