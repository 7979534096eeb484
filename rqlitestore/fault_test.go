package rqlitestore_test

import (
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
)

var faultCases = []storeCase{
	{"Lost_repliesNeverApplyAnUpdateTwice", func(t *testing.T, e *env) {
		const sessions, each = 20, 50
		s := e.store(t, loser{there: 0.15, back: 0.35}.wrap)
		quiet := e.store(t)
		must(t, quiet.Prepare(context.Background()))
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		for i := range sessions {
			rec := mustCreate(t, quiet, rqlitestore.Record{Token: fmt.Sprint("token", i), ID: fmt.Sprint("id", i)})
			wg.Go(func() {
				for n := range each {
					var err error
					rec, err = s.Update(ctx, rec, func(cur rqlitestore.Record) (rqlitestore.Record, error) {
						if n%10 == 9 {
							cur.Token = fmt.Sprintf("token%d.%d", i, n)
						}
						return increment(cur)
					})
					if err != nil {
						t.Error(err)
						return
					}
					if rec.Version != int64(n+2) || string(rec.Data) != fmt.Sprint(n+1) {
						t.Errorf("update %d is version %d with data %s", n, rec.Version, rec.Data)
						return
					}
				}
			})
		}
		wg.Wait()
		for i := range sessions {
			cur, ok, err := quiet.Current(ctx, fmt.Sprint("id", i))
			if err != nil || !ok || cur.Version != each+1 || string(cur.Data) != fmt.Sprint(each) {
				t.Errorf("session %d: %v, %v, version %d, data %s", i, ok, err, cur.Version, cur.Data)
			}
		}
		if n := e.number(t, "SELECT count(*) FROM {t} WHERE superseded IS NULL"); n != sessions {
			t.Errorf("%d current rows of %d sessions", n, sessions)
		}
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
		must(t, s.Prepare(context.Background()))
		for i := range 20 {
			lose.Store(true)
			must(t, s.Create(context.Background(), rqlitestore.Record{Token: fmt.Sprint("token", i), ID: fmt.Sprint("id", i), Expiry: inAnHour()}))
		}
	}},
	{"Lost_createIsAnErrorWhenNotThere", func(t *testing.T, e *env) {
		must(t, e.store(t).Prepare(context.Background()))
		s := e.store(t, loser{there: 1}.wrap)
		err := s.Create(context.Background(), rqlitestore.Record{Token: "token", ID: "id", Expiry: inAnHour()})
		if err == nil || errors.Is(err, rqlitestore.ErrExists) {
			t.Errorf("got %v", err)
		}
	}},
	{"Lost_destroyIsTriedAgain", func(t *testing.T, e *env) {
		rec := mustCreate(t, e.store(t), rqlitestore.Record{Token: "token", ID: "id"})
		s := e.store(t, loser{there: 0.8, back: 0.5}.wrap)
		must(t, s.Destroy(context.Background(), rec.ID))
		if found(t, s, "token") {
			t.Error("found after destroy")
		}
	}},
	{"Down_everyCallEndsAtItsDeadline", func(t *testing.T, e *env) {
		must(t, e.store(t).Prepare(context.Background()))
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
		rec = mustUpdate(t, s, rec, func(r *rqlitestore.Record) { *r, _ = increment(*r) })
		rec = mustUpdate(t, s, rec, rotate("b"))
		rec = mustUpdate(t, s, rec, func(r *rqlitestore.Record) { r.Token = "c" })
		rec = mustUpdate(t, s, rec, func(r *rqlitestore.Record) { r.Token = "d" })
		rec = mustUpdate(t, s, rec, func(r *rqlitestore.Record) { *r, _ = increment(*r) })
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
		must(t, s.Destroy(context.Background(), "id"))
		check(0)
	}},
	{"Unknown_outcomeIsAnErrorWhenNobodyCanTell", func(t *testing.T, e *env) {
		other := e.store(t)
		rec := mustCreate(t, other, rqlitestore.Record{Token: "token", ID: "id"})
		resolving := newGate(t, func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/db/request") })
		var once sync.Once
		s := e.store(t, func(next http.RoundTripper) http.RoundTripper {
			lost := loser{back: 1}.wrap(next)
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				to := next
				if strings.HasPrefix(r.URL.Path, "/db/execute") {
					once.Do(func() { to = lost })
				}
				return to.RoundTrip(r)
			})
		}, resolving.wrap)
		must(t, s.Prepare(context.Background()))
		done := make(chan error)
		go func() {
			_, err := s.Update(context.Background(), rec, increment)
			done <- err
		}()
		<-resolving.held // stored, the reply is lost, and before it can ask others save
		cur := mustLoad(t, other, "token")
		for range 9 {
			cur = mustUpdate(t, other, cur, func(r *rqlitestore.Record) { *r, _ = increment(*r) })
		}
		resolving.release()
		if err := <-done; err == nil {
			t.Error("an outcome that nobody can tell is no error")
		}
		if got := mustLoad(t, other, "token"); string(got.Data) != "10" {
			t.Errorf("got data %s: an update was applied twice", got.Data)
		}
	}},
	{"Garbage_isAnErrorAndNoPanic", func(t *testing.T, e *env) {
		must(t, e.store(t).Prepare(context.Background()))
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
			must(t, s.Prepare(context.Background()))
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

func hexOf(s string) string { return fmt.Sprintf("%x", s) }
