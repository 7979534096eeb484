package cluster_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
)

func TestTransport_sendsToTheLeader(t *testing.T) {
	t.Parallel()
	leader := newFake(t, leading())
	a, b := newFake(t, following(leader.URL)), newFake(t, following(leader.URL))
	var hedged counter
	tr := open(t, cluster.Config{Observe: hedged.observe}, a, leader, b)
	for range 20 {
		mustSend(t, t.Context(), tr, execute)
		mustSend(t, t.Context(), tr, query)
	}
	if n := len(a.requests()) + len(b.requests()); n > hedged.count() {
		t.Errorf("%d requests went to followers", n)
	}
	for _, r := range leader.requests() {
		if r.query != "timings&level=linearizable&transaction&redirect" {
			t.Fatalf("arrived with the query %s", r.query)
		}
		if r.host != leader.host() { // which one before several nodes may go by
			t.Fatalf("arrived for the host %s", r.host)
		}
	}
	for i, n := range tr.Nodes() {
		if n.Leader != (i == 1) || n.State != cluster.Closed {
			t.Errorf("node %d: %+v", i, n)
		}
	}
}

func TestTransport_followsTheLeader(t *testing.T) {
	t.Parallel()
	for name, addressed := range map[string]bool{"by its address": true, "behind a NAT": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newFake(t, leading())
			b := newFake(t, leading())
			elsewhere := "http://10.255.255.1:4001"
			if addressed {
				elsewhere = a.URL
			}
			b.behave(following(elsewhere))
			tr := open(t, cluster.Config{}, a, b)
			mustSend(t, t.Context(), tr, execute)
			if addressed {
				elsewhere = b.URL
			}
			a.behave(following(elsewhere))
			b.behave(leading())
			mustSend(t, t.Context(), tr, execute)
			mustSend(t, t.Context(), tr, execute)
			if n := len(b.requests()); n != 2 {
				t.Errorf("the new leader got %d of 2 requests", n)
			}
			for _, r := range append(a.requests(), b.requests()...) {
				if !strings.Contains(r.query, "redirect") {
					t.Errorf("a node was asked to forward: %s", r.query)
				}
			}
		})
	}
}

func TestTransport_takesTheNewLeadersAddressFromTheOld(t *testing.T) {
	t.Parallel()
	a, b := newFake(t, leading()), newFake(t, leading())
	b.behave(following(a.URL))
	tr := open(t, cluster.Config{}, a, b)
	mustSend(t, t.Context(), tr, execute)
	// No search gets an answer from here on.
	a.behave(conduct{request: follows(b.URL), probe: a.hang})
	b.behave(conduct{request: ok, probe: b.hang})
	mustSend(t, t.Context(), tr, execute)
}

func TestTransport_reusesConnections(t *testing.T) {
	t.Parallel()
	f := newUnstartedFake(t, leading())
	var made atomic.Int32
	f.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			made.Add(1)
		}
	}
	f.Start()
	tr := open(t, cluster.Config{}, f)
	const workers = 32
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for range 20 {
				mustSend(t, repeatable(t), tr, execute)
			}
		})
	}
	all.Wait()
	if n := made.Load(); n > 2*workers {
		t.Errorf("%d connections for %d requests, %d at a time", n, 20*workers, workers)
	}
}

func TestTransport_letsFollowersForward_whenNoListedNodeLeads(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2} {
		var nodes []*fake
		for range n {
			nodes = append(nodes, newFake(t, following("http://10.255.255.1:4001")))
		}
		tr := open(t, cluster.Config{}, nodes...)
		for range 5 {
			mustSend(t, t.Context(), tr, execute)
		}
		forwarded := 0
		for _, f := range nodes {
			for _, r := range f.requests() {
				if !strings.Contains(r.query, "redirect") {
					forwarded++
					if !strings.Contains(r.query, "timeout=10s") { // or a leader that hangs would hang it for 30 s
						t.Errorf("asked to forward with the query %s", r.query)
					}
				}
			}
		}
		if forwarded != 5 {
			t.Errorf("%d of 5 requests were forwarded", forwarded)
		}
	}
}

