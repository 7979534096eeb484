package caddysession_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	caddysession "github.com/caddy-session/caddy-session"
)

const rotatingSite = `
$SITE {
	session {
		principal user
		keys $KEYS
	}
	handle /login {
		session_edit put user {query.user}
	}
	handle /visit {
		route {
			in_go $TOGETHER
			session_edit increment visits
			respond "{http.session.data.user}"
		}
	}
	handle {
		respond "{http.session.data.user} {http.session.data.visits}"
	}
}
$SITE2 {
	session {
		keys $KEYS
	}
	handle /visit {
		route {
			in_go $TOGETHER
			session_edit increment visits
			respond "{http.session.data.user}"
		}
	}
}`

// A page's requests come side by side, all of them with the token that is to be
// replaced: that one stays a way in for all of them, and is replaced once.
func TestRotation_ofParallelRequestsIsOne(t *testing.T) {
	rotateInParallel(t, "/visit")
}

// It is the same user's session whatever key the user's name is hashed under.
func TestRotation_ofParallelRequestsIsOneWithoutPrincipal(t *testing.T) {
	rotateInParallel(t, "$SITE2/visit")
}

func rotateInParallel(t *testing.T, path string) {
	const requests = 40
	withSecrets(t)
	var loaded sync.WaitGroup
	loaded.Add(requests)
	s := start(t, rotatingSite, "KEYS", "{env.SESSION_TEST_FIRST}",
		"TOGETHER", inGo(t, func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
			caddysession.FromContext(r.Context()).Get("user")
			loaded.Done()
			loaded.Wait()
			return next.ServeHTTP(w, r)
		}))
	v := s.visitor().withoutJar()
	cookie := "session=" + v.get("/login?user=alice").cookie(t).Value
	s.names["KEYS"] = "{env.SESSION_TEST_SECOND} {env.SESSION_TEST_FIRST}"
	s.reload(rotatingSite)
	s.visitor().handshake(strings.TrimSuffix(path, "visit")) // this site, too, has its listener handed over

	visits := make(map[string]func() (*answer, error), requests)
	for i := range requests {
		visits[fmt.Sprint(i)] = func() (a *answer, err error) {
			for range 5 { // a request that the old listener took along was not heard
				if a, err = v.try(http.MethodGet, path, "Cookie", cookie); !isUnheard(err) {
					break
				}
			}
			return a, err
		}
	}
	var cookies []string
	together(t, visits, func(a *answer, t *testing.T) {
		a.want(t, http.StatusOK, "alice")
		for _, c := range a.Cookies() {
			cookies = append(cookies, c.Value)
		}
	})
	want := fmt.Sprintf("alice %d", requests)
	v.get("/", "Cookie", cookie).want(t, http.StatusOK, want)
	if len(cookies) != 1 {
		t.Errorf("%d requests were given %d new tokens, want 1", requests, len(cookies))
	}
	for _, token := range cookies {
		v.get("/", "Cookie", "session="+token).want(t, http.StatusOK, want)
	}
}

// A token and the seal of its row are under one key, or `caddy session stats`
// would count no row under a key that cookies still need.
func TestRotation_ofKeysLeavesNoTokenBehind(t *testing.T) {
	withSecrets(t)
	late := inGo(t, func(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
		session := caddysession.FromContext(r.Context())
		session.Get("user")
		w.WriteHeader(http.StatusOK)
		return session.Put("late", true)
	})
	const site = `
$SITE {
	session {
		keys $KEYS
		track $TRACK
	}
	handle /login {
		session_edit put user alice
	}
	handle /late {
		in_go $LATE
	}
	handle {
		respond "{http.session.data.user}"
	}
}`
	s := start(t, site, "KEYS", "{env.SESSION_TEST_FIRST}", "TRACK", "off", "LATE", late)
	read, stored := s.visitor(), s.visitor()
	token := read.get("/login").cookie(t).Value
	stored.get("/login")

	s.names["KEYS"] = "{env.SESSION_TEST_SECOND} {env.SESSION_TEST_FIRST}"
	s.reload(site)
	stored.get("/late")
	var keys int
	eventually(t, "what was changed late to be stored", func() bool {
		var version int
		err := s.table().db.QueryRow("SELECT max(version), count(DISTINCT hex(substr(data,2,4))) FROM sessions").Scan(&version, &keys)
		return err == nil && version == 2
	})
	if keys != 1 {
		t.Error("what was changed late is sealed with another key than its token's")
	}
	s.names["TRACK"] = "on"
	s.reload(site)
	if moved := read.get("/").cookie(t).Value; moved[:5] == token[:5] {
		t.Error("the use of a session was stored, and its token stays under the old key")
	}

	s.names["KEYS"] = "{env.SESSION_TEST_SECOND}"
	s.reload(site)
	read.get("/").want(t, http.StatusOK, "alice")
}

