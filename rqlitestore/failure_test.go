package rqlitestore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rqlite/gorqlite"

	"github.com/caddy-session/caddy-session/rqlitestore"
	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
	"github.com/caddy-session/caddy-session/rqlitestore/internal/trouble"
)

// What is wrong is said in one line, without the made-up address that gorqlite
// knows a transport by, and nothing that was not sent has an unknown outcome.
func TestErrors_sayWhatIsWrongInOneLine(t *testing.T) {
	t.Parallel()
	locked := filepath.Join(t.TempDir(), "sessions.db")
	holder := embedded.New(locked, embedded.Options{})
	must(t, holder.Open())
	t.Cleanup(func() { must(t, holder.Close()) })
	second := embedded.New(locked, embedded.Options{})
	nodes, err := cluster.New(cluster.Config{Nodes: []string{"http://127.0.0.1:1"}, Timeout: 200 * time.Millisecond})
	must(t, err)
	t.Cleanup(nodes.Close)
	for name, test := range map[string]struct {
		connect func() (*gorqlite.Connection, error)
		want    string
	}{
		"embedded": {second.Connection, "open " + locked + ": " + embedded.ErrLocked.Error()},
		"cluster":  {nodes.Connection, "cluster: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := test.connect()
			must(t, err)
			s := rqlitestore.NewWithOptions(conn, rqlitestore.Options{})
			if err = s.Create(t.Context(), rqlitestore.Record{Token: "token", ID: "id", Expiry: inAnHour()}); err == nil {
				t.Fatal("it is stored")
			}
			text := err.Error()
			if !strings.HasPrefix(text, "create session: prepare table sessions: "+test.want) {
				t.Errorf("got %q", text)
			}
			for _, noise := range []string{"\n", "peer", "/db/", "outcome unknown"} {
				if strings.Contains(text, noise) {
					t.Errorf("%q has %q", text, noise)
				}
			}
		})
	}
}

// A call that waited in vain says what for, and whoever asks sees that its time
// was up.
func TestErrors_sayWhatACallWaitedFor(t *testing.T) {
	t.Parallel()
	node := embedded.New(filepath.Join(t.TempDir(), "sessions.db"), embedded.Options{})
	closed, err := node.Connection()
	must(t, err)
	kept := rqlitestore.NewWithOptions(closed, rqlitestore.Options{})
	rec := mustCreate(t, kept, rqlitestore.Record{Token: "token", ID: "id"})
	must(t, node.Close())
	down, err := cluster.Connect("http://127.0.0.1:1")
	must(t, err)
	lost := rqlitestore.NewWithOptions(down, rqlitestore.Options{})
	for name, test := range map[string]struct {
		call func(context.Context) error
		want string
	}{
		"find": {func(ctx context.Context) error {
			_, _, err := lost.FindCtx(ctx, "token")
			return err
		}, "http://127.0.0.1:1"},
		"update": {func(ctx context.Context) error {
			_, err := kept.Update(ctx, rec, func(cur rqlitestore.Record) (rqlitestore.Record, error) { return cur, nil })
			return err
		}, embedded.ErrClosed.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			err := test.call(ctx)
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

var errWhy = errors.New("somebody else was faster")

// hanging hangs requests until their context ends.
type hanging struct{ atomic.Bool }

func (h *hanging) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if !h.Load() {
			return next.RoundTrip(r)
		}
		<-r.Context().Done()
		return nil, r.Context().Err()
	})
}

