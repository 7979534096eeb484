package keepalive_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-session/caddy-session/bench/internal/keepalive"
)

func TestConn_readsResponsesOfNetHTTP(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/empty":
			w.WriteHeader(http.StatusNoContent)
		default:
			http.Error(w, strings.Repeat("x", 2000), http.StatusTeapot)
		}
	}))
	t.Cleanup(srv.Close)
	c := keepalive.NewConn(srv.Listener.Addr().String())
	t.Cleanup(c.Close)
	for range 3 {
		r, err := c.Do([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
		if err != nil || r.Status != http.StatusTeapot || len(r.Body) != 2001 {
			t.Fatalf("got %d with %d bytes, %v", r.Status, len(r.Body), err)
		}
		if r, err = c.Do([]byte("GET /empty HTTP/1.1\r\nHost: a\r\n\r\n")); err != nil || r.Status != http.StatusNoContent {
			t.Fatalf("got %d, %v", r.Status, err)
		}
	}
}
