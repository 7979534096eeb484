package caddysession_test

import (
	"net/http"
	"strings"
	"testing"
)

// bob's password is "secret"; the hash has bcrypt's least cost.
const (
	bobsHash     = "$2a$04$W8IhiXBB8.gogZye/kXZQ.4wiy9a5ts59OoLqy/otIuGY6mMUsgV2"
	bobsPassword = "Basic Ym9iOnNlY3JldA=="
)

func TestAuth_letsInWhoIsSignedIn(t *testing.T) {
	app := newApplication(t, nil)
	s := start(t, `
$SITE {
	session
	handle /put {
		in_go $CODE
	}
	handle /app {
		session_auth user
		reverse_proxy $APP {
			header_up X-User {http.auth.user.id}
			header_up X-Session {http.auth.user.session_id}
		}
	}
	handle /nested {
		session_auth account.name
		respond {http.auth.user.id}
	}
	@unsafe method POST
	handle /partly {
		session_auth @unsafe user
		respond partly
	}
	handle_errors 401 {
		respond "sign in, {err.status_code}"
	}
}`, "APP", app.address(), "CODE", puts(t))
	v := s.visitor()
	for _, path := range []string{"/app", "/nested"} {
		v.get(path).want(t, http.StatusUnauthorized, "sign in, 401")
	}
	if n := len(app.requests()); n != 0 {
		t.Errorf("the application was asked %d times", n)
	}
	v.get("/partly").want(t, http.StatusOK, "partly")
	v.do(http.MethodPost, "/partly").want(t, http.StatusUnauthorized, "sign in, 401")
	s.table().wantRows(0)

	for _, values := range []string{
		`{"user":""}`, `{"user":null}`, `{"other":"alice"}`, `{"account":{}}`,
		`{"user":false,"account":{"name":false}}`, `{"user":0}`, `{"user":[]}`, `{"user":{},"account":{"name":{}}}`, // as applications write nobody
	} {
		v.put(values)
		for _, path := range []string{"/app", "/nested"} {
			v.get(path).want(t, http.StatusUnauthorized, "sign in, 401")
		}
	}

	v.put(`{"user":"alice","account":{"name":4711}}`)
	v.get("/app").want(t, http.StatusOK, "app")
	if h := app.last(t).Header; h.Get("X-User") != "alice" || h.Get("X-Session") != s.table().only().id {
		t.Errorf("the application is sent user %q and session %q", h.Get("X-User"), h.Get("X-Session"))
	}
	v.get("/nested").want(t, http.StatusOK, "4711")
	v.put(`{"user":"0","account":{"name":true}}`)
	v.get("/app").want(t, http.StatusOK, "app")
	v.get("/nested").want(t, http.StatusOK, "true")
	v.do(http.MethodPost, "/partly").want(t, http.StatusOK, "partly")
}

func TestAuth_isAProviderBesideOthers(t *testing.T) {
	s := start(t, `
$SITE {
	session
	route {
		handle /login {
			session_edit put user alice
			respond hello
		}
		basic_auth /basic {
			bob $HASH
		}
		session_auth /session user
		respond {http.auth.user.id}
	}
}`, "HASH", bobsHash)
	v := s.visitor()
	v.get("/session").want(t, http.StatusUnauthorized, "")
	v.get("/basic").want(t, http.StatusUnauthorized, "")
	v.get("/basic", "Authorization", bobsPassword).want(t, http.StatusOK, "bob")
	v.get("/login").want(t, http.StatusOK, "hello")
	v.get("/session").want(t, http.StatusOK, "alice")
}

func TestAuth_anOutageIsNoLoginPage(t *testing.T) {
	store := newStandIn(t)
	s := start(t, `
$SITE {
	session {
		rqlite $STORE
	}
	handle /put {
		in_go $CODE
	}
	handle {
		session_auth user
		respond {http.auth.user.id}
	}
	handle_errors {
		respond {err.status_code}
	}
}`, "STORE", store.URL, "CODE", puts(t))
	v := s.visitor()
	v.put(`{"user":"alice"}`)
	store.fails()
	a := v.get("/")
	a.want(t, http.StatusServiceUnavailable, "503")
	if a.Header.Get("Retry-After") == "" {
		t.Error("the answer does not say when to try again")
	}
	s.logged("loading the session")
	if strings.Contains(s.readLog(), "auth provider returned error") {
		t.Error("the log says so twice for each request")
	}
	store.works()
	eventually(t, "the store to be back", func() bool { return v.get("/").body == "alice" })
}
