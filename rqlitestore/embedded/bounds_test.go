package embedded

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

func post(t *testing.T, n *Node, target string, body io.Reader, length int64) (status int, answer string) {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://any"+target, body)
	req.ContentLength = length
	resp, err := n.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestRoundTrip_boundsBodies(t *testing.T) {
	t.Parallel()
	n := New(filepath.Join(t.TempDir(), "sessions.db"), Options{})
	t.Cleanup(func() { n.Close() })
	n.maxBody = 1000
	for name, c := range map[string]struct {
		size, length int64
		want         int
	}{
		"with a length that is too much": {1 << 40, 1 << 40, http.StatusRequestEntityTooLarge},
		"without a length, too much":     {1 << 40, -1, http.StatusRequestEntityTooLarge},
		"one byte too much":              {1001, -1, http.StatusRequestEntityTooLarge},
		"just as much":                   {1000, -1, http.StatusOK},
		"just as much, with a length":    {1000, 1000, http.StatusOK},
	} {
		const request = `["SELECT 1"]`
		body := io.MultiReader(strings.NewReader(request), io.LimitReader(spaces{}, c.size-int64(len(request))))
		if status, answer := post(t, n, "/db/query", body, c.length); status != c.want {
			t.Errorf("%s: %d %s", name, status, answer)
		}
		body = io.MultiReader(strings.NewReader(request), io.LimitReader(spaces{}, c.size-int64(len(request))))
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/db/query", body)
		req.ContentLength = c.length
		rec := httptest.NewRecorder()
		if n.ServeHTTP(rec, req); rec.Code != c.want {
			t.Errorf("%s, over HTTP: %d %s", name, rec.Code, rec.Body)
		}
	}
}

// spaces is a body without end.
type spaces struct{}

func (spaces) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

func TestRoundTrip_boundsResults(t *testing.T) {
	t.Parallel()
	n := New(filepath.Join(t.TempDir(), "sessions.db"), Options{})
	t.Cleanup(func() { n.Close() })
	n.maxResult = 100_000
	for _, target := range []string{"/db/query", "/db/query?associative"} {
		body := `["WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT i FROM n"]`
		status, answer := post(t, n, target, strings.NewReader(body), int64(len(body)))
		if status != http.StatusOK || !strings.Contains(answer, `"error":"result is larger than 100000 bytes"`) || strings.Contains(answer, "values") {
			t.Errorf("%d %.200s", status, answer)
		}
	}
}

// FuzzSQL sends any text as a statement, to every endpoint, and asks for an answer that is JSON, and for a node that
// works as well as before.
func FuzzSQL(f *testing.F) {
	for _, seed := range []string{
		"", ";", "SELECT 1", "SELECT ?", "SELECT 1; SELECT 2", "-- x", "/* x", "'", "\"", "[", "\x00", "SELECT '\x00'", "SELECT x'ff'", "\xff\xfe",
		"INSERT INTO t VALUES(1) RETURNING *", "INSERT OR ROLLBACK INTO u VALUES(1), (1)", "BEGIN", "COMMIT; BEGIN", "SAVEPOINT a; RELEASE a",
		"PRAGMA journal_mode=DELETE", "PRAGMA/**/main.\"synchronous\"(0)", "ATTACH 'x' AS y", "VACUUM INTO 'x'", "VACUUM", "REINDEX", "ANALYZE",
		"CREATE TEMP TABLE x (a)", "CREATE VIRTUAL TABLE v USING fts5(a)", "EXPLAIN SELECT * FROM t", "SELECT zeroblob(1e9)", "SELECT 9e999",
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT * FROM n", "SELECT printf('%*s', 1e8, 'a')", "SELECT randomblob(-1)",
	} {
		f.Add(seed)
	}
	n := New(filepath.Join(f.TempDir(), "sessions.db"), Options{Synchronous: "normal"})
	f.Cleanup(func() { n.Close() })
	n.maxResult = 1 << 20
	f.Fuzz(func(t *testing.T, sql string) {
		body := string(append(appendString([]byte("[["), sql), ", 1, \"x\"]]"...))
		for _, target := range []string{"/db/query", "/db/execute", "/db/request", "/db/execute?transaction&associative"} {
			status, answer := post(t, n, target+withTimeout(target), strings.NewReader(body), int64(len(body)))
			if status != http.StatusOK && !strings.HasPrefix(answer, "json: unsupported value") || status == http.StatusOK && !json.Valid([]byte(answer)) {
				t.Fatalf("%s: %d %s", target, status, answer)
			}
		}
		const probe = `["CREATE TABLE IF NOT EXISTS main.probe (a)", "DELETE FROM main.probe", "INSERT INTO main.probe VALUES(1)"]`
		if _, answer := post(t, n, "/db/execute", strings.NewReader(probe), int64(len(probe))); strings.Contains(answer, "error") {
			t.Fatalf("after %q: %s", sql, answer)
		}
	})
}

// withTimeout adds a bound on how long statements run.
func withTimeout(target string) string {
	if strings.Contains(target, "?") {
		return "&db_timeout=100ms"
	}
	return "?db_timeout=100ms"
}
