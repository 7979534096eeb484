package caddysession_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func TestErrors_pageCarriesTheCookieOfWhatWasStored(t *testing.T) {
	s := start(t, `
$SITE {
	session
	session_edit put user alice
	handle /unreachable {
		reverse_proxy 127.0.0.1:1
	}
	handle /error {
		error 404
	}
	handle /code {
		in_go $FAIL
	}
	handle_errors {
		respond "page {err.status_code}"
	}
}
$SITE2 {
	session
	session_edit put user alice
	error 404
}`, "FAIL", inGo(t, func(http.ResponseWriter, *http.Request, caddyhttp.Handler) error {
		return caddyhttp.Error(http.StatusInternalServerError, errors.New("a bug"))
	}))
	for path, want := range map[string]struct {
		status int
		body   string
	}{
		"/unreachable": {502, "page 502"},
		"/error":       {404, "page 404"},
		"/code":        {500, "page 500"},
		"$SITE2/":      {404, ""},
	} {
		t.Run(path, func(t *testing.T) {
			a := s.visitor().get(path)
			a.want(t, want.status, want.body)
			a.cookie(t)
		})
	}
	s.table().wantRows(4)
}

// What an error route changes is stored, whatever was before it.
func TestErrors_routeChangesTheSession(t *testing.T) {
	s := start(t, `
{
	session {
		principal user
	}
}
$SITE {
	session
	session_edit /login put user alice
	session_edit /change increment n
	error /change 404
	@renew {
		path /renew
		session user
	}
	error @renew 404
	respond "{http.session.data.user}"
	handle_errors {
		session
		session_edit /change destroy_others
		session_edit /renew renew
		respond "alone"
	}
}`)
	one, two := s.visitor(), s.visitor()
	for _, v := range []*visitor{one, two} {
		v.get("/login").want(t, http.StatusOK, "alice")
	}
	one.get("/change").want(t, http.StatusNotFound, "alone")
	one.get("/").want(t, http.StatusOK, "alice")
	two.get("/").want(t, http.StatusOK, "")
	one.get("/renew").cookie(t)
	one.get("/").want(t, http.StatusOK, "alice")
}

func TestErrors_pageSeesTheSession(t *testing.T) {
	s := start(t, `
$SITE {
	session
	session_edit /login put user alice
	error 404
	handle_errors {
		respond "user {http.session.data.user} is lost"
	}
}
$SITE2 {
	session
	error 404
	handle_errors {
		session
		@member session user
		respond @member "{http.session.data.user} is lost"
		respond "guest is lost"
	}
}
$SITE3 {
	session
	error 404
	handle_errors {
		respond "lost"
	}
}`)
	v := s.visitor()
	page := func(path, body string) {
		t.Helper()
		a := v.get(path)
		a.want(t, http.StatusNotFound, body)
		if vary := a.Header["Vary"]; !slices.Equal(vary, []string{"Cookie"}) {
			t.Errorf("%s: the page that depends on the session varies by %q", path, vary)
		}
	}
	page("/", "user  is lost")
	page("$SITE2/", "guest is lost")
	page("/login", "user alice is lost")
	page("/", "user alice is lost")
	page("$SITE2/", "alice is lost")
	v.get("$SITE3/").wantUntouched(t)
}

func TestErrors_editNeedsASession(t *testing.T) {
	s := start(t, `
$SITE {
	session
	handle /put {
		session_edit put user alice
		respond "put"
	}
	handle /bare* {
		error 404
	}
	handle {
		error 410
	}
	handle_errors 404 {
		handle /bare-edit {
			session_edit put lost yes
		}
		handle /bare-match {
			@member session user
			respond @member "member"
		}
		respond "page"
	}
	handle_errors 410 {
		session
		session_edit increment lost
		respond "lost {http.session.data.lost}, user {http.session.data.user}"
	}
}
$SITE2 {
	handle /edit {
		session_edit put user alice
		respond "edited"
	}
	handle /match {
		@member session user
		respond @member "member"
		respond "guest"
	}
	handle /auth {
		session_auth user
		respond "in"
	}
}`)
	// Caddy answers an error of an error page with the status of the first error, and logs both.
	for path, what := range map[string]string{"/bare-edit": "session_edit", "/bare-match": "session matcher"} {
		t.Run("handle_errors without session "+path, func(t *testing.T) {
			a := s.visitor().get(path)
			a.want(t, http.StatusNotFound, "")
			if a.Header["Set-Cookie"] != nil {
				t.Errorf("a cookie is set: %v", a.Header["Set-Cookie"])
			}
			s.logged(noSession(what))
			s.table().wantRows(0)
		})
	}
	t.Run("handle_errors with session", func(t *testing.T) {
		v := s.visitor()
		v.get("/put")
		v.get("/gone").want(t, http.StatusGone, "lost 1, user alice")
		v.get("/gone").want(t, http.StatusGone, "lost 2, user alice")
		s.table().wantRows(1)
	})
	for _, path := range []string{"/edit", "/match", "/auth"} {
		t.Run("no session at all "+path, func(t *testing.T) {
			if a := s.visitor().get("$SITE2" + path); a.StatusCode != http.StatusInternalServerError || a.body != "" {
				t.Errorf("got %d %q, want 500", a.StatusCode, a.body)
			}
		})
	}
}

