package rqlited_test

import (
	"testing"

	"github.com/caddy-session/caddy-session/internal/rqlited"
)

func TestCluster_survivesEveryVerb(t *testing.T) {
	t.Parallel()
	c := rqlited.Start(t, 3)
	old := c.Leader(t)
	if got := len(c.Followers(t)); got != 2 {
		t.Fatalf("%d followers in a cluster of 3", got)
	}

	old.Freeze(t)
	next := c.Leader(t)
	if next == old {
		t.Fatal("a frozen node is reported as the leader")
	}
	old.Thaw(t)
	c.WaitReady(t)

	next.Kill()
	if c.Leader(t) == next {
		t.Fatal("a killed node is reported as the leader")
	}
	next.Restart(t)
	c.WaitReady(t)

	last := c.Leader(t)
	last.Stop()
	c.WaitReady(t)
	last.Restart(t)
	c.WaitReady(t)
}
