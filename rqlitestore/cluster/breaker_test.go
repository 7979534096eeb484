package cluster_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
)

func TestTransport_hedgesWhatMayBeRepeated(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"read": query, "marked write": execute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			silent := newFake(t, leading())
			silent.behave(conduct{request: silent.hang, probe: ok})
			other := newFake(t, following(silent.URL))
			tr := open(t, cluster.Config{}, silent, other)
			begun := time.Now()
			mustSend(t, repeatable(t), tr, path)
			if took := time.Since(begun); took < 100*time.Millisecond || took > 8*time.Second {
				t.Errorf("answered after %s, want about 100 ms", took)
			}
		})
	}
}

func TestTransport_doesNotHedgeOtherWrites(t *testing.T) {
	t.Parallel()
	silent := newFake(t, leading())
	silent.behave(conduct{request: silent.hang, probe: ok})
	other := newFake(t, following(silent.URL))
	tr := open(t, cluster.Config{Timeout: 400 * time.Millisecond}, silent, other)
	_, _, err := send(t, t.Context(), tr, execute)
	a, b := len(silent.requests()), len(other.requests())
	if a > 0 && (err == nil || b > 0) { // a == 0: the connection took too long, which is no hedge
		t.Errorf("error %v, the other node got %d requests", err, b)
	}
}

func TestTransport_hedgesOnlySomeOfTheLoad(t *testing.T) {
	t.Parallel()
	slow := newFake(t, leading())
	slow.behave(conduct{probe: ok, request: func(w http.ResponseWriter, r *http.Request) {
		select { // a cluster that is merely slow
		case <-time.After(250 * time.Millisecond):
		case <-r.Context().Done():
		}
		ok(w, r)
	}})
	other := newFake(t, following(slow.URL))
	tr := open(t, cluster.Config{}, slow, other)
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() { mustSend(t, t.Context(), tr, query) })
	}
	all.Wait()
	if n := len(other.requests()); n > 45 {
		t.Errorf("%d of 100 requests were sent twice", n)
	}
}

// A request is no storm: not every node gets it because one is slow.
func TestTransport_hedgesARequestTwiceAtMost(t *testing.T) {
	t.Parallel()
	var nodes []*fake
	sent := func() (n int) {
		for _, f := range nodes {
			n += len(f.requests())
		}
		return n
	}
	for i := range 6 {
		f := newFake(t, leading())
		f.behave(conduct{request: f.hang, probe: ok})
		if i > 0 {
			f.behave(conduct{request: f.hang, probe: follows(nodes[0].URL)})
		}
		nodes = append(nodes, f)
	}
	tr := open(t, cluster.Config{}, nodes...)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, _, err := send(t, ctx, tr, query); err == nil {
		t.Error("answered")
	}
	if n := sent(); n > 3 {
		t.Errorf("the request was sent to %d nodes", n)
	}
}

// Nodes that all take their time are not asked twice each time.
func TestTransport_learnsHowLongAnswersTake(t *testing.T) {
	t.Parallel()
	slowly := func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(200 * time.Millisecond):
		case <-r.Context().Done():
		}
		ok(w, r)
	}
	leader := newFake(t, conduct{request: slowly, probe: ok})
	follower := newFake(t, conduct{request: slowly, probe: follows(leader.URL)})
	var hedged counter
	tr := open(t, cluster.Config{Observe: hedged.observe}, leader, follower)
	const requests = 10
	for range requests {
		mustSend(t, t.Context(), tr, query)
	}
	if n := hedged.count(); n > 7 { // not only the first one, on a busy machine
		t.Errorf("%d of %d requests were sent twice", n, requests)
	}
}

// A node that is in touch with no leader is no help.
func TestTransport_hedgesAtANodeThatKnowsTheLeader(t *testing.T) {
	t.Parallel()
	leader := newFake(t, leading())
	leader.behave(conduct{request: leader.hang, probe: ok})
	var probed atomic.Int32
	astray := newFake(t, conduct{probe: says(http.StatusServiceUnavailable, "leader not found\n"), request: ok})
	follower := newFake(t, conduct{request: ok, probe: func(w http.ResponseWriter, r *http.Request) {
		probed.Add(1)
		follows(leader.URL)(w, r)
	}})
	var seen witness
	tr := open(t, cluster.Config{Observe: seen.observe}, leader, astray, follower)
	tr.Start()
	eventually(t, "every node is known", func() bool {
		all := tr.Nodes()
		return all[0].Leader && all[1].LastError != "" && probed.Load() > 1 // so the first has been answered
	})
	if lost := seen.told(cluster.LeaderLost); lost != nil {
		t.Errorf("what the other says of itself counts for %v", lost)
	}
	mustSend(t, t.Context(), tr, query)
	if n := len(astray.requests()); n >= len(seen.told(cluster.Hedged)) { // a second one may be, on a busy machine
		t.Errorf("the node without a leader got the request %d times", n)
	}
}

