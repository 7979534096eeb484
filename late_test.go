package caddysession_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	caddysession "github.com/caddy-session/caddy-session"
)

// A goroutine that outlives the handlers of its request changes nothing that
// nobody stores, and its use of scs does not end Caddy.
func TestSession_changedTooLateIsAnError(t *testing.T) {
	wait := make(chan func(*caddysession.Session, *http.Request))
	late := func(r *http.Request) {
		session := caddysession.FromContext(r.Context())
		go func() {
			<-r.Context().Done()
			(<-wait)(session, r)
		}()
	}
	s := scsSite(t, map[string]http.HandlerFunc{
		"/put": storing("user", "alice"),
		"/late": func(w http.ResponseWriter, r *http.Request) {
			_ = caddysession.FromContext(r.Context()).Load()
			late(r)
			w.WriteHeader(http.StatusOK)
		},
		"/silent": func(_ http.ResponseWriter, r *http.Request) { late(r) },
		"/read": func(w http.ResponseWriter, r *http.Request) {
			session := caddysession.FromContext(r.Context())
			fmt.Fprint(w, session.Keys(), session.Get("user"))
		},
	}, "principal user")
	v := s.visitor()
	v.get("/put").cookie(t)
	for _, path := range []string{"/late", "/silent"} {
		v.get(path).want(t, http.StatusOK, "")
		done := make(chan struct{})
		wait <- func(session *caddysession.Session, r *http.Request) {
			defer close(done)
			defer func() {
				if p := recover(); p != nil {
					t.Errorf("%s: scs panics: %v", path, p)
				}
			}()
			scs := session.Manager()
			if got := scs.GetString(r.Context(), "user"); path == "/late" && got != "alice" {
				t.Errorf("scs finds %q", got)
			}
			for what, change := range map[string]func() error{
				"Put":           func() error { return session.Put("late", 1) },
				"Remove":        func() error { return session.Remove("user") },
				"Increment":     func() error { return session.Increment("n", 1) },
				"MergePatch":    func() error { return session.MergePatch(map[string]any{"late": 1}) },
				"Clear":         session.Clear,
				"Renew":         session.Renew,
				"Remember":      func() error { return session.Remember(true) },
				"Destroy":       session.Destroy,
				"DestroyOthers": session.DestroyOthers,
			} {
				if err := change(); err == nil || !strings.Contains(err.Error(), "have returned") {
					t.Errorf("%s: %s is told %v", path, what, err)
				}
			}
			scs.Put(r.Context(), "late", 1)
		}
		<-done
		v.get("/read").want(t, http.StatusOK, "[user]alice")
	}
}
