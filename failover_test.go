package caddysession_test

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/internal/rqlited"
	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
)

// traffic is requests at a steady rate, whatever the answers: some read their
// session, some write it.
type traffic struct {
	d        *deployment
	begun    time.Time
	repeats  bool // a request that got no answer is sent again, as browsers do
	members  []*member
	stop     chan struct{}
	requests sync.WaitGroup

	mu      sync.Mutex
	samples []sample
}

// member is a visitor with a session whose counter says how many writes there were.
type member struct {
	counted
	cookie string
}

// sample is one request.
type sample struct {
	reply
	write bool
	again bool // it got no answer at first
	ended time.Time
}

func (s sample) ok() bool { return s.err == nil && s.status == http.StatusOK }

const (
	trafficRate    = 200 // requests a second
	trafficWriting = 30  // percent
	trafficMembers = 50
)

// startTraffic logs the members in and begins.
func (d *deployment) startTraffic(t *testing.T, repeats bool) *traffic {
	t.Helper()
	return d.startTrafficAt(t, trafficRate, repeats)
}

// startTrafficAt is startTraffic with a rate of its own, in requests a second.
func (d *deployment) startTrafficAt(t *testing.T, rate int, repeats bool) *traffic {
	t.Helper()
	l := &traffic{d: d, repeats: repeats, stop: make(chan struct{})}
	for range trafficMembers {
		cookie, _ := d.login(t)
		l.members = append(l.members, &member{cookie: cookie})
	}
	l.begun = time.Now()
	l.requests.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for i := 0; ; {
			select {
			case <-tick.C:
			case <-l.stop:
				return
			}
			for due := int(time.Since(l.begun).Seconds() * float64(rate)); i < due; i++ { // ticks get lost
				n := i
				l.requests.Go(func() { l.request(n) })
			}
		}
	})
	t.Cleanup(func() { l.end() })
	return l
}

func (l *traffic) request(i int) {
	p, m := l.d.caddys[i%len(l.d.caddys)], l.members[i*7%len(l.members)]
	s := sample{write: i*37%100 < trafficWriting}
	ask := func() reply {
		if s.write {
			return p.post("/increment", m.cookie)
		}
		return p.get("/show", m.cookie)
	}
	s.reply = ask()
	for try := 0; try < 3 && l.repeats && s.err != nil; try++ {
		if s.write {
			m.count(s.reply) // as one that may have been made
		}
		s.again = true
		s.reply = ask()
	}
	if s.write {
		m.count(s.reply)
	}
	s.ended = time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.samples = append(l.samples, s)
}

// end stops the traffic and returns what it met.
func (l *traffic) end() []sample {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.requests.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.SortFunc(l.samples, func(a, b sample) int { return a.ended.Compare(b.ended) })
	return l.samples
}

// gap is the longest time without a success between two moments, of reads and
// of writes apart.
func gap(samples []sample, from, to time.Time) time.Duration {
	longest := time.Duration(0)
	for _, write := range []bool{false, true} {
		last := from
		for _, s := range samples {
			if s.write == write && s.ok() && s.ended.After(from) && s.ended.Before(to) {
				longest = max(longest, s.ended.Sub(last))
				last = s.ended
			}
		}
		longest = max(longest, to.Sub(last))
	}
	return longest
}

// statuses says how often there was which answer.
func statuses(samples []sample) (all string, unexpected int) {
	n := map[string]int{}
	for _, s := range samples {
		switch {
		case s.err != nil:
			n["no answer"]++
		default:
			n[fmt.Sprint(s.status)]++
		}
		if s.err != nil || s.status != http.StatusOK && s.status != http.StatusServiceUnavailable {
			unexpected++
		}
	}
	var kinds []string
	for kind, count := range n {
		kinds = append(kinds, fmt.Sprintf("%d x %s", count, kind))
	}
	slices.Sort(kinds)
	return strings.Join(kinds, ", "), unexpected
}