// A token is replaced while a slow request with the older one is under way.
const slowRotatingSite = `
$SITE {
	session {
		renew_interval 1ms
		lifetime 1h
		remember_lifetime 48h
		persist off
	}
	handle /login {
		session_edit put user alice
	}
	handle /renew {
		route {
			session_edit {
				put role admin
				renew
			}
			in_go $WAIT
		}
	}
	handle /remember {
		route {
			session_edit remember on
			in_go $WAIT
		}
	}
	handle /late {
		in_go $LATE
	}
	handle /slow {
		in_go $READ
	}
	handle /slow-put {
		route {
			in_go $READ
			session_edit put role late
		}
	}
	handle /error {
		route {
			in_go $READ
			error 404
		}
	}
	handle_errors {
		session {
			renew_interval 1ms
		}
		session_edit remember on
		respond "{http.session.data.user} {http.session.data.role}"
	}
	handle /promote {
		session_edit renew
	}
	handle {
		respond "{http.session.data.user} {http.session.data.role}"
	}
}
$SITE2 {
	session
	session_edit /visit increment visits
	session_edit /remember remember on
	respond "{http.session.data.user} {http.session.data.role}"
}`

func TestRotation_meanwhileIsInTheWayOfNothing(t *testing.T) {
	withSecrets(t)
	for name, sites := range map[string]string{
		"plain":  slowRotatingSite,
		"sealed": "{\n\tsession {\n\t\tkeys {env.SESSION_TEST_FIRST}\n\t}\n}\n" + strings.TrimSpace(slowRotatingSite),
	} {
		t.Run(name, func(t *testing.T) { testRotationMeanwhile(t, sites) })
	}
}