// everyCall is all that a store can be asked for. The session is one that is there.
func everyCall(s *rqlitestore.RqliteStore, rec rqlitestore.Record) map[string]func(context.Context) error {
	other := rqlitestore.Record{Token: "other", ID: "other", Version: 1, Expiry: inAnHour()}
	row := rqlitestore.Row{Token: "row", Expiry: inAnHour()}
	drop := func([]rqlitestore.Row) error { return nil }
	renewed := func(r rqlitestore.Record) (rqlitestore.Record, error) { r.Token = "renewed"; return r, nil }
	return map[string]func(context.Context) error{
		"find":      func(ctx context.Context) error { _, _, err := s.FindCtx(ctx, "token"); return err },
		"load":      func(ctx context.Context) error { _, _, err := s.Load(ctx, "token"); return err },
		"current":   func(ctx context.Context) error { _, _, err := s.Current(ctx, "id"); return err },
		"create":    func(ctx context.Context) error { return s.Create(ctx, other) },
		"update":    func(ctx context.Context) error { _, err := s.Update(ctx, rec, keep); return err },
		"renew":     func(ctx context.Context) error { _, err := s.Update(ctx, rec, renewed); return err },
		"touch":     func(ctx context.Context) error { return s.Touch(ctx, "id", inAnHour()) },
		"destroy":   func(ctx context.Context) error { return s.Destroy(ctx, "other") },
		"commit":    func(ctx context.Context) error { return s.CommitCtx(ctx, "plain", nil, inAnHour()) },
		"delete":    func(ctx context.Context) error { return s.DeleteCtx(ctx, "plain") },
		"all":       func(ctx context.Context) error { _, err := s.AllCtx(ctx); return err },
		"list":      func(ctx context.Context) error { _, _, err := s.List(ctx, rqlitestore.ListOptions{}); return err },
		"count":     func(ctx context.Context) error { _, err := s.Count(ctx); return err },
		"export":    func(ctx context.Context) error { return s.Export(ctx, "", drop) },
		"import":    func(ctx context.Context) error { _, err := s.Import(ctx, []rqlitestore.Row{row}); return err },
		"cleanup":   func(ctx context.Context) error { _, err := s.DeleteExpired(ctx); return err },
		"presented": func(ctx context.Context) error { return s.Presented(ctx, "id", "token") },
		"principal": func(ctx context.Context) error { return s.DestroyPrincipals(ctx, []string{"alice"}, "") },
		"beyond": func(ctx context.Context) error {
			_, err := s.DestroyBeyond(ctx, []string{"alice"}, 0, "id")
			return err
		},
	}
}

// everyHangingCall is everyCall, and Prepare, while requests hang.
func everyHangingCall(t *testing.T) (calls map[string]func(context.Context) error, hangs *hanging) {
	t.Helper()
	hangs = new(hanging)
	e := embeddedEnv(t)
	s, fresh := e.store(t, hangs.wrap), e.store(t, hangs.wrap)
	calls = everyCall(s, mustCreate(t, s, rqlitestore.Record{Token: "token", ID: "id"}))
	calls["prepare"] = fresh.Prepare
	hangs.Store(true)
	return calls, hangs
}

// Whatever a call is, whoever gives it up or gives it too little time finds that in
// its error, and why, if there was a reason.
func TestErrors_sayThatTheContextEnded(t *testing.T) {
	t.Parallel()
	calls, _ := everyHangingCall(t)
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			late, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if err := call(late); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("too little time: %v", err)
			}
			ctx, giveUp := context.WithCancel(t.Context())
			time.AfterFunc(20*time.Millisecond, giveUp)
			if err := call(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("given up: %v", err)
			}
			ctx, giveUpFor := context.WithCancelCause(t.Context())
			time.AfterFunc(20*time.Millisecond, func() { giveUpFor(errWhy) })
			if err := call(ctx); !errors.Is(err, errWhy) {
				t.Errorf("given up for a reason: %v", err)
			}
		})
	}
}

// A call without a deadline has one all the same, and so has its request: where that
// is never answered, neither the call waits for ever nor those that come behind it.
func TestCalls_endWithoutADeadline(t *testing.T) {
	t.Parallel()
	calls, hangs := everyHangingCall(t)
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // where the seconds take no time
				if err := call(context.Background()); !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			})
		})
	}
	hangs.Store(false)
	for name, call := range calls {
		if err := call(unhurried(t)); err != nil && !errors.Is(err, rqlitestore.ErrSuperseded) && !errors.Is(err, rqlitestore.ErrGone) {
			t.Errorf("%s, once requests are answered: %v", name, err)
		}
	}
}

