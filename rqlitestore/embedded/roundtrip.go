package embedded

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
)

var errTooLarge = errors.New("request body is too large")

// RoundTrip answers one request, whatever host it is addressed to.
func (n *Node) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := n.readBody(req.Body, req.ContentLength)
	if err != nil && !errors.Is(err, errTooLarge) {
		return nil, err
	}
	var a reply
	if err != nil {
		a = plainText(http.StatusRequestEntityTooLarge, err.Error()+"\n")
	} else if a, err = n.answer(req, body); err != nil {
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

func (n *Node) readBody(body io.ReadCloser, length int64) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	defer body.Close()
	if length > n.maxBody {
		return nil, errTooLarge
	}
	if length > 0 {
		b := make([]byte, length)
		_, err := io.ReadFull(body, b)
		return b, err
	}
	b, err := io.ReadAll(io.LimitReader(body, n.maxBody+1))
	if int64(len(b)) > n.maxBody {
		return nil, errTooLarge
	}
	return b, err
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
