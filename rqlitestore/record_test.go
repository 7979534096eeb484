package rqlitestore_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

var recordCases = []storeCase{
	{"Create_storesARecord", func(t *testing.T, e *env) {
		s := e.store(t)
		want := rqlitestore.Record{
			Token: "x'41'", ID: "id\x00\xff", Data: []byte{0, 1, 0xff}, Principal: "bob; --", Version: 1,
			Expiry: time.UnixMilli(time.Now().Add(time.Hour).UnixMilli()),
		}
		got := mustCreate(t, s, want)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		cur, ok, err := s.Current(unhurried(t), want.ID)
		if err != nil || !ok || !reflect.DeepEqual(cur, want) {
			t.Fatalf("by id: got %+v, %v, %v, want %+v", cur, ok, err, want)
		}
		if _, ok, err := s.Current(unhurried(t), "other"); ok || err != nil {
			t.Fatalf("unknown id: found %v, %v", ok, err)
		}
	}},
	{"Create_storesManyTogether", func(t *testing.T, e *env) {
		writes := newGate(t, func(r *http.Request) bool { return !isQuery(r) })
		var most atomic.Int64
		s := e.storeWith(t, rqlitestore.Options{Observe: func(r rqlitestore.Request) {
			most.Store(max(most.Load(), int64(r.Rows))) // of writes there is one at a time
		}}, writes.wrap)
		must(t, e.store(t).Prepare(unhurried(t)))
		must(t, s.Prepare(unhurried(t)))
		recs := make([]rqlitestore.Record, 100)
		for i := range recs {
			recs[i] = rqlitestore.Record{
				Token: fmt.Sprint("x'41'", i), ID: "id\x00\xff" + strings.Repeat("é", i) + fmt.Sprint(i), Data: bytes.Repeat([]byte{0, 1, 0xff}, i),
				Principal: strings.Repeat("'", i%3), Version: 1, Rights: int64(i), Expiry: time.UnixMilli(time.Now().Add(time.Hour).UnixMilli() + int64(i)),
			}
		}
		gather(t, s, len(recs), writes, func(i int) {
			if err := s.Create(unhurried(t), recs[i]); err != nil {
				t.Errorf("create %d: %v", i, err)
			}
		})
		for i, want := range recs {
			if got := mustLoad(t, s, want.Token); !reflect.DeepEqual(got, want) {
				t.Errorf("create %d: got %+v, want %+v", i, got, want)
			}
		}
		if got := most.Load(); got < 2 {
			t.Errorf("the most that came together was %d", got)
		}
		const types = "typeof(token)='text' AND typeof(id)='text' AND typeof(data)='blob' AND typeof(writes)='text' AND " +
			"typeof(rights)='integer' AND typeof(version)='integer' AND typeof(expiry)='real' AND typeof(principal) IN ('text','null')"
		if n := e.number(t, "SELECT count(*) FROM {t} WHERE "+types); n != len(recs) {
			t.Errorf("%d of %d rows have the types of their columns", n, len(recs))
		}
	}},
	{"Create_refusesATakenToken", func(t *testing.T, e *env) {
		s := e.store(t)
		mustCreate(t, s, rqlitestore.Record{Token: "token", ID: "first", Data: []byte("data")})
		for _, id := range []string{"second", "first"} { // who creates one twice is told as well
			err := s.Create(unhurried(t), rqlitestore.Record{Token: "token", ID: id, Data: []byte("other"), Expiry: inAnHour()})
			if !errors.Is(err, rqlitestore.ErrExists) {
				t.Fatalf("%s: got %v, want ErrExists", id, err)
			}
		}
		if rec := mustLoad(t, s, "token"); rec.ID != "first" || string(rec.Data) != "data" {
			t.Fatalf("the first session was changed: %+v", rec)
		}
	}},
	{"Load_keepsTimesToTheMillisecond", func(t *testing.T, e *env) {
		s := e.store(t)
		for i, at := range []string{"2030-01-01T00:00:00.001Z", "2262-12-31T23:59:59.999Z", "2099-02-28T12:00:00.5Z", "9999-12-31T23:59:59.999Z"} {
			want, err := time.Parse(time.RFC3339Nano, at)
			must(t, err)
			id := string(rune('a' + i))
			rec := mustCreate(t, s, rqlitestore.Record{Token: "token" + id, ID: id, Expiry: want})
			if !rec.Expiry.Equal(want) {
				t.Errorf("got %v, want %v", rec.Expiry.UTC(), want)
			}
		}
	}},
	{"Touch_movesExpiryForwardsOnly", func(t *testing.T, e *env) {
		c := newClock()
		s := e.storeWith(t, rqlitestore.Options{Now: c.Now})
		ctx := unhurried(t)
		rec := mustCreate(t, s, rqlitestore.Record{Token: "token", ID: "id", Expiry: c.In(time.Minute)})
		must(t, s.Touch(ctx, "id", c.In(time.Hour)))
		must(t, s.Touch(ctx, "id", c.In(time.Second)))
		must(t, s.Touch(ctx, "gone", c.In(time.Second)))
		got := mustLoad(t, s, "token")
		if !got.Expiry.Equal(c.In(time.Hour)) || got.Version != rec.Version {
			t.Fatalf("got expiry in %v, version %d", got.Expiry.Sub(c.Now()), got.Version)
		}
		c.Add(2 * time.Hour)
		must(t, s.Touch(ctx, "id", c.In(time.Hour)))
		if found(t, s, "token") {
			t.Fatal("a touch brought an expired session back")
		}
	}},
	{"Destroy_endsEveryTokenOfTheSession", func(t *testing.T, e *env) {
		s := e.store(t)
		rec := mustCreate(t, s, rqlitestore.Record{Token: "a", ID: "id"})
		mustCreate(t, s, rqlitestore.Record{Token: "other", ID: "other"})
		rec = mustUpdate(t, s, rec, rotate("b"))
		rec = mustUpdate(t, s, rec, func(r *rqlitestore.Record) { r.Token = "c" })
		for _, token := range []string{"a", "b", "c"} {
			if !found(t, s, token) {
				t.Fatalf("token %s of the session is not found", token)
			}
		}
		must(t, s.Destroy(unhurried(t), "id", "never there"))
		for _, token := range []string{"a", "b", "c"} {
			if found(t, s, token) {
				t.Errorf("token %s is found after destroy", token)
			}
		}
		if !found(t, s, "other") {
			t.Error("another session was destroyed")
		}
		_, err := s.Update(unhurried(t), rec, keep)
		if !errors.Is(err, rqlitestore.ErrGone) {
			t.Errorf("update of a destroyed session: got %v, want ErrGone", err)
		}
		if found(t, s, "c") {
			t.Error("the update brought it back")
		}
	}},
	// All at once takes longer than a call may, so nothing at all would be ended.
	{"DestroyPrincipal_endsVeryManyByAndBy", func(t *testing.T, e *env) {
		requests := 0
		s := e.storeWith(t, rqlitestore.Options{Observe: func(r rqlitestore.Request) {
			if r.Kind == "destroy_principal" {
				requests++
			}
		}})
		mustCreate(t, s, rqlitestore.Record{Token: "kept", ID: "kept id", Principal: "alice"})
		mustCreate(t, s, rqlitestore.Record{Token: "bob", ID: "bob id", Principal: "bob"})
		e.exec(t, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<2500)
INSERT INTO {t}(token,data,expiry,id,version,writes,principal)
SELECT 'token '||i,s.data,s.expiry,'id '||i,s.version,s.writes,s.principal FROM {t} s, n WHERE s.token='kept'`)
		must(t, s.DestroyPrincipals(unhurried(t), []string{"alice", "nobody"}, "kept id"))
		if n := e.number(t, "SELECT count(*) FROM {t}"); n != 2 || !found(t, s, "kept") || !found(t, s, "bob") {
			t.Errorf("%d sessions are left, want that which was to be spared and somebody else's", n)
		}
		if requests < 5 {
			t.Errorf("2,500 sessions were ended by %d requests, want no more than 500 at once", requests)
		}
	}},
	{"DestroyPrincipal_endsAllSessionsButOne", func(t *testing.T, e *env) {
		s := e.store(t)
		for _, name := range []string{"kept", "other", "renewed", "left"} {
			rec := mustCreate(t, s, rqlitestore.Record{Token: name, ID: name + " id", Principal: "ali'ce"})
			switch name {
			case "renewed":
				rec = mustUpdate(t, s, rec, rotate("rotated"))
				mustUpdate(t, s, rec, func(r *rqlitestore.Record) { r.Token = "renewed again" })
			case "left": // signed out, and still in the grace
				mustUpdate(t, s, rec, func(r *rqlitestore.Record) { r.Token, r.Principal = "guest", "" })
			}
		}
		mustCreate(t, s, rqlitestore.Record{Token: "bob", ID: "bob id", Principal: "bob"})
		mustCreate(t, s, rqlitestore.Record{Token: "nobody", ID: "nobody id"})
		must(t, s.CommitCtx(unhurried(t), "plain", []byte("x"), inAnHour()))
		must(t, s.DestroyPrincipals(unhurried(t), []string{"ali'ce"}, "kept id"))
		must(t, s.DestroyPrincipals(unhurried(t), []string{"ali'ce"}, "kept id"))
		for token, want := range map[string]bool{
			"kept": true, "other": false, "renewed": false, "rotated": false, "renewed again": false,
			"guest": true, "bob": true, "nobody": true, "plain": true,
		} {
			if got := found(t, s, token); got != want {
				t.Errorf("%s is found: %v, want %v", token, got, want)
			}
		}
		must(t, s.DestroyPrincipals(unhurried(t), []string{"ali'ce"}, ""))
		if found(t, s, "kept") {
			t.Error("a session is left where none was to be spared")
		}
		if s.DestroyPrincipals(unhurried(t), []string{""}, "kept id") == nil {
			t.Error("all sessions of nobody were destroyed")
		}
	}},
	{"Renewal_leavesTheOldRowItsGrace", func(t *testing.T, e *env) {
		c := newClock()
		s := e.storeWith(t, rqlitestore.Options{Now: c.Now})
		old := mustCreate(t, s, rqlitestore.Record{Token: "old", ID: "id", Data: []byte("guest"), Expiry: c.In(time.Hour)})
		rec := mustUpdate(t, s, old, func(r *rqlitestore.Record) { r.Token, r.Data, r.Principal = "new", []byte("alice"), "alice" })
		if rec.Version != 2 || rec.ID != "id" || rec.Token != "new" {
			t.Fatalf("got %+v", rec)
		}
		if got := mustLoad(t, s, "new"); !reflect.DeepEqual(got, rec) {
			t.Fatalf("stored %+v, returned %+v", got, rec)
		}
		got := mustLoad(t, s, "old")
		if got.Superseded.IsZero() || got.Alias || string(got.Data) != "guest" || got.Principal != "" || got.Version != old.Version {
			t.Fatalf("the old token reads %+v", got)
		}
		if left := got.Expiry.Sub(c.Now()); left != rqlitestore.Grace {
			t.Fatalf("the old token is good for %v more", left)
		}
		for _, from := range []rqlitestore.Record{old, got} {
			if _, err := s.Update(unhurried(t), from, keep); !errors.Is(err, rqlitestore.ErrSuperseded) {
				t.Fatalf("update under the old token: got %v, want ErrSuperseded", err)
			}
		}
		must(t, s.Touch(unhurried(t), "id", c.In(2*time.Hour)))
		c.Add(rqlitestore.Grace)
		if found(t, s, "old") {
			t.Fatal("the old token is good after its grace")
		}
		if all, err := s.All(); err != nil || len(all) != 1 {
			t.Fatalf("All lists %d rows of one session, %v", len(all), err)
		}
	}},
	{"Renewal_neverLengthensTheOldToken", func(t *testing.T, e *env) {
		c := newClock()
		s := e.storeWith(t, rqlitestore.Options{Now: c.Now})
		old := mustCreate(t, s, rqlitestore.Record{Token: "old", ID: "id", Expiry: c.In(time.Second)})
		mustUpdate(t, s, old, func(r *rqlitestore.Record) { r.Token, r.Expiry = "new", c.In(time.Hour) })
		c.Add(time.Second)
		if found(t, s, "old") {
			t.Fatal("the old token outlived its own expiry")
		}
	}},
	{"Rotation_leavesOldTokensAsWaysIn", func(t *testing.T, e *env) {
		c := newClock()
		s := e.storeWith(t, rqlitestore.Options{Now: c.Now})
		ctx := unhurried(t)
		a := mustCreate(t, s, rqlitestore.Record{Token: "a", ID: "id", Data: []byte("1"), Expiry: c.In(time.Hour)})
		if a.Aliased {
			t.Fatal("a new session has older tokens")
		}
		b := mustUpdate(t, s, a, rotate("b"))
		c.Add(time.Minute)
		// The response got lost: the client comes with a again and is given c.
		viaA := mustLoad(t, s, "a")
		if !viaA.Alias || viaA.Token != "b" || string(viaA.Data) != "1" || c.Now().Sub(viaA.AliasSince) != time.Minute || viaA.Version != b.Version {
			t.Fatalf("the older token leads to %+v", viaA)
		}
		cur := mustUpdate(t, s, viaA, rotate("c"))
		for _, token := range []string{"a", "b"} {
			if got := mustLoad(t, s, token); !got.Alias || got.Token != "c" || !got.Aliased {
				t.Fatalf("token %s leads to %+v", token, got)
			}
		}
		// Every token writes the one session, one after the other.
		for _, from := range []rqlitestore.Record{a, b, cur} {
			cur = mustUpdate(t, s, from, func(r *rqlitestore.Record) { r.Data = append([]byte("x"), r.Data...) })
		}
		if string(cur.Data) != "xxx1" || cur.Token != "c" {
			t.Fatalf("got %+v", cur)
		}
		if got := mustLoad(t, s, "c"); !got.Aliased || got.Alias {
			t.Fatalf("the newest token reads %+v", got)
		}
		// Tokens end when a newer one was presented.
		c.Add(time.Minute)
		must(t, s.Presented(ctx, "id", "b"))
		c.Add(rqlitestore.Grace / 2)
		must(t, s.Presented(ctx, "id", "b")) // again: what counts is the first time
		c.Add(rqlitestore.Grace / 2)
		if found(t, s, "a") || !found(t, s, "b") {
			t.Fatal("presenting b ended the wrong tokens")
		}
		must(t, s.Presented(ctx, "id", "c"))
		if got := mustLoad(t, s, "b"); !got.Alias {
			t.Fatal("b ended without its grace")
		}
		c.Add(rqlitestore.Grace)
		if found(t, s, "b") {
			t.Fatal("b is good after its grace")
		}
		if got := mustLoad(t, s, "c"); got.Aliased {
			t.Fatal("no older token is left")
		}
		// A request that began under a token which has ended since still writes.
		cur = mustUpdate(t, s, a, func(r *rqlitestore.Record) { r.Data = append([]byte("y"), r.Data...) })
		if string(cur.Data) != "yxxx1" {
			t.Fatalf("got data %q", cur.Data)
		}
	}},
	{"Rotation_oldTokenEndsWhereItWasTold", func(t *testing.T, e *env) {
		c := newClock()
		s := e.storeWith(t, rqlitestore.Options{Now: c.Now})
		a := mustCreate(t, s, rqlitestore.Record{Token: "a", ID: "id", Expiry: c.In(time.Minute)})
		mustUpdate(t, s, a, func(r *rqlitestore.Record) {
			r.Token, r.Alias, r.AliasUntil = "b", true, c.In(time.Hour)
		})
		must(t, s.Touch(unhurried(t), "id", c.In(3*time.Hour)))
		c.Add(time.Hour - time.Second)
		if !found(t, s, "a") {
			t.Fatal("the old token ended too early")
		}
		c.Add(time.Second)
		if found(t, s, "a") || !found(t, s, "b") {
			t.Fatal("the wrong token ended")
		}
	}},
	{"Rotation_thenRenewalGivesOldTokensNoRights", func(t *testing.T, e *env) {
		c := newClock()
		s := e.storeWith(t, rqlitestore.Options{Now: c.Now})
		a := mustCreate(t, s, rqlitestore.Record{Token: "a", ID: "id", Data: []byte("guest"), Expiry: c.In(time.Hour)})
		b := mustUpdate(t, s, a, rotate("b"))
		mustUpdate(t, s, b, func(r *rqlitestore.Record) { r.Token, r.Data, r.Principal = "c", []byte("alice"), "alice" })
		for _, token := range []string{"a", "b"} {
			got := mustLoad(t, s, token)
			if string(got.Data) != "guest" || got.Principal != "" || got.Superseded.IsZero() {
				t.Errorf("token %s reads %+v", token, got)
			}
		}
		for _, from := range []rqlitestore.Record{a, b} {
			if _, err := s.Update(unhurried(t), from, keep); !errors.Is(err, rqlitestore.ErrSuperseded) {
				t.Errorf("update from before the renewal: got %v, want ErrSuperseded", err)
			}
		}
		// Nor takes a rotation that comes too late from them what they have.
		late := e.storeWith(t, rqlitestore.Options{Now: c.Now})
		if _, err := late.Update(unhurried(t), b, func(r rqlitestore.Record) (rqlitestore.Record, error) { rotate("d")(&r); return r, nil }); !errors.Is(err, rqlitestore.ErrSuperseded) {
			t.Errorf("rotation from before the renewal: got %v, want ErrSuperseded", err)
		}
		if got := mustLoad(t, s, "a"); string(got.Data) != "guest" {
			t.Errorf("the older token reads %+v", got)
		}
		c.Add(rqlitestore.Grace)
		if found(t, s, "a") || found(t, s, "b") || !found(t, s, "c") {
			t.Error("after the grace only the new token is good")
		}
	}},
	{"Commit_countsTheVersionOfARecord", func(t *testing.T, e *env) {
		s := e.store(t)
		rec := mustCreate(t, s, rqlitestore.Record{Token: "token", ID: "id", Data: []byte("1")})
		must(t, s.Commit("token", []byte("2"), inAnHour()))
		got := mustUpdate(t, s, rec, func(r *rqlitestore.Record) { r.Data = append([]byte("x"), r.Data...) })
		if string(got.Data) != "x2" || got.Version != 3 {
			t.Fatalf("an update missed the commit before it: %q, version %d", got.Data, got.Version)
		}
	}},
}

func keep(cur rqlitestore.Record) (rqlitestore.Record, error) { return cur, nil }

// rotate changes the token without a change of rights.
func rotate(token string) func(*rqlitestore.Record) {
	return func(r *rqlitestore.Record) { r.Token, r.Alias, r.AliasUntil = token, true, r.Expiry }
}
