package rqlitestore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore"
	"github.com/caddy-session/caddy-session/rqlitestore/internal/idempotent"
)

// listAll reads every page and checks that each but the last one says so.
func listAll(t testing.TB, s *rqlitestore.RqliteStore, o rqlitestore.ListOptions) (recs []rqlitestore.Record, pages int) {
	t.Helper()
	for {
		page, next, err := s.List(unhurried(t), o)
		must(t, err)
		pages++
		recs = append(recs, page...)
		if next == "" {
			return recs, pages
		}
		if len(page) == 0 || len(o.Principals) == 0 && next != page[len(page)-1].Token {
			t.Fatalf("a page of %d sessions goes on at another token than its last", len(page))
		}
		o.After = next
	}
}

func tokensOf(recs []rqlitestore.Record) (tokens []string) {
	for _, r := range recs {
		tokens = append(tokens, r.Token)
	}
	return tokens
}

var listCases = []storeCase{
	{"List_pagesInTheOrderOfTokens", func(t *testing.T, e *env) {
		c := newClock()
		s := e.storeWith(t, rqlitestore.Options{Now: c.Now})
		if recs, next, err := s.List(unhurried(t), rqlitestore.ListOptions{}); len(recs) != 0 || next != "" || err != nil {
			t.Fatalf("empty table: %d sessions, next %q, %v", len(recs), next, err)
		}
		want := slices.DeleteFunc(hostileTokens(), func(token string) bool { return token == "" }) // only scs's calls have it
		slices.Sort(want)
		for i, token := range want {
			mustCreate(t, s, rqlitestore.Record{Token: token, ID: fmt.Sprint("id", i), Data: []byte{byte(i)}, Principal: "p", Expiry: c.In(time.Hour)})
		}
		must(t, s.Commit("expired", []byte("x"), c.In(-time.Second)))
		renewed := mustUpdate(t, s, mustLoad(t, s, "41"), func(r *rqlitestore.Record) { r.Token = "42" })
		want[slices.Index(want, "41")] = "42"
		for _, limit := range []int{2, 7, len(want), 0, 5000} {
			recs, pages := listAll(t, s, rqlitestore.ListOptions{Limit: limit})
			if !slices.Equal(tokensOf(recs), want) {
				t.Fatalf("limit %d: got tokens %q, want %q", limit, tokensOf(recs), want)
			}
			if limit > 1 && limit < 100 && pages != (len(want)+limit-1)/limit {
				t.Errorf("limit %d: %d pages of %d sessions", limit, pages, len(want))
			}
			if i := slices.Index(want, "42"); !reflect.DeepEqual(recs[i], renewed) {
				t.Errorf("got %+v, want %+v", recs[i], renewed)
			}
		}
	}},
	{"List_ofPrincipals", func(t *testing.T, e *env) {
		s := e.store(t)
		of := make(map[string][]string) // the newest first
		for i := range 60 {
			rec := rqlitestore.Record{Token: fmt.Sprintf("token%02d", i*37%60), ID: fmt.Sprint("id", i), Principal: []string{"", "alice", "x'41'", "bob"}[i%4]}
			mustCreate(t, s, rec)
			of[rec.Principal] = slices.Insert(of[rec.Principal], 0, rec.Token)
		}
		renewed := of["alice"][7]
		mustUpdate(t, s, mustLoad(t, s, renewed), func(r *rqlitestore.Record) { r.Token = "renewed" })
		of["alice"] = slices.Insert(slices.Delete(of["alice"], 7, 8), 0, "renewed")
		mustUpdate(t, s, mustLoad(t, s, of["bob"][3]), func(r *rqlitestore.Record) { r.Data = []byte("saved") }) // which moves nothing
		for _, principals := range [][]string{{"alice"}, {"nobody", "x'41'"}, {"x'41'", "alice", "x'41'"}, {"bob", "nobody", "alice", "nobody"}} {
			var want []string
			for i, principal := range principals {
				if !slices.Contains(principals[:i], principal) {
					want = append(want, of[principal]...)
				}
			}
			for _, limit := range []int{1, 4, 15, 16, 30, 100} {
				recs, pages := listAll(t, s, rqlitestore.ListOptions{Principals: principals, Limit: limit})
				if !slices.Equal(tokensOf(recs), want) {
					t.Errorf("%q: got %q, want %q", principals, tokensOf(recs), want)
				}
				if pages != (len(want)+limit-1)/limit {
					t.Errorf("%q, limit %d: %d pages of %d sessions", principals, limit, pages, len(want))
				}
			}
		}
		if recs, _ := listAll(t, s, rqlitestore.ListOptions{Principals: []string{"nobody"}}); len(recs) != 0 {
			t.Errorf("nobody has %d sessions", len(recs))
		}
		for _, after := range []string{"token07", "1", "-1:5", "0:x"} {
			if _, _, err := s.List(unhurried(t), rqlitestore.ListOptions{Principals: []string{"alice"}, After: after}); err == nil {
				t.Errorf("after %q there is a page", after)
			}
		}
	}},
	{"List_limitsItsSizeAndItsRows", func(t *testing.T, e *env) {
		s := e.store(t)
		must(t, s.Prepare(unhurried(t)))
		e.exec(t, `WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i+1 FROM n WHERE i<1020)
INSERT INTO {t}(token,data,expiry) SELECT 'big'||i,zeroblob(60000),9e6 FROM n`,
			`WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i+1 FROM n WHERE i<2500)
INSERT INTO {t}(token,data,expiry) SELECT 'small'||i,x'41',9e6 FROM n`)
		first, next, err := s.List(unhurried(t), rqlitestore.ListOptions{})
		if err != nil || len(first) != 5 || next != "big1004" {
			t.Errorf("got %d sessions of 60 kB, next %q, %v", len(first), next, err)
		}
		second, next, err := s.List(unhurried(t), rqlitestore.ListOptions{After: "small", Limit: 100_000})
		if err != nil || len(second) != 1000 || next != "small1999" {
			t.Errorf("got %d small sessions, next %q, %v", len(second), next, err)
		}
		if all, _ := listAll(t, s, rqlitestore.ListOptions{}); len(all) != 1522 {
			t.Errorf("got %d sessions of 1522", len(all))
		}
	}},
	{"List_goesOnPastDataThatCannotBeRead", func(t *testing.T, e *env) {
		s := e.store(t)
		must(t, s.Prepare(unhurried(t)))
		e.exec(t, `INSERT INTO {t}(token,data,expiry) VALUES('a','41',9e6),('b','no hex',9e6),('c',x'',9e6),(x'64',x'41',9e6)`)
		recs, _, err := s.List(unhurried(t), rqlitestore.ListOptions{})
		must(t, err)
		if len(recs) != 3 || string(recs[0].Data) != "A" || recs[1].Data != nil || recs[2].Data == nil {
			t.Errorf("got %+v", recs)
		}
		if _, err := s.All(); err == nil {
			t.Error("All hides that it lacks a session")
		}
		if found(t, s, "b") || !found(t, s, "a") {
			t.Error("a session whose data cannot be read is there, or one that can is not")
		}
	}},
	{"List_goesOnPastRowsThatNoSaveLeft", func(t *testing.T, e *env) {
		s, ctx := e.store(t), unhurried(t)
		odd := map[string]string{
			"a": "version=9223372036854775807", "b": "version=9007199254740992", "c": "version=-1", "d": "version=1e30",
			"e": "version='x'", "f": "version='1,2;0:'", "g": "version=x'00'", "h": "alias=token",
		}
		for token, change := range odd {
			mustCreate(t, s, rqlitestore.Record{Token: token, ID: "id of " + token, Data: []byte("odd")})
			e.exec(t, "UPDATE {t} SET "+change+" WHERE token='"+token+"'")
		}
		mustCreate(t, s, rqlitestore.Record{Token: "z", ID: "id of z", Data: []byte("good")})
		for token, change := range odd {
			if _, ok, err := s.Load(ctx, token); ok || err != nil {
				t.Errorf("after %s: found %v, error %v", change, ok, err)
			}
		}
		recs, _, err := s.List(ctx, rqlitestore.ListOptions{})
		must(t, err)
		if len(recs) != len(odd)+1 || recs[0].Data != nil || string(recs[len(odd)].Data) != "good" {
			t.Errorf("got %+v", recs)
		}
		must(t, s.Export(ctx, "", func([]rqlitestore.Row) error { return nil }))
	}},
	{"List_endsWhateverTheDatabaseAnswers", func(t *testing.T, e *env) {
		must(t, e.store(t).Prepare(unhurried(t)))
		const again = "61,0,,,,,,,0,;" // there are more rows behind it, it says
		for what, read := range map[string]func(*rqlitestore.RqliteStore, context.Context) error{
			again: func(s *rqlitestore.RqliteStore, ctx context.Context) error {
				_, err := s.AllCtx(ctx)
				return err
			},
			"," + again: func(s *rqlitestore.RqliteStore, ctx context.Context) error {
				return s.Export(ctx, "", func([]rqlitestore.Row) error { return nil })
			},
			"20000,5;": func(s *rqlitestore.RqliteStore, ctx context.Context) error {
				_, err := s.Count(ctx)
				return err
			},
			"9," + again: func(s *rqlitestore.RqliteStore, ctx context.Context) error {
				_, _, err := s.List(ctx, rqlitestore.ListOptions{Principals: []string{"alice"}, After: "0:9"})
				return err
			},
			";;": func(s *rqlitestore.RqliteStore, ctx context.Context) error {
				_, _, err := s.List(ctx, rqlitestore.ListOptions{Principals: []string{"alice"}})
				return err
			},
			";": func(s *rqlitestore.RqliteStore, ctx context.Context) error {
				_, _, err := s.List(ctx, rqlitestore.ListOptions{})
				return err
			},
		} {
			s := e.store(t, func(next http.RoundTripper) http.RoundTripper {
				return roundTripper(func(r *http.Request) (*http.Response, error) {
					res, err := next.RoundTrip(r)
					if err == nil && isQuery(r) {
						res.Body.Close()
						res.Body = io.NopCloser(strings.NewReader(`{"results":[{"columns":["c"],"types":["text"],"values":[["` + what + `"]]}]}`))
						res.ContentLength = -1
					}
					return res, err
				})
			})
			ctx := unhurried(t)
			if err := read(s, ctx); err == nil || ctx.Err() != nil {
				t.Errorf("answered with %q again and again it ends with %v, %v", what, err, ctx.Err())
			}
		}
	}},
	{"Count_countsLiveSessionsOnce", func(t *testing.T, e *env) {
		c := newClock()
		s := e.storeWith(t, rqlitestore.Options{Now: c.Now})
		ctx := unhurried(t)
		if n, err := s.Count(ctx); n != 0 || err != nil {
			t.Fatalf("empty table: %d, %v", n, err)
		}
		must(t, s.Prepare(ctx))
		for from := range 7 { // with gaps between, in which the other cases write
			e.exec(t, fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT %d UNION ALL SELECT i+1 FROM n WHERE i<%d)
INSERT INTO {t}(token,data,expiry) SELECT 'token'||i,iif(i%%3=0,CAST('a' AS BLOB),CAST('key'||i AS BLOB)),iif(i<=15000,0,9e6) FROM n`,
				from*3000+1, (from+1)*3000))
		}
		e.exec(t, `INSERT INTO {t}(token,data,expiry) VALUES('old',hex('key old'),9e6),('bad','no hex',9e6),('none',x'',9e6)`)
		a := mustCreate(t, s, rqlitestore.Record{Token: "a", ID: "a", Data: []byte("key"), Expiry: c.In(time.Hour)})
		mustUpdate(t, s, a, rotate("b"))
		x := mustCreate(t, s, rqlitestore.Record{Token: "x", ID: "x", Data: []byte("ke"), Expiry: c.In(time.Hour)})
		mustUpdate(t, s, x, func(r *rqlitestore.Record) { r.Token = "y" })
		must(t, s.Commit("expired", nil, c.In(-time.Second)))
		if n, err := s.Count(ctx); n != 6005 || err != nil {
			t.Errorf("got %d, %v, want 6005", n, err)
		}
		got, err := s.CountByPrefix(ctx, 3)
		must(t, err)
		if want := map[string]int64{"a": 2000, "key": 4002, "ke": 1, "": 2}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}},
	{"Presented_isOneWrite", func(t *testing.T, e *env) {
		c := newClock()
		var n counter
		s := e.storeWith(t, rqlitestore.Options{Now: c.Now}, n.wrap)
		mustUpdate(t, s, mustCreate(t, s, rqlitestore.Record{Token: "a", ID: "id", Expiry: c.In(time.Hour)}), rotate("b"))
		n.writes.Store(0)
		for range 12 { // requests, in the grace and after it
			if rec := mustLoad(t, s, "b"); rec.Aliased {
				must(t, s.Presented(unhurried(t), "id", "b"))
			}
			if viaA, ok, err := s.Load(unhurried(t), "a"); err != nil || ok && viaA.Aliased {
				t.Errorf("the older token, in its grace, says that there are older ones to end: %v", err)
			}
			c.Add(time.Second)
		}
		if got := n.writes.Load(); got != 1 {
			t.Errorf("%d writes to end one older token", got)
		}
		if found(t, s, "a") {
			t.Error("the older token outlived its grace")
		}
	}},
	{"DestroyPrincipals_endsThoseOfEveryName", func(t *testing.T, e *env) {
		s := e.store(t)
		for i, p := range []string{"alice", "alice", "x'41'", "bob", ""} {
			mustCreate(t, s, rqlitestore.Record{Token: fmt.Sprint("token", i), ID: fmt.Sprint("id", i), Principal: p})
		}
		ctx := unhurried(t)
		must(t, s.DestroyPrincipals(ctx, nil, ""))
		if s.DestroyPrincipals(ctx, []string{"alice", ""}, "") == nil {
			t.Error("sessions of nobody may be destroyed")
		}
		must(t, s.DestroyPrincipals(ctx, []string{"alice", "x'41'"}, "id1"))
		for i, want := range []bool{false, true, false, true, true} {
			if got := found(t, s, fmt.Sprint("token", i)); got != want {
				t.Errorf("session %d is there: %v, want %v", i, got, want)
			}
		}
	}},
	{"DestroyBeyond_endsTheFirstOnesUntilTheOthersFit", func(t *testing.T, e *env) {
		c := newClock()
		s := e.storeWith(t, rqlitestore.Options{Now: c.Now})
		ctx := unhurried(t)
		for i, p := range []string{"alice", "x'41'", "alice", "alice", "bob", "alice"} {
			mustCreate(t, s, rqlitestore.Record{Token: fmt.Sprint("token", i), ID: fmt.Sprint("id", i), Principal: p, Expiry: c.In(time.Hour)})
		}
		must(t, s.Create(ctx, rqlitestore.Record{Token: "expired", ID: "expired", Principal: "alice", Expiry: c.In(-time.Second)}))
		mustUpdate(t, s, mustLoad(t, s, "token3"), func(r *rqlitestore.Record) { r.Token = "renewed" })
		alice, order := []string{"alice", "x'41'"}, []string{"none", "id4", "id3", "expired", "id1", "id0", "id2"} // id5 is not named
		for _, step := range []struct {
			max  int
			want []string
		}{{5, nil}, {4, []string{"id3"}}, {4, nil}, {2, []string{"id1", "id0"}}, {0, []string{"id2"}}} {
			got, err := s.DestroyBeyond(ctx, alice, step.max, order...)
			slices.Sort(got)
			slices.Sort(step.want)
			if !slices.Equal(got, step.want) || err != nil {
				t.Errorf("down to %d it ends %q (%v), want %q", step.max, got, err, step.want)
			}
		}
		for i, want := range []bool{false, false, false, false, true, true} {
			if got := found(t, s, fmt.Sprint("token", i)); got != want {
				t.Errorf("session %d is there: %v, want %v", i, got, want)
			}
		}
		if found(t, s, "renewed") || e.number(t, `SELECT count(*) FROM {t} WHERE id='id3'`) != 0 {
			t.Error("a token of a session that was ended is left")
		}
	}},
	{"DestroyBeyond_ofManyAtOnceLeavesAsManyAsFit", func(t *testing.T, e *env) {
		const callers, most = 16, 3
		s := e.store(t)
		ctx := unhurried(t)
		for round := range 10 {
			user := []string{fmt.Sprint("user", round)}
			var all sync.WaitGroup
			var stayed atomic.Int64
			for i := range callers {
				id := fmt.Sprint(user[0], "-", i)
				all.Go(func() {
					if err := s.Create(ctx, rqlitestore.Record{Token: id, ID: id, Principal: user[0], Expiry: inAnHour()}); err != nil {
						t.Error(err)
					}
					ended, err := s.DestroyBeyond(ctx, user, most, id)
					if err != nil {
						t.Error(err)
					}
					if len(ended) == 0 {
						stayed.Add(1)
					}
				})
			}
			all.Wait()
			recs, _ := listAll(t, s, rqlitestore.ListOptions{Principals: user})
			if len(recs) != most || stayed.Load() != most {
				t.Errorf("%d sessions are left and %d callers were spared, want %d", len(recs), stayed.Load(), most)
			}
		}
	}},
	{"DestroyBeyond_isNotSentTwice", func(t *testing.T, e *env) {
		s := e.store(t)
		mustCreate(t, s, rqlitestore.Record{Token: "a", ID: "a", Principal: "p"})
		marked := make(chan bool, 10)
		watched := e.store(t, func(rt http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				if !isQuery(r) {
					marked <- idempotent.Is(r.Context())
				}
				return rt.RoundTrip(r)
			})
		})
		must(t, watched.Prepare(unhurried(t)))
		for len(marked) > 0 {
			<-marked
		}
		if _, err := watched.DestroyBeyond(unhurried(t), []string{"p"}, 1, "a"); err != nil || len(marked) != 1 || <-marked {
			t.Errorf("it may be repeated, or was sent %d times (%v)", len(marked), err)
		}
	}},
}

var observeCases = []storeCase{
	{"Observe_isToldOfEveryRequest", func(t *testing.T, e *env) {
		seen := make(chan rqlitestore.Request, 100)
		var n counter
		s := e.storeWith(t, rqlitestore.Options{Observe: func(r rqlitestore.Request) { seen <- r }}, n.wrap)
		ctx := unhurried(t)
		must(t, s.Prepare(ctx))
		n.queries.Store(0)
		n.writes.Store(0)
		rec := rqlitestore.Record{Token: "a", ID: "id", Principal: "p", Expiry: inAnHour()}
		update := func(apply func(*rqlitestore.Record)) func() error {
			return func() (err error) {
				rec, err = s.Update(ctx, rec, func(cur rqlitestore.Record) (rqlitestore.Record, error) { apply(&cur); return cur, nil })
				return err
			}
		}
		var rows []rqlitestore.Row
		for _, op := range []struct {
			kinds []string
			rows  int
			do    func() error
		}{
			{[]string{"find"}, 1, func() error { _, _, err := s.Find("x"); return err }},
			{[]string{"commit"}, 1, func() error { return s.Commit("x", nil, inAnHour()) }},
			{[]string{"delete"}, 1, func() error { return s.Delete("x") }},
			{[]string{"create"}, 1, func() error { return s.Create(ctx, rec) }},
			{[]string{"load"}, 1, func() (err error) { rec, _, err = s.Load(ctx, "a"); return err }},
			{[]string{"current"}, 1, func() error { _, _, err := s.Current(ctx, "id"); return err }},
			{[]string{"save"}, 1, update(func(r *rqlitestore.Record) {})},
			{[]string{"save"}, 1, update(func(r *rqlitestore.Record) { r.Principal = "q" })},
			{[]string{"renew"}, 1, update(rotate("b"))},
			{[]string{"presented"}, 1, func() error { return s.Presented(ctx, "id", "b") }},
			{[]string{"touch"}, 1, func() error { return s.Touch(ctx, "id", inAnHour()) }},
			{[]string{"create", "resolve"}, 1, func() error {
				if err := s.Create(ctx, rqlitestore.Record{Token: "a", ID: "other", Expiry: inAnHour()}); !errors.Is(err, rqlitestore.ErrExists) {
					return err
				}
				return nil
			}},
			{[]string{"list"}, 0, func() error { _, _, err := s.List(ctx, rqlitestore.ListOptions{}); return err }},
			{[]string{"count"}, 0, func() error { _, err := s.Count(ctx); return err }},
			{[]string{"export"}, 0, func() error {
				return s.Export(ctx, "", func(r []rqlitestore.Row) error { rows = r; return nil })
			}},
			{[]string{"destroy"}, 1, func() error { return s.Destroy(ctx, "id") }},
			{[]string{"destroy_principal"}, 0, func() error { _, err := s.DestroyBeyond(ctx, []string{"p"}, 1, "id"); return err }},
			{[]string{"destroy_principal"}, 0, func() error { return s.DestroyPrincipals(ctx, []string{"p"}, "") }},
			{[]string{"import"}, 2, func() error { _, err := s.Import(ctx, rows); return err }},
			{[]string{"cleanup", "cleanup"}, 0, func() error { _, err := s.DeleteExpired(ctx); return err }},
		} {
			must(t, op.do())
			for _, kind := range op.kinds {
				var r rqlitestore.Request
				select {
				case r = <-seen:
				default:
				}
				if r.Kind != kind || r.Rows != op.rows || r.Err != nil || r.Duration <= 0 {
					t.Errorf("got %+v, want %s of %d rows", r, kind, op.rows)
				}
				n.queries.Add(-1)
			}
		}
		if len(seen) != 0 || n.queries.Load()+n.writes.Load() != 0 {
			t.Errorf("the observer was told of %d requests too many, or not of %d", len(seen), n.queries.Load()+n.writes.Load())
		}
	}},
	{"Observe_isToldOfErrorsAndOfTheSizeOfBatches", func(t *testing.T, e *env) {
		seen := make(chan rqlitestore.Request, 100)
		var lost loser
		g := newGate(t, func(r *http.Request) bool { return !isQuery(r) })
		must(t, e.store(t).Prepare(unhurried(t)))
		s := e.storeWith(t, rqlitestore.Options{Observe: func(r rqlitestore.Request) { seen <- r }}, lost.wrap, g.wrap)
		must(t, s.Prepare(unhurried(t)))
		together(30, g, func(i int) {
			if err := s.Commit(fmt.Sprint(i), nil, inAnHour()); err != nil {
				t.Error(err)
			}
		})
		rows := 0
		for len(seen) > 0 {
			rows += (<-seen).Rows
		}
		if rows != 30 {
			t.Errorf("30 commits were %d rows", rows)
		}
		failing := e.storeWith(t, rqlitestore.Options{Observe: func(r rqlitestore.Request) { seen <- r }}, loser{there: 1}.wrap)
		must(t, failing.Prepare(unhurried(t)))
		if err := failing.Commit("x", nil, inAnHour()); err == nil {
			t.Fatal("a commit that never left succeeded")
		}
		if len(seen) != 1 {
			t.Fatalf("told of %d requests, want 1", len(seen))
		}
		if r := <-seen; r.Err == nil || r.Kind != "commit" {
			t.Errorf("got %+v, want an error", r)
		}
	}},
	{"Observe_thatPanicsLeavesTheNextCallsAlone", func(t *testing.T, e *env) {
		var panics atomic.Bool
		s := e.storeWith(t, rqlitestore.Options{Observe: func(rqlitestore.Request) {
			if panics.CompareAndSwap(true, false) {
				panic("observer")
			}
		}})
		calls := map[string]func() error{
			"commit": func() error { return s.Commit("token", nil, inAnHour()) },
			"find":   func() error { _, _, err := s.Find("token"); return err },
		}
		for name, call := range calls {
			must(t, call())
			for range 3 {
				func() {
					defer func() {
						if recover() == nil { // as net/http does
							t.Errorf("%s: the panic is not the caller's", name)
						}
					}()
					panics.Store(true)
					_ = call()
				}()
			}
			if err := call(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n := s.Waiting(); n != 0 {
			t.Errorf("%d calls wait", n)
		}
	}},
	{"Waiting_countsCallsUnderWayAndThoseThatWait", func(t *testing.T, e *env) {
		g := newGate(t, func(r *http.Request) bool { return !isQuery(r) })
		must(t, e.store(t).Prepare(unhurried(t)))
		s := e.store(t, g.wrap)
		must(t, s.Prepare(unhurried(t)))
		if n := s.Waiting(); n != 0 {
			t.Fatalf("%d calls wait for an idle store", n)
		}
		done := make(chan error)
		for i := range 40 {
			go func() { done <- s.Commit(fmt.Sprint(i), nil, inAnHour()) }()
		}
		eventually(t, "forty calls wait", func() bool { return s.Waiting() == 40 })
		g.release()
		for range 40 {
			must(t, <-done)
		}
		eventually(t, "none waits", func() bool { return s.Waiting() == 0 })
	}},
}
