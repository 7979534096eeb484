package caddysession_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	caddysession "github.com/caddy-session/caddy-session"
	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
)

// outageSite has every way in which a request can come to need the store.
const outageSite = `
$SITE, $TLS {
	session {
		rqlite $STORE {
			timeout 300ms
		}
	}
	header X-Ours yes
	handle /login {
		session_edit {
			put user alice
			put_json roles ["admin"]
		}
		respond "in"
	}
	handle /matcher* {
		@member session user
		handle @member {
			reverse_proxy $APP
		}
		respond "guest"
	}
	handle /cel* {
		@member expression session('user')
		handle @member {
			reverse_proxy $APP
		}
		respond "guest"
	}
	handle /placeholder* {
		reverse_proxy $APP {
			header_up X-User {http.session.data.user}
		}
	}
	handle /placeholder-id* {
		reverse_proxy $APP {
			header_up X-Id {http.session.id}
		}
	}
	handle /vars* {
		vars user {http.session.data.user}
		respond "user {vars.user}"
	}
	handle /respond* {
		respond "user {http.session.data.user}"
	}
	handle /auth* {
		session_auth user
		reverse_proxy $APP
	}
	handle /redirected* {
		session_edit {
			put last {uri}
			redir /elsewhere
		}
	}
	handle /edit* {
		session_edit increment visits
		reverse_proxy $APP
	}
	handle /encoded* {
		encode gzip
		session_edit increment visits
		reverse_proxy $APP
	}
	handle /logout {
		session_edit destroy
		respond "out"
	}
	handle /untouched* {
		reverse_proxy $APP
	}
	handle_errors {
		respond "sorry: {err.status_code}"
	}
}`

// wantUnavailable checks for what every request that needs a store which is down must get.
func (a *answer) wantUnavailable(t *testing.T) {
	t.Helper()
	body := "sorry: 503"
	if a.Request.Method == http.MethodHead {
		body = ""
	}
	a.want(t, http.StatusServiceUnavailable, body)
	if a.err != nil {
		t.Errorf("reading the body: %v", a.err)
	}
	if a.Header.Get("Retry-After") == "" {
		t.Error("there is no Retry-After")
	}
	for _, name := range []string{"Set-Cookie", "Etag", "Content-Encoding", "Last-Modified", "Location", "X-App", "Trailer", "X-Ours"} {
		if a.Header[name] != nil {
			t.Errorf("the header still has %s: %q", name, a.Header[name])
		}
	}
	if length := a.Header.Get("Content-Length"); length != "10" && (a.Request.Method != http.MethodHead || length != "") {
		t.Errorf("Content-Length is %q", length)
	}
	if kind := a.Header.Get("Content-Type"); strings.Contains(kind, "app") {
		t.Errorf("Content-Type is %q", kind)
	}
}

func TestOutage_whenLoadingTheApplicationIsNotAsked(t *testing.T) {
	store, app := newStandIn(t), newApplication(t, nil)
	s := start(t, outageSite, "STORE", store.URL, "APP", app.address())
	s.visitor().handshake("$TLS/untouched")
	for name, breakdown := range map[string]func(){"fails": store.fails, "hangs": store.hangs, "is broken": store.isBroken} {
		t.Run(name, func(t *testing.T) {
			store.works()
			members := map[string]*visitor{}
			for _, scheme := range schemes {
				member := s.visitor()
				eventually(t, "the store to be asked again", func() bool { return member.get(scheme.site+"/login").body == "in" })
				members[scheme.site] = member
			}
			asked := len(app.requests())
			breakdown()
			requests := map[string]func() (*answer, error){}
			for site, member := range members {
				for _, path := range []string{"/matcher", "/cel", "/placeholder", "/placeholder-id", "/vars", "/respond", "/auth", "/edit", "/redirected"} {
					requests[strings.Trim(site, "$")+path] = func() (*answer, error) { return member.try(http.MethodPost, site+path) }
				}
			}
			together(t, requests, (*answer).wantUnavailable)
			if n := len(app.requests()) - asked; n != 0 {
				t.Errorf("the application was asked %d times, as for a guest", n)
			}
			for site, member := range members {
				member.get(site+"/untouched").want(t, http.StatusOK, "app")
				s.visitor().get(site+"/respond").want(t, http.StatusOK, "user ")
			}
			store.works()
			eventually(t, "the store to be asked again", func() bool { return members["$SITE"].get("/respond").StatusCode == http.StatusOK })
			members["$SITE"].get("/respond").want(t, http.StatusOK, "user alice")
		})
	}
}

