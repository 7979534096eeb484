package caddysession_test

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	caddysession "github.com/caddy-session/caddy-session"
)

func TestCanceled_requestsStoreTheirUpdate(t *testing.T) {
	const rounds = 200
	var cancels sync.Map // round → context.CancelFunc of the client's request
	app := newApplication(t, func(w http.ResponseWriter, r *http.Request) {
		cancel, _ := cancels.Load(r.Header.Get("Round"))
		cancel.(context.CancelFunc)() // after the edit, before the commit
		w.WriteHeader(http.StatusOK)
	})
	s := start(t, `
$SITE {
	session
	handle /put {
		session_edit put user alice
		respond "put"
	}
	handle /read {
		respond "{http.session.data.visits}"
	}
	handle {
		session_edit increment visits
		reverse_proxy $APP
	}
}`, "APP", app.address())
	v := s.visitor()
	v.get("/put")
	for round := range rounds {
		ctx, cancel := context.WithCancel(t.Context())
		cancels.Store(strconv.Itoa(round), cancel)
		if res, err := v.http.Do(v.request(http.MethodGet, "/", "Round", strconv.Itoa(round)).WithContext(ctx)); err == nil {
			res.Body.Close()
		}
	}
	eventually(t, "every update to be stored", func() bool { return v.get("/read").body == strconv.Itoa(rounds) })
}

// Nor does a stream that nobody reads any more lose what it ends with, a login's name
// among it: its session has its cookie since it began.
func TestCanceled_streamsStoreWhoseTheSessionIs(t *testing.T) {
	streaming := make(chan struct{})
	s := scsSite(t, map[string]http.HandlerFunc{
		"/cart": storing("cart", "book"),
		"/stream": func(w http.ResponseWriter, r *http.Request) {
			session := caddysession.FromContext(r.Context())
			_ = session.Load()
			w.WriteHeader(http.StatusOK)
			close(streaming)
			<-r.Context().Done()
			if err := session.Put("user", "alice"); err != nil {
				t.Error(err)
			}
		},
	}, "principal user")
	v := s.visitor()
	v.get("/cart").cookie(t)
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		<-streaming
		leave()
	}()
	if res, err := v.http.Do(v.request(http.MethodGet, "/stream").WithContext(ctx)); err == nil {
		res.Body.Close()
	}
	eventually(t, "the session to be alice's", func() bool { return strings.Contains(s.table().only().data, `"user":"alice"`) })
}

// A browser drops the answer to the first press of a button when it is pressed again
// or the visitor goes elsewhere. A session that began with it would be one that nobody
// has: shown as one of the user's, and in the way of others of theirs.
func TestCanceled_loginsBeginNothing(t *testing.T) {
	waiting, done := make(chan struct{}), make(chan struct{})
	check := inGo(t, func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
		if !r.URL.Query().Has("slow") {
			return next.ServeHTTP(w, r)
		}
		defer func() { done <- struct{}{} }()
		if _, err := io.Copy(io.Discard, r.Body); err != nil { // until then the server does not see who leaves
			return err
		}
		waiting <- struct{}{}
		<-r.Context().Done() // as long as the hash of a password takes
		return next.ServeHTTP(w, r)
	})
	s := start(t, `
$SITE {
	session {
		principal user
		max_per_principal 1 reject
	}
	handle /cart {
		session_edit put cart book
		respond ok
	}
	handle /login {
		route {
			in_go $CHECK
			session_edit {
				renew
				put user {query.user}
			}
			respond "welcome {http.session.data.user}"
		}
	}
	handle {
		respond "user={http.session.data.user} cart={http.session.data.cart}"
	}
}`, "CHECK", check)
	pressAndLeave := func(v *visitor, user string) {
		t.Helper()
		ctx, leave := context.WithCancel(t.Context())
		go func() {
			<-waiting
			leave()
		}()
		if res, err := v.http.Do(v.request(http.MethodPost, "/login?slow&user="+user).WithContext(ctx)); err == nil {
			res.Body.Close()
			t.Fatalf("who has left is answered %d", res.StatusCode)
		}
		<-done
	}
	guest := s.visitor()
	for _, user := range []string{"alice", ""} { // and "" begins a guest's
		pressAndLeave(guest, user)
		s.table().wantRows(0)
	}
	guest.do(http.MethodPost, "/login?user=alice").want(t, http.StatusOK, "welcome alice")

	shopper := s.visitor()
	shopper.get("/cart")
	pressAndLeave(shopper, "bob")
	shopper.get("/").want(t, http.StatusOK, "user= cart=book")
	shopper.do(http.MethodPost, "/login?user=bob").want(t, http.StatusOK, "welcome bob")
	shopper.get("/").want(t, http.StatusOK, "user=bob cart=book")

	// What is renewed for another reason, as a change of rights, is renewed all the same.
	pressAndLeave(shopper, "bob")
	var superseded bool
	err := s.table().db.QueryRow("SELECT superseded IS NOT NULL FROM sessions WHERE token = ?", hashOf(shopper.token())).Scan(&superseded)
	if err != nil || !superseded {
		t.Errorf("the token of who has left is renewed: %v (%v)", superseded, err)
	}
}
