package cluster_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rqlite/gorqlite"

	"github.com/caddy-session/caddy-session/internal/rqlited"
	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
)

// leadingAs answers as a leader that calls itself so.
func leadingAs(name string) conduct {
	return conduct{request: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Rqlite-Served-By", name)
		ok(w, r)
	}}
}

// witness notes what happens to nodes.
type witness struct {
	mu     sync.Mutex
	events []cluster.Event
}

func (w *witness) observe(e cluster.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

// told returns the nodes of the events of a kind.
func (w *witness) told(kind cluster.EventKind) (nodes []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Kind == kind {
			nodes = append(nodes, e.Node)
		}
	}
	return nodes
}

// Two nodes that lead are two clusters, with two sets of rows: what was written
// to one is not in the other.
func TestTransport_staysWithOneOfTwoClusters(t *testing.T) {
	t.Parallel()
	a, b := newFake(t, leadingAs("a:4001")), newFake(t, leadingAs("b:4001"))
	var seen witness
	tr := open(t, cluster.Config{Observe: seen.observe}, a, b)
	tr.Start()
	mustSend(t, t.Context(), tr, execute)
	first, second := a, b
	if leaderOf(tr) == b.URL {
		first, second = b, a
	}
	eventually(t, "the other one is told of", func() bool { return len(seen.told(cluster.Stranger)) > 0 })
	if got := seen.told(cluster.Stranger); !slices.Equal(got, []string{second.URL}) {
		t.Fatalf("told of %v, want %s once", got, second.URL)
	}
	for _, n := range tr.Nodes() {
		if want := n.URL == first.URL; n.Leader != want || (n.State == cluster.Closed) != want {
			t.Errorf("%+v", n)
		}
		if n.URL == second.URL && !strings.Contains(n.LastError, "leads another cluster than "+first.URL) {
			t.Errorf("its error is %q", n.LastError)
		}
	}

	// What the other one has is no answer when the first one takes its time, or is gone.
	before := len(second.requests())
	var checks atomic.Int32
	first.behave(conduct{
		probe: leadingAs("first:4001").request,
		alive: func(w http.ResponseWriter, r *http.Request) {
			checks.Add(1)
			ok(w, r)
		},
		request: func(w http.ResponseWriter, r *http.Request) {
			until(r.Context(), func() bool { return checks.Load() >= 2 }) // longer than a hedge waits
			ok(w, r)
		},
	})
	mustSend(t, t.Context(), tr, query)
	first.behave(conduct{request: cutOff, alive: cutOff})
	if _, _, err := send(t, t.Context(), tr, query); err == nil || !strings.Contains(err.Error(), "another cluster") {
		t.Errorf("with the cluster down: %v", err)
	}
	if n := len(second.requests()) - before; n != 0 {
		t.Errorf("the other cluster got %d requests", n)
	}
	if opened, told := seen.told(cluster.BreakerClosed), seen.told(cluster.Stranger); slices.Contains(opened, second.URL) || len(told) != 1 {
		t.Errorf("while it was tried: %v got requests again, %v are of another cluster", opened, told)
	}

	// It is one of the cluster's when it follows.
	first.behave(leadingAs("first:4001"))
	second.behave(following("http://first:4001"))
	eventually(t, "the node that has joined is one of the cluster", func() bool {
		return !slices.ContainsFunc(tr.Nodes(), func(n cluster.NodeStatus) bool { return n.State != cluster.Closed })
	})
	mustSend(t, t.Context(), tr, query)
}

// The cluster is where most of the nodes are, whoever answers first.
func TestTransport_takesTheLargerOfTwoClusters(t *testing.T) {
	t.Parallel()
	t.Run("its leader last", func(t *testing.T) { takesTheLargerOfTwoClusters(t, false) })
	t.Run("its leader first", func(t *testing.T) { takesTheLargerOfTwoClusters(t, true) })
}

