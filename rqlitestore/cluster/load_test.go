package cluster_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rqlite/gorqlite"

	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
	"github.com/caddy-session/caddy-session/rqlitestore/internal/idempotent"
)

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
	once         bool // it must not be repeated
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
	l.note(ctx, sample{begun: begun, ended: time.Now(), write: true, once: !idempotent.Is(ctx), err: err}, id)
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
			if s.write != write || s.ended.Before(from) || s.ended.After(to) {
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

// requireOnlyUnrepeatable checks that nothing failed but writes that were under
// way when the fault struck and must not be repeated, and reads to which rqlite gave
// no leader within all of their time: some elections take longer.
func requireOnlyUnrepeatable(t *testing.T, samples []sample) {
	t.Helper()
	failed, waited := 0, 0
	for _, s := range samples {
		switch {
		case s.err == nil || s.once:
		case !s.write && s.took() >= readDeadline:
			waited++
		default:
			failed++
		}
	}
	if failed > 0 {
		t.Errorf("%d requests failed that may be repeated", failed)
	}
	if waited > 0 {
		t.Logf("%d reads waited all of %s for a leader", waited, readDeadline)
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
