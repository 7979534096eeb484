package caddysession_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	caddysession "github.com/caddy-session/caddy-session"
)

func limitSite(limit string) string {
	return `
$SITE {
	session {
		principal user
		max_per_principal ` + limit + `
		keys {env.SESSION_TEST_FIRST}
	}
	handle /login {
		session_edit put user {query.user}
		respond "in"
	}
	handle /out {
		session_edit destroy
	}
	handle /guest {
		session_edit put cart 1
	}
	handle {
		respond "user={http.session.data.user}"
	}
	handle_errors {
		respond "sorry: {err.status_code}"
	}
}`
}

func TestMaxPerPrincipal_theOldestGivesWay(t *testing.T) {
	withSecrets(t)
	s := start(t, limitSite("2"))
	first := s.visitor()
	first.get("/login?user=alice").want(t, http.StatusOK, "in")
	bob := s.visitor()
	bob.get("/login?user=bob").want(t, http.StatusOK, "in")
	began := time.Now().Unix()
	eventually(t, "the next second", func() bool { return time.Now().Unix() > began }) // `created` is in seconds
	second, third := s.visitor(), s.visitor()
	second.get("/login?user=alice").want(t, http.StatusOK, "in")
	third.get("/guest")
	third.get("/login?user=alice").want(t, http.StatusOK, "in")
	first.get("/").want(t, http.StatusOK, "user=")
	for name, v := range map[string]*visitor{"second": second, "third": third} {
		if body := v.get("/").body; body != "user=alice" {
			t.Errorf("the %s sees %s", name, body)
		}
	}
	bob.get("/").want(t, http.StatusOK, "user=bob")
	third.get("/login?user=alice").want(t, http.StatusOK, "in") // the same session again
	second.get("/").want(t, http.StatusOK, "user=alice")
}

// The error page of a login that was refused is that of who came, not of who was
// to be signed in.
func TestMaxPerPrincipal_theErrorPageNamesNobody(t *testing.T) {
	s := start(t, `
$SITE {
	session {
		principal user
		max_per_principal 1 reject
	}
	session_edit /guest put cart book
	session_edit /login put user alice
	handle_errors {
		@change header Change cart
		handle @change {
			session
			in_go $CHANGE
		}
		respond "user={http.session.data.user} cart={http.session.data.cart}"
	}
}`, "CHANGE", inGo(t, func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
		if err := caddysession.FromContext(r.Context()).Put("cart", "pen"); err == nil || !strings.Contains(err.Error(), "its error page changes nothing") {
			t.Errorf("an error page that changes the session is told %v", err)
		}
		return next.ServeHTTP(w, r)
	}))
	first, second, guest := s.visitor(), s.visitor(), s.visitor()
	first.get("/login").want(t, http.StatusOK, "")
	a := second.get("/login")
	a.want(t, http.StatusForbidden, "user= cart=")
	if vary := a.Header["Vary"]; !slices.Equal(vary, []string{"Cookie"}) {
		t.Errorf("the page that depends on the session varies by %q", vary)
	}
	guest.get("/guest").want(t, http.StatusOK, "")
	guest.get("/login").want(t, http.StatusForbidden, "user= cart=book")
	guest.get("/login", "Change", "cart").want(t, http.StatusForbidden, "user= cart=book")
}

// Logins that come together do not end each other: as many are left as fit.
func TestMaxPerPrincipal_parallelLoginsLeaveAsManyAsFit(t *testing.T) {
	withSecrets(t)
	const parallel, most = 10, 2
	s := start(t, limitSite(fmt.Sprint(most)))
	for round := range 20 {
		user := fmt.Sprint("user", round)
		visitors, logins := make([]*visitor, parallel), make(map[string]func() (*answer, error))
		for i := range visitors {
			visitors[i] = s.visitor()
			logins[fmt.Sprint(round, "/", i)] = func() (*answer, error) { return visitors[i].try(http.MethodGet, "/login?user="+user) }
		}
		together(t, logins, func(a *answer, t *testing.T) { a.want(t, http.StatusOK, "in") })
		left := 0
		for _, v := range visitors {
			if v.get("/").body == "user="+user {
				left++
			}
		}
		if left != most {
			t.Errorf("%d of %d sessions are left, want %d", left, parallel, most)
		}
	}
}

