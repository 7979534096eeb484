package caddysession_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/chromedp/chromedp"

	caddysession "github.com/caddy-session/caddy-session"
)

const devicesSite = `
$SITE {
	session {
		principal user
	}
	handle /login {
		session_edit {
			renew
			put user {query.user}
		}
		in_go $TRACK
		respond {http.session.id}
	}
	handle /who {
		respond {http.session.data.user}
	}
	handle /cart {
		session_edit put cart book
		respond {http.session.id}
	}
	handle_path /account/* {
		session_devices /sessions
		header /policy Content-Security-Policy "form-action 'self'"
		session_devices /policy
		respond "something else"
	}
	handle_errors {
		respond "{err.status_code}"
	}
}
$SITE2 {
	session {
		embedded $DIR/second.db
	}
	session_edit put user {query.user}
	session_devices
}
$SITE3 {
	session_devices
}`

// tracked keeps what `track` does, from the request's own headers.
func tracked(t testing.TB) string {
	return inGo(t, func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
		session := caddysession.FromContext(r.Context())
		for key, value := range map[string]any{"__used": 1795566461, "__address": "2001:db8::1", "__agent": r.UserAgent()} {
			session.Manager().Put(r.Context(), key, value)
		}
		return next.ServeHTTP(w, r)
	})
}

// shownDevices is the JSON of session_devices.
type shownDevices struct {
	Sessions []struct {
		ID        string `json:"id"`
		Current   bool   `json:"current"`
		Created   string `json:"created"`
		Used      string `json:"used"`
		Address   string `json:"address"`
		UserAgent string `json:"user_agent"`
		Expires   string `json:"expires"`
	} `json:"sessions"`
	More      int    `json:"more"`
	CSRFToken string `json:"csrf_token"`
}

func (d shownDevices) ids() (ids []string) {
	for _, s := range d.Sessions {
		ids = append(ids, s.ID)
	}
	return ids
}

