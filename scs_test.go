package caddysession_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	caddysession "github.com/caddy-session/caddy-session"
)

// scsSite runs a function of the test, by the path, within a session with the options.
func scsSite(t *testing.T, paths map[string]http.HandlerFunc, options ...string) *server {
	return start(t, `
$SITE {
	session {
		`+strings.Join(options, "\n")+`
	}
	in_go $RUN
}`, "RUN", inGo(t, func(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
		run, ok := paths[r.URL.Path]
		if !ok {
			return caddyhttp.Error(http.StatusNotFound, errors.New("no such path"))
		}
		run(w, r)
		return nil
	}))
}

// storing is a handler that puts a value into the session.
func storing(key string, value any) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		_ = caddysession.FromContext(r.Context()).Put(key, value)
	}
}

func TestManager_worksDownstreamAsItIs(t *testing.T) {
	at := time.Date(2026, 11, 24, 20, 0, 0, 123456789, time.UTC)
	s := scsSite(t, map[string]http.HandlerFunc{
		"/put": func(w http.ResponseWriter, r *http.Request) {
			m := caddysession.FromContext(r.Context()).Manager()
			m.Put(r.Context(), "string", "text")
			m.Put(r.Context(), "int", math.MaxInt)
			m.Put(r.Context(), "int64", int64(1<<60))
			m.Put(r.Context(), "float", 1.5)
			m.Put(r.Context(), "bool", true)
			m.Put(r.Context(), "bytes", []byte{0, 255})
			m.Put(r.Context(), "time", at)
			m.Put(r.Context(), "popped", "once")
		},
		"/get": func(w http.ResponseWriter, r *http.Request) {
			m := caddysession.FromContext(r.Context()).Manager()
			ctx := r.Context()
			fmt.Fprint(w, m.GetString(ctx, "string"), m.GetInt(ctx, "int") == math.MaxInt, m.GetInt64(ctx, "int64") == 1<<60,
				m.GetFloat(ctx, "float"), m.GetBool(ctx, "bool"), m.GetBytes(ctx, "bytes"), m.GetTime(ctx, "time").Equal(at),
				m.Exists(ctx, "nothing"), m.GetString(ctx, "nothing"))
		},
		"/pop": func(w http.ResponseWriter, r *http.Request) {
			m := caddysession.FromContext(r.Context()).Manager()
			fmt.Fprint(w, m.PopString(r.Context(), "popped"), m.Status(r.Context()))
		},
		"/remove": func(w http.ResponseWriter, r *http.Request) {
			m := caddysession.FromContext(r.Context()).Manager()
			m.Remove(r.Context(), "string")
		},
		"/renew": func(w http.ResponseWriter, r *http.Request) {
			m := caddysession.FromContext(r.Context()).Manager()
			if err := m.RenewToken(r.Context()); err != nil {
				t.Error(err)
			}
			m.Put(r.Context(), "int", 7)
		},
		"/token": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, caddysession.FromContext(r.Context()).Manager().Token(r.Context()))
		},
		"/destroy": func(w http.ResponseWriter, r *http.Request) {
			if err := caddysession.FromContext(r.Context()).Manager().Destroy(r.Context()); err != nil {
				t.Error(err)
			}
		},
		"/iterate": func(w http.ResponseWriter, r *http.Request) {
			m := caddysession.FromContext(r.Context()).Manager()
			err := m.Iterate(r.Context(), func(ctx context.Context) error {
				_, err := fmt.Fprint(w, m.GetString(ctx, "string"), ";")
				return err
			})
			if err != nil {
				t.Error(err)
			}
		},
		"/clear": func(w http.ResponseWriter, r *http.Request) {
			if err := caddysession.FromContext(r.Context()).Manager().Clear(r.Context()); err != nil {
				t.Error(err)
			}
		},
	})
	v := s.visitor()
	token := v.get("/put").cookie(t).Value
	want := "text true true1.5 true[0 255] true false"
	squeeze := func(s string) string { return strings.ReplaceAll(s, " ", "") }
	for range 2 {
		if got := squeeze(v.get("/get").body); got != squeeze(want) {
			t.Errorf("got %q, want %q", got, squeeze(want))
		}
	}
	v.get("/token").want(t, http.StatusOK, token)
	v.get("/pop").want(t, http.StatusOK, "once1")
	v.get("/pop").want(t, http.StatusOK, "0")
	s.visitor().get("/put")
	v.get("/iterate").want(t, http.StatusOK, "text;text;")
	id := sessionID(t, s, v)
	s.alter("UPDATE sessions SET data=x'7b' WHERE id!=?", id)
	v.get("/iterate").want(t, http.StatusOK, "text;")
	s.logged("a session's row is left out of a listing")

	renewed := v.get("/renew").cookie(t).Value
	if renewed == token {
		t.Error("RenewToken keeps the token")
	}
	if now := sessionID(t, s, v); now != id {
		t.Errorf("RenewToken changed the public id from %s to %s", id, now)
	}
	if a := v.get("/get"); !strings.HasPrefix(a.body, "text") {
		t.Errorf("after RenewToken: %q", a.body)
	}
	v.get("/remove")
	if a := v.get("/get"); strings.HasPrefix(a.body, "text") {
		t.Errorf("after Remove: %q", a.body)
	}
	if c := v.get("/destroy").cookie(t); c.MaxAge >= 0 || c.Value != "" {
		t.Errorf("Destroy does not remove the cookie: %v", c)
	}
	for _, old := range []string{token, renewed} {
		if a := s.visitor().withoutJar().get("/get", "Cookie", "session="+old); strings.Contains(a.body, "1.5") {
			t.Errorf("a token works after Destroy: %q", a.body)
		}
	}
}

