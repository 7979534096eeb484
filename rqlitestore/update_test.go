package rqlitestore_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

// increment counts in the data of a session.
func increment(cur rqlitestore.Record) (rqlitestore.Record, error) {
	n, err := strconv.Atoi("0" + string(cur.Data))
	if err != nil {
		return cur, err
	}
	cur.Data = fmt.Append(nil, n+1)
	return cur, nil
}

// addOne is increment of data that is known to be a number.
func addOne(r *rqlitestore.Record) { *r, _ = increment(*r) }

var updateCases = []storeCase{
	{"Update_ofARecordThatWasNeverReadIsMadeOnWhatIsThere", func(t *testing.T, e *env) {
		s := e.store(t)
		rec := rqlitestore.Record{Token: "token", ID: "id", Data: []byte("1"), Expiry: inAnHour()}
		must(t, s.Create(unhurried(t), rec))
		// The caller's copy does not know that it is at version 1 now.
		got, err := s.Update(unhurried(t), rec, increment)
		if err != nil || string(got.Data) != "2" || got.Version != 2 {
			t.Errorf("%v, data %s, version %d", err, got.Data, got.Version)
		}
	}},
	{"Update_goesOnWithARowFromABackup", func(t *testing.T, e *env) {
		s := e.store(t)
		mustCreate(t, s, rqlitestore.Record{Token: "token", ID: "id", Data: []byte("1")})
		e.exec(t, "CREATE TABLE {t}_backup AS SELECT * FROM {t}")
		rec := mustLoad(t, s, "token")
		for range 3 {
			rec = mustUpdate(t, s, rec, addOne)
		}
		e.exec(t, "DELETE FROM {t}", "INSERT INTO {t} SELECT * FROM {t}_backup", "DROP TABLE {t}_backup")
		if rec = mustUpdate(t, s, rec, addOne); string(rec.Data) != "2" || rec.Version != 2 {
			t.Errorf("stored is %s at version %d", rec.Data, rec.Version)
		}
	}},
	{"Update_afterARenewalWritesToNoRowFromBefore", func(t *testing.T, e *env) {
		s := e.store(t)
		rec := mustCreate(t, s, rqlitestore.Record{Token: "guest", ID: "id", Data: []byte("1")})
		e.exec(t, "CREATE TABLE {t}_backup AS SELECT * FROM {t}")
		rec = mustUpdate(t, s, rec, func(r *rqlitestore.Record) { r.Token = "member" })
		e.exec(t, "DELETE FROM {t}", "INSERT INTO {t} SELECT * FROM {t}_backup", "DROP TABLE {t}_backup")
		if _, err := s.Update(unhurried(t), rec, increment); !errors.Is(err, rqlitestore.ErrGone) {
			t.Errorf("Update: %v", err)
		}
		if got := mustLoad(t, s, "guest"); string(got.Data) != "1" {
			t.Errorf("the session of before the login has %s", got.Data)
		}
	}},
	{"Update_toARecordWithoutATokenIsRefused", func(t *testing.T, e *env) {
		s := e.store(t)
		if err := s.Create(unhurried(t), rqlitestore.Record{ID: "id", Expiry: inAnHour()}); err == nil {
			t.Error("Create takes a record without a token")
		}
		rec := mustCreate(t, s, rqlitestore.Record{Token: "token", ID: "id", Data: []byte("old")})
		_, err := s.Update(unhurried(t), rec, func(cur rqlitestore.Record) (rqlitestore.Record, error) {
			return rqlitestore.Record{Data: []byte("new"), Expiry: cur.Expiry}, nil
		})
		if err == nil || !strings.Contains(err.Error(), "the one that it got") {
			t.Errorf("Update: %v", err)
		}
		if got := mustLoad(t, s, "token"); string(got.Data) != "old" || !got.Superseded.IsZero() {
			t.Errorf("stored is %+v", got)
		}
		if found(t, s, "") {
			t.Error("there is a session for who has no token")
		}
	}},
	{"Update_returnsWhatIsStoredWhateverApplyMakesOfIt", func(t *testing.T, e *env) {
		s := e.store(t)
		rec := mustUpdate(t, s, mustCreate(t, s, rqlitestore.Record{Token: "a", ID: "id"}), rotate("b"))
		got, err := s.Update(unhurried(t), rec, func(cur rqlitestore.Record) (rqlitestore.Record, error) {
			return rqlitestore.Record{
				Token: cur.Token, ID: "other", Data: []byte("data"), Expiry: inAnHour().Round(time.Millisecond).Add(time.Microsecond), Version: 9, Rights: 9,
				Superseded: time.Now(), Alias: true, AliasSince: time.Now(), AliasUntil: time.Now(),
			}, nil
		})
		must(t, err)
		if want := mustLoad(t, s, "b"); !reflect.DeepEqual(got, want) || got.ID != "id" || got.Version != 3 || !got.Aliased {
			t.Errorf("got %+v, stored is %+v", got, want)
		}
	}},
	{"Update_writersOfOneSessionAreChained", func(t *testing.T, e *env) {
		const writers = 50
		var n counter
		g := newGate(t, func(r *http.Request) bool { return !isQuery(r) })
		rec := mustCreate(t, e.store(t), rqlitestore.Record{Token: "token", ID: "id"})
		s := e.store(t, n.wrap, g.wrap)
		must(t, s.Prepare(unhurried(t)))
		var mu sync.Mutex
		versions := map[int64]bool{}
		together(writers, g, func(int) {
			got, err := s.Update(unhurried(t), rec, increment)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			versions[got.Version] = true
			mu.Unlock()
		})
		got := mustLoad(t, s, "token")
		if string(got.Data) != "50" || got.Version != writers+1 {
			t.Errorf("got data %s, version %d", got.Data, got.Version)
		}
		if n := n.writes.Load(); n > writers/2 { // one or two, but for those that a busy machine lets start late
			t.Errorf("%d updates were %d writes", writers, n)
		}
		if !versions[writers+1] {
			t.Errorf("no caller got the last version: %v", versions)
		}
		if n := n.writes.Load(); int64(len(versions)) > n {
			t.Errorf("%d writes, and callers got the versions %v: some were never stored", n, versions)
		}
	}},
	{"Update_whatTheDatabaseRefusesIsAnErrorAtOnce", func(t *testing.T, e *env) {
		s := e.store(t)
		rec := mustCreate(t, s, rqlitestore.Record{Token: "token", ID: "id"})
		e.exec(t, `CREATE TRIGGER {t}_refuses BEFORE UPDATE ON {t} BEGIN SELECT RAISE(ABORT,'refused here'); END`)
		_, err := s.Update(unhurried(t), rec, increment)
		if err == nil || !strings.Contains(err.Error(), "refused here") || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		e.exec(t, `CREATE TRIGGER {t}_refuses_too BEFORE INSERT ON {t} BEGIN SELECT RAISE(ABORT,'refused here'); END`)
		_, err = s.Import(unhurried(t), []rqlitestore.Row{{Token: "row", Expiry: inAnHour()}})
		if err == nil || !strings.Contains(err.Error(), "refused here") || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("import: error %v", err)
		}
	}},
	{"Update_manySessionsTravelTogether", func(t *testing.T, e *env) {
		const sessions = 120
		var n counter
		quiet := e.store(t)
		recs := make([]rqlitestore.Record, sessions)
		for i := range recs {
			recs[i] = rqlitestore.Record{Token: fmt.Sprint("token", i), ID: fmt.Sprint("id", i), Data: []byte("old"), Principal: "old", Expiry: inAnHour()}
		}
		var wg sync.WaitGroup
		for i := range recs {
			wg.Go(func() { recs[i] = mustCreate(t, quiet, recs[i]) })
		}
		wg.Wait()
		g := newGate(t, func(r *http.Request) bool { return !isQuery(r) })
		s := e.store(t, n.wrap, g.wrap)
		must(t, s.Prepare(unhurried(t)))
		want := make([]rqlitestore.Record, sessions)
		gather(t, s, sessions, g, func(i int) {
			var err error
			want[i], err = s.Update(unhurried(t), recs[i], func(cur rqlitestore.Record) (rqlitestore.Record, error) {
				cur.Data = fmt.Append(nil, "new", i)
				switch i % 4 {
				case 1:
					cur.Expiry = cur.Expiry.Add(time.Hour)
				case 2:
					cur.Principal, cur.Expiry = "x'41'\x00ü", cur.Expiry.Add(time.Minute)
				case 3:
					cur.Principal, cur.Token = "", fmt.Sprint("renewed", i)
				}
				return cur, nil
			})
			if err != nil {
				t.Error(err)
			}
		})
		if got := n.writes.Load(); got > sessions/4 {
			t.Errorf("%d updates were %d writes", sessions, got)
		}
		for i, w := range want {
			if got := mustLoad(t, quiet, w.Token); !reflect.DeepEqual(got, w) || got.Version != 2 || string(got.Data) != fmt.Sprint("new", i) {
				t.Errorf("session %d: stored %+v, returned %+v", i, got, w)
			}
		}
	}},
	{"Update_thatLosesEveryRaceSaysSo", func(t *testing.T, e *env) {
		for when := range int64(4) { // the caller leaves during a save, or during a look at what became of it
			other := e.store(t)
			rec := mustCreate(t, other, rqlitestore.Record{Token: fmt.Sprint("token", when), ID: fmt.Sprint("id", when)})
			ctx, leave := context.WithCancel(context.Background())
			var requests atomic.Int64 // to a table that has been made
			var returned atomic.Bool  // until then the others are faster: it may take a while to see that the caller has left
			s := e.store(t, func(next http.RoundTripper) http.RoundTripper {
				return roundTripper(func(r *http.Request) (*http.Response, error) {
					if returned.Load() || isQuery(r) {
						return next.RoundTrip(r)
					}
					if strings.HasPrefix(r.URL.Path, "/db/execute") {
						if _, err := other.Update(unhurried(t), rec, increment); err != nil {
							t.Error(err)
						}
					}
					if requests.Add(1) == 3+when {
						leave()
					}
					return next.RoundTrip(r)
				})
			})
			_, err := s.Update(ctx, rec, increment)
			returned.Store(true)
			if !errors.Is(err, rqlitestore.ErrConflict) {
				t.Errorf("got %v", err)
			}
			if _, err := s.Update(unhurried(t), rec, increment); err != nil { // it comes after what was under way
				t.Error(err)
			}
		}
	}},
	{"Update_thatLosesEveryRaceUntilItsDeadlineSaysThatItsTimeIsUp", func(t *testing.T, e *env) {
		var all sync.WaitGroup
		for i := range 8 { // of which some lose the last race before their time is up, and some after it
			all.Go(func() {
				other := e.store(t)
				rec := mustCreate(t, other, rqlitestore.Record{Token: fmt.Sprint("token", i), ID: fmt.Sprint("id", i)})
				var returned atomic.Bool
				s := e.store(t, func(next http.RoundTripper) http.RoundTripper {
					return roundTripper(func(r *http.Request) (*http.Response, error) {
						if strings.HasPrefix(r.URL.Path, "/db/execute") && !returned.Load() {
							if _, err := other.Update(unhurried(t), rec, increment); err != nil {
								t.Error(err)
							}
						}
						return next.RoundTrip(r)
					})
				})
				ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errWhy)
				defer cancel()
				_, err := s.Update(ctx, rec, increment)
				returned.Store(true)
				if !errors.Is(err, errWhy) {
					t.Errorf("got %v", err)
				}
				if _, err := s.Update(unhurried(t), rec, increment); err != nil { // it comes after what was under way
					t.Error(err)
				}
			})
		}
		all.Wait()
	}},
	{"Update_thatGetsNoAnswerAfterAConflictSaysSo", func(t *testing.T, e *env) {
		other := e.store(t)
		rec := mustCreate(t, other, rqlitestore.Record{Token: "token", ID: "id"})
		var writes atomic.Int64
		s := e.store(t, func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				switch {
				case !strings.HasPrefix(r.URL.Path, "/db/execute"):
				case writes.Add(1) == 1:
					if _, err := other.Update(unhurried(t), rec, increment); err != nil {
						t.Error(err)
					}
				default:
					<-r.Context().Done()
					return nil, r.Context().Err()
				}
				return next.RoundTrip(r)
			})
		})
		must(t, s.Prepare(unhurried(t)))
		writes.Store(0)
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if _, err := s.Update(ctx, rec, increment); !errors.Is(err, rqlitestore.ErrConflict) || !strings.Contains(err.Error(), "no answer") {
			t.Errorf("got %v", err)
		}
	}},
	{"Update_thatTooManyOthersCameBeforeSaysSo", func(t *testing.T, e *env) {
		rec := mustCreate(t, e.store(t), rqlitestore.Record{Token: "token", ID: "id"})
		s := e.store(t, func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				if !strings.HasPrefix(r.URL.Path, "/db/execute") {
					return next.RoundTrip(r)
				}
				for range 9 { // one more than a row knows
					if _, err := e.store(t).Update(unhurried(t), rec, increment); err != nil {
						t.Error(err)
					}
				}
				return nil, errLost
			})
		})
		if _, err := s.Update(unhurried(t), rec, increment); !errors.Is(err, rqlitestore.ErrConflict) {
			t.Errorf("got %v", err)
		}
		if got := mustLoad(t, s, "token"); string(got.Data) != "9" {
			t.Errorf("stored is %s", got.Data)
		}
	}},
	{"Update_goesOnBehindAnyNumberOfOthers", func(t *testing.T, e *env) {
		rec := mustCreate(t, e.store(t), rqlitestore.Record{Token: "token", ID: "id"})
		for range 12 { // more than a row knows
			mustUpdate(t, e.store(t), rec, addOne)
		}
		if got := mustLoad(t, e.store(t), "token"); string(got.Data) != "12" {
			t.Errorf("stored is %s", got.Data)
		}
	}},
	{"Update_throughAnOlderTokenRenewsWithAChangeOfRights", func(t *testing.T, e *env) {
		s := e.store(t)
		rotated := mustUpdate(t, s, mustCreate(t, s, rqlitestore.Record{Token: "a", ID: "id"}), rotate("b"))
		viaA := mustLoad(t, s, "a")
		member := mustUpdate(t, s, viaA, func(r *rqlitestore.Record) { r.Token, r.Principal = "member", "alice" })
		if member.Rights != rotated.Rights+1 || member.Aliased {
			t.Errorf("the rights were at %d, now it is %+v", rotated.Rights, member)
		}
		if old := mustLoad(t, s, "b"); old.Superseded.IsZero() || old.Principal != "" {
			t.Errorf("the token of before the login leads to %+v", old)
		}
	}},
	{"Update_behindARotationRenewsWithAChangeOfRights", func(t *testing.T, e *env) {
		s := e.store(t)
		for i := range 10 { // in most of them the second one waits for the first
			id := strconv.Itoa(i)
			rec := mustCreate(t, s, rqlitestore.Record{Token: "a" + id, ID: id})
			rotating, rotated := make(chan struct{}), make(chan error)
			go func() {
				var once sync.Once
				_, err := s.Update(unhurried(t), rec, func(cur rqlitestore.Record) (rqlitestore.Record, error) {
					once.Do(func() { close(rotating) })
					rotate("b" + id)(&cur)
					return cur, nil
				})
				rotated <- err
			}()
			<-rotating
			member := mustUpdate(t, s, rec, func(r *rqlitestore.Record) { r.Token = "member" + id })
			if err := <-rotated; err != nil && !errors.Is(err, rqlitestore.ErrSuperseded) {
				t.Error(err)
			}
			if member.Rights != rec.Rights+1 {
				t.Errorf("the rights are at %d, were at %d", member.Rights, rec.Rights)
			}
		}
	}},
	{"Update_ofThePrincipalAloneIsStored", func(t *testing.T, e *env) {
		s := e.store(t)
		rec := mustCreate(t, s, rqlitestore.Record{Token: "token", ID: "id", Principal: "alice"})
		mustUpdate(t, s, rec, func(r *rqlitestore.Record) { r.Principal = "bob" })
		for principal, want := range map[string]int{"alice": 0, "bob": 1} {
			recs, _, err := s.List(unhurried(t), rqlitestore.ListOptions{Principals: []string{principal}})
			if err != nil || len(recs) != want {
				t.Errorf("%s has %d sessions, error %v", principal, len(recs), err)
			}
		}
	}},
	{"Update_ofARowThatCannotBeReadAnyMoreStoresNothing", func(t *testing.T, e *env) {
		s := e.store(t)
		rec := mustCreate(t, s, rqlitestore.Record{Token: "token", ID: "id"})
		e.exec(t, "UPDATE {t} SET data='no hex',version=version+1")
		if _, err := s.Update(unhurried(t), rec, increment); !errors.Is(err, rqlitestore.ErrGone) {
			t.Errorf("got %v", err)
		}
		if n := e.number(t, "SELECT count(*) FROM {t} WHERE data='no hex'"); n != 1 {
			t.Error("the row was written over")
		}
	}},
	{"Update_lostRacesAreAppliedAgain", func(t *testing.T, e *env) {
		a, b := e.store(t), e.store(t)
		rec := mustCreate(t, a, rqlitestore.Record{Token: "token", ID: "id"})
		var wg sync.WaitGroup
		for i := range 50 {
			s := []*rqlitestore.RqliteStore{a, b}[i%2]
			wg.Go(func() {
				for range 4 {
					if _, err := s.Update(unhurried(t), rec, increment); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if got := mustLoad(t, a, "token"); string(got.Data) != "200" || got.Version != 201 {
			t.Errorf("got data %s, version %d", got.Data, got.Version)
		}
	}},
	{"Update_errorOfApplyReachesItsCallerOnly", func(t *testing.T, e *env) {
		rec := mustCreate(t, e.store(t), rqlitestore.Record{Token: "token", ID: "id"})
		g := newGate(t, func(r *http.Request) bool { return !isQuery(r) })
		s := e.store(t, g.wrap)
		must(t, s.Prepare(unhurried(t)))
		mine := errors.New("too big")
		together(20, g, func(i int) {
			_, err := s.Update(unhurried(t), rec, func(cur rqlitestore.Record) (rqlitestore.Record, error) {
				if i%4 == 1 {
					cur.Data = []byte("999")
					return cur, mine
				}
				return increment(cur)
			})
			if (i%4 == 1) != errors.Is(err, mine) || (i%4 != 1 && err != nil) {
				t.Errorf("writer %d: %v", i, err)
			}
		})
		if got := mustLoad(t, s, "token"); string(got.Data) != "15" || got.Version != 16 {
			t.Errorf("got data %s, version %d", got.Data, got.Version)
		}
	}},
	{"Update_panicOfApplyReachesItsCallerOnly", func(t *testing.T, e *env) {
		s := e.store(t)
		rec := mustCreate(t, s, rqlitestore.Record{Token: "token", ID: "id"})
		func() {
			defer func() {
				if p := recover(); p != "boom" {
					t.Errorf("recovered %v", p)
				}
			}()
			_, _ = s.Update(unhurried(t), rec, func(rqlitestore.Record) (rqlitestore.Record, error) { panic("boom") })
			t.Error("no panic")
		}()
		if got := mustUpdate(t, s, rec, addOne); string(got.Data) != "1" {
			t.Errorf("got data %s", got.Data)
		}
	}},
	// As a test does that fails within apply.
	{"Update_applyThatEndsItsGoroutineEndsNoOthers", func(t *testing.T, e *env) {
		s := e.store(t)
		rec := mustCreate(t, s, rqlitestore.Record{Token: "token", ID: "id"})
		for range 2 {
			if _, err := s.Update(unhurried(t), rec, func(rqlitestore.Record) (rqlitestore.Record, error) {
				runtime.Goexit()
				return rqlitestore.Record{}, nil
			}); err == nil || !strings.Contains(err.Error(), "return an error") {
				t.Errorf("got %v", err)
			}
		}
		mustUpdate(t, s, rec, func(r *rqlitestore.Record) { r.Data = []byte("0") })
		// Nor those that wait with it.
		g := newGate(t, func(r *http.Request) bool { return !isQuery(r) })
		s = e.store(t, g.wrap)
		must(t, s.Prepare(unhurried(t)))
		together(20, g, func(i int) {
			_, err := s.Update(unhurried(t), rec, func(cur rqlitestore.Record) (rqlitestore.Record, error) {
				if i%4 == 1 {
					runtime.Goexit()
				}
				return increment(cur)
			})
			if (i%4 == 1) != (err != nil) {
				t.Errorf("writer %d: %v", i, err)
			}
		})
		if got := mustLoad(t, s, "token"); string(got.Data) != "15" {
			t.Errorf("got data %s", got.Data)
		}
	}},
	{"Update_applyIsOverWhenTheCallerHasLeft", func(t *testing.T, e *env) {
		rec := mustCreate(t, e.store(t), rqlitestore.Record{Token: "token", ID: "id"})
		g := newGate(t, func(r *http.Request) bool { return !isQuery(r) })
		s := e.store(t, g.wrap)
		must(t, s.Prepare(unhurried(t)))
		first := make(chan error)
		go func() {
			_, err := s.Update(unhurried(t), rec, increment)
			first <- err
		}()
		<-g.held
		ctx, cancel := context.WithCancel(context.Background())
		left := make(chan struct{})
		var late atomic.Bool
		go func() {
			defer close(left)
			_, err := s.Update(ctx, rec, func(cur rqlitestore.Record) (rqlitestore.Record, error) {
				late.Store(true)
				return increment(cur)
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		}()
		cancel()
		<-left
		g.release()
		must(t, <-first)
		if late.Load() {
			t.Error("apply was called after its caller had left")
		}
		if got := mustUpdate(t, s, rec, addOne); string(got.Data) != "2" {
			t.Errorf("got data %s", got.Data)
		}
	}},
	{"Update_hasItsOwnTimeHoweverLittleOthersHave", func(t *testing.T, e *env) {
		rec := mustCreate(t, e.store(t), rqlitestore.Record{Token: "token", ID: "id"})
		g := newGate(t, func(r *http.Request) bool { return !isQuery(r) })
		s := e.store(t, g.wrap)
		must(t, s.Prepare(unhurried(t)))
		errs := make(chan error, 2)
		update := func() {
			_, err := s.Update(unhurried(t), rec, increment)
			errs <- err
		}
		go update()
		<-g.held
		go update()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		if _, err := s.Update(ctx, rec, increment); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		g.release() // for two that wait, of which one has no time left
		must(t, <-errs)
		must(t, <-errs)
		if got := mustLoad(t, s, "token"); string(got.Data) != "2" {
			t.Errorf("got data %s", got.Data)
		}
	}},
	{"Update_renewalInTheMidstOfOthers", func(t *testing.T, e *env) {
		rec := mustCreate(t, e.store(t), rqlitestore.Record{Token: "old", ID: "id"})
		g := newGate(t, func(r *http.Request) bool { return !isQuery(r) })
		s := e.store(t, g.wrap)
		must(t, s.Prepare(unhurried(t)))
		var stored, superseded, newTokens atomic.Int64
		together(30, g, func(i int) {
			got, err := s.Update(unhurried(t), rec, func(cur rqlitestore.Record) (rqlitestore.Record, error) {
				if i == 15 {
					cur.Token, cur.Principal = "new", "alice"
				}
				return increment(cur)
			})
			switch {
			case errors.Is(err, rqlitestore.ErrSuperseded):
				superseded.Add(1)
				return
			case err != nil:
				t.Error(err)
				return
			}
			stored.Add(1)
			if got.Token == "new" {
				newTokens.Add(1)
			}
		})
		got := mustLoad(t, s, "new")
		if fmt.Sprint(stored.Load()) != string(got.Data) || stored.Load()+superseded.Load() != 30 {
			t.Errorf("%d stored, %d superseded, data %s", stored.Load(), superseded.Load(), got.Data)
		}
		if newTokens.Load() != 1 {
			t.Errorf("%d callers were given the new token", newTokens.Load())
		}
	}},
	{"Update_rotationInTheMidstOfOthersLosesNothing", func(t *testing.T, e *env) {
		a, b := e.store(t), e.store(t)
		rec := mustCreate(t, a, rqlitestore.Record{Token: "t0", ID: "id"})
		var wg sync.WaitGroup
		for i := range 30 {
			s := []*rqlitestore.RqliteStore{a, b}[i%2]
			wg.Go(func() {
				_, err := s.Update(unhurried(t), rec, func(cur rqlitestore.Record) (rqlitestore.Record, error) {
					if i%10 == 1 {
						cur.Token, cur.Alias = fmt.Sprint("t", i), true
					}
					return increment(cur)
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		cur, ok, err := a.Current(unhurried(t), "id")
		if err != nil || !ok || string(cur.Data) != "30" || cur.Version != 31 {
			t.Errorf("got %v, %v, data %s, version %d", ok, err, cur.Data, cur.Version)
		}
		for _, token := range []string{"t0", "t1", "t11", "t21"} {
			if got := mustLoad(t, a, token); got.Token != cur.Token || string(got.Data) != "30" {
				t.Errorf("token %s leads to %+v", token, got)
			}
		}
	}},
	{"Update_needsAnID", func(t *testing.T, e *env) {
		s := e.store(t)
		if _, err := s.Update(unhurried(t), rqlitestore.Record{Token: "token"}, keep); err == nil || strings.Contains(err.Error(), "token") {
			t.Errorf("got %v", err)
		}
		if err := s.Create(unhurried(t), rqlitestore.Record{Token: "token"}); err == nil {
			t.Error("created without an id")
		}
	}},
	{"Update_expiredSessionIsGone", func(t *testing.T, e *env) {
		c := newClock()
		s := e.storeWith(t, rqlitestore.Options{Now: c.Now})
		rec := mustCreate(t, s, rqlitestore.Record{Token: "token", ID: "id", Expiry: c.In(time.Second)})
		c.Add(2 * time.Second)
		for _, token := range []string{"token", "renewed"} {
			_, err := s.Update(unhurried(t), rec, func(cur rqlitestore.Record) (rqlitestore.Record, error) {
				cur.Token, cur.Expiry = token, c.In(time.Hour)
				return cur, nil
			})
			if !errors.Is(err, rqlitestore.ErrGone) {
				t.Errorf("to %s: got %v, want ErrGone", token, err)
			}
			if found(t, s, token) {
				t.Errorf("%s leads to a session again", token)
			}
		}
	}},
	{"Update_rotationThatIsNotMadeLeavesOlderTokensAlone", func(t *testing.T, e *env) {
		s := e.store(t)
		rec := mustUpdate(t, s, mustCreate(t, s, rqlitestore.Record{Token: "a", ID: "id"}), rotate("b"))
		mustUpdate(t, e.store(t), rec, addOne) // s does not know
		tries := 0
		mustUpdate(t, s, rec, func(r *rqlitestore.Record) {
			if tries++; tries == 1 {
				rotate("c")(r)
			}
		})
		if got := mustLoad(t, s, "a"); tries != 2 || got.Token != "b" {
			t.Errorf("after %d tries the older token leads to %q", tries, got.Token)
		}
	}},
}