func (v *visitor) devices() (shown shownDevices) {
	v.t.Helper()
	a := v.get("/account/sessions", "Accept", "application/json")
	if a.StatusCode != http.StatusOK || a.Header.Get("Content-Type") != "application/json" {
		v.t.Fatalf("the sessions are %d %s %q", a.StatusCode, a.Header.Get("Content-Type"), a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &shown); err != nil {
		v.t.Fatal(err)
	}
	return shown
}

// multipartForm is a form as browsers send FormData, and its type.
func multipartForm(t testing.TB, form url.Values) (body []byte, kind string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for name, values := range form {
		if err := w.WriteField(name, values[0]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), w.FormDataContentType()
}

func TestDevices_showsAndEndsOnesOwnSessions(t *testing.T) {
	s := start(t, devicesSite, "TRACK", tracked(t))
	login := func(user, agent string) (*visitor, string) {
		v := s.visitor()
		return v, v.get("/login?user="+user, "User-Agent", agent).body
	}
	laptop, laptopID := login("alice", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
	phone, phoneID := login("alice", "<script>alert(1)</script>")
	tablet, tabletID := login("alice", "")
	mallory, malloryID := login("mallory", "curl/8")

	t.Run("JSON", func(t *testing.T) {
		shown := laptop.devices()
		if got := shown.ids(); len(got) != 3 || got[0] != laptopID || !slices.Contains(got, phoneID) || !slices.Contains(got, tabletID) {
			t.Fatalf("the sessions are %v, want %s first, then %s and %s", got, laptopID, phoneID, tabletID)
		}
		own := shown.Sessions[0]
		if !own.Current || shown.Sessions[1].Current || own.Used != "2026-11-25T00:27:41Z" || own.Address != "2001:db8::1" ||
			!strings.Contains(own.UserAgent, "Firefox") || own.Created == "" || own.Expires == "" || shown.CSRFToken == "" {
			t.Errorf("the session is %+v", own)
		}
	})
	t.Run("page", func(t *testing.T) {
		a := laptop.get("/account/sessions", "Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
		for _, want := range []string{"Firefox on Linux", "(this session)", phoneID, "&lt;script&gt;", `datetime="2026-11-25T00:27:41Z"`} {
			if !strings.Contains(a.body, want) {
				t.Errorf("the page lacks %s:\n%s", want, a.body)
			}
		}
		if strings.Contains(a.body, "<script") || strings.Contains(a.body, malloryID) {
			t.Errorf("the page has what it must not have:\n%s", a.body)
		}
		if policy := a.Header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'") {
			t.Errorf("the policy is %q", policy)
		}
		if control := a.Header.Get("Cache-Control"); !strings.Contains(control, "no-store") {
			t.Errorf("Cache-Control is %q", control)
		}
		if vary := a.Header["Vary"]; !slices.Contains(vary, "Cookie") || !slices.Contains(vary, "Accept") {
			t.Errorf("Vary is %q", vary)
		}
		// A site's own policy may say nothing of frames.
		if a := laptop.get("/account/policy", "Accept", "text/html"); a.Header.Get("X-Frame-Options") != "DENY" || a.Header.Get("Content-Security-Policy") != "form-action 'self'" {
			t.Errorf("another site can have the page in a frame: %v", a.Header)
		}
	})
	t.Run("other paths go on", func(t *testing.T) {
		laptop.get("/account/other").want(t, http.StatusOK, "something else")
	})

	t.Run("a form that a script sends", func(t *testing.T) {
		own, _ := login("carol", "")
		other, id := login("carol", "")
		body, kind := multipartForm(t, url.Values{"end": {id}, "csrf_token": {own.devices().CSRFToken}})
		if a := own.postBody("/account/sessions", kind, body); a.StatusCode != http.StatusSeeOther {
			t.Errorf("ending one is answered %d", a.StatusCode)
		}
		other.get("/who").want(t, http.StatusOK, "")
		own.get("/who").want(t, http.StatusOK, "carol")
	})

	token := mallory.devices().CSRFToken
	for name, test := range map[string]struct {
		send   func() *answer
		status int
	}{
		"somebody else's": {func() *answer {
			return mallory.submit("/account/sessions", url.Values{"end": {laptopID}, "csrf_token": {token}})
		}, http.StatusNotFound},
		"somebody else's, DELETE": {func() *answer {
			return mallory.do(http.MethodDelete, "/account/sessions?id="+laptopID, "X-CSRF-Token", token)
		}, http.StatusNotFound},
		"somebody else's, on a page": {func() *answer {
			return mallory.submit("/account/sessions", url.Values{"end": {laptopID}, "csrf_token": {token}}, "Accept", "text/html,*/*;q=0.8")
		}, http.StatusSeeOther},
		"one that is not there": {func() *answer {
			return mallory.submit("/account/sessions", url.Values{"end": {"none"}, "csrf_token": {token}})
		}, http.StatusNotFound},
		"without a token": {func() *answer { return laptop.submit("/account/sessions", url.Values{"end": {"others"}}) }, http.StatusForbidden},
		"another's token": {func() *answer {
			return laptop.submit("/account/sessions", url.Values{"end": {"others"}, "csrf_token": {token}})
		}, http.StatusForbidden},
		"a token in the address": {func() *answer {
			return laptop.do(http.MethodDelete, "/account/sessions?id="+phoneID+"&csrf_token="+url.QueryEscape(laptop.devices().CSRFToken))
		}, http.StatusForbidden},
		"from another site": {func() *answer {
			return laptop.submit("/account/sessions", url.Values{"end": {"others"}, "csrf_token": {laptop.devices().CSRFToken}}, "Origin", "https://evil.example")
		}, http.StatusForbidden},
		"nothing": {func() *answer {
			return laptop.submit("/account/sessions", url.Values{"csrf_token": {laptop.devices().CSRFToken}})
		}, http.StatusBadRequest},
		"too long": {func() *answer {
			return laptop.submit("/account/sessions", url.Values{"end": {strings.Repeat("x", 1<<20)}})
		}, http.StatusBadRequest},
		"another method": {func() *answer { return laptop.do(http.MethodPut, "/account/sessions") }, http.StatusMethodNotAllowed},
		"a guest":        {func() *answer { return s.visitor().get("/account/sessions") }, http.StatusUnauthorized},
		"a session without a user": {func() *answer {
			v := s.visitor()
			v.get("/cart")
			return v.get("/account/sessions")
		}, http.StatusUnauthorized},
		"without principal": {func() *answer { return s.visitor().get("$SITE2/?user=alice") }, http.StatusInternalServerError},
		"without a session": {func() *answer { return s.visitor().get("$SITE3/") }, http.StatusInternalServerError},
		"everybody's others": {func() *answer {
			return mallory.do(http.MethodDelete, "/account/sessions?id=others", "X-CSRF-Token", token)
		}, http.StatusSeeOther},
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			if a := test.send(); a.StatusCode != test.status {
				t.Errorf("the answer is %d %q, want %d", a.StatusCode, a.body, test.status)
			}
			for _, v := range []*visitor{laptop, phone, tablet} {
				v.get("/who").want(t, http.StatusOK, "alice")
			}
		})
	}

	a := laptop.submit("/account/sessions", url.Values{"end": {phoneID}, "csrf_token": {laptop.devices().CSRFToken}}, "X-CSRF-Token", "the application's own")
	if a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != "?" {
		t.Fatalf("ending one is answered %d to %q", a.StatusCode, a.Header.Get("Location"))
	}
	phone.get("/who").want(t, http.StatusOK, "")
	tablet.get("/who").want(t, http.StatusOK, "alice")

	third, thirdID := login("alice", "")
	a = laptop.do(http.MethodDelete, "/account/sessions?id="+thirdID, "X-CSRF-Token", laptop.devices().CSRFToken, "Accept", "application/json")
	a.want(t, http.StatusOK, `{"ended":"`+thirdID+`"}`+"\n")
	third.get("/who").want(t, http.StatusOK, "")

	laptop.submit("/account/sessions", url.Values{"end": {"others"}, "csrf_token": {laptop.devices().CSRFToken}})
	tablet.get("/who").want(t, http.StatusOK, "")
	laptop.get("/who").want(t, http.StatusOK, "alice")
	mallory.get("/who").want(t, http.StatusOK, "mallory")

	a = laptop.submit("/account/sessions", url.Values{"end": {laptopID}, "csrf_token": {laptop.devices().CSRFToken}})
	if c := a.cookie(t); a.StatusCode != http.StatusSeeOther || c.MaxAge >= 0 {
		t.Errorf("ending this one is answered %d with the cookie %v", a.StatusCode, c)
	}
	laptop.get("/account/sessions").want(t, http.StatusUnauthorized, "401")
}

// A page that was open during another login, as after a change of the password that
// it asks for, has a token that is no longer good: its buttons led to an empty page.
func TestDevices_aPageFromBeforeALoginIsShownAnew(t *testing.T) {
	s := start(t, devicesSite, "TRACK", tracked(t))
	other, v := s.visitor(), s.visitor()
	id := other.get("/login?user=alice").body
	v.get("/login?user=alice")
	stale := v.devices().CSRFToken
	v.get("/login?user=alice")
	press := func(token string, headers ...string) *answer {
		return v.submit("/account/sessions", url.Values{"end": {id}, "csrf_token": {token}}, headers...)
	}

	a := press(stale, "Accept", "text/html,*/*;q=0.8")
	other.get("/who").want(t, http.StatusOK, "alice")
	for _, want := range []string{"nothing was ended", "Your sessions", id} {
		if a.StatusCode != http.StatusForbidden || !strings.Contains(a.body, want) {
			t.Fatalf("the answer is %d and lacks %q: %s", a.StatusCode, want, a.body)
		}
	}
	_, after, _ := strings.Cut(a.body, `name="csrf_token" value="`)
	fresh, _, _ := strings.Cut(after, `"`)
	if a := press(fresh, "Accept", "text/html,*/*;q=0.8"); a.StatusCode != http.StatusSeeOther {
		t.Errorf("pressed again on that page it is answered %d", a.StatusCode)
	}
	other.get("/who").want(t, http.StatusOK, "")
	press(stale, "Accept", "application/json").want(t, http.StatusForbidden, "403")
	if page := v.get("/account/sessions", "Accept", "text/html").body; strings.Contains(page, "nothing was ended") {
		t.Error("the page says so without a reason")
	}
}

// Who knew a session before a renewal, as after a change of the password, must end
// none of the user's in the seconds that its older token can still be read.
func TestDevices_anOlderTokenEndsNothing(t *testing.T) {
	s := start(t, devicesSite, "TRACK", tracked(t))
	other, v := s.visitor(), s.visitor().withoutJar()
	id := other.get("/login?user=alice").body
	old := "session=" + v.get("/login?user=alice").cookie(t).Value
	var shown shownDevices
	if err := json.Unmarshal([]byte(v.get("/account/sessions", "Cookie", old, "Accept", "application/json").body), &shown); err != nil {
		t.Fatal(err)
	}
	v.get("/login?user=alice", "Cookie", old)
	for _, end := range []string{id, "others"} {
		v.submit("/account/sessions", url.Values{"end": {end}, "csrf_token": {shown.CSRFToken}}, "Cookie", old).want(t, http.StatusForbidden, "403")
	}
	other.get("/who").want(t, http.StatusOK, "alice")
}

// Who signs in with every run of a script has thousands: the page of 20,000 had 14 MB.
// It shows the newest, says that there are more, and ends all of them.
func TestDevices_showTheNewestOfVeryMany(t *testing.T) {
	used := inGo(t, func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
		n, err := strconv.Atoi(r.URL.Query().Get("n"))
		if err != nil {
			return err
		}
		caddysession.FromContext(r.Context()).Manager().Put(r.Context(), "__used", 1795566461+n)
		return next.ServeHTTP(w, r)
	})
	s := start(t, devicesSite, "TRACK", used)
	v, script := s.visitor(), s.visitor().withoutJar()
	newest := []string{v.get("/login?user=alice&n=0").body}
	for n := range 130 {
		id := script.get(fmt.Sprintf("/login?user=alice&n=%d", 130-n)).body
		newest = append(newest, id)
	}
	shown := v.devices()
	if got := shown.ids(); !slices.Equal(got, newest[:100]) || !shown.Sessions[0].Current || shown.More != 31 {
		t.Errorf("of 131 sessions %d are shown and %d are more; the newest 100 first: %v", len(got), shown.More, slices.Equal(got, newest[:100]))
	}
	page := v.get("/account/sessions", "Accept", "text/html").body
	if n := strings.Count(page, "<li"); n != 100 || !strings.Contains(page, "older sessions that are not shown: 31") {
		t.Errorf("the page has %d sessions, and does not say that 31 are not there", n)
	}
	oldest := newest[130]
	if a := v.do(http.MethodDelete, "/account/sessions?id="+oldest, "X-CSRF-Token", shown.CSRFToken); a.StatusCode != http.StatusSeeOther {
		t.Errorf("to end one that is not shown is answered %d", a.StatusCode)
	}
	s.table().wantRows(130)
	v.submit("/account/sessions", url.Values{"end": {"others"}, "csrf_token": {shown.CSRFToken}})
	s.table().wantRows(1)
	if shown = v.devices(); len(shown.Sessions) != 1 || shown.More != 0 {
		t.Errorf("once the others have ended %d are shown and %d are more", len(shown.Sessions), shown.More)
	}
}

