package caddysession_test

import (
	"cmp"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// A websocket stays open while its session lasts, and no longer, whoever is
// talking; a client that does not listen keeps nothing open behind Caddy.
func TestWebsocket_endsWithItsSession(t *testing.T) {
	left := make(chan struct{}, 1)
	app := newApplication(t, func(w http.ResponseWriter, r *http.Request) {
		conn := switchProtocols(t, w, "")
		defer conn.Close()
		if r.URL.Path == "/other" {
			_, _ = io.Copy(conn, conn)
			return
		}
		defer func() { left <- struct{}{} }()
		if r.URL.Path == "/talking" {
			_, _ = io.Copy(conn, endless{})
			return
		}
		_, _ = io.Copy(conn, conn)
	})
	const interval = 100 * time.Millisecond
	s := startAlone(t, xconnect, `
$TLS {
	log
	session {
		principal user
		revalidate `+interval.String()+`
	}
	handle /login {
		session_edit put user {query.user}
	}
	handle /logout {
		session_edit destroy
	}
	handle /logout-elsewhere {
		session_edit destroy_others
	}
	handle {
		session_auth user
		reverse_proxy $APP
	}
}`, "APP", app.address())
	ends := map[string]func(v, elsewhere *visitor){
		"logout":           func(v, _ *visitor) { v.get("$TLS/logout") },
		"logout elsewhere": func(_, elsewhere *visitor) { elsewhere.get("$TLS/logout-elsewhere") },
		"another user":     func(v, _ *visitor) { v.get("$TLS/login?user=bob") },
	}
	clients := map[string]struct {
		path        string
		talks, deaf bool
	}{
		"both silent":    {path: "/"},
		"app talking":    {path: "/talking"},
		"client talking": {path: "/", talks: true},
		"client deaf":    {path: "/talking", deaf: true},
	}
	for _, over := range tunnels {
		for how, end := range ends {
			for who, client := range clients {
				t.Run(over.name+"/"+how+"/"+who, func(t *testing.T) {
					v, elsewhere, still := s.visitorWith(t), s.visitorWith(t), s.visitorWith(t)
					v.get("$TLS/login?user=alice")
					elsewhere.get("$TLS/login?user=alice")
					still.get("$TLS/login?user=carol")
					w := over.open(t, s.url("$TLS"+client.path), v.cookies("$TLS"))
					other := over.open(t, s.url("$TLS/other"), still.cookies("$TLS"))
					if client.talks {
						go func() { _, _ = io.Copy(w, endless{}) }()
					}
					if !client.deaf {
						w.ended()
					}
					for begun := time.Now(); time.Since(begun) < 3*interval; {
						other.wantEcho(t, "hello")
					}
					if len(left) > 0 {
						t.Fatal("the socket of a session that goes on has ended")
					}
					end(v, elsewhere)
					const bound = interval + 5*time.Second
					within(t, bound, "the application to hear the end", func() bool { return closed(left) })
					within(t, bound, "the socket to end", func() bool { return closed(w.ended()) })
					other.wantEcho(t, "still here")
				})
			}
		}
	}
	s.logged("the session has ended")
}

// closed reports whether a channel has something to receive, if only that it is closed.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// endless is a stream without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return cmp.Or(min(len(p), 1000), 1), nil }

// Each end of a socket may finish before the other: what is watched is no different.
func TestWebsocket_endsOneWayAtATime(t *testing.T) {
	heard := make(chan string, 1)
	app := newApplication(t, func(w http.ResponseWriter, _ *http.Request) {
		conn := switchProtocols(t, w, "")
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second)) // a loopback connection takes deadlines
		_, _ = io.WriteString(conn, "bye")
		_ = conn.(*net.TCPConn).CloseWrite() // then the client hears no end, and the test fails
		rest, _ := io.ReadAll(conn)
		heard <- string(rest)
	})
	s := startAlone(t, xconnect, `
$TLS {
	session {
		revalidate 1s
	}
	session_edit put user alice
	reverse_proxy $APP
}
$TLS2 {
	reverse_proxy $APP
}`, "APP", app.address())
	for _, over := range tunnels {
		t.Run(over.name, func(t *testing.T) {
			var last []string
			for _, site := range []string{"$TLS2/", "$TLS/"} {
				w := over.open(t, s.url(site), make(http.Header))
				if all, err := io.ReadAll(w); string(all) != "bye" || err != nil {
					t.Errorf("%s: the client hears %q (%v)", site, all, err)
				}
				_, _ = io.WriteString(w, "see you") // it may be too late
				w.close()
				last = append(last, <-heard)
			}
			if last[0] != last[1] || over.name == "1.1" && last[0] != "see you" {
				t.Errorf("after its own end the application hears %q, without a session %q", last[1], last[0])
			}
		})
	}
}
