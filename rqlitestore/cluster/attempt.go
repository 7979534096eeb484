package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/internal/buffers"
	"github.com/caddy-session/caddy-session/rqlitestore/internal/idempotent"
)

// question is a request in the form in which it can be put to any node, any
// number of times.
type question struct {
	request  *http.Request // as it came; its URL names no node
	header   http.Header   // with the credentials; not changed once made
	body     []byte
	delicate bool // it may change something and must not be repeated
}

// put asks one node once and reads its whole answer.
func (t *Transport) put(ctx context.Context, q *question, n *node, m mode) reply {
	idempotent.Sending(ctx)
	res, connected, err := q.send(ctx, n, m, t.cfg.Timeout)
	if err != nil && !connected {
		return noReply(ctx, unsent, "no connection", err)
	}
	if err != nil {
		return noReply(ctx, cut, "no answer", err)
	}
	defer res.Body.Close()
	n.heard.Store(sinceEpoch(time.Now()))
	buffer := replies.Get()
	err = readReply(buffer, res, t.cfg.MaxReply)
	if errors.Is(err, errReplyTooLong) || errors.Is(err, errNotJSON) {
		return reply{verdict: garbled, reason: err}
	}
	if err != nil {
		return noReply(ctx, cut, "half an answer", err)
	}
	whole := res.ContentLength >= 0 || len(res.TransferEncoding) > 0 || res.ProtoMajor > 1
	setBody(res, &replyBody{*bytes.NewReader(buffer.Bytes()), buffer}, buffer.Len())
	return judgeReply(q, m, res, buffer.Bytes(), whole)
}

// replies are of answers that were read, for the next ones: an answer to many
// reads is large.
var replies = buffers.NewPool(1 << 20)

// replyBody is what the caller reads of an answer. What is never closed, because
// another answer came first, is not used again.
type replyBody struct {
	bytes.Reader
	buffer *bytes.Buffer
}

func (b *replyBody) Close() error {
	b.Reader.Reset(nil)
	if b.buffer != nil {
		replies.Put(b.buffer)
		b.buffer = nil
	}
	return nil
}

// send reports, where it fails, whether anything can have reached the node.
func (q *question) send(ctx context.Context, n *node, m mode, timeout time.Duration) (res *http.Response, connected bool, err error) {
	if q.delicate {
		// It has to be known for certain.
		trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }}
		res, err = n.http.RoundTrip(q.addressed(httptrace.WithClientTrace(ctx, trace), n, m, timeout))
		return res, connected, err
	}
	res, err = n.http.RoundTrip(q.addressed(ctx, n, m, timeout))
	var op *net.OpError
	return res, err != nil && !(errors.As(err, &op) && op.Op == "dial"), err
}

// noReply is the reply of a node that has not answered, or not to the end.
func noReply(ctx context.Context, v verdict, what string, err error) reply {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return reply{verdict: v, late: true, reason: fmt.Errorf("%s in time", what)}
	}
	var timeout net.Error
	late := errors.As(err, &timeout) && timeout.Timeout()
	return reply{verdict: v, late: late, reason: fmt.Errorf("%s: %w", what, err)}
}

// addressed returns the HTTP request to one node.
func (q *question) addressed(ctx context.Context, n *node, m mode, timeout time.Duration) *http.Request {
	query := q.request.URL.RawQuery
	switch m {
	case direct:
		query = joinQuery(query, "redirect")
	case forward:
		// A forwarding node waits for a silent leader no longer than we wait
		// for it; its own default is 30 s.
		query = joinQuery(query, "timeout="+timeout.String())
	case local:
	}
	r := q.request.WithContext(ctx)
	r.URL = &url.URL{Scheme: n.base.Scheme, Host: n.base.Host, Path: q.request.URL.Path, RawQuery: query}
	r.Host = ""
	r.Header = q.header
	r.Body, r.GetBody, r.ContentLength = nil, nil, 0
	if len(q.body) > 0 {
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(q.body)), nil }
		r.Body, _ = r.GetBody() // it has no way to fail
		r.ContentLength = int64(len(q.body))
	}
	return r
}

func joinQuery(query, parameter string) string {
	if query == "" {
		return parameter
	}
	return query + "&" + parameter
}

var (
	errReplyTooLong = errors.New("the answer is longer than allowed")
	errNotJSON      = errors.New("the answer is not JSON")
)

// readReply reads a body of at most most bytes. It gives up at the first byte
// of a 200 that cannot be rqlite's, so that a long stream of something else is
// not gathered up to the limit.
func readReply(buffer *bytes.Buffer, res *http.Response, most int64) error {
	if res.ContentLength > most {
		return errReplyTooLong
	}
	if res.ContentLength > 0 {
		buffer.Grow(int(res.ContentLength) + bytes.MinRead)
	}
	body := io.LimitReader(res.Body, most+1)
	if isData(res) {
		if _, err := io.CopyN(buffer, body, 1); err != nil {
			if errors.Is(err, io.EOF) {
				return errNotJSON
			}
			return err
		}
		if buffer.Bytes()[0] != '{' {
			return errNotJSON
		}
	}
	if _, err := buffer.ReadFrom(body); err != nil {
		return err
	}
	if int64(buffer.Len()) > most {
		return errReplyTooLong
	}
	return nil
}

// isData reports whether the response is the result of a statement.
func isData(res *http.Response) bool {
	return res.StatusCode == http.StatusOK && strings.HasPrefix(res.Request.URL.Path, "/db/")
}
