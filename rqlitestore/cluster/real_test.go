package cluster_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rqlite/gorqlite"

	"github.com/caddy-session/caddy-session/internal/rqlited"
	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
	"github.com/caddy-session/caddy-session/rqlitestore/internal/idempotent"
)

// useTable makes a table, writes and reads through the connection.
func useTable(t *testing.T, conn *gorqlite.Connection) {
	t.Helper()
	ctx, cancel := context.WithTimeout(idempotent.With(t.Context()), 10*time.Second)
	defer cancel()
	for _, sql := range []string{
		"CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)",
		"INSERT INTO t VALUES (1, 7) ON CONFLICT DO NOTHING",
	} {
		if _, err := conn.WriteOneContext(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := conn.QueryOneContext(ctx, "SELECT n FROM t WHERE id = 1")
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	if !rows.Next() {
		t.Fatal("the row is missing")
	}
	if err := rows.Scan(&n); err != nil || n != 7 {
		t.Fatalf("read %d, error %v", n, err)
	}
}

// leaderOf is the node that the transport takes for the leader.
func leaderOf(tr *cluster.Transport) string {
	for _, n := range tr.Nodes() {
		if n.Leader {
			return n.URL
		}
	}
	return ""
}

// In containers every node often advertises the same address, which means
// something else outside, or nothing.
func TestTransport_findsTheLeader_whenAdvertisedAddressesMislead(t *testing.T) {
	t.Parallel()
	c := rqlited.Start(t, 3, "-http-adv-addr", "127.0.0.1:1")
	tr := transportFor(t, c.URLs())
	conn, err := tr.Connection()
	if err != nil {
		t.Fatal(err)
	}
	useTable(t, conn)
	leader := c.Leader(t)
	if got := leaderOf(tr); got != leader.URL {
		t.Fatalf("takes %q for the leader, which is %s", got, leader.URL)
	}
	leader.Kill()
	useTable(t, conn)
	if got, want := leaderOf(tr), c.Leader(t).URL; got != want {
		t.Errorf("takes %q for the leader, which is %s", got, want)
	}
}

// A leader whose cluster has grown answers no linearizable read until something
// is written, and nobody writes before having read.
func TestTransport_readsFromAClusterThatHasGrown(t *testing.T) {
	t.Parallel()
	c := rqlited.Start(t, 1)
	through := map[string][]string{"the leader alone": c.URLs(), "one of two": append(c.URLs(), refusing(t))}
	grow := func() { c.Add(t) }
	grow()
	through["a follower alone"] = c.URLs()[1:]
	for name, urls := range through {
		t.Run(name, func(t *testing.T) {
			conn, err := transportFor(t, urls).Connection()
			if err != nil {
				t.Fatal(err)
			}
			read := func() {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				if _, err := conn.QueryOneContext(ctx, "SELECT 1 AS one"); err != nil {
					t.Fatal(err)
				}
			}
			read()
			grow()
			read()
		})
	}
}

func TestTransport_worksThroughFollowersAlone(t *testing.T) {
	t.Parallel()
	c := rqlited.Start(t, 3)
	var urls []string
	for _, n := range c.Followers(t) {
		urls = append(urls, n.URL)
	}
	for _, some := range [][]string{urls[:1], urls} {
		conn, err := transportFor(t, some).Connection()
		if err != nil {
			t.Fatal(err)
		}
		useTable(t, conn)
	}
}

func TestTransport_needsOnlyQueryAndExecute(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "auth.json")
	const users = `[{"username": "sessions", "password": "canary-secret", "perms": ["query", "execute"]},
		{"username": "*", "perms": ["ready", "status"]}]`
	if err := os.WriteFile(file, []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
	c := rqlited.Start(t, 1, "-auth", file)
	// A second address makes the transport search for the leader.
	tr, err := cluster.New(cluster.Config{
		Nodes: []string{refusing(t), c.Nodes[0].URL}, Username: "sessions", Password: "canary-secret",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	conn, err := tr.Connection()
	if err != nil {
		t.Fatal(err)
	}
	useTable(t, conn)
	if leaderOf(tr) != c.Nodes[0].URL {
		t.Error("the node does not count as the leader")
	}
}

func TestTransport_survivesARollingRestart(t *testing.T) {
	t.Parallel()
	c := rqlited.Start(t, 3)
	tr := transportFor(t, c.URLs())
	l := startLoad(t, tr)
	begun := time.Now()
	for _, n := range c.Nodes {
		n.Stop()
		n.Restart(t)
		c.WaitReady(t)
	}
	samples := l.finish()
	r := reportOn(samples, begun, time.Now())
	t.Logf("rolling restart: %s", r)
	firstErrors(t, samples)
	requireOnlyUnrepeatable(t, samples)
	l.requireNothingLost(t)
}
