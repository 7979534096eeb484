package caddysession_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// A stream and a socket stay open while their session lasts, and no longer.
func TestRevalidate_closesWhatGoesOnWhenTheSessionHasEnded(t *testing.T) {
	app := newApplication(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "websocket" {
			conn, both, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(err)
			}
			defer conn.Close()
			_, _ = io.WriteString(both, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
			_ = both.Flush()
			_, _ = io.Copy(conn, both) // an echo
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: hello\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	direct := inGo(t, func(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
		_, _ = io.WriteString(w, "data: hello\n\n")
		if err := http.NewResponseController(w).Flush(); err != nil {
			return err
		}
		<-r.Context().Done()
		return nil
	})
	s := start(t, `
$SITE, $TLS {
	session {
		principal user
		revalidate 20ms
	}
	handle /login {
		session_edit put user {query.user}
	}
	handle /logout {
		session_edit destroy
	}
	handle /proxied {
		@member session user
		reverse_proxy @member $APP
	}
	handle /direct {
		@member session user
		in_go @member `+direct+`
	}
}`, "APP", app.address())
	streams := map[string]func(v *visitor) io.ReadCloser{
		"proxied":           func(v *visitor) io.ReadCloser { return openStream(t, v, "/proxied") },
		"in Caddy":          func(v *visitor) io.ReadCloser { return openStream(t, v, "/direct") },
		"proxied by HTTP/2": func(v *visitor) io.ReadCloser { return openStream(t, v, "$TLS/proxied") },
		"websocket":         func(v *visitor) io.ReadCloser { return openSocket(t, v) },
	}
	for name, open := range streams {
		for how, end := range map[string]string{"logout": "/logout", "another user": "/login?user=bob"} {
			t.Run(name+"/"+how, func(t *testing.T) {
				site := "/"
				if strings.Contains(name, "HTTP/2") {
					site = "$TLS/"
				}
				v := s.visitor()
				v.handshake(site)
				v.get(strings.TrimSuffix(site, "/") + "/login?user=alice")
				stream := open(v)
				defer stream.Close()
				still := s.visitor() // whose stream goes on
				still.get("/login?user=carol")
				other := openStream(t, still, "/proxied")
				defer other.Close()

				v.get(strings.TrimSuffix(site, "/") + end)
				ended := make(chan struct{})
				go func() {
					_, _ = io.Copy(io.Discard, stream)
					close(ended)
				}()
				eventually(t, "the stream to end", func() bool {
					select {
					case <-ended:
						return true
					default:
						return false
					}
				})
			})
		}
	}
	s.logged("the session has ended")
}

// openStream reads the beginning of a stream.
func openStream(t *testing.T, v *visitor, path string) io.ReadCloser {
	t.Helper()
	res, err := v.http.Do(v.request(http.MethodGet, path))
	if err != nil {
		t.Fatal(err)
	}
	hello := make([]byte, len("data: hello\n\n"))
	if _, err := io.ReadFull(res.Body, hello); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %q %v", path, res.StatusCode, hello, err)
	}
	return res.Body
}

// openSocket opens a websocket and has something echoed.
func openSocket(t *testing.T, v *visitor) io.ReadCloser {
	t.Helper()
	r := v.request(http.MethodGet, "/proxied", "Connection", "Upgrade", "Upgrade", "websocket", "Origin", v.server.url("$SITE"))
	for _, c := range v.http.Jar.Cookies(r.URL) {
		r.AddCookie(c)
	}
	conn, err := net.Dial("tcp", r.URL.Host)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Write(conn); err != nil {
		t.Fatal(err)
	}
	buffered := bufio.NewReader(conn)
	res, err := http.ReadResponse(buffered, r)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the handshake: %v %v", res, err)
	}
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := buffered.ReadString('\n'); err != nil || line != "hello\n" {
		t.Fatalf("the echo: %q %v", line, err)
	}
	return conn
}
