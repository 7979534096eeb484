package caddysession_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

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
}`

// A page's requests come side by side, all of them with the token that is to be
// replaced: that one stays a way in for all of them, and is replaced once.
func TestRotation_ofParallelRequestsIsOne(t *testing.T) {
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

	visits := make(map[string]func() (*answer, error), requests)
	for i := range requests {
		visits[fmt.Sprint(i)] = func() (*answer, error) { return v.try(http.MethodGet, "/visit", "Cookie", cookie) }
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
