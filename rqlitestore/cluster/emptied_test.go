package cluster_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
	"github.com/caddy-session/caddy-session/rqlitestore/internal/prepared"
)

const noTableBody = `{"results":[{"error":"no such table: sessions"}]}`

var noTable = says(http.StatusOK, noTableBody)

// A leader that has lost its data is not believed, nor a follower that still passes
// requests on to it, as long as the others may elect the next one.
func TestTransport_asksTheNextLeader_whenTheTableIsGone(t *testing.T) {
	t.Parallel()
	for _, path := range []string{query, execute} {
		begun := time.Now()
		for !asksTheNextLeader(t, path) { // on a slow machine it takes longer than is waited for
			if time.Since(begun) > time.Minute {
				t.Fatal("in vain: the next leader answers in time")
			}
		}
	}
}

// asksTheNextLeader reports whether there was one in time.
func asksTheNextLeader(t *testing.T, path string) bool {
	t.Helper()
	emptied := newFake(t, conduct{probe: leadingAs("a:4001").request, request: noTable})
	forwarding := conduct{probe: follows(emptied.URL), request: noTable}
	next, other := newFake(t, forwarding), newFake(t, forwarding)
	tr := open(t, cluster.Config{}, emptied, next, other)
	// What asks for a table that it has not seen is answered.
	if _, body, err := send(t, t.Context(), tr, path); err != nil || body != noTableBody {
		t.Fatalf("body %q, error %v", body, err)
	}
	before := len(emptied.requests())
	go func() {
		until(t.Context(), func() bool { return len(emptied.requests()) >= before+2 })
		next.behave(leadingAs("b:4001"))
		other.behave(following("http://b:4001"))
	}()
	begun := time.Now()
	_, body, err := send(t, prepared.With(t.Context()), tr, path)
	if body == noTableBody && time.Since(begun) > 5*time.Second {
		return false
	}
	if err != nil || body != okBody {
		t.Fatalf("body %q, error %v: want an ok", body, err)
	}
	return true
}

// Where nobody else turns up, somebody has dropped the table.
func TestTransport_saysThatTheTableIsGone_inTheEnd(t *testing.T) {
	t.Parallel()
	leader := newFake(t, answering(noTable))
	lone := open(t, cluster.Config{}, leader)
	if _, body, err := send(t, prepared.With(t.Context()), lone, query); err != nil || body != noTableBody || len(leader.requests()) != 1 {
		t.Errorf("one node: body %q, error %v after %d requests", body, err, len(leader.requests()))
	}
	other := newFake(t, conduct{probe: follows(leader.URL), request: noTable})
	tr := open(t, cluster.Config{}, leader, other)
	if _, body, err := send(t, prepared.With(t.Context()), tr, query); err != nil || body != noTableBody {
		t.Errorf("two nodes: body %q, error %v", body, err)
	}
	if n := len(leader.requests()); n < 3 {
		t.Errorf("the leader was asked %d times", n-1)
	}
}
