package caddysession_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// A response that was refused ends at once, if its body has yet to come as well:
// whoever makes it may be waiting for something that happens in an hour.
func TestOutage_whenStoringEndsAStreamThatIsSilent(t *testing.T) {
	store := newStandIn(t)
	app := newApplication(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	direct := inGo(t, func(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
		_, _ = io.WriteString(w, "data: hello\n\n") // what comes of it is seen by nobody
		<-r.Context().Done()
		return nil
	})
	s := start(t, `
$SITE, $TLS {
	session {
		rqlite $STORE
		max_new_per_client 4 1000h
	}
	handle /login {
		session_edit put user alice
	}
	handle {
		session_edit increment n
		reverse_proxy /proxied $APP
		in_go /direct $DIRECT
	}
}`, "STORE", store.URL, "APP", app.address(), "DIRECT", direct)
	s.visitor().handshake("$TLS/login")
	member := s.visitor()
	member.get("/login")
	member.get("$TLS/login")

	guest := s.visitor().withoutJar()
	everywhere := func(t *testing.T, v *visitor, status int) {
		for _, path := range []string{"/proxied", "/direct"} {
			for protocol, of := range map[string]struct {
				site string
				by   func(*visitor) *visitor
			}{
				"HTTP1": {"$SITE", func(v *visitor) *visitor { return v }},
				"HTTP2": {"$TLS", func(v *visitor) *visitor { return v }},
				"HTTP3": {"$TLS", (*visitor).overHTTP3},
			} {
				t.Run(strings.Trim(path, "/")+"/"+protocol, func(t *testing.T) {
					of.by(v).get(of.site+path).want(t, status, "")
				})
			}
		}
	}
	store.isFull()
	t.Run("a member's", func(t *testing.T) { everywhere(t, member, http.StatusServiceUnavailable) })
	t.Run("a guest's", func(t *testing.T) { everywhere(t, guest, http.StatusServiceUnavailable) })
	store.works()
	eventually(t, "a login beyond the limit", func() bool { return guest.get("/login").StatusCode == http.StatusTooManyRequests })
	t.Run("one of a guest who has begun too many", func(t *testing.T) { everywhere(t, guest, http.StatusTooManyRequests) })
}
