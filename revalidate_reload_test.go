package caddysession_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// watched is a stream of a site that is reloaded.
type watched struct {
	*server
	visitor *visitor
	ended   chan struct{}
}

// watchedSite has streams, with a placeholder for options of its session.
func watchedSite(t *testing.T) func(options string) string {
	stream := inGo(t, func(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
		_, _ = io.WriteString(w, "data: hello\n\n")
		_ = http.NewResponseController(w).Flush() // the client finds out
		<-r.Context().Done()
		return nil
	})
	return func(options string) string {
		return "$SITE {\nsession {\nprincipal user\nrevalidate 20ms\n" + options + "\n}\n" +
			"handle /stream {\n@member session user\nin_go @member " + stream + "\n}\n" +
			"session_edit /login put user {query.user}\nsession_edit /logout destroy\nsession_edit /count increment count\n" +
			"respond \"{http.session.data.user} {http.session.data.count}\"\n}"
	}
}

// watch signs a visitor in and opens a stream.
func (s *server) watch(t *testing.T) *watched {
	t.Helper()
	w := &watched{server: s, visitor: s.visitorWith(t), ended: make(chan struct{})}
	w.visitor.get("/login?user=alice")
	stream := openStream(t, w.visitor, "/stream")
	t.Cleanup(func() { stream.Close() })
	go func() {
		_, _ = io.Copy(io.Discard, stream)
		close(w.ended)
	}()
	return w
}

// Keys that are added, or put first, end no session, and so no stream of the
// config before, which cannot open a row that the new one has sealed.
func TestRevalidate_outlivesAReloadToOtherKeys(t *testing.T) {
	withSecrets(t)
	site := watchedSite(t)
	for name, keys := range map[string][2]string{
		"from none": {"", "keys {env.SESSION_TEST_FIRST} {\nplain_until 2100-01-01T00:00:00Z\n}"},
		"put first": {"keys {env.SESSION_TEST_FIRST}", "keys {env.SESSION_TEST_SECOND} {env.SESSION_TEST_FIRST}"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, site(keys[0]))
			stays, other, leaves := s.watch(t), s.watch(t), s.watch(t)
			s.reload(site(keys[1]))
			for _, w := range []*watched{stays, other, leaves} {
				w.visitor.get("/count").want(t, http.StatusOK, "alice 1")
			}
			leaves.visitor.get("/logout")
			other.visitor.get("/login?user=bob")
			eventually(t, "the streams to end", func() bool { return closed(leaves.ended) && closed(other.ended) })
			if closed(stays.ended) || strings.Count(s.readLog(), "the session has ended") != 2 {
				t.Error("the stream of a session that goes on is closed")
			}
			stays.visitor.get("/logout")
			eventually(t, "the stream to end", func() bool { return closed(stays.ended) })
		})
	}
}

// After the password of the nodes was changed the config before is not let in any
// more. Its streams end with their sessions all the same.
func TestRevalidate_outlivesThePassword(t *testing.T) {
	store, site := newStandIn(t), watchedSite(t)
	letsIn := func(password string) {
		store.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
			if _, given, _ := r.BasicAuth(); given != password {
				http.Error(w, "Unauthorized", http.StatusUnauthorized)
				return
			}
			node.ServeHTTP(w, r)
		}))
	}
	with := func(password string) string {
		return site("rqlite " + store.URL + " {\nusername caddy\npassword " + password + "\n}")
	}
	letsIn("first")
	s := start(t, with("first"))
	stays, leaves := s.watch(t), s.watch(t)
	letsIn("second")
	s.logged("the session store is unavailable")
	s.reload(with("second"))
	stays.visitor.get("/").want(t, http.StatusOK, "alice ")
	s.logged("the session store is available")
	leaves.visitor.get("/logout")
	eventually(t, "the stream to end", func() bool { return closed(leaves.ended) })
	if closed(stays.ended) {
		t.Error("the stream of a session that goes on is closed")
	}
	if n := strings.Count(s.readLog(), "the session store is unavailable"); n != 1 {
		t.Errorf("logged %d times that the store is unavailable", n)
	}
}
