package caddysession_test

import (
	"bytes"
	"net/http"
	"sync/atomic"
	"testing"
)

func TestDestroyOthers_endsTheOtherSessionsOfThePrincipal(t *testing.T) {
	app := newApplication(t, obedient)
	s := start(t, `
$SITE {
	session {
		principal user
		upstream {
			accept
		}
	}
	handle /login {
		session_edit put user {query.user}
	}
	handle /alone {
		session_edit destroy_others
	}
	handle /login-alone {
		session_edit {
			put user {query.user}
			destroy_others
		}
	}
	handle /cart {
		session_edit put cart book
		respond "{http.session.data.cart}"
	}
	handle /leave {
		session_edit {
			destroy_others
			remove user
		}
	}
	handle /nowhere {
		session_edit {
			destroy
			destroy_others
		}
	}
	handle /app {
		reverse_proxy $APP
	}
	handle {
		respond "user={http.session.data.user}"
	}
}

$SITE2 {
	session {
		embedded $DIR/second.db
	}
	session_edit destroy_others
}`, "APP", app.address())
	login := func(user string) *visitor {
		v := s.visitor()
		v.get("/login?user="+user).want(t, http.StatusOK, "")
		v.get("/").want(t, http.StatusOK, "user="+user)
		return v
	}
	bob := login("bob")
	for name, act := range map[string]func(v *visitor) *answer{
		"session_edit":   func(v *visitor) *answer { return v.get("/alone") },
		"Session-Action": func(v *visitor) *answer { return v.get("/app?Session-Action=destroy_others") },
		"with renew":     func(v *visitor) *answer { return v.get("/app?Session-Action=renew,destroy_others") },
		"with a login":   func(v *visitor) *answer { return v.get("/login-alone?user=alice") },
	} {
		t.Run(name, func(t *testing.T) {
			one, two, three := login("alice"), login("alice"), login("alice")
			if a := act(two); a.StatusCode != http.StatusOK {
				t.Fatalf("the answer is %d", a.StatusCode)
			}
			two.get("/").want(t, http.StatusOK, "user=alice")
			one.get("/").want(t, http.StatusOK, "user=")
			three.get("/").want(t, http.StatusOK, "user=")
			bob.get("/").want(t, http.StatusOK, "user=bob")
			two.get("/nowhere").want(t, http.StatusOK, "")
		})
	}
	t.Run("with a logout", func(t *testing.T) {
		guest, one, two := s.visitor(), login("alice"), login("alice")
		guest.get("/cart").cookie(t)
		two.get("/leave").want(t, http.StatusOK, "")
		one.get("/").want(t, http.StatusOK, "user=")
		bob.get("/").want(t, http.StatusOK, "user=bob")
		if a := guest.get("/cart"); a.Header["Set-Cookie"] != nil {
			t.Error("the session of a guest was ended")
		}
	})
	t.Run("at a new login", func(t *testing.T) {
		one, two := login("alice"), s.visitor()
		two.get("/login-alone?user=alice").want(t, http.StatusOK, "")
		one.get("/").want(t, http.StatusOK, "user=")
		two.get("/").want(t, http.StatusOK, "user=alice")
		three := login("alice")
		three.get("/nowhere").want(t, http.StatusOK, "")
		two.get("/").want(t, http.StatusOK, "user=")
		three.get("/").want(t, http.StatusOK, "user=")
	})
	t.Run("with a token from before a renewal", func(t *testing.T) {
		one, two := login("alice"), s.visitor()
		before := two.get("/login?user=alice").cookie(t).Value
		two.get("/app?Session-Action=renew").cookie(t)
		s.visitor().withoutJar().get("/alone", "Cookie", "session="+before).want(t, http.StatusOK, "")
		one.get("/").want(t, http.StatusOK, "user=alice")
	})
	t.Run("by nobody", func(t *testing.T) {
		s.visitor().get("/alone").want(t, http.StatusOK, "")
		bob.get("/").want(t, http.StatusOK, "user=bob")
	})
	t.Run("without a principal", func(t *testing.T) {
		if a := s.visitor().get("$SITE2/"); a.StatusCode != http.StatusInternalServerError {
			t.Errorf("the answer is %d, want 500", a.StatusCode)
		}
		s.logged("destroy_others needs the option principal")
	})
}

func TestDestroyOthers_storesNothingWhenItFails(t *testing.T) {
	store := newStandIn(t)
	s := start(t, `
$SITE {
	session {
		rqlite $STORE {
			timeout 500ms
		}
		principal user
	}
	handle /login {
		session_edit put user alice
	}
	handle /change {
		session_edit {
			destroy_others
			put changed yes
		}
		respond changed
	}
	handle {
		respond "{http.session.data.user} {http.session.data.changed}"
	}
}`, "STORE", store.URL)
	v := s.visitor()
	v.get("/login").want(t, http.StatusOK, "")
	store.failsWrites()
	if a := v.get("/change"); a.StatusCode != http.StatusServiceUnavailable || a.body != "" {
		t.Fatalf("the answer is %d %q", a.StatusCode, a.body)
	}
	store.works()
	eventually(t, "the store to be back", func() bool { return v.get("/").body == "alice " })
	v.get("/change").want(t, http.StatusOK, "changed")
	v.get("/").want(t, http.StatusOK, "alice yes")
}

// Others are looked for once more when the session has its new token. If that fails,
// the visitor has to know the token: the one from before ends with the grace.
func TestDestroyOthers_thatFailsAfterARenewalGivesTheTokenOut(t *testing.T) {
	store := newStandIn(t)
	s := start(t, heldSite, "APP", "127.0.0.1:1", "OPTIONS", "rqlite "+store.URL+" {\n timeout 20s\n }")
	v := s.visitor()
	v.get("/login?user=alice").cookie(t)
	var asked atomic.Int64
	store.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
		if bytes.Contains(bodyOf(r), []byte("ORDER BY o.principal")) && asked.Add(1) > 1 {
			w.WriteHeader(http.StatusUnauthorized) // which is not tried again
			return
		}
		node.ServeHTTP(w, r)
	}))
	a := v.get("/secure")
	a.want(t, http.StatusServiceUnavailable, "")
	if a.cookie(t).Value == "" || a.Header.Get("Cache-Control") != "private, no-store" || a.Header.Get("Retry-After") == "" {
		t.Errorf("the header of the failure is %v", a.Header)
	}
	store.works()
	eventually(t, "the store to answer", func() bool { return v.get("/demote").StatusCode == http.StatusOK })
	v.get("/read").want(t, http.StatusOK, "alice||") // under a token in its grace nothing is changed
}
