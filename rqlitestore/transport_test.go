package rqlitestore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// What the tests put between a store and its database.

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

var errLost = errors.New("reply lost by the test")

func isQuery(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/db/query") }

// counter counts requests.
type counter struct{ queries, writes atomic.Int64 }

func (c *counter) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if isQuery(r) {
			c.queries.Add(1)
		} else {
			c.writes.Add(1)
		}
		return next.RoundTrip(r)
	})
}

// affected is how many rows the largest of the writes has changed.
type affected struct{ atomic.Int64 }

func (a *affected) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		res, err := next.RoundTrip(r)
		if err != nil || isQuery(r) {
			return res, err
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return nil, err
		}
		res.Body.Close()
		res.Body = io.NopCloser(bytes.NewReader(body))
		var answer struct {
			Results []struct {
				Rows int64 `json:"rows_affected"`
			} `json:"results"`
		}
		_ = json.Unmarshal(body, &answer) // the store tells what is wrong with it
		for _, result := range answer.Results {
			a.Store(max(a.Load(), result.Rows))
		}
		return res, nil
	})
}

// loser loses writes on their way there, and replies on their way back.
type loser struct{ there, back float64 }

func (l loser) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if isQuery(r) {
			return next.RoundTrip(r)
		}
		if rand.Float64() < l.there {
			return nil, errLost
		}
		res, err := next.RoundTrip(r)
		if err == nil && rand.Float64() < l.back {
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			return nil, errLost
		}
		return res, err
	})
}

// gate holds requests that it is told to hold, before they are sent.
type gate struct {
	mu    sync.Mutex
	match func(*http.Request) bool // nil: everything passes
	after bool                     // hold the reply, not the request
	held  chan struct{}            // one value for each request that is held
	open  chan struct{}
}

// newGate makes a gate that holds what matches until it is opened. After that
// everything passes.
func newGate(t testing.TB, match func(*http.Request) bool) *gate {
	g := &gate{match: match, held: make(chan struct{}, 1000), open: make(chan struct{})}
	t.Cleanup(g.release)
	return g
}

// release lets pass what is held, and everything from then on.
func (g *gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.match = nil
	select {
	case <-g.open:
	default:
		close(g.open)
	}
}

func (g *gate) holds(r *http.Request) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.match != nil && g.match(r)
}

func (g *gate) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if !g.holds(r) {
			return next.RoundTrip(r)
		}
		if g.after {
			res, err := next.RoundTrip(r)
			g.held <- struct{}{}
			<-g.open
			return res, err
		}
		g.held <- struct{}{}
		<-g.open
		return next.RoundTrip(r)
	})
}

// delayer keeps each write that matches, to deliver it late or again.
type delayer struct {
	swallow bool // fail the request itself instead of sending it
	match   func(body string) bool

	mu   sync.Mutex
	next http.RoundTripper
	late []func(context.Context) *http.Request
}

func (d *delayer) wrap(next http.RoundTripper) http.RoundTripper {
	d.next = next
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body.Close()
		again := func(ctx context.Context) *http.Request {
			c := r.Clone(ctx)
			c.Body = io.NopCloser(bytes.NewReader(body))
			return c
		}
		d.mu.Lock()
		matches := !isQuery(r) && d.match(string(body))
		if matches {
			d.late = append(d.late, again)
		}
		d.mu.Unlock()
		if matches && d.swallow {
			return nil, errLost
		}
		return next.RoundTrip(again(r.Context()))
	})
}

// deliver sends what was kept, once more, and returns how many requests that
// were.
func (d *delayer) deliver(t testing.TB) int {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, again := range d.late {
		res, err := d.next.RoundTrip(again(t.Context()))
		if err != nil {
			t.Fatalf("deliver a late request: %v", err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	return len(d.late)
}
