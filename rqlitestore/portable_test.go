package rqlitestore_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

// exported returns all that a store exports, by way of JSON.
func exported(t testing.TB, s *rqlitestore.RqliteStore) []rqlitestore.Row {
	t.Helper()
	var rows []rqlitestore.Row
	must(t, s.Export(unhurried(t), "", func(page []rqlitestore.Row) error {
		b, err := json.Marshal(page)
		must(t, err)
		var back []rqlitestore.Row
		must(t, json.Unmarshal(b, &back))
		rows = append(rows, back...)
		return nil
	}))
	return rows
}

func mustImport(t testing.TB, s *rqlitestore.RqliteStore, rows []rqlitestore.Row, want int64) {
	t.Helper()
	added, err := s.Import(unhurried(t), rows)
	must(t, err)
	if added != want {
		t.Errorf("%d rows were stored or replaced, want %d", added, want)
	}
}

// dump is the whole table, in a form that can be compared.
func (e *env) dump(t testing.TB) (rows []string) {
	t.Helper()
	r, err := e.conn(t).QueryOne(`SELECT concat_ws('|',hex(token),typeof(data),hex(data),expiry,hex(id),version,rights,writes,hex(principal),
superseded,coalesce('alias '||hex(alias),'')) FROM ` + e.table + ` ORDER BY token`)
	must(t, err)
	for r.Next() {
		var s string
		must(t, r.Scan(&s))
		rows = append(rows, s)
	}
	return rows
}

// other is another table on the same backend.
func (e *env) other() *env {
	o := *e
	o.table += "_other"
	return &o
}

