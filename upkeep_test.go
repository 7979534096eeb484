package caddysession_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	caddysession "github.com/caddy-session/caddy-session"
)

// Upkeep that the store does not do costs a request little, and is nothing that
// a handler has lost.
func TestUpkeep_failsNoRequest(t *testing.T) {
	until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	for name, upkeep := range map[string]struct{ option, logged string }{
		"a new token": {"keys {env.SESSION_TEST_FIRST} {\n plain_until " + until + "\n}", "a session could not be given a new token"},
		"tracking":    {"track on", "upkeep of a session failed"},
	} {
		testUpkeep(t, name, upkeep.option, upkeep.logged, "/")
		testUpkeep(t, name+" with an error page", upkeep.option, upkeep.logged, "/error")
		testUpkeep(t, name+" with an error page, and code written against scs", upkeep.option, upkeep.logged, "/scs")
	}
}

func testUpkeep(t *testing.T, name, option, logged, path string) {
	t.Run(name, func(t *testing.T) {
		store := newStandIn(t)
		const site = `
$SITE {
	session {
		rqlite $STORE {
			timeout 300ms
		}
		cache 1m
		$OPTION
	}
	handle /login {
		session_edit put user alice
	}
	handle /error {
		@member session user alice
		error @member 404
	}
	handle /scs {
		route {
			in_go $SCS
			error 404
		}
	}
	handle_errors {
		session {
			rqlite $STORE {
				timeout 300ms
			}
			cache 1m
			$OPTION
		}
		respond "{http.session.data.user}" 200
	}
	handle {
		respond "{http.session.data.user}"
	}
}`
		withSecrets(t)
		scs := inGo(t, func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
			caddysession.FromContext(r.Context()).Manager().GetString(r.Context(), "user") // and may have changed anything
			return next.ServeHTTP(w, r)
		})
		s := start(t, site, "STORE", store.URL, "OPTION", "persist on", "SCS", scs)
		v := s.visitor()
		v.get("/login")
		v.get("/").want(t, http.StatusOK, "alice")
		s.names["OPTION"] = option
		s.reload(site)
		store.hangs()
		begun := time.Now()
		v.get(path).want(t, http.StatusOK, "alice")
		if took := time.Since(begun); took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
		s.logged(logged)
		if strings.Contains(s.readLog(), "what a handler changed") {
			t.Error("the log tells of changes that no handler made")
		}
	})
}

// A store that takes longer than a reader waits for a new token is no store that is
// down: whoever stores something waits for longer.
func TestUpkeep_ofASlowStoreIsNoOutage(t *testing.T) {
	store := newStandIn(t)
	s := start(t, `
$SITE {
	session {
		rqlite $STORE {
			timeout 30s
		}
		renew_interval 1s
	}
	session_edit /login put user alice
	session_edit /count increment n
	respond "{http.session.data.user} {http.session.data.n}"
}`, "STORE", store.URL)
	v := s.visitor()
	v.get("/login")
	gate := make(chan struct{})
	var writes atomic.Int64
	store.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
		if r.URL.Path != "/db/query" {
			writes.Add(1)
			<-gate
		}
		node.ServeHTTP(w, r)
	}))
	eventually(t, "a reader to wait in vain", func() bool {
		v.get("/").want(t, http.StatusOK, "alice ")
		return strings.Contains(s.readLog(), "a session could not be given a new token")
	})
	for range 3 { // nor does every reader wait
		v.get("/").want(t, http.StatusOK, "alice ")
	}
	if n := writes.Load(); n != 1 {
		t.Errorf("%d readers waited for the store, want 1", n)
	}
	close(gate)
	v.get("/count").want(t, http.StatusOK, "alice 1")
	if strings.Contains(s.readLog(), "the session store is") {
		t.Error("the store is taken for unavailable")
	}
}

