// Command scale measures whether a store with a million sessions is slower than
// one with none, and how long writes wait while a million expired rows are
// removed. It runs on the embedded node, and on one rqlited when RQLITED names one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rqlite/gorqlite"

	"github.com/caddy-session/caddy-session/bench/internal/process"
	"github.com/caddy-session/caddy-session/rqlitestore"
	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
)

var (
	rows   = flag.Int("rows", 1_000_000, "sessions in the full table")
	calls  = flag.Int("calls", 2000, "calls of each kind that are timed, one after the other")
	window = flag.Duration("window", time.Minute, "how long writes are timed before the removal, alone and beside others")
	dir    = flag.String("dir", os.TempDir(), "where the data is kept; a real disk")
)

func main() {
	flag.Parse()
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	work, err := os.MkdirTemp(*dir, "scale")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)

	node := embedded.New(filepath.Join(work, "sessions.db"), embedded.Options{})
	defer node.Close()
	conn, err := node.Connection()
	if err != nil {
		return err
	}
	fmt.Printf("| store | find, empty | find, %d rows | ratio | update, empty | update, %[1]d rows | ratio | longest write by itself | while others are saved | removing %[1]d expired | p99 of a write meanwhile | longest |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n", *rows)
	if err := measureSide(ctx, "embedded node", conn); err != nil {
		return err
	}
	server, url, err := process.Rqlited(work)
	if errors.Is(err, process.ErrMissing) {
		fmt.Fprintln(os.Stderr, "skipped: RQLITED is not set, so there is no rqlited to measure")
		return nil
	}
	if err != nil {
		return err
	}
	defer server.Stop()
	// While it is filled, rqlited makes snapshots that hold a write up for seconds.
	transport, err := cluster.New(cluster.Config{Nodes: []string{url}, Timeout: time.Minute})
	if err != nil {
		return err
	}
	transport.Start()
	defer transport.Close()
	if conn, err = transport.Connection(); err != nil {
		return err
	}
	return measureSide(ctx, "one rqlited", conn)
}

// measureSide times the same calls on an empty and on a full table, then the
// writes that run while everything expires.
func measureSide(ctx context.Context, name string, conn *gorqlite.Connection) error {
	small := rqlitestore.NewWithOptions(conn, rqlitestore.Options{Table: "small"})
	var later atomic.Int64 // what the clock of the large table is ahead
	large := rqlitestore.NewWithOptions(conn, rqlitestore.Options{
		Table: "large",
		Now:   func() time.Time { return time.Now().Add(time.Duration(later.Load())) },
	})
	if err := small.Prepare(ctx); err != nil {
		return err
	}
	if err := large.Prepare(ctx); err != nil {
		return err
	}
	if err := fill(ctx, conn, "large"); err != nil {
		return fmt.Errorf("fill the table: %w", err)
	}
	sessions := make(map[*rqlitestore.RqliteStore]*rqlitestore.Record)
	for _, store := range []*rqlitestore.RqliteStore{small, large} {
		rec := rqlitestore.Record{Token: "mine", ID: "mine", Data: make([]byte, 257), Expiry: time.Now().Add(time.Hour), Version: 1}
		if err := store.Create(ctx, rec); err != nil {
			return err
		}
		sessions[store] = &rec
	}
	var times [2][2][]time.Duration // find, update × small, large
	for range *calls {
		for i, store := range []*rqlitestore.RqliteStore{small, large} {
			if err := timed(&times[0][i], func() error { return find(ctx, store) }); err != nil {
				return err
			}
			if err := timed(&times[1][i], func() error { return update(ctx, store, sessions[store]) }); err != nil {
				return err
			}
		}
	}
	alone, err := writes(ctx, large, sessions[large], never, *window)
	if err != nil {
		return err
	}
	busy, err := whileSaving(ctx, conn, "large", large, sessions[large])
	if err != nil {
		return err
	}
	took, meanwhile, err := expire(ctx, large, sessions[large], &later)
	if err != nil {
		return err
	}
	fmt.Printf("| %s | %v | %v | %.2f | %v | %v | %.2f | %v | %v | %v | %v | %v |\n", name,
		median(times[0][0]), median(times[0][1]), ratio(times[0]),
		median(times[1][0]), median(times[1][1]), ratio(times[1]), longest(alone), longest(busy),
		took.Round(time.Millisecond), meanwhile[len(meanwhile)*99/100].Round(10*time.Microsecond), longest(meanwhile))
	return nil
}

