package caddysession_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	caddysession "github.com/caddy-session/caddy-session"
)

const graceSite = `
$SITE {
	session {
		principal user
	}
	handle /put {
		session_edit put cart {query.cart}
	}
	handle /login {
		session_edit put user {query.user}
	}
	handle /renew {
		session_edit renew
	}
	handle /switch {
		session_edit {
			destroy
			put user {query.user}
		}
	}
	handle /remember {
		session_edit remember on
	}
	handle {
		respond "{http.session.data.user}|{http.session.data.cart}"
	}
}`

// Of a login pressed twice browsers take the second response only, and that one
// comes with the token from before the first.
func TestGrace_aLoginByThePrincipalWorksTwice(t *testing.T) {
	s := start(t, graceSite)
	h := holder{s.visitor().withoutJar(), "$SITE"}
	guest := h.with("", "/put?cart=book").cookie(t).Value
	first := h.with(guest, "/login?user=alice").cookie(t).Value
	second := h.with(guest, "/login?user=alice").cookie(t).Value
	h.with(first, "/").want(t, http.StatusOK, "alice|book")
	h.with(second, "/").want(t, http.StatusOK, "alice|book")
}

// A response under the older token must not take the newer one from the browser.
func TestGrace_setsNoCookie(t *testing.T) {
	for _, option := range []string{"persist on", "renew_interval 1ms"} {
		t.Run(option, func(t *testing.T) {
			s := start(t, strings.Replace(graceSite, "session {", "session {\n"+option, 1))
			h := holder{s.visitor().withoutJar(), "$SITE"}
			guest := h.with("", "/put?cart=book").cookie(t).Value
			h.with(guest, "/login?user=alice").cookie(t)
			for _, path := range []string{"/", "/remember"} {
				if a := h.with(guest, path); a.Header["Set-Cookie"] != nil {
					t.Errorf("the cookies of %s are %q", path, a.Header["Set-Cookie"])
				}
			}
			s.table().only()
		})
	}
}

// held is an application that answers /held only after the test has let it, and
// asks for a renewal then.
type held struct {
	*application
	asked, goOn chan struct{}
}

func newHeld(t *testing.T) held {
	h := held{asked: make(chan struct{}), goOn: make(chan struct{})}
	h.application = newApplication(t, func(w http.ResponseWriter, r *http.Request) {
		h.asked <- struct{}{}
		select {
		case <-h.goOn:
		case <-t.Context().Done():
		}
		w.Header().Set("Session-Action", "renew, "+r.URL.Query().Get("action"))
		if patch := r.URL.Query().Get("set"); patch != "" {
			w.Header().Set("Session-Set", patch)
		}
	})
	return h
}

// during sends a request with a token that renews the session, does something
// while it is under way, and returns the cookie that it was given; "" for none.
func (h held) during(t *testing.T, with holder, token, path string, do func()) string {
	t.Helper()
	var a *answer
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		a, err = with.try(http.MethodGet, with.site+path, "Cookie", "session="+token)
	}()
	select {
	case <-h.asked:
		do()
		h.goOn <- struct{}{}
		<-done
	case <-done:
		t.Errorf("the application was not asked")
	}
	if err != nil {
		t.Fatal(err)
	}
	a.want(t, http.StatusOK, "")
	if len(a.Cookies()) == 0 {
		return ""
	}
	return a.cookie(t).Value
}

const heldSite = `
$SITE {
	session {
		principal user
		$OPTIONS
		upstream {
			accept
		}
	}
	handle /login {
		session_edit {
			put user {query.user}
			put role admin
		}
	}
	handle /signin {
		session_edit {
			put user {query.user}
			destroy_others
		}
	}
	handle /renew {
		session_edit renew
	}
	handle /stay {
		session_edit {
			renew
			remember on
		}
	}
	handle /demote {
		session_edit {
			remove role
			renew
		}
	}
	handle /logout {
		session_edit destroy
	}
	handle /others {
		session_edit destroy_others
	}
	handle /secure {
		session_edit {
			renew
			destroy_others
		}
	}
	handle /read {
		respond "{http.session.data.user}|{http.session.data.role}|{http.session.data.note}"
	}
	handle /held {
		session_auth user
		@stay query stay=yes
		session_edit @stay remember on
		reverse_proxy $APP
	}
}`