func takesTheLargerOfTwoClusters(t *testing.T, leaderFirst bool) {
	t.Parallel()
	const theirs, own = "inside:4001", "lone:4001"
	leader := newFake(t, leadingAs(theirs))
	lone := newFake(t, leadingAs(own))
	follower := newFake(t, following("http://"+theirs))
	var seen witness
	// Nobody else answers at first.
	leader.behave(conduct{request: cutOff, alive: cutOff})
	follower.behave(conduct{request: cutOff, alive: cutOff})
	tr := open(t, cluster.Config{Observe: seen.observe}, leader, lone, follower)
	tr.Start()
	mustSend(t, t.Context(), tr, execute)
	eventually(t, "the lone node is taken for the leader", func() bool { return leaderOf(tr) == lone.URL })
	if leaderFirst {
		leader.behave(leadingAs(theirs))
		eventually(t, "nothing speaks for the larger cluster yet", func() bool {
			// On a busy machine the lone node may not answer in time that it leads.
			return strings.Contains(tr.Nodes()[0].LastError, "leads another cluster") || leaderOf(tr) == leader.URL
		})
		follower.behave(following("http://" + theirs))
	} else {
		follower.behave(following("http://" + theirs))
		leader.behave(leadingAs(theirs))
	}
	eventually(t, "the larger cluster is found", func() bool { return leaderOf(tr) == leader.URL })
	eventually(t, "the lone node is told of", func() bool { return slices.Contains(seen.told(cluster.Stranger), lone.URL) })
	eventually(t, "only the lone node is left out", func() bool {
		return !slices.ContainsFunc(tr.Nodes(), func(n cluster.NodeStatus) bool {
			return (n.State == cluster.Closed) != (n.URL != lone.URL)
		})
	})
}

// Not even for a moment is the first one to answer taken for the leader, while the
// other nodes are asked for the first time.
func TestTransport_beginsWithTheLargerOfTwoClusters(t *testing.T) {
	t.Parallel()
	const theirs = "inside:4001"
	asked := make(chan struct{})
	ask := sync.OnceFunc(func() { close(asked) })
	lone := newFake(t, conduct{request: leadingAs("lone:4001").request, probe: func(w http.ResponseWriter, r *http.Request) {
		leadingAs("lone:4001").request(w, r)
		ask()
	}})
	leader := newFake(t, conduct{request: leadingAs(theirs).request, probe: func(w http.ResponseWriter, r *http.Request) {
		<-asked
		select {
		case <-time.After(100 * time.Millisecond):
		case <-r.Context().Done():
		}
		leadingAs(theirs).request(w, r)
	}})
	follower := newFake(t, following("http://"+theirs))
	tr := open(t, cluster.Config{}, lone, leader, follower)
	tr.Start()
	mustSend(t, t.Context(), tr, execute)
	mustSend(t, t.Context(), tr, query)
	if n := len(lone.requests()); n != 0 {
		t.Errorf("the lone node got %d requests", n)
	}
}

// Before the other one is known for what it is it gets nothing either.
func TestTransport_hedgesNotAtANodeThatLeads(t *testing.T) {
	t.Parallel()
	a, b := newFake(t, leadingAs("a:4001")), newFake(t, leadingAs("b:4001"))
	tr := open(t, cluster.Config{}, a, b) // not started: it looks around once
	mustSend(t, t.Context(), tr, query)
	first, second := a, b
	if leaderOf(tr) == b.URL {
		first, second = b, a
	}
	first.behave(conduct{probe: ok, request: func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(300 * time.Millisecond): // more than a hedge waits
		case <-r.Context().Done():
		}
		ok(w, r)
	}})
	for range 5 {
		mustSend(t, t.Context(), tr, query)
	}
	if n := len(second.requests()); n != 0 {
		t.Errorf("the other cluster got %d requests", n)
	}
}

// One node under two addresses is no other cluster.
func TestTransport_takesTwoAddressesForOneNode(t *testing.T) {
	t.Parallel()
	for _, names := range [][2]string{{"a:4001", "a:4001"}, {"a:4001", ""}, {"", "a:4001"}} { // a proxy may leave it out
		t.Run(names[0]+" and "+names[1], func(t *testing.T) { takesTwoAddressesForOneNode(t, names) })
	}
}