// fill inserts sessions that expire in an hour by the server's own means: the
// way of the rows into the table is not what is measured.
func fill(ctx context.Context, conn *gorqlite.Connection, table string) error {
	const batch = 10_000
	expiry := julian(time.Now().Add(time.Hour))
	for from := 0; from < *rows; from += batch {
		_, err := conn.WriteParameterizedContext(ctx, []gorqlite.ParameterizedStatement{{
			Query: `WITH RECURSIVE n(i) AS (SELECT ?1 UNION ALL SELECT i+1 FROM n WHERE i<?2-1)
INSERT INTO ` + table + `(token,data,expiry,id,version) SELECT printf('%043d',(i*2654435761)%4294967296),zeroblob(257),?3+(i%3600000)/86400000.0,printf('%022d',i),1 FROM n`,
			Arguments: []any{from, min(from+batch, *rows), expiry},
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

// whileSaving writes one session over and over while others are saved, here and
// there in the table, as a removal takes them: some at once, then a pause as long.
func whileSaving(ctx context.Context, conn *gorqlite.Connection, table string, store *rqlitestore.RqliteStore, rec *rqlitestore.Record) ([]time.Duration, error) {
	var done atomic.Bool
	failed := make(chan error, 1)
	go func() {
		var err error
		for from := 0; err == nil && !done.Load(); from += 250 {
			begin := time.Now()
			_, err = conn.WriteParameterizedContext(ctx, []gorqlite.ParameterizedStatement{{
				Query: `WITH RECURSIVE n(i) AS (SELECT ?1 UNION ALL SELECT i+1 FROM n WHERE i<?1+249)
UPDATE ` + table + ` SET data=zeroblob(257),version=version+1 WHERE token IN (SELECT printf('%043d',(i*7919%?2*2654435761)%4294967296) FROM n)`,
				Arguments: []any{from, *rows},
			}})
			time.Sleep(time.Since(begin))
		}
		failed <- err
	}()
	times, err := writes(ctx, store, rec, never, *window)
	done.Store(true)
	return times, errors.Join(err, <-failed)
}

func never() bool { return false }

// expire lets the store's clock pass the expiry of all the rows, and writes one
// session over and over until they are gone.
func expire(ctx context.Context, store *rqlitestore.RqliteStore, rec *rqlitestore.Record, later *atomic.Int64) (took time.Duration, meanwhile []time.Duration, err error) {
	if err := update(ctx, store, rec, time.Now().Add(4*time.Hour)); err != nil {
		return 0, nil, err
	}
	later.Store(int64(2 * time.Hour))
	var done atomic.Bool
	failed := make(chan error, 1)
	start := time.Now()
	go func() {
		_, err := store.DeleteExpired(ctx)
		took = time.Since(start)
		done.Store(true)
		failed <- err
	}()
	if meanwhile, err = writes(ctx, store, rec, done.Load, time.Hour); err != nil {
		return 0, nil, err
	}
	return took, meanwhile, <-failed
}

// writes writes one session over and over until done says so or the time is up,
// and returns how long each write took, the shortest first.
func writes(ctx context.Context, store *rqlitestore.RqliteStore, rec *rqlitestore.Record, done func() bool, most time.Duration) (times []time.Duration, err error) {
	for start := time.Now(); !done() && time.Since(start) < most; {
		if err := timed(&times, func() error { return update(ctx, store, rec, time.Now().Add(4*time.Hour)) }); err != nil {
			return nil, err
		}
	}
	slices.Sort(times)
	return times, nil
}

func longest(sorted []time.Duration) time.Duration {
	return sorted[len(sorted)-1].Round(10 * time.Microsecond)
}

func find(ctx context.Context, store *rqlitestore.RqliteStore) error {
	_, found, err := store.Load(ctx, "mine")
	if err == nil && !found {
		err = errors.New("the session is gone")
	}
	return err
}

func update(ctx context.Context, store *rqlitestore.RqliteStore, rec *rqlitestore.Record, expiry ...time.Time) error {
	saved, err := store.Update(ctx, *rec, func(current rqlitestore.Record) (rqlitestore.Record, error) {
		for _, t := range expiry {
			current.Expiry = t
		}
		return current, nil
	})
	if err == nil {
		*rec = saved
	}
	return err
}

func timed(times *[]time.Duration, call func() error) error {
	begin := time.Now()
	err := call()
	*times = append(*times, time.Since(begin))
	return err
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2].Round(time.Microsecond)
}

func ratio(times [2][]time.Duration) float64 {
	return float64(median(times[1])) / float64(median(times[0]))
}

func julian(t time.Time) float64 { return float64(t.UnixMilli())/86_400_000 + 2_440_587.5 }
