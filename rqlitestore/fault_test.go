package rqlitestore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore"
	"github.com/caddy-session/caddy-session/rqlitestore/internal/idempotent"
)

var faultCases = []storeCase{
	{"Lost_repliesNeverApplyAnUpdateTwice", func(t *testing.T, e *env) {
		const sessions, each = 10, 50
		lossy(t, e, sessions, each, func(ctx context.Context, s *rqlitestore.RqliteStore, rec rqlitestore.Record) error {
			for n := range each {
				var err error
				rec, err = s.Update(ctx, rec, func(cur rqlitestore.Record) (rqlitestore.Record, error) {
					if n%10 == 9 {
						cur.Token = fmt.Sprintf("%s.%d", cur.ID, n)
					}
					return increment(cur)
				})
				if err != nil {
					return err
				}
				if rec.Version != int64(n+2) || string(rec.Data) != fmt.Sprint(n+1) {
					return fmt.Errorf("update %d is version %d with data %s", n, rec.Version, rec.Data)
				}
			}
			return nil
		})
	}},
	{"Lost_repliesNeverApplyChainedUpdatesTwice", func(t *testing.T, e *env) {
		const sessions, writers, each = 10, 5, 10
		lossy(t, e, sessions, writers*each, func(ctx context.Context, s *rqlitestore.RqliteStore, rec rqlitestore.Record) error {
			errs := make(chan error, writers)
			for w := range writers {
				go func() {
					rec, err := rec, error(nil)
					for n := 0; n < each && err == nil; n++ {
						rec, err = s.Update(ctx, rec, func(cur rqlitestore.Record) (rqlitestore.Record, error) {
							if n == w {
								cur.Token, cur.Alias = fmt.Sprintf("%s.%d", cur.ID, w), true
							}
							return increment(cur)
						})
					}
					errs <- err
				}()
			}
			var all []error
			for range writers {
				all = append(all, <-errs)
			}
			return errors.Join(all...)
		})
	}},
	{"Lost_replyOfCreateIsResolved", func(t *testing.T, e *env) {
		var lose atomic.Bool
		s := e.store(t, func(next http.RoundTripper) http.RoundTripper {
			lost := loser{back: 1}.wrap(next)
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				if lose.CompareAndSwap(true, false) {
					return lost.RoundTrip(r)
				}
				return next.RoundTrip(r)
			})
		})
		must(t, s.Prepare(unhurried(t)))
		for i := range 20 {
			lose.Store(true)
			must(t, s.Create(unhurried(t), rqlitestore.Record{Token: fmt.Sprint("token", i), ID: fmt.Sprint("id", i), Expiry: inAnHour()}))
		}
	}},
	// The transport repeats a save whose reply got lost; meanwhile its user was taken
	// away, or no node is left.
	{"Lost_replyBeforeARefusalIsNoRefusal", func(t *testing.T, e *env) {
		for name, answer := range map[string]func(r *http.Request) (*http.Response, error){
			"refused": func(r *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: http.StatusUnauthorized, Status: "401 Unauthorized", Body: http.NoBody, Request: r}, nil
			},
			"no node": func(*http.Request) (*http.Response, error) { return nil, errors.New("cluster: no node can answer") },
		} {
			rec := mustCreate(t, e.store(t), rqlitestore.Record{Token: name, ID: name})
			var once atomic.Bool
			s := e.store(t, func(next http.RoundTripper) http.RoundTripper {
				return roundTripper(func(r *http.Request) (*http.Response, error) {
					if !once.CompareAndSwap(true, false) {
						return next.RoundTrip(r)
					}
					idempotent.Sending(r.Context())
					discard(next.RoundTrip(r))
					idempotent.Sending(r.Context())
					return answer(r)
				})
			})
			must(t, s.Prepare(unhurried(t)))
			once.Store(true)
			if rec, err := s.Update(unhurried(t), rec, increment); err != nil || rec.Version != 2 {
				t.Errorf("%s: %v, version %d", name, err, rec.Version)
			}
			once.Store(true)
			must(t, s.Destroy(unhurried(t), name))
		}
	}},
	{"Lost_createIsAnErrorWhenNotThere", func(t *testing.T, e *env) {
		must(t, e.store(t).Prepare(unhurried(t)))
		s := e.store(t, loser{there: 1}.wrap)
		err := s.Create(unhurried(t), rqlitestore.Record{Token: "token", ID: "id", Expiry: inAnHour()})
		if err == nil || errors.Is(err, rqlitestore.ErrExists) {
			t.Errorf("got %v", err)
		}
	}},
	// A save is applied, its reply gets lost, and who asks again is refused for a while.
	{"Lost_replyBeforeARefusedTryIsNoRefusal", func(t *testing.T, e *env) {
		rec := mustCreate(t, e.store(t), rqlitestore.Record{Token: "token", ID: "id"})
		var writes atomic.Int64
		s := e.store(t, func(next http.RoundTripper) http.RoundTripper {
			lost := loser{back: 1}.wrap(next)
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				if isQuery(r) {
					return next.RoundTrip(r)
				}
				switch writes.Add(1) {
				case 1, 2: // the save, and the question what became of it
					return lost.RoundTrip(r)
				case 3:
					return &http.Response{StatusCode: http.StatusUnauthorized, Status: "401 Unauthorized", Body: http.NoBody, Request: r}, nil
				}
				return next.RoundTrip(r)
			})
		})
		if rec, err := s.Update(unhurried(t), rec, increment); err != nil || rec.Version != 2 || string(rec.Data) != "1" {
			t.Errorf("%v, version %d, data %s", err, rec.Version, rec.Data)
		}
	}},
	// Only what was sent first is lost, so that it can be told that the row is not there.
	{"Lost_createThatNeverArrivedIsNoTakenToken", func(t *testing.T, e *env) {
		var lose atomic.Bool
		s := e.store(t, func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				if lose.CompareAndSwap(true, false) {
					return nil, errLost
				}
				return next.RoundTrip(r)
			})
		})
		must(t, s.Prepare(unhurried(t)))
		lose.Store(true)
		err := s.Create(unhurried(t), rqlitestore.Record{Token: "token", ID: "id", Expiry: inAnHour()})
		if err == nil || errors.Is(err, rqlitestore.ErrExists) || !strings.Contains(err.Error(), errLost.Error()) {
			t.Errorf("got %v", err)
		}
	}},
	// Of several that travelled together one token was taken, and the question which is lost.
	{"Lost_questionWhichTokenWasTakenIsNoAnswer", func(t *testing.T, e *env) {
		mustCreate(t, e.store(t), rqlitestore.Record{Token: "taken", ID: "taken"})
		var writes atomic.Int64
		g := newGate(t, func(r *http.Request) bool { return !isQuery(r) })
		s := e.store(t, func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				if !isQuery(r) && writes.Add(1) > 2 { // the first one, and the others
					return nil, errLost
				}
				return next.RoundTrip(r)
			})
		}, g.wrap)
		must(t, s.Prepare(unhurried(t)))
		inTurn(t, s, 3, g, func(i int) {
			rec := rqlitestore.Record{Token: []string{"first", "taken", "other"}[i], ID: fmt.Sprint("id", i), Expiry: inAnHour()}
			if err := s.Create(unhurried(t), rec); rec.Token == "other" && (err == nil || errors.Is(err, rqlitestore.ErrExists)) {
				t.Errorf("%s: %v", rec.Token, err)
			}
		})
	}},
	{"Lost_destroyIsTriedAgain", func(t *testing.T, e *env) {
		rec := mustCreate(t, e.store(t), rqlitestore.Record{Token: "token", ID: "id"})
		s := e.store(t, loser{there: 0.8, back: 0.5}.wrap)
		must(t, s.Destroy(unhurried(t), rec.ID))
		if found(t, s, "token") {
			t.Error("found after destroy")
		}
	}},
	// What passes: a logout is not given up for it.
	{"Busy_databaseIsAskedAgainToDestroy", func(t *testing.T, e *env) {
		var busy atomic.Int64
		s := e.store(t, func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				if isQuery(r) || busy.Add(-1) < 0 {
					return next.RoundTrip(r)
				}
				const locked = `{"results":[{"error":"database is locked"}]}`
				return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(locked)), Request: r}, nil
			})
		})
		for name, destroy := range map[string]func() error{
			"Destroy":           func() error { return s.Destroy(unhurried(t), "id") },
			"DestroyPrincipals": func() error { return s.DestroyPrincipals(unhurried(t), []string{"alice"}, "") },
		} {
			mustCreate(t, s, rqlitestore.Record{Token: name, ID: "id", Principal: "alice"})
			busy.Store(3)
			must(t, destroy())
			if found(t, s, name) {
				t.Errorf("found after %s", name)
			}
		}
	}},
	{"Down_everyCallEndsAtItsDeadline", func(t *testing.T, e *env) {
		must(t, e.store(t).Prepare(unhurried(t)))
		s := e.store(t, loser{there: 1}.wrap)
		rec := mustCreate(t, e.store(t), rqlitestore.Record{Token: "token", ID: "id"})
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		_, err := s.Update(ctx, rec, keep)
		for _, err := range []error{err, s.Destroy(ctx, "id"), s.CommitCtx(ctx, "x", nil, inAnHour()), s.DeleteCtx(ctx, "x"), s.Touch(ctx, "id", inAnHour())} {
			if err == nil {
				t.Error("no error from a database that is down")
			} else if strings.Contains(err.Error(), "token") {
				t.Errorf("the token is in the error: %v", err)
			}
		}
	}},
	{"Late_commitDoesNotReviveADeletedToken", func(t *testing.T, e *env) {
		for _, there := range []bool{true, false} {
			token := fmt.Sprint("token", there)
			d := &delayer{swallow: true, match: func(body string) bool { return strings.Contains(body, hexOf("late data")) }}
			s := e.store(t, d.wrap)
			if there {
				must(t, s.Commit(token, []byte("data"), inAnHour()))
			}
			if err := s.Commit(token, []byte("late data"), inAnHour()); err == nil {
				t.Fatal("a commit that was not sent is no error")
			}
			must(t, s.Delete(token))
			if n := d.deliver(t); n != 1 {
				t.Fatalf("%d late requests", n)
			}
			if _, ok, err := s.Find(token); ok || err != nil {
				t.Errorf("a late commit brought a deleted token back (%v)", err)
			}
		}
	}},
	{"Late_savesAndRenewalsDoNothing", func(t *testing.T, e *env) {
		// Every write of an update is sent once more, later.
		d := &delayer{match: func(body string) bool { return strings.Contains(body, "UPDATE") }}
		c := newClock()
		s := e.storeWith(t, rqlitestore.Options{Now: c.Now}, d.wrap)
		rec := mustCreate(t, s, rqlitestore.Record{Token: "a", ID: "id", Expiry: c.In(time.Hour)})
		rec = mustUpdate(t, s, rec, addOne)
		rec = mustUpdate(t, s, rec, rotate("b"))
		rec = mustUpdate(t, s, rec, func(r *rqlitestore.Record) { r.Token = "c" })
		rec = mustUpdate(t, s, rec, func(r *rqlitestore.Record) { r.Token = "d" })
		rec = mustUpdate(t, s, rec, addOne)
		check := func(rows int) {
			t.Helper()
			if n := d.deliver(t); n < 5 {
				t.Fatalf("%d late requests", n)
			}
			if n := e.number(t, "SELECT count(*) FROM {t} WHERE superseded IS NULL"); n != rows {
				t.Errorf("%d current rows, want %d", n, rows)
			}
			if rows == 0 {
				return
			}
			got := mustLoad(t, s, "d")
			if string(got.Data) != "2" || got.Version != rec.Version {
				t.Errorf("late writes made it version %d with data %s", got.Version, got.Data)
			}
		}
		check(1)
		// Of the older rows only the alias a is left, the others were cleaned up.
		e.exec(t, "DELETE FROM {t} WHERE token IN ('b','c')")
		check(1)
		must(t, s.Destroy(unhurried(t), "id"))
		check(0)
	}},
	{"Unknown_outcomeIsAnErrorWhenNobodyCanTell", func(t *testing.T, e *env) {
		for name, steps := range uncertain {
			got, err := e.meanwhile(t, name, steps, func(other func() *rqlitestore.RqliteStore, cur rqlitestore.Record) {
				for range 8 { // a row has the last write of as many stores
					cur = mustUpdate(t, other(), cur, addOne)
				}
			})
			if err == nil {
				t.Errorf("%s: an outcome that nobody can tell is no error", name)
			}
			if string(got.Data) != "9" {
				t.Errorf("%s: data %s: an update was applied twice", name, got.Data)
			}
		}
	}},
	{"Unknown_outcomeIsFoundAfterAnyNumberOfLaterSaves", func(t *testing.T, e *env) {
		for name, steps := range uncertain {
			got, err := e.meanwhile(t, name, steps, func(other func() *rqlitestore.RqliteStore, cur rqlitestore.Record) {
				stores := []*rqlitestore.RqliteStore{other(), other(), other()}
				for i := range 50 {
					cur = mustUpdate(t, stores[i%3], cur, addOne)
				}
			})
			if err != nil || string(got.Data) != "51" || got.Version != 52 {
				t.Errorf("%s: %v, data %s, version %d", name, err, got.Data, got.Version)
			}
		}
	}},
	{"Unknown_outcomeOfASaveThatLostTheRaceIsFound", func(t *testing.T, e *env) {
		// Many updates of another store, saved at once, come in between.
		got, err := e.meanwhile(t, "chained", []step{waitAndRepeat, pass}, func(other func() *rqlitestore.RqliteStore, cur rqlitestore.Record) {
			g := newGate(t, func(r *http.Request) bool { return !isQuery(r) })
			chained := e.storeWith(t, rqlitestore.Options{Table: e.table + "_chained"}, g.wrap)
			must(t, chained.Prepare(unhurried(t)))
			together(25, g, func(int) {
				if _, err := chained.Update(unhurried(t), cur, increment); err != nil {
					t.Error(err)
				}
			})
		})
		if err != nil || string(got.Data) != "26" || got.Version != 27 {
			t.Errorf("%v, data %s, version %d", err, got.Data, got.Version)
		}
	}},
	{"Unknown_outcomeIsFoundWhereManyStoresWroteBefore", func(t *testing.T, e *env) {
		rec := mustCreate(t, e.store(t), rqlitestore.Record{Token: "token", ID: "id"})
		for range 8 { // as after so many restarts
			rec = mustUpdate(t, e.store(t), rec, addOne)
		}
		other := e.store(t)
		var once sync.Once
		s := e.store(t, func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				lost := false
				if !isQuery(r) {
					once.Do(func() { // the save does not arrive, others do
						lost = true
						cur := rec
						for range 8 {
							cur = mustUpdate(t, other, cur, addOne)
						}
					})
				}
				if lost {
					return nil, errLost
				}
				return next.RoundTrip(r)
			})
		})
		_, err := s.Update(unhurried(t), rec, increment)
		if cur := mustLoad(t, other, "token"); err != nil || string(cur.Data) != "17" {
			t.Errorf("%v, data %s", err, cur.Data)
		}
	}},
	{"Unknown_outcomeIsFoundAfterRenewals", func(t *testing.T, e *env) {
		got, err := e.meanwhile(t, "renewed", []step{loseReply, wait, pass}, func(other func() *rqlitestore.RqliteStore, cur rqlitestore.Record) {
			cur = mustUpdate(t, other(), cur, rotate("rotated"))
			mustUpdate(t, other(), cur, func(r *rqlitestore.Record) { r.Token = "renewed" })
		})
		if err != nil || string(got.Data) != "1" || got.Version != 4 {
			t.Errorf("%v, data %s, version %d", err, got.Data, got.Version)
		}
	}},
	{"Renewal_addsNoRowToWhatOthersRenewed", func(t *testing.T, e *env) {
		s := e.store(t)
		old := mustCreate(t, s, rqlitestore.Record{Token: "old", ID: "id"})
		mustUpdate(t, e.store(t), old, func(r *rqlitestore.Record) { r.Token = "theirs" })
		must(t, s.Delete("theirs"))
		_, err := s.Update(unhurried(t), old, func(r rqlitestore.Record) (rqlitestore.Record, error) {
			r.Token = "mine"
			return r, nil
		})
		if !errors.Is(err, rqlitestore.ErrGone) || found(t, s, "mine") {
			t.Errorf("got %v, want ErrGone", err)
		}
	}},
	{"Garbage_inOneFieldIsNoSession", func(t *testing.T, e *env) {
		mustCreate(t, e.store(t), rqlitestore.Record{Token: "token", ID: "id", Principal: "alice", Data: []byte("data")})
		cell := regexp.MustCompile(`(,[^,"\]]*){9}`) // a packed row, from the comma behind its token
		for _, field := range []int{1, 2, 3, 4, 5, 6, 9} {
			s := e.store(t, rewriting(func(body string) string {
				return cell.ReplaceAllStringFunc(body, func(row string) string {
					fields := strings.Split(row, ",")
					fields[field] += "z"
					return strings.Join(fields, ",")
				})
			}))
			if rec, ok, err := s.Load(unhurried(t), "token"); ok || err == nil {
				t.Errorf("with garbage in field %d: found %v %+v, error %v", field, ok, rec, err)
			}
		}
	}},
	{"Garbage_inAnAnswerToManyReachesNobodyElse", func(t *testing.T, e *env) {
		tokens := []string{"first", "a", "b", "c"}
		for _, token := range tokens {
			must(t, e.store(t).Commit(token, []byte("of "+token), inAnHour()))
		}
		row := regexp.MustCompile(`1:[0-9A-F]+`)
		for _, other := range []string{"x$0", "0$0", "9$0", "-$0", "zz", "1:~x", "1:~-5"} {
			var mangled atomic.Int64
			var ready atomic.Bool
			g := newGate(t, func(r *http.Request) bool { return isQuery(r) && ready.Load() })
			s := e.store(t, rewriting(func(body string) string {
				if !strings.Contains(body, ";") {
					return body
				}
				mangled.Add(1)
				return row.ReplaceAllString(body, strings.Replace(other, "$0", "${0}", 1))
			}), g.wrap)
			must(t, s.Prepare(unhurried(t)))
			ready.Store(true)
			inTurn(t, s, len(tokens), g, func(i int) {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				if b, ok, err := s.FindCtx(ctx, tokens[i]); err == nil && string(b) != "of "+tokens[i] {
					t.Errorf("%s: who asked for %q got %q, %v", other, tokens[i], b, ok)
				}
			})
			if mangled.Load() == 0 {
				t.Errorf("%s: no answer to many was seen", other)
			}
		}
	}},
	{"Unknown_outcomesOfManySavesAreFoundTogether", func(t *testing.T, e *env) {
		var n counter
		var writes atomic.Int64
		g := newGate(t, func(r *http.Request) bool { return !isQuery(r) })
		recs := make([]rqlitestore.Record, 5)
		for i := range recs {
			recs[i] = mustCreate(t, e.store(t), rqlitestore.Record{Token: fmt.Sprint("token", i), ID: fmt.Sprint("id", i)})
		}
		lost := func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				res, err := next.RoundTrip(r)
				if err == nil && !isQuery(r) && writes.Add(1) == 2 { // the first is of one session
					res.Body.Close()
					return nil, errLost
				}
				return res, err
			})
		}
		quiet := e.store(t)
		must(t, quiet.Prepare(unhurried(t)))
		s := e.store(t, n.wrap, lost, g.wrap)
		must(t, s.Prepare(unhurried(t)))
		n.writes.Store(0)
		writes.Store(0)
		inTurn(t, s, len(recs), g, func(i int) {
			if rec, err := s.Update(unhurried(t), recs[i], increment); err != nil || rec.Version != 2 {
				t.Errorf("%v, version %d", err, rec.Version)
			}
		})
		if n := n.writes.Load(); n != 3 {
			t.Errorf("%d requests, want a save of one session, one of four, and a look at what became of that", n)
		}
	}},
	{"Garbage_isAnErrorAndNoPanic", func(t *testing.T, e *env) {
		must(t, e.store(t).Prepare(unhurried(t)))
		rec := mustCreate(t, e.store(t), rqlitestore.Record{Token: "token", ID: "id"})
		for _, body := range []string{
			``, `<html>`, `{}`, `{"results":null}`, `{"results":[]}`, `{"results":[{}]}`, `{"results":[{},{}]}`,
			`{"results":[{"columns":["x"],"types":["text"]}]}`, `{"results":[{"columns":["x"],"values":[[]]}]}`,
			`{"results":[{"columns":["x"],"values":[["0:::1,2,3"]]}]}`, `{"results":[{"columns":["x"],"values":[["9:::"]]}]}`,
			`{"results":[{"columns":["x"],"values":[[7]]}]}`, `{"results":[{"columns":["x"],"values":[["zz"]]}]}`,
			`{"results":[{"columns":["x"],"values":[["0::0:41,x,,,,,,,0,41"]]}]}`, `{"error":"leader not found"}`,
			`{"results":[{"error":"database is locked"}]}`, `{"results":[{"rows_affected":7}]}`,
		} {
			var garbage atomic.Bool
			s := e.store(t, func(next http.RoundTripper) http.RoundTripper {
				return roundTripper(func(r *http.Request) (*http.Response, error) {
					if !garbage.Load() {
						return next.RoundTrip(r)
					}
					return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
				})
			})
			must(t, s.Prepare(unhurried(t)))
			garbage.Store(true)
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			if _, ok, err := s.Load(ctx, "token"); ok || (err == nil && !strings.Contains(body, "columns")) {
				t.Errorf("%s: load found %v, %v", body, ok, err)
			}
			_, err := s.Update(ctx, rec, keep)
			if err == nil {
				t.Errorf("%s: update is no error", body)
			}
			_, _ = s.AllCtx(ctx)
			_ = s.Create(ctx, rqlitestore.Record{Token: "other", ID: "other", Expiry: inAnHour()})
			cancel()
		}
	}},
}