// Code that has a token and no request, as a job does, finds the session by scs too,
// whichever key the token was issued under.
func TestManager_worksOutsideOfRequests(t *testing.T) {
	withSecrets(t)
	for name, keys := range map[string][2]string{
		"plain":        {"persist on", "persist on"},
		"sealed":       {"keys {env.SESSION_TEST_FIRST}", "keys {env.SESSION_TEST_FIRST}"},
		"older key":    {"keys {env.SESSION_TEST_FIRST}", "keys {env.SESSION_TEST_SECOND} {env.SESSION_TEST_FIRST}"},
		"before a key": {"persist on", "keys {env.SESSION_TEST_FIRST} {\nplain_until 2099-01-01\n}"},
	} {
		t.Run(name, func(t *testing.T) {
			type found struct {
				m     *scs.SessionManager
				token string
			}
			var last found
			const site = `
$SITE {
	session {
		$KEYS
	}
	in_go $RUN
}`
			s := start(t, site, "KEYS", keys[0], "RUN", inGo(t, func(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
				session := caddysession.FromContext(r.Context())
				last.m = session.Manager()
				switch r.URL.Path {
				case "/login":
					return session.Put("user", "alice")
				case "/token":
					last.token = last.m.Token(r.Context())
				case "/end":
					return last.m.Iterate(r.Context(), func(ctx context.Context) error { return last.m.Destroy(ctx) })
				}
				_, err := fmt.Fprint(w, session.Get("user"), session.Get("seen"))
				return err
			}))
			v := s.visitor()
			v.get("/login").cookie(t)
			v.get("/token")
			s.names["KEYS"] = keys[1]
			s.reload(site)
			s.visitor().get("/")

			find := func() context.Context {
				t.Helper()
				ctx, err := last.m.Load(context.Background(), last.token)
				if err != nil {
					t.Fatal(err)
				}
				return ctx
			}
			ctx := find()
			if user := last.m.GetString(ctx, "user"); user != "alice" {
				t.Fatalf("the user is %q", user)
			}
			last.m.Put(ctx, "seen", "yes")
			if _, _, err := last.m.Commit(ctx); err != nil {
				t.Fatal(err)
			}
			v.get("/").want(t, http.StatusOK, "aliceyes")
			if err := last.m.Destroy(find()); err != nil {
				t.Fatal(err)
			}
			v.get("/").want(t, http.StatusOK, "<nil> <nil>")

			s.visitor().get("/login").cookie(t)
			if name == "sealed" { // of what cannot be read nothing is known, and it holds up nothing
				broken := s.visitor()
				broken.get("/login").cookie(t)
				s.alter("UPDATE sessions SET version=version+1 WHERE token=(SELECT max(token) FROM sessions)")
				v.get("/end").want(t, http.StatusOK, "")
				s.logged("a session's row is left out of a listing")
				s.table().wantRows(1)
				return
			}
			v.get("/end")
			s.table().wantRows(0)
		})
	}
}