func testRotationMeanwhile(t *testing.T, sites string) {
	wait, waiting, goOn := newWait(t)
	read := inGo(t, func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
		caddysession.FromContext(r.Context()).Get("user")
		waiting <- struct{}{}
		<-goOn
		return next.ServeHTTP(w, r)
	})
	late := inGo(t, func(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
		session := caddysession.FromContext(r.Context())
		session.Get("user")
		w.WriteHeader(http.StatusOK)
		return session.Put("role", "late")
	})
	s := start(t, sites, "WAIT", wait, "READ", read, "LATE", late)
	h := holder{s.visitor().withoutJar(), "$SITE"}
	rotated := func(token string) (newer string) {
		eventually(t, "a new token", func() bool {
			if a := h.with(token, "/"); a.Header["Set-Cookie"] != nil {
				newer = a.cookie(t).Value
			}
			return newer != ""
		})
		return newer
	}
	during := func(token, path string, do func()) *answer {
		t.Helper()
		v := s.visitor()
		v.http.Jar.SetCookies(v.request(http.MethodGet, "/").URL, []*http.Cookie{{Name: "session", Value: token}})
		return s.whileWaiting(v, path, waiting, goOn, do)
	}

	left := func() (seconds float64) { // of the older token
		err := s.table().db.QueryRow("SELECT min(expiry-julianday('now'))*86400 FROM sessions WHERE alias<>''").Scan(&seconds)
		if err != nil {
			t.Fatal(err)
		}
		return seconds
	}
	onlyOne := func(t *testing.T) (token string) {
		token = h.with("", "/login").cookie(t).Value
		s.alter("DELETE FROM sessions WHERE rowid < (SELECT max(rowid) FROM sessions)")
		return token
	}
	for name, path := range map[string]string{"read": "$SITE2/", "stored": "$SITE2/visit", "replaced in turn": "$SITE/"} {
		t.Run("of a response that got lost, and is "+name, func(t *testing.T) {
			old := onlyOne(t)
			newer := rotated(old)
			for range 5 {
				h.with(old, "/").want(t, http.StatusOK, "alice ")
			}
			if left() < 1800 {
				t.Errorf("a token whose successor nobody has shown ends in %v seconds", left())
			}
			h.get(path, "Cookie", "session="+newer).want(t, http.StatusOK, "alice ")
			eventually(t, "the older token to end soon", func() bool { return left() < 60 })
		})
	}
	t.Run("of a response that got lost, and whose request changes something late", func(t *testing.T) {
		old := onlyOne(t)
		h.with(old, "/late").cookie(t)
		eventually(t, "what was changed late to be stored", func() bool { return h.with(old, "/").body == "alice late" })
		if left() < 1800 {
			t.Errorf("a token whose successor nobody has shown ends in %v seconds", left())
		}
	})
	if !strings.Contains(sites, "keys") { // there it is sealed when a token was replaced
		t.Run("of a client that keeps no cookie", func(t *testing.T) {
			old := onlyOne(t)
			rotated(old)
			for range 16 { // a visit each minute
				s.alter(`UPDATE sessions SET superseded=superseded-1.0/1440;
					UPDATE sessions SET data=CAST(json_set(CAST(data AS TEXT),'$.values.__rotated',json_extract(CAST(data AS TEXT),'$.values.__rotated')-60) AS BLOB) WHERE alias=''`)
				h.with(old, "/").want(t, http.StatusOK, "alice ")
			}
			var n int
			err := s.table().db.QueryRow("SELECT count(*) FROM sessions WHERE alias<>''").Scan(&n)
			if err != nil || n < 2 || n > 8 {
				t.Errorf("a client that shows the same token for a quarter of an hour leaves %d older ones in the store (%v)", n, err)
			}
		})
	}
	t.Run("of a cookie that is given out anew", func(t *testing.T) {
		old := h.with("", "/login").cookie(t).Value
		newer := rotated(old) // the browser may have shown it by now, so that the older one ends
		c := h.get("$SITE2/remember", "Cookie", "session="+old).cookie(t)
		if c.Value == old {
			t.Errorf("an older token takes the place of the newest in the browser: %v", c)
		}
		for _, token := range []string{old, newer, c.Value} {
			h.with(token, "/").want(t, http.StatusOK, "alice ")
		}
	})
	t.Run("of a session that another request marks", func(t *testing.T) {
		old := h.with("", "/login").cookie(t).Value
		a := during(old, "/slow", func() { h.get("$SITE2/remember", "Cookie", "session="+old).cookie(t) })
		if c := a.cookie(t); c.MaxAge < 29*86400 {
			t.Errorf("the cookie of a session that is to be remembered is %v", c)
		}
	})
	t.Run("many times", func(t *testing.T) {
		old := h.with("", "/login").cookie(t).Value
		newest := old
		during(old, "/slow-put", func() {
			for range 10 { // more than a sealed session knows of
				newest = rotated(newest)
			}
		})
		h.with(newest, "/").want(t, http.StatusOK, "alice late")
	})
	t.Run("of a renewal", func(t *testing.T) {
		old := h.with("", "/login").cookie(t).Value
		var newer string
		a := during(old, "/renew", func() { newer = rotated(old) })
		h.with(a.cookie(t).Value, "/").want(t, http.StatusOK, "alice admin")
		for _, token := range []string{old, newer} {
			h.with(token, "/").want(t, http.StatusOK, "alice ")
		}
		if strings.Contains(sites, "keys") { // then the database does not decide what is a way in
			s.alter("UPDATE sessions SET alias=(SELECT max(token) FROM sessions s WHERE s.superseded IS NULL AND s.id=sessions.id),data=x'',expiry=9e6 WHERE superseded IS NOT NULL")
			for _, token := range []string{old, newer} {
				if body := h.with(token, "/").body; body == "alice admin" {
					t.Error("a token from before the renewal leads to what came after it")
				}
			}
		}
	})
	t.Run("of a cookie that outlives the browser", func(t *testing.T) {
		old := h.with("", "/login").cookie(t).Value
		var newer string
		a := during(old, "/remember", func() { newer = rotated(old) })
		if c := a.cookie(t); c.MaxAge < 47*3600 {
			t.Errorf("the cookie is %v", c)
		}
		for _, token := range []string{old, newer, a.cookie(t).Value} {
			h.with(token, "/").want(t, http.StatusOK, "alice ")
		}
	})
	t.Run("of a cookie that an error route gives", func(t *testing.T) {
		old := h.with("", "/login").cookie(t).Value
		a := during(old, "/error", func() { rotated(old) })
		a.want(t, http.StatusNotFound, "alice ")
		h.with(a.cookie(t).Value, "/").want(t, http.StatusOK, "alice ")
	})
	t.Run("and a renewal meanwhile ends a token for good", func(t *testing.T) {
		old := h.with("", "/login").cookie(t).Value
		all, err := s.table().current()
		if err != nil {
			t.Fatal(err)
		}
		before := len(all)
		a := during(old, "/error", func() { h.with(old, "/promote").cookie(t) })
		if a.Header["Set-Cookie"] != nil {
			t.Errorf("the token from before a renewal is replaced by %q", a.Header["Set-Cookie"])
		}
		if now, err := s.table().current(); err != nil || len(now) != before {
			t.Errorf("there are %d sessions, before %d (%v)", len(now), before, err)
		}
	})
}

