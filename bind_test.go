package caddysession_test

import (
	"net/http"
	"strings"
	"testing"
)

const boundSite = `
$SITE {
	session {
		bind $BOUND
	}
	handle /login {
		session_edit put user alice
		respond "in"
	}
	handle /visit {
		session_edit increment visits
	}
	handle {
		respond "user={http.session.data.user}"
	}
}`

func TestBind_aSessionIsNoneForAnotherClient(t *testing.T) {
	s := start(t, boundSite, "BOUND", "{http.request.header.User-Agent} {http.request.header.Sec-CH-UA-Platform}")
	v := s.visitor()
	mine := []string{"User-Agent", "mine", "Sec-CH-UA-Platform", "Linux"}
	v.get("/login", mine...).want(t, http.StatusOK, "in")
	v.get("/", mine...).want(t, http.StatusOK, "user=alice")
	for name, theirs := range map[string][]string{
		"another agent":    {"User-Agent", "theirs", "Sec-CH-UA-Platform", "Linux"},
		"another platform": {"User-Agent", "mine", "Sec-CH-UA-Platform", "Windows"},
		"moved over":       {"User-Agent", "mineLinux"},
		"none":             {},
	} {
		a := v.get("/", theirs...)
		if a.body != "user=" || a.Header["Set-Cookie"] != nil {
			t.Errorf("%s: %q, cookies %q", name, a.body, a.Header["Set-Cookie"])
		}
	}
	v.get("/", mine...).want(t, http.StatusOK, "user=alice")
	const unbound = "presented by another client"
	s.logged(unbound)
	if n := strings.Count(s.readLog(), unbound); n != 1 {
		t.Errorf("the log says it %d times", n)
	}
}

func TestBind_isTakenOnByExistingSessions(t *testing.T) {
	s := start(t, boundSite, "BOUND", "{http.request.header.X-First}")
	v := s.visitor()
	v.get("/login", "X-First", "1")
	s.names["BOUND"] = "{http.request.header.User-Agent}"
	s.reload(boundSite)
	v.get("/", "User-Agent", "any").want(t, http.StatusOK, "user=alice")
	v.get("/visit", "User-Agent", "mine")
	v.get("/", "User-Agent", "mine").want(t, http.StatusOK, "user=alice")
	v.get("/", "User-Agent", "theirs").want(t, http.StatusOK, "user=")

	const unknown = "bind has a placeholder that Caddy does not know"
	if strings.Contains(s.readLog(), unknown) {
		t.Error("the log does not know a header")
	}
	s.names["BOUND"] = "{http.request.headers.User-Agent}"
	s.reload(boundSite)
	v.get("/", "User-Agent", "theirs").want(t, http.StatusOK, "user=alice")
	s.logged(unknown)
	s.logged("{http.request.headers.User-Agent}")
}

// What handlers make of a request is not what the client sent.
func TestBind_holdsWhatTheClientSent(t *testing.T) {
	s := start(t, `
$SITE {
	session {
		bind {http.request.header.User-Agent}
	}
	route {
		handle /login {
			request_header User-Agent "changed"
			session_edit put user alice
		}
		handle {
			respond "user={http.session.data.user}"
		}
	}
}`)
	v := s.visitor()
	v.get("/login", "User-Agent", "mine").cookie(t)
	v.get("/", "User-Agent", "mine").want(t, http.StatusOK, "user=alice")
	v.get("/", "User-Agent", "changed").want(t, http.StatusOK, "user=")
}