// What the session keeps of its own is none of the application's.
func TestManager_leavesTheSessionItsOwn(t *testing.T) {
	s := scsSite(t, map[string]http.HandlerFunc{
		"/put": func(_ http.ResponseWriter, r *http.Request) {
			m := caddysession.FromContext(r.Context()).Manager()
			m.Put(r.Context(), "user", "alice")
			m.Put(r.Context(), "cart", "book")
			m.Put(r.Context(), "__created", 1_000_000_000) // as long ago as a test does not take
		},
		"/clear": func(_ http.ResponseWriter, r *http.Request) {
			m := caddysession.FromContext(r.Context()).Manager()
			if err := m.Clear(r.Context()); err != nil {
				t.Error(err)
			}
			m.Put(r.Context(), "user", "bob")
		},
		"/renew": func(_ http.ResponseWriter, r *http.Request) {
			if err := caddysession.FromContext(r.Context()).Manager().RenewToken(r.Context()); err != nil {
				t.Error(err)
			}
		},
		"/remember": func(_ http.ResponseWriter, r *http.Request) {
			_ = caddysession.FromContext(r.Context()).Remember(true)
		},
		"/csrf": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, caddysession.FromContext(r.Context()).CSRFToken())
		},
		"/verify": func(w http.ResponseWriter, r *http.Request) {
			session := caddysession.FromContext(r.Context())
			fmt.Fprintln(w, session.Get("user"), session.VerifyCSRF(r.Header.Get("X-CSRF-Token")), session.Created().Year())
		},
	})
	v := s.visitor()
	v.get("/put")
	token := v.get("/csrf").body
	v.get("/verify", "X-CSRF-Token", token).want(t, http.StatusOK, "alice true 2001\n")
	v.get("/remember").cookie(t)
	v.get("/clear")
	v.get("/verify", "X-CSRF-Token", token).want(t, http.StatusOK, "bob true 2001\n")
	if row := s.table().only(); strings.Contains(row.data, "__rememberMe") || strings.Contains(row.data, "cart") { // the mark is scs's
		t.Errorf("after Clear the session still has %s", row.data)
	}
	v.get("/renew").cookie(t)
	v.get("/verify", "X-CSRF-Token", token).want(t, http.StatusOK, "bob false 2001\n")
	v.get("/verify", "X-CSRF-Token", v.get("/csrf").body).want(t, http.StatusOK, "bob true 2001\n")
}

func TestFromContext_refusesAPatchWithinItselfAndWidensCounters(t *testing.T) {
	s := scsSite(t, map[string]http.HandlerFunc{
		"/patch": func(w http.ResponseWriter, r *http.Request) {
			endless := map[string]any{"user": "bob"}
			endless["again"] = endless
			session := caddysession.FromContext(r.Context())
			fmt.Fprint(w, session.MergePatch(endless) != nil, " ", session.Get("user"))
		},
		"/count": func(w http.ResponseWriter, r *http.Request) {
			session := caddysession.FromContext(r.Context())
			if err := errors.Join(
				session.Put("user", "alice"), session.Put("small", int8(120)), session.Put("byte", uint8(250)),
				session.Increment("small", 10), session.Increment("byte", 10),
			); err != nil {
				t.Error(err)
			}
			fmt.Fprint(w, session.Get("small"), " ", session.Get("byte"))
		},
	})
	v := s.visitor()
	v.get("/count").want(t, http.StatusOK, "130 260")
	v.get("/patch").want(t, http.StatusOK, "true alice")
}

