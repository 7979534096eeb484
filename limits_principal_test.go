package caddysession_test

import (
	"net/http"
	"testing"
	"time"
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