// checkCounters compares every session with what was acknowledged.
func (l *traffic) checkCounters(t *testing.T) {
	t.Helper()
	acked, unknown, lost := int64(0), int64(0), int64(0)
	for _, m := range l.members {
		id, user, n := shown(l.d.caddys[0].get("/show", m.cookie).want(t, http.StatusOK))
		if id == "" || user != "alice" {
			t.Error("a session was lost")
		}
		m.check(t, n)
		acked += m.acked.Load()
		unknown += m.unknown.Load()
		lost += max(0, m.acked.Load()-int64(n))
	}
	t.Logf("%d writes acknowledged, %d unknown, lost %d", acked, unknown, lost)
}

// The leader fails while two Caddys have traffic.
func TestFailover_ofTheLeaderLosesNothing(t *testing.T) {
	for _, fault := range []struct {
		name  string
		limit time.Duration // of the time without a success
		wreak func(t *testing.T, d *deployment) (undo func())
	}{
		{"kill -9", 4 * time.Second, func(t *testing.T, d *deployment) func() {
			leader := d.cluster.Leader(t)
			leader.Kill()
			return func() { leader.Restart(t) }
		}},
		{"SIGTERM", 500 * time.Millisecond, func(t *testing.T, d *deployment) func() {
			leader := d.cluster.Leader(t)
			leader.Stop()
			return func() { leader.Restart(t) }
		}},
		{"freeze", 4 * time.Second, func(t *testing.T, d *deployment) func() {
			leader := d.cluster.Leader(t)
			leader.Freeze(t)
			return func() { leader.Thaw(t) }
		}},
	} {
		t.Run(fault.name, func(t *testing.T) {
			d := onCluster(t)
			for range roundsOr(1) {
				d.cluster.WaitReady(t)
				l := d.startTraffic(t, false)
				goOn(3 * time.Second)
				fails := time.Now()
				undo := fault.wreak(t, d)
				goOn(8 * time.Second)
				undo()
				back := time.Now()
				goOn(3 * time.Second)
				samples, end := l.end(), time.Now()
				healthy, faulty, after := gap(samples, l.begun, fails), gap(samples, fails, back), gap(samples, back, end)
				all, unexpected := statuses(samples)
				t.Logf("%s of the leader: %s; longest gap %.2f s (before the fault %.2f s, after it %.2f s)",
					fault.name, all, faulty.Seconds(), healthy.Seconds(), after.Seconds())
				// What the machine itself makes wait is not the fault's.
				if faulty > fault.limit+healthy {
					t.Errorf("the gap is longer than %v", fault.limit)
				}
				if unexpected > 0 {
					t.Errorf("%d answers were neither 200 nor 503", unexpected)
				}
				l.checkCounters(t)
			}
		})
	}
}

// goOn lets the traffic go on for a while.
func goOn(d time.Duration) { <-time.After(d) }

// Caddy itself fails: what it acknowledged is in the embedded file.
func TestFailover_ofCaddyLosesNothing(t *testing.T) {
	for _, end := range []struct {
		name string
		by   func(p *caddyProcess)
	}{
		{"kill -9", (*caddyProcess).kill},
		{"SIGTERM", (*caddyProcess).terminate},
	} {
		t.Run(end.name, func(t *testing.T) {
			d := newDeployment(t, nil)
			p := d.add()
			p.start()
			for range roundsOr(1) {
				l := d.startTraffic(t, false)
				goOn(2 * time.Second)
				end.by(p)
				up := p.start()
				goOn(2 * time.Second)
				all, _ := statuses(l.end())
				t.Logf("%s of Caddy: %s; up again within %.2f s", end.name, all, up.Seconds())
				l.checkCounters(t)
			}
		})
	}
}

