package rqlitestore_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rqlite/gorqlite"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

// What scs's rqlitestore tells its users to create.
const (
	oldTable = `CREATE TABLE {t} (token TEXT PRIMARY KEY, data BLOB NOT NULL, expiry REAL NOT NULL)`
	oldIndex = `CREATE INDEX {t}_expiry_idx ON {t}(expiry)`
)

// commitAsOld stores a row as scs's rqlitestore does: the data as hex text.
func commitAsOld(t testing.TB, e *env, token, data string, expiry time.Time) {
	t.Helper()
	_, err := e.conn(t).WriteOneParameterized(gorqlite.ParameterizedStatement{
		Query:     strings.ReplaceAll("REPLACE INTO {t} (token, data, expiry) VALUES (?, ?, julianday(?))", "{t}", e.table),
		Arguments: []any{token, data, expiry.UTC().Format("2006-01-02T15:04:05.000")},
	})
	must(t, err)
}

// migrated is a store whose table is migrated already: on a busy machine, in the
// midst of all other cases, that takes longer than a call without a deadline waits.
func migrated(t testing.TB, e *env) *rqlitestore.RqliteStore {
	t.Helper()
	s := e.store(t)
	must(t, s.Prepare(unhurried(t)))
	return s
}

var schemaCases = []storeCase{
	{"Migration_keepsSessionsOfTheOldStore", func(t *testing.T, e *env) {
		e.exec(t, oldTable, oldIndex)
		data := "gob\x00\xff data"
		commitAsOld(t, e, "old token", hex.EncodeToString([]byte(data)), inAnHour())
		commitAsOld(t, e, "upper", strings.ToUpper(hex.EncodeToString([]byte(data))), inAnHour())
		commitAsOld(t, e, "empty", "", inAnHour())
		commitAsOld(t, e, "expired", hex.EncodeToString([]byte(data)), time.Now().Add(-time.Minute))
		commitAsOld(t, e, "digits", "31323334", inAnHour())
		s := migrated(t, e)
		for token, want := range map[string]string{"old token": data, "upper": data, "empty": "", "digits": "1234"} {
			b, ok, err := s.Find(token)
			if string(b) != want || !ok || err != nil {
				t.Errorf("%s: got %q, %v, %v", token, b, ok, err)
			}
		}
		if _, ok, err := s.Find("expired"); ok || err != nil {
			t.Errorf("expired: found %v, %v", ok, err)
		}
		all, err := s.All()
		if err != nil || len(all) != 4 || string(all["old token"]) != data {
			t.Errorf("All: %d sessions, %v", len(all), err)
		}
		must(t, s.Commit("old token", []byte("new"), inAnHour()))
		if b, ok, _ := s.Find("old token"); !ok || string(b) != "new" {
			t.Errorf("after a commit: got %q, %v", b, ok)
		}
		must(t, s.Delete("upper"))
		if _, ok, _ := s.Find("upper"); ok {
			t.Error("found after it was deleted")
		}
		mustCreate(t, s, rqlitestore.Record{Token: "record", ID: "id"})
	}},
	{"Migration_goesOnWhereItsTimeWasUp", func(t *testing.T, e *env) {
		e.exec(t, oldTable, oldIndex)
		var steps atomic.Int64
		s := e.store(t, func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				if body, _ := r.GetBody(); body != nil {
					b, err := io.ReadAll(body)
					must(t, err)
					if n := strings.Count(string(b), "CREATE INDEX"); n > 1 || n == 1 && steps.Add(1)%2 == 0 {
						return nil, errors.New("no time for more than one index")
					}
				}
				return next.RoundTrip(r)
			})
		})
		for range 10 {
			if _, _, err := s.FindCtx(unhurried(t), "token"); err == nil {
				return
			}
		}
		t.Error("a table is never migrated where there is not the time for all at once")
	}},
	{"Migration_badHexIsNoSession", func(t *testing.T, e *env) {
		e.exec(t, oldTable)
		for i, data := range []string{"zz", "414", "ü", "4 1"} {
			commitAsOld(t, e, fmt.Sprint("bad", i), data, inAnHour())
		}
		s := migrated(t, e)
		for i := range 4 {
			if b, ok, err := s.Find(fmt.Sprint("bad", i)); b != nil || ok || err != nil {
				t.Errorf("row %d: got %q, %v, %v", i, b, ok, err)
			}
		}
		if _, err := s.All(); err == nil || strings.Contains(err.Error(), "bad0") || strings.Contains(err.Error(), "zz") {
			t.Errorf("All with a damaged row: %v", err)
		}
	}},
	{"Migration_ofManyAtOnce", func(t *testing.T, e *env) {
		e.exec(t, oldTable)
		commitAsOld(t, e, "token", "41", inAnHour())
		var wg sync.WaitGroup
		for range 8 {
			s := e.store(t)
			wg.Go(func() {
				if err := s.Prepare(unhurried(t)); err != nil {
					t.Error(err)
				}
				if b, ok, err := s.Find("token"); string(b) != "A" || !ok || err != nil {
					t.Errorf("got %q, %v, %v", b, ok, err)
				}
			})
		}
		wg.Wait()
		if n := e.number(t, "SELECT count(*) FROM pragma_table_info('{t}')"); n != 10 {
			t.Errorf("%d columns", n)
		}
	}},
	{"Table_isMadeByTheFirstCallsThatNeedIt", func(t *testing.T, e *env) {
		var n counter
		s := e.store(t, n.wrap)
		if n.queries.Load()+n.writes.Load() != 0 {
			t.Error("New does I/O")
		}
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				if err := s.Commit(fmt.Sprint("token", i), nil, inAnHour()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		n.writes.Store(0)
		again := e.store(t, n.wrap)
		if _, ok, err := again.Find("token1"); !ok || err != nil {
			t.Errorf("got %v, %v", ok, err)
		}
		if n.writes.Load() != 0 {
			t.Error("a table that is complete was written to")
		}
	}},
	{"Table_mayBeFinishedByAnotherProcessMeanwhile", func(t *testing.T, e *env) {
		var made atomic.Bool
		s := e.store(t, func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				res, err := next.RoundTrip(r)
				if strings.HasSuffix(r.URL.Path, "/execute") && made.CompareAndSwap(false, true) {
					must(t, e.store(t).Prepare(unhurried(t)))
				}
				return res, err
			})
		})
		must(t, s.Prepare(unhurried(t)))
		if !made.Load() {
			t.Error("nothing was written")
		}
	}},
	{"Table_thatVanishedIsMadeAgain", func(t *testing.T, e *env) {
		s := e.store(t)
		must(t, s.Commit("token", []byte("data"), inAnHour()))
		e.exec(t, "DROP TABLE {t}")
		eventually(t, "the table is made again", func() bool { // where there are several nodes not at once, see cluster's doc
			_, ok, err := s.Find("token")
			return !ok && err == nil
		})
		e.exec(t, "DROP TABLE {t}", "DROP TABLE {t}_ended")
		must(t, s.Commit("token", []byte("data"), inAnHour()))
		e.exec(t, "DROP TABLE {t}", oldTable)
		mustCreate(t, s, rqlitestore.Record{Token: "record", ID: "id"})
		e.exec(t, "DROP TABLE {t}", oldTable)
		if _, ok, err := s.FindCtx(unhurried(t), "token"); ok || err != nil {
			t.Errorf("in a table of the old store: got %v, %v", ok, err)
		}
	}},
	{"Table_ofSomethingElseIsLeftAlone", func(t *testing.T, e *env) {
		e.exec(t, "CREATE TABLE {t} (token TEXT, title TEXT)")
		s := e.store(t)
		err := s.Commit("token", []byte("data"), inAnHour())
		if err == nil || !strings.Contains(err.Error(), "choose another name") || strings.ContainsRune(err.Error(), '\n') {
			t.Errorf("got %v", err)
		}
		other := e.storeWith(t, rqlitestore.Options{Table: strings.ToUpper(e.table)}) // the same one to SQLite
		if err := other.Commit("token", []byte("data"), inAnHour()); err == nil || !strings.Contains(err.Error(), "choose another name") {
			t.Errorf("in upper case: got %v", err)
		}
		if n := e.number(t, "SELECT count(*) FROM sqlite_master WHERE tbl_name LIKE '{t}%'"); n != 1 {
			t.Errorf("%d tables and indexes where there was one", n)
		}
		if n := e.number(t, "SELECT count(*) FROM pragma_table_info('{t}')"); n != 2 {
			t.Errorf("%d columns where there were two", n)
		}
	}},
	{"Table_orViewOfSomethingElseIsLeftAlone", func(t *testing.T, e *env) {
		for _, other := range []string{
			"TABLE {t}_ended (name TEXT, expiry REAL)", "VIEW {t}_ended AS SELECT 'a' AS token,9e6 AS expiry",
			"VIEW {t} AS SELECT 'a' AS token,x'' AS data,9e6 AS expiry",
			// As scs's gormstore has it: to a number every text is later.
			"TABLE {t} AS SELECT 'token' AS token,x'' AS data,'2020-01-01 00:00:00+00:00' AS expiry",
		} {
			e.exec(t, "CREATE "+other)
			err := e.store(t).Commit("token", []byte("data"), inAnHour())
			if err == nil || !strings.Contains(err.Error(), "choose another name") {
				t.Errorf("%s: got %v", other, err)
			}
			if _, ok, err := e.store(t).Find("token"); ok || err == nil {
				t.Errorf("%s: found %v, %v", other, ok, err)
			}
			if n := e.number(t, "SELECT count(*) FROM sqlite_master WHERE tbl_name IN ('{t}','{t}_ended')"); n != 1 {
				t.Errorf("%s: %d tables and indexes where there was one", other, n)
			}
			e.exec(t, "DROP "+strings.Join(strings.Fields(other)[:2], " "))
		}
	}},
	{"Table_isFoundWhateverItsCase", func(t *testing.T, e *env) {
		must(t, e.store(t).Commit("token", []byte("data"), inAnHour()))
		var n counter
		s := e.storeWith(t, rqlitestore.Options{Table: strings.ToUpper(e.table)}, n.wrap)
		if data, ok, err := s.Find("token"); string(data) != "data" || !ok || err != nil {
			t.Errorf("got %q, %v, %v", data, ok, err)
		}
		if n.writes.Load() != 0 {
			t.Error("a table that is complete was written to")
		}
	}},
	{"Table_ofNotesIsNoTableOfSessions", func(t *testing.T, e *env) {
		must(t, e.storeWith(t, rqlitestore.Options{Table: e.table + "_ended"}).Commit("token", []byte("data"), inAnHour()))
		if err := e.store(t).Prepare(unhurried(t)); err == nil || !strings.Contains(err.Error(), "choose another name") {
			t.Errorf("got %v", err)
		}
	}},
	{"Tables_inOneDatabaseStayApart", func(t *testing.T, e *env) {
		a := e.storeWith(t, rqlitestore.Options{Table: e.table + "_Select"})
		b := e.store(t)
		must(t, a.Commit("token", []byte("a"), inAnHour()))
		must(t, b.Commit("token", []byte("b"), inAnHour()))
		must(t, b.Delete("token"))
		if data, ok, err := a.Find("token"); string(data) != "a" || !ok || err != nil {
			t.Errorf("got %q, %v, %v", data, ok, err)
		}
	}},
}

func TestTable_nameIsChecked(t *testing.T) {
	t.Parallel()
	e := embeddedEnv(t)
	for _, name := range []string{"a b", `a"b`, "1a", "a;b", "a-b", "ä", "a.b", "a\n"} {
		s := e.storeWith(t, rqlitestore.Options{Table: name})
		if err := s.Prepare(unhurried(t)); err == nil {
			t.Errorf("table name %q is accepted", name)
		}
		if _, _, err := s.Find("token"); err == nil {
			t.Errorf("table name %q is used", name)
		}
	}
	for _, name := range []string{"order", "_a1", "SELECT"} {
		if err := e.storeWith(t, rqlitestore.Options{Table: name}).Prepare(unhurried(t)); err != nil {
			t.Errorf("table name %q: %v", name, err)
		}
	}
}
