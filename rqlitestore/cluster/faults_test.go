package cluster_test

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rqlite/gorqlite"

	"github.com/caddy-session/caddy-session/internal/rqlited"
	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
	"github.com/caddy-session/caddy-session/rqlitestore/internal/idempotent"
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

// load reads and writes all the time, and keeps account of it.
type load struct {
	conn *gorqlite.Connection
	stop context.CancelFunc
	done sync.WaitGroup
	next atomic.Int64

	mu      sync.Mutex
	samples []sample
	acked   []int64 // rows whose writing was acknowledged
}

// sample is one request of the load.
type sample struct {
	begun, ended time.Time
	write        bool
	err          error
}

func (s sample) took() time.Duration { return s.ended.Sub(s.begun) }

// Deadlines of the store.
const (
	readDeadline  = 3 * time.Second
	writeDeadline = 5 * time.Second
)

// transportFor opens a transport whose events go to the test's log.
func transportFor(t *testing.T, urls []string) *cluster.Transport {
	t.Helper()
	begun := time.Now()
	var over atomic.Bool
	tr, err := cluster.New(cluster.Config{Nodes: urls, Observe: func(e cluster.Event) {
		if testing.Verbose() && e.Kind != cluster.Retried && e.Kind != cluster.Hedged && !over.Load() {
			t.Logf("%8.3fs %s %s %v", time.Since(begun).Seconds(), e.Kind, e.Node, e.Err)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		over.Store(true)
		tr.Close()
	})
	return tr
}

// startLoad makes the table and begins: a writer that may be repeated, one that
// may not, and two readers.
func startLoad(t *testing.T, tr *cluster.Transport) *load {
	t.Helper()
	conn, err := tr.Connection()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(idempotent.With(t.Context()), 30*time.Second)
	defer cancel()
	if _, err := conn.WriteOneContext(ctx, "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)"); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	l := &load{conn: conn, stop: stop}
	t.Cleanup(func() { l.stop(); l.done.Wait() })
	l.worker(ctx, func(ctx context.Context) {
		l.write(idempotent.With(ctx), "INSERT INTO t VALUES (?, 1) ON CONFLICT DO NOTHING")
	})
	l.worker(ctx, func(ctx context.Context) {
		l.write(ctx, "INSERT INTO t VALUES (?, 1) ON CONFLICT(id) DO UPDATE SET n = n + 1")
	})
	l.worker(ctx, l.read)
	l.worker(ctx, l.read)
	return l
}

func (l *load) worker(ctx context.Context, once func(context.Context)) {
	l.done.Add(1)
	go func() {
		defer l.done.Done()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			once(ctx)
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
}

func (l *load) write(ctx context.Context, sql string) {
	id := l.next.Add(1)
	call, cancel := context.WithTimeout(ctx, writeDeadline)
	defer cancel()
	begun := time.Now()
	_, err := l.conn.WriteOneParameterizedContext(call, gorqlite.ParameterizedStatement{Query: sql, Arguments: []any{id}})
	l.note(ctx, sample{begun: begun, ended: time.Now(), write: true, err: err}, id)
}

func (l *load) read(ctx context.Context) {
	call, cancel := context.WithTimeout(ctx, readDeadline)
	defer cancel()
	begun := time.Now()
	_, err := l.conn.QueryOneContext(call, "SELECT n FROM t WHERE id = 1")
	l.note(ctx, sample{begun: begun, ended: time.Now(), err: err}, 0)
}

func (l *load) note(ctx context.Context, s sample, id int64) {
	if ctx.Err() != nil {
		return // the load was stopped in the middle of it
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.samples = append(l.samples, s)
	if s.write && s.err == nil {
		l.acked = append(l.acked, id)
	}
}

// finish stops the load and returns every sample.
func (l *load) finish() []sample {
	l.stop()
	l.done.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.SortFunc(l.samples, func(a, b sample) int { return a.ended.Compare(b.ended) })
	return l.samples
}

// requireNothingLost checks that every acknowledged write is there, once.
func (l *load) requireNothingLost(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	rows, err := l.conn.QueryOneContext(ctx, "SELECT id, n FROM t")
	if err != nil {
		t.Fatal(err)
	}
	there := make(map[int64]bool)
	for rows.Next() {
		var id, n int64
		if err := rows.Scan(&id, &n); err != nil {
			t.Fatal(err)
		}
		if there[id] = true; n != 1 {
			t.Errorf("write %d, which must not be repeated, was applied %d times", id, n)
		}
	}
	missing := 0
	for _, id := range l.acked {
		if !there[id] {
			missing++
		}
	}
	t.Logf("acknowledged writes: %d, lost: %d", len(l.acked), missing)
	if missing > 0 {
		t.Errorf("%d acknowledged writes were lost", missing)
	}
}

// report logs what a fault cost.
type report struct {
	gap    time.Duration // longest time without a success, reads and writes apart
	failed int
	total  int
	p99    time.Duration
}

func reportOn(samples []sample, from, to time.Time) report {
	r := report{}
	var took []time.Duration
	for _, write := range []bool{false, true} {
		last := from
		for _, s := range samples {
			if s.write != write || s.ended.Before(from) || s.begun.After(to) {
				continue
			}
			r.total++
			if s.err != nil {
				r.failed++
				continue
			}
			took = append(took, s.took())
			r.gap = max(r.gap, s.ended.Sub(last))
			last = s.ended
		}
		r.gap = max(r.gap, to.Sub(last))
	}
	r.p99 = percentile(took, 99)
	return r
}

func percentile(d []time.Duration, p int) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[min(len(d)-1, len(d)*p/100)]
}

func (r report) String() string {
	return fmt.Sprintf("%d requests, %d failed, longest gap %.2f s, p99 %.1f ms",
		r.total, r.failed, r.gap.Seconds(), float64(r.p99.Microseconds())/1000)
}

// run lets the load go on for d.
func run(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// firstErrors logs some of the errors, so that the log tells what users saw.
func firstErrors(t *testing.T, samples []sample) {
	t.Helper()
	seen := map[string]int{}
	for _, s := range samples {
		if s.err != nil {
			_, text, _ := strings.Cut(s.err.Error(), "cluster: ") // without gorqlite's preface
			seen[strings.TrimSpace(text)]++
		}
	}
	shown := 0
	for text, n := range seen {
		if shown++; shown > 4 {
			break
		}
		t.Logf("%d x %s", n, text)
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
		if fault.gap > 4*time.Second {
			t.Errorf("the gap of %s is longer than 4 s", fault.gap)
		}
		if settled.failed > 0 || after.failed > 0 {
			t.Errorf("%d requests failed with a new leader in place, %d after the thaw", settled.failed, after.failed)
		}
		if settled.p99 > before.p99*3/2+2*time.Millisecond { // on top of noise
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
		if r.failed > 0 {
			t.Errorf("%d requests failed", r.failed)
		}
		l.requireNothingLost(t)
	})
}