var portableCases = []storeCase{
	{"Export_thenImportMovesEverythingThatIsGoodForSomething", func(t *testing.T, e *env) {
		c := newClock()
		o := rqlitestore.Options{Now: c.Now}
		s := e.storeWith(t, o)
		for i, token := range hostileTokens() {
			if token == "" { // only scs's calls have it
				must(t, s.Commit(token, []byte(token), c.In(time.Hour)))
				continue
			}
			mustCreate(t, s, rqlitestore.Record{Token: token, ID: fmt.Sprint("\xff", i), Data: []byte(token), Principal: "x'41'" + token, Expiry: c.In(time.Hour)})
		}
		mustUpdate(t, s, mustLoad(t, s, "41"), rotate("42"))
		mustUpdate(t, s, mustLoad(t, s, "A"), func(r *rqlitestore.Record) { r.Token, r.Principal = "B", "" })
		for range 10 {
			mustUpdate(t, s, mustLoad(t, s, "%"), func(r *rqlitestore.Record) { r.Data = []byte("saved") })
		}
		must(t, s.Commit("plain", nil, c.In(time.Hour)))
		must(t, s.Commit("expired", nil, c.In(-time.Second)))
		e.exec(t, `INSERT INTO {t}(token,data,expiry) VALUES('historical','4142',2500000),('broken','no hex',2500000)`)

		other := e.other()
		target := other.storeWith(t, o)
		must(t, target.Export(unhurried(t), "", func(rows []rqlitestore.Row) error {
			t.Errorf("an empty table has a page of %d rows", len(rows))
			return nil
		}))
		rows := exported(t, s)
		mustImport(t, target, rows, int64(len(rows)))
		e.exec(t, `DELETE FROM {t} WHERE token='expired'`, `UPDATE {t} SET rights=NULL WHERE rights=0`) // which are the same
		before := other.dump(t)
		if want := e.dump(t); !reflect.DeepEqual(before, want) {
			t.Errorf("got %d rows\n%s\nwant %d\n%s", len(before), strings.Join(before, "\n"), len(want), strings.Join(want, "\n"))
		}
		mustImport(t, target, rows, 0)
		mustImport(t, target, nil, 0)
		if got := other.dump(t); !reflect.DeepEqual(got, before) {
			t.Error("a second import changed something")
		}
		if got := mustLoad(t, target, "41"); got.Token != "42" || !got.Alias {
			t.Errorf("the older token leads to %+v", got)
		}
		if got := mustLoad(t, target, "A"); got.Superseded.IsZero() || got.Principal != "x'41'A" {
			t.Errorf("the token in its grace reads %+v", got)
		}
		if b, ok, err := target.Find("historical"); string(b) != "AB" || !ok || err != nil {
			t.Errorf("the historical row reads %q, %v, %v", b, ok, err)
		}
		if got := mustUpdate(t, target, mustLoad(t, target, "%"), func(r *rqlitestore.Record) { r.Data = []byte("on") }); got.Version != 12 {
			t.Errorf("saving went on at version %d", got.Version)
		}
	}},
	{"Row_thatCouldNotBeReadAgainIsRefused", func(t *testing.T, e *env) {
		s := e.store(t)
		data := make([]byte, 31<<19+1)
		rec := mustCreate(t, s, rqlitestore.Record{Token: "token", ID: "id"})
		_, err := s.Update(unhurried(t), rec, func(cur rqlitestore.Record) (rqlitestore.Record, error) {
			cur.Data = data
			return cur, nil
		})
		for call, err := range map[string]error{
			"Commit": s.Commit("other", data, inAnHour()),
			"Create": s.Create(unhurried(t), rqlitestore.Record{Token: "other", ID: "other", Data: data, Expiry: inAnHour()}),
			"Update": err,
		} {
			if err == nil || !strings.Contains(err.Error(), "store less") {
				t.Errorf("%s: %v", call, err)
			}
		}
		if n, err := s.Count(unhurried(t)); n != 1 || err != nil {
			t.Errorf("%d sessions, error %v", n, err)
		}
	}},
	// A database takes requests up to a size: what could be stored must not be too
	// large to be renewed or moved.
	{"Row_travelsOnceInARequest", func(t *testing.T, e *env) {
		const size = 100_000
		var largest atomic.Int64
		measure := func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				largest.Store(max(largest.Load(), r.ContentLength))
				return next.RoundTrip(r)
			})
		}
		s := e.store(t, measure)
		rec := mustCreate(t, s, rqlitestore.Record{Token: "token", ID: "id", Data: make([]byte, size)})
		rec = mustUpdate(t, s, rec, func(r *rqlitestore.Record) { r.Token = "renewed" })
		mustUpdate(t, s, rec, rotate("rotated"))
		target := e.other().store(t, measure)
		for _, row := range exported(t, s) {
			mustImport(t, target, []rqlitestore.Row{row}, 1)
		}
		if n := largest.Load(); n < 2*size || n > 3*size {
			t.Errorf("a request has %d bytes, of data in hex it has %d", n, 2*size)
		}
	}},
	{"Import_ofManyLargeRowsIsNoLargeRequest", func(t *testing.T, e *env) {
		var largest atomic.Int64
		s := e.store(t, func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				largest.Store(max(largest.Load(), r.ContentLength))
				return next.RoundTrip(r)
			})
		})
		rows := make([]rqlitestore.Row, 12)
		for i := range rows {
			rows[i] = rqlitestore.Row{Token: fmt.Sprint("token", i), Data: make([]byte, 100_000), Expiry: inAnHour()}
		}
		mustImport(t, s, rows, int64(len(rows)))
		if n := largest.Load(); n > 1<<20+4096 {
			t.Errorf("the largest request has %d bytes", n)
		}
	}},
	{"Export_interruptedGoesOnWhereItWas", func(t *testing.T, e *env) {
		s := e.store(t)
		must(t, s.Prepare(unhurried(t)))
		e.exec(t, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<3500)
INSERT INTO {t}(token,data,expiry) SELECT printf('token%05d',i),randomblob(200+iif(i%500=0,100000,0)),9e6 FROM n`)
		target := e.other().store(t)
		must(t, target.Prepare(unhurried(t)))
		stop := errors.New("interrupted by the test")
		after, pages := "", 0
		for {
			err := s.Export(unhurried(t), after, func(rows []rqlitestore.Row) error {
				// Sometimes the page was stored, and nobody knows.
				if rand.IntN(2) == 0 {
					mustImport(t, target, rows, int64(len(rows)))
				}
				if rand.IntN(3) == 0 {
					return stop
				}
				if _, err := target.Import(unhurried(t), rows); err != nil {
					return err
				}
				after = rows[len(rows)-1].Token
				pages++
				return nil
			})
			if err == nil {
				break
			}
			if !errors.Is(err, stop) {
				t.Fatal(err)
			}
			e.other().exec(t, `DELETE FROM {t} WHERE token>'`+after+`'`) // so that the count of rows above holds
		}
		if pages < 4 {
			t.Errorf("3500 rows were %d pages", pages)
		}
		if !reflect.DeepEqual(e.dump(t), e.other().dump(t)) {
			t.Error("the two tables differ")
		}
	}},
	{"Import_newerRowsStayAndOlderAreReplaced", func(t *testing.T, e *env) {
		c := newClock()
		o := rqlitestore.Options{Now: c.Now}
		s, target := e.storeWith(t, o), e.other().storeWith(t, o)
		ctx := unhurried(t)
		ahead := mustCreate(t, s, rqlitestore.Record{Token: "ahead", ID: "ahead", Data: []byte("1"), Expiry: c.In(time.Hour)})
		behind := mustCreate(t, s, rqlitestore.Record{Token: "behind", ID: "behind", Data: []byte("1"), Expiry: c.In(time.Hour)})
		mustCreate(t, s, rqlitestore.Record{Token: "used", ID: "used", Expiry: c.In(time.Hour)})
		must(t, s.Commit("plain later", []byte("1"), c.In(time.Hour)))
		must(t, s.Commit("plain", []byte("1"), c.In(time.Hour)))
		first := exported(t, s)
		mustImport(t, target, first, 5)

		mustUpdate(t, s, behind, func(r *rqlitestore.Record) { r.Data = []byte("2") })
		mustUpdate(t, target, ahead, func(r *rqlitestore.Record) { r.Data = []byte("3") })
		must(t, s.Touch(ctx, "used", c.In(2*time.Hour)))
		must(t, s.Commit("plain later", []byte("2"), c.In(2*time.Hour)))
		must(t, target.Commit("plain", []byte("3"), c.In(time.Hour)))
		second := exported(t, s)
		mustImport(t, target, second, 2)
		mustImport(t, target, first, 0)
		mustImport(t, target, second, 0)
		for token, want := range map[string]string{"ahead": "3", "behind": "2", "plain later": "2", "plain": "3"} {
			if got := mustLoad(t, target, token); string(got.Data) != want {
				t.Errorf("%s: got %s, want %s", token, got.Data, want)
			}
		}
		if got := mustLoad(t, target, "used"); !got.Expiry.Equal(c.In(2 * time.Hour)) {
			t.Errorf("a session that was used ends in %v", got.Expiry.Sub(c.Now()))
		}
	}},
	{"Import_leavesASessionOneCurrentRow", func(t *testing.T, e *env) {
		c := newClock()
		o := rqlitestore.Options{Now: c.Now}
		s := e.storeWith(t, o)
		a := mustCreate(t, s, rqlitestore.Record{Token: "m", ID: "id", Data: []byte("guest"), Expiry: c.In(time.Hour)})
		r := mustCreate(t, s, rqlitestore.Record{Token: "r0", ID: "rotated", Data: []byte("1"), Expiry: c.In(time.Hour)})
		exports := [][]rqlitestore.Row{exported(t, s)}
		mustUpdate(t, s, a, func(r *rqlitestore.Record) { r.Token, r.Principal = "a", "alice" })
		r = mustUpdate(t, s, r, rotate("q1"))
		exports = append(exports, exported(t, s))
		c.Add(2 * rqlitestore.Grace) // the old token has ended
		mustUpdate(t, s, r, rotate("p2"))
		exports = append(exports, exported(t, s))
		// In whatever order they are imported, how often, and how much of them.
		for try := range 5 {
			other := e.other()
			other.table += fmt.Sprint(try)
			target := other.storeWith(t, o)
			for _, i := range append(rand.Perm(3), rand.Perm(3)...) {
				rows := append([]rqlitestore.Row(nil), exports[i]...)
				rand.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
				for _, part := range [][]rqlitestore.Row{rows[:rand.IntN(len(rows))], rows} {
					if _, err := target.Import(unhurried(t), part); err != nil {
						t.Fatal(err)
					}
				}
			}
			if n := other.number(t, `SELECT count(*) FROM {t} WHERE superseded IS NULL`); n != 2 {
				t.Errorf("two sessions have %d current rows", n)
			}
			if found(t, target, "m") || string(mustLoad(t, target, "a").Data) != "guest" {
				t.Error("the token from before the change of rights is good again")
			}
			for _, token := range []string{"r0", "q1", "p2"} {
				if got := mustLoad(t, target, token); got.Token != "p2" {
					t.Errorf("token %s leads to %+v", token, got)
				}
			}
		}
		// Each of them once, then the first again.
		once := e.other()
		once.table += "once"
		target := once.storeWith(t, o)
		mustImport(t, target, exports[0], 2)
		mustImport(t, target, exports[1], 3) // the fourth, in its grace then, has expired
		if got := mustLoad(t, target, "r0"); got.Token != "q1" || !got.Alias {
			t.Errorf("the older token leads to %+v", got)
		}
		mustImport(t, target, exports[0], 0)
		// All of them at once.
		all := e.other().storeWith(t, o)
		if _, err := all.Import(unhurried(t), append(append(exports[2], exports[0]...), exports[1]...)); err != nil {
			t.Fatal(err)
		}
		if n := e.other().number(t, `SELECT count(*) FROM {t} WHERE superseded IS NULL`); n != 2 {
			t.Errorf("two sessions have %d current rows", n)
		}
	}},
	{"Import_inAnyOrderComesOutTheSame", func(t *testing.T, e *env) {
		c := newClock()
		o := rqlitestore.Options{Now: c.Now}
		s := e.storeWith(t, o)
		// A session that was used, and whose token was rotated then.
		mustCreate(t, s, rqlitestore.Record{Token: "used", ID: "used", Expiry: c.In(time.Minute)})
		twice := mustCreate(t, s, rqlitestore.Record{Token: "twice", ID: "twice", Expiry: c.In(time.Hour)})
		e.exec(t, "CREATE TABLE {t}_backup AS SELECT * FROM {t} WHERE id='twice'")
		exports := [][]rqlitestore.Row{exported(t, s)}
		must(t, s.Touch(unhurried(t), "used", c.In(time.Hour)))
		mustUpdate(t, s, mustLoad(t, s, "used"), rotate("rotated"))
		// And one that was renewed, and once more after a backup had been restored.
		mustUpdate(t, s, twice, func(r *rqlitestore.Record) { r.Token = "renewed b" })
		exports = append(exports, exported(t, s))
		e.exec(t, "DELETE FROM {t} WHERE id='twice'", "INSERT INTO {t} SELECT * FROM {t}_backup", "DROP TABLE {t}_backup")
		mustUpdate(t, e.storeWith(t, o), twice, func(r *rqlitestore.Record) { r.Token = "renewed a" })
		exports = append(exports, exported(t, s))
		c.Add(2 * time.Minute)
		var first []string
		for i, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
			other := e.other()
			other.table += fmt.Sprint(i)
			target := other.storeWith(t, o)
			for _, n := range order {
				if _, err := target.Import(unhurried(t), exports[n]); err != nil {
					t.Fatal(err)
				}
				mustImport(t, target, exports[n], 0)
			}
			if got := mustLoad(t, target, "used"); got.Token != "rotated" {
				t.Errorf("imported in the order %v, the older token leads to %+v", order, got)
			}
			if got := other.dump(t); first == nil {
				first = got
			} else if !reflect.DeepEqual(got, first) {
				t.Errorf("imported in the order %v there is\n%s\nand in another\n%s", order, strings.Join(got, "\n"), strings.Join(first, "\n"))
			}
		}
	}},
	{"Import_knowsWhatCountsNoVersionInAnyOrder", func(t *testing.T, e *env) {
		c := newClock()
		o := rqlitestore.Options{Now: c.Now}
		s := e.storeWith(t, o)
		mustCreate(t, s, rqlitestore.Record{Token: "used", ID: "used", Expiry: c.In(time.Hour)})
		mustUpdate(t, s, mustCreate(t, s, rqlitestore.Record{Token: "older", ID: "presented", Expiry: c.In(time.Hour)}), rotate("newer"))
		before := exported(t, s)
		must(t, s.Touch(unhurried(t), "used", c.In(2*time.Hour)))
		must(t, s.Presented(unhurried(t), "presented", "newer"))
		after := exported(t, s)
		for name, order := range map[string][][]rqlitestore.Row{"newer": {before, after}, "older": {after, before}} {
			other := e.other()
			other.table += name
			target := other.storeWith(t, o)
			mustImport(t, target, order[0], 3)
			mustImport(t, target, order[1], 0)
			if got := mustLoad(t, target, "used").Expiry; !got.Equal(c.In(2 * time.Hour)) {
				t.Errorf("with the %s export last, a session that was used ends in %v", name, got.Sub(c.Now()))
			}
			if n := other.number(t, fmt.Sprintf("SELECT count(*) FROM {t} WHERE token='older' AND expiry<%f", 2440587.5+float64(c.In(time.Minute).Unix())/86400)); n != 1 {
				t.Errorf("with the %s export last, an older token outlives its grace", name)
			}
		}
	}},
	{"Import_doesNotReviveWhatWasDeleted", func(t *testing.T, e *env) {
		s, target := e.store(t), e.other().store(t)
		must(t, s.Commit("deleted", []byte("1"), inAnHour()))
		must(t, s.Commit("kept", []byte("1"), inAnHour()))
		mustImport(t, target, exported(t, s), 2)
		must(t, target.Delete("deleted"))
		mustImport(t, target, exported(t, s), 0)
		if found(t, target, "deleted") || !found(t, target, "kept") {
			t.Error("an import brought back what was deleted")
		}
	}},
	{"Import_repliesThatGetLostLoseNothing", func(t *testing.T, e *env) {
		s := e.store(t)
		must(t, s.Prepare(unhurried(t)))
		e.exec(t, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<1500)
INSERT INTO {t}(token,data,expiry,id,version) SELECT printf('token%05d',i),randomblob(200),9e6,'id'||i,3 FROM n`)
		must(t, e.other().store(t).Prepare(unhurried(t)))
		target := e.other().store(t, loser{there: 0.3, back: 0.3}.wrap)
		if _, err := target.Import(unhurried(t), exported(t, s)); err != nil {
			t.Fatal(err)
		}
		got := exported(t, e.other().store(t))
		if want := exported(t, s); !reflect.DeepEqual(got, want) {
			t.Errorf("%d rows of %d", len(got), len(want))
		}
	}},
}