// A request that renews what was renewed before gets a session of its own, but
// none where all has ended meanwhile.
func TestGrace_nothingComesBackByARenewal(t *testing.T) {
	onHeldSites(t, func(t *testing.T, app held, h holder) {
		for _, end := range []string{"/logout", "/others"} {
			for _, path := range []string{"/held", "/held?stay=yes"} {
				old := h.with("", "/login?user=alice").cookie(t).Value
				other := h.with("", "/login?user=alice").cookie(t).Value
				newer := h.with(old, "/renew").cookie(t).Value
				by := map[string]string{"/logout": newer, "/others": other}[end]
				got := app.during(t, h, old, path, func() { h.with(by, end) })
				h.read(t, newer, "||")
				if got != "" {
					t.Errorf("after %s %s that was in flight is given a cookie, with the session %s", end, path, h.with(got, "/read").body)
				}
			}
		}
	})
}

// onHeldSites runs a test on sites with and without keys.
func onHeldSites(t *testing.T, test func(*testing.T, held, holder)) {
	withSecrets(t)
	for name, options := range map[string]string{"plain": "", "sealed": "keys {env.SESSION_TEST_FIRST}"} {
		t.Run(name, func(t *testing.T) {
			app := newHeld(t)
			s := start(t, heldSite, "APP", app.address(), "OPTIONS", options)
			test(t, app, holder{s.visitor().withoutJar(), "$SITE"})
		})
	}
}

// Not either where that comes between the last look and the new row.
func TestGrace_nothingComesBackBesideARenewal(t *testing.T) {
	t.Run("by another session", func(t *testing.T) { testBeside(t, false) })
	t.Run("by the session itself", func(t *testing.T) { testBeside(t, true) })
}

func testBeside(t *testing.T, byItself bool) {
	store := newStandIn(t)
	s := start(t, heldSite, "APP", "127.0.0.1:1", "OPTIONS", "rqlite "+store.URL+" {\n timeout 20s\n }")
	h := holder{s.visitor().withoutJar(), "$SITE"}
	old := h.with("", "/login?user=alice").cookie(t).Value
	other := h.with("", "/login?user=alice").cookie(t).Value
	newest := h.with(old, "/renew").cookie(t).Value
	if byItself {
		other = newest
	}
	reached, gate := make(chan struct{}), make(chan struct{})
	store.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
		if bytes.Contains(bodyOf(r), []byte("ON CONFLICT(token) DO NOTHING")) {
			close(reached)
			<-gate
		}
		node.ServeHTTP(w, r)
	}))
	var a *answer
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		a, err = h.try(http.MethodGet, h.site+"/renew", "Cookie", "session="+old)
	}()
	<-reached
	h.with(other, "/others").want(t, http.StatusOK, "")
	close(gate)
	if <-done; err != nil {
		t.Fatal(err)
	}
	if a.StatusCode != http.StatusOK || len(a.Cookies()) > 0 {
		t.Errorf("a renewal of what has ended answers %d with %q", a.StatusCode, a.Header["Set-Cookie"])
	}
	openTable(t, store.file).only()
}

// Nor does it keep what was taken away meanwhile.
func TestGrace_noRightsAreKeptByARenewal(t *testing.T) {
	onHeldSites(t, func(t *testing.T, app held, h holder) {
		t.Run("before it", func(t *testing.T) {
			old := h.with("", "/login?user=alice").cookie(t).Value
			got := app.during(t, h, old, `/held?set={"note":"mine"}`, func() { h.with(old, "/demote").cookie(t) })
			h.read(t, got, "alice||mine")
		})
		t.Run("in the grace", func(t *testing.T) {
			old := h.with("", "/login?user=alice").cookie(t).Value
			newer := h.with(old, "/renew").cookie(t).Value
			got := app.during(t, h, old, `/held?set={"note":"mine"}`, func() { h.with(newer, "/demote").cookie(t) })
			h.read(t, got, "alice||mine")
		})
		t.Run("nor a name", func(t *testing.T) {
			old := h.with("", "/login?user=alice").cookie(t).Value
			got := app.during(t, h, old, `/held?set={"note":"mine"}`, func() { h.with(old, "/login?user=bob").cookie(t) })
			alice := h.with("", "/login?user=alice").cookie(t).Value
			h.with(alice, "/others").want(t, http.StatusOK, "")
			h.read(t, got, "|admin|mine") // it is none of hers
		})
		t.Run("with nothing left", func(t *testing.T) {
			old := h.with("", "/login?user=alice").cookie(t).Value
			if got := app.during(t, h, old, "/held", func() {
				newer := h.with(old, "/login?user=bob").cookie(t).Value
				h.with(newer, "/demote").cookie(t)
			}); got != "" {
				t.Errorf("a session that has nothing is %s", h.with(got, "/read").body)
			}
		})
	})
}

