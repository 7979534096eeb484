package caddysession_test

import (
	"bytes"
	"crypto/rand"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

const csrfSite = `
$SITE {
	log {
		output file $DIR/access.log {
			roll_disabled
		}
		format filter {
			request>headers>X-Csrf-Token delete
		}
	}
	session
	handle /login {
		session_edit {
			renew
			put user {query.user}
		}
		respond {http.session.csrf_token}
	}
	handle /form {
		respond {http.session.csrf_token}
	}
	handle {
		session_csrf $FIELD
		reverse_proxy $APP
	}
}`

// upload is an application that gives back what it is sent.
func upload(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, _ = w.Write(body)
}

// posting is a request with a body, and what is to become of it.
type posting struct {
	kind   string
	body   []byte
	token  string // in the header
	status int
}

func (v *visitor) send(kind string, body []byte, headers ...string) *answer {
	v.t.Helper()
	return v.postBody("/", kind, body, headers...)
}

func TestCSRF_asksForTheTokenOfTheSession(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(upload))
	t.Cleanup(app.Close)
	s := start(t, csrfSite, "APP", app.URL, "FIELD", "token")
	guest := s.visitor()
	guest.send("text/plain", []byte("from a guest")).want(t, http.StatusOK, "from a guest")
	if body := guest.get("/form").body; body != "" {
		t.Errorf("a guest's token is %q", body)
	}

	v, other := s.visitor(), s.visitor()
	v.get("/login?user=alice")
	other.get("/login?user=mallory")
	token, again, foreign := v.get("/form").body, v.get("/form").body, other.get("/form").body
	if token == "" || token == again {
		t.Errorf("the tokens are %q and %q, want two that differ", token, again)
	}
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodOptions} {
		if a := v.do(method, "/"); a.StatusCode != http.StatusOK {
			t.Errorf("%s without a token: %d", method, a.StatusCode)
		}
	}

	late := "x=" + strings.Repeat("x", 1<<20) + "&token=" + token // after the first MiB, which is looked at
	if a := v.send("application/x-www-form-urlencoded", []byte(late)); a.StatusCode != http.StatusForbidden {
		t.Errorf("a token at the end of a large form: %d", a.StatusCode)
	}
	s.logged("a request was refused for want of a token")

	form := func(field, token string) []byte {
		return []byte(url.Values{"a": {"1"}, field: {token}, "z": {"Zoë"}}.Encode())
	}
	wrong := string(token[0]^1) + token[1:]
	const urlencoded = "application/x-www-form-urlencoded"
	for name, test := range map[string]posting{
		"nothing":             {"text/plain", []byte("x"), "", http.StatusForbidden},
		"header":              {"application/json", []byte(`{"a":1}`), token, http.StatusOK},
		"the other token":     {"application/json", []byte(`{"a":1}`), again, http.StatusOK},
		"wrong header":        {"application/json", []byte(`{}`), wrong, http.StatusForbidden},
		"short header":        {"application/json", []byte(`{}`), token[:20], http.StatusForbidden},
		"no base64":           {"application/json", []byte(`{}`), "!" + token, http.StatusForbidden},
		"of another session":  {"application/json", []byte(`{}`), foreign, http.StatusForbidden},
		"form":                {urlencoded, form("token", token), "", http.StatusOK},
		"form with charset":   {urlencoded + "; charset=UTF-8", form("token", token), "", http.StatusOK},
		"form, app's header":  {urlencoded, form("token", token), "of Rails, which Turbo sends", http.StatusOK},
		"form, both wrong":    {urlencoded, form("token", foreign), "of Rails, which Turbo sends", http.StatusForbidden},
		"form of another":     {urlencoded, form("token", foreign), "", http.StatusForbidden},
		"form, other field":   {urlencoded, form("csrf_token", token), "", http.StatusForbidden},
		"a broken form":       {urlencoded, []byte("%zz;" + string(form("token", token))), "", http.StatusForbidden},
		"long form":           {urlencoded, append(form("token", token), longField(0)...), "", http.StatusOK},
		"long form, cut":      {urlencoded, append(form("token", token), longField(1)...), "", http.StatusOK},
		"long form, cut too":  {urlencoded, append(form("token", token), longField(2)...), "", http.StatusOK},
		"long, no token":      {urlencoded, append(form("no", token), longField(1)...), "", http.StatusForbidden},
		"multipart":           multipartOf(t, "token", token, 0),
		"multipart, no token": multipartOf(t, "no", token, 0),
		"upload":              multipartOf(t, "token", token, 3<<20),
		"upload, no token":    multipartOf(t, "no", token, 3<<20),
		"field in JSON":       {"application/json", []byte(`{"token":"` + token + `"}`), "", http.StatusForbidden},
		"multipart, cut off":  {"multipart/form-data; boundary=x", []byte("--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb"), "", http.StatusForbidden},
		"no boundary":         {"multipart/form-data", []byte("x"), "", http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			var headers []string
			if test.token != "" {
				headers = []string{"X-CSRF-Token", test.token}
			}
			a := v.send(test.kind, test.body, headers...)
			if a.StatusCode != test.status {
				t.Fatalf("the answer is %d, want %d", a.StatusCode, test.status)
			}
			if test.status == http.StatusOK && a.body != string(test.body) {
				t.Errorf("the application got %d bytes that differ from the %d that were sent", len(a.body), len(test.body))
			}
		})
	}

	t.Run("a login makes older tokens worthless", func(t *testing.T) {
		fresh := v.get("/login?user=bob").body
		if a := v.send("text/plain", nil, "X-CSRF-Token", token); a.StatusCode != http.StatusForbidden {
			t.Errorf("the token from before the login: %d", a.StatusCode)
		}
		v.send("text/plain", []byte("x"), "X-CSRF-Token", fresh).want(t, http.StatusOK, "x")
	})
	t.Run("the log has none, as the README has it filtered", func(t *testing.T) {
		v.get("/form?last")
		var log string
		eventually(t, "the last request to be logged", func() bool {
			log = readFile(t, s.expand("$DIR/access.log"))
			return strings.Contains(log, "/form?last")
		})
		if !strings.Contains(log, "POST") || strings.Contains(log, again) || strings.Contains(strings.ToLower(log), "csrf") {
			t.Errorf("the log has %s", log)
		}
	})
}