func takesTwoAddressesForOneNode(t *testing.T, names [2]string) {
	t.Parallel()
	var asked [2]atomic.Int32
	node := func(i int) *fake {
		answer := leadingAs(names[i]).request
		return newFake(t, conduct{request: answer, probe: func(w http.ResponseWriter, r *http.Request) {
			asked[i].Add(1)
			answer(w, r)
		}})
	}
	a, b := node(0), node(1)
	both := b.conduct.Swap(&conduct{request: cutOff, alive: cutOff})
	var seen witness
	tr := open(t, cluster.Config{Observe: seen.observe}, a, b)
	tr.Start()
	mustSend(t, t.Context(), tr, execute)
	b.conduct.Store(both)
	eventually(t, "it is asked which of them leads", func() bool {
		tr.Start() // which does not wait for the next time that it would
		return asked[0].Load() > 5 && asked[1].Load() > 5
	})

	a.behave(conduct{request: cutOff, alive: cutOff})
	mustSend(t, repeatable(t), tr, query)
	if got := seen.told(cluster.Stranger); got != nil {
		t.Errorf("told of %v", got)
	}
}

func TestTransport_leavesOutANodeThatWasNotJoined(t *testing.T) {
	t.Parallel()
	three, lone := rqlited.Start(t, 3), rqlited.Start(t, 1)
	var seen witness
	tr, err := cluster.New(cluster.Config{Nodes: append(lone.URLs(), three.URLs()...), Observe: seen.observe})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	tr.Start()
	eventually(t, "the lone node is told of", func() bool { return slices.Contains(seen.told(cluster.Stranger), lone.Nodes[0].URL) })
	conn, err := tr.Connection()
	if err != nil {
		t.Fatal(err)
	}
	useTable(t, conn)
	three.Leader(t).Kill()
	useTable(t, conn)
	alone, err := gorqlite.Open(lone.Nodes[0].URL + "?disableClusterDiscovery=true")
	if err != nil {
		t.Fatal(err)
	}
	if rows, err := alone.QueryOne("SELECT name FROM sqlite_master"); err != nil || rows.NumRows() != 0 {
		t.Errorf("the lone node has %d tables, error %v", rows.NumRows(), err)
	}
}

// withFollowerElsewhere has a node that leads and one that follows another cluster's
// leader, which is known by now.
func withFollowerElsewhere(t *testing.T, others ...*fake) (tr *cluster.Transport, leader, stranger *fake) {
	t.Helper()
	leader, stranger = newFake(t, leadingAs("inside:4001")), newFake(t, following("http://outside:4001"))
	var seen witness
	tr = open(t, cluster.Config{Observe: seen.observe}, append([]*fake{leader, stranger}, others...)...)
	tr.Start()
	mustSend(t, t.Context(), tr, query)
	told := func() []string { return seen.told(cluster.Stranger) }
	eventually(t, "the node is told of", func() bool { return told() != nil })
	look(t, tr, stranger, following("http://outside:4001"))
	if !slices.Equal(told(), []string{stranger.URL}) {
		t.Errorf("told of %v, want %s once", told(), stranger.URL)
	}
	if last := tr.Nodes()[1].LastError; !strings.Contains(last, "it follows a leader, outside:4001, of another cluster than "+leader.URL) {
		t.Errorf("its error is %q", last)
	}
	return tr, leader, stranger
}

// look has the node asked some more times how it stands.
func look(t *testing.T, tr *cluster.Transport, f *fake, c conduct) {
	t.Helper()
	var looks atomic.Int32
	answer := c.request
	c.probe = func(w http.ResponseWriter, r *http.Request) {
		looks.Add(1)
		answer(w, r)
	}
	f.behave(c)
	eventually(t, "it is asked", func() bool {
		tr.Start() // which does not wait for the next time that it would
		return looks.Load() > 10
	})
}