// Routes in JSON may have error routes of their own within a session: it is not
// known there whose request it is.
func TestOutage_whenLoadingErrorRoutesWithinAskNoApplication(t *testing.T) {
	store, app := newStandIn(t), newApplication(t, nil)
	const config = `
{
	session {
		rqlite $STORE {
			timeout 300ms
		}
	}
}
$SITE {
	session
	handle {
		session_csrf /csrf
		session_auth /auth user
		session_edit /edit put user alice
		@member {
			path /match
			session user
		}
		error @member 404
		error 404
	}
	handle_errors {
		respond "sorry: {err.status_code}"
	}
}`
	s := start(t, config, "STORE", store.URL)
	adapted, err := s.adapt(config)
	if err != nil {
		t.Fatal(err)
	}
	const within = `{"handler":"subroute","routes":[{"handle":[{"handler":"authentication"`
	if n := strings.Count(string(adapted), within); n != 1 {
		t.Fatalf("%d routes within the session are found in %s", n, adapted)
	}
	caught := `{"handler":"subroute","errors":{"routes":[{"handle":[{"handler":"reverse_proxy","upstreams":[{"dial":"` + app.address() + `"}]}]}]},`
	routes := strings.Replace(string(adapted), within, caught+strings.TrimPrefix(within, `{"handler":"subroute",`), 1)
	if err := caddy.Load([]byte(routes), true); err != nil {
		t.Fatal(err)
	}
	v := s.visitor()
	v.get("/edit").want(t, http.StatusOK, "app")
	asked := len(app.requests())
	store.fails()
	for _, path := range []string{"/csrf", "/auth", "/edit", "/match"} {
		v.do(http.MethodPost, path).wantUnavailable(t)
	}
	if n := len(app.requests()) - asked; n != 0 {
		t.Errorf("the application was asked %d times, as for a guest", n)
	}
}

// An error page that wants to name the visitor goes out without the name.
func TestOutage_whenLoadingTheErrorPageGoesOut(t *testing.T) {
	store, app := newStandIn(t), newApplication(t, nil)
	s := start(t, `
{
	session {
		rqlite $STORE {
			timeout 300ms
		}
	}
}
$SITE {
	session
	handle /login {
		session_edit put user alice
	}
	handle {
		respond "{http.session.data.user}"
	}
	handle_errors {
		session
		handle /guests {
			@guest not session user
			respond @guest "for a guest"
			respond "for a member"
		}
		handle {
			session_edit put last {err.status_code}
			reverse_proxy $APP {
				header_up X-User {http.session.data.user}
			}
		}
	}
}`, "STORE", store.URL, "APP", app.address())
	v := s.visitor()
	v.get("/login").cookie(t)
	store.fails()
	together(t, map[string]func() (*answer, error){
		"/":       func() (*answer, error) { return v.try(http.MethodGet, "/") },
		"/guests": func() (*answer, error) { return v.try(http.MethodGet, "/guests") },
	}, func(a *answer, t *testing.T) {
		if a.Request.URL.Path == "/guests" {
			a.want(t, http.StatusServiceUnavailable, "") // whose page it is cannot be known
			return
		}
		a.want(t, http.StatusOK, "app") // the status is the error page's own
	})
	if user := app.last(t).Header.Get("X-User"); user != "" {
		t.Errorf("the error page is for %q", user)
	}
}

// appAnswers are responses that must vanish as a whole when the session cannot be stored.
var appAnswers = map[string]func(w http.ResponseWriter, r *http.Request){
	"200": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Content-Type", "text/app")
		_, _ = io.WriteString(w, "the application's secret")
	},
	"large": func(w http.ResponseWriter, r *http.Request) {
		for range 20 {
			_, _ = io.WriteString(w, strings.Repeat("secret ", 10_000))
		}
	},
	"201": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "/created")
		w.WriteHeader(http.StatusCreated)
	},
	"204": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) },
	"206": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Range", "bytes 0-5/100")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = io.WriteString(w, "secret")
	},
	"304": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		w.WriteHeader(http.StatusNotModified)
	},
	"404": func(w http.ResponseWriter, r *http.Request) { http.Error(w, "the application's secret", 404) },
	"events": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			if _, err := io.WriteString(w, "data: secret\n\n"); err != nil || r.Context().Err() != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
	},
	"chunked with trailers": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-App")
		_, _ = io.WriteString(w, "secret")
		w.(http.Flusher).Flush()
		_, _ = io.WriteString(w, "secret")
		w.Header().Set("X-App", "secret")
	},
	"early hints": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-App", "secret")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(w, "secret")
	},
}

