package caddysession_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
)

// tunnel is a websocket as a client sees it: the answer to its handshake, and
// what goes both ways after it. Frames are nothing to a proxy, so there are none.
type tunnel struct {
	answer *http.Response
	io.Reader
	io.Writer
	close func()
	over  func() <-chan struct{}
}

func newTunnel(res *http.Response, from io.Reader, to io.Writer, closing func()) *tunnel {
	w := &tunnel{answer: res, Reader: from, Writer: to, close: closing}
	w.over = sync.OnceValue(func() <-chan struct{} {
		over := make(chan struct{})
		go func() {
			_, _ = io.Copy(io.Discard, w)
			close(over)
		}()
		return over
	})
	return w
}

// ended reads the rest, from the first time that it is called, and says when there is no more.
func (w *tunnel) ended() <-chan struct{} { return w.over() }

// way is one of opening a websocket.
type way struct {
	name string // as Via has it
	dial func(t testing.TB, url string, header http.Header) (*tunnel, error)
}

// tunnels open websockets over each version of HTTP: by Upgrade (RFC 6455), and
// by extended CONNECT (RFC 8441, RFC 9220).
var tunnels = []way{
	{"1.1", dialHTTP1},
	{"2.0", dialHTTP2},
	{"3.0", dialHTTP3},
}

// onlyHere trusts whoever answers on the loopback address.
func onlyHere(protocols ...string) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}
}

func dialHTTP1(t testing.TB, url string, header http.Header) (*tunnel, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	r.Header = header.Clone()
	for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
		r.Header.Set(name, value)
	}
	conn, err := tls.Dial("tcp", r.URL.Host, onlyHere("http/1.1"))
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	if err := r.Write(conn); err != nil {
		return nil, err
	}
	buffered := bufio.NewReader(conn)
	res, err := http.ReadResponse(buffered, r)
	if err != nil {
		return nil, err
	}
	from := io.Reader(buffered)
	if res.StatusCode != http.StatusSwitchingProtocols {
		from = res.Body
	}
	return newTunnel(res, from, conn, func() { conn.Close() }), nil
}

func dialHTTP2(t testing.TB, url string, header http.Header) (*tunnel, error) {
	t.Helper()
	header = header.Clone()
	header[":protocol"] = []string{"websocket"} // how net/http2 is told
	return connect(t, overHTTP2(t), url, "", header)
}

func overHTTP2(t testing.TB) http.RoundTripper {
	//lint:ignore SA1019 http.Transport takes no :protocol
	transport := &http2.Transport{TLSClientConfig: onlyHere()}
	//lint:ignore SA1019 it is the same transport
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

func dialHTTP3(t testing.TB, url string, header http.Header) (*tunnel, error) {
	t.Helper()
	transport := &http3.Transport{TLSClientConfig: onlyHere()}
	t.Cleanup(func() { transport.Close() })
	return connect(t, transport, url, "websocket", header.Clone())
}

// connect sends an extended CONNECT; proto is how http3 is told what it is for.
func connect(t testing.TB, transport http.RoundTripper, url, proto string, header http.Header) (*tunnel, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	body, to := io.Pipe()
	r, err := http.NewRequestWithContext(ctx, http.MethodConnect, url, body)
	if err != nil {
		return nil, err
	}
	r.Header, r.Proto = header, proto
	res, err := transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	return newTunnel(res, res.Body, to, func() {
		to.Close()
		cancel()
	}), nil
}

// open opens a websocket; it fails if it is refused.
func (o way) open(t testing.TB, url string, header http.Header) *tunnel {
	t.Helper()
	w, err := o.dial(t, url, header)
	if err != nil {
		t.Fatal(err)
	}
	want := http.StatusOK
	if o.name == "1.1" {
		want = http.StatusSwitchingProtocols
	}
	if w.answer.StatusCode != want {
		body, _ := io.ReadAll(w)
		t.Fatalf("the handshake is answered by %d %q, want %d", w.answer.StatusCode, body, want)
	}
	return w
}

// wantRefused checks the answer to a handshake; a socket that is open has no end to read.
func (w *tunnel) wantRefused(t testing.TB, status int, text string) {
	t.Helper()
	if w.answer.StatusCode != status {
		t.Fatalf("the handshake is answered by %d, want %d", w.answer.StatusCode, status)
	}
	if body, err := io.ReadAll(w); !strings.Contains(string(body), text) || err != nil {
		t.Errorf("it is refused with %q (%v)", body, err)
	}
}

// wantEcho sends a line and waits until it comes back.
func (w *tunnel) wantEcho(t testing.TB, line string) {
	t.Helper()
	go func() { _, _ = io.WriteString(w, line) }() // what does not get through does not come back
	got := make([]byte, len(line))
	if n, err := io.ReadFull(w, got); err != nil || string(got) != line {
		t.Fatalf("the echo of %q is %q (%v)", line, got[:n], err)
	}
}
