package cluster_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
)

func TestTransport_neverTalksToOtherHosts(t *testing.T) {
	t.Parallel()
	evil := newFake(t, leading())
	for _, status := range []int{301, 302, 303, 307, 308} {
		redirect := func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, evil.URL+r.URL.RequestURI(), status)
		}
		f := newFake(t, conduct{request: redirect})
		tr := open(t, cluster.Config{Username: "mary", Password: "canary-secret", Timeout: 100 * time.Millisecond}, f)
		conn, err := tr.Connection()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.QueryOneContext(t.Context(), "SELECT n FROM t"); err == nil {
			t.Errorf("status %d: the answer of a redirect was taken", status)
		} else if strings.Contains(err.Error(), "canary") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
	if got := evil.requests(); len(got) > 0 {
		t.Fatalf("the other host got %+v", got)
	}
}

func TestTransport_doesNotQuoteItsOwnCredentials(t *testing.T) {
	t.Parallel()
	echo := func(w http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		http.Error(w, "you sent "+r.Header.Get("Authorization")+" with "+password, http.StatusInternalServerError)
	}
	f := newFake(t, conduct{request: echo, alive: echo})
	tr := open(t, cluster.Config{Username: "mary", Password: "canary-secret"}, f)
	_, _, err := send(t, t.Context(), tr, query)
	for _, secret := range []string{"canary", "Basic", "bWFyeTpjYW5hcnktc2VjcmV0"} {
		if err == nil || strings.Contains(err.Error(), secret) || strings.Contains(tr.Nodes()[0].LastError, secret) {
			t.Errorf("error %v, last error %q", err, tr.Nodes()[0].LastError)
		}
	}
}

// stream sends forever and counts what went out.
func stream(first, rest string, sent *atomic.Int64) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		n, err := io.WriteString(w, first)
		sent.Add(int64(n))
		block := strings.Repeat(rest, 64<<10/len(rest))
		for err == nil {
			n, err = io.WriteString(w, block)
			sent.Add(int64(n))
		}
	}
}

func TestTransport_gathersNoEndlessReply(t *testing.T) {
	t.Parallel()
	// What the sockets' buffers of both sides may hold besides.
	const buffers = 16 << 20
	for name, c := range map[string]struct {
		first string
		limit int64
		most  int64
	}{
		"rubbish":         {"<html>", 1 << 30, buffers},
		"looks like JSON": {`{"results":[`, 1 << 20, buffers + 1<<20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var sent atomic.Int64
			f := newFake(t, answering(stream(c.first, " ", &sent)))
			tr := open(t, cluster.Config{MaxReply: c.limit}, f)
			if _, _, err := send(t, t.Context(), tr, execute); err == nil {
				t.Error("an endless answer was taken")
			}
			if n := sent.Load(); n > c.most {
				t.Errorf("%d bytes were taken in", n)
			}
		})
	}
}

func TestTransport_refusesAnAnnouncedHugeReply(t *testing.T) {
	t.Parallel()
	f := newFake(t, answering(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10000000000")
		_, _ = io.WriteString(w, `{"results":[`)
	}))
	tr := open(t, cluster.Config{}, f)
	_, _, err := send(t, t.Context(), tr, execute)
	if err == nil || !strings.Contains(err.Error(), "longer than allowed") {
		t.Fatalf("error %v", err)
	}
	if _, _, err := send(t, t.Context(), tr, query); err == nil {
		t.Error("a read was answered")
	}
	if n := len(f.requests()); n != 2 {
		t.Errorf("two requests were sent %d times: what is too long once is too long again", n)
	}
}

func TestTransport_takesAReplyAsLongAsAllowed(t *testing.T) {
	t.Parallel()
	unannounced := func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		ok(w, r)
	}
	for name, answer := range map[string]http.HandlerFunc{"announced": ok, "not announced": unannounced} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, answering(answer))
			mustSend(t, t.Context(), open(t, cluster.Config{MaxReply: int64(len(okBody))}, f), execute)
			_, _, err := send(t, t.Context(), open(t, cluster.Config{MaxReply: int64(len(okBody)) - 1}, f), execute)
			if err == nil || !strings.Contains(err.Error(), "longer than allowed") {
				t.Errorf("one byte more: %v", err)
			}
		})
	}
}

// What a node says in short is in the error.
func TestTransport_quotesWhatANodeSays(t *testing.T) {
	t.Parallel()
	f := newFake(t, answering(says(http.StatusInternalServerError, "disk on fire: "+strings.Repeat("x", 10_000))))
	_, _, err := send(t, t.Context(), open(t, cluster.Config{}, f), execute)
	if err == nil || !strings.Contains(err.Error(), `"disk on fire: x`) || len(err.Error()) > 1000 {
		t.Errorf("error %v", err)
	}
}

// Whoever closes an answer twice, or reads it once closed, gets no other's data.
func TestTransport_answersAreTheirCallersOwn(t *testing.T) {
	t.Parallel()
	tr := open(t, cluster.Config{}, newFake(t, answering(func(w http.ResponseWriter, r *http.Request) {
		says(http.StatusOK, `{"results":[{"values":[["`+r.URL.Query().Get("key")+`"]]}]}`)(w, r)
	})))
	ask := func(key string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://rqlite"+query+"?key="+key, strings.NewReader(`[["SELECT n FROM t"]]`))
		if err != nil {
			t.Fatal(err)
		}
		res, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	for range 50 {
		first := ask("first")
		for range 2 {
			if err := first.Body.Close(); err != nil {
				t.Fatal(err)
			}
		}
		alice, bob := ask("alice"), ask("bobby")
		if body, err := io.ReadAll(alice.Body); !strings.Contains(string(body), "alice") || err != nil {
			t.Fatalf("the answer to alice is %q, %v", body, err)
		}
		if body, err := io.ReadAll(bob.Body); !strings.Contains(string(body), "bobby") || err != nil {
			t.Fatalf("the answer to bobby is %q, %v", body, err)
		}
		if body, _ := io.ReadAll(first.Body); len(body) > 0 {
			t.Fatalf("an answer that is closed is %q", body)
		}
		alice.Body.Close()
		bob.Body.Close()
	}
}

func TestTransport_refusesEndlessHeaders(t *testing.T) {
	t.Parallel()
	f := newFake(t, answering(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", 1<<20))
		ok(w, nil)
	}))
	tr := open(t, cluster.Config{}, f)
	if _, _, err := send(t, t.Context(), tr, execute); err == nil {
		t.Fatal("a header of 1 MiB was taken")
	}
}

func TestTransport_outlastsASlowTrickle(t *testing.T) {
	t.Parallel()
	trickle := func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for i := range okBody {
			if _, err := io.WriteString(w, okBody[i:i+1]); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
		select { // the end never comes
		case <-r.Context().Done():
		case <-time.After(time.Minute):
		}
	}
	slow := newFake(t, answering(trickle))
	other := newFake(t, following(slow.URL))
	tr := open(t, cluster.Config{Timeout: 4 * time.Second}, slow, other)
	begun := time.Now()
	mustSend(t, t.Context(), tr, query)
	if took := time.Since(begun); took > 3500*time.Millisecond {
		t.Errorf("the second node was asked after %s only", took)
	}
	if _, _, err := send(t, t.Context(), tr, execute); err == nil {
		t.Error("an answer without end was taken")
	}
}
