package embedded_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rqlite/gorqlite"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
)

// roundTrip posts body to the node without a network.
func roundTrip(t testing.TB, n *embedded.Node, target, body string) (status int, answer string) {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://any"+target, strings.NewReader(body))
	resp, err := n.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s %s: %v", target, body, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestServeHTTP_gorqliteFindsTheNode(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(newNode(t))
	t.Cleanup(server.Close)
	conn, err := gorqlite.Open(server.URL) // with discovery, which reads /status and /nodes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	write(t, conn, "CREATE TABLE t (a)", "INSERT INTO t VALUES(7)")
	if got := count(t, conn, "SELECT a FROM t"); got != 7 {
		t.Errorf("got %d", got)
	}
	leader, err := conn.Leader()
	if err != nil || "http://"+leader != server.URL {
		t.Errorf("leader %s, %v; want %s", leader, err, server.URL)
	}
	seq, err := conn.QueueOne("INSERT INTO t VALUES(8)")
	if err != nil || seq == 0 {
		t.Errorf("queued write: %d, %v", seq, err)
	}
	if got := count(t, conn, "SELECT count(*) FROM t"); got != 2 {
		t.Errorf("%d rows, want 2", got)
	}
}

func TestServeHTTP_refusesBrowsers(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(newNode(t))
	t.Cleanup(server.Close)
	for _, c := range []struct {
		name, host string
		header     http.Header
		want       int
	}{
		{"curl", "", http.Header{"Content-Type": {"application/json"}}, 200},
		{"with a charset", "", http.Header{"Content-Type": {"application/json; charset=utf-8"}}, 200},
		{"rqlite's shell", "", nil, 200},
		{"localhost", "localhost:4001", nil, 200},
		{"localhost without port", "LOCALHOST", nil, 200},
		{"IPv6", "[::1]:4001", nil, 200},
		{"IPv6 without port", "[::1]", nil, 200},
		{"typed by the user", "", http.Header{"Sec-Fetch-Site": {"none"}}, 200},
		{"cross-origin", "", http.Header{"Origin": {"https://evil.example"}}, 403},
		{"same-origin", "", http.Header{"Origin": {"http://127.0.0.1"}}, 403},
		{"opaque origin", "", http.Header{"Origin": {"null"}}, 403},
		{"an image", "", http.Header{"Sec-Fetch-Site": {"cross-site"}}, 403},
		{"rebound name", "evil.example:4001", nil, 403},
		{"form", "", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, 415},
		{"plain text", "", http.Header{"Content-Type": {"text/plain;charset=UTF-8"}}, 415},
		{"JSON in disguise", "", http.Header{"Content-Type": {"text/plain; application/json"}}, 415},
		{"multipart", "", http.Header{"Content-Type": {"multipart/form-data; boundary=x"}}, 415},
	} {
		for _, path := range []string{"/db/execute", "/db/query", "/db/request"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+path, strings.NewReader(`["SELECT 1"]`))
			if err != nil {
				t.Fatal(err)
			}
			req.Host = c.host
			if c.header != nil {
				req.Header = c.header
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != c.want {
				t.Errorf("%s of %s: %d, want %d", c.name, path, resp.StatusCode, c.want)
			}
		}
	}
}

func TestServeHTTP_refusesOptions(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	newNode(t).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodOptions, "http://127.0.0.1/db/execute", nil))
	if w.Code < 400 || w.Header().Get("Access-Control-Allow-Methods") != "" {
		t.Errorf("preflight: %d %v", w.Code, w.Header())
	}
}

func TestServeHTTP_whileTheFileIsLocked(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/sessions.db"
	first, second := embedded.New(file, embedded.Options{}), embedded.New(file, embedded.Options{})
	t.Cleanup(func() { first.Close(); second.Close() })
	if err := first.Open(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/db/query?q=SELECT+1", "/readyz", "/status"} {
		w := httptest.NewRecorder()
		second.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1"+path, nil))
		if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), embedded.ErrLocked.Error()) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}
