package rqlitestore_test

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-session/caddy-session/internal/rqlited"
	"github.com/caddy-session/caddy-session/rqlitestore"
	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
)

// A leader that is started again without its data leads a cluster of its own before the
// others have elected the next leader. What it does not have is not gone, and nothing is
// written there.
func TestCluster_aLeaderThatLostItsDataIsNotBelieved(t *testing.T) {
	const sessions = 8
	nodes := rqlited.Start(t, 3, "-raft-heartbeat-timeout", "1500ms", "-raft-election-timeout", "1500ms")
	tr, err := cluster.New(cluster.Config{Nodes: nodes.URLs()})
	must(t, err)
	t.Cleanup(tr.Close)
	conn, err := tr.Connection()
	must(t, err)
	s := rqlitestore.NewWithOptions(conn, rqlitestore.Options{})

	var counted [sessions]atomic.Int64 // increments that were acknowledged
	var wrong atomic.Int64
	stop := make(chan struct{})
	var load sync.WaitGroup
	for i := range sessions {
		token := fmt.Sprint("token", i)
		mustCreate(t, s, rqlitestore.Record{Token: token, ID: fmt.Sprint("id", i), Data: []byte("0")})
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				rec, found, err := s.Load(t.Context(), token)
				if err == nil && found {
					if _, err = s.Update(t.Context(), rec, increment); err == nil {
						counted[i].Add(1)
					}
				}
				if errors.Is(err, rqlitestore.ErrGone) || err == nil && !found {
					wrong.Add(1)
				}
			}
		})
	}
	all := func() (n int64) {
		for i := range counted {
			n += counted[i].Load()
		}
		return n
	}
	eventually(t, "the load runs", func() bool { return all() > 100 })

	leader := nodes.Leader(t)
	leader.Kill()
	leader.RestartEmpty(t)
	eventually(t, "the others have a leader that the transport knows", func() bool {
		for _, n := range tr.Nodes() {
			if n.Leader {
				return n.URL != leader.URL
			}
		}
		return false
	})
	before := all()
	eventually(t, "the load goes on", func() bool { return all() > before+100 })
	close(stop)
	load.Wait()

	if n := wrong.Load(); n > 0 {
		t.Errorf("%d times a session was said to be gone", n)
	}
	for i := range sessions {
		rec := mustLoad(t, s, fmt.Sprint("token", i))
		// One more may have been stored without an answer.
		if n, err := strconv.ParseInt(string(rec.Data), 10, 64); err != nil || n < counted[i].Load() {
			t.Errorf("session %d has %s increments, and %d were acknowledged", i, rec.Data, counted[i].Load())
		}
	}
}