// What is being waited for in vain follows the leader that turns up.
func TestTransport_asksTheNewLeader_whileOthersHang(t *testing.T) {
	t.Parallel()
	leader, next := newFake(t, leading()), newFake(t, leading())
	a, b := newFake(t, leading()), newFake(t, leading())
	for _, f := range []*fake{a, b} {
		f.behave(conduct{request: f.hang, probe: follows(leader.URL)})
	}
	leader.behave(conduct{request: leader.hang, probe: ok, alive: leader.hang})
	next.behave(following(leader.URL))
	tr := open(t, cluster.Config{Timeout: time.Minute}, leader, a, b, next)
	done := sending(t, t.Context(), tr, query)
	// Whoever forwards waits for the leader as well.
	eventually(t, "two others were asked", func() bool { return len(a.requests())+len(b.requests()) == 2 })
	leader.behave(conduct{request: leader.hang, alive: leader.hang})
	next.behave(leading())
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A request that comes to nothing again and again is sent less and less often.
func TestTransport_leavesTheClusterTime(t *testing.T) {
	t.Parallel()
	f := newFake(t, answering(cutOff))
	tr := open(t, cluster.Config{}, f)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, _, err := send(t, ctx, tr, query); err == nil {
		t.Error("answered")
	}
	if n := len(f.requests()); n > 20 {
		t.Errorf("the request was sent %d times within two seconds", n)
	}
}

// A node that takes connections and drops them, as what is before one that is down
// may do, is found out by requests.
func TestTransport_leavesALeaderThatDropsConnections(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{"drops": cutOff, "garbles": says(http.StatusOK, "<html>")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newFake(t, leading())
			b := newFake(t, following(a.URL))
			tr := open(t, cluster.Config{}, a, b) // not started: nobody else looks
			mustSend(t, t.Context(), tr, query)
			a.behave(conduct{request: answer, alive: answer})
			b.behave(leading())
			mustSend(t, repeatable(t), tr, execute)
			eventually(t, "the new leader is found", func() bool { return leaderOf(tr) == b.URL })
		})
	}
}

func TestTransport_frozenLeaderCostsOneSlowRequest(t *testing.T) {
	t.Parallel()
	a := newFake(t, leading())
	b := newFake(t, following(a.URL))
	var mu sync.Mutex
	var kinds []cluster.EventKind
	tr := open(t, cluster.Config{Observe: func(e cluster.Event) {
		mu.Lock()
		defer mu.Unlock()
		kinds = append(kinds, e.Kind)
	}}, a, b)
	mustSend(t, t.Context(), tr, query)
	a.behave(conduct{request: a.hang, alive: a.hang})
	// An answer from before that arrives late speaks for the node, so one slow
	// request may not be enough here. Until the breaker opens nobody else leads:
	// a stray question must not lead away from the frozen node.
	eventually(t, "the breaker opens", func() bool {
		mustSend(t, t.Context(), tr, query)
		return tr.Nodes()[0].State != cluster.Closed
	})
	b.behave(leading())
	eventually(t, "the new leader is found", func() bool { return tr.Nodes()[1].Leader })
	asked := len(a.requests())
	for range 50 {
		mustSend(t, t.Context(), tr, query)
		mustSend(t, t.Context(), tr, execute)
	}
	if n := len(a.requests()) - asked; n > 0 {
		t.Errorf("%d of 100 requests went to the frozen node", n)
	}
	if s := tr.Nodes()[0]; s.LastError == "" || s.Since.IsZero() {
		t.Errorf("status %+v", s)
	}
	a.behave(following(b.URL))
	eventually(t, "the breaker closes without a request", func() bool { return tr.Nodes()[0].State == cluster.Closed })
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []cluster.EventKind{cluster.LeaderFound, cluster.LeaderLost, cluster.BreakerOpened, cluster.BreakerClosed, cluster.Hedged} {
		found := false
		for _, k := range kinds {
			found = found || k == want
		}
		if !found {
			t.Errorf("no event %s in %v", want, kinds)
		}
	}
}