func TestOutage_whenStoringNothingOfTheResponseGetsOut(t *testing.T) {
	store := newStandIn(t)
	app := newApplication(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-App", "yes")
		appAnswers[r.Header.Get("Way")](w, r)
	})
	s := start(t, outageSite, "STORE", store.URL, "APP", app.address())
	s.visitor().handshake("$TLS/login")
	members := map[string]*visitor{}
	for _, scheme := range schemes {
		members[scheme.site] = s.visitor()
		members[scheme.site].get(scheme.site+"/login").want(t, http.StatusOK, "in")
	}
	guest := s.visitor().withoutJar()

	t.Run("a full disk", func(t *testing.T) {
		store.isFull()
		for site, member := range members {
			for way := range appAnswers {
				for _, path := range []string{"/edit", "/encoded"} {
					for _, method := range []string{http.MethodGet, http.MethodHead} {
						if way == "events" && method == http.MethodHead {
							continue // would never end
						}
						t.Run(strings.Trim(site, "$")+path+"/"+method+"/"+way, func(t *testing.T) {
							member.do(method, site+path, "Way", way, "Accept-Encoding", "gzip").wantUnavailable(t)
							guest.do(method, site+path, "Way", way).wantUnavailable(t)
						})
					}
				}
			}
		}
		members["$TLS"].get("$TLS/redirected").wantUnavailable(t)
	})
	t.Run("no leader", func(t *testing.T) {
		store.failsWrites()
		requests := map[string]func() (*answer, error){}
		for site, member := range members {
			requests[strings.Trim(site, "$")+"/member"] = func() (*answer, error) { return member.try(http.MethodGet, site+"/encoded", "Way", "events") }
			requests[strings.Trim(site, "$")+"/logout"] = func() (*answer, error) { return member.try(http.MethodGet, site+"/logout") }
			requests[strings.Trim(site, "$")+"/guest"] = func() (*answer, error) { return guest.try(http.MethodGet, site+"/edit", "Way", "200") }
		}
		together(t, requests, (*answer).wantUnavailable)
	})
}

func TestOutage_ofALockedFileHealsWhenItIsFree(t *testing.T) {
	dir := t.TempDir()
	other := embedded.New(filepath.Join(dir, "sessions.db"), embedded.Options{})
	if err := other.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })

	s := start(t, `
$SITE {
	session {
		embedded $FILE
	}
	session_edit /put put user alice
	respond /untouched "untouched"
	respond "user {http.session.data.user}"
}`, "FILE", filepath.Join(dir, "sessions.db"))
	s.logged("another process has the session store open")
	v := s.visitor()
	v.get("/untouched").want(t, http.StatusOK, "untouched")
	if a := v.get("/put"); a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" || a.Header["Set-Cookie"] != nil {
		t.Errorf("with the file locked: %d %v, want 503", a.StatusCode, a.Header)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the file to be opened", func() bool { return v.get("/put").StatusCode == http.StatusOK })
	v.get("/").want(t, http.StatusOK, "user alice")
	s.logged("the session store is available")
}

// A node that is down stands in the log once, and since when it is does not
// change while it is tried again.
func TestOutage_ofANodeIsLoggedOnce(t *testing.T) {
	begun := time.Now()
	store := newStandIn(t)
	s := startWithAdmin(t, `
$SITE {
	session {
		rqlite $STORE {
			timeout 300ms
		}
	}
	session_edit put user alice
	respond "user {http.session.data.user}"
}`, "STORE", store.URL)
	s.visitor().get("/").want(t, http.StatusOK, "user alice")
	store.hangs()
	s.visitor().get("/").want(t, http.StatusServiceUnavailable, "")
	const down, up = "a node of the rqlite cluster does not answer", "a node of the rqlite cluster answers again"
	s.logged(down)
	first := adminInto[stores](s, http.MethodGet, "/session/stores").Stores[0].Nodes[0]
	if !strings.Contains(first.LastError, "in time") || first.LastErrorAt.Before(begun) || first.LastErrorAt.After(time.Now()) {
		t.Errorf("its last error is %q, of %v", first.LastError, first.LastErrorAt)
	}
	states := make(map[string]bool)
	eventually(t, "a trial of the node that fails", func() bool {
		now := adminInto[stores](s, http.MethodGet, "/session/stores").Stores[0].Nodes[0]
		if !now.Since.Equal(first.Since) {
			t.Fatalf("the node is down since %v, and then since %v", first.Since, now.Since)
		}
		states[now.State] = true
		return states["open"] && states["half-open"]
	})
	if n := strings.Count(s.readLog(), down); n != 1 {
		t.Errorf("that the node is down is logged %d times", n)
	}
	for line := range strings.Lines(s.readLog()) { // two tables on one cluster have it twice
		if strings.Contains(line, down) && !strings.Contains(line, "(table sessions)") {
			t.Errorf("the log does not say for which store: %s", line)
		}
	}
	store.works()
	s.logged(up)
}

