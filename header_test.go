package caddysession_test

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	caddysession "github.com/caddy-session/caddy-session"
)

// schemes are the protocols that responses are compared over.
var schemes = []struct{ name, site, cookie string }{
	{"HTTP1", "$SITE", "session"},
	{"HTTP2", "$TLS", "__Host-session"},
}

func TestResponse_informationalHeadersLeaveTheCookieToTheFinalOne(t *testing.T) {
	app := newApplication(t, func(w http.ResponseWriter, r *http.Request) {
		for range 3 {
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.Header().Set("Set-Cookie", "session=theirs")
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusProcessing)
		}
		w.Header().Set("Set-Cookie", "a=1")
		_, _ = io.WriteString(w, "final")
	})
	s := start(t, `
$SITE, $TLS {
	session
	session_edit put user alice
	reverse_proxy $APP
}`, "APP", app.address())
	s.visitor().handshake("$TLS/")
	for _, scheme := range schemes {
		t.Run(scheme.name, func(t *testing.T) {
			v := s.visitor().withoutJar()
			r := v.request(http.MethodGet, scheme.site+"/")
			var hints []textproto.MIMEHeader
			r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
				Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
					hints = append(hints, header)
					return nil
				},
			}))
			res, err := v.http.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			a := &answer{Response: res, body: string(body), err: err}
			a.want(t, http.StatusOK, "final")
			if a.cookie(t).Name != scheme.cookie || len(a.Header["Set-Cookie"]) != 2 {
				t.Errorf("the final header sets %q, want a=1 and %s", a.Header["Set-Cookie"], scheme.cookie)
			}
			if a.Header.Get("Vary") != "Cookie" {
				t.Errorf("Vary of the final header is %q", a.Header.Get("Vary"))
			}
			if len(hints) != 6 {
				t.Errorf("%d informational headers came through, want 6", len(hints))
			}
			for _, hint := range hints {
				if hint.Get("Set-Cookie") != "" || hint.Get("Vary") != "" {
					t.Errorf("an informational header has %v", hint)
				}
			}
		})
	}
}

func TestResponse_hasTheCookieHoweverItIsWritten(t *testing.T) {
	gone := errors.New("gone")
	ways := map[string]func(w http.ResponseWriter, r *http.Request) error{
		"nothing": func(http.ResponseWriter, *http.Request) error { return nil },
		"header only": func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(http.StatusAccepted)
			return nil
		},
		"body only": func(w http.ResponseWriter, _ *http.Request) error {
			_, err := io.WriteString(w, "body")
			return err
		},
		"no content": func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(http.StatusNoContent)
			return nil
		},
		"not modified": func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("ETag", `"1"`)
			w.WriteHeader(http.StatusNotModified)
			return nil
		},
		"flush first": func(w http.ResponseWriter, _ *http.Request) error {
			if err := http.NewResponseController(w).Flush(); err != nil {
				return err
			}
			_, err := io.WriteString(w, "flushed")
			return err
		},
		"Flusher first": func(w http.ResponseWriter, r *http.Request) error {
			w.(http.Flusher).Flush()
			if caddysession.FromContext(r.Context()).Renew() == nil {
				return errors.New("the header was not sent")
			}
			return nil
		},
		"ReadFrom": func(w http.ResponseWriter, _ *http.Request) error {
			_, err := w.(io.ReaderFrom).ReadFrom(strings.NewReader("read from"))
			return err
		},
		"io.Copy": func(w http.ResponseWriter, _ *http.Request) error {
			_, err := io.Copy(w, strings.NewReader("copied"))
			return err
		},
		"twice": func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(http.StatusOK)
			w.WriteHeader(http.StatusTeapot)
			return nil
		},
		"deadlines": func(w http.ResponseWriter, _ *http.Request) error {
			c := http.NewResponseController(w)
			if err := errors.Join(c.SetReadDeadline(time.Now().Add(time.Minute)), c.SetWriteDeadline(time.Now().Add(time.Minute))); err != nil {
				return err
			}
			_, err := io.WriteString(w, "in time")
			return err
		},
		"trailers": func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Trailer", "X-After")
			_, err := io.WriteString(w, "chunk")
			w.Header().Set("X-After", "yes")
			return err
		},
		"an error": func(http.ResponseWriter, *http.Request) error {
			return caddyhttp.Error(http.StatusGone, gone)
		},
	}
	s := start(t, `
$SITE, $TLS {
	session
	session_edit put user alice
	in_go $RUN
}`, "RUN", inGo(t, func(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
		return ways[r.URL.Query().Get("way")](w, r)
	}))
	s.visitor().handshake("$TLS/?way=nothing")
	for _, scheme := range schemes {
		for way := range ways {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				t.Run(scheme.name+"/"+way+"/"+method, func(t *testing.T) {
					v := s.visitor().withoutJar()
					r := v.request(method, scheme.site+"/")
					r.URL.RawQuery = "way=" + strings.ReplaceAll(way, " ", "+")
					res, err := v.http.Do(r)
					if err != nil {
						t.Fatal(err)
					}
					body, err := io.ReadAll(res.Body)
					res.Body.Close()
					if err != nil {
						t.Fatal(err)
					}
					if res.StatusCode >= 500 {
						t.Fatalf("status %d %q", res.StatusCode, body)
					}
					a := &answer{Response: res}
					if got := a.cookie(t).Name; got != scheme.cookie {
						t.Errorf("the cookie is %s, want %s", got, scheme.cookie)
					}
					if way == "trailers" && method == http.MethodGet && res.Trailer.Get("X-After") != "yes" {
						t.Errorf("trailers are %v", res.Trailer)
					}
				})
			}
		}
	}
}