// One of the nodes is no help, which is no reason not to ask another.
func TestTransport_letsAFollowerForward_whenAnotherNodeIsAstray(t *testing.T) {
	t.Parallel()
	for name, astray := range map[string]conduct{
		"without a leader":   {request: says(http.StatusServiceUnavailable, "leader not found\n")},
		"down":               dropping(),
		"out of order":       {request: says(http.StatusInternalServerError, "boom")},
		"refusing this user": {request: says(http.StatusUnauthorized, "")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := open(t, cluster.Config{}, newFake(t, astray), newFake(t, following("http://10.255.255.1:4001")))
			mustSend(t, t.Context(), tr, execute)
		})
	}
}

// One that has been down since long before the leader went is not waited for.
func TestTransport_letsAFollowerForward_whenAnotherNodeWasDown(t *testing.T) {
	t.Parallel()
	a := newFake(t, leading())
	tr := open(t, cluster.Config{}, a, newFake(t, dropping()))
	mustSend(t, t.Context(), tr, execute)
	eventually(t, "the breaker opens", func() bool { return tr.Nodes()[1].State != cluster.Closed })
	a.behave(following("http://10.255.255.1:4001"))
	mustSend(t, t.Context(), tr, execute)
}

// Of several nodes that may forward, the one that did is the first choice.
func TestTransport_keepsToTheNodeThatForwards(t *testing.T) {
	t.Parallel()
	probe := follows("http://10.255.255.1:4001")
	useless := newFake(t, conduct{request: says(http.StatusOK, "<html>"), probe: probe})
	useful := newFake(t, conduct{request: ok, probe: probe})
	var hedged counter
	tr := open(t, cluster.Config{Observe: hedged.observe}, useless, useful)
	for range 10 {
		mustSend(t, t.Context(), tr, query)
	}
	if n := len(useless.requests()); n > 1+hedged.count() {
		t.Errorf("the node that does not was asked %d times", n)
	}
}