func TestFromContext_isTheSessionOfTheRequest(t *testing.T) {
	s := scsSite(t, map[string]http.HandlerFunc{
		"/put": func(w http.ResponseWriter, r *http.Request) {
			session := caddysession.FromContext(r.Context())
			if err := errors.Join(
				session.Put("user", "alice"), session.Put("profile", map[string]any{"plan": "pro"}), session.Increment("n", 2),
			); err != nil {
				t.Error(err)
			}
			fmt.Fprint(w, session.ID())
		},
		"/read": func(w http.ResponseWriter, r *http.Request) {
			session := caddysession.FromContext(r.Context())
			plan, ok := session.Lookup("profile.plan")
			fmt.Fprint(w, session.IsNew(), " ", session.Keys(), " ", session.Get("user"), " ", plan, ok, " ", session.Get("n"), " ",
				session.Get("missing"), " ", session.Created().IsZero(), session.Expires().IsZero())
		},
		"/id": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, caddysession.FromContext(r.Context()).ID())
		},
		"/late": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			session := caddysession.FromContext(r.Context())
			fmt.Fprint(w, session.Put("user", "too late") != nil, session.Get("user"))
		},
		"/reserved": func(w http.ResponseWriter, r *http.Request) {
			session := caddysession.FromContext(r.Context())
			for _, err := range []error{
				session.Put("__created", 1), session.Increment("__created", 1), session.Remove("n", "__created"),
				session.MergePatch(map[string]any{"__created": 1}),
			} {
				if err == nil {
					t.Error("a key of the session's own is taken")
				}
			}
			if value, ok := session.Lookup("__created"); ok {
				t.Errorf("Lookup shows a key of the session's own, %v", value)
			}
		},
		"/new": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, caddysession.FromContext(r.Context()).IsNew())
		},
		"/destroy": func(w http.ResponseWriter, r *http.Request) {
			session := caddysession.FromContext(r.Context())
			err := errors.Join(session.Destroy(), session.Put("user", "bob"))
			fmt.Fprint(w, session.ID())
			if err := errors.Join(err, session.Put("late", "yes")); err != nil { // it has its cookie by now
				t.Error(err)
			}
		},
	})
	if caddysession.FromContext(t.Context()) != nil {
		t.Error("there is a session where no `session` encloses the code")
	}
	v := s.visitor()
	v.get("/read").want(t, http.StatusOK, "true [] <nil> <nil> false <nil> <nil> true true")
	s.visitor().withoutJar().get("/read", "Cookie", "session="+strings.Repeat("A", 43)). // of a session that has ended
												want(t, http.StatusOK, "true [] <nil> <nil> false <nil> <nil> true true")
	v.get("/late").want(t, http.StatusOK, "true <nil>")
	a := v.get("/put")
	a.cookie(t)
	if id := s.table().only().id; a.body != id {
		t.Errorf("the id that a new session says is %q, stored is %q", a.body, id)
	}
	v.get("/id").want(t, http.StatusOK, a.body)
	v.get("/reserved").want(t, http.StatusOK, "")
	v.get("/new").want(t, http.StatusOK, "false")
	s.visitor().get("/new").want(t, http.StatusOK, "true")
	v.get("/read").want(t, http.StatusOK, "false [n profile user] alice protrue 2 <nil> false false")
	b := v.get("/destroy")
	if b.cookie(t).Value == a.cookie(t).Value {
		t.Error("what is stored after Destroy keeps the token")
	}
	if row := s.table().only(); row.id == a.body || row.id != b.body || !strings.Contains(row.data, "bob") || !strings.Contains(row.data, "late") {
		t.Errorf("what is stored after Destroy is %+v", row)
	}
}