// To such a session the one that was renewed before is one of the others.
func TestGrace_destroyOthersEndsTheOneThatWasRenewedBefore(t *testing.T) {
	onHeldSites(t, func(t *testing.T, app held, h holder) {
		t.Run("before it", func(t *testing.T) {
			old := h.with("", "/login?user=alice").cookie(t).Value
			var newer string
			got := app.during(t, h, old, "/held?action=destroy_others", func() { newer = h.with(old, "/renew").cookie(t).Value })
			h.read(t, newer, "||")
			h.read(t, got, "alice|admin|")
		})
		t.Run("in the grace", func(t *testing.T) {
			old := h.with("", "/login?user=alice").cookie(t).Value
			newer := h.with(old, "/renew").cookie(t).Value
			bob := h.with("", "/login?user=bob").cookie(t).Value
			got := h.with(old, "/secure").cookie(t).Value
			h.read(t, newer, "||")
			h.read(t, got, "alice|admin|")
			h.read(t, bob, "bob|admin|")
		})
		t.Run("by a login", func(t *testing.T) {
			old := h.with("", "/login?user=alice").cookie(t).Value
			first := h.with(old, "/signin?user=bob").cookie(t).Value
			second := h.with(old, "/signin?user=bob").cookie(t).Value
			h.read(t, first, "||")
			h.read(t, second, "bob|admin|")
		})
	})
}

// Whoever has ended all other sessions is not joined by one that an older token
// of his own begins, which may be why he did so.
func TestGrace_beginsNoSessionAfterDestroyOthers(t *testing.T) {
	onHeldSites(t, func(t *testing.T, app held, h holder) {
		for _, steps := range [][]string{{"/secure"}, {"/renew", "/others"}} {
			t.Run(strings.Join(steps, " "), func(t *testing.T) {
				old := h.with("", "/login?user=alice").cookie(t).Value
				newest := old
				late := app.during(t, h, old, "/held", func() {
					for _, step := range steps {
						if a := h.with(newest, step); len(a.Cookies()) > 0 {
							newest = a.cookie(t).Value
						}
					}
				})
				if late != "" {
					t.Errorf("a request that was in flight has a session: %s", h.with(late, "/read").body)
				}
				for _, path := range []string{"/renew", "/stay"} {
					if a := h.with(old, path); a.StatusCode != http.StatusOK || len(a.Cookies()) > 0 {
						t.Errorf("%s with the older token is answered %d with %q", path, a.StatusCode, a.Header["Set-Cookie"])
					}
				}
				h.read(t, old, "alice|admin|")
				h.read(t, newest, "alice|admin|")
				bob := h.with(old, "/login?user=bob").cookie(t).Value // who signs in needs no older token
				h.read(t, bob, "bob|admin|")
			})
		}
	})
}

// So it is while somebody renews with whatever token he has got, all the time.
func TestGrace_destroyOthersIsFinalUnderLoad(t *testing.T) {
	onHeldSites(t, func(t *testing.T, _ held, h holder) {
		for range 5 {
			var mu sync.Mutex
			tokens := []string{h.with("", "/login?user=alice").cookie(t).Value}
			newest := func(among int) string {
				mu.Lock()
				defer mu.Unlock()
				return tokens[len(tokens)-1-rand.IntN(min(among, len(tokens)))]
			}
			var renewals atomic.Int64
			stop := make(chan struct{})
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						a, err := h.try(http.MethodGet, h.site+"/renew", "Cookie", "session="+newest(20))
						if err != nil || a.StatusCode != http.StatusOK {
							t.Errorf("a renewal: %v (%v)", a, err)
							return
						}
						renewals.Add(1)
						for _, c := range a.Cookies() {
							mu.Lock()
							tokens = append(tokens, c.Value)
							mu.Unlock()
						}
					}
				})
			}
			eventually(t, "some renewals", func() bool { return renewals.Load() > 20 })
			mine := ""
			eventually(t, "an end of the others that is not too late itself", func() bool {
				a := h.with(newest(20), "/secure")
				if len(a.Cookies()) == 0 {
					return false
				}
				mine = a.cookie(t).Value
				return true
			})
			before := renewals.Load()
			eventually(t, "renewals afterwards", func() bool { return renewals.Load() > before+20 })
			close(stop)
			all.Wait()
			h.read(t, mine, "alice|admin|")
			if left, err := h.server.table().current(); err != nil || len(left) != 1 {
				t.Errorf("%d sessions are left (%v), want 1", len(left), err)
			}
			h.with(mine, "/logout")
		}
	})
}

