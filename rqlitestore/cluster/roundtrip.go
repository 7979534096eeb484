package cluster

import (
	"bytes"
	"fmt"
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
	t.lastUse.Store(sinceEpoch(now))
	t.hedges.earn()
	c := &call{
		t: t, q: q, begun: now,
		anyNode:  read && (req.URL.Path != "/db/query" || strings.Contains(req.URL.RawQuery, "level=none")),
		outcomes: make(chan outcome, mostInFlight),
	}
	res, err := c.begin(req.Context())
	if res != nil {
		res.Request = req
	}
	return res, err
}

// question reads the request's body, which a RoundTripper has to close, and
// adds the credentials.
func (t *Transport) question(req *http.Request) (*question, error) {
	q := &question{request: req, header: t.cfg.withCredentials(req.Header)}
	if req.Body != nil {
		body, err := readAll(req)
		if err != nil {
			return nil, fmt.Errorf("cluster: read the request: %w", err)
		}
		q.body = body
	}
	if t.ctx.Err() != nil {
		return nil, ErrClosed
	}
	return q, nil
}

func readAll(req *http.Request) ([]byte, error) {
	defer req.Body.Close()
	var buffer bytes.Buffer
	if req.ContentLength > 0 {
		buffer.Grow(int(req.ContentLength) + bytes.MinRead)
	}
	_, err := buffer.ReadFrom(req.Body)
	return buffer.Bytes(), err
}