// lossy runs update for each session, in parallel, over a connection that loses
// half of the requests or replies. Afterwards each session must have been
// incremented so many times.
func lossy(t *testing.T, e *env, sessions, times int, update func(context.Context, *rqlitestore.RqliteStore, rqlitestore.Record) error) {
	t.Helper()
	s, quiet := e.store(t, loser{there: 0.15, back: 0.35}.wrap), e.store(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	must(t, quiet.Prepare(ctx))
	var wg sync.WaitGroup
	for i := range sessions {
		wg.Go(func() {
			rec := rqlitestore.Record{Token: fmt.Sprint("token", i), ID: fmt.Sprint("id", i), Version: 1, Expiry: inAnHour()}
			err := quiet.Create(ctx, rec)
			if err == nil {
				err = update(ctx, s, rec)
			}
			if err != nil {
				t.Errorf("session %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	for i := range sessions {
		cur, ok, err := quiet.Current(ctx, fmt.Sprint("id", i))
		if err != nil || !ok || cur.Version != int64(times+1) || string(cur.Data) != fmt.Sprint(times) {
			t.Errorf("session %d: %v, %v, version %d, data %s", i, ok, err, cur.Version, cur.Data)
		}
	}
	if n := e.number(t, "SELECT count(*) FROM {t} WHERE superseded IS NULL"); n != sessions {
		t.Errorf("%d current rows of %d sessions", n, sessions)
	}
}

// step is what becomes of one write on its way.
type step int

const (
	pass          step = iota
	wait               // until the others are done
	loseReply          // it is applied
	loseAndRepeat      // it is applied, and sent again when the others are done
	waitAndRepeat      // until the others are done, and then it is sent twice
)

// uncertain are ways in which nobody is told what became of an update.
var uncertain = map[string][]step{
	"the question comes late":         {loseReply, wait, pass},
	"the question is lost":            {loseReply, loseReply, wait, pass},
	"the transport repeats by itself": {loseAndRepeat, pass},
}

// repeated is r to be sent once more.
func repeated(t *testing.T, r *http.Request) *http.Request {
	t.Helper()
	body, err := r.GetBody()
	must(t, err)
	again := r.Clone(r.Context())
	again.Body = body
	idempotent.Sending(r.Context())
	return again
}

// meanwhile updates a session of its own while its writes meet with the steps;
// the others do their work at the step that waits. It returns the session as it
// is then, and the outcome.
func (e *env) meanwhile(t *testing.T, name string, steps []step, others func(other func() *rqlitestore.RqliteStore, cur rqlitestore.Record)) (rqlitestore.Record, error) {
	t.Helper()
	table := e.table + "_" + strings.ReplaceAll(name, " ", "_")
	newStore := func() *rqlitestore.RqliteStore { return e.storeWith(t, rqlitestore.Options{Table: table}) }
	other := newStore()
	rec := mustCreate(t, other, rqlitestore.Record{Token: "token", ID: "id"})
	waiting, done := make(chan struct{}), make(chan struct{})
	s := e.storeWith(t, rqlitestore.Options{Table: table}, func(next http.RoundTripper) http.RoundTripper {
		lost := loser{back: 1}.wrap(next)
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if isQuery(r) || len(steps) == 0 {
				return next.RoundTrip(r)
			}
			st := steps[0]
			steps = steps[1:]
			idempotent.Sending(r.Context())
			switch st {
			case wait:
				close(waiting)
				<-done
			case loseReply:
				return lost.RoundTrip(r)
			case loseAndRepeat:
				again := repeated(t, r)
				_, _ = lost.RoundTrip(r)
				close(waiting)
				<-done
				r = again
			case waitAndRepeat:
				close(waiting)
				<-done
				again := repeated(t, r)
				_, _ = lost.RoundTrip(r)
				r = again
			}
			return next.RoundTrip(r)
		})
	})
	must(t, s.Prepare(unhurried(t)))
	outcome := make(chan error)
	go func() {
		_, err := s.Update(unhurried(t), rec, increment)
		outcome <- err
	}()
	<-waiting
	cur, ok, err := other.Current(unhurried(t), "id")
	if err != nil || !ok {
		t.Fatalf("%s: found %v, %v", name, ok, err)
	}
	others(newStore, cur)
	close(done)
	err = <-outcome
	cur, _, readErr := other.Current(unhurried(t), "id")
	must(t, readErr)
	return cur, err
}

func hexOf(s string) string { return fmt.Sprintf("%x", s) }
