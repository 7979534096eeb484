package caddysession_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/internal/rqlited"
)

// middlebox is what may stand between Caddy and a node: it passes requests on, and
// while it fails it does to every third of them what load balancers, proxies and
// firewalls do.
type middlebox struct {
	*httptest.Server
	node  string
	fails atomic.Bool
	late  sync.WaitGroup
}

func newMiddlebox(t *testing.T, node *rqlited.Node) *middlebox {
	t.Helper()
	m := &middlebox{node: node.URL}
	m.Server = httptest.NewServer(m)
	t.Cleanup(func() {
		m.late.Wait()
		m.CloseClientConnections()
		m.Close()
	})
	return m
}

func (m *middlebox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := bodyOf(r)
	fault := -1
	if m.fails.Load() {
		fault = rand.IntN(3 * 10)
	}
	switch fault {
	case 0: // lost on its way there
		panic(http.ErrAbortHandler)
	case 1: // it arrives when nobody waits for it any more
		m.late.Go(func() {
			pauseUpTo(500 * time.Millisecond)
			_, _, _ = m.ask(context.WithoutCancel(r.Context()), r, body) // nobody is told
		})
		panic(http.ErrAbortHandler)
	case 2: // somebody else answers
		_, _ = io.WriteString(w, "<!doctype html><title>A captive portal</title>")
		return
	case 3:
		w.WriteHeader([]int{408, 429, 500, 502, 503, 504}[rand.IntN(6)])
		return
	}
	answer, text, err := m.ask(r.Context(), r, body)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	switch fault {
	case 4: // lost on its way back
		panic(http.ErrAbortHandler)
	case 5: // it took too long, for the one in between
		w.WriteHeader(http.StatusGatewayTimeout)
		return
	case 6: // half of it is taken for all
		text = text[:rand.IntN(len(text)+1)]
	case 7: // half of it, and then the connection breaks
		w.Header().Set("Content-Length", "1000000")
		text = text[:rand.IntN(len(text)+1)]
	case 8, 9: // an old proxy, which marks no end; and one that dies within
		if conn, rw, err := http.NewResponseController(w).Hijack(); err == nil {
			defer conn.Close()
			if fault == 9 {
				text = text[:rand.IntN(len(text)+1)]
			}
			_, _ = rw.WriteString("HTTP/1.0 " + answer.Status + "\r\nContent-Type: application/json\r\n\r\n")
			_, _ = rw.Write(text)
			_ = rw.Flush()
			return
		}
	}
	for _, name := range []string{"Content-Type", "Location", "X-Rqlite-Served-By"} {
		if value := answer.Header.Get(name); value != "" {
			w.Header().Set(name, value)
		}
	}
	w.WriteHeader(answer.StatusCode)
	_, _ = w.Write(text) // the client may have gone
}

// ask passes a request on and reads the answer.
func (m *middlebox) ask(ctx context.Context, r *http.Request, body []byte) (*http.Response, []byte, error) {
	on, err := http.NewRequestWithContext(ctx, r.Method, m.node+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	on.Header = r.Header.Clone()
	answer, err := http.DefaultTransport.RoundTrip(on)
	if err != nil {
		return nil, nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer, text, err
}

// What stands between Caddy and its nodes loses, delays and mutilates requests and
// answers, and the leader fails besides: nothing that was acknowledged is lost, made
// twice or undone, and nobody is taken for a guest.
func TestFailover_throughMiddleboxesThatFail(t *testing.T) {
	nodes := rqlited.Start(t, 3)
	var boxes []*middlebox
	seen := new(rqlited.Cluster) // as Caddy sees it
	for _, node := range nodes.Nodes {
		box := newMiddlebox(t, node)
		boxes = append(boxes, box)
		seen.Nodes = append(seen.Nodes, &rqlited.Node{URL: box.URL})
	}
	fail := func(on bool) {
		for _, box := range boxes {
			box.fails.Store(on)
		}
	}
	d := newDeployment(t, seen)
	for range 2 {
		d.add().start()
	}
	l := d.startTraffic(t, false)
	fail(true)
	goOn(3 * time.Second)
	nodes.Leader(t).Kill()
	goOn(4 * time.Second)
	samples := l.end()
	all, unexpected := statuses(samples)
	t.Logf("middleboxes that fail, and a leader: %s", all)
	if unexpected > 0 {
		t.Errorf("%d answers were neither 200 nor 503", unexpected)
	}
	for _, s := range samples {
		if s.ok() && !s.write {
			if _, user, _ := shown(s.reply); user != "alice" {
				t.Fatalf("a member was answered as somebody else: %q", s.body)
			}
		}
	}
	over := l.members[:len(l.members)/2]
	l.members = l.members[len(over):]
	for i, m := range over {
		eventually(t, "a logout", func() bool { return d.caddys[i%2].post("/logout", m.cookie).status == http.StatusSeeOther })
	}
	fail(false)
	for i, p := range d.caddys {
		eventually(t, "an answer", func() bool { return p.get("/show", over[i].cookie).status == http.StatusOK })
		for _, m := range over {
			if _, user, _ := shown(p.get("/show", m.cookie).want(t, http.StatusOK)); user != "" {
				t.Error("a session is there after its logout")
			}
		}
	}
	l.checkCounters(t)
}