// That time begins with the call, not with one before it.
func TestCalls_withoutADeadlineHaveAllTheirTime(t *testing.T) {
	t.Parallel()
	var slow atomic.Bool
	s := embeddedEnv(t).store(t, func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if !slow.Load() {
				return next.RoundTrip(r)
			}
			time.Sleep(time.Second)
			const stored = `{"results":[{"rows_affected":1}]}`
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(stored)), Request: r}, nil
		})
	})
	must(t, s.Prepare(unhurried(t)))
	slow.Store(true)
	synctest.Test(t, func(t *testing.T) { // where the seconds take no time
		for range 3 {
			var wg sync.WaitGroup
			for _, token := range []string{"first", "behind it"} {
				wg.Go(func() {
					if err := s.Commit(token, nil, inAnHour()); err != nil {
						t.Errorf("%s: %v", token, err)
					}
				})
			}
			wg.Wait()
			time.Sleep(time.Minute)
		}
	})
}

// Whoever prepares a large old table may take minutes, and others have less.
func TestPrepare_ofAnotherIsNotWaitedForLongerThanThereIsTime(t *testing.T) {
	t.Parallel()
	var hangs hanging
	hangs.Store(true)
	var n counter
	s := embeddedEnv(t).store(t, hangs.wrap, n.wrap)
	first := make(chan error)
	ctx, giveUp := context.WithCancel(unhurried(t))
	go func() { first <- s.Prepare(ctx) }()
	eventually(t, "the first is under way", func() bool { return n.queries.Load() == 1 })
	late, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Prepare(late); !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		t.Errorf("the second: %v, and the first has ended: %v", err, ctx.Err())
	}
	giveUp()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
}

// What kept an earlier request from being answered is no reason for a call that is
// given up when that is over.
func TestErrors_sayNothingOfWhatIsOver(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	s := embeddedEnv(t).store(t, func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if !down.Load() {
				return next.RoundTrip(r)
			}
			trouble.Tell(r.Context(), func() error { return errLost })
			return nil, errLost
		})
	})
	commit := func(ctx context.Context) error { return s.CommitCtx(ctx, "token", nil, inAnHour()) }
	must(t, s.Prepare(unhurried(t)))
	down.Store(true)
	if commit(unhurried(t)) == nil {
		t.Fatal("it is stored")
	}
	down.Store(false)
	ctx, giveUp := context.WithCancel(t.Context())
	giveUp()
	for range 20 { // it may well be stored before it is seen that nobody waits
		if err := commit(ctx); err != nil && (!errors.Is(err, context.Canceled) || strings.Contains(err.Error(), errLost.Error())) {
			t.Errorf("given up: %v", err)
		}
	}
}

// So it is where it waits between two tries at that moment.
func TestErrors_sayThatTheContextEnded_betweenTries(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	e := embeddedEnv(t)
	s := e.store(t, func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if down.Load() {
				return nil, errLost
			}
			return next.RoundTrip(r)
		})
	})
	rec := mustCreate(t, s, rqlitestore.Record{Token: "token", ID: "id"})
	down.Store(true)
	for name, call := range map[string]func(context.Context) error{
		"update":    func(ctx context.Context) error { _, err := s.Update(ctx, rec, keep); return err },
		"destroy":   func(ctx context.Context) error { return s.Destroy(ctx, "id") },
		"principal": func(ctx context.Context) error { return s.DestroyPrincipals(ctx, []string{"alice"}, "") },
		"import": func(ctx context.Context) error {
			_, err := s.Import(ctx, []rqlitestore.Row{{Token: "row", Expiry: inAnHour()}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, giveUpFor := context.WithCancelCause(t.Context())
			time.AfterFunc(20*time.Millisecond, func() { giveUpFor(errWhy) })
			if err := call(ctx); !errors.Is(err, errWhy) {
				t.Errorf("given up for a reason: %v", err)
			}
			ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, errWhy)
			defer cancel()
			if err := call(ctx); !errors.Is(err, errWhy) {
				t.Errorf("too little time, for a reason: %v", err)
			}
		})
	}
}

// overHTTP is a store whose only node is an embedded one behind a server.
func overHTTP(t *testing.T) (*rqlitestore.RqliteStore, *httptest.Server) {
	t.Helper()
	node := embedded.New(filepath.Join(t.TempDir(), "sessions.db"), embedded.Options{})
	t.Cleanup(func() { must(t, node.Close()) })
	server := httptest.NewServer(node)
	conn, err := cluster.Connect(server.URL)
	must(t, err)
	return rqlitestore.NewWithOptions(conn, rqlitestore.Options{}), server
}

