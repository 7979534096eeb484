package caddysession_test

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/websocket"
)

// A browser opens its websockets over HTTP/2 where the server announces that it
// can. They end with the session; a page of another origin, to which the browser
// adds the session's cookie, opens none.
func TestBrowser_websocketsOverHTTP2(t *testing.T) {
	browser := startBrowser(t)
	echo := websocket.Server{Handler: func(ws *websocket.Conn) { _, _ = io.Copy(ws, ws) }}
	app := newApplication(t, func(w http.ResponseWriter, r *http.Request) { echo.ServeHTTP(w, r) })
	s := startAlone(t, xconnect, `
{
	servers {
		protocols h1 h2
	}
}
(page) {
	header Content-Type text/html
	respond "<!doctype html><title>A page</title>"
}
$TLS {
	log
	session {
		principal user
		revalidate 100ms
		upstream {
			send user
		}
	}
	handle /login {
		session_edit put user alice
		import page
	}
	handle /logout {
		session_edit destroy
		respond bye
	}
	handle /socket {
		session_edit increment sockets
		reverse_proxy $APP
	}
	handle {
		import page
	}
}
$TLS2 {
	import page
}`, "APP", app.address())
	own := &tab{t, browser, s.url("$TLS/login")}
	own.open()
	own.openSocket(s.url("$TLS/socket"))
	own.said("open hello")
	request := app.last(t)
	if via, cookies, data := request.Header.Get("Via"), request.Header.Get("Cookie"), request.Header.Get("Session-Data"); via != "2.0 Caddy" || cookies != "" || data != `{"user":"alice"}` {
		t.Errorf("the handshake came by %s with cookies %q and the session %s", via, cookies, data)
	}

	asked := len(app.requests())
	other := own.another()
	other.site = s.url("$TLS2/")
	other.open()
	other.eval("fetch('" + s.url("$TLS/") + "', {mode: 'no-cors', credentials: 'include'}); ''") // so that there is a connection
	other.openSocket(s.url("$TLS/socket"))
	other.said("error closed")
	if got := len(app.requests()) - asked; got != 0 {
		t.Errorf("the application was asked %d times by a page of another origin", got)
	}
	refused := regexp.MustCompile(`"proto":"HTTP/2.0","method":"CONNECT".*"uri":"/socket".*"status":403`)
	eventually(t, "a handshake to be refused over HTTP/2", func() bool { return refused.MatchString(s.readLog()) })

	own.eval("said = ''; fetch('/logout'); ''")
	own.said("closed")
}

// openSocket opens a websocket and notes in `said` what comes of it.
func (b *tab) openSocket(url string) {
	b.t.Helper()
	b.eval(strings.ReplaceAll(`
		window.said = '';
		window.socket = new WebSocket('$URL');
		socket.onopen = () => { said += 'open '; socket.send('hello') };
		socket.onmessage = e => said += e.data;
		socket.onerror = () => said += 'error ';
		socket.onclose = () => said += 'closed';
		''`, "$URL", strings.Replace(url, "https://", "wss://", 1)))
}

func (b *tab) said(want string) {
	b.t.Helper()
	eventually(b.t, "the page to say "+want, func() bool { return b.eval("said") == want })
}