func TestResponse_streams(t *testing.T) {
	proceed := make(chan struct{})
	app := newApplication(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		select {
		case <-proceed:
		case <-r.Context().Done():
			return
		}
		_, _ = io.WriteString(w, "data: 2\n\n")
	})
	s := start(t, `
$SITE, $TLS {
	session
	session_edit put user alice
	encode gzip
	reverse_proxy $APP
}`, "APP", app.address())
	for _, scheme := range schemes {
		t.Run(scheme.name, func(t *testing.T) {
			v := s.visitor().withoutJar()
			var res *http.Response
			eventually(t, "the event stream", func() (ok bool) {
				var err error
				res, err = v.http.Do(v.request(http.MethodGet, scheme.site+"/"))
				return err == nil
			})
			defer res.Body.Close()
			lines := bufio.NewReader(res.Body)
			first, err := lines.ReadString('\n') // while the application has not ended
			if err != nil || first != "data: 1\n" {
				t.Fatalf("the first event is %q (%v)", first, err)
			}
			(&answer{Response: res}).cookie(t)
			proceed <- struct{}{}
			rest, err := io.ReadAll(lines)
			if err != nil || string(rest) != "\ndata: 2\n\n" {
				t.Fatalf("the rest is %q (%v)", rest, err)
			}
		})
	}
}

func TestResponse_isCompressedByEncode(t *testing.T) {
	app := newApplication(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, strings.Repeat("compressible ", 1000))
	})
	s := start(t, `
$SITE, $SITE2 {
	session
	session_edit put user alice
	encode gzip
	reverse_proxy $APP
}`, "APP", app.address())
	a := s.visitor().get("/", "Accept-Encoding", "gzip")
	a.cookie(t)
	if a.Header.Get("Content-Encoding") != "gzip" || a.Header.Get("Content-Length") != "" {
		t.Fatalf("the response is not compressed: %v", a.Header)
	}
	z, err := gzip.NewReader(strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(z)
	if err != nil || string(body) != strings.Repeat("compressible ", 1000) {
		t.Fatalf("the body is %d bytes (%v)", len(body), err)
	}
	if vary := strings.Join(a.Header["Vary"], ","); !strings.Contains(vary, "Cookie") || !strings.Contains(vary, "Accept-Encoding") {
		t.Errorf("Vary is %q", vary)
	}
}

