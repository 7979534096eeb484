package caddysession_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// xconnect makes Go's HTTP/2 announce extended CONNECT (RFC 8441), which it does
// not by default; HTTP/3 does.
var xconnect = []string{"GODEBUG=http2xconnect=1"}

// switchProtocols answers a handshake, with lines for its header.
func switchProtocols(t testing.TB, w http.ResponseWriter, lines string) net.Conn {
	conn, both, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		panic(http.ErrAbortHandler)
	}
	_, _ = io.WriteString(both, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+lines+"\r\n")
	_ = both.Flush() // who has gone gets no answer
	return conn
}

// newEcho is an application that sends back what it gets until the client ends; ended counts these.
func newEcho(t testing.TB, lines string) (app *application, ended chan struct{}) {
	t.Helper()
	ended = make(chan struct{}, 100)
	return newApplication(t, func(w http.ResponseWriter, _ *http.Request) {
		conn := switchProtocols(t, w, lines)
		defer conn.Close()
		_, _ = io.Copy(conn, conn)
		ended <- struct{}{}
	}), ended
}

// cookies is the header that carries what a visitor has for a site; more headers come in pairs.
func (v *visitor) cookies(site string, more ...string) http.Header {
	v.t.Helper()
	r := v.request(http.MethodGet, site+"/", more...)
	for _, c := range v.http.Jar.Cookies(r.URL) {
		r.AddCookie(c)
	}
	return r.Header
}

func TestWebsocket_worksAsWithoutTheSession(t *testing.T) {
	app, ended := newEcho(t, "Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\nSet-Cookie: __Host-session=theirs\r\nSet-Cookie: theirs=1\r\nX-App: yes\r\n")
	s := startAlone(t, xconnect, `
$TLS {
	handle /show {
		session
		respond {http.session.data.user}
	}
	session
	session_edit put user alice
	reverse_proxy $APP
}
$TLS2 {
	reverse_proxy $APP
}`, "APP", app.address())
	for _, over := range tunnels {
		t.Run(over.name, func(t *testing.T) {
			const cookies = "a=1; __Host-session=forged; b=2"
			header := http.Header{"Cookie": {cookies}, "Origin": {s.url("$TLS")}, "Sec-Websocket-Protocol": {"chat"}}
			var seen, answers []string
			for _, site := range []string{"$TLS2", "$TLS"} {
				w := over.open(t, s.url(site+"/"), header)
				request := app.last(t)
				seen = append(seen, describe(request.Method+" "+request.URL.Path, request.Header, "Cookie", "Sec-Websocket-Key", "X-Forwarded-Host"))
				sent := w.answer.Header.Clone()
				if site == "$TLS2" {
					sent["Set-Cookie"] = slices.DeleteFunc(sent["Set-Cookie"], func(line string) bool { return strings.HasPrefix(line, "__Host-session=") })
				} else {
					set := (&answer{Response: w.answer}).cookie(t)
					s.visitor().withoutJar().get("$TLS/show", "Cookie", set.Name+"="+set.Value).want(t, http.StatusOK, "alice")
					if sent.Get("Cache-Control") != "private, no-store" || sent.Get("Vary") != "Cookie" {
						t.Errorf("caches are told %q and Vary %q", sent["Cache-Control"], sent["Vary"])
					}
					if got := request.Header.Get("Cookie"); got != "a=1; b=2" {
						t.Errorf("the application gets the cookies %q", got)
					}
					sent["Set-Cookie"] = slices.DeleteFunc(sent["Set-Cookie"], func(line string) bool { return strings.HasPrefix(line, set.Name+"=") })
					sent.Del("Cache-Control")
					sent.Del("Vary")
				}
				answers = append(answers, describe(w.answer.Status, sent, "Alt-Svc", "Date"))
				if via := request.Header.Get("Via"); via != over.name+" Caddy" {
					t.Errorf("the handshake went by %s", via)
				}
				w.wantEcho(t, "hello")
				w.wantEcho(t, strings.Repeat("0123456789abcdef", 1<<16))
				w.close()
				eventually(t, "the application to see the end", func() bool { return closed(ended) })
			}
			if seen[0] != seen[1] {
				t.Errorf("the application gets\n%s\nand without a session\n%s", seen[1], seen[0])
			}
			if answers[0] != answers[1] {
				t.Errorf("the client gets\n%s\nand without a session\n%s", answers[1], answers[0])
			}
		})
	}
}

// describe writes down a message's header without what is another one each time.
func describe(first string, header http.Header, without ...string) string {
	header = header.Clone()
	for _, name := range without {
		header.Del(name)
	}
	var text bytes.Buffer
	fmt.Fprintln(&text, first)
	_ = header.Write(&text) // to memory
	return text.String()
}

func TestWebsocket_withoutExtendedConnectIsAsWithoutTheSession(t *testing.T) {
	app, _ := newEcho(t, "")
	s := startAlone(t, []string{"GODEBUG="}, `
$TLS {
	session
	session_edit put user alice
	reverse_proxy $APP
}
$TLS2 {
	reverse_proxy $APP
}`, "APP", app.address())
	for _, over := range tunnels {
		t.Run(over.name, func(t *testing.T) {
			_, with := over.dial(t, s.url("$TLS/"), make(http.Header))
			_, without := over.dial(t, s.url("$TLS2/"), make(http.Header))
			if fmt.Sprint(with) != fmt.Sprint(without) || (with != nil) != (over.name == "2.0") {
				t.Errorf("with a session the handshake gives %v, without %v", with, without)
			}
		})
	}
}