// An older token of a session that has ended, or cannot be read, is none, and in the
// way of nothing.
func TestGrace_ofWhatHasEndedIsNoSession(t *testing.T) {
	s := start(t, graceSite)
	h := holder{s.visitor().withoutJar(), "$SITE"}
	for _, end := range []string{"DELETE FROM sessions", "UPDATE sessions SET data=x'00'"} {
		old := h.with("", "/put?cart=book").cookie(t).Value
		h.with(old, "/login?user=alice").cookie(t)
		s.alter(end + " WHERE superseded IS NULL")
		h.with(old, "/").want(t, http.StatusOK, "|")
		bob := h.with(old, "/login?user=bob").cookie(t).Value
		h.with(bob, "/").want(t, http.StatusOK, "bob|")
	}
}

// While it cannot be told what was renewed, nobody is taken for a guest.
func TestGrace_anOutageMakesNoGuests(t *testing.T) {
	store := newStandIn(t)
	s := start(t, strings.Replace(graceSite, "session {", "session {\nrqlite "+store.URL, 1))
	h := holder{s.visitor().withoutJar(), "$SITE"}
	for name, c := range map[string]struct {
		path  string
		reads int64 // of what the session is now that are answered
		full  bool
	}{
		"when it is read":                  {"/", 0, false},
		"when a second login is stored":    {"/login?user=alice", 1, false},
		"when a second login has no space": {"/login?user=alice", 2, true},
	} {
		t.Run(name, func(t *testing.T) {
			old := h.with("", "/put?cart=book").cookie(t).Value
			h.with(old, "/login?user=alice").cookie(t)
			var reads atomic.Int64
			store.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
				switch {
				case bytes.Contains(bodyOf(r), []byte("p.id=")) && reads.Add(1) > c.reads:
					_, _ = io.WriteString(w, "<!doctype html>")
				case r.URL.Path != "/db/query" && c.full:
					_, _ = io.WriteString(w, `{"results":[{"error":"database or disk is full"}]}`)
				default:
					node.ServeHTTP(w, r)
				}
			}))
			defer store.works()
			a := h.with(old, c.path)
			a.want(t, http.StatusServiceUnavailable, "")
			if have := reads.Load(); have <= c.reads && !c.full || a.Header["Set-Cookie"] != nil {
				t.Errorf("after %d reads of what the session is now the cookies are %q", have, a.Header["Set-Cookie"])
			}
		})
	}
}

// Only a login begins a session by an older token: a guest's would take the place
// of the newer one in the browser.
func TestGrace_aLogoutByThePrincipalBeginsNothing(t *testing.T) {
	s := start(t, graceSite)
	h := holder{s.visitor().withoutJar(), "$SITE"}
	old := h.with("", "/login?user=alice").cookie(t).Value
	h.with(old, "/put?cart=book").want(t, http.StatusOK, "")
	newer := h.with(old, "/renew").cookie(t).Value
	if a := h.with(old, "/login?user="); a.Header["Set-Cookie"] != nil {
		t.Errorf("the cookies are %q", a.Header["Set-Cookie"])
	}
	h.with(newer, "/").want(t, http.StatusOK, "alice|book")
	s.table().only()
}

// An older token, too, ends the session, and what is stored then begins another one.
func TestGrace_whatBeginsAfterAnEndIsNew(t *testing.T) {
	s := start(t, graceSite)
	h := holder{s.visitor().withoutJar(), "$SITE"}
	secret := regexp.MustCompile(`"__csrf":"[^"]*"`)
	for _, older := range []bool{false, true} {
		token := h.with("", "/login?user=alice").cookie(t).Value
		before := s.table().only()
		newest := token
		if older {
			newest = h.with(token, "/renew").cookie(t).Value
			before = s.table().only()
		}
		bob := h.with(token, "/switch?user=bob").cookie(t).Value
		h.with(newest, "/").want(t, http.StatusOK, "|")
		h.with(bob, "/").want(t, http.StatusOK, "bob|")
		after := s.table().only()
		if after.id == before.id || secret.FindString(after.data) == secret.FindString(before.data) {
			t.Errorf("a new session is %+v, the one before it was %+v", after, before)
		}
		h.with(bob, "/switch?user=")
		s.alter("DELETE FROM sessions")
	}
}

