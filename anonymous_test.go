package caddysession_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestOnStoreError_anonymousServesWithoutASessionAndStoresNothing(t *testing.T) {
	store := newStandIn(t)
	s := start(t, `
$SITE {
	session {
		rqlite $STORE {
			timeout 300ms
		}
		on_store_error anonymous
		principal user
	}
	handle /login {
		session_edit {
			renew
			put user alice
		}
		respond "in"
	}
	handle /logout {
		session_edit destroy
		respond "out"
	}
	handle /others {
		session_edit destroy_others
		respond "alone"
	}
	handle /unchanged {
		session_edit remove nothing
		respond "unchanged"
	}
	handle /members {
		session_auth user
		respond "members"
	}
	handle {
		@member session user
		respond @member "user={http.session.data.user}"
		respond "guest"
	}
	handle_errors {
		respond "sorry: {err.status_code}"
	}
}`, "STORE", store.URL)
	v := s.visitor()
	v.get("/login").want(t, http.StatusOK, "in")
	v.get("/").want(t, http.StatusOK, "user=alice")
	store.fails()
	for path, want := range map[string]answer{
		"/":          {body: "guest", Response: &http.Response{StatusCode: http.StatusOK}},
		"/unchanged": {body: "unchanged", Response: &http.Response{StatusCode: http.StatusOK}},
		"/members":   {body: "sorry: 401", Response: &http.Response{StatusCode: http.StatusUnauthorized}},
		"/login":     {body: "sorry: 503", Response: &http.Response{StatusCode: http.StatusServiceUnavailable}},
		"/others":    {body: "sorry: 503", Response: &http.Response{StatusCode: http.StatusServiceUnavailable}},
		"/logout":    {body: "sorry: 503", Response: &http.Response{StatusCode: http.StatusServiceUnavailable}},
	} {
		a := v.get(path)
		if a.StatusCode != want.StatusCode || a.body != want.body || a.Header["Set-Cookie"] != nil {
			t.Errorf("%s: %d %q, cookies %q", path, a.StatusCode, a.body, a.Header["Set-Cookie"])
		}
		if unavailable := a.StatusCode == http.StatusServiceUnavailable; unavailable != (a.Header.Get("Retry-After") != "") {
			t.Errorf("%s: %d with Retry-After %q", path, a.StatusCode, a.Header.Get("Retry-After"))
		}
	}
	s.visitor().get("/logout").want(t, http.StatusOK, "out") // who has no session needs no store for it
	s.visitor().get("/").want(t, http.StatusOK, "guest")
	if strings.Contains(s.readLog(), "the session store is available") {
		t.Error("a guest, for whom nobody asks the store, is taken for a sign that it is back")
	}
	store.works()
	eventually(t, "the session to be back", func() bool { return v.get("/").body == "user=alice" })
	s.logged("the session store is available")
}