// A token that took no effect, for another request had replaced the older one first,
// is given to nobody: it leads nowhere.
func TestRotation_thatWasInVainIsMadeUpFor(t *testing.T) {
	waiting, goOn := make(chan struct{}), make(chan struct{})
	read := inGo(t, func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
		caddysession.FromContext(r.Context()).Get("user")
		waiting <- struct{}{}
		<-goOn
		return next.ServeHTTP(w, r)
	})
	s := start(t, `
$SITE {
	session {
		renew_interval 1h
	}
	session_edit /login put user alice
	handle /error {
		route {
			in_go $READ
			error 404
		}
	}
	respond "{http.session.data.user}"
	handle_errors {
		session
		session_edit remember on
		respond "{http.session.data.user}"
	}
}
$SITE2 {
	session
	respond "{http.session.created}"
}`, "READ", read)
	v := s.visitor()
	cookies := v.get("/login").Cookies()
	created := v.get("$SITE2/").body
	long := fmt.Sprintf(`"__created":%d`, time.Now().Add(-2*time.Hour).Unix())
	s.alter("UPDATE sessions SET data=CAST(? AS BLOB)", regexp.MustCompile(`"__created":\d+`).ReplaceAllString(s.table().only().data, long))
	eventually(t, "that to be read", func() bool { return v.get("$SITE2/").body != created })
	slow := s.visitor()
	slow.http.Jar.SetCookies(slow.request(http.MethodGet, "/").URL, cookies)
	s.whileWaiting(slow, "/error", waiting, goOn, func() {
		eventually(t, "a new token", func() bool { return v.get("/").Header["Set-Cookie"] != nil })
	}).cookie(t)
	slow.get("/").want(t, http.StatusOK, "alice")
}

// Neither a session that has just begun gets a new token at the next visit, nor one that
// has just been given one, however long it has lasted.
func TestRotation_isOneInAnInterval(t *testing.T) {
	s := scsSite(t, map[string]http.HandlerFunc{
		"/begin": func(_ http.ResponseWriter, r *http.Request) {
			m := caddysession.FromContext(r.Context()).Manager()
			m.Put(r.Context(), "user", "alice")
			m.Put(r.Context(), "__created", 1_000_000_000) // as long ago as a test does not take
		},
		"/read": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, caddysession.FromContext(r.Context()).Get("user"))
		},
		"/begin-now": storing("user", "alice"),
	}, "renew_interval 1h")
	v, fresh := s.visitor(), s.visitor()
	fresh.get("/begin-now").cookie(t)
	v.get("/begin").cookie(t)
	// A slow store is asked for one again a while later.
	eventually(t, "a new token", func() bool { return v.get("/read").Header["Set-Cookie"] != nil })
	for _, v := range []*visitor{fresh, v, v} {
		if a := v.get("/read"); a.body != "alice" || a.Header["Set-Cookie"] != nil {
			t.Errorf("under a new token: %q, cookies %q", a.body, a.Header["Set-Cookie"])
		}
	}
}