// What the session keeps of its own takes no room from the application, and has
// room where the application has filled the session.
func TestUpkeep_ofAFullSession(t *testing.T) {
	withSecrets(t)
	s := start(t, `
$SITE {
	session {
		max_size 1KiB
		renew_interval 1ms
		track on
		keys {env.SESSION_TEST_FIRST}
	}
	handle /put {
		session_edit put text {query.text}
	}
	handle {
		respond "{http.session.data.text}"
	}
}`)
	v := s.visitor()
	size := 2 << 10
	for ; v.get("/put?text="+strings.Repeat("x", size), "User-Agent", "short").StatusCode != http.StatusOK; size-- {
		if size == 0 {
			t.Fatal("no text is small enough")
		}
	}
	if size < 1<<10-20 {
		t.Errorf("there is room for %d bytes only", size)
	}
	agent := strings.Repeat(`"`, 300)
	for range 9 { // more than there are older tokens that are kept
		eventually(t, "a new token", func() bool {
			a := v.get("/", "User-Agent", agent)
			a.want(t, http.StatusOK, strings.Repeat("x", size))
			return a.Header.Get("Set-Cookie") != ""
		})
	}
	v.get("/put?text="+strings.Repeat("y", size), "User-Agent", agent).want(t, http.StatusOK, "")
}

// What another Caddy noted whose clock is ahead lies in the future, and so does what
// was noted before the clock was set back, by days. Of these two it must not take as
// long until a session gets a new token, and until its use is noted; of the first both
// Caddys would do it in turns, at every request.
func TestUpkeep_ofWhatLiesInTheFuture(t *testing.T) {
	for option, isDone := range map[string]func(a *answer, data string) bool{
		"renew_interval 1h": func(a *answer, _ string) bool { return a.Header.Get("Set-Cookie") != "" },
		"track on":          func(_ *answer, data string) bool { return strings.Contains(data, "another browser") },
	} {
		t.Run(option, func(t *testing.T) {
			s := start(t, "$SITE {\nsession {\n"+option+"\n}\nsession_edit /put put user {query.user}\nrespond {http.session.created}\n}")
			table := s.table()
			noted := func(user string, in time.Duration) string {
				at := time.Now().Add(in)
				s.alter(`UPDATE sessions SET data=CAST(json_replace(CAST(data AS TEXT),'$.values.__created',?1,'$.values.__used',?1) AS BLOB) WHERE instr(CAST(data AS TEXT),?2)`, at.Unix(), user)
				return at.UTC().Format(time.RFC3339)
			}
			visit := func(v *visitor, user string) (body string, done bool) {
				a := v.get("/", "User-Agent", "another browser")
				var data string
				if err := table.db.QueryRow("SELECT CAST(data AS TEXT) FROM sessions WHERE instr(CAST(data AS TEXT),?)", user).Scan(&data); err != nil {
					t.Fatal(err)
				}
				return a.body, isDone(a, data)
			}
			far, near := s.visitor(), s.visitor()
			far.get("/put?user=isFarAhead")
			near.get("/put?user=isAhead")
			noted("isFarAhead", 25*time.Hour)
			ahead := noted("isAhead", 2*time.Hour)
			eventually(t, "upkeep after the clock was set back", func() bool {
				_, done := visit(far, "isFarAhead")
				return done
			})
			for seen := 0; seen < 20; { // a use is noted in the background
				body, done := visit(near, "isAhead")
				if done {
					t.Fatal("what is noted with a clock that is ahead is done again")
				}
				if body == ahead {
					seen++
				}
			}
		})
	}
}

// Nothing is stored where a value is set to what it was, and the session is in use.
func TestUpkeep_settingAValueToWhatItWasIsUse(t *testing.T) {
	s := scsSite(t, map[string]http.HandlerFunc{
		"/session": storing("user", "alice"),
		"/scs": func(_ http.ResponseWriter, r *http.Request) {
			caddysession.FromContext(r.Context()).Manager().Put(r.Context(), "user", "alice")
		},
	}, "idle_timeout 1h", "touch_interval 1ms")
	v := s.visitor()
	v.get("/scs").cookie(t)
	for _, path := range []string{"/scs", "/session"} {
		before := s.table().only()
		eventually(t, "the session to end later", func() bool {
			v.get(path).want(t, http.StatusOK, "")
			return s.table().only().expiry > before.expiry
		})
		if now := s.table().only(); now.version != before.version {
			t.Errorf("%s: a value that is as it was is stored, as version %d", path, now.version)
		}
	}
}

