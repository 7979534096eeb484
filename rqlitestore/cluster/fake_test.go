package cluster_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
	"github.com/caddy-session/caddy-session/rqlitestore/internal/idempotent"
)

// fake is a node that answers as a test wants it to. What the transport asks
// to find its way (SELECT 1) is answered but not recorded.
type fake struct {
	*httptest.Server
	conduct atomic.Pointer[conduct]
	release chan struct{} // closed at the end: hanging answers end

	mu   sync.Mutex
	seen []seen
}

// seen is a request as it arrived.
type seen struct {
	host, path, query, body, user, password string
}

// conduct is how a fake behaves. Its parts may be nil.
type conduct struct {
	probe http.HandlerFunc // the search for the leader; default: that of request
	alive http.HandlerFunc // the liveness check; default: ok
	// request answers all else.
	request http.HandlerFunc
}

func newFake(t *testing.T, c conduct) *fake {
	t.Helper()
	f := newUnstartedFake(t, c)
	f.Start()
	return f
}

func newUnstartedFake(t *testing.T, c conduct) *fake {
	t.Helper()
	f := &fake{release: make(chan struct{})}
	f.conduct.Store(&c)
	f.Server = httptest.NewUnstartedServer(f)
	t.Cleanup(func() {
		close(f.release)
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

func (f *fake) behave(c conduct) { f.conduct.Store(&c) }

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	c := f.conduct.Load()
	if strings.Contains(string(body), "SELECT 1") {
		switch {
		case strings.Contains(r.URL.RawQuery, "level=none"):
			if c.alive == nil {
				ok(w, r)
				return
			}
			c.alive(w, r)
			return
		case c.probe != nil:
			c.probe(w, r)
			return
		}
		c.request(w, r)
		return
	}
	user, password, _ := r.BasicAuth()
	f.mu.Lock()
	f.seen = append(f.seen, seen{r.Host, r.URL.Path, r.URL.RawQuery, string(body), user, password})
	f.mu.Unlock()
	c.request(w, r)
}

// requests returns what has arrived, without the transport's own questions.
func (f *fake) requests() []seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]seen(nil), f.seen...)
}

// host is the address without the scheme.
func (f *fake) host() string {
	return strings.TrimPrefix(strings.TrimPrefix(f.URL, "http://"), "https://")
}

const okBody = `{"results":[{"rows_affected":1}]}`

func ok(w http.ResponseWriter, _ *http.Request) { says(http.StatusOK, okBody)(w, nil) }

// says answers with a status and a body.
func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if strings.HasPrefix(body, "{") {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // the client may have gone: nothing to do about it
	}
}

// follows answers as a follower of the leader at this address: it forwards
// unless it is told not to.
func follows(address string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("redirect") {
			http.Redirect(w, r, address+r.URL.RequestURI(), http.StatusMovedPermanently)
			return
		}
		ok(w, r)
	}
}

// hang never answers.
func (f *fake) hang(http.ResponseWriter, *http.Request) { <-f.release }

// cutOff breaks the connection without an answer.
func cutOff(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// once answers the first request with first, later ones with then.
func once(first, then http.HandlerFunc) http.HandlerFunc {
	var n atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			first(w, r)
			return
		}
		then(w, r)
	}
}

func leading() conduct                     { return conduct{request: ok} }
func dropping() conduct                    { return conduct{request: cutOff, alive: cutOff} }
func following(leader string) conduct      { return conduct{request: follows(leader)} }
func answering(h http.HandlerFunc) conduct { return conduct{request: h, probe: ok} }

// open returns a transport over these nodes. Where a test does not say how long
// an attempt may take, it is long: the machine may be busy.
func open(t *testing.T, c cluster.Config, nodes ...*fake) *cluster.Transport {
	t.Helper()
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	for _, n := range nodes {
		c.Nodes = append(c.Nodes, n.URL)
	}
	tr, err := cluster.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	return tr
}

// counter counts the requests that were hedged: on a busy machine some are,
// in tests of other things too.
type counter struct{ hedged atomic.Int32 }

func (c *counter) observe(e cluster.Event) {
	if e.Kind == cluster.Hedged {
		c.hedged.Add(1)
	}
}

func (c *counter) count() int { return int(c.hedged.Load()) }

// kinds of requests
const (
	query   = "/db/query"
	execute = "/db/execute"
)

// send puts a statement to the cluster as gorqlite would, with a deadline.
func send(t *testing.T, ctx context.Context, tr *cluster.Transport, path string) (status int, body string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost,
		"http://rqlite"+path+"?timings&level=linearizable&transaction", strings.NewReader(`[["UPDATE t SET n = 1"]]`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := tr.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("read the body, which should be in memory: %v", err)
	}
	return res.StatusCode, string(raw), nil
}

// ask sends a request that is answered, with a deadline, and returns the body of the answer.
func ask(t *testing.T, tr *cluster.Transport, method, path, body string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://rqlite"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.Request != req {
		t.Errorf("the answer %q to %v: %v", answer, res.Request, err)
	}
	return string(answer)
}

// sending is send in the background: its error.
func sending(t *testing.T, ctx context.Context, tr *cluster.Transport, path string) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, _, err := send(t, ctx, tr, path)
		done <- err
	}()
	return done
}

// mustSend fails the test unless the cluster answers ok.
func mustSend(t *testing.T, ctx context.Context, tr *cluster.Transport, path string) {
	t.Helper()
	status, body, err := send(t, ctx, tr, path)
	if err != nil || status != http.StatusOK || body != okBody {
		t.Fatalf("status %d, body %q, error %v: want an ok", status, body, err)
	}
}

func repeatable(t *testing.T) context.Context { return idempotent.With(t.Context()) }

// eventually waits until holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("in vain: %s", what)
		}
	}
}

// until waits for something that a test makes happen, or for the end of ctx: an answer
// that waits must not outlive whoever asked.
func until(ctx context.Context, holds func() bool) {
	for !holds() && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
}

// refusing returns an address where nobody listens.
func refusing(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(nil)
	s.Close()
	return s.URL
}
