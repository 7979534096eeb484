package rqlitestore_test

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rqlite/gorqlite"

	"github.com/caddy-session/caddy-session/internal/rqlited"
	"github.com/caddy-session/caddy-session/rqlitestore"
	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
)

// cases are run by TestStore on every backend.
var cases []storeCase

type storeCase struct {
	name string
	run  func(t *testing.T, e *env)
}

// add joins the groups of cases, which lie beside what they are about.
func init() {
	for _, group := range [][]storeCase{scsCases, recordCases, updateCases, batchCases, faultCases, schemaCases, listCases, observeCases, portableCases} {
		cases = append(cases, group...)
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		// A node for each: SQLite under the race detector is slow enough for the
		// large rows of one case to take the time that another's calls have.
		runCases(t, embeddedEnv)
	})
	t.Run("one rqlite node", func(t *testing.T) {
		t.Parallel()
		runCases(t, serverEnv(rqlited.Start(t, 1).Nodes[0].URL, newTransport(t)))
	})
	t.Run("three rqlite nodes", func(t *testing.T) {
		t.Parallel()
		// Over a follower, so that every request is forwarded.
		runCases(t, serverEnv(rqlited.Start(t, 3).Followers(t)[0].URL, newTransport(t)))
	})
}

// serverEnv makes each case a table of its own on one server.
func serverEnv(url string, base http.RoundTripper) func(*testing.T) *env {
	return func(*testing.T) *env {
		return &env{url: url, base: base, table: fmt.Sprintf("t%d", tables.Add(1))}
	}
}

// embeddedEnv makes a node of its own.
func embeddedEnv(t *testing.T) *env {
	t.Helper()
	// The machine does not crash here, so there is no need to wait for its disk.
	n := embedded.New(filepath.Join(t.TempDir(), "sessions.db"), embedded.Options{Synchronous: "normal"})
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close the embedded node: %v", err)
		}
	})
	return &env{url: "http://embedded.invalid", base: n, table: "sessions"}
}

func newTransport(t *testing.T) *http.Transport {
	tr := &http.Transport{MaxIdleConns: 256, MaxIdleConnsPerHost: 256}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func runCases(t *testing.T, newEnv func(*testing.T) *env) {
	t.Run("cases", func(t *testing.T) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, newEnv(t))
			})
		}
	})
	t.Logf("%d cases ran on %s", len(cases), t.Name())
}

var tables atomic.Int64

// env is where a case runs.
type env struct {
	url   string
	base  http.RoundTripper
	table string
}

// conn returns a connection over the backend, with the wraps around it.
func (e *env) conn(t testing.TB, wraps ...func(http.RoundTripper) http.RoundTripper) *gorqlite.Connection {
	t.Helper()
	rt := e.base
	for _, w := range wraps {
		rt = w(rt)
	}
	conn, err := gorqlite.OpenWithClient(e.url+"?disableClusterDiscovery=true&level=linearizable", &http.Client{Transport: rt})
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// store returns a store on the case's table, without cleanup.
func (e *env) store(t testing.TB, wraps ...func(http.RoundTripper) http.RoundTripper) *rqlitestore.RqliteStore {
	t.Helper()
	return e.storeWith(t, rqlitestore.Options{}, wraps...)
}

func (e *env) storeWith(t testing.TB, o rqlitestore.Options, wraps ...func(http.RoundTripper) http.RoundTripper) *rqlitestore.RqliteStore {
	t.Helper()
	if o.Table == "" {
		o.Table = e.table
	}
	s := rqlitestore.NewWithOptions(e.conn(t, wraps...), o)
	t.Cleanup(s.StopCleanup)
	return s
}

// exec runs SQL beside the store; {t} stands for the table.
func (e *env) exec(t testing.TB, sql ...string) {
	t.Helper()
	for i := range sql {
		sql[i] = strings.ReplaceAll(sql[i], "{t}", e.table)
	}
	if _, err := e.conn(t).Write(sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// number asks for one number beside the store.
func (e *env) number(t testing.TB, sql string) int {
	t.Helper()
	r, err := e.conn(t).QueryOne(strings.ReplaceAll(sql, "{t}", e.table))
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if !r.Next() {
		t.Fatalf("%s: no row", sql)
	}
	if err := r.Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// clock is a time that only moves when it is told to.
type clock struct{ ms atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ms.Store(time.Now().UnixMilli())
	return c
}

func (c *clock) Now() time.Time               { return time.UnixMilli(c.ms.Load()) }
func (c *clock) Add(d time.Duration)          { c.ms.Add(d.Milliseconds()) }
func (c *clock) In(d time.Duration) time.Time { return c.Now().Add(d) }

func inAnHour() time.Time { return time.Now().Add(time.Hour) }

// eventually waits until what holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

// unhurried is a context that leaves a busy machine its time.
func unhurried(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustLoad(t testing.TB, s *rqlitestore.RqliteStore, token string) rqlitestore.Record {
	t.Helper()
	rec, ok, err := s.Load(unhurried(t), token)
	if err != nil || !ok {
		t.Fatalf("load: found %v, error %v", ok, err)
	}
	return rec
}

func mustCreate(t testing.TB, s *rqlitestore.RqliteStore, rec rqlitestore.Record) rqlitestore.Record {
	t.Helper()
	if rec.Expiry.IsZero() {
		rec.Expiry = inAnHour()
	}
	must(t, s.Create(unhurried(t), rec))
	return mustLoad(t, s, rec.Token)
}

func mustUpdate(t testing.TB, s *rqlitestore.RqliteStore, rec rqlitestore.Record, apply func(*rqlitestore.Record)) rqlitestore.Record {
	t.Helper()
	rec, err := s.Update(unhurried(t), rec, func(cur rqlitestore.Record) (rqlitestore.Record, error) {
		apply(&cur)
		return cur, nil
	})
	must(t, err)
	return rec
}

func found(t testing.TB, s *rqlitestore.RqliteStore, token string) bool {
	t.Helper()
	_, ok, err := s.Load(unhurried(t), token)
	must(t, err)
	return ok
}