func TestOutage_lostRepliesApplyOnce(t *testing.T) {
	store := newStandIn(t)
	s := start(t, `
$SITE {
	session {
		rqlite $STORE
	}
	session_edit increment visits
	respond "{http.session.data.visits}"
}
$SITE2 {
	session {
		rqlite $STORE
		principal user
	}
	session_edit / {
		put user alice
		remember on
	}
	respond "{http.session.data.user}"
}`, "STORE", store.URL)
	v := s.visitor()
	v.get("/").want(t, http.StatusOK, "1")
	for i := 2; i <= 5; i++ {
		store.losesReplies(1)
		v.get("/").want(t, http.StatusOK, string(rune('0'+i)))
	}
	store.works()
	v.get("/").want(t, http.StatusOK, "6")

	t.Run("a new session is stored under another token", func(t *testing.T) {
		store.losesReplies(1)
		v := s.visitor()
		v.get("/").want(t, http.StatusOK, "1")
		store.works()
		v.get("/").want(t, http.StatusOK, "2")
	})

	cannotTell := func() (rows *atomic.Int64) {
		rows = new(atomic.Int64) // that were to be inserted
		store.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
			body := bodyOf(r)
			switch {
			case bytes.Contains(body, []byte("ON CONFLICT(token) DO NOTHING")) && rows.Add(1) == 1:
				node.ServeHTTP(httptest.NewRecorder(), r)
				panic(http.ErrAbortHandler)
			case bytes.Contains(body, []byte("RETURNING ")) && rows.Load() == 1:
				_, _ = io.WriteString(w, "<!doctype html>") // so it cannot be told whether the row is there
			default:
				node.ServeHTTP(w, r)
			}
		}))
		return rows
	}
	t.Run("also where it cannot be told whether the first one is there", func(t *testing.T) {
		rows := cannotTell()
		v := s.visitor()
		v.get("/").want(t, http.StatusOK, "1")
		v.get("/").want(t, http.StatusOK, "2")
		if n := rows.Load(); n != 2 {
			t.Errorf("%d rows were to be inserted, want 2", n)
		}
		if strings.Contains(s.readLog(), "the session store is unavailable") {
			t.Error("the log says that the store is unavailable, which no request has met")
		}
	})
	t.Run("and the row that nobody was told of ends alone", func(t *testing.T) {
		inserted := cannotTell()
		v := s.visitor()
		a := v.get("$SITE2/")
		a.want(t, http.StatusOK, "alice")
		if c := a.cookie(t); c.MaxAge < 29*86400 {
			t.Errorf("the cookie is %v", c)
		}
		table := openTable(t, store.file)
		eventually(t, "the other row to end", func() bool {
			var rows int
			err := table.db.QueryRow("SELECT count(*) FROM sessions WHERE principal = 'alice'").Scan(&rows)
			return err == nil && rows <= 1
		})
		v.get("$SITE2/read").want(t, http.StatusOK, "alice")
		if n := inserted.Load(); n != 2 {
			t.Errorf("%d rows were to be inserted, want 2", n)
		}
	})
}

// A Caddy whose clock is wrong ends sessions for all: it does not do so without a word.
func TestOutage_aClockThatIsWrongIsLogged(t *testing.T) {
	store := newStandIn(t)
	later := func(by time.Duration) {
		store.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
			w.Header().Set("Date", time.Now().Add(by).UTC().Format(http.TimeFormat))
			node.ServeHTTP(w, r)
		}))
	}
	later(-10 * time.Minute)
	s := start(t, `
$SITE {
	session {
		rqlite $STORE
	}
	session_edit put user alice
	respond "user {http.session.data.user}"
}`, "STORE", store.URL)
	s.visitor().get("/").want(t, http.StatusOK, "user alice")
	s.logged("ahead of the node's")
	later(0)
	s.logged("agree again")
	if n := strings.Count(s.readLog(), "clocks of this machine"); n != 2 {
		t.Errorf("the clocks are logged %d times, want 2", n)
	}
}