// A request that has less time than it takes to suspect a node finds out, too, that it hangs.
func TestTransport_noticesAFrozenNodeByAShortRequest(t *testing.T) {
	t.Parallel()
	f := newFake(t, leading())
	tr := open(t, cluster.Config{}, f)
	mustSend(t, t.Context(), tr, query)
	f.behave(conduct{request: f.hang, alive: f.hang})
	eventually(t, "the breaker opens", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond) // on a busy machine not even enough to ask
		defer cancel()
		if _, _, err := send(t, ctx, tr, query); err == nil {
			t.Error("answered")
		}
		return tr.Nodes()[0].State != cluster.Closed
	})
}

// A node that is too busy to show that it is alive, but answers others meanwhile, is
// not shut out: that would make it worse.
func TestTransport_goesOnWithABusyNode(t *testing.T) {
	t.Parallel()
	var checks atomic.Int32
	f := newFake(t, leading())
	busy := conduct{
		probe: ok,
		alive: func(_ http.ResponseWriter, r *http.Request) {
			checks.Add(1)
			<-r.Context().Done()
		},
		request: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == execute {
				cutOff(w, r) // whereupon it is checked
			}
			ok(w, r)
		},
	}
	tr := open(t, cluster.Config{}, f)
	mustSend(t, t.Context(), tr, query)
	f.behave(busy)
	// On a machine that gives the test no time at all no other is answered meanwhile.
	eventually(t, "a check that came to nothing shuts nobody out", func() bool {
		if tr.Nodes()[0].State != cluster.Closed {
			f.behave(leading())
			eventually(t, "the node is back", func() bool { return tr.Nodes()[0].State == cluster.Closed })
			f.behave(busy)
		}
		for before := checks.Load(); checks.Load() < before+2 && tr.Nodes()[0].State == cluster.Closed; {
			_, _, _ = send(t, t.Context(), tr, execute)
			_, _, _ = send(t, t.Context(), tr, query)
		}
		return tr.Nodes()[0].State == cluster.Closed
	})
}

// A connection that breaks says nothing of the node: it answers over the next one.
func TestTransport_goesOnAfterAReset(t *testing.T) {
	t.Parallel()
	reset := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
	var seen witness
	tr := open(t, cluster.Config{Observe: seen.observe}, newFake(t, answering(once(reset, ok))))
	mustSend(t, t.Context(), tr, query)
	if opened := seen.told(cluster.BreakerOpened); opened != nil {
		t.Errorf("the breaker of %v opened", opened)
	}
}

func TestTransport_failsSoonInALongOutage(t *testing.T) {
	t.Parallel()
	tr := open(t, cluster.Config{Observe: func(e cluster.Event) {
		if e.Kind == cluster.BreakerClosed {
			t.Errorf("%s counts as back", e.Node)
		}
	}}, newFake(t, dropping()), newFake(t, dropping()))
	tr.Start()
	eventually(t, "the node is down", func() bool { return tr.Nodes()[0].State != cluster.Closed })
	since := tr.Nodes()[0].Since
	if _, _, err := send(t, t.Context(), tr, query); err == nil {
		t.Fatal("answered")
	}
	eventually(t, "requests fail soon", func() bool {
		begun := time.Now()
		_, _, err := send(t, t.Context(), tr, query)
		return err != nil && time.Since(begun) < time.Second
	})
	if now := tr.Nodes()[0].Since; !now.Equal(since) {
		t.Errorf("the outage began at %s, later at %s", since, now)
	}
}

