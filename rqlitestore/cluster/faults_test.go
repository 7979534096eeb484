package cluster_test

import (
	"context"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/internal/rqlited"
)

// The faults are injected into real nodes; each test says in its log what it
// measured. -faults.rounds repeats each of them.
var rounds = flag.Int("faults.rounds", 1, "how often each fault test is repeated")

// everyRound runs a fault test as often as asked for, each time on a cluster of
// its own. The rounds are not parallel: they are measurements.
func everyRound(t *testing.T, test func(t *testing.T, c *rqlited.Cluster)) {
	for i := range *rounds {
		t.Run(fmt.Sprintf("round=%d", i+1), func(t *testing.T) { test(t, rqlited.Start(t, 3)) })
	}
}

func TestFaults_killedLeader(t *testing.T) {
	everyRound(t, func(t *testing.T, c *rqlited.Cluster) {
		l := startLoad(t, transportFor(t, c.URLs()))
		run(t, 2*time.Second)
		begun := time.Now()
		c.Leader(t).Kill()
		run(t, 6*time.Second)
		samples := l.finish()
		r := reportOn(samples, begun, time.Now())
		t.Logf("F1 kill -9 leader: %s", r)
		firstErrors(t, samples)
		requireOnlyUnrepeatable(t, samples)
		if r.gap > 4*time.Second {
			t.Errorf("the gap of %s is longer than 4 s", r.gap)
		}
		l.requireNothingLost(t)
	})
}

func TestFaults_stoppedLeader(t *testing.T) {
	everyRound(t, func(t *testing.T, c *rqlited.Cluster) {
		l := startLoad(t, transportFor(t, c.URLs()))
		run(t, 2*time.Second)
		begun := time.Now()
		c.Leader(t).Stop()
		run(t, 3*time.Second)
		samples := l.finish()
		r := reportOn(samples, begun, time.Now())
		t.Logf("F2 SIGTERM leader: %s", r)
		firstErrors(t, samples)
		requireOnlyUnrepeatable(t, samples)
		if r.gap > 500*time.Millisecond {
			t.Errorf("the gap of %s is longer than 0.5 s", r.gap)
		}
		l.requireNothingLost(t)
	})
}

func TestFaults_frozenLeader(t *testing.T) {
	everyRound(t, func(t *testing.T, c *rqlited.Cluster) {
		l := startLoad(t, transportFor(t, c.URLs()))
		healthy := time.Now()
		run(t, 5*time.Second)
		begun := time.Now()
		leader := c.Leader(t)
		leader.Freeze(t)
		run(t, 20*time.Second)
		thawed := time.Now()
		leader.Thaw(t)
		run(t, 3*time.Second)
		samples := l.finish()
		before := reportOn(samples, healthy, begun)
		fault := reportOn(samples, begun, thawed)
		settled := reportOn(samples, begun.Add(5*time.Second), thawed)
		after := reportOn(samples, thawed, time.Now())
		t.Logf("F3 freeze leader: before: %s", before)
		t.Logf("F3 freeze leader: 20 s: %s", fault)
		t.Logf("F3 freeze leader: from 5 s on, still frozen: %s", settled)
		t.Logf("F3 freeze leader: after thaw: %s", after)
		firstErrors(t, samples)
		requireOnlyUnrepeatable(t, samples)
		if fault.gap > 4*time.Second {
			t.Errorf("the gap of %s is longer than 4 s", fault.gap)
		}
		if settled.failed > 0 || after.failed > 0 {
			t.Errorf("%d requests failed with a new leader in place, %d after the thaw", settled.failed, after.failed)
		}
		t.Logf("F3 freeze leader: p99 from 5 s on to before: %.2f", float64(settled.p99)/float64(before.p99))
		if settled.p99 > before.p99*3/2+50*time.Millisecond { // to ask the frozen node costs 100 ms at least
			t.Errorf("p99 is %s while the old leader is frozen, was %s", settled.p99, before.p99)
		}
		l.requireNothingLost(t)
	})
}