// Nodes come and go while Caddy asks the one that it knows, which stays.
func TestFailover_clusterGrowsAndShrinks(t *testing.T) {
	d := newDeployment(t, rqlited.Start(t, 1))
	p := d.add()
	p.start()
	cookie, id := d.login(t)
	for _, step := range []struct {
		name   string
		change func()
	}{
		{"the second", func() { d.cluster.Add(t) }},
		{"the third", func() { d.cluster.Add(t) }},
		{"a follower is removed", func() { d.cluster.Remove(t, d.cluster.Followers(t)[0]) }},
	} {
		step.change()
		if got, user, _ := shown(p.get("/show", cookie).want(t, http.StatusOK)); got != id || user != "alice" {
			t.Errorf("%s: the session of %s is now %q of %q", step.name, id, got, user)
		}
	}
}

// A node that leads a cluster of its own, as one does that was started without
// -join, has no sessions: nobody is asked to sign in again because it was asked.
func TestFailover_goesToNoNodeOfAnotherCluster(t *testing.T) {
	three, lone := rqlited.Start(t, 3), rqlited.Start(t, 1)
	d := newDeployment(t, &rqlited.Cluster{Nodes: append(slices.Clone(three.Nodes), lone.Nodes...)})
	p := d.add()
	p.start()
	eventually(t, "the log to tell of the node", func() bool {
		log, err := os.ReadFile(p.logFile)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(log), lone.Nodes[0].URL+`","error":"it leads another cluster`)
	})
	cookie, id := d.login(t)
	for _, node := range three.Nodes {
		node.Kill()
		eventually(t, "the next leader", func() bool { return p.get("/show", cookie).status == http.StatusOK })
		if got, user, _ := shown(p.get("/show", cookie).want(t, http.StatusOK)); got != id || user != "alice" {
			t.Errorf("the session of %s is now %q of %q", id, got, user)
		}
		node.Restart(t)
		three.WaitReady(t)
	}
	for _, node := range three.Nodes {
		node.Kill()
	}
	if a := p.get("/show", cookie); a.status != http.StatusServiceUnavailable {
		t.Errorf("without the cluster: %d %q, want 503", a.status, a.body)
	}
}

const (
	upWithin   = 2 * time.Second
	healWithin = 5 * time.Second
)

// All nodes are down when Caddy starts.
func TestFailover_caddyStartsWithoutItsStore(t *testing.T) {
	t.Run("three rqlite nodes are down", func(t *testing.T) {
		d := newDeployment(t, rqlited.Start(t, 3))
		for _, n := range d.cluster.Nodes {
			n.Kill()
		}
		startWithoutStore(t, d, func() {
			for _, n := range d.cluster.Nodes {
				n.Restart(t)
			}
			d.cluster.WaitReady(t)
		})
	})
	t.Run("the embedded file is in use", func(t *testing.T) {
		d := newDeployment(t, nil)
		other := embedded.New(d.add().file(), embedded.Options{})
		if err := other.Open(); err != nil {
			t.Fatal(err)
		}
		startWithoutStore(t, d, func() {
			if err := other.Close(); err != nil {
				t.Fatal(err)
			}
		})
	})
}

func startWithoutStore(t *testing.T, d *deployment, heal func()) {
	t.Helper()
	if d.cluster != nil {
		d.add()
	}
	p := d.caddys[0]
	up := p.start()
	a := p.get("/show", unknownCookie()).want(t, http.StatusServiceUnavailable)
	if a.header.Get("Retry-After") == "" {
		t.Error("a 503 has no Retry-After")
	}
	p.get("/plain", unknownCookie()).want(t, http.StatusOK)
	heal()
	begun := time.Now()
	eventually(t, "a login", func() bool { return p.post("/login", "").status == http.StatusSeeOther })
	healed := time.Since(begun)
	cookie, _ := d.login(t)
	p.get("/show", cookie).want(t, http.StatusOK)
	t.Logf("up after %.2f s without a store; a page that needs it was a 503 after %.2f s; healthy %.2f s after the store was back",
		up.Seconds(), a.took.Seconds(), healed.Seconds())
	if d.cluster == nil {
		return // this runs on every machine, busy ones too: the log says how long it took
	}
	if up > upWithin {
		t.Errorf("Caddy took longer than %v to start", upWithin)
	}
	if healed > healWithin {
		t.Errorf("Caddy took longer than %v to find its store", healWithin)
	}
}
