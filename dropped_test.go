package caddysession_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	caddysession "github.com/caddy-session/caddy-session"
)

// The owner changes here without a new token: behind a `session` that does not
// know who the user is, and after the header.
const ownersSites = `
$METRICS {
	metrics /metrics
}
$SITE {
	session {
		principal user
	}
	session_edit /login {
		put user {query.user}
		increment logins
	}
	handle /wait {
		in_go $WAIT
	}
	handle /late {
		in_go $LATE
	}
	respond "{http.session.data.user} {http.session.data.n} {http.session.data.logins}"
}
$SITE2 {
	session
	session_edit /login {
		put user {query.user}
		increment logins
	}
	handle /wait {
		in_go $WAIT
	}
	respond "{http.session.data.user} {http.session.data.n} {http.session.data.logins}"
}`

// newLateLogin registers code that signs a user in once the header is out.
func newLateLogin(t testing.TB) (name string) {
	return inGo(t, func(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
		session := caddysession.FromContext(r.Context())
		key, value := "user", any(r.URL.Query().Get("user"))
		if session.Exists("account") {
			key, value = "account", map[string]any{"name": value}
		}
		w.WriteHeader(http.StatusOK)
		return errors.Join(session.Put(key, value), session.Increment("logins", 1))
	})
}

// What a slow request did in one user's session does not land in that of another.
func TestDropped_whatWasMeantForAnotherOwner(t *testing.T) {
	wait, waiting, goOn := newWait(t)
	s := start(t, ownersSites, "WAIT", wait, "LATE", newLateLogin(t), "METRICS", "http://"+freeAddress(t))
	for name, c := range map[string]struct {
		slow, change string
		dropped      float64
		want         string
	}{
		"a slow request that knows whose the session is":         {"/wait", "$SITE2/login?user=bob", 1, "bob  2"},
		"a slow request that does not know whose the session is": {"$SITE2/wait", "/late?user=bob", 1, "bob  2"},
		"the same owner again, known":                            {"/wait", "$SITE2/login?user=alice", 0, "alice 1 2"},
		"the same owner again, not known":                        {"$SITE2/wait", "/late?user=alice", 0, "alice 1 2"},
	} {
		t.Run(name, func(t *testing.T) {
			v := s.visitor()
			v.get("/login?user=alice").want(t, http.StatusOK, "alice  1")
			before := s.scrape()
			waited := s.whileWaiting(v, c.slow, waiting, goOn, func() {
				v.get(c.change)
				eventually(t, "the change to be stored", func() bool { return strings.HasSuffix(v.get("/").body, " 2") })
			})
			waited.want(t, http.StatusOK, "waited")
			if waited.Header["Set-Cookie"] != nil {
				t.Errorf("the slow request sets %q", waited.Header["Set-Cookie"])
			}
			v.get("/").want(t, http.StatusOK, c.want)
			s.counts(before, c.dropped, "dropped_changes_total", `reason="principal"`)
			s.counts(before, c.dropped, "dropped_changes_total")
		})
	}
}

// A session that was stored without a principal is given it by the first handler
// that knows it. That is no other owner.
func TestDropped_notWhatWasMeantForAnOwnerNamedMeanwhile(t *testing.T) {
	withSecrets(t)
	inObject := strings.NewReplacer("principal user", "principal account.name", "data.user", "data.account.name",
		"put user {query.user}", `put_json account "{\"name\": \"{query.user}\"}"`)
	for name, sites := range map[string]string{
		"plain":        ownersSites,
		"sealed":       "{\nsession {\nkeys {env.SESSION_TEST_FIRST}\n}\n}\n" + strings.TrimSpace(ownersSites),
		"in an object": inObject.Replace(ownersSites),
	} {
		t.Run(name, func(t *testing.T) { testNamedMeanwhile(t, sites) })
	}
}

func testNamedMeanwhile(t *testing.T, sites string) {
	wait, waiting, goOn := newWait(t)
	s := start(t, sites, "WAIT", wait, "LATE", newLateLogin(t), "METRICS", "http://"+freeAddress(t))
	for name, c := range map[string]struct{ first, second, want string }{
		"the owner is the same": {"alice", "alice", "alice 1 2"},
		"there was none":        {"", "bob", "bob  2"},
		"it was another":        {"alice", "bob", "bob  2"},
	} {
		t.Run(name, func(t *testing.T) {
			v := s.visitor()
			v.get("$SITE2/login?user=" + c.first)
			waited := s.whileWaiting(v, "$SITE2/wait", waiting, goOn, func() {
				v.get("/late?user=" + c.second)
				eventually(t, "the change to be stored", func() bool { return strings.HasSuffix(v.get("/").body, " 2") })
			})
			waited.want(t, http.StatusOK, "waited")
			v.get("/").want(t, http.StatusOK, c.want)
		})
	}
}

// A login that came too late is not said to be a mistake of whoever made it.
func TestDropped_aLoginIsNoChangeAfterTheHeader(t *testing.T) {
	var s *server
	login := inGo(t, func(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
		session := caddysession.FromContext(r.Context())
		session.Get("user")
		s.alter("DELETE FROM sessions") // a logout elsewhere
		if err := session.Put("user", "bob"); err != nil {
			return err
		}
		w.WriteHeader(http.StatusOK)
		return nil
	})
	s = start(t, `
$SITE {
	session {
		principal user
	}
	session_edit /login put user alice
	handle /again {
		in_go $LOGIN
	}
	respond "{http.session.data.user}"
}`, "LOGIN", login)
	v := s.visitor()
	v.get("/login").want(t, http.StatusOK, "alice")
	v.get("/again").want(t, http.StatusOK, "")
	if strings.Contains(s.readLog(), "after the response's header") {
		t.Error("the log says that a handler changed something after the header")
	}
}
