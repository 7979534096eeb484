package caddysession_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

// What takes real time runs side by side, on one Caddy.
func TestOverTime(t *testing.T) {
	const paths = `
	handle /login {
		session_edit {
			renew
			put user {query.user}
			put role admin
		}
		respond "in"
	}
	handle /demote {
		session_edit {
			renew
			remove role
		}
		respond "demoted"
	}
	handle /logout {
		session_edit destroy
		respond "out"
	}
	handle /put {
		session_edit put cart {query.cart}
		respond "put"
	}
	handle /read {
		respond "{http.session.data.user}|{http.session.data.role}|{http.session.data.cart}"
	}
	handle /id {
		respond "{http.session.id}"
	}
`
	store := newStandIn(t)
	s := start(t, `
$SITERENEW {
	session`+paths+`
}
$SITEROTATE {
	session {
		embedded $DIR/rotate.db
		renew_interval 2s
	}`+paths+`
}
$SITEIDLE {
	session {
		embedded $DIR/idle.db
		idle_timeout 2s
		touch_interval 500ms
	}`+paths+`
}
$SITECACHED {
	session {
		rqlite $STORE
		idle_timeout 2s
		touch_interval 500ms
		cache 1m
	}`+paths+`
}
$SITELIFE {
	session {
		embedded $DIR/life.db
		lifetime 3s
		idle_timeout 2s
		touch_interval 200ms
	}`+paths+`
}`, "STORE", store.URL)
	t.Run("renewal", func(t *testing.T) {
		t.Parallel()
		testRenewal(t, holder{s.visitorWith(t).withoutJar(), "$SITERENEW"})
	})
	t.Run("rotation", func(t *testing.T) {
		t.Parallel()
		testRotation(t, holder{s.visitorWith(t).withoutJar(), "$SITEROTATE"})
	})
	t.Run("idle", func(t *testing.T) {
		t.Parallel()
		testIdle(t, holder{s.visitorWith(t).withoutJar(), "$SITEIDLE"}, openTable(t, s.expand("$DIR/idle.db")))
	})
	t.Run("idle, from memory", func(t *testing.T) {
		t.Parallel()
		testIdle(t, holder{s.visitorWith(t).withoutJar(), "$SITECACHED"}, openTable(t, store.file))
	})
	t.Run("lifetime", func(t *testing.T) {
		t.Parallel()
		testLifetime(t, holder{s.visitorWith(t).withoutJar(), "$SITELIFE"})
	})
}

// holder asks a site with tokens of the test's choice.
type holder struct {
	*visitor
	site string
}

func (h holder) with(token, path string) *answer {
	h.t.Helper()
	if token == "" {
		return h.get(h.site + path)
	}
	return h.get(h.site+path, "Cookie", "session="+token)
}

// read is the values that a token sees.
func (h holder) read(t *testing.T, token, want string) {
	t.Helper()
	h.with(token, "/read").want(t, http.StatusOK, want)
}

func testRenewal(t *testing.T, h holder) {
	before := h.with("", "/put?cart=book").cookie(t).Value
	id := h.with(before, "/id").body
	renewed := time.Now()
	after := h.with(before, "/login?user=alice").cookie(t).Value
	if after == before {
		t.Fatal("a login keeps the token")
	}
	if now := h.with(after, "/id").body; now != id {
		t.Errorf("a login changes the id from %s to %s", id, now)
	}
	h.read(t, after, "alice|admin|book")
	h.read(t, before, "||book") // what is the same before and after

	if a := h.with(before, "/put?cart=evil"); a.Header["Set-Cookie"] != nil {
		t.Errorf("a write in the grace sets a cookie: %v", a.Header["Set-Cookie"])
	}
	h.read(t, after, "alice|admin|book")
	h.with(after, "/put?cart=pen")
	h.read(t, before, "||")

	t.Run("a login pressed twice", func(t *testing.T) {
		first := h.with("", "/put?cart=book").cookie(t).Value
		second := h.with(first, "/login?user=alice").cookie(t).Value
		third := h.with(first, "/login?user=alice").cookie(t).Value
		h.read(t, second, "alice|admin|book")
		h.read(t, third, "alice|admin|book")
		if a, b := h.with(second, "/id").body, h.with(third, "/id").body; a == b {
			t.Error("both are one session")
		}
	})
	t.Run("rights that were taken away", func(t *testing.T) {
		first := h.with("", "/login?user=alice").cookie(t).Value
		second := h.with(first, "/demote").cookie(t).Value
		h.read(t, first, "alice||")
		h.read(t, second, "alice||")
	})
	t.Run("a logout with either token", func(t *testing.T) {
		for _, by := range []int{0, 1} {
			first := h.with("", "/put?cart=book").cookie(t).Value
			tokens := []string{first, h.with(first, "/login?user=alice").cookie(t).Value}
			if c := h.with(tokens[by], "/logout").cookie(t); c.MaxAge >= 0 {
				t.Errorf("a logout does not remove the cookie: %v", c)
			}
			for _, token := range tokens {
				h.read(t, token, "||")
			}
		}
	})

	h.with(after, "/put?cart=last")
	second := h.with(after, "/demote").cookie(t).Value
	within(t, 2*rqlitestore.Grace, "the grace to end", func() bool { return h.with(before, "/id").body == "" })
	if d := time.Since(renewed); d < rqlitestore.Grace-time.Second {
		t.Errorf("the grace ended after %v", d)
	}
	within(t, 2*rqlitestore.Grace, "the second grace to end", func() bool { return h.with(after, "/id").body == "" })
	h.read(t, second, "alice||last")
}