// What was taken away before a session was begun beside another one does not come
// back with what its request changes late.
func TestGrace_noRightsComeBackAfterTheHeader(t *testing.T) {
	waiting, goOn := make(chan struct{}), make(chan struct{})
	s := scsSite(t, map[string]http.HandlerFunc{
		"/login": func(_ http.ResponseWriter, r *http.Request) {
			session := caddysession.FromContext(r.Context())
			_ = errors.Join(session.Put("user", "alice"), session.Put("role", "admin"))
		},
		"/demote": func(_ http.ResponseWriter, r *http.Request) {
			session := caddysession.FromContext(r.Context())
			_ = errors.Join(session.Remove("role"), session.Renew())
		},
		"/slow": func(w http.ResponseWriter, r *http.Request) {
			session := caddysession.FromContext(r.Context())
			_ = session.Renew()
			waiting <- struct{}{}
			<-goOn
			w.WriteHeader(http.StatusOK)
			_ = session.Put("late", "yes")
		},
		"/read": func(w http.ResponseWriter, r *http.Request) {
			session := caddysession.FromContext(r.Context())
			fmt.Fprint(w, session.Keys())
		},
	}, "principal user")
	v, slow := s.visitor(), s.visitor()
	cookies := v.get("/login").Cookies()
	slow.http.Jar.SetCookies(slow.request(http.MethodGet, "/").URL, cookies)
	s.whileWaiting(slow, "/slow", waiting, goOn, func() { v.get("/demote").cookie(t) }).cookie(t)
	slow.get("/read").want(t, http.StatusOK, "[late user]")
}

// Nor does the page of an error show what the older token saw before.
func TestGrace_theErrorPageShowsNothingFromBefore(t *testing.T) {
	s := start(t, `
$SITE {
	session {
		principal user
		max_size 1KiB
	}
	handle /login {
		session_edit {
			put user alice
			put role admin
		}
	}
	handle /demote {
		session_edit {
			remove role
			renew
		}
	}
	handle /put {
		session_edit put text {query.text}
		respond "{http.session.data.role}"
	}
	handle_errors {
		respond "{err.status_code} {http.session.data.role}"
	}
}`)
	h := holder{s.visitor().withoutJar(), "$SITE"}
	old := h.with("", "/login").cookie(t).Value
	h.with(old, "/demote").cookie(t)
	h.with(old, "/put?text=small").want(t, http.StatusOK, "")
	h.with(old, "/put?text="+strings.Repeat("x", 3000)).want(t, http.StatusInternalServerError, "500 ")
}

// What is changed in a session that a renewal began is stored there, after the
// header as well.
func TestGrace_whatComesAfterTheHeaderIsKept(t *testing.T) {
	s := scsSite(t, map[string]http.HandlerFunc{
		"/login": func(w http.ResponseWriter, r *http.Request) {
			session := caddysession.FromContext(r.Context())
			_ = errors.Join(session.Put("user", "alice"), session.Renew())
			w.WriteHeader(http.StatusOK)
			if err := session.Put("late", "yes"); err != nil {
				t.Error(err)
			}
		},
		"/cart": storing("cart", "book"),
	}, "principal user")
	h := holder{s.visitor().withoutJar(), "$SITE"}
	guest := h.with("", "/cart").cookie(t).Value
	for range 2 {
		h.with(guest, "/login").cookie(t)
	}
	rows, err := s.table().current()
	if err != nil || len(rows) != 2 {
		t.Fatalf("there are %d sessions (%v), want 2", len(rows), err)
	}
	for _, row := range rows {
		if !strings.Contains(row.data, `"late":"yes"`) || !strings.Contains(row.data, `"user":"alice"`) {
			t.Errorf("stored is %s", row.data)
		}
	}
}

// A session that a renewal begins is one more of its user's.
func TestGrace_renewalsDoNotGetAroundMaxPerPrincipal(t *testing.T) {
	for policy, status := range map[string]int{"oldest": http.StatusOK, "reject": http.StatusForbidden} {
		t.Run(policy, func(t *testing.T) {
			s := start(t, heldSite, "APP", "127.0.0.1:1", "OPTIONS", "max_per_principal 1 "+policy)
			h := holder{s.visitor().withoutJar(), "$SITE"}
			first := h.with("", "/login?user=alice").cookie(t).Value
			second := h.with(first, "/renew").cookie(t).Value
			third := h.with(first, "/renew")
			if third.StatusCode != status {
				t.Errorf("a second renewal of the same session is a %d, want %d", third.StatusCode, status)
			}
			left := second
			if policy == "oldest" {
				left = third.cookie(t).Value
			}
			h.read(t, left, "alice|admin|")
			s.table().only()
		})
	}
}