// longField is more of a form than is looked at; of three that differ in where
// their characters begin, two are cut within one.
func longField(shift int) string {
	return "&text=" + strings.Repeat("x", shift) + strings.Repeat(url.QueryEscape("€"), 1<<17)
}

// multipartOf makes a form with a field, then a file of some bytes, and says what becomes of it.
func multipartOf(t testing.TB, field, token string, size int) posting {
	t.Helper()
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	file := make([]byte, size)
	_, _ = rand.Read(file)
	err := form.WriteField("first", "Zoë")
	if err == nil {
		err = form.WriteField(field, token)
	}
	if err != nil {
		t.Fatal(err)
	}
	part, err := form.CreateFormFile("file", "a.bin")
	if err == nil {
		_, err = part.Write(file)
	}
	if err == nil {
		err = form.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	p := posting{form.FormDataContentType(), b.Bytes(), "", http.StatusForbidden}
	if field == "token" {
		p.status = http.StatusOK
	}
	return p
}

// The second press of a login's button leads to a session with a token of its own.
func TestCSRF_hasATokenAfterALoginPressedTwice(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(upload))
	t.Cleanup(app.Close)
	s := start(t, csrfSite, "APP", app.URL, "FIELD", "token")
	v := s.visitor().withoutJar()
	guest := "session=" + v.get("/login?user=guest").cookie(t).Value
	v.get("/login?user=alice", "Cookie", guest)
	again := v.get("/login?user=alice", "Cookie", guest)
	cookie := "session=" + again.cookie(t).Value
	for _, token := range []string{again.body, v.get("/form", "Cookie", cookie).body} {
		v.send("text/plain", []byte("x"), "Cookie", cookie, "X-CSRF-Token", token).want(t, http.StatusOK, "x")
	}
}