func TestRow_keepsEveryByteInJSON(t *testing.T) {
	t.Parallel()
	at := time.Date(2031, 2, 3, 4, 5, 6, 789_000_000, time.UTC)
	b, err := json.Marshal(rqlitestore.Row{Token: "token", Data: []byte("data"), Expiry: at, ID: "id", Version: 1 << 60, Principal: "\xff", Aliased: true})
	must(t, err)
	const want = `{"token":"token","data":"ZGF0YQ==","expiry":"2031-02-03T04:05:06.789Z","id":"id","version":1152921504606846976,"principal":{"base64":"/w=="},"aliased":true}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	for _, row := range []rqlitestore.Row{
		{Token: "\x00\xff", Data: []byte{}, Text: true, Expiry: at, Writes: "w", Superseded: at.Add(time.Millisecond), Alias: "\u2028<\xf0", Rights: -1, Version: -1 << 62},
		{Expiry: time.Date(9999, 12, 31, 23, 59, 59, 999_000_000, time.UTC), Data: []byte{0}},
	} {
		b, err := json.Marshal(row)
		must(t, err)
		var back rqlitestore.Row
		must(t, json.Unmarshal(b, &back))
		if !reflect.DeepEqual(back, row) {
			t.Errorf("%s became %+v", b, back)
		}
	}
	b, err = json.Marshal(rqlitestore.Row{Expiry: at.AddDate(20_000, 0, 0)})
	if err != nil || string(b) != `{"token":"","data":"","expiry":"9999-12-31T23:59:59.999Z"}` {
		t.Errorf("got %s, %v", b, err)
	}
	var row rqlitestore.Row
	for _, bad := range []string{`{"token":1}`, `{"token":{"base64":"?"}}`, `{"expiry":"soon"}`, `{"data":"?"}`, `[]`} {
		if err := json.Unmarshal([]byte(bad), &row); err == nil {
			t.Errorf("%s is read as a row", bad)
		}
	}
}
