package embedded

import (
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