// Of who has more than can be read in time the page comes all the same, with the
// session at hand on it, which is the oldest; and all the others can be ended.
func TestDevices_comeForWhoHasMoreThanCanBeRead(t *testing.T) {
	const many = 12_000
	s := start(t, devicesSite, "TRACK", inGo(t, func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
		return next.ServeHTTP(w, r)
	}))
	v := s.visitor()
	id := v.get("/login?user=alice").body
	s.alter(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<?1)
INSERT INTO sessions(token,data,expiry,id,version,writes,principal,rights)
SELECT hex(randomblob(32)),data,expiry,hex(randomblob(8)),version,writes,principal,rights FROM sessions, n`, many)

	var shown shownDevices
	eventually(t, "the sessions to be listed", func() bool { // a page of rows takes a busy machine a while
		a := v.get("/account/sessions", "Accept", "application/json")
		return a.StatusCode == http.StatusOK && json.Unmarshal([]byte(a.body), &shown) == nil
	})
	if got := shown.ids(); len(got) != 100 || got[0] != id || !shown.Sessions[0].Current || shown.More < 1 || shown.More > 10_000 {
		t.Errorf("of %d sessions %d are shown and %d are more, want 100, the one at hand first, and no more than are read", many+1, len(got), shown.More)
	}
	eventually(t, "the page to say that there may be more than it counts", func() bool {
		return strings.Contains(v.get("/account/sessions", "Accept", "text/html").body, "not shown: at least ")
	})
	table := s.table()
	within(t, 2*time.Minute, "the others to be ended", func() bool { // on a slow machine it takes more than one press
		v.submit("/account/sessions", url.Values{"end": {"others"}, "csrf_token": {shown.CSRFToken}})
		return table.count() == 1
	})
	v.get("/who").want(t, http.StatusOK, "alice")
}

// Applications write false, 0 or an empty array for nobody, too: whom such a
// value names is nobody, or visitors would see and end each other's sessions.
func TestDevices_ofNobody(t *testing.T) {
	s := start(t, `
