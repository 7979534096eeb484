package embedded

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/caddy-session/caddy-session/rqlitestore/internal/buffers"
)

var errTooLarge = errors.New("request body is too large")

// RoundTrip answers one request, whatever host it is addressed to.
func (n *Node) RoundTrip(req *http.Request) (*http.Response, error) {
	a, err := n.readAndAnswer(req)
	if errors.Is(err, errTooLarge) {
		a, err = plainText(http.StatusRequestEntityTooLarge, err.Error()+"\n"), nil
	}
	if err != nil {
		return nil, err
	}
	return &http.Response{
		Status:        strconv.Itoa(a.status) + " " + http.StatusText(a.status),
		StatusCode:    a.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        http.Header{"Content-Type": {a.contentType()}},
		Body:          io.NopCloser(bytes.NewReader(a.body)),
		ContentLength: int64(len(a.body)),
		Request:       req,
	}, nil
}

// bodies are of requests, for the next ones: what a statement keeps of a body is a copy. The store's batches fit.
var bodies = buffers.NewPool(4 << 20)

// bodyError is an error of reading the request's body.
type bodyError struct{ error }

func (e bodyError) Unwrap() error { return e.error }

func (n *Node) readAndAnswer(req *http.Request) (reply, error) {
	b := bodies.Get()
	defer bodies.Put(b)
	if err := n.readBody(b, req); err != nil {
		return reply{}, bodyError{err}
	}
	return n.answer(req, b.Bytes())
}

func (n *Node) readBody(b *bytes.Buffer, req *http.Request) error {
	if req.Body == nil {
		return nil
	}
	defer req.Body.Close()
	if req.ContentLength > n.maxBody {
		return errTooLarge
	}
	if req.ContentLength > 0 {
		b.Grow(int(req.ContentLength) + bytes.MinRead) // it would grow by doubling
	}
	_, err := b.ReadFrom(io.LimitReader(req.Body, n.maxBody+1))
	if int64(b.Len()) > n.maxBody {
		return errTooLarge
	}
	return err
}

// answer finds what the request is about and has it answered.
func (n *Node) answer(req *http.Request, body []byte) (reply, error) {
	p, err := parseParams(req.URL.RawQuery)
	if err != nil {
		return badRequest(err), nil
	}
	e, ok := endpoints[endpointName(req.URL.Path)]
	switch {
	case !ok:
		return plainText(http.StatusNotFound, ""), nil
	case !e.allows(req.Method):
		return plainText(http.StatusMethodNotAllowed, ""), nil
	default:
		return e.answer(n, req, p, body)
	}
}