// One leader after the other gives up before it has answered anything, as where the
// disks of all nodes are full. That is one outage.
func TestTransport_failsSoon_whenLeadersComeAndGo(t *testing.T) {
	t.Parallel()
	for name, node := range map[string]conduct{
		"found by us":    answering(says(http.StatusOK, `{"results":[],"error":"leadership lost while committing log"}`)),
		"none after all": {probe: follows("http://10.255.255.1:4001"), request: says(http.StatusServiceUnavailable, "leader not found\n")},
		"known to them":  {probe: follows("http://10.255.255.1:4001"), request: says(http.StatusOK, `{"results":[],"error":"not leader"}`)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, node)
			tr := open(t, cluster.Config{}, newFake(t, dropping()), f)
			tr.Start()
			eventually(t, "a request fails before its time is over", func() bool {
				_, _, err := send(t, repeatable(t), tr, execute)
				return err != nil && !errors.Is(err, context.DeadlineExceeded)
			})
			f.behave(leading())
			eventually(t, "a request is answered", func() bool {
				_, _, err := send(t, t.Context(), tr, query)
				return err == nil
			})
			// The outage is over: what comes to nothing some times in a row goes on.
			var sent atomic.Int32
			f.behave(answering(func(w http.ResponseWriter, r *http.Request) {
				if sent.Add(1) <= 10 {
					cutOff(w, r)
				}
				ok(w, r)
			}))
			mustSend(t, repeatable(t), tr, execute)
			waitsForTheNextLeader(t, tr, f)
		})
	}
}

// A request that found no leader is no outage that goes on until the next request.
func TestTransport_waitsForALeader_longAfterARequestFailed(t *testing.T) {
	t.Parallel()
	f := newFake(t, answering(says(http.StatusOK, `{"results":[],"error":"leadership lost while committing log"}`)))
	tr := open(t, cluster.Config{}, newFake(t, dropping()), f)
	tr.Start()
	if _, _, err := send(t, t.Context(), tr, execute); err == nil {
		t.Fatal("answered")
	}
	eventually(t, "the leader is found again", func() bool { return leaderOf(tr) == f.URL })
	found := time.Now()
	eventually(t, "time has passed", func() bool { return time.Since(found) > 6*time.Second })
	waitsForTheNextLeader(t, tr, f)
}

// waitsForTheNextLeader has a request come when there is none at f, as in an
// election, and checks that it is answered when there is one.
func waitsForTheNextLeader(t *testing.T, tr *cluster.Transport, f *fake) {
	t.Helper()
	var searched atomic.Int32
	f.behave(conduct{request: func(w http.ResponseWriter, r *http.Request) {
		if searched.Add(1) == 6 { // so a while after the request has come
			f.behave(leading())
		}
		says(http.StatusServiceUnavailable, "leader not found\n")(w, r)
	}})
	mustSend(t, t.Context(), tr, query)
}

func TestTransport_deposedLeaderDoesNotHoldAWriteUp(t *testing.T) {
	t.Parallel()
	a := newFake(t, leading())
	b := newFake(t, following(a.URL))
	tr := open(t, cluster.Config{Timeout: 10 * time.Second}, a, b)
	mustSend(t, t.Context(), tr, execute)
	var asked atomic.Int32
	a.behave(conduct{alive: a.hang, request: func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		a.hang(w, r)
	}})
	b.behave(leading())
	begun := time.Now()
	if _, _, err := send(t, t.Context(), tr, execute); err == nil {
		t.Error("answered")
	}
	if took := time.Since(begun); took > 8*time.Second {
		t.Errorf("the write waited %s for a node that another one has replaced", took)
	}
	if n := len(b.requests()); n > 0 {
		t.Errorf("the new leader got the write as well, %d times", n)
	}
	mustSend(t, t.Context(), tr, execute)
}

// goesOnWithItsConnections has many requests come when there is one connection, and
// no other can be made after breakDials: all are answered, over that one, and no
// breaker opens, which would close it.
func goesOnWithItsConnections(t *testing.T, leader *fake, nodes []string, breakDials func()) {
	t.Helper()
	failed := make(chan struct{})
	var once sync.Once
	tr := open(t, cluster.Config{Nodes: nodes, Observe: func(e cluster.Event) {
		switch e.Kind {
		case cluster.BreakerOpened:
			t.Errorf("the breaker opened: %v", e.Err)
		case cluster.Retried:
			once.Do(func() { close(failed) })
		}
	}})
	mustSend(t, t.Context(), tr, query)
	leader.behave(conduct{probe: ok, request: func(w http.ResponseWriter, _ *http.Request) {
		<-failed
		ok(w, nil)
	}})
	breakDials()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if status, body, err := send(t, t.Context(), tr, query); err != nil || body != okBody {
				t.Errorf("status %d, body %q, error %v: want an ok", status, body, err)
			}
		})
	}
	all.Wait()
}