// Where it is not known whether there was room nobody is let in, and nothing of
// the login is left that would stand in the way of the next one.
func TestMaxPerPrincipal_rejectsWhatItCannotCount(t *testing.T) {
	withSecrets(t)
	store := newStandIn(t)
	s := start(t, strings.Replace(limitSite("1 reject"), "principal user", "principal user\n\t\trqlite "+store.URL, 1))
	for name, done := range map[string]bool{"not counted": false, "counted, and the reply got lost": true} {
		t.Run(name, func(t *testing.T) {
			store.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
				switch {
				case r.URL.Path != "/db/request":
					node.ServeHTTP(w, r)
					return
				case done:
					node.ServeHTTP(httptest.NewRecorder(), r)
				}
				panic(http.ErrAbortHandler)
			}))
			v := s.visitor()
			a := v.get("/login?user=" + url.QueryEscape(name))
			a.want(t, http.StatusServiceUnavailable, "sorry: 503")
			if a.Header["Set-Cookie"] != nil {
				t.Errorf("a login that failed sets %q", a.Header["Set-Cookie"])
			}
			eventually(t, "the session to be gone", func() bool { return openTable(t, store.file).count() == 0 })
			store.works()
			v.get("/login?user="+url.QueryEscape(name)).want(t, http.StatusOK, "in")
			v.get("/").want(t, http.StatusOK, "user="+name)
			v.get("/out")
		})
	}
}

func TestMaxPerPrincipal_rejectsTheLogin(t *testing.T) {
	withSecrets(t)
	s := start(t, limitSite("1 reject"))
	first, second := s.visitor(), s.visitor()
	first.get("/login?user=alice").want(t, http.StatusOK, "in")
	second.get("/guest")
	a := second.get("/login?user=alice")
	a.want(t, http.StatusForbidden, "sorry: 403")
	if a.Header["Set-Cookie"] != nil {
		t.Errorf("a login that was rejected sets %q", a.Header["Set-Cookie"])
	}
	second.get("/").want(t, http.StatusOK, "user=")
	first.get("/").want(t, http.StatusOK, "user=alice")
	second.get("/login?user=bob").want(t, http.StatusOK, "in")
	s.table().wantRows(3) // with that of the guest in its grace
}

const loginSite = `
$SITE {
	session {
		rqlite $STORE
		principal user
		max_per_principal $MOST reject
	}
	handle /login {
		session_edit put user {query.user}
		respond "in"
	}
	handle /guest {
		session_edit put cart book
	}
}`

// A login that could not be stored for all anybody knows, and was, has a session
// that nobody has the cookie of: it takes no room from the user's next login.
func TestMaxPerPrincipal_aLoginWhoseStoringFailedTakesNoRoom(t *testing.T) {
	store := newStandIn(t)
	s := start(t, loginSite, "STORE", store.URL, "MOST", "1")
	s.visitor().get("/login?user=bob").want(t, http.StatusOK, "in") // now there is a table
	store.losesReplies(1000)
	s.visitor().get("/login?user=alice").want(t, http.StatusServiceUnavailable, "")
	store.works()
	alice := s.visitor()
	eventually(t, "a login", func() bool { return alice.get("/login?user=alice").StatusCode == http.StatusOK })
}

// Nor does the second press of the button, for which a session was begun beside the
// first one's before the store failed.
func TestMaxPerPrincipal_aSecondPressThatFailedTakesNoRoom(t *testing.T) {
	store := newStandIn(t)
	s := start(t, loginSite, "STORE", store.URL, "MOST", "2")
	guest := s.visitor().withoutJar()
	cookie := "session=" + guest.get("/guest").cookie(t).Value
	guest.get("/login?user=alice", "Cookie", cookie).want(t, http.StatusOK, "in")
	var begun atomic.Bool
	store.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
		if r.URL.Path == "/db/query" && begun.Load() {
			_, _ = io.WriteString(w, "<!doctype html>")
			return
		}
		begun.CompareAndSwap(false, r.URL.Path == "/db/execute")
		node.ServeHTTP(w, r)
	}))
	guest.get("/login?user=alice", "Cookie", cookie).want(t, http.StatusServiceUnavailable, "")
	store.works()
	other := s.visitor()
	eventually(t, "a login", func() bool { return other.get("/login?user=alice").StatusCode == http.StatusOK })
}