$SITE {
	session {
		principal user
	}
	handle /put {
		in_go $CODE
	}
	handle {
		session_devices
	}
}`, "CODE", puts(t))
	for _, nobody := range []string{`{"user":false}`, `{"user":0}`, `{"user":[]}`, `{"user":{}}`} {
		one, other := s.visitor(), s.visitor()
		one.put(nobody)
		other.put(nobody)
		if a := one.get("/", "Accept", "application/json"); a.StatusCode != http.StatusUnauthorized {
			t.Errorf("to %s it answers %d %s", nobody, a.StatusCode, a.body)
		}
	}
}

// Where the site's forms have a field of another name for the token, so has the page.
func TestDevices_worksBehindSessionCSRF(t *testing.T) {
	s := start(t, `
$SITE {
	session {
		principal user
	}
	handle /login {
		session_edit put user alice
		respond {http.session.id}
	}
	handle /account/sessions {
		session_csrf _token
		session_devices
	}
}`)
	other, v := s.visitor(), s.visitor()
	id := other.get("/login").body
	v.get("/login")
	page := v.get("/account/sessions").body
	if !strings.Contains(page, `name="_token"`) || strings.Contains(page, `name="csrf_token"`) {
		t.Errorf("the page's forms are %s", page)
	}
	token := v.devices().CSRFToken
	if a := v.submit("/account/sessions", url.Values{"end": {id}, "_token": {token}}); a.StatusCode != http.StatusSeeOther {
		t.Errorf("ending a session is answered by %d", a.StatusCode)
	}
	s.table().wantRows(1)
}

func TestDevices_worksOnSealedSessions(t *testing.T) {
	const old, newer = "an old secret that is long enough to be one", "a new secret that is long enough to be one"
	withKeys := func(secrets string) string {
		return strings.Replace(devicesSite, "principal user", "principal user\n\t\tkeys "+secrets, 1)
	}
	s := start(t, withKeys("`"+old+"`"), "TRACK", tracked(t))
	laptop, phone, mallory := s.visitor(), s.visitor(), s.visitor()
	laptop.get("/login?user=alice")
	mallory.get("/login?user=mallory")
	if err := s.load(withKeys("`" + newer + "` `" + old + "`")); err != nil {
		t.Fatal(err)
	}
	phoneID := phone.get("/login?user=alice").body
	shown := laptop.devices()
	if len(shown.Sessions) != 2 || !slices.Contains(shown.ids(), phoneID) {
		t.Fatalf("the sessions under two keys are %+v", shown)
	}
	if a := mallory.submit("/account/sessions", url.Values{"end": {phoneID}, "csrf_token": {mallory.devices().CSRFToken}}); a.StatusCode != http.StatusNotFound {
		t.Errorf("ending another's session is answered %d", a.StatusCode)
	}
	laptop.submit("/account/sessions", url.Values{"end": {phoneID}, "csrf_token": {shown.CSRFToken}})
	phone.get("/who").want(t, http.StatusOK, "")
	laptop.get("/who").want(t, http.StatusOK, "alice")
}

func TestDevices_whileTheStoreIsDown(t *testing.T) {
	store := newStandIn(t)
	s := start(t, strings.Replace(devicesSite, "principal user", "principal user\n\t\trqlite $STORE {\n\t\t\ttimeout 300ms\n\t\t}\n\t\tcache 1m", 1),
		"TRACK", tracked(t), "STORE", store.URL)
	v := s.visitor()
	id := v.get("/login?user=alice").body
	shown := v.devices()
	store.fails()
	unavailable := func(what string, a *answer) {
		t.Helper()
		if a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" || len(a.Cookies()) > 0 {
			t.Errorf("%s is answered %d, Retry-After %q, cookies %v", what, a.StatusCode, a.Header.Get("Retry-After"), a.Cookies())
		}
	}
	end := func(what string) *answer {
		return v.submit("/account/sessions", url.Values{"end": {what}, "csrf_token": {shown.CSRFToken}})
	}
	unavailable("listing", v.get("/account/sessions"))
	unavailable("ending another", end("another"))
	unavailable("ending the others", end("others"))
	store.works()
	eventually(t, "the store to be back", func() bool { return v.get("/who").body == "alice" })
	store.fails()
	unavailable("ending its own", end(id)) // which may still be done when the store works again
}

// Whoever closes the page while the store is slow still ends what was to be ended,
// and nobody takes that for an outage.
func TestDevices_leavingThePageIsNoOutage(t *testing.T) {
	gone := make(chan struct{}, 1)
	noticed := inGo(t, func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
		stop := context.AfterFunc(r.Context(), func() { gone <- struct{}{} })
		defer stop()
		return next.ServeHTTP(w, r)
	})
	store := newStandIn(t)
	s := start(t, `
