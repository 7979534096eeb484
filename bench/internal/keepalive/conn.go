// Package keepalive is a client and a server of HTTP/1.1 that do as little as
// they can: they share the processors with what they measure. They know
// requests without a body and responses with a Content-Length.
package keepalive

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

const (
	bufferSize = 8 << 10
	timeout    = 10 * time.Second
)

// Conn is one connection to a server. It is for one goroutine.
type Conn struct {
	addr string
	conn net.Conn
	buf  []byte
}

// NewConn returns a connection that dials addr when it is first used.
func NewConn(addr string) *Conn { return &Conn{addr: addr, buf: make([]byte, 0, bufferSize)} }

// Response is what came back. Its parts are valid until the next request.
type Response struct {
	Status       int
	Header, Body []byte
}

var errForm = errors.New("response is not of the form that this client knows")

// Get is a GET request, with a cookie unless that is empty.
func Get(path, cookie string) []byte {
	text := "GET " + path + " HTTP/1.1\r\nHost: bench.test\r\nUser-Agent: bench\r\n"
	if cookie != "" {
		text += "Cookie: " + cookie + "\r\n"
	}
	return []byte(text + "\r\n")
}

// Cookie returns the name and value of the cookie that the response sets.
func (r Response) Cookie() (cookie string, ok bool) {
	set, ok := Field(r.Header, "Set-Cookie")
	pair, _, _ := bytes.Cut(set, []byte(";"))
	return string(pair), ok
}

// Do sends a request as it is and reads the response. After an error the
// connection is closed, and the next request dials again.
func (c *Conn) Do(request []byte) (Response, error) {
	r, err := c.do(request)
	if err != nil {
		c.Close()
		return Response{}, fmt.Errorf("request to %s: %w", c.addr, err)
	}
	return r, nil
}

func (c *Conn) do(request []byte) (Response, error) {
	if c.conn == nil {
		conn, err := net.DialTimeout("tcp", c.addr, timeout)
		if err != nil {
			return Response{}, err
		}
		// One deadline a connection, not one a request: it only ends a hang.
		if err := conn.SetDeadline(time.Now().Add(time.Hour)); err != nil {
			return Response{}, err
		}
		c.conn = conn
	}
	if _, err := c.conn.Write(request); err != nil {
		return Response{}, err
	}
	return c.read()
}

func (c *Conn) read() (Response, error) {
	c.buf = c.buf[:0]
	head := -1
	for head < 0 {
		if err := c.fill(); err != nil {
			return Response{}, err
		}
		head = bytes.Index(c.buf, []byte("\r\n\r\n"))
	}
	r := Response{Header: c.buf[:head+2]}
	status, length, err := parse(r.Header)
	if err != nil {
		return Response{}, err
	}
	for len(c.buf) < head+4+length {
		if err := c.fill(); err != nil {
			return Response{}, err
		}
	}
	r.Status, r.Header, r.Body = status, c.buf[:head+2], c.buf[head+4:head+4+length]
	return r, nil
}

func (c *Conn) fill() error {
	if len(c.buf) == cap(c.buf) {
		return errForm
	}
	n, err := c.conn.Read(c.buf[len(c.buf):cap(c.buf)])
	c.buf = c.buf[:len(c.buf)+n]
	return err
}

func parse(header []byte) (status, length int, err error) {
	if len(header) < len("HTTP/1.1 200") {
		return 0, 0, errForm
	}
	if status, err = strconv.Atoi(string(header[9:12])); err != nil {
		return 0, 0, errForm
	}
	if status == 204 || status == 304 {
		return status, 0, nil
	}
	value, ok := Field(header, "Content-Length")
	if !ok {
		return 0, 0, errForm
	}
	if length, err = strconv.Atoi(string(value)); err != nil {
		return 0, 0, errForm
	}
	return status, length, nil
}

// Field returns the value of the first header field with this name, which must
// be spelt as it is sent.
func Field(header []byte, name string) (value []byte, ok bool) {
	_, rest, ok := bytes.Cut(header, []byte("\r\n"+name+": "))
	if !ok {
		return nil, false
	}
	value, _, _ = bytes.Cut(rest, []byte("\r\n"))
	return value, true
}

// Close closes the connection.
func (c *Conn) Close() {
	if c.conn != nil {
		_ = c.conn.Close() // nothing was written that could get lost
		c.conn = nil
	}
}
