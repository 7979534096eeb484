package caddysession_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
)

// standIn is an rqlite node that can be made to fail: an embedded node behind HTTP.
type standIn struct {
	t testing.TB
	*httptest.Server
	node  *embedded.Node
	file  string
	calls atomic.Int64 // requests for sessions
	mode  atomic.Value // func(w http.ResponseWriter, r *http.Request, serve http.Handler), for such requests
	done  chan struct{}
}

type serveMode func(w http.ResponseWriter, r *http.Request, node http.Handler)

func newStandIn(t testing.TB) *standIn {
	t.Helper()
	s := &standIn{t: t, file: filepath.Join(t.TempDir(), "rqlite.db"), done: make(chan struct{})}
	s.node = embedded.New(s.file, embedded.Options{})
	if err := s.node.Open(); err != nil {
		t.Fatal(err)
	}
	s.works()
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := bodyOf(r)
		if !strings.HasPrefix(r.URL.Path, "/db/") {
			s.node.ServeHTTP(w, r)
			return
		}
		if bytes.Contains(body, []byte("sessions")) { // Caddy also probes whether the node answers
			s.calls.Add(1)
		}
		s.mode.Load().(serveMode)(w, r, s.node)
	}))
	t.Cleanup(func() {
		close(s.done)
		s.Close()
		if err := s.node.Close(); err != nil {
			t.Errorf("closing the stand-in: %v", err)
		}
	})
	return s
}

// bodyOf reads a request's body and leaves it for whoever is asked next.
func bodyOf(r *http.Request) []byte {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body
}

// works is what it does at first.
func (s *standIn) works() {
	s.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) { node.ServeHTTP(w, r) }))
}

// fails makes it answer 503 as a node without a leader does.
func (s *standIn) fails() {
	s.mode.Store(serveMode(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		http.Error(w, "leader not found", http.StatusServiceUnavailable)
	}))
}

// hangs makes it accept requests and never answer.
func (s *standIn) hangs() {
	s.mode.Store(serveMode(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		select {
		case <-r.Context().Done():
		case <-s.done:
		}
	}))
}

// slows makes it take so long for each request, however many rows it has.
func (s *standIn) slows(by time.Duration) {
	s.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
		select {
		case <-time.After(by):
			node.ServeHTTP(w, r)
		case <-s.done:
		}
	}))
}

// failsWrites makes it read as usual and refuse to write.
func (s *standIn) failsWrites() {
	s.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
		if r.URL.Path == "/db/query" {
			node.ServeHTTP(w, r)
			return
		}
		http.Error(w, "leader not found", http.StatusServiceUnavailable)
	}))
}

// isFull makes it read as usual and report an error of the database for every write.
func (s *standIn) isFull() {
	s.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
		if r.URL.Path == "/db/query" {
			node.ServeHTTP(w, r)
			return
		}
		_, _ = io.WriteString(w, `{"results":[{"error":"database or disk is full"}]}`)
	}))
}

// isBroken makes it answer what no node would.
func (s *standIn) isBroken() {
	s.mode.Store(serveMode(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		_, _ = io.WriteString(w, "<!doctype html><title>A captive portal</title>")
	}))
}

// losesReplies makes it do what it is told and hang up before the answer, n times.
func (s *standIn) losesReplies(n int64) {
	var lost atomic.Int64
	s.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
		if r.URL.Path == "/db/query" || lost.Add(1) > n {
			node.ServeHTTP(w, r)
			return
		}
		node.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}))
}

// executes changes its database, as another program or another Caddy does.
func (s *standIn) executes(sql string) {
	s.t.Helper()
	body := strings.NewReader(`["` + sql + `"]`)
	answer := httptest.NewRecorder()
	s.node.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "http://127.0.0.1/db/execute", body))
	if text := answer.Body.String(); strings.Contains(text, "error") || answer.Code != http.StatusOK {
		s.t.Fatalf("%s: %d %s", sql, answer.Code, text)
	}
}
