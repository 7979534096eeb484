//go:build unix

package cluster_test

import (
	"net/http"
	"sync"
	"syscall"
	"testing"

	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
)

// Clients that take all files this process may have open leave it none for another
// connection to a node. Those that there are go on, and no node is to blame: if its
// breaker opened they would be closed, and none would come about in their place. Not
// parallel: the limit is that of all tests.
func TestTransport_shortOfFilesGoesOnWithItsConnections(t *testing.T) {
	leader := newFake(t, leading())
	failed := make(chan struct{})
	var once sync.Once
	tr := open(t, cluster.Config{Observe: func(e cluster.Event) {
		switch e.Kind {
		case cluster.BreakerOpened:
			t.Errorf("the breaker opened: %v", e.Err)
		case cluster.Retried:
			once.Do(func() { close(failed) })
		}
	}}, leader)
	mustSend(t, t.Context(), tr, query)
	leader.behave(conduct{probe: ok, request: func(w http.ResponseWriter, _ *http.Request) {
		<-failed
		ok(w, nil)
	}})

	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 3
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if status, body, err := send(t, t.Context(), tr, query); err != nil || body != okBody {
				t.Errorf("status %d, body %q, error %v: want an ok", status, body, err)
			}
		})
	}
	all.Wait()
}
