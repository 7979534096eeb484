package caddysession_test

import (
	"net/http"
	"testing"
)

const graceSite = `
$SITE {
	session {
		principal user
	}
	handle /put {
		session_edit put cart {query.cart}
	}
	handle /login {
		session_edit put user {query.user}
	}
	handle /remember {
		session_edit remember on
	}
	handle {
		respond "{http.session.data.user}|{http.session.data.cart}"
	}
}`

// Of a login pressed twice browsers take the second response only, and that one
// comes with the token from before the first.
func TestGrace_aLoginByThePrincipalWorksTwice(t *testing.T) {
	s := start(t, graceSite)
	h := holder{s.visitor().withoutJar(), "$SITE"}
	guest := h.with("", "/put?cart=book").cookie(t).Value
	first := h.with(guest, "/login?user=alice").cookie(t).Value
	second := h.with(guest, "/login?user=alice").cookie(t).Value
	h.with(first, "/").want(t, http.StatusOK, "alice|book")
	h.with(second, "/").want(t, http.StatusOK, "alice|book")
}

// A response under the older token must not take the newer one from the browser.
func TestGrace_setsNoCookie(t *testing.T) {
	s := start(t, graceSite)
	h := holder{s.visitor().withoutJar(), "$SITE"}
	guest := h.with("", "/put?cart=book").cookie(t).Value
	h.with(guest, "/login?user=alice").cookie(t)
	if a := h.with(guest, "/remember"); a.Header["Set-Cookie"] != nil {
		t.Errorf("the cookies are %q", a.Header["Set-Cookie"])
	}
}
