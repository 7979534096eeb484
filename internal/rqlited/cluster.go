// Package rqlited starts real rqlite nodes for tests and breaks them on
// purpose: kill, stop, freeze, thaw, restart.
//
// The binary is named by the environment variable RQLITED. Without it the
// tests that need one are skipped.
package rqlited

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// Env names the environment variable that holds the path of rqlited.
const Env = "RQLITED"

// startTimeout bounds how long a node or an election may take on a busy machine.
const startTimeout = 60 * time.Second

// Cluster is a set of nodes that know each other.
type Cluster struct {
	Nodes []*Node
}

// Start starts n nodes with rqlite's default timings, joins them to one
// cluster and waits until each of them answers. extra flags are passed to every
// node. The nodes are killed and their data is removed when tb ends. Without
// RQLITED the test is skipped.
func Start(tb testing.TB, n int, extra ...string) *Cluster {
	tb.Helper()
	bin := os.Getenv(Env)
	if bin == "" {
		tb.Skipf("%s is not set: it names the rqlited binary that this test runs against", Env)
	}
	first := newNode(tb, bin, extra)
	first.start(tb)
	first.WaitReady(tb)
	c := &Cluster{Nodes: []*Node{first}}
	for len(c.Nodes) < n {
		c.Add(tb)
	}
	c.WaitReady(tb)
	return c
}

// Add starts one more node, joins it to the cluster through the first one and
// waits until it answers.
func (c *Cluster) Add(tb testing.TB) *Node {
	tb.Helper()
	first := c.Nodes[0]
	node := newNode(tb, first.bin, first.flags)
	node.start(tb, "-join", first.raft)
	c.Nodes = append(c.Nodes, node)
	node.WaitReady(tb)
	return node
}

// Remove takes a node that is not the leader out of the cluster. Its process goes on.
func (c *Cluster) Remove(tb testing.TB, node *Node) {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodDelete, c.Leader(tb).URL+"/remove", strings.NewReader(`{"id":"`+node.raft+`"}`))
	if err != nil {
		tb.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		tb.Fatalf("rqlited: removing a node: %s", res.Status)
	}
}

// URLs returns the address of each node, such as http://127.0.0.1:4001.
func (c *Cluster) URLs() []string {
	urls := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		urls[i] = n.URL
	}
	return urls
}

// WaitReady waits until every running node reports that it has a leader and
// takes requests. Killed, stopped and frozen nodes are not waited for.
func (c *Cluster) WaitReady(tb testing.TB) {
	tb.Helper()
	for _, n := range c.Nodes {
		if n.Running() {
			n.WaitReady(tb)
		}
	}
}

// Leader returns the node that the running nodes take for their leader and
// that says so itself. It waits for an election to end.
func (c *Cluster) Leader(tb testing.TB) *Node {
	tb.Helper()
	var leader *Node
	eventually(tb, "a leader", func() bool {
		for _, n := range c.Nodes {
			if n.Running() && n.leads() {
				leader = n
				return true
			}
		}
		return false
	})
	return leader
}

// Followers returns the running nodes that are not the leader.
func (c *Cluster) Followers(tb testing.TB) []*Node {
	tb.Helper()
	leader := c.Leader(tb)
	var out []*Node
	for _, n := range c.Nodes {
		if n != leader && n.Running() {
			out = append(out, n)
		}
	}
	return out
}

// leads asks the node itself whether it is the leader.
func (n *Node) leads() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.URL+"/status", nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	var status struct {
		Store struct {
			Raft struct {
				State string `json:"state"`
			} `json:"raft"`
		} `json:"store"`
	}
	if json.NewDecoder(res.Body).Decode(&status) != nil {
		return false
	}
	return strings.EqualFold(status.Store.Raft.State, "leader")
}

// eventually polls until what holds and fails the test when it does not.
func eventually(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(startTimeout)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			tb.Fatalf("rqlited: no %s after %s", what, startTimeout)
		}
	}
}