// A stored session has its cookie already, so what a handler still does to it
// after the header is kept.
func TestManager_storesWhatComesAfterTheHeader(t *testing.T) {
	changes := map[string]func(*http.Request){
		"Put of scs":     func(r *http.Request) { caddysession.FromContext(r.Context()).Manager().Put(r.Context(), "late", "yes") },
		"Destroy of scs": func(r *http.Request) { _ = caddysession.FromContext(r.Context()).Manager().Destroy(r.Context()) },
		"Put":            func(r *http.Request) { _ = caddysession.FromContext(r.Context()).Put("late", "yes") },
		"Destroy":        func(r *http.Request) { _ = caddysession.FromContext(r.Context()).Destroy() },
	}
	for name, change := range changes {
		for _, before := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, changed before: %t", name, before), func(t *testing.T) {
				s := scsSite(t, map[string]http.HandlerFunc{
					"/login": storing("user", "alice"),
					"/late": func(w http.ResponseWriter, r *http.Request) {
						session := caddysession.FromContext(r.Context())
						_ = session.Load()
						if before {
							_ = session.Increment("n", 1)
						}
						w.WriteHeader(http.StatusOK)
						change(r)
					},
				})
				v := s.visitor()
				v.get("/login").cookie(t)
				v.get("/late").want(t, http.StatusOK, "")
				if strings.HasPrefix(name, "Destroy") {
					if n := s.table().count(); n != 0 {
						t.Errorf("%d rows are left", n)
					}
					return
				}
				want := 2
				if before {
					want = 3
				}
				if row := s.table().only(); !strings.Contains(row.data, `"late":"yes"`) || row.version != want {
					t.Errorf("stored is version %d, want %d: %s", row.version, want, row.data)
				}
			})
		}
	}
}

func sessionID(t *testing.T, s *server, v *visitor) string {
	t.Helper()
	token := v.get("/token").body
	id := ""
	err := s.table().db.QueryRow("SELECT id FROM sessions WHERE token = ?", hashOf(token)).Scan(&id)
	if err != nil {
		t.Fatalf("looking for the session: %v", err)
	}
	return id
}