// While nothing can be stored, answers to reads are no sign that all is well.
func TestOutage_ofWritesAloneIsOneOutage(t *testing.T) {
	caddyBinary(t) // to build it may take longer than a failure of a write holds
	store := newStandIn(t)
	s := startWithAdmin(t, `
$SITE {
	session {
		rqlite $STORE
	}
	session_edit /put put user {query.user}
	respond "user {http.session.data.user}"
}
$METRICS {
	metrics /metrics
}`, "STORE", store.URL, "METRICS", "http://"+freeAddress(t))
	v := s.visitor()
	v.get("/put?user=alice").want(t, http.StatusOK, "user alice")
	status := func() caddysession.StoreStatus {
		return adminInto[stores](s, http.MethodGet, "/session/stores").Stores[0]
	}
	logs := func(text string) int { return strings.Count(s.readLog(), text) }

	store.isFull()
	for range 3 {
		if a := v.get("/put?user=bob"); a.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("on a full disk: %d, want 503", a.StatusCode)
		}
		v.get("/").want(t, http.StatusOK, "user alice")
		if up := s.scrape().sum("store_up"); up != 0 {
			t.Errorf("store_up is %v while nothing can be stored", up)
		}
	}
	if now := status(); !now.Reachable || !strings.Contains(now.WritesFail, "database or disk is full") {
		t.Errorf("on a full disk the store is %+v", now)
	}
	out, notes, err := s.cli("stats")
	if err == nil || !strings.Contains(out, "writes fail") || !strings.Contains(notes, "database or disk is full") {
		t.Errorf("stats: %v: %s\n%s", err, notes, out)
	}
	if down, up := logs("the session store is unavailable"), logs("the session store is available"); down != 1 || up != 0 {
		t.Errorf("logged %d times that the store is down and %d times that it is back", down, up)
	}

	store.works()
	v.get("/put?user=carol").want(t, http.StatusOK, "user carol")
	s.logged("the session store is available")
	if now := status(); now.WritesFail != "" {
		t.Errorf("with room the store is %+v", now)
	}
	if up := s.scrape().sum("store_up"); up != 1 {
		t.Errorf("store_up is %v with room", up)
	}

	// Where there is now room for a session and now none, that is one outage more.
	begun := time.Now()
	for _, user := range []string{"dave", "eve", "frank"} {
		store.isFull()
		if a := v.get("/put?user=" + user); a.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("without room: %d, want 503", a.StatusCode)
		}
		store.works()
		v.get("/put?user="+user).want(t, http.StatusOK, "user "+user)
	}
	down, up := logs("the session store is unavailable"), logs("the session store is available")
	if (down != 2 || up != 1) && time.Since(begun) < 20*time.Second { // a slow machine makes several of it
		t.Errorf("logged %d times that the store is down and %d times that it is back", down, up)
	}
	if up := s.scrape().sum("store_up"); up != 1 {
		t.Errorf("store_up is %v after what was stored", up)
	}
}

// Whoever saves the session each time first makes a save fail in the end. The
// store is as well as ever then.
func TestOutage_saveThatLosesEveryRaceIsNone(t *testing.T) {
	var h heard
	store := newStandIn(t)
	s := startWithAdmin(t, `
{
	events {
		on session_store_unavailable in_go $HEAR
	}
}
$SITE {
	session {
		rqlite $STORE
	}
	session_edit /put put user {query.user}
	respond "user {http.session.data.user}"
}
$METRICS {
	metrics /metrics
}`, "STORE", store.URL, "HEAR", onEvent(t, h.hear), "METRICS", "http://"+freeAddress(t))
	v := s.visitor()
	v.get("/put?user=alice").want(t, http.StatusOK, "user alice")
	store.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
		if r.URL.Path == "/db/execute" {
			store.executes("UPDATE sessions SET version = version + 1")
		}
		node.ServeHTTP(w, r)
	}))
	a := v.get("/put?user=bob")
	if a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
		t.Errorf("got %d %v, want 503 with Retry-After", a.StatusCode, a.Header)
	}
	s.logged("session was changed by others at the same time")
	if up := s.scrape().sum("store_up"); up != 1 {
		t.Errorf("store_up is %v", up)
	}
	v.get("/").want(t, http.StatusOK, "user alice")
	store.works()
	v.get("/put?user=carol").want(t, http.StatusOK, "user carol")
	if strings.Contains(s.readLog(), "the session store is") || h.said() != "" {
		t.Errorf("the store is told to be unavailable: %s", h.said())
	}
}