// A node that has joined another cluster knows nothing of this one's rows, while
// the leader of this one is slow as little as when it is gone.
func TestTransport_asksNoFollowerOfAnotherCluster(t *testing.T) {
	t.Parallel()
	tr, leader, stranger := withFollowerElsewhere(t)
	before := len(stranger.requests())
	leader.behave(conduct{probe: leadingAs("inside:4001").request, request: func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(300 * time.Millisecond): // more than a hedge waits
		case <-r.Context().Done():
		}
		ok(w, r)
	}})
	for range 5 {
		mustSend(t, t.Context(), tr, query)
	}
	leader.behave(conduct{request: cutOff, alive: cutOff})
	if _, _, err := send(t, t.Context(), tr, query); err == nil || !strings.Contains(err.Error(), "is in another cluster") {
		t.Errorf("without the cluster: %v", err)
	}
	if n := len(stranger.requests()) - before; n != 0 {
		t.Errorf("the other cluster got %d requests", n)
	}

	// It is one of the cluster's when it follows its leader.
	leader.behave(leadingAs("inside:4001"))
	eventually(t, "it leads again", func() bool { return leaderOf(tr) == leader.URL })
	look(t, tr, stranger, following("http://inside:4001"))
	leader.behave(conduct{request: leader.hang, probe: leadingAs("inside:4001").request})
	mustSend(t, t.Context(), tr, query)
	if len(stranger.requests()) == before {
		t.Error("the node that has joined was not asked")
	}
	stranger.behave(following("http://unlisted:4001"))
	leader.behave(following("http://unlisted:4001"))
	mustSend(t, t.Context(), tr, query)
}

// A proxy before a node may make the address of the leader its own.
func TestTransport_asksAFollowerThatNamesItself(t *testing.T) {
	t.Parallel()
	leader, follower := newFake(t, leadingAs("localhost:4001")), newFake(t, leadingAs("localhost:4001"))
	tr := open(t, cluster.Config{}, leader, follower)
	follower.behave(following(follower.URL))
	mustSend(t, t.Context(), tr, query)
	look(t, tr, follower, following(follower.URL))
	leader.behave(conduct{request: leader.hang, probe: leadingAs("localhost:4001").request})
	mustSend(t, t.Context(), tr, query)
	if len(follower.requests()) == 0 {
		t.Error("the follower was not asked")
	}
}

func TestTransport_asksNoNodeThatHasJoinedAnotherCluster(t *testing.T) {
	t.Parallel()
	ours, theirs := rqlited.Start(t, 1), rqlited.Start(t, 2)
	var seen witness
	tr, err := cluster.New(cluster.Config{Nodes: append(ours.URLs(), theirs.Followers(t)[0].URL), Observe: seen.observe})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	tr.Start()
	conn, err := tr.Connection()
	if err != nil {
		t.Fatal(err)
	}
	useTable(t, conn)
	eventually(t, "the node is told of", func() bool { return len(seen.told(cluster.Stranger)) > 0 })
	ours.Nodes[0].Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if rows, err := conn.QueryOneContext(ctx, "SELECT name FROM sqlite_master"); err == nil {
		t.Errorf("the other cluster has answered, with %d rows", rows.NumRows())
	}
}

// The leader of another cluster is taken for ours as little when it was one of that
// cluster's followers before.
func TestTransport_asksNoFollowerOfAnotherClusterThatComesToLead(t *testing.T) {
	t.Parallel()
	tr, leader, stranger := withFollowerElsewhere(t)
	leader.behave(conduct{request: cutOff, alive: cutOff})
	stranger.behave(leadingAs("stranger:4001"))
	if _, _, err := send(t, t.Context(), tr, query); err == nil || !strings.Contains(err.Error(), "another cluster") {
		t.Errorf("without the cluster: %v", err)
	}

	// Nor does it keep a node of ours from passing requests on.
	leader.behave(following("http://unlisted:4001"))
	eventually(t, "an answer that was passed on", func() bool {
		_, _, err := send(t, t.Context(), tr, query)
		return err == nil
	})
	if n := len(stranger.requests()); n != 0 {
		t.Errorf("the other cluster got %d requests", n)
	}
}

// One that has left that cluster for ours, and leads it, is known by those who follow it.
func TestTransport_followsANodeThatWasOfAnotherCluster(t *testing.T) {
	t.Parallel()
	follower := newFake(t, following("http://inside:4001"))
	tr, leader, stranger := withFollowerElsewhere(t, follower)
	leader.behave(dropping())
	stranger.behave(leadingAs("next:4001"))
	follower.behave(following("http://next:4001"))
	eventually(t, "it leads", func() bool { return leaderOf(tr) == stranger.URL })
	mustSend(t, t.Context(), tr, query)
}