// A write that is being forwarded is answered, also when a leader turns up meanwhile.
func TestTransport_waitsForAForwardedWrite(t *testing.T) {
	t.Parallel()
	gone := newFake(t, leading())
	probe := follows("http://10.255.255.1:4001")
	gone.behave(conduct{request: probe, probe: probe})
	var checked atomic.Bool
	answer := make(chan struct{})
	follower := newFake(t, conduct{
		alive: func(w http.ResponseWriter, r *http.Request) {
			checked.Store(true)
			ok(w, r)
		},
		probe: probe,
		request: func(w http.ResponseWriter, r *http.Request) {
			gone.behave(leading())
			select {
			case <-answer:
			case <-r.Context().Done():
			}
			ok(w, r)
		},
	})
	tr := open(t, cluster.Config{}, follower, gone)
	tr.Start()
	done := sending(t, t.Context(), tr, execute)
	eventually(t, "the leader is found", func() bool { return leaderOf(tr) == gone.URL })
	checked.Store(false)
	eventually(t, "the write has been waited for since", checked.Load)
	close(answer)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A leader that is none any more for another request may yet answer a write.
func TestTransport_waitsForAWrite_whileThereIsNoLeader(t *testing.T) {
	t.Parallel()
	var checked, lost atomic.Bool
	answer := make(chan struct{})
	f := newFake(t, conduct{
		alive: func(w http.ResponseWriter, r *http.Request) {
			checked.Store(true)
			ok(w, r)
		},
		request: func(w http.ResponseWriter, r *http.Request) {
			if lost.Load() {
				says(http.StatusServiceUnavailable, "leader not found\n")(w, r)
				return
			}
			if r.URL.Path == query {
				ok(w, r)
				return
			}
			select {
			case <-answer:
			case <-r.Context().Done():
			}
			ok(w, r)
		},
	})
	tr := open(t, cluster.Config{}, newFake(t, dropping()), f)
	written := sending(t, t.Context(), tr, execute)
	eventually(t, "the write is under way", func() bool { return len(f.requests()) > 0 })
	lost.Store(true)
	read := sending(t, t.Context(), tr, query)
	eventually(t, "the leader is lost", func() bool { return leaderOf(tr) == "" })
	checked.Store(false)
	eventually(t, "the write has been waited for since", checked.Load)
	f.behave(leading())
	close(answer)
	for _, done := range []<-chan error{written, read} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// A client that goes away says nothing about the node.
func TestTransport_endsWithItsContext(t *testing.T) {
	t.Parallel()
	f := newFake(t, leading())
	f.behave(conduct{request: f.hang, probe: ok})
	tr := open(t, cluster.Config{}, f)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := sending(t, ctx, tr, execute)
	eventually(t, "the request is under way", func() bool { return len(f.requests()) > 0 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if s := tr.Nodes()[0]; s.LastError != "" {
		t.Errorf("the node has the error %q", s.LastError)
	}
}

// What was a load balancer's choice, or the address of a name, has lost its cluster
// and answers on: whoever connects now comes to another node.
func TestTransport_leavesTheConnectionsToANodeWithoutLeader(t *testing.T) {
	t.Parallel()
	a, b := newFake(t, leading()), newFake(t, leading())
	var target atomic.Pointer[fake]
	target.Store(a)
	balancer, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { balancer.Close() })
	go func() {
		for {
			in, err := balancer.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target.Load().host())
			if err != nil {
				in.Close()
				continue
			}
			for _, c := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() {
					_, _ = io.Copy(c[0], c[1])
					c[0].Close()
				}()
			}
		}
	}()
	tr := open(t, cluster.Config{Nodes: []string{"http://" + balancer.Addr().String()}})
	tr.Start()
	mustSend(t, t.Context(), tr, query)
	a.behave(conduct{request: says(http.StatusServiceUnavailable, "leader not found\n")})
	target.Store(b)
	mustSend(t, t.Context(), tr, query)
}

func TestTransport_returnsToTheLeader_whenItTurnsUp(t *testing.T) {
	t.Parallel()
	a, b := newFake(t, following("http://10.255.255.1:4001")), newFake(t, following("http://10.255.255.1:4001"))
	tr := open(t, cluster.Config{}, a, b)
	mustSend(t, t.Context(), tr, execute)
	b.behave(leading())
	eventually(t, "the new leader is found", func() bool { return tr.Nodes()[1].Leader })
}

func TestTransport_reachesALeaderItCannotTalkTo(t *testing.T) {
	t.Parallel()
	gone := refusing(t)
	follower := newFake(t, following(gone)) // the leader is well, but not for us
	tr, err := cluster.New(cluster.Config{Nodes: []string{gone, follower.URL}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	mustSend(t, t.Context(), tr, execute)
}

func TestTransport_givesUpAtTheDeadline(t *testing.T) {
	t.Parallel()
	f := newFake(t, leading())
	f.behave(conduct{request: f.hang, alive: f.hang})
	tr := open(t, cluster.Config{}, f)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begun := time.Now()
	_, _, err := send(t, ctx, tr, query)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("it took %s instead of 0.2 s", took)
	}
}

func TestTransport_boundsARequestWithoutDeadline(t *testing.T) {
	t.Parallel()
	f := newFake(t, leading())
	f.behave(conduct{request: f.hang, probe: ok})
	tr := open(t, cluster.Config{Timeout: 300 * time.Millisecond}, f)
	req, err := http.NewRequest(http.MethodPost, "http://rqlite/db/query", strings.NewReader(`[["SELECT n FROM t"]]`))
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if _, err := tr.RoundTrip(req); err == nil {
		t.Fatal("a node that never answers has answered")
	}
	if took := time.Since(begun); took < 4*time.Second || took > 8*time.Second {
		t.Errorf("it took %s, want about 5 s", took)
	}
	if n := len(f.requests()); n < 3 { // the second one is begun elsewhere than the first
		t.Errorf("the node was asked %d times: an attempt should have ended after 0.3 s", n)
	}
}

func TestTransport_refusesRequestsAfterClose(t *testing.T) {
	t.Parallel()
	f := newFake(t, leading())
	tr := open(t, cluster.Config{}, f)
	mustSend(t, t.Context(), tr, query)
	f.behave(conduct{request: f.hang, probe: ok})
	underWay, before := make(chan error), len(f.requests())
	go func() {
		_, _, err := send(t, t.Context(), tr, execute)
		underWay <- err
	}()
	eventually(t, "the request to be under way", func() bool { return len(f.requests()) > before })
	tr.Close()
	tr.Close()
	if err := <-underWay; !errors.Is(err, cluster.ErrClosed) {
		t.Errorf("the error of a request that was under way is %v", err)
	}
	if _, _, err := send(t, t.Context(), tr, query); !errors.Is(err, cluster.ErrClosed) {
		t.Fatalf("error %v", err)
	}
}

func TestTransport_readsFromAnyNodeAtLevelNone(t *testing.T) {
	t.Parallel()
	f := newFake(t, conduct{request: says(http.StatusOK, okBody), probe: says(http.StatusInternalServerError, "leader not found\n")})
	tr, err := cluster.New(cluster.Config{Nodes: []string{refusing(t), f.URL}, Level: "none"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	conn, err := tr.Connection()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.QueryOneContext(t.Context(), "SELECT n FROM t"); err != nil {
		t.Log(err) // the fake's answer has no columns
	}
	got := f.requests()
	if len(got) != 1 || strings.Contains(got[0].query, "redirect") {
		t.Fatalf("arrived: %+v", got)
	}
}

// Where any node will do the leader will, too, when another one hangs.
func TestTransport_hedgesAtTheLeader_atLevelNone(t *testing.T) {
	t.Parallel()
	leader := newFake(t, leading())
	silent := newFake(t, leading())
	silent.behave(conduct{request: silent.hang, probe: follows(leader.URL)})
	tr := open(t, cluster.Config{Timeout: time.Hour}, silent, leader)
	tr.Start()
	eventually(t, "the leader is found", func() bool { return leaderOf(tr) == leader.URL })
	ask(t, tr, http.MethodPost, "/db/query?level=none", `[["SELECT n FROM t"]]`)
	if got := leader.requests(); len(got) != 1 || got[0].query != "level=none" {
		t.Errorf("arrived at the leader: %+v", got)
	}
}

// What is asked for with GET is not of the leader alone, and need not be JSON.
func TestTransport_getsFromAnyNode(t *testing.T) {
	t.Parallel()
	f := newFake(t, conduct{request: says(http.StatusOK, "[+]node ok"), probe: says(http.StatusInternalServerError, "leader not found\n")})
	tr := open(t, cluster.Config{}, f, newFake(t, dropping()))
	if body := ask(t, tr, http.MethodGet, "/readyz", ""); body != "[+]node ok" {
		t.Errorf("the answer is %q", body)
	}
}

func TestTransport_startFindsTheLeaderBeforeAnyRequest(t *testing.T) {
	t.Parallel()
	leader := newFake(t, leading())
	tr := open(t, cluster.Config{}, newFake(t, following(leader.URL)), leader)
	tr.Start()
	tr.Start()
	eventually(t, "the leader is found", func() bool { return tr.Nodes()[1].Leader })
}

func TestTransport_startFollowsTheLeaderWithoutRequests(t *testing.T) {
	t.Parallel()
	a, b := newFake(t, leading()), newFake(t, leading())
	b.behave(following(a.URL))
	tr := open(t, cluster.Config{}, a, b)
	tr.Start()
	eventually(t, "the leader is found", func() bool { return leaderOf(tr) == a.URL })
	a.behave(following(b.URL))
	b.behave(leading())
	eventually(t, "the next leader is found", func() bool { return leaderOf(tr) == b.URL })
}

func TestTransport_startNoticesAFrozenNodeWithoutRequests(t *testing.T) {
	t.Parallel()
	f := newFake(t, leading())
	tr := open(t, cluster.Config{}, f)
	tr.Start()
	f.behave(conduct{request: f.hang, alive: f.hang})
	eventually(t, "the breaker opens", func() bool {
		tr.Start() // or it would not look for a while
		return tr.Nodes()[0].State != cluster.Closed
	})
}
