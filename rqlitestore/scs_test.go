package rqlitestore_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

var (
	_ scs.Store            = (*rqlitestore.RqliteStore)(nil)
	_ scs.CtxStore         = (*rqlitestore.RqliteStore)(nil)
	_ scs.IterableStore    = (*rqlitestore.RqliteStore)(nil)
	_ scs.IterableCtxStore = (*rqlitestore.RqliteStore)(nil)
)

var scsCases = []storeCase{
	{"Find_missingIsNotFound", func(t *testing.T, e *env) {
		b, ok, err := e.store(t).Find("missing")
		if b != nil || ok || err != nil {
			t.Fatalf("got %q, %v, %v", b, ok, err)
		}
	}},
	{"Commit_storesAndReplaces", func(t *testing.T, e *env) {
		s := e.store(t)
		for _, data := range []string{"first", "", "third"} {
			must(t, s.Commit("token", []byte(data), inAnHour()))
			b, ok, err := s.Find("token")
			if string(b) != data || !ok || err != nil {
				t.Fatalf("got %q, %v, %v, want %q", b, ok, err, data)
			}
		}
	}},
	{"Find_expiredIsNotFound", func(t *testing.T, e *env) {
		c := newClock()
		s := e.storeWith(t, rqlitestore.Options{Now: c.Now})
		must(t, s.Commit("token", []byte("data"), c.In(100*time.Millisecond)))
		if _, ok, _ := s.Find("token"); !ok {
			t.Fatal("not found before its expiry")
		}
		c.Add(100 * time.Millisecond)
		if _, ok, _ := s.Find("token"); ok {
			t.Fatal("found at its expiry")
		}
		must(t, s.Commit("token", []byte("again"), c.In(time.Second)))
		if b, ok, _ := s.Find("token"); !ok || string(b) != "again" {
			t.Fatal("a commit in place of an expired row is not found")
		}
	}},
	{"Commit_farOutsideOfHistory", func(t *testing.T, e *env) {
		s := e.store(t)
		last := time.Unix(1<<63-62135596801, 999999999) // the last that there is: to many it means "never"
		for _, expiry := range []time.Time{last, time.Unix(1<<60, 0), time.Date(30000, 1, 1, 0, 0, 0, 0, time.UTC)} {
			must(t, s.Commit("token", []byte("data"), expiry))
			if _, ok, err := s.Find("token"); !ok || err != nil {
				t.Errorf("until %v: found %v, error %v", expiry, ok, err)
			}
		}
		for _, expiry := range []time.Time{time.Unix(-1<<60, 0), time.Date(-9000, 1, 1, 0, 0, 0, 0, time.UTC), {}} {
			must(t, s.Commit("token", []byte("data"), expiry))
			if _, ok, err := s.Find("token"); ok || err != nil {
				t.Errorf("until %v: found %v, error %v", expiry, ok, err)
			}
		}
	}},
	{"Delete_removesTheRow", func(t *testing.T, e *env) {
		s := e.store(t)
		must(t, s.Commit("token", []byte("data"), inAnHour()))
		must(t, s.Commit("other", []byte("data"), inAnHour()))
		must(t, s.Delete("token"))
		must(t, s.Delete("token"))
		must(t, s.Delete("never there"))
		if _, ok, _ := s.Find("token"); ok {
			t.Fatal("found after it was deleted")
		}
		if n := e.number(t, `SELECT count(*) FROM {t} WHERE token='token'`); n != 0 {
			t.Fatalf("%d rows of a deleted token", n)
		}
		if _, ok, _ := s.Find("other"); !ok {
			t.Fatal("another token was deleted")
		}
	}},
	{"Commit_doesNotReviveADeletedToken", func(t *testing.T, e *env) {
		c := newClock()
		s := e.storeWith(t, rqlitestore.Options{Now: c.Now})
		must(t, s.Commit("token", []byte("data"), c.In(3*time.Hour)))
		must(t, s.Delete("token"))
		must(t, s.Delete("token")) // there is nothing any more, but the note
		must(t, s.Commit("token", []byte("late"), c.In(3*time.Hour)))
		if _, ok, _ := s.Find("token"); ok {
			t.Fatal("a commit brought a deleted token back")
		}
		if n := e.number(t, `SELECT count(*) FROM {t}_ended WHERE token='token'`); n != 1 {
			t.Fatalf("%d notes of a deleted token", n)
		}
		// The note lasts as long as the session would have.
		c.Add(2 * time.Hour)
		_, err := s.DeleteExpired(unhurried(t))
		must(t, err)
		must(t, s.Commit("token", []byte("later"), c.In(3*time.Hour)))
		if _, ok, _ := s.Find("token"); ok {
			t.Fatal("a commit brought a deleted token back before it would have expired")
		}
	}},
	{"Commit_revivesWhereAsked", func(t *testing.T, e *env) {
		s := e.storeWith(t, rqlitestore.Options{ReviveDeleted: true})
		must(t, s.Commit("token", []byte("data"), inAnHour()))
		must(t, s.Delete("token"))
		must(t, s.Commit("token", []byte("again"), inAnHour()))
		if b, ok, _ := s.Find("token"); !ok || string(b) != "again" {
			t.Fatal("a key-value table lost what was stored after a delete")
		}
		must(t, e.store(t).Delete("token")) // which notes it, as this store does not
		must(t, s.Commit("token", []byte("once more"), inAnHour()))
		if b, ok, _ := s.Find("token"); !ok || string(b) != "once more" {
			t.Fatal("a store that revives was stopped by the note of one that does not")
		}
	}},
	{"All_hasEveryLiveSession", func(t *testing.T, e *env) {
		c := newClock()
		s := e.storeWith(t, rqlitestore.Options{Now: c.Now})
		all, err := s.AllCtx(unhurried(t))
		if err != nil || len(all) != 0 {
			t.Fatalf("empty table: %d sessions, %v", len(all), err)
		}
		want := map[string]string{}
		var sql []string
		for i := range 2500 { // more than two pages
			token := fmt.Sprintf("token %04d", i)
			want[token] = fmt.Sprint(i)
			sql = append(sql, fmt.Sprintf(`INSERT INTO {t}(token,data,expiry) VALUES('%s',CAST('%d' AS BLOB),9e6)`, token, i))
		}
		e.exec(t, sql...)
		must(t, s.Commit("expired", []byte("x"), c.In(-time.Second)))
		odd := string([]byte{0xff, 0x00, '\''})
		want[odd] = "odd"
		must(t, s.Commit(odd, []byte("odd"), c.In(time.Hour)))
		all, err = s.AllCtx(unhurried(t))
		must(t, err)
		if len(all) != len(want) {
			t.Fatalf("%d sessions, want %d", len(all), len(want))
		}
		for token, data := range want {
			if string(all[token]) != data {
				t.Fatalf("session %q has data %q, want %q", token, all[token], data)
			}
		}
	}},
	{"All_pagesBySize", func(t *testing.T, e *env) {
		s := e.store(t)
		must(t, s.Prepare(unhurried(t)))
		e.exec(t, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<10)
INSERT INTO {t}(token,data,expiry) SELECT 'token'||i,zeroblob(60000),9e6 FROM n`)
		all, err := s.All()
		if err != nil || len(all) != 10 {
			t.Fatalf("%d sessions of 10, %v", len(all), err)
		}
	}},
	{"Tokens_ofAnyBytesStayApart", func(t *testing.T, e *env) {
		s := e.store(t)
		tokens := hostileTokens()
		for i, token := range tokens {
			must(t, s.Commit(token, fmt.Appendf(nil, "data %d", i), inAnHour()))
		}
		for i, token := range tokens {
			b, ok, err := s.Find(token)
			if string(b) != fmt.Sprintf("data %d", i) || !ok || err != nil {
				t.Errorf("token %q: got %q, %v, %v", token, b, ok, err)
			}
		}
		if n := e.number(t, `SELECT count(*) FROM {t} WHERE typeof(token)='text'`); n != len(tokens) {
			t.Errorf("%d rows with a text token, want %d", n, len(tokens))
		}
		for _, token := range tokens[1:] {
			must(t, s.Delete(token))
		}
		all, err := s.All()
		if err != nil || len(all) != 1 || all[tokens[0]] == nil {
			t.Errorf("deleting the others left %d sessions, %v", len(all), err)
		}
	}},
	{"Find_isNotInjectable", func(t *testing.T, e *env) {
		s := e.store(t)
		must(t, s.Commit("victim", []byte("secret"), inAnHour()))
		for _, token := range hostileTokens() {
			if _, ok, err := s.Find(token); ok || err != nil {
				t.Errorf("token %q: found %v, %v", token, ok, err)
			}
		}
		if _, ok, err := s.Find("victim"); !ok || err != nil {
			t.Errorf("the other session is gone: %v", err)
		}
	}},
	{"Data_ofAnyBytesComesBack", func(t *testing.T, e *env) {
		s := e.store(t)
		every := make([]byte, 256)
		for i := range every {
			every[i] = byte(i)
		}
		for i, data := range [][]byte{every, {}, {0}, []byte("x'41'"), []byte("X'41'"), []byte("QUJD"), []byte(`{"a":"\u0000"}`), bytes.Repeat([]byte{0xfe}, 200_000)} {
			token := fmt.Sprint("token", i)
			must(t, s.Commit(token, data, inAnHour()))
			b, ok, err := s.Find(token)
			if !bytes.Equal(b, data) || !ok || err != nil {
				t.Errorf("case %d: got %d bytes, %v, %v, want %d bytes", i, len(b), ok, err, len(data))
			}
		}
		if n := e.number(t, `SELECT count(*) FROM {t} WHERE typeof(data)<>'blob'`); n != 0 {
			t.Errorf("%d rows whose data is no blob", n)
		}
	}},
	{"Cleanup_deletesWhatExpired", func(t *testing.T, e *env) {
		var failed error
		must(t, e.store(t).Prepare(unhurried(t)))
		fill(t, e)
		s := e.storeWith(t, rqlitestore.Options{CleanupInterval: 10 * time.Millisecond, OnCleanupError: func(err error) { failed = err }})
		eventually(t, "expired rows are deleted", func() bool {
			return e.number(t, `SELECT (SELECT count(*) FROM {t})+(SELECT count(*) FROM {t}_ended)`) == 2
		})
		s.StopCleanup()
		if failed != nil {
			t.Error(failed)
		}
		if _, ok, err := s.Find("live"); !ok || err != nil {
			t.Errorf("a live session is gone: %v", err)
		}
	}},
	{"Cleanup_goesOnHoweverOftenItIsStarted", func(t *testing.T, e *env) {
		must(t, e.store(t).Prepare(unhurried(t)))
		fill(t, e)
		const interval = time.Second
		s := e.storeWith(t, rqlitestore.Options{CleanupInterval: interval})
		eventually(t, "expired rows are deleted", func() bool {
			s.StartCleanup(interval) // as every reload of a Caddy does
			return e.number(t, `SELECT count(*) FROM {t}`) == 1
		})
	}},
	{"Cleanup_thatWasStoppedBeginsAnew", func(t *testing.T, e *env) {
		must(t, e.store(t).Prepare(unhurried(t)))
		s := e.store(t)
		const interval = 10 * time.Millisecond
		s.StartCleanup(interval)
		s.StopCleanup()
		fill(t, e)
		s.StartCleanup(interval)
		eventually(t, "expired rows are deleted", func() bool { return e.number(t, `SELECT count(*) FROM {t}`) == 1 })
	}},
	{"Delete_isRememberedForAWhileWhereNothingWouldBeLeft", func(t *testing.T, e *env) {
		c := newClock()
		s := e.storeWith(t, rqlitestore.Options{Now: c.Now})
		must(t, s.Commit("short", []byte("data"), c.In(time.Minute)))
		tokens := []string{"none", "short"}
		for _, token := range tokens { // requests that have the session may be under way
			must(t, s.Delete(token))
		}
		c.Add(50 * time.Minute)
		if _, err := s.DeleteExpired(unhurried(t)); err != nil {
			t.Fatal(err)
		}
		for _, token := range tokens {
			must(t, s.Commit(token, []byte("late"), c.In(time.Hour)))
			if _, ok, err := s.Find(token); ok || err != nil {
				t.Errorf("the deleted token %s is back: %v, %v", token, ok, err)
			}
		}
	}},
	{"DeleteExpired_countsTheRowsItRemoved", func(t *testing.T, e *env) {
		ctx := unhurried(t)
		s := e.store(t)
		must(t, s.Prepare(ctx))
		fill(t, e)
		for _, want := range []int64{2300, 0} {
			if n, err := s.DeleteExpired(ctx); n != want || err != nil {
				t.Errorf("it removed %d rows (%v), want %d", n, err, want)
			}
			if n := e.number(t, `SELECT (SELECT count(*) FROM {t})+(SELECT count(*) FROM {t}_ended)`); n != 2 {
				t.Errorf("%d rows and notes are left, want 2", n)
			}
		}
	}},
	{"DeleteExpired_sparesWhatIsStoredAnewMeanwhile", func(t *testing.T, e *env) {
		other := e.store(t)
		past := time.Now().Add(-time.Minute)
		for _, token := range []string{"slow", "old"} {
			must(t, other.Commit(token, []byte("expired"), past))
		}
		s := e.store(t, func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				if !isQuery(r) { // what has expired is known by now, and is about to be removed
					if err := other.Commit("slow", []byte("new"), inAnHour()); err != nil {
						t.Error(err)
					}
				}
				return next.RoundTrip(r)
			})
		})
		if n, err := s.DeleteExpired(unhurried(t)); n != 1 || err != nil {
			t.Errorf("removed %d rows, error %v", n, err)
		}
		if data, ok, err := other.Find("slow"); string(data) != "new" || !ok || err != nil {
			t.Errorf("found %q, %v, %v", data, ok, err)
		}
	}},
	{"DeleteExpired_countsNoRowTwice", func(t *testing.T, e *env) {
		must(t, e.store(t).Prepare(unhurried(t)))
		fill(t, e)
		var all sync.WaitGroup
		var removed atomic.Int64
		for range 4 { // as many Caddys on one store
			s := e.store(t)
			all.Go(func() {
				n, err := s.DeleteExpired(unhurried(t))
				if err != nil {
					t.Error(err)
				}
				removed.Add(n)
			})
		}
		all.Wait()
		if n := removed.Load(); n != 2300 {
			t.Errorf("all together they removed %d rows, want 2300", n)
		}
	}},
	{"DeleteExpired_countsWhatWentBeforeAnError", func(t *testing.T, e *env) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		must(t, e.store(t).Prepare(ctx))
		fill(t, e)
		s := e.storeWith(t, rqlitestore.Options{Observe: func(r rqlitestore.Request) { // after the first batch
			if r.Kind == "cleanup" && e.number(t, `SELECT count(*) FROM {t}`) < 2301 {
				cancel()
			}
		}})
		n, err := s.DeleteExpired(ctx)
		if left := e.number(t, `SELECT count(*) FROM {t}`); err == nil || n == 0 || int(n) != 2301-left {
			t.Errorf("it says %d rows (%v), and %d of 2301 are left", n, err, left)
		}
	}},
	{"DeleteExpired_saysThatNothingCanBeRemoved", func(t *testing.T, e *env) {
		must(t, e.store(t).Prepare(unhurried(t)))
		fill(t, e)
		s := e.store(t, loser{there: 1}.wrap)
		check := func(what string) {
			if n, err := s.DeleteExpired(unhurried(t)); n != 0 || err == nil || !strings.Contains(err.Error(), errLost.Error()) {
				t.Errorf("%s: it removed %d rows, error %v", what, n, err)
			}
		}
		e.exec(t, `CREATE TABLE {t}_old AS SELECT * FROM {t}_ended`, `DELETE FROM {t}_ended`)
		check("rows")
		e.exec(t, `DELETE FROM {t}`, `INSERT INTO {t}_ended SELECT * FROM {t}_old`, `DROP TABLE {t}_old`)
		check("notes")
	}},
	{"Manager_servesRequests", func(t *testing.T, e *env) {
		m := scs.New()
		m.Store = e.store(t)
		srv := httptest.NewServer(m.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/put":
				m.Put(r.Context(), "user", "alice")
			case "/renew":
				if err := m.RenewToken(r.Context()); err != nil {
					t.Error(err)
				}
			case "/out":
				if err := m.Destroy(r.Context()); err != nil {
					t.Error(err)
				}
			}
			fmt.Fprint(w, m.GetString(r.Context(), "user"))
		})))
		defer srv.Close()
		var cookies []*http.Cookie
		for _, step := range []struct{ path, want string }{{"/", ""}, {"/put", "alice"}, {"/", "alice"}, {"/renew", "alice"}, {"/", "alice"}, {"/out", ""}, {"/", ""}} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+step.path, nil)
			must(t, err)
			for _, c := range cookies {
				req.AddCookie(c)
			}
			res, err := http.DefaultClient.Do(req)
			must(t, err)
			var body bytes.Buffer
			_, err = body.ReadFrom(res.Body)
			res.Body.Close()
			must(t, err)
			if body.String() != step.want {
				t.Fatalf("%s: got %q, want %q", step.path, body.String(), step.want)
			}
			if c := res.Cookies(); len(c) > 0 {
				cookies = c
			}
		}
	}},
}

// fill adds 2,300 rows and a note that have expired, and one of each that has
// not.
func fill(t *testing.T, e *env) {
	t.Helper()
	e.exec(t, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<2300)
INSERT INTO {t}(token,data,expiry) SELECT 'token'||i,x'',2400000+i FROM n`,
		`INSERT INTO {t}(token,data,expiry) VALUES('live',x'',9e6)`,
		`INSERT INTO {t}_ended(token,expiry) VALUES('old',2400000),('new',9e6)`)
}

// hostileTokens are tokens that break SQL made of strings, parameters that look
// like blobs, JSON, and text that is no UTF-8.
func hostileTokens() []string {
	return []string{
		"x' UNION SELECT data FROM sessions --", "' OR 1=1 --", `" OR ""="`, "'; DROP TABLE sessions; --", "%", "_", "*",
		"x'41'", "X'41'", "A", "x''", "41", "", "NULL", "?", "?1", ":a", "@a", "$a", "a\x00b", "a", "\x00", "\xff\xfe", "\xff", "ÿ", "\u2028",
		`["a"]`, `{"a":1}`, `","`, `\`, `\u0041`, "é", "e\u0301", "a ", " a", "a\n", "a;b", "a,b", "a:b", strings.Repeat("long", 5000),
	}
}

func TestStopCleanup_isIdempotentAndRaceFree(t *testing.T) {
	t.Parallel()
	e := embeddedEnv(t)
	for range 20 {
		s := e.storeWith(t, rqlitestore.Options{CleanupInterval: time.Millisecond})
		done := make(chan struct{})
		for range 4 {
			go func() {
				s.StopCleanup()
				done <- struct{}{}
			}()
		}
		for range 4 {
			<-done
		}
	}
	rqlitestore.NewWithCleanupInterval(e.conn(t), 0).StopCleanup()
}

// Who wants hardly any writes to the disk says a long one.
func TestCleanup_longestIntervalIsNone(t *testing.T) {
	t.Parallel()
	e := embeddedEnv(t)
	conn := e.conn(t)
	synctest.Test(t, func(t *testing.T) {
		var cleaned atomic.Bool
		for range 50 { // each begins at random
			s := rqlitestore.NewWithOptions(conn, rqlitestore.Options{Table: "no;table", CleanupInterval: math.MaxInt64, OnCleanupError: func(error) {
				cleaned.Store(true)
				<-t.Context().Done()
			}})
			defer s.StopCleanup()
		}
		synctest.Wait()
		if cleaned.Load() {
			t.Error("it cleans up at once")
		}
	})
}

// Who stops it in the midst of its work knows why that ends.
func TestCleanup_thatIsStoppedIsNoError(t *testing.T) {
	t.Parallel()
	var hangs hanging
	hangs.Store(true)
	conn := embeddedEnv(t).conn(t, hangs.wrap)
	synctest.Test(t, func(t *testing.T) {
		s := rqlitestore.NewWithOptions(conn, rqlitestore.Options{CleanupInterval: time.Second, OnCleanupError: func(err error) { t.Error(err) }})
		time.Sleep(2 * time.Second) // which takes no time
		s.StopCleanup()
		synctest.Wait()
	})
}

func TestCleanup_reportsErrorsAndGoesOn(t *testing.T) {
	t.Parallel()
	e := embeddedEnv(t)
	errs := make(chan error)
	e.storeWith(t, rqlitestore.Options{Table: "no;table", CleanupInterval: time.Millisecond, OnCleanupError: func(err error) {
		select {
		case errs <- err:
		case <-t.Context().Done():
		}
	}})
	for range 2 {
		if err := <-errs; err == nil {
			t.Fatal("told about no error")
		}
	}
}