// So does one that travels with others, which does not end with the caller's time, and
// that nothing was stored is known where no node took it.
func TestErrors_sayWhatAWriteWaitedFor(t *testing.T) {
	t.Parallel()
	s, server := overHTTP(t)
	must(t, s.Prepare(unhurried(t)))
	server.Close()
	rec := rqlitestore.Record{Token: "token", ID: "id", Expiry: inAnHour()}
	for name, call := range map[string]func(context.Context) error{
		"create": func(ctx context.Context) error { return s.Create(ctx, rec) },
		"commit": func(ctx context.Context) error { return s.CommitCtx(ctx, "token", nil, inAnHour()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eventually(t, "it to be said before the time is up", func() bool {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				defer cancel()
				err := call(ctx)
				return errors.Is(err, context.DeadlineExceeded) && strings.Contains(err.Error(), server.URL+": ")
			})
			if err := call(unhurried(t)); err == nil || strings.Contains(err.Error(), "unknown") || !strings.Contains(err.Error(), server.URL+": ") {
				t.Errorf("with time enough: %v", err)
			}
		})
	}
}

// An update says it, too, its first try under way, and where it waits for another.
func TestErrors_sayWhatAnUpdateWaitedFor(t *testing.T) {
	t.Parallel()
	s, server := overHTTP(t)
	rec := mustCreate(t, s, rqlitestore.Record{Token: "token", ID: "id"})
	server.Close()
	saysWhy := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := s.Update(ctx, rec, keep)
		return errors.Is(err, context.DeadlineExceeded) && strings.Contains(err.Error(), server.URL+": ")
	}
	eventually(t, "it to be said of the first try", saysWhy)
	ctx, giveUp := context.WithCancel(unhurried(t))
	left := make(chan struct{})
	begun := make(chan struct{})
	go func() {
		defer close(left)
		_, _ = s.Update(ctx, rec, func(cur rqlitestore.Record) (rqlitestore.Record, error) {
			close(begun)
			return cur, nil
		})
	}()
	<-begun
	eventually(t, "it to be said of one behind another", saysWhy)
	giveUp()
	<-left
}

// So does what waits for another call that prepares the table, as all do that come
// after a start while the cluster has no leader.
func TestErrors_sayWhatTheTableWaitedFor(t *testing.T) {
	t.Parallel()
	waits := make(chan struct{})
	waiting := sync.OnceFunc(func() { close(waits) })
	s := embeddedEnv(t).store(t, func(http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			trouble.Tell(r.Context(), func() error { return errWhy })
			waiting()
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
	})
	ctx, giveUp := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, _, err := s.Load(ctx, "token")
		left <- err
	}()
	<-waits
	rec := rqlitestore.Record{Token: "token", ID: "id", Version: 1, Expiry: inAnHour()}
	for name, call := range map[string]func(context.Context) error{
		"prepare": s.Prepare,
		"load":    func(ctx context.Context) error { _, _, err := s.Load(ctx, "token"); return err },
		"create":  func(ctx context.Context) error { return s.Create(ctx, rec) },
		"update":  func(ctx context.Context) error { _, err := s.Update(ctx, rec, keep); return err },
		"count":   func(ctx context.Context) error { _, err := s.Count(ctx); return err },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), errWhy.Error()) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
	giveUp()
	<-left
}

// Of an update that no node has taken it is known that nothing was stored, however
// often it was tried, unless an answer was lost before.
func TestErrors_sayWhetherAnUpdateMayBeStored(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{true, false} {
		t.Run(fmt.Sprintf("lost=%v", lost), func(t *testing.T) {
			t.Parallel()
			node := embedded.New(filepath.Join(t.TempDir(), "sessions.db"), embedded.Options{})
			t.Cleanup(func() { must(t, node.Close()) })
			var leaderless, loses atomic.Bool
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case !leaderless.Load():
					node.ServeHTTP(w, r)
				case r.URL.Path != "/db/query" && loses.CompareAndSwap(true, false):
					panic(http.ErrAbortHandler)
				default:
					http.Error(w, "leader not found", http.StatusServiceUnavailable) // so rqlite has done nothing
				}
			}))
			t.Cleanup(server.Close)
			nodes, err := cluster.New(cluster.Config{Nodes: []string{server.URL}, Timeout: time.Minute})
			must(t, err)
			t.Cleanup(nodes.Close)
			conn, err := nodes.Connection()
			must(t, err)
			ctx, giveUp := context.WithCancel(unhurried(t))
			defer giveUp()
			var failures atomic.Int64
			s := rqlitestore.NewWithOptions(conn, rqlitestore.Options{Observe: func(r rqlitestore.Request) {
				if r.Kind == "save" && r.Err != nil && failures.Add(1) == 3 {
					giveUp()
				}
			}})
			rec := mustCreate(t, s, rqlitestore.Record{Token: "token", ID: "id"})
			loses.Store(lost)
			leaderless.Store(true)
			_, err = s.Update(ctx, rec, keep)
			if err == nil || !strings.Contains(err.Error(), "no node can answer") || strings.Contains(err.Error(), "unknown") != lost {
				t.Errorf("got %v", err)
			}
		})
	}
}