func TestResponse_keepsSendfile(t *testing.T) {
	reached, sent := make(chan string, 1), make(chan []string, 1)
	s := start(t, `
{
	order in_go before session
}
(site) {
	in_go $AROUND
	session {
		{args[0]} {args[1]}
	}
	session_edit /with.txt put user alice
	route {
		in_go $LOOK
		file_server {
			root $DIR
		}
	}
}
$SITE {
	import site lifetime 24h
}
$SITE2 {
	import site revalidate 1h
}`, "LOOK", inGo(t, func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
		inner := w
		for {
			if _, ok := inner.(io.ReaderFrom); !ok {
				break
			}
			u, ok := inner.(interface{ Unwrap() http.ResponseWriter })
			if !ok {
				break
			}
			inner = u.Unwrap()
		}
		reached <- fmt.Sprintf("%T", inner)
		return next.ServeHTTP(w, r)
	}), "AROUND", inGo(t, func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
		into := &fileWriter{ResponseWriterWrapper: caddyhttp.ResponseWriterWrapper{ResponseWriter: w}}
		err := next.ServeHTTP(into, r)
		sent <- into.sent
		return err
	}))
	content := strings.Repeat("0123456789", 20_000)
	whole := []string{"200000 of a file"}
	pieces := []string{"65536 of a file", "65536 of a file", "65536 of a file", "3392 of a file"}
	for path, want := range map[string][]string{
		"/with.txt": whole, "/without.txt": whole, "$SITE2/with.txt": pieces, "$SITE2/without.txt": whole, // a guest's session does not end
	} {
		t.Run(path, func(t *testing.T) {
			_, name, _ := strings.Cut(path, "/")
			if err := os.WriteFile(filepath.Join(s.names["DIR"], name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
			a := s.visitor().get(path)
			a.want(t, http.StatusOK, content)
			if name == "with.txt" {
				a.cookie(t)
			} else {
				a.wantUntouched(t)
			}
			if got := <-reached; got != "*http.response" {
				t.Errorf("every writer down to the server's takes part in ReadFrom up to %s", got)
			}
			if got := <-sent; !slices.Equal(got, want) {
				t.Errorf("the writer below gets %q, want %q", got, want)
			}
		})
	}
}

// fileWriter notes what it is to read from.
type fileWriter struct {
	caddyhttp.ResponseWriterWrapper
	sent []string
}

func (w *fileWriter) ReadFrom(r io.Reader) (int64, error) {
	from := r
	for part, ok := from.(*io.LimitedReader); ok; part, ok = from.(*io.LimitedReader) {
		from = part.R
	}
	n, err := w.ResponseWriterWrapper.ReadFrom(r)
	if _, ok := from.(*os.File); ok {
		w.sent = append(w.sent, fmt.Sprint(n, " of a file"))
	}
	return n, err
}

func TestResponse_upgradesToWebsockets(t *testing.T) {
	app := newApplication(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" {
			w.WriteHeader(http.StatusUpgradeRequired)
			return
		}
		conn, both, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(both, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSet-Cookie: session=theirs\r\n\r\n")
		_ = both.Flush()
		_, _ = io.Copy(conn, both) // an echo; frames are nothing to a proxy
	})
	s := start(t, `
$SITE {
	session
	session_edit put user alice
	reverse_proxy $APP
}
$SITE2 {
	session
	in_go $OWN
}`, "APP", app.address(), "OWN", inGo(t, func(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
		conn, both, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return err
		}
		defer conn.Close()
		err = caddysession.FromContext(r.Context()).Put("user", "alice")
		fmt.Fprintf(both, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%v", err)
		return both.Flush()
	}))
	// A handler that writes the header itself has no cookie to send.
	if a := s.visitor().get("$SITE2/"); !strings.Contains(a.body, "the response's header is out") {
		t.Errorf("a session that begins after Hijack: %q", a.body)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url("$SITE"), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	r := s.visitor().request(http.MethodGet, "/", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
	if err := r.Write(conn); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	res, err := http.ReadResponse(reader, r)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("status %d, want 101", res.StatusCode)
	}
	(&answer{Response: res}).cookie(t)
	for range 3 {
		if _, err := io.WriteString(conn, "echo!"); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(reader, got); err != nil || string(got) != "echo!" {
			t.Fatalf("the echo is %q (%v)", got, err)
		}
	}
	s.table().wantRows(1)
}
