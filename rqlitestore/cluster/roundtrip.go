package cluster

import (
	"net/http"
	"strings"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/internal/idempotent"
)

// RoundTrip implements [http.RoundTripper]. The host of the request's URL is
// ignored: the request goes to one of the nodes. The body of the response is
// in memory when RoundTrip returns.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	read := req.URL.Path == "/db/query" || req.Method == http.MethodGet || req.Method == http.MethodHead
	q, err := t.question(req)
	if err != nil {
		return nil, err
	}
	q.delicate = !read && !idempotent.Is(req.Context())
	now := time.Now()
	t.lastUse.Store(now.UnixNano())
	t.hedges.earn()
	c := &call{
		t: t, q: q, begun: now,
		repeatable: !q.delicate,
		anyNode:    read && (req.URL.Path != "/db/query" || strings.Contains(req.URL.RawQuery, "level=none")),
		outcomes:   make(chan outcome, mostInFlight),
	}
	res, err := c.begin(req.Context())
	if res != nil {
		res.Request = req
	}
	return res, err
}
