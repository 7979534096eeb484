package rqlitestore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore"
	"github.com/caddy-session/caddy-session/rqlitestore/internal/idempotent"
)

var batchCases = []storeCase{
	{"Batch_callsThatWaitTravelTogether", func(t *testing.T, e *env) {
		const callers = 1000
		var n counter
		writes := newGate(t, func(r *http.Request) bool { return !isQuery(r) })
		reads := newGate(t, isQuery)
		var most atomic.Int64
		s := e.storeWith(t, rqlitestore.Options{Observe: func(r rqlitestore.Request) {
			most.Store(max(most.Load(), int64(r.Rows))) // of writes there is one at a time
		}}, n.wrap, writes.wrap)
		must(t, e.store(t).Prepare(unhurried(t)))
		must(t, s.Prepare(unhurried(t)))
		n.queries.Store(0)
		gather(t, s, callers, writes, func(i int) {
			if err := s.CommitCtx(unhurried(t), fmt.Sprint("token", i), fmt.Append(nil, "data", i), inAnHour()); err != nil {
				t.Error(err)
			}
		})
		if got := n.writes.Load(); got > callers/20 {
			t.Errorf("%d commits were %d requests", callers, got)
		}
		if got := most.Load(); got > 512 {
			t.Errorf("one request had %d commits: it holds others up", got)
		}
		if got := e.number(t, "SELECT count(*) FROM {t}"); got != callers {
			t.Errorf("%d rows of %d commits", got, callers)
		}
		r := e.store(t, n.wrap, reads.wrap)
		reads.match = nil
		must(t, r.Prepare(unhurried(t)))
		reads.match = isQuery
		n.queries.Store(0)
		gather(t, r, callers, reads, func(i int) {
			b, ok, err := r.FindCtx(unhurried(t), fmt.Sprint("token", i))
			if string(b) != fmt.Sprint("data", i) || !ok || err != nil {
				t.Errorf("find %d: got %q, %v, %v", i, b, ok, err)
			}
		})
		if got := n.queries.Load(); got > callers/20 {
			t.Errorf("%d finds were %d requests", callers, got)
		}
	}},
	{"Batch_callWithoutADeadlineDoesNotWaitForEver", func(t *testing.T, e *env) {
		g := newGate(t, func(r *http.Request) bool { return !isQuery(r) })
		must(t, e.store(t).Prepare(unhurried(t)))
		s := e.store(t, g.wrap)
		must(t, s.Prepare(unhurried(t)))
		go func() { _ = s.Commit("held", nil, inAnHour()) }()
		<-g.held
		begin := time.Now()
		err := s.Commit("waits", nil, inAnHour())
		if took := time.Since(begin); !errors.Is(err, context.DeadlineExceeded) || took < 5*time.Second {
			t.Errorf("got %v after %v", err, took)
		}
		g.release()
		eventually(t, "nothing is under way", func() bool { return s.Waiting() == 0 })
		if found(t, s, "waits") {
			t.Error("a call that had given up was sent all the same")
		}
	}},
	{"Batch_whoseAnswerIsLostIsNotSentAgain", func(t *testing.T, e *env) {
		var n counter
		g := newGate(t, func(r *http.Request) bool { return !isQuery(r) })
		must(t, e.store(t).Prepare(unhurried(t)))
		s := e.store(t, n.wrap, loser{back: 1}.wrap, g.wrap)
		gather(t, s, 10, g, func(i int) {
			if err := s.Commit(fmt.Sprint("token", i), []byte("data"), inAnHour()); err == nil {
				t.Error("an answer that was lost is taken for one")
			}
		})
		if got := n.writes.Load(); got > 2 { // the first one, and the others
			t.Errorf("there were %d requests", got)
		}
	}},
	// Nobody who waits with others for one row is told that it is not there because
	// nobody could ask.
	{"Batch_errorOfASharedReadReachesAllWhoShareIt", func(t *testing.T, e *env) {
		must(t, e.store(t).CommitCtx(unhurried(t), "token", []byte("data"), inAnHour()))
		var down atomic.Bool
		g := newGate(t, func(r *http.Request) bool { return isQuery(r) && down.Load() })
		s := e.store(t, func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				if down.Load() {
					return nil, errLost
				}
				return next.RoundTrip(r)
			})
		}, g.wrap)
		must(t, s.Prepare(unhurried(t)))
		down.Store(true)
		inTurn(t, s, 20, g, func(i int) {
			if b, ok, err := s.FindCtx(unhurried(t), "token"); err == nil {
				t.Errorf("with the database down, find %d got %q, %v", i, b, ok)
			}
		})
	}},
	// A full disk, say, is not searched for the one row that fills it.
	{"Batch_errorOfAllIsNotSearched", func(t *testing.T, e *env) {
		must(t, e.store(t).Prepare(unhurried(t)))
		var n counter
		g := newGate(t, func(r *http.Request) bool { return !isQuery(r) })
		s := e.store(t, func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				if isQuery(r) {
					return next.RoundTrip(r)
				}
				const full = `{"results":[{"error":"database or disk is full"}]}`
				return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(full)), Request: r}, nil
			})
		}, n.wrap, g.wrap)
		must(t, s.Prepare(unhurried(t)))
		gather(t, s, 50, g, func(i int) {
			if err := s.CommitCtx(unhurried(t), fmt.Sprint("token", i), nil, inAnHour()); err == nil || !strings.Contains(err.Error(), "disk is full") {
				t.Errorf("got %v", err)
			}
		})
		if got := n.writes.Load(); got > 2 { // the first one, and the others
			t.Errorf("there were %d requests", got)
		}
	}},
	{"Batch_sameTokenIsSharedByFindsAndOrderedForWrites", func(t *testing.T, e *env) {
		var n counter
		s := e.store(t, n.wrap)
		var wg sync.WaitGroup
		var last atomic.Int64
		for i := range 50 {
			wg.Go(func() {
				if err := s.Commit("token", fmt.Append(nil, i), inAnHour()); err != nil {
					t.Error(err)
				}
				last.Store(int64(i))
			})
		}
		wg.Wait()
		var mu sync.Mutex
		seen := map[string]int{}
		for range 50 {
			wg.Go(func() {
				b, ok, err := s.Find("token")
				if !ok || err != nil {
					t.Errorf("got %v, %v", ok, err)
					return
				}
				mu.Lock()
				seen[string(b)]++
				mu.Unlock()
				clear(b) // what one caller does to its data is nobody else's business
			})
		}
		wg.Wait()
		if len(seen) != 1 {
			t.Errorf("one token was found with %d different data: %v", len(seen), seen)
		}
	}},
	{"Batch_commitsOfOneTokenAreStoredInTurn", func(t *testing.T, e *env) {
		g := newGate(t, func(r *http.Request) bool { return !isQuery(r) })
		s := e.store(t, g.wrap)
		must(t, e.store(t).Prepare(unhurried(t)))
		inTurn(t, s, 5, g, func(i int) {
			if err := s.Commit("token", fmt.Append(nil, i), inAnHour()); err != nil {
				t.Error(err)
			}
		})
		if got, _, err := e.store(t).Find("token"); err != nil || string(got) != "4" {
			t.Errorf("of five commits, 0 to 4, %s was stored last, %v", got, err)
		}
	}},
	{"Batch_touchesOfOneSessionDoNotHideEachOther", func(t *testing.T, e *env) {
		rec := mustCreate(t, e.store(t), rqlitestore.Record{Token: "token", ID: "id"})
		g := newGate(t, func(r *http.Request) bool { return !isQuery(r) })
		s := e.store(t, g.wrap)
		must(t, s.Prepare(unhurried(t)))
		inTurn(t, s, 20, g, func(i int) {
			if err := s.Touch(unhurried(t), "id", rec.Expiry.Add(time.Duration(i)*time.Minute)); err != nil {
				t.Error(err)
			}
		})
		if got := mustLoad(t, s, "token").Expiry.Sub(rec.Expiry); got != 19*time.Minute {
			t.Errorf("the farthest of the touches was lost: %v", got)
		}
	}},
	{"Batch_errorReachesItsCallerOnly", func(t *testing.T, e *env) {
		e.exec(t, `CREATE TABLE {t}(token TEXT PRIMARY KEY,data BLOB NOT NULL,expiry REAL NOT NULL,CHECK(token NOT LIKE 'poison%'))`)
		g := newGate(t, func(r *http.Request) bool { return !isQuery(r) })
		s := e.store(t, g.wrap)
		must(t, e.store(t).Prepare(unhurried(t)))
		must(t, s.Prepare(unhurried(t)))
		together(200, g, func(i int) {
			token := fmt.Sprint("token", i)
			if i%50 == 0 {
				token = fmt.Sprint("poison", i)
			}
			err := s.Commit(token, []byte("data"), inAnHour())
			if strings.HasPrefix(token, "poison") != (err != nil) {
				t.Errorf("%s: %v", token, err)
			}
			if err != nil && strings.Contains(err.Error(), token) {
				t.Errorf("the token is in the error: %v", err)
			}
		})
		if got := e.number(t, "SELECT count(*) FROM {t}"); got != 196 {
			t.Errorf("%d rows, want 196", got)
		}
	}},
	{"Batch_callerThatGivesUpLeavesAtOnceAndAlone", func(t *testing.T, e *env) {
		g := newGate(t, func(r *http.Request) bool { return !isQuery(r) })
		s := e.store(t, g.wrap)
		must(t, e.store(t).Prepare(unhurried(t)))
		must(t, s.Prepare(unhurried(t)))
		ctx, cancel := context.WithCancelCause(context.Background())
		why := errors.New("client went away")
		errs := make(chan error)
		go func() { errs <- s.CommitCtx(ctx, "sent", []byte("data"), inAnHour()) }()
		<-g.held // its request is under way
		go func() { errs <- s.CommitCtx(ctx, "waiting", []byte("data"), inAnHour()) }()
		go func() { errs <- s.Commit("other", []byte("data"), inAnHour()) }()
		cancel(why)
		for range 2 {
			if err := <-errs; !errors.Is(err, why) {
				t.Errorf("a caller that gave up got %v", err)
			}
		}
		g.release()
		must(t, <-errs)
		eventually(t, "what was sent is stored", func() bool { return e.number(t, "SELECT count(*) FROM {t}") == 2 })
		for token, want := range map[string]bool{"sent": true, "waiting": false, "other": true} {
			if _, ok, err := s.Find(token); ok != want || err != nil {
				t.Errorf("%s: found %v, want %v, %v", token, ok, want, err)
			}
		}
	}},
	{"Batch_findSeesEveryWriteBeforeIt", func(t *testing.T, e *env) {
		must(t, e.store(t).Commit("token", []byte("old"), inAnHour()))
		g := newGate(t, isQuery)
		s := e.store(t, g.wrap)
		g.match = nil
		must(t, s.Prepare(unhurried(t)))
		g.after, g.match = true, isQuery
		first := make(chan string)
		find := func() {
			b, _, err := s.Find("token")
			if err != nil {
				t.Error(err)
			}
			first <- string(b)
		}
		go find()
		<-g.held // it has read the old data and is on its way back
		must(t, s.Commit("token", []byte("new"), inAnHour()))
		go find()
		g.release()
		got := []string{<-first, <-first}
		if got[0] != "new" && got[1] != "new" {
			t.Errorf("a find that began after the commit got %q", got)
		}
	}},
	{"Batch_bigRowsAreSplit", func(t *testing.T, e *env) {
		g := newGate(t, func(r *http.Request) bool { return !isQuery(r) })
		var n counter
		var biggest atomic.Int64
		s := e.store(t, n.wrap, g.wrap, func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				for {
					b := biggest.Load()
					if r.ContentLength <= b || biggest.CompareAndSwap(b, r.ContentLength) {
						return next.RoundTrip(r)
					}
				}
			})
		})
		must(t, e.store(t).Prepare(unhurried(t)))
		must(t, s.Prepare(unhurried(t)))
		data := make([]byte, 14<<10)
		together(40, g, func(i int) {
			if err := s.Commit(fmt.Sprint("token", i), data, inAnHour()); err != nil {
				t.Error(err)
			}
		})
		if b := biggest.Load(); b > 1<<20+4096 {
			t.Errorf("the biggest request has %d bytes", b)
		}
	}},
	{"Batch_largeSessionsAreReadInSeveralRequests", func(t *testing.T, e *env) {
		const sessions, size = 45, 100 << 10
		var biggest atomic.Int64
		reads := newGate(t, nil)
		s := e.store(t, reads.wrap, func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				res, err := next.RoundTrip(r)
				if err != nil {
					return nil, err
				}
				b, err := io.ReadAll(res.Body)
				res.Body = io.NopCloser(bytes.NewReader(b))
				biggest.Store(max(biggest.Load(), int64(len(b)))) // there may be two at a time, of which each is too big
				return res, err
			})
		})
		var rows []rqlitestore.Row
		for i := range sessions {
			rows = append(rows, rqlitestore.Row{Token: fmt.Sprint("token", i), Data: bytes.Repeat([]byte{byte(i)}, size), Expiry: inAnHour()})
		}
		for i, data := range [][]byte{[]byte("small"), make([]byte, 4<<20)} { // and one that has no room beside any other
			rows = append(rows, rqlitestore.Row{Token: fmt.Sprint("token", sessions+i), Data: data, Expiry: inAnHour()})
		}
		mustImport(t, s, rows, sessions+2)
		reads.match = isQuery
		gather(t, s, 2*len(rows), reads, func(i int) { // two share a row
			i %= len(rows)
			ctx := unhurried(t)
			b, ok, err := s.FindCtx(ctx, fmt.Sprint("token", i))
			for errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil { // a busy machine may take longer than a request has
				b, ok, err = s.FindCtx(ctx, fmt.Sprint("token", i))
			}
			if !ok || err != nil || !bytes.Equal(b, rows[i].Data) {
				t.Errorf("find %d: %d bytes, %v, %v", i, len(b), ok, err)
			}
		})
		if b := biggest.Load(); b > 11<<20 {
			t.Errorf("the biggest answer has %d bytes", b)
		}
		eventually(t, "no call waits", func() bool { return s.Waiting() == 0 })
	}},
	// Rows of which nobody knows the size yet do not get the room of a large one.
	{"Batch_largeSessionMakesNoRoomForOthersBesideIt", func(t *testing.T, e *env) {
		must(t, e.store(t).Prepare(unhurried(t)))
		e.exec(t, `WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i+1 FROM n WHERE i<7)
INSERT INTO {t}(token,data,expiry) SELECT 'token'||i,zeroblob(600000),9e6 FROM n`,
			`INSERT INTO {t}(token,data,expiry) VALUES('large',zeroblob(4<<20),9e6)`)
		var biggest atomic.Int64
		requests := make(chan chan struct{}, 100)
		var ready, free atomic.Bool
		s := e.store(t, func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				if ready.Load() && !free.Load() {
					pass := make(chan struct{})
					requests <- pass
					<-pass
				}
				res, err := next.RoundTrip(r)
				if err != nil {
					return nil, err
				}
				b, err := io.ReadAll(res.Body)
				res.Body = io.NopCloser(bytes.NewReader(b))
				biggest.Store(max(biggest.Load(), int64(len(b))))
				return res, err
			})
		})
		must(t, s.Prepare(unhurried(t)))
		ready.Store(true)
		var wg sync.WaitGroup
		find := func(tokens ...string) {
			for _, token := range tokens {
				wg.Go(func() {
					if _, _, err := s.FindCtx(unhurried(t), token); err != nil && !errors.Is(err, context.DeadlineExceeded) { // as on a busy machine
						t.Error(err)
					}
				})
			}
		}
		find("none") // it, and another one, in a request of its own
		a := <-requests
		find("none either")
		b := <-requests
		find("large", "token0") // of which one is too large for half an answer
		eventually(t, "all calls wait", func() bool { return s.Waiting() == 4 })
		close(a)
		c := <-requests
		eventually(t, "the first has landed", func() bool { return s.Waiting() == 3 })
		find("token1", "token2", "token3", "token4", "token5", "token6", "token7")
		eventually(t, "all calls wait", func() bool { return s.Waiting() == 10 })
		close(c)
		d := <-requests
		free.Store(true)
		close(b)
		close(d)
		wg.Wait()
		if b := biggest.Load(); b > 11<<20 {
			t.Errorf("the biggest answer has %d bytes", b)
		}
	}},
	{"Batch_secondRequestOfReadsIsNoSmallerThanTheFirst", func(t *testing.T, e *env) {
		must(t, e.store(t).Prepare(unhurried(t)))
		for first, second := range map[int]int{10: 24, 40: 40} {
			type held struct {
				rows int
				pass chan struct{}
			}
			requests := make(chan held)
			s := e.store(t, func(next http.RoundTripper) http.RoundTripper {
				return roundTripper(func(r *http.Request) (*http.Response, error) {
					body, err := r.GetBody()
					must(t, err)
					b, err := io.ReadAll(body)
					must(t, err)
					if rows := strings.Count(string(b), hexOf("token")); rows > 0 {
						h := held{rows, make(chan struct{})}
						requests <- h
						<-h.pass
					}
					return next.RoundTrip(r)
				})
			})
			must(t, s.Prepare(unhurried(t)))
			var wg sync.WaitGroup
			begun := 0
			find := func(n int) {
				for range n {
					begun++
					token := fmt.Sprint("token", begun)
					wg.Go(func() {
						if _, _, err := s.Find(token); err != nil {
							t.Error(err)
						}
					})
				}
			}
			find(2) // each in a request of its own
			a, b := <-requests, <-requests
			find(first)
			eventually(t, "all calls wait", func() bool { return s.Waiting() == 2+first })
			close(a.pass)
			c := <-requests
			close(b.pass)
			eventually(t, "both have landed", func() bool { return s.Waiting() == first })
			find(second - 1)
			eventually(t, "all calls wait", func() bool { return s.Waiting() == first+second-1 })
			find(1)
			d := <-requests
			if got := [...]int{a.rows, b.rows, c.rows, d.rows}; got != [...]int{1, 1, first, second} {
				t.Errorf("requests of %v rows, want 1, 1, %d and beside it %d", got, first, second)
			}
			close(c.pass)
			close(d.pass)
			wg.Wait()
		}
	}},
	{"Repeatable_isMarkedForTheTransport", func(t *testing.T, e *env) {
		var marked, unmarked atomic.Int64
		s := e.store(t, func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				switch {
				case isQuery(r): // always repeatable
				case idempotent.Is(r.Context()):
					marked.Add(1)
				default:
					unmarked.Add(1)
				}
				return next.RoundTrip(r)
			})
		})
		ctx := unhurried(t)
		must(t, s.Prepare(ctx))
		must(t, s.CommitCtx(ctx, "expired", nil, time.Now().Add(-time.Hour)))
		rec := rqlitestore.Record{Token: "a", ID: "id", Expiry: inAnHour()}
		for _, op := range []struct {
			name string
			may  bool
			do   func() error
		}{
			{"commit", false, func() error { return s.Commit("token", nil, inAnHour()) }},
			{"create", false, func() error { return s.Create(ctx, rec) }},
			{"update", true, func() (err error) { rec, err = s.Update(ctx, mustLoad(t, s, "a"), keep); return }},
			{"renew", true, func() (err error) {
				rec, err = s.Update(ctx, rec, func(r rqlitestore.Record) (rqlitestore.Record, error) { r.Token = "b"; return r, nil })
				return
			}},
			{"touch", true, func() error { return s.Touch(ctx, "id", inAnHour().Add(time.Hour)) }},
			{"presented", true, func() error { return s.Presented(ctx, "id", "b") }},
			{"destroy", true, func() error { return s.Destroy(ctx, "id") }},
			{"destroy principal", true, func() error { return s.DestroyPrincipals(ctx, []string{"alice"}, "id") }},
			{"delete", true, func() error { return s.Delete("token") }},
			{"import", true, func() error {
				_, err := s.Import(ctx, []rqlitestore.Row{{Token: "row", Expiry: inAnHour()}})
				return err
			}},
			{"cleanup", true, func() error { _, err := s.DeleteExpired(ctx); return err }},
		} {
			marked.Store(0)
			unmarked.Store(0)
			must(t, op.do())
			if m, u := marked.Load(), unmarked.Load(); m+u != 1 || (m == 1) != op.may {
				t.Errorf("%s: %d requests that may be repeated, %d that may not", op.name, m, u)
			}
		}
		must(t, s.Create(ctx, rec))
		marked.Store(0)
		unmarked.Store(0)
		if err := s.Create(ctx, rec); !errors.Is(err, rqlitestore.ErrExists) {
			t.Error(err)
		}
		if m, u := marked.Load(), unmarked.Load(); m != 1 || u != 1 {
			t.Errorf("a create and the question what became of it: %d requests that may be repeated, %d that may not", m, u)
		}
	}},
}

// together runs f in n goroutines. The gate's first request is held until all
// of them run, so that they meet.
func together(n int, g *gate, f func(i int)) {
	var wg sync.WaitGroup
	var begun atomic.Int64
	all := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			if begun.Add(1) == int64(n) {
				close(all)
			}
			f(i)
		})
	}
	<-g.held
	<-all
	g.release()
	wg.Wait()
}

// inTurn is gather for calls each of which comes when the ones before it wait.
func inTurn(t testing.TB, s *rqlitestore.RqliteStore, n int, g *gate, f func(i int)) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
		eventually(t, "the call waits", func() bool { return s.Waiting() == i+1 })
	}
	g.release()
	wg.Wait()
}

// gather is together for calls of a store of which all are to wait when the gate
// opens: a goroutine that runs may still be on its way to the store.
func gather(t testing.TB, s *rqlitestore.RqliteStore, n int, g *gate, f func(i int)) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	<-g.held
	eventually(t, "all calls wait", func() bool { return s.Waiting() == n })
	g.release()
	wg.Wait()
}