// What went wrong before says more than that the last try was given up.
func TestErrors_sayWhatWentWrongBeforeTheLastTry(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(context.Context, *rqlitestore.RqliteStore) error{
		"destroy": func(ctx context.Context, s *rqlitestore.RqliteStore) error { return s.Destroy(ctx, "id") },
		"principal": func(ctx context.Context, s *rqlitestore.RqliteStore) error {
			return s.DestroyPrincipals(ctx, []string{"alice"}, "")
		},
		"import": func(ctx context.Context, s *rqlitestore.RqliteStore) error {
			_, err := s.Import(ctx, []rqlitestore.Row{{Token: "row", Expiry: inAnHour()}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var down atomic.Bool
			var tries atomic.Int64
			ctx, giveUp := context.WithCancel(t.Context())
			s := embeddedEnv(t).store(t, func(next http.RoundTripper) http.RoundTripper {
				return roundTripper(func(r *http.Request) (*http.Response, error) {
					switch {
					case !down.Load():
						return next.RoundTrip(r)
					case tries.Add(1) == 1:
						return nil, errLost
					}
					giveUp()
					<-r.Context().Done()
					return nil, r.Context().Err()
				})
			})
			must(t, s.Prepare(unhurried(t)))
			down.Store(true)
			if err := call(ctx, s); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), errLost.Error()) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// An update that is lost on its way again and again, as can be told, says so.
func TestErrors_sayWhyASaveWasNotStored(t *testing.T) {
	t.Parallel()
	e := embeddedEnv(t)
	rec := mustCreate(t, e.store(t), rqlitestore.Record{Token: "token", ID: "id"})
	ctx, giveUp := context.WithCancel(t.Context())
	var lost atomic.Int64
	s := e.store(t, func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if !strings.HasPrefix(r.URL.Path, "/db/execute") { // a look at what became of it
				return next.RoundTrip(r)
			}
			if lost.Add(1) == 3 {
				giveUp()
			}
			return nil, errLost
		})
	})
	_, err := s.Update(ctx, rec, keep)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), errLost.Error()) {
		t.Errorf("got %v", err)
	}
}

func TestCreate_wasNotSentWithoutATable(t *testing.T) {
	t.Parallel()
	conn, err := embedded.New(filepath.Join(t.TempDir(), "sessions.db"), embedded.Options{}).Connection()
	must(t, err)
	s := rqlitestore.NewWithOptions(conn, rqlitestore.Options{Table: "my-table"})
	err = s.Create(t.Context(), rqlitestore.Record{Token: "token", ID: "id", Expiry: inAnHour()})
	if err == nil || strings.Contains(err.Error(), "outcome unknown") {
		t.Errorf("got %v", err)
	}
}