// A login is stored before the oldest session ends: where that fails it goes on all
// the same, and a later login makes up for it.
func TestMaxPerPrincipal_aLaterLoginMakesUpForWhatFailed(t *testing.T) {
	withSecrets(t)
	store := newStandIn(t)
	s := start(t, strings.Replace(limitSite("1"), "principal user", "principal user\n\t\trqlite "+store.URL, 1))
	first, second := s.visitor(), s.visitor()
	first.get("/login?user=alice").want(t, http.StatusOK, "in")
	store.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
		if r.URL.Path == "/db/request" { // which ends sessions
			_, _ = io.WriteString(w, `{"results":[{"error":"out of memory"}]}`)
			return
		}
		node.ServeHTTP(w, r)
	}))
	second.get("/login?user=alice").want(t, http.StatusOK, "in")
	s.logged("max_per_principal could not be enforced")
	first.get("/").want(t, http.StatusOK, "user=alice")
	second.get("/").want(t, http.StatusOK, "user=alice")
	store.works()
	eventually(t, "a login that leaves itself alone", func() bool {
		third := s.visitor()
		return third.get("/login?user=alice").StatusCode == http.StatusOK && third.get("/").body == "user=alice" &&
			first.get("/").body == "user=" && second.get("/").body == "user="
	})
}

// A limit that is new is one of logins: what is changed in a session ends none.
func TestMaxPerPrincipal_leavesWhoIsSignedIn(t *testing.T) {
	for _, policy := range []string{"oldest", "reject"} {
		t.Run(policy, func(t *testing.T) {
			const site = `
$SITE {
	session {
		principal user
		$LIMIT
	}
	session_edit /login put user alice
	session_edit /cart increment cart
	respond "{http.session.data.user} {http.session.data.cart}"
}`
			s := start(t, site, "LIMIT", "persist on")
			one, two := s.visitor(), s.visitor()
			one.get("/login").cookie(t)
			two.get("/login").cookie(t)
			s.names["LIMIT"] = "max_per_principal 1 " + policy
			s.reload(site)
			one.get("/cart").want(t, http.StatusOK, "alice 1")
			two.get("/cart").want(t, http.StatusOK, "alice 1")
			one.get("/cart").want(t, http.StatusOK, "alice 2")
		})
	}
}

// A program that signs in anew for each request leaves a user sessions without
// number. They are seen and ended all the same, and a limit that is set then holds.
func TestMaxPerPrincipal_holdsForWhoHasVeryMany(t *testing.T) {
	const many = 2000
	const site = `
$SITE {
	session {
		principal user
		$OPTION
	}
	session_edit /login put user alice
	session_devices /account/sessions
	respond "user={http.session.data.user}"
}`
	s := start(t, site, "OPTION", "lifetime 24h")
	v := s.visitor()
	v.get("/login").want(t, http.StatusOK, "user=alice")
	began := created(t, s.table().only().data)
	// Each began in a second of its own, and they were stored in another order.
	s.alter(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<?1)
INSERT INTO sessions(token,data,expiry,id,version,writes,principal,rights)
SELECT hex(randomblob(32)),CAST(json_set(CAST(data AS TEXT),'$.values.__created',?2-1-i*7919%?1) AS BLOB),
expiry,hex(randomblob(8)),version,writes,principal,rights FROM sessions, n`, many, began)

	var shown shownDevices
	eventually(t, "the sessions to be listed", func() bool {
		a := v.get("/account/sessions", "Accept", "application/json")
		return a.StatusCode == http.StatusOK && json.Unmarshal([]byte(a.body), &shown) == nil
	})
	if n := len(shown.Sessions) + shown.More; n <= 100 || n > many+1 { // how far they are counted is a question of time
		t.Errorf("%d sessions are listed or said to be more, want up to %d", n, many+1)
	}

	s.names["OPTION"] = "max_per_principal 5 reject"
	s.reload(site)
	s.visitor().get("/login").want(t, http.StatusForbidden, "")
	s.names["OPTION"] = "max_per_principal 5"
	s.reload(site)
	table, logins := s.table(), 0
	eventually(t, "the limit to hold", func() bool { // on a slow machine it takes more than one login
		newest := s.visitor()
		newest.get("/login").want(t, http.StatusOK, "user=alice")
		newest.get("/").want(t, http.StatusOK, "user=alice")
		logins++
		return table.count() == 5
	})
	var left, want []int
	rows, err := table.current()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		left = append(left, min(began, created(t, row.data))-began)
	}
	slices.Sort(left)
	for i := range 5 {
		want = append(want, min(0, logins-4+i)) // 0 is the first login's, and that of those since
	}
	if !slices.Equal(left, want) {
		t.Errorf("those are left that began %v s after the first login, want %v", left, want)
	}
}

// created is when the session of a row began, in Unix time.
func created(t *testing.T, data string) int {
	t.Helper()
	var session struct {
		Values struct {
			Created int `json:"__created"`
		} `json:"values"`
	}
	if err := json.Unmarshal([]byte(data), &session); err != nil || session.Values.Created == 0 {
		t.Fatalf("when did this session begin: %s (%v)", data, err)
	}
	return session.Values.Created
}