// The methods of a Session may be called from several goroutines: none undoes
// what another one does.
func TestSession_changesFromSeveralGoroutines(t *testing.T) {
	const workers, each = 8, 25
	s := scsSite(t, map[string]http.HandlerFunc{
		"/": func(w http.ResponseWriter, r *http.Request) {
			session := caddysession.FromContext(r.Context())
			var all sync.WaitGroup
			for i := range workers {
				all.Go(func() {
					for n := range each {
						err := errors.Join(session.Put(fmt.Sprintf("key-%d-%d", i, n), n), session.Increment("total", 1))
						if err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
		},
		"/count": func(w http.ResponseWriter, r *http.Request) {
			session := caddysession.FromContext(r.Context())
			fmt.Fprint(w, len(session.Keys()), " ", session.Get("total"))
		},
	})
	v := s.visitor()
	v.get("/").want(t, http.StatusOK, "")
	v.get("/count").want(t, http.StatusOK, fmt.Sprint(workers*each+1, " ", workers*each))
}

// What a handler does after the header is added to what is stored, also where the
// commit before it was merged with what another request had stored meanwhile.
func TestManager_mergesWhatComesAfterAMerge(t *testing.T) {
	waiting, goOn := make(chan struct{}), make(chan struct{})
	for name, late := range map[string]func(*caddysession.Session, *http.Request){
		"Put":        func(s *caddysession.Session, _ *http.Request) { _ = s.Put("late", "yes") },
		"Put of scs": func(s *caddysession.Session, r *http.Request) { s.Manager().Put(r.Context(), "late", "yes") },
		"a value as it was": func(s *caddysession.Session, _ *http.Request) {
			_ = s.Put("late", "yes")
			_ = s.Put("theme", "light")
		},
		"a value as it was, alone": func(s *caddysession.Session, _ *http.Request) { _ = s.Put("theme", "light") },
	} {
		t.Run(name, func(t *testing.T) {
			s := scsSite(t, map[string]http.HandlerFunc{
				"/login": storing("theme", "light"),
				"/other": func(_ http.ResponseWriter, r *http.Request) {
					session := caddysession.FromContext(r.Context())
					_ = errors.Join(session.Put("other", "yes"), session.Put("theme", "dark"))
				},
				"/slow": func(w http.ResponseWriter, r *http.Request) {
					session := caddysession.FromContext(r.Context())
					_ = session.Put("slow", "yes")
					waiting <- struct{}{}
					<-goOn
					w.WriteHeader(http.StatusOK)
					late(session, r)
				},
			})
			v := s.visitor()
			v.get("/login").cookie(t)
			s.whileWaiting(v, "/slow", waiting, goOn, func() { v.get("/other") })
			want := []string{`"late":"yes"`, `"other":"yes"`, `"slow":"yes"`, `"theme":"dark"`}
			if strings.HasPrefix(name, "a value") {
				want[3] = `"theme":"light"`
			}
			if strings.HasSuffix(name, "alone") {
				want = want[1:]
			}
			row := s.table().only()
			for _, part := range want {
				if !strings.Contains(row.data, part) {
					t.Errorf("%s is not in what is stored: %s", part, row.data)
				}
			}
		})
	}
}

// What code written against scs removes is not brought back by what another request
// has stored meanwhile.
func TestManager_removesWhatOthersKeep(t *testing.T) {
	waiting, goOn := make(chan struct{}), make(chan struct{})
	s := scsSite(t, map[string]http.HandlerFunc{
		"/login": func(_ http.ResponseWriter, r *http.Request) {
			_ = caddysession.FromContext(r.Context()).MergePatch(map[string]any{"user": "alice", "flash": "hello", "role": "admin"})
		},
		"/other": storing("other", "yes"),
		"/slow": func(_ http.ResponseWriter, r *http.Request) {
			m := caddysession.FromContext(r.Context()).Manager()
			m.PopString(r.Context(), "flash")
			m.Remove(r.Context(), "role")
			waiting <- struct{}{}
			<-goOn
		},
		"/read": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, caddysession.FromContext(r.Context()).Keys())
		},
	})
	v := s.visitor()
	v.get("/login").cookie(t)
	s.whileWaiting(v, "/slow", waiting, goOn, func() { v.get("/other") })
	v.get("/read").want(t, http.StatusOK, "[other user]")
}

// Nor of a new token: the session stays where its cookie leads.
func TestManager_renewsNothingAfterTheHeader(t *testing.T) {
	s := scsSite(t, map[string]http.HandlerFunc{
		"/login": storing("user", "alice"),
		"/late": func(w http.ResponseWriter, r *http.Request) {
			_ = caddysession.FromContext(r.Context()).Load()
			w.WriteHeader(http.StatusOK)
			session := caddysession.FromContext(r.Context())
			if session.Renew() == nil || session.DestroyOthers() == nil || session.Remember(true) == nil {
				t.Error("what needs the cookie is done without")
			}
			if err := session.Manager().RenewToken(r.Context()); err != nil {
				t.Error(err)
			}
		},
	}, "principal user")
	v := s.visitor()
	v.get("/login").cookie(t)
	before := s.table().only()
	v.get("/late").want(t, http.StatusOK, "")
	s.logged("what a handler changed after the response's header is lost")
	if now := s.table().only(); now != before {
		t.Errorf("the row is %+v, before %+v", now, before)
	}
}

// After the header there is nobody to give the cookie of a new session to.
func TestManager_beginsNoSessionAfterTheHeader(t *testing.T) {
	for name, change := range map[string]func(*http.Request) error{
		"Put": func(r *http.Request) error {
			session := caddysession.FromContext(r.Context())
			if err := session.Destroy(); err != nil {
				return nil
			}
			return session.Put("late", "yes")
		},
		"Put of scs": func(r *http.Request) error {
			m := caddysession.FromContext(r.Context()).Manager()
			_ = m.Destroy(r.Context())
			m.Put(r.Context(), "late", "yes")
			return errors.New("scs has no error for it")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := scsSite(t, map[string]http.HandlerFunc{
				"/login": storing("user", "alice"),
				"/late": func(w http.ResponseWriter, r *http.Request) {
					_ = caddysession.FromContext(r.Context()).Load()
					w.WriteHeader(http.StatusOK)
					if change(r) == nil {
						t.Error("what is lost is no error")
					}
				},
			})
			v := s.visitor()
			v.get("/login").cookie(t)
			v.get("/late")
			s.table().wantRows(0)
			if name == "Put of scs" {
				s.logged("what a handler changed after the response's header is lost")
			}
		})
	}
}

// What is changed while the session is being stored is neither lost nor made twice.
func TestSession_changesWhileItIsStored(t *testing.T) {
	const requests, workers, each, rounds = 3, 4, 10, 15
	s := scsSite(t, map[string]http.HandlerFunc{
		"/begin": storing("n", 0),
		"/change": func(w http.ResponseWriter, r *http.Request) {
			session := caddysession.FromContext(r.Context())
			if err := session.Increment("n", 1); err != nil {
				t.Error(err)
			}
			var all sync.WaitGroup
			for range workers {
				all.Go(func() {
					for range each {
						if err := session.Increment("n", 1); err != nil {
							t.Error(err)
						}
					}
				})
			}
			w.WriteHeader(http.StatusOK)
			all.Wait()
		},
		"/read": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, caddysession.FromContext(r.Context()).Get("n"))
		},
	})
	for range rounds {
		v := s.visitor()
		v.get("/begin").cookie(t)
		var all sync.WaitGroup
		for range requests {
			all.Go(func() { _, _ = v.try(http.MethodGet, "/change") })
		}
		all.Wait()
		v.get("/read").want(t, http.StatusOK, fmt.Sprint(requests*(1+workers*each)))
	}
}