// A node that refuses its user, as one who may only query, has applied nothing: that
// is told at once, and not that nobody knows.
func TestErrors_sayThatANodeRefusesItsUser(t *testing.T) {
	t.Parallel()
	node := embedded.New(filepath.Join(t.TempDir(), "sessions.db"), embedded.Options{})
	t.Cleanup(func() { must(t, node.Close()) })
	var refusesAll, refuses atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refusesAll.Load() || refuses.Load() && r.URL.Path != "/db/query" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		node.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	nodes, err := cluster.New(cluster.Config{Nodes: []string{server.URL}})
	must(t, err)
	t.Cleanup(nodes.Close)
	conn, err := nodes.Connection()
	must(t, err)
	s := rqlitestore.NewWithOptions(conn, rqlitestore.Options{})
	rec := mustCreate(t, s, rqlitestore.Record{Token: "token", ID: "id", Principal: "alice"})
	plain, err := gorqlite.Open(server.URL)
	must(t, err)
	overGorqlite := rqlitestore.NewWithOptions(plain, rqlitestore.Options{})
	must(t, overGorqlite.Prepare(unhurried(t)))

	refuses.Store(true)
	failAtOnce(t, s, rec, "refuses this user")
	failAtOnce(t, overGorqlite, rec, "401")
	if cur, ok, err := s.Load(t.Context(), "token"); !ok || err != nil || cur.Version != rec.Version {
		t.Errorf("the session that nobody could change is %+v, %v, %v", cur, ok, err)
	}
	refusesAll.Store(true) // as with a wrong password, which the first call has already
	failAtOnce(t, rqlitestore.NewWithOptions(conn, rqlitestore.Options{}), rec, "refuses this user")
	failAtOnce(t, rqlitestore.NewWithOptions(plain, rqlitestore.Options{}), rec, "401")
}

// A connection that was closed stays closed.
func TestErrors_sayThatTheConnectionIsClosed(t *testing.T) {
	t.Parallel()
	e := embeddedEnv(t)
	conn := e.conn(t)
	s := rqlitestore.NewWithOptions(conn, rqlitestore.Options{})
	rec := mustCreate(t, s, rqlitestore.Record{Token: "token", ID: "id", Principal: "alice"})
	conn.Close()
	failAtOnce(t, s, rec, gorqlite.ErrClosed.Error())
	failAtOnce(t, rqlitestore.NewWithOptions(conn, rqlitestore.Options{}), rec, gorqlite.ErrClosed.Error())
}

// failAtOnce checks that each write fails with this text and before its time is up,
// and does not leave in doubt that nothing was done.
func failAtOnce(t *testing.T, s *rqlitestore.RqliteStore, rec rqlitestore.Record, want string) {
	t.Helper()
	for name, call := range map[string]func(context.Context) error{
		"create": func(ctx context.Context) error {
			return s.Create(ctx, rqlitestore.Record{Token: "other", ID: "other", Expiry: inAnHour()})
		},
		"update": func(ctx context.Context) error { _, err := s.Update(ctx, rec, keep); return err },
		"renew": func(ctx context.Context) error {
			_, err := s.Update(ctx, rec, func(r rqlitestore.Record) (rqlitestore.Record, error) { r.Token = "renewed"; return r, nil })
			return err
		},
		"destroy":   func(ctx context.Context) error { return s.Destroy(ctx, rec.ID) },
		"principal": func(ctx context.Context) error { return s.DestroyPrincipals(ctx, []string{rec.Principal}, "") },
		"commit":    func(ctx context.Context) error { return s.CommitCtx(ctx, "plain", nil, inAnHour()) },
		"delete":    func(ctx context.Context) error { return s.DeleteCtx(ctx, rec.Token) },
		"touch":     func(ctx context.Context) error { return s.Touch(ctx, rec.ID, inAnHour()) },
		"import": func(ctx context.Context) error {
			_, err := s.Import(ctx, []rqlitestore.Row{{Token: "row", Expiry: inAnHour()}})
			return err
		},
	} {
		ctx := unhurried(t)
		err := call(ctx)
		if err == nil || errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "unknown") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Who overlooked the error of what makes a connection gets one from every call.
func TestStore_withoutAConnection(t *testing.T) {
	t.Parallel()
	s := rqlitestore.New(nil)
	defer s.StopCleanup()
	for name, err := range map[string]error{
		"Commit":  s.Commit("token", []byte("data"), inAnHour()),
		"Delete":  s.Delete("token"),
		"Prepare": s.Prepare(t.Context()),
		"Find":    func() error { _, _, err := s.Find("token"); return err }(),
		"All":     func() error { _, err := s.All(); return err }(),
		"Count":   func() error { _, err := s.Count(t.Context()); return err }(),
		"Load":    func() error { _, _, err := s.Load(t.Context(), "token"); return err }(),
		"Destroy": func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			return s.Destroy(ctx, "id")
		}(),
	} {
		if err == nil || !strings.Contains(err.Error(), "the connection is nil") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