// A session is in use from when a request asks for it: it must not end before one that
// takes long is answered.
func TestUpkeep_aRequestIsUseBeforeItIsAnswered(t *testing.T) {
	store := newStandIn(t)
	wait, waiting, goOn := newWait(t)
	s := start(t, `
$SITE {
	session {
		rqlite $STORE
		idle_timeout 1h
		touch_interval 1ms
	}
	session_edit /login put user alice
	in_go /slow $WAIT
	in_go /read $READ
	respond "{http.session.data.user}"
}`, "STORE", store.URL, "WAIT", wait, "READ", inGo(t, func(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
		user := caddysession.FromContext(r.Context()).Get("user")
		waiting <- struct{}{}
		<-goOn
		_, err := fmt.Fprint(w, user)
		return err
	}))
	v := s.visitor()
	v.get("/login").cookie(t)
	expiry := func() float64 { return openTable(t, store.file).only().expiry }
	store.executes("UPDATE sessions SET expiry=expiry-0.5/24") // as after half an hour
	s.whileWaiting(v, "/slow", waiting, goOn, func() {
		eventually(t, "the session to end an hour from now", func() bool { return expiry() > julian(time.Now().Add(55*time.Minute)) })
	})

	// One that only reads, and takes its time, is so at its end once more.
	store.executes("UPDATE sessions SET expiry=expiry-0.5/24")
	var began float64
	s.whileWaiting(v, "/read", waiting, goOn, func() {
		eventually(t, "the session to end an hour from now", func() bool {
			began = expiry()
			return began > julian(time.Now().Add(55*time.Minute))
		})
		loaded := time.Now()
		eventually(t, "more time than touch_interval to pass", func() bool { return time.Since(loaded) > 5*time.Millisecond })
	}).want(t, http.StatusOK, "alice")
	eventually(t, "the session to end an hour from the answer", func() bool { return expiry() > began })
}

// A visit to a site without an idle_timeout is no use of the session on one that has it.
func TestUpkeep_leavesTheIdleTimeoutOfAnotherSite(t *testing.T) {
	const routes = "\nsession_edit /put put user alice\nrespond \"{http.session.data.user}\"\n}\n"
	s := start(t, "$SITE {\nsession {\nidle_timeout 2s\n}"+routes+"$SITE2 {\nsession"+routes)
	v := s.visitor()
	v.get("/put")
	v.get("$SITE2/").want(t, http.StatusOK, "alice")
	eventually(t, "the session to end", func() bool { return v.get("$SITE2/").body == "" })
	v.get("/").want(t, http.StatusOK, "")
}

// Nor is a change made there: the session would outlive its idle time on the other one.
func TestUpkeep_changeElsewhereLeavesTheIdleTimeoutOfAnotherSite(t *testing.T) {
	const routes = "\nsession_edit /put put user {query.user}\nsession_edit /renew renew\nsession_edit /remember remember on\nrespond \"{http.session.data.user}\"\n}\n"
	s := start(t, "$SITE {\nsession {\nidle_timeout 1h\n}"+routes+"$SITE2 {\nsession"+routes+"$SITE3 {\nsession {\nrenew_interval 1ms\n}"+routes)
	v := s.visitor()
	v.get("/put?user=alice")
	before := s.table().only().expiry
	v.get("$SITE2/put?user=bob")
	v.get("$SITE2/").want(t, http.StatusOK, "bob")
	if row := s.table().only(); row.expiry != before || row.version != 2 {
		t.Errorf("version %d of the session ends %v later than before", row.version, time.Duration((row.expiry-before)*float64(24*time.Hour)))
	}

	eventually(t, "a new token", func() bool { return v.get("$SITE3/").Header["Set-Cookie"] != nil })
	ends := func() (latest float64) {
		if err := s.table().db.QueryRow("SELECT max(expiry) FROM sessions WHERE superseded IS NULL").Scan(&latest); err != nil {
			t.Fatal(err)
		}
		return latest
	}
	if after := ends(); after != before {
		t.Errorf("with a new token the session ends %v later than before", time.Duration((after-before)*float64(24*time.Hour)))
	}

	// A renewal begins a new lifetime, which is that of where it is made.
	v.get("$SITE2/renew").cookie(t)
	if row := s.table().only(); row.expiry < before+0.9 {
		t.Errorf("a session that was renewed where there is no idle_timeout ends %v later than before", time.Duration((row.expiry-before)*float64(24*time.Hour)))
	}

	// And who is to be remembered is not idle.
	remembered := s.visitor()
	remembered.get("/put?user=alice")
	remembered.get("$SITE2/remember").cookie(t)
	if after := ends(); after < before+29 {
		t.Errorf("a session that is remembered ends %v days later than one that is not", after-before)
	}
}

