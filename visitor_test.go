package caddysession_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// visitor is a browser: it keeps cookies and does not follow redirects.
type visitor struct {
	t      testing.TB
	server *server
	http   *http.Client
}

// answer is a response that was read to its end.
type answer struct {
	*http.Response
	body string
	err  error // of reading the body
}

// visitor makes one that speaks HTTP/1.1, and HTTP/2 where there is TLS.
func (s *server) visitor() *visitor { return s.visitorWith(s.t) }

func (s *server) visitorWith(t testing.TB) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true}, // Caddy's own authority, of this test only
		ForceAttemptHTTP2:   true,
		DisableCompression:  true,
		TLSHandshakeTimeout: 10 * time.Second,
	}
	t.Cleanup(transport.CloseIdleConnections)
	s.mu.Lock()
	s.idle = append(s.idle, transport.CloseIdleConnections)
	s.mu.Unlock()
	return &visitor{t: t, server: s, http: &http.Client{
		Transport: transport, Jar: jar, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// without returns the same visitor without a cookie jar: cookies are set by hand.
func (v *visitor) withoutJar() *visitor {
	client := *v.http
	client.Jar = nil
	return &visitor{t: v.t, server: v.server, http: &client}
}

// overHTTP3 returns the same visitor, with the same cookies, over HTTP/3.
func (v *visitor) overHTTP3() *visitor {
	transport := &http3.Transport{TLSClientConfig: onlyHere(), DisableCompression: true}
	v.t.Cleanup(func() { transport.Close() })
	client := *v.http
	client.Transport = transport
	return &visitor{t: v.t, server: v.server, http: &client}
}

// get fetches a path; headers come in pairs.
func (v *visitor) get(path string, headers ...string) *answer {
	v.t.Helper()
	return v.do(http.MethodGet, path, headers...)
}

func (v *visitor) do(method, path string, headers ...string) *answer {
	v.t.Helper()
	a, err := v.try(method, path, headers...)
	for again := 0; again < 5 && v.server.wasReloaded() && isUnheard(err); again++ {
		a, err = v.try(method, path, headers...)
	}
	if err != nil {
		v.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// isUnheard reports whether a request met the end of a reloaded Caddy's old
// server: its connection waited in the listener that was closed, or was accepted
// last and, as net/http has it, closed with nothing done.
func isUnheard(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF)
}

func (v *visitor) try(method, path string, headers ...string) (*answer, error) {
	v.t.Helper()
	return v.ask(v.request(method, path, headers...))
}

// postBody posts a body of some type.
func (v *visitor) postBody(path, kind string, body []byte, headers ...string) *answer {
	v.t.Helper()
	r := v.request(http.MethodPost, path, append(headers, "Content-Type", kind)...)
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	a, err := v.ask(r)
	if err != nil {
		v.t.Fatal(err)
	}
	return a
}

// submit posts a form.
func (v *visitor) submit(path string, form url.Values, headers ...string) *answer {
	v.t.Helper()
	return v.postBody(path, "application/x-www-form-urlencoded", []byte(form.Encode()), headers...)
}

func (v *visitor) ask(r *http.Request) (*answer, error) {
	res, err := v.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return &answer{Response: res, body: string(body), err: err}, nil
}

func (v *visitor) request(method, path string, headers ...string) *http.Request {
	v.t.Helper()
	var body io.Reader
	if method == http.MethodPost {
		body = bytes.NewReader([]byte("posted"))
	}
	r, err := http.NewRequestWithContext(v.t.Context(), method, v.server.url(path), body)
	if err != nil {
		v.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

// sendRaw sends a request as it stands here over a connection of its own.
func sendRaw(t testing.TB, host, message string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second)) // a loopback connection takes deadlines
	if _, err := io.WriteString(conn, message); err != nil {
		t.Fatal(err)
	}
	return conn
}

// together sends requests side by side and checks their answers one by one.
func together(t *testing.T, requests map[string]func() (*answer, error), check func(*answer, *testing.T)) {
	t.Helper()
	type result struct {
		a   *answer
		err error
	}
	var mu sync.Mutex
	results := make(map[string]result, len(requests))
	var all sync.WaitGroup
	for name, send := range requests {
		all.Go(func() {
			a, err := send()
			mu.Lock()
			results[name] = result{a, err}
			mu.Unlock()
		})
	}
	all.Wait()
	for name, r := range results {
		t.Run(name, func(t *testing.T) {
			if r.err != nil {
				t.Fatal(r.err)
			}
			check(r.a, t)
		})
	}
}

// handshake waits until Caddy has the certificate of an https site.
func (v *visitor) handshake(path string) {
	v.t.Helper()
	eventually(v.t, "the certificate of "+path, func() bool {
		_, err := v.try(http.MethodHead, path)
		return err == nil
	})
}

// cookie returns the value of the session cookie that the response sets; it fails unless that is exactly one.
func (a *answer) cookie(t testing.TB) *http.Cookie {
	t.Helper()
	var found []*http.Cookie
	for _, c := range a.Cookies() {
		if isSessionCookie(c.Name) {
			found = append(found, c)
		}
	}
	if len(found) != 1 {
		t.Fatalf("the response (%d) sets %d session cookies, want 1: %v", a.StatusCode, len(found), a.Header["Set-Cookie"])
	}
	return found[0]
}

func isSessionCookie(name string) bool { return name == "session" || name == "__Host-session" }

// want checks status and body.
func (a *answer) want(t testing.TB, status int, body string) {
	t.Helper()
	if a.StatusCode != status || a.body != body {
		t.Fatalf("got %d %q, want %d %q", a.StatusCode, a.body, status, body)
	}
}

// wantUntouched checks that the response says nothing of a session.
func (a *answer) wantUntouched(t testing.TB) {
	t.Helper()
	if c := a.Header["Set-Cookie"]; len(c) > 0 {
		t.Errorf("the response sets a cookie: %v", c)
	}
	if slices.Contains(a.Header["Vary"], "Cookie") {
		t.Error("the response varies by the cookie")
	}
}

// application is what stands behind the proxy. It keeps what it was sent.
type application struct {
	*httptest.Server
	mu   sync.Mutex
	seen []*http.Request
}

// newApplication answers with h, or with 200 and "app" where h is nil.
func newApplication(t testing.TB, h http.HandlerFunc) *application {
	t.Helper()
	a := new(application)
	a.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.seen = append(a.seen, r.Clone(r.Context()))
		a.mu.Unlock()
		if h == nil {
			_, _ = io.WriteString(w, "app")
			return
		}
		h(w, r)
	}))
	a.Config.Protocols = new(http.Protocols)
	a.Config.Protocols.SetHTTP1(true)
	a.Config.Protocols.SetUnencryptedHTTP2(true) // for h2c:// upstreams
	a.Start()
	t.Cleanup(a.Close)
	return a
}

func (a *application) address() string { return strings.TrimPrefix(a.URL, "http://") }

func (a *application) requests() []*http.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.seen)
}

// last returns the newest request.
func (a *application) last(t testing.TB) *http.Request {
	t.Helper()
	all := a.requests()
	if len(all) == 0 {
		t.Fatal("the application was not asked")
	}
	return all[len(all)-1]
}