// Both presses send the cookie and the token of the page with the button, the second
// one after the first was stored.
func TestCSRF_letsALoginBePressedTwice(t *testing.T) {
	s := start(t, `
$SITE {
	session
	handle /cart {
		session_edit put cart book
		respond {http.session.csrf_token}
	}
	handle {
		session_csrf
		session_edit /login {
			renew
			put user alice
		}
		respond "user={http.session.data.user} cart={http.session.data.cart}"
	}
}`)
	v, other := s.visitor().withoutJar(), s.visitor()
	page := v.get("/cart")
	foreign := other.get("/cart").body
	cookie := "session=" + page.cookie(t).Value
	press := func(path, token string) *answer {
		return v.submit(path, url.Values{"csrf_token": {token}}, "Cookie", cookie)
	}
	press("/login", page.body).want(t, http.StatusOK, "user=alice cart=book")
	again := press("/login", page.body)
	again.want(t, http.StatusOK, "user=alice cart=book")
	v.get("/", "Cookie", "session="+again.cookie(t).Value).want(t, http.StatusOK, "user=alice cart=book")
	for _, token := range []string{"", foreign} {
		if a := press("/login", token); a.StatusCode != http.StatusForbidden {
			t.Errorf("with the token %q it is answered %d", token, a.StatusCode)
		}
	}
	if a := v.submit("/", url.Values{"csrf_token": {page.body}}, "Cookie", "session="+again.cookie(t).Value); a.StatusCode != http.StatusForbidden {
		t.Errorf("the token from before the login is answered %d after it", a.StatusCode)
	}
}

// A page that begins the visitor's session, by counting visits, say, has a form that
// is sent with that session's cookie.
func TestCSRF_hasATokenOnThePageThatBeginsTheSession(t *testing.T) {
	s := start(t, `
$SITE {
	session {
		principal user
	}
	handle /logout {
		session_edit {
			destroy
			put left yes
		}
		respond {http.session.csrf_token}
	}
	handle /nothing {
		session_edit {
			put a b
			remove a
		}
		respond "{http.session.csrf_token}"
	}
	handle {
		session_csrf
		session_edit {
			increment visits
			put user {query.user}
		}
		respond {http.session.csrf_token}
	}
}`)
	v := s.visitor()
	v.get("/nothing").want(t, http.StatusOK, "")
	s.table().wantRows(0)
	for _, page := range []string{"/", "/?user=alice", "/logout"} {
		token := v.get(page).body
		form := url.Values{"csrf_token": {token}, "user": {"alice"}}
		if a := v.submit("/?user=alice", form); token == "" || a.StatusCode != http.StatusOK {
			t.Errorf("%s has the token %q, with which its form is answered %d", page, token, a.StatusCode)
		}
	}

	// The page after a login, too, is sent with the session that the login renews.
	guest := s.visitor()
	guest.get("/").cookie(t)
	welcome := guest.get("/?user=bob")
	welcome.cookie(t)
	if a := guest.submit("/?user=bob", url.Values{"csrf_token": {welcome.body}}); a.StatusCode != http.StatusOK {
		t.Errorf("the form of the page after a login is answered %d", a.StatusCode)
	}
}

// While the store is down nobody is let past for having no session.
func TestCSRF_anOutageLetsNobodyPast(t *testing.T) {
	store := newStandIn(t)
	var asked atomic.Int64
	s := start(t, `
$SITE {
	session {
		rqlite $STORE
	}
	session_edit /login put user alice
	session_csrf
	in_go $APP
}`, "STORE", store.URL, "APP", inGo(t, func(http.ResponseWriter, *http.Request, caddyhttp.Handler) error {
		asked.Add(1)
		return nil
	}))
	v := s.visitor()
	v.get("/login").cookie(t)
	store.fails()
	v.do(http.MethodPost, "/").want(t, http.StatusServiceUnavailable, "")
	if n := asked.Load(); n != 1 {
		t.Errorf("the application was asked %d times, want 1", n)
	}
}

func TestCSRF_fieldIsCSRFTokenUnlessNamed(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(upload))
	t.Cleanup(app.Close)
	s := start(t, strings.Replace(csrfSite, "$FIELD", "", 1), "APP", app.URL)
	v := s.visitor()
	v.get("/login?user=alice")
	body := url.Values{"csrf_token": {v.get("/form").body}}.Encode()
	v.send("application/x-www-form-urlencoded", []byte(body)).want(t, http.StatusOK, body)
}