func TestFaults_frozenFollower(t *testing.T) {
	everyRound(t, func(t *testing.T, c *rqlited.Cluster) {
		l := startLoad(t, transportFor(t, c.URLs()))
		healthy := time.Now()
		run(t, 5*time.Second)
		var frozen [][2]time.Time
		for _, n := range c.Followers(t) {
			begun := time.Now()
			n.Freeze(t)
			run(t, 5*time.Second)
			frozen = append(frozen, [2]time.Time{begun, time.Now()})
			n.Thaw(t)
			run(t, 2*time.Second)
		}
		samples := l.finish()
		before := reportOn(samples, healthy, frozen[0][0])
		t.Logf("F4 freeze follower: before: %s", before)
		for _, f := range frozen {
			r := reportOn(samples, f[0], f[1])
			t.Logf("F4 freeze follower: frozen: %s", r)
			if r.failed > 0 {
				t.Errorf("%d requests failed while a follower was frozen", r.failed)
			}
		}
		firstErrors(t, samples)
		requireOnlyUnrepeatable(t, samples)
		l.requireNothingLost(t)
	})
}

func TestFaults_noQuorum(t *testing.T) {
	everyRound(t, func(t *testing.T, c *rqlited.Cluster) {
		l := startLoad(t, transportFor(t, c.URLs()))
		run(t, 2*time.Second)
		begun := time.Now()
		followers := c.Followers(t)
		for _, n := range followers {
			n.Freeze(t)
		}
		run(t, 10*time.Second)
		thawed := time.Now()
		for _, n := range followers {
			n.Thaw(t)
		}
		run(t, 5*time.Second)
		samples := l.finish()
		t.Logf("F5 two of three frozen: %s", reportOn(samples, begun, thawed))
		longest := time.Duration(0)
		var recovered time.Time
		for _, s := range samples {
			longest = max(longest, s.took())
			if recovered.IsZero() && s.write && s.err == nil && s.ended.After(thawed) {
				recovered = s.ended
			}
		}
		t.Logf("F5 two of three frozen: longest request %.2f s, first write %.2f s after the thaw", longest.Seconds(), recovered.Sub(thawed).Seconds())
		firstErrors(t, samples)
		if longest > writeDeadline+500*time.Millisecond {
			t.Errorf("a request took %s", longest)
		}
		if recovered.IsZero() || recovered.Sub(thawed) > 3*time.Second {
			t.Errorf("no write within 3 s after the thaw")
		}
		l.requireNothingLost(t)
	})
}

func TestFaults_allDownAtStart(t *testing.T) {
	everyRound(t, func(t *testing.T, c *rqlited.Cluster) {
		for _, n := range c.Nodes {
			n.Kill()
		}
		tr := transportFor(t, c.URLs())
		tr.Start()
		conn, err := tr.Connection()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), readDeadline)
		defer cancel()
		begun := time.Now()
		if _, err := conn.QueryOneContext(ctx, "SELECT 1"); err == nil {
			t.Fatal("a query succeeded without any node")
		}
		t.Logf("F8 all down at start: a query failed after %.2f s", time.Since(begun).Seconds())
		for _, n := range c.Nodes {
			n.Restart(t)
		}
		c.WaitReady(t)
		ready := time.Now()
		l := startLoad(t, tr)
		t.Logf("F8 all down at start: first write %.2f s after the nodes were ready", time.Since(ready).Seconds())
		if time.Since(ready) > 5*time.Second {
			t.Errorf("it took %s to find the nodes again", time.Since(ready))
		}
		run(t, time.Second)
		l.finish()
		l.requireNothingLost(t)
	})
}

func TestFaults_frozenNodeAtStart(t *testing.T) {
	everyRound(t, func(t *testing.T, c *rqlited.Cluster) {
		c.Followers(t)[0].Freeze(t)
		begun := time.Now()
		tr := transportFor(t, c.URLs())
		l := startLoad(t, tr)
		t.Logf("F9 one frozen at start: first write after %.2f s", time.Since(begun).Seconds())
		run(t, 3*time.Second)
		samples := l.finish()
		r := reportOn(samples, begun, time.Now())
		t.Logf("F9 one frozen at start: %s", r)
		firstErrors(t, samples)
		requireOnlyUnrepeatable(t, samples)
		if r.failed > 0 {
			t.Errorf("%d requests failed", r.failed)
		}
		l.requireNothingLost(t)
	})
}