// Nobody is signed out before the lifetime ends for having come shortly before the
// next touch was due.
func TestUpkeep_theLastTouchIsForTheWholeLifetime(t *testing.T) {
	s := start(t, "$SITE {\nsession {\nlifetime 1h\nidle_timeout 3598s\ntouch_interval 30m\n}\nsession_edit /put put user alice\nrespond {http.session.data.user}\n}\n$METRICS {\nmetrics\n}",
		"METRICS", "http://"+freeAddress(t))
	v := s.visitor()
	v.get("/put").cookie(t)
	before := s.table().only().expiry
	eventually(t, "the session to end with its lifetime", func() bool {
		v.get("/").want(t, http.StatusOK, "alice")
		return s.table().only().expiry > before
	})

	// What is read from memory knows of it, and is not stored again.
	eventually(t, "upkeep to be done", func() bool { return s.scrape().sum("store_calls") == 0 })
	last := s.scrape()
	for range 5 {
		v.get("/").want(t, http.StatusOK, "alice")
		eventually(t, "upkeep to be done", func() bool { return s.scrape().sum("store_calls") == 0 })
	}
	s.counts(last, 0, "touches_total")
	eventually(t, "an answer from memory", func() bool {
		v.get("/").want(t, http.StatusOK, "alice")
		return s.scrape().sum("loads_total", `result="cached"`) > last.sum("loads_total", `result="cached"`)
	})
}

// A session that could not be given a new token is stored all the same when an
// error route changes it afterwards, and renewed when that is a login.
func TestUpkeep_thatFailedIsInTheWayOfNothing(t *testing.T) {
	const site = `
$SITE {
	session {
		rqlite $STORE
		principal user
		$OPTION
	}
	handle /login {
		session_edit put user alice
	}
	handle /error {
		@member session user alice
		error @member 404
	}
	handle_errors {
		session {
			rqlite $STORE
			principal user
			$OPTION
		}
		in_go $CHANGE
	}
	session_csrf /form
	respond /token {http.session.csrf_token}
	respond "{http.session.data.user} {http.session.data.late}"
}`
	withSecrets(t)
	for name, c := range map[string]struct {
		change   func(*caddysession.Session, *http.Request) error
		new, old string // what is read with the new token, and with the one before
		form     bool   // whether one from before is taken
	}{
		"Put": {func(s *caddysession.Session, _ *http.Request) error { return s.Put("late", "yes") }, "alice yes", "alice yes", true},
		"Put of scs": {func(s *caddysession.Session, r *http.Request) error {
			s.Manager().Put(r.Context(), "late", "yes")
			return nil
		}, "alice yes", "alice yes", true},
		"a renewal": {func(s *caddysession.Session, _ *http.Request) error {
			return errors.Join(s.Renew(), s.Put("late", "yes"))
		}, "alice yes", "alice ", false},
		"a renewal of scs": {func(s *caddysession.Session, r *http.Request) error {
			s.Manager().Put(r.Context(), "late", "yes")
			return s.Manager().RenewToken(r.Context())
		}, "alice yes", "alice ", false},
		"a logout of scs": {func(s *caddysession.Session, r *http.Request) error {
			return s.Manager().Destroy(r.Context())
		}, " ", " ", true},
		"a login": {func(s *caddysession.Session, _ *http.Request) error { return s.Put("user", "bob") }, "bob ", " ", false},
	} {
		t.Run(name, func(t *testing.T) {
			store := newStandIn(t)
			s := start(t, site, "STORE", store.URL, "OPTION", "persist on", "CHANGE", inGo(t, func(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
				store.works()
				if err := c.change(caddysession.FromContext(r.Context()), r); err != nil {
					return err
				}
				w.WriteHeader(http.StatusOK)
				return nil
			}))
			v := s.visitor()
			old := v.get("/login").cookie(t)
			form := url.Values{"csrf_token": {v.get("/token").body}}
			s.names["OPTION"] = "keys {env.SESSION_TEST_FIRST} {\n plain_until " + time.Now().Add(time.Hour).UTC().Format(time.RFC3339) + "\n}"
			s.reload(site)
			store.failsWrites()
			v.get("/error").want(t, http.StatusOK, "")
			s.logged("a session could not be given a new token")
			v.get("/").want(t, http.StatusOK, c.new)
			if body := v.submit("/form", form).body; (body == c.new) != c.form { // the error page is empty
				t.Errorf("a form from before is answered %q, which is to be taken: %v", body, c.form)
			}
			v.withoutJar().get("/", "Cookie", "session="+old.Value).want(t, http.StatusOK, c.old)
		})
	}
}