func TestWebsocket_sharesTheSessionWithTheApplication(t *testing.T) {
	app, _ := newEcho(t, "Session-Set: {\"sockets\":1}\r\nSession-Action: renew\r\n")
	s := startAlone(t, xconnect, `
$TLS {
	session {
		upstream {
			send user
			accept
		}
	}
	handle /login {
		session_edit put user alice
		respond ok
	}
	handle /show {
		respond "{http.session.data.user} {http.session.data.sockets}"
	}
	reverse_proxy $APP
}`, "APP", app.address())
	for _, over := range tunnels {
		t.Run(over.name, func(t *testing.T) {
			v := s.visitorWith(t)
			v.get("$TLS/login").want(t, http.StatusOK, "ok")
			w := over.open(t, s.url("$TLS/"), v.cookies("$TLS", "Session-Data", "forged"))
			if got := app.last(t).Header["Session-Data"]; !slices.Equal(got, []string{`{"user":"alice"}`}) {
				t.Errorf("the application gets %q", got)
			}
			for name := range w.answer.Header {
				if strings.HasPrefix(name, "Session-") {
					t.Errorf("the client gets %s", name)
				}
			}
			set := (&answer{Response: w.answer}).cookie(t)
			v.withoutJar().get("$TLS/show", "Cookie", set.Name+"="+set.Value).want(t, http.StatusOK, "alice 1")
			w.wantEcho(t, "hello")
		})
	}
}

// What a trusted proxy says of a websocket's handshake leads to the session of
// the pages around it.
func TestWebsocket_hasTheSessionOfItsPages(t *testing.T) {
	app, _ := newEcho(t, "Sec-WebSocket-Accept: x\r\n")
	s := start(t, `
{
	servers {
		trusted_proxies static 127.0.0.0/8
	}
}
$SITE {
	session
	handle /login {
		session_edit put user alice
		respond "in"
	}
	handle {
		session_auth user
		reverse_proxy $APP {
			header_up X-User {http.session.data.user}
		}
	}
}`, "APP", app.address())
	v := s.visitor().withoutJar()
	cookie := v.get("/login", "X-Forwarded-Proto", "https").cookie(t)
	host := strings.TrimPrefix(s.url("$SITE"), "http://")
	conn := sendRaw(t, host, "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"X-Forwarded-Proto: wss\r\nCookie: "+cookie.Name+"="+cookie.Value+"\r\n\r\n") // as Traefik says it
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the handshake is answered by %d", res.StatusCode)
	}
	if user := app.last(t).Header.Get("X-User"); user != "alice" {
		t.Errorf("the websocket is opened for %q", user)
	}
}

func TestWebsocket_opensNoTunnelWhenTheStoreFails(t *testing.T) {
	node := newStandIn(t)
	leaked := make(chan int64, 1)
	app := newApplication(t, func(w http.ResponseWriter, _ *http.Request) {
		conn := switchProtocols(t, w, "X-App: yes\r\n")
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second)) // a loopback connection takes deadlines
		n, _ := io.Copy(io.Discard, conn)
		leaked <- n
	})
	s := startAlone(t, xconnect, `
$TLS {
	session {
		rqlite $NODE
	}
	handle /login {
		session_edit put user alice
		respond ok
	}
	handle /write {
		session_edit increment n
		reverse_proxy $APP
	}
	handle /read {
		session_auth user
		reverse_proxy $APP
	}
	handle_errors {
		respond "sorry {err.status_code}"
	}
}`, "APP", app.address(), "NODE", node.URL)
	v := s.visitor()
	v.get("$TLS/login").want(t, http.StatusOK, "ok")
	for path, fail := range map[string]func(){"/write": node.failsWrites, "/read": node.fails} {
		fail()
		asked := len(app.requests())
		t.Run(path, func(t *testing.T) { // which returns when all have been answered
			for _, over := range tunnels {
				t.Run(over.name, func(t *testing.T) {
					t.Parallel() // each waits until the store is given up
					w, err := over.dial(t, s.url("$TLS"+path), v.cookies("$TLS"))
					if err != nil {
						t.Fatal(err)
					}
					w.wantRefused(t, http.StatusServiceUnavailable, "sorry 503")
					header := w.answer.Header
					if header.Get("Retry-After") == "" || header.Get("X-App") != "" || header.Get("Upgrade") != "" || len(header["Set-Cookie"]) > 0 {
						t.Errorf("the header is %v", header)
					}
				})
			}
		})
		asked = len(app.requests()) - asked
		if path == "/read" && asked != 0 || path == "/write" && asked != len(tunnels) {
			t.Errorf("%s: the application was asked %d times", path, asked)
		}
		for range asked {
			if n := <-leaked; n != 0 {
				t.Errorf("%s: %d bytes went to the application", path, n)
			}
		}
	}
}
