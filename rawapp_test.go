package caddysession_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// rawApplication records requests byte for byte, and answers with the bytes that
// the test wants to be answered.
type rawApplication struct {
	address string
	mu      sync.Mutex
	reply   string
	last    string
}

func newRawApplication(t testing.TB) *rawApplication {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &rawApplication{address: l.Addr().String()}
	var serving sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { a.serve(conn) })
		}
	})
	a.answers("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
	return a
}

func (a *rawApplication) answers(reply string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reply, a.last = reply, ""
}

// request returns what the newest request was, to its last byte.
func (a *rawApplication) request() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

func (a *rawApplication) serve(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second)) // a loopback connection takes deadlines
	var seen bytes.Buffer
	r, err := http.ReadRequest(bufio.NewReader(io.TeeReader(conn, &seen)))
	if err != nil {
		return
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	a.mu.Lock()
	a.last = seen.String()
	reply := a.reply
	a.mu.Unlock()
	_, _ = io.WriteString(conn, reply) // who hangs up gets no answer
}

// field is one line of a header or a trailer.
type field struct{ name, value string }

// fieldsOf takes the lines of all headers and trailers from a raw message. None
// of the bodies here has a line with a colon.
func fieldsOf(message string) (all []field) {
	for line := range strings.SplitSeq(message, "\r\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && !strings.Contains(name, " ") {
			all = append(all, field{name, strings.TrimSpace(value)})
		}
	}
	return all
}

// folded makes one name of the spellings that CGI takes for the same.
func folded(name string) string {
	return strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(name))
}

// valuesOf returns the values under a name, in whatever spelling.
func valuesOf(fields []field, name string) (values []string) {
	for _, f := range fields {
		if folded(f.name) == folded(name) {
			values = append(values, f.value)
		}
	}
	return values
}