$SITE {
	session {
		principal user
		rqlite $STORE
		cache 1m
	}
	handle /login {
		session_edit put user alice
		respond {http.session.id}
	}
	handle /who {
		respond {http.session.data.user}
	}
	handle /account/* {
		route {
			in_go $NOTICED
			session_devices
		}
	}
}`, "STORE", store.URL, "NOTICED", noticed)
	v, other := s.visitor(), s.visitor()
	v.get("/login")
	id := other.get("/login").body
	token := v.devices().CSRFToken
	leave := func(r *http.Request) {
		t.Helper()
		arrived, gate := make(chan struct{}, 10), make(chan struct{})
		store.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
			arrived <- struct{}{}
			<-gate
			node.ServeHTTP(w, r)
		}))
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-arrived
			cancel()
			<-gone
			close(gate)
		}()
		if a, err := v.ask(r.WithContext(ctx)); err == nil {
			t.Errorf("the visitor is not gone: %d", a.StatusCode)
		}
		<-gate
		store.works()
	}
	leave(v.request(http.MethodGet, "/account/sessions"))
	leave(v.request(http.MethodDelete, "/account/sessions?id="+id, "X-CSRF-Token", token))
	eventually(t, "the other session to end", func() bool { return other.get("/who").body == "" })
	if strings.Contains(s.readLog(), "the session store is unavailable") {
		t.Error("the store is taken for unavailable")
	}
}

// That a list fails, or a look-up, is a read that failed: it says nothing of the writes.
func TestDevices_aListThatFailsIsNoFailureOfWrites(t *testing.T) {
	store := newStandIn(t)
	s := startWithAdmin(t, `
$SITE {
	session {
		principal user
		rqlite $STORE
		cache 1m
	}
	session_edit /login put user alice
	session_devices /account/sessions
	respond {http.session.data.user}
}`, "STORE", store.URL)
	v := s.visitor()
	v.get("/login")
	v.devices()
	for name, ask := range map[string]func() *answer{
		"the list":  func() *answer { return v.get("/account/sessions") },
		"a look-up": func() *answer { return s.visitor().get("/", "Cookie", "session="+unknownCookie()) },
	} {
		store.mode.Store(serveMode(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			_, _ = io.WriteString(w, `{"results":[{"error":"out of memory"}]}`)
		}))
		if a := ask(); a.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s is %d while the store fails", name, a.StatusCode)
		}
		store.works()
		if now := adminInto[stores](s, http.MethodGet, "/session/stores").Stores[0]; now.WritesFail != "" {
			t.Errorf("after %s writes are said to fail: %s", name, now.WritesFail)
		}
		s.visitor().get("/", "Cookie", "session="+unknownCookie()).want(t, http.StatusOK, "")
		s.logged("the session store is available")
	}
}

func TestDevices_leadsToNoOtherSite(t *testing.T) {
	s := start(t, `
$SITE {
	session {
		principal user
	}
	session_edit @login put user alice
	@login path /login
	session_devices
}`)
	v := s.visitor()
	var shown shownDevices
	if err := json.Unmarshal([]byte(v.get("/login", "Accept", "application/json").body), &shown); err == nil && shown.CSRFToken != "" {
		t.Log("the session is shown on the request that begins it")
	}
	if err := json.Unmarshal([]byte(v.get("/", "Accept", "application/json").body), &shown); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "//evil.example/x", "//evil.example", "/a/b:c", "/%2f%2fevil.example"} {
		a := v.submit(s.url("$SITE")+path, url.Values{"end": {"others"}, "csrf_token": {shown.CSRFToken}})
		to, err := a.Location()
		if err != nil {
			t.Fatal(err)
		}
		if to.Host != a.Request.URL.Host || to.EscapedPath() != path {
			t.Errorf("%s leads to %s (%d)", path, to, a.StatusCode)
		}
	}
}

// The page leads back to itself wherever a proxy in front of Caddy has put it.
func TestDevices_leadBackBehindAProxyThatStripsThePath(t *testing.T) {
	s := start(t, `
$SITE {
	handle /login {
		reverse_proxy $APP
	}
	handle_path /account/sessions* {
		reverse_proxy $APP
	}
}
http://$APP {
	session {
		principal user
	}
	session_edit /login put user alice
	session_devices /
}`, "APP", freeAddress(t))
	v := s.visitor()
	v.get("/login")
	for _, path := range []string{"/account/sessions", "/account/sessions/"} {
		var shown shownDevices
		if err := json.Unmarshal([]byte(v.get(path, "Accept", "application/json").body), &shown); err != nil {
			t.Fatal(err)
		}
		a := v.submit(path, url.Values{"end": {"others"}, "csrf_token": {shown.CSRFToken}})
		if to, err := a.Location(); err != nil || to.Path != path {
			t.Errorf("from %s it leads to %v (%v)", path, to, err)
		}
	}
}

func TestBrowser_devices(t *testing.T) {
	browser := startBrowser(t)
	s := start(t, strings.Replace(devicesSite, "$SITE {", "$TLS {", 1), "TRACK", tracked(t))
	s.visitor().handshake("$TLS/who")
	phone := s.visitor()
	phone.get("$TLS/login?user=alice", "User-Agent", "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Safari/604.1")
	another := s.visitor()
	another.get("$TLS/login?user=alice", "User-Agent", "curl/8")

	tab := &tab{t, browser, s.url("$TLS/login?user=alice")}
	tab.open()
	tab.site = s.url("$TLS/account/sessions")
	tab.open()
	tab.want("h1", "Your sessions")
	count := func(n string) {
		t.Helper()
		if got := tab.eval(`String(document.querySelectorAll("li").length)`); got != n {
			t.Fatalf("the page has %s sessions, want %s", got, n)
		}
	}
	count("3")
	tab.want("li:first-child h2", "Chrome on Linux (this session)")
	if style := tab.eval(`getComputedStyle(document.querySelector("ul")).listStyleType`); style != "none" {
		t.Error("the page's style is not applied: its policy refuses it")
	}
	if names := tab.eval(`[...document.querySelectorAll("button")].every(b => b.ariaLabel || b.textContent) + ""`); names != "true" {
		t.Error("a button has no name")
	}
	tab.do("turning to a phone's size", chromedp.EmulateViewport(320, 640))
	if below := tab.eval(`String(document.querySelector("li button").getBoundingClientRect().top > document.querySelector("li dl").getBoundingClientRect().bottom)`); below != "true" {
		t.Error("on a narrow screen the button takes the room of the text beside it")
	}
	if fits := tab.eval(`String(document.documentElement.scrollWidth <= innerWidth)`); fits != "true" {
		t.Error("the page is wider than a narrow screen")
	}
	stale := tab.another()
	stale.open()
	tab.click(`button[aria-label^="End the session: Safari on iPhone"]`)
	count("2")
	stale.click(`button[aria-label^="End the session: Safari on iPhone"]`) // as whoever presses it twice
	stale.want("h1", "Your sessions")
	phone.get("$TLS/who").want(t, http.StatusOK, "")
	another.get("$TLS/who").want(t, http.StatusOK, "alice")
	tab.click("#others")
	count("1")
	another.get("$TLS/who").want(t, http.StatusOK, "")
	tab.click(`button[aria-label="Sign out here"]`)
	if body := tab.eval("document.body.textContent"); body != "401" {
		t.Errorf("after signing out the page is %q", body)
	}
	if c := tab.cookies(); len(c) != 0 {
		t.Errorf("after signing out the browser has %d cookies", len(c))
	}
}

// The session has ended when the button was pressed, so the browser must show
// where that leads, be it another site.
func TestBrowser_devicesLeadToSignInElsewhere(t *testing.T) {
	browser := startBrowser(t)
	s := start(t, `
$TLS {
	session {
		principal user
	}
	handle /login {
		session_edit put user alice
		respond ok
	}
	handle {
		session_devices
	}
	handle_errors 401 {
		redir $TLS2/
	}
}
$TLS2 {
	header Content-Type text/html
	respond "<!doctype html><h1>Sign in</h1>"
}`)
	s.visitor().handshake("$TLS/")
	tab := &tab{t, browser, s.url("$TLS/login")}
	tab.open()
	tab.site = s.url("$TLS/")
	tab.open()
	tab.do("signing out", chromedp.Click(chromedp.CSS(`button[aria-label="Sign out here"]`)))
	eventually(t, "the page of the other site", func() bool {
		return tab.eval(`document.querySelector("h1")?.textContent ?? ""`) == "Sign in"
	})
	s.table().wantRows(0)
}
