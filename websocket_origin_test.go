package caddysession_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/quic-go/quic-go/http3"
)

func TestWebsocket_ofAnotherOriginIsRefused(t *testing.T) {
	app, _ := newEcho(t, "")
	s := startAlone(t, xconnect, strings.NewReplacer("$SITE3", "$TLS3", "$SITE2", "$TLS2", "$SITE", "$TLS").Replace(originSites), "APP", app.address())
	for _, over := range tunnels {
		for _, test := range []struct {
			site   string
			header []string
			guest  bool
			opens  bool
		}{
			{site: "$TLS", opens: true},
			{site: "$TLS", header: []string{"Origin", "https://$HOST"}, opens: true},
			{site: "$TLS", header: []string{"Origin", "https://evil.example"}},
			{site: "$TLS", header: []string{"Origin", "https://evil.example"}, guest: true, opens: true},
			{site: "$TLS", header: []string{"Origin", "null"}},
			{site: "$TLS", header: []string{"Origin", "https://$HOST", "Sec-Fetch-Site", "cross-site"}},
			{site: "$TLS", header: []string{"Origin", "https://other.example.com", "Sec-Fetch-Site", "same-site"}},
			{site: "$TLS2", header: []string{"Origin", "https://evil.example"}},
			{site: "$TLS2", header: []string{"Origin", "https://app.example.com"}, opens: true},
			{site: "$TLS3", header: []string{"Origin", "https://evil.example"}, opens: true},
		} {
			t.Run(fmt.Sprint(over.name, test), func(t *testing.T) {
				v := s.visitorWith(t)
				if !test.guest {
					v.get(test.site+"/login").want(t, http.StatusOK, "ok")
				}
				host := strings.TrimPrefix(s.url(test.site), "https://")
				header := slices.Clone(test.header)
				for i := range header {
					header[i] = strings.Replace(header[i], "$HOST", host, 1)
				}
				asked := len(app.requests())
				if test.opens {
					over.open(t, s.url(test.site+"/app"), v.cookies(test.site, header...)).wantEcho(t, "hello")
					return
				}
				w, err := over.dial(t, s.url(test.site+"/app"), v.cookies(test.site, header...))
				if err != nil {
					t.Fatal(err)
				}
				w.wantRefused(t, http.StatusForbidden, "cross_origin deny <origin>")
				if got := len(app.requests()) - asked; got != 0 {
					t.Errorf("the application was asked %d times", got)
				}
			})
		}
	}
}

// A browser can give a handshake no header, so the token cannot be asked for:
// over HTTP/2 and HTTP/3 no more than over HTTP/1.1.
func TestWebsocket_needsNoCSRFToken(t *testing.T) {
	app, _ := newEcho(t, "")
	s := startAlone(t, xconnect, `
$TLS {
	session
	handle /login {
		session_edit put user alice
		respond ok
	}
	session_csrf
	reverse_proxy $APP
}`, "APP", app.address())
	for _, over := range tunnels {
		t.Run(over.name, func(t *testing.T) {
			v := s.visitorWith(t)
			v.get("$TLS/login").want(t, http.StatusOK, "ok")
			over.open(t, s.url("$TLS/"), v.cookies("$TLS", "Origin", s.url("$TLS"))).wantEcho(t, "hello")
		})
	}
	v := s.visitor()
	v.get("$TLS/login").want(t, http.StatusOK, "ok")
	if a := v.do(http.MethodPost, "$TLS/"); a.StatusCode != http.StatusForbidden {
		t.Errorf("a POST without a token is answered by %d", a.StatusCode)
	}
	over3 := &http3.Transport{TLSClientConfig: onlyHere()}
	t.Cleanup(func() { over3.Close() })
	w, err := connect(t, over3, s.url("$TLS/"), "webtransport", v.cookies("$TLS"))
	if err != nil {
		t.Fatal(err)
	}
	if w.answer.StatusCode != http.StatusForbidden {
		t.Errorf("another CONNECT without a token is answered by %d", w.answer.StatusCode)
	}
}

// What else a CONNECT may be for, it is no way around the check.
func TestCrossOrigin_refusesEveryConnect(t *testing.T) {
	app := newApplication(t, nil)
	s := startAlone(t, xconnect, `
$TLS {
	session
	handle /login {
		session_edit put user alice
		respond ok
	}
	handle {
		reverse_proxy $APP
	}
}`, "APP", app.address())
	v := s.visitor()
	v.get("$TLS/login").want(t, http.StatusOK, "ok")
	over2 := overHTTP2(t)
	over3 := &http3.Transport{TLSClientConfig: onlyHere()}
	t.Cleanup(func() { over3.Close() })
	for _, protocol := range []string{"", "WebSocket", "webtransport", "connect-udp"} {
		header := v.cookies("$TLS", "Origin", "https://evil.example")
		extended := header.Clone()
		if protocol != "" {
			extended[":protocol"] = []string{protocol}
		}
		for name, open := range map[string]func() (*tunnel, error){
			"HTTP2": func() (*tunnel, error) { return connect(t, over2, s.url("$TLS/"), "", extended) },
			"HTTP3": func() (*tunnel, error) { return connect(t, over3, s.url("$TLS/"), protocol, header) },
		} {
			t.Run(fmt.Sprint(name, protocol), func(t *testing.T) {
				w, err := open()
				if err != nil {
					t.Fatal(err)
				}
				if w.answer.StatusCode != http.StatusForbidden {
					t.Errorf("it is answered by %d", w.answer.StatusCode)
				}
			})
		}
	}
	if n := len(app.requests()); n != 0 {
		t.Errorf("the application was asked %d times", n)
	}
}