// Whatever type of integer a Go module has put there, it is a whole number.
func TestSession_incrementsEveryKindOfInteger(t *testing.T) {
	s := scsSite(t, map[string]http.HandlerFunc{
		"/put": func(_ http.ResponseWriter, r *http.Request) {
			for name, value := range map[string]any{
				"int": 5, "int64": int64(5), "int32": int32(5), "int8": int8(5), "uint": uint(5), "uint64": uint64(5), "uint8": uint8(5),
				"below": uint(1), "downward": uint8(5), "text": "5", "wide": uint32(math.MaxUint32),
			} {
				_ = caddysession.FromContext(r.Context()).Put(name, value)
			}
		},
		"/increment": func(w http.ResponseWriter, r *http.Request) {
			session := caddysession.FromContext(r.Context())
			for _, name := range session.Keys() {
				n := 2
				if name == "below" || name == "downward" {
					n = -2
				}
				_ = session.Increment(name, n)
				fmt.Fprintf(w, "%s %v %T, ", name, session.Get(name), session.Get(name))
			}
		},
	})
	v := s.visitor()
	v.get("/put").cookie(t)
	wide := "int"
	if strconv.IntSize < 64 {
		wide = "int64"
	}
	v.get("/increment").want(t, http.StatusOK, "below -1 int, downward 3 uint8, int 7 int, int32 7 int32, int64 7 int64, int8 7 int8, text 2 int, uint 7 uint, uint64 7 uint64, uint8 7 uint8, wide 4294967297 "+wide+", ")
}

// What was given to a change is the caller's to go on with.
func TestSession_keepsNothingOfWhatItWasGiven(t *testing.T) {
	s := scsSite(t, map[string]http.HandlerFunc{
		"/": func(_ http.ResponseWriter, r *http.Request) {
			session := caddysession.FromContext(r.Context())
			list := []any{"a"}
			patch := map[string]any{"patched": list, "within": map[string]any{"list": list}}
			_ = session.Put("put", list)
			_ = session.MergePatch(patch)
			list[0], patch["more"] = "changed", "changed"
		},
		"/read": func(w http.ResponseWriter, r *http.Request) {
			session := caddysession.FromContext(r.Context())
			fmt.Fprint(w, session.Get("put"), session.Get("patched"), session.Get("within"), session.Get("more"))
		},
	})
	v := s.visitor()
	v.get("/").cookie(t)
	v.get("/read").want(t, http.StatusOK, "[a] [a] map[list:[a]] <nil>")
}