// next reads with a token until it is given another.
func (h holder) next(t *testing.T, token string) string {
	t.Helper()
	var newer string
	eventually(t, "a new token", func() bool {
		a := h.with(token, "/read")
		if a.body != "alice|admin|" {
			t.Fatalf("got %q while waiting for a new token", a.body)
		}
		if a.Header["Set-Cookie"] == nil {
			return false
		}
		newer = a.cookie(t).Value
		return true
	})
	return newer
}

func testRotation(t *testing.T, h holder) {
	begun := time.Now()
	first := h.with("", "/login?user=alice").cookie(t).Value
	lost := h.with("", "/login?user=alice").cookie(t).Value
	second := h.next(t, first)
	if d := time.Since(begun); d < time.Second || second == first {
		t.Errorf("a new token after %v: %v", d, second != first)
	}
	ids := []string{h.with(first, "/id").body, h.with(second, "/id").body}
	if ids[0] == "" || ids[0] != ids[1] {
		t.Errorf("the ids of both tokens are %q", ids)
	}
	presented := time.Now() // with the line before

	t.Run("both tokens read and write", func(t *testing.T) {
		h.with(first, "/put?cart=book")
		h.read(t, second, "alice|admin|book")
		h.with(second, "/put?cart=pen")
		h.read(t, first, "alice|admin|pen")
		h.with(second, "/put?cart=")
	})
	t.Run("a logout ends all tokens at once", func(t *testing.T) {
		old := h.with("", "/login?user=alice").cookie(t).Value
		newer := h.next(t, old)
		h.with(newer, "/logout")
		h.read(t, newer, "||")
		h.read(t, old, "||")
	})
	t.Run("a lost response logs nobody out", func(t *testing.T) {
		given := h.next(t, lost)
		if again := h.next(t, lost); again == given || time.Since(presented) < rqlitestore.Grace-2*time.Second {
			t.Errorf("another token %v after the first got lost: %v", time.Since(presented), again != given)
		}
		if a := h.with(lost, "/id"); a.Header["Set-Cookie"] != nil {
			t.Error("one token after the other is given to a client that keeps none")
		}
	})
	within(t, 2*rqlitestore.Grace, "the older token to end", func() bool { return h.with(first, "/id").body == "" })
	if d := time.Since(presented); d < rqlitestore.Grace-time.Second {
		t.Errorf("the older token ended %v after the newer was presented", d)
	}
	h.read(t, second, "alice|admin|")
}

func testIdle(t *testing.T, h holder, table *table) {
	const idle, touch = 2 * time.Second, 500 * time.Millisecond
	token := h.with("", "/login?user=alice").cookie(t).Value
	begun, before := time.Now(), table.only()
	touches, last := 0, before
	within(t, 20*time.Second, "the session to be in use for two idle times", func() bool {
		h.read(t, token, "alice|admin|")
		if now := table.only(); now.expiry != last.expiry {
			if now.expiry < last.expiry {
				t.Errorf("the expiry moves backwards by %v days", last.expiry-now.expiry)
			}
			now.expiry, last.expiry = last.expiry, now.expiry
			if now != (row{before.token, before.id, before.data, now.expiry, before.version, false}) {
				t.Errorf("a touch changes the row from %+v to %+v", before, now)
			}
			touches++
		}
		return time.Since(begun) > 2*idle
	})
	if most := int(time.Since(begun)/touch) + 1; touches < 2 || touches > most {
		t.Errorf("the expiry moved %d times in %v, want 2 to %d", touches, time.Since(begun), most)
	}
	expires := last.expiry
	within(t, 20*time.Second, "the session to be idle", func() bool {
		if now := table.count(); now > 0 {
			expires = max(expires, table.only().expiry)
		}
		return julian(time.Now()) > expires
	})
	a := h.with(token, "/read")
	a.want(t, http.StatusOK, "||")
	if a.Header["Set-Cookie"] != nil {
		t.Errorf("an expired session sets a cookie: %v", a.Header["Set-Cookie"])
	}
	if h.with(token, "/put?cart=book").cookie(t).Value == token {
		t.Error("an expired session's token is used again")
	}
}

// julian is a time as the table holds it.
func julian(t time.Time) float64 { return float64(t.UnixMilli())/1000/secondsPerDay + 2440587.5 }

func testLifetime(t *testing.T, h holder) {
	begun := time.Now()
	token := h.with("", "/login?user=alice").cookie(t).Value
	within(t, 10*time.Second, "the lifetime to end, busy as it is", func() bool {
		body := h.with(token, "/read").body
		if body != "alice|admin|" && body != "||" {
			t.Fatalf("got %q", body)
		}
		return body == "||"
	})
	if d := time.Since(begun); d < 2900*time.Millisecond || d > 6*time.Second {
		t.Errorf("the session ended after %v, want 3s", d)
	}
}