// What could not be stored is nobody's: the application that makes the error page
// learns of who came, and of nobody where its route has no `session`.
func TestErrors_ofTheSessionItselfHaveAPage(t *testing.T) {
	app := newApplication(t, nil)
	s := start(t, `
{
	session {
		principal user
		max_per_principal 1 reject
		max_size 1KiB
	}
}
(site) {
	session {
		upstream {
			send *
		}
	}
	session_edit /guest put cart book
	session_edit /login put user alice
	session_edit /fill put cart {http.request.header.X-Cart}
	handle /inner/* {
		session {
			upstream {
				header user X-User
			}
		}
		session_edit /inner/login put user alice
	}
	handle_errors {
		{block}
	}
}
$SITE {
	import site {
		reverse_proxy $APP
	}
}
$SITE2 {
	import site {
		session {
			upstream {
				send *
				header user X-User
				accept
			}
		}
		session_edit put user alice
		reverse_proxy $APP
	}
}
$SITE3 {
	import site {
		session
		session_edit {
			renew
			put user lost
		}
		@member session user
		respond @member "member {err.status_code}"
		@cart session cart book
		respond @cart "book {err.status_code} {http.session.data.user}"
		respond "page {err.status_code} {http.session.data.user}{http.session.id}"
	}
}`, "APP", app.address())
	s.visitor().get("/login").want(t, http.StatusOK, "")
	large := []string{"X-Cart", strings.Repeat("a", 2000)}
	for path, headers := range map[string][]string{"/login": nil, "/inner/login": nil, "/fill": large} {
		t.Run(path, func(t *testing.T) {
			wantSent := func(data string) {
				t.Helper()
				header := app.last(t).Header
				if got := header.Get("Session-Data"); got != data || (header.Get("Session-Id") != "") != (data != "") || header["X-User"] != nil {
					t.Errorf("the application is sent the data %q, the id %q and the user %q, want the data %q", got, header["Session-Id"], header["X-User"], data)
				}
			}
			v := s.visitor()
			v.get("/guest")
			v.get(path, headers...).want(t, http.StatusOK, "app") // the status is the error page's own
			wantSent("")
			v.get("$SITE2"+path, headers...).want(t, http.StatusOK, "app")
			wantSent(`{"cart":"book"}`)
			s.visitor().get("$SITE2"+path, headers...).want(t, http.StatusOK, "app")
			wantSent("")
			status := http.StatusForbidden
			if headers != nil {
				status = http.StatusInternalServerError
			}
			v.get("$SITE3"+path, headers...).want(t, status, fmt.Sprintf("book %d ", status))
			s.visitor().get("$SITE3"+path, headers...).want(t, status, fmt.Sprintf("page %d ", status))
		})
	}
	rows, err := s.table().current()
	if err != nil || len(rows) != 4 { // alice's, and those of the guests with a cart
		t.Errorf("the store has %d rows (%v)", len(rows), err)
	}
	for _, row := range rows {
		if strings.Contains(row.data, "lost") {
			t.Errorf("an error page stores %s", row.data)
		}
	}
}

// Caddy logs errors that have a page only when debugging.
func TestErrors_withAPageAreExplainedInTheLog(t *testing.T) {
	s := start(t, `
$SITE {
	handle /edit {
		session_edit put user alice
	}
	handle /matcher {
		@member session user
		respond @member ok
	}
	handle {
		session {
			max_size 1KiB
			upstream {
				header cart X-Cart
			}
		}
		session_edit /large put cart {query.cart}
		session_edit /others destroy_others
		session_devices /devices
		handle /twice {
			session {
				embedded $DIR/other.db
			}
			respond ok
		}
		respond ok
	}
	handle_errors {
		respond "page {err.status_code}"
	}
}`)
	for path, why := range map[string]string{
		"/edit":    "no `session` encloses this session_edit",
		"/matcher": "no `session` encloses this session matcher",
		"/large?cart=" + strings.Repeat("a", 2000): "more than max_size allows",
		"/large?cart=" + strings.Repeat("a", 5000): "longer than the 4096 bytes",
		"/others":  "destroy_others needs the option principal",
		"/devices": "session_devices needs the option principal",
		"/twice":   "have different stores and the same cookie",
	} {
		t.Run(why, func(t *testing.T) {
			s.visitor().get(path).want(t, http.StatusInternalServerError, "page 500")
			for line := range strings.SplitSeq(s.readLog(), "\n") {
				if strings.HasPrefix(line, `{"level":"error"`) && strings.Contains(line, why) {
					return
				}
			}
			t.Errorf("the log does not say that %s", why)
		})
	}
}

func TestErrors_panicBeforeTheFirstByteStoresNothing(t *testing.T) {
	s := start(t, `
$SITE {
	session
	session_edit put user alice
	in_go $RUN
}`, "RUN", inGo(t, func(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
		switch strings.Trim(r.URL.Path, "/") {
		case "abort":
			panic(http.ErrAbortHandler)
		case "panic":
			panic("a bug")
		case "late":
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		return nil
	}))
	table := s.table()
	for _, path := range []string{"/abort", "/panic"} {
		if a, err := s.visitor().try(http.MethodGet, path); err == nil {
			t.Errorf("%s: got %d, want a connection that ends", path, a.StatusCode)
		}
		table.wantRows(0)
	}
	a, err := s.visitor().try(http.MethodGet, "/late")
	if err != nil || a.err == nil {
		t.Fatalf("a panic after the first byte: %v, want a response that is cut off", err)
	}
	a.cookie(t)
	table.wantRows(1)
}
