package caddysession_test

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

const originSites = `
(site) {
	handle /login {
		session_edit put user alice
		respond ok
	}
	handle /app* {
		reverse_proxy $APP
	}
	handle_errors {
		respond "{err.status_code} {err.message}"
	}
}
$SITE {
	session
	import site
}
$SITE2 {
	session {
		cross_origin deny https://app.example.com
	}
	import site
}
$SITE3 {
	session {
		cross_origin allow
	}
	import site
}`

// A site's own pages hide where they come from over http, under a policy that
// some frameworks set unasked: the error must not accuse another site. Nor may it
// ask for the name of one that hides it.
func TestCrossOrigin_hiddenIsExplained(t *testing.T) {
	s := start(t, originSites, "APP", newApplication(t, nil).address())
	v := s.visitor()
	v.get("/login")
	for _, test := range []struct {
		reason  string
		headers []string
	}{
		{"Referrer-Policy: no-referrer", []string{"Origin", "null"}},
		{"a page of another origin sent", []string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}},
		{"a proxy in front changes Host", []string{"Origin", "http://shop.example"}},
		{"a `session` of its own with `cross_origin allow`", []string{"Origin", "null", "Sec-Fetch-Site", "cross-site"}},
	} {
		a := v.do(http.MethodPost, "/app", test.headers...)
		if a.StatusCode != http.StatusForbidden || !strings.Contains(a.body, test.reason) {
			t.Errorf("%v is answered %d %q, want 403 and %q", test.headers, a.StatusCode, a.body, test.reason)
		}
	}
}

// Its page is empty unless the site has one of its own, and Caddy logs what is no
// error of the server's as debug only: nobody would know what it was refused for.
func TestCrossOrigin_refusalsAreInTheLog(t *testing.T) {
	s := start(t, originSites, "APP", newApplication(t, nil).address())
	v := s.visitor()
	v.get("/login")
	for range 3 {
		if a := v.do(http.MethodPost, "/app", "Origin", "https://app.example"); a.StatusCode != http.StatusForbidden {
			t.Fatalf("the answer is %d", a.StatusCode)
		}
	}
	s.logged("cross_origin deny <origin>")
	var warnings []string
	for line := range strings.Lines(s.readLog()) {
		if strings.Contains(line, `"level":"warn"`) && strings.Contains(line, "cross_origin deny <origin>") {
			warnings = append(warnings, line)
		}
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], `"origin":"https://app.example"`) {
		t.Errorf("of three refusals the log has %d warnings, want one that names the origin: %q", len(warnings), warnings)
	}
}

// Its error page is that of a guest for whom nothing is stored: a session that it
// began would take the place of the visitor's.
func TestCrossOrigin_theErrorPageLeavesTheVisitorsSession(t *testing.T) {
	s := start(t, `
$SITE {
	session
	session_edit /login put user alice
	respond "user={http.session.data.user}"
	handle_errors {
		session
		session_edit {
			increment errors
			put last {err.status_code}
		}
		respond "sorry: {err.status_code} user={http.session.data.user}{http.session.id} errors={http.session.data.errors}"
	}
}
$SITE2 {
	session
	session_edit /login put user alice
	respond "user={http.session.data.user}"
	handle_errors {
		respond "sorry: {err.status_code} user={http.session.data.user}"
	}
}`)
	for site, page := range map[string]string{"$SITE": "sorry: 403 user= errors=", "$SITE2": "sorry: 403 user="} {
		v := s.visitor()
		v.get(site + "/login")
		a := v.do(http.MethodPost, site+"/", "Origin", "http://evil.example")
		a.want(t, http.StatusForbidden, page)
		if c := a.Header["Set-Cookie"]; len(c) > 0 {
			t.Errorf("the error page sets %q", c)
		}
		v.get(site+"/").want(t, http.StatusOK, "user=alice")
	}
	s.table().wantRows(2)
}

func TestCrossOrigin_unsafeRequestsNeedTheSiteItself(t *testing.T) {
	app := newApplication(t, nil)
	s := start(t, originSites, "APP", app.address())
	for name, test := range map[string]struct {
		headers         []string
		denied, trusted bool // refused by deny; by deny with an origin that is trusted
	}{
		"no browser":           {nil, false, false},
		"same origin":          {[]string{"Sec-Fetch-Site", "same-origin"}, false, false},
		"typed":                {[]string{"Sec-Fetch-Site", "none"}, false, false},
		"cross site":           {[]string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, true, true},
		"same site":            {[]string{"Sec-Fetch-Site", "same-site", "Origin", "https://other.example.com"}, true, true},
		"trusted origin":       {[]string{"Sec-Fetch-Site", "cross-site", "Origin", "https://app.example.com"}, true, false},
		"trusted, other port":  {[]string{"Sec-Fetch-Site", "cross-site", "Origin", "https://app.example.com:8443"}, true, true},
		"old browser, foreign": {[]string{"Origin", "https://evil.example"}, true, true},
		"old browser, null":    {[]string{"Origin", "null"}, true, true},
		"old browser, own":     {[]string{"Origin", "http://$HOST"}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			for site, refused := range map[string]bool{"$SITE": test.denied, "$SITE2": test.trusted, "$SITE3": false} {
				host := strings.TrimSuffix(strings.TrimPrefix(s.url(site+"/"), "http://"), "/")
				headers := make([]string, len(test.headers))
				for i, h := range test.headers {
					headers[i] = strings.Replace(h, "$HOST", host, 1)
				}
				member := s.visitorWith(t)
				member.get(site+"/login").want(t, http.StatusOK, "ok")
				guest := s.visitorWith(t)
				for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch} {
					before := len(app.requests())
					a := member.do(method, site+"/app", headers...)
					if got := a.StatusCode == http.StatusForbidden; got != refused {
						t.Errorf("%s %s is answered by %d %q", method, site, a.StatusCode, a.body)
					}
					if refused && (!strings.Contains(a.body, "cross_origin deny <origin>") || len(app.requests()) != before) {
						t.Errorf("%s %s: the answer is %q, and the application was asked %d times", method, site, a.body, len(app.requests())-before)
					}
					guest.do(method, site+"/app", headers...).want(t, http.StatusOK, "app")
				}
				for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodOptions} {
					if a := member.do(method, site+"/app", headers...); a.StatusCode != http.StatusOK {
						t.Errorf("%s %s is answered by %d", method, site, a.StatusCode)
					}
				}
			}
		})
	}
}

// A proxy in front may ask for another host than the browser did.
func TestCrossOrigin_isThatOfWhoTheProxyWasAsked(t *testing.T) {
	const site = `
$SITE {
	session
	handle /login {
		session_edit put user alice
	}
	respond "ok"
}`
	for name, test := range map[string]struct {
		global string
		want   int // for an old browser on the site itself
	}{
		"trusted":     {"{\nservers {\ntrusted_proxies static 127.0.0.0/8\n}\n}", http.StatusOK},
		"not trusted": {"", http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, test.global+site)
			v := s.visitor()
			forwarded := []string{"X-Forwarded-Host", "shop.example:8443"}
			v.get("/login", forwarded...)
			for origin, want := range map[string]int{"http://shop.example:8443": test.want, "https://evil.example": http.StatusForbidden} {
				if a := v.do(http.MethodPost, "/", append(forwarded, "Origin", origin)...); a.StatusCode != want {
					t.Errorf("a request from %s is answered by %d, want %d", origin, a.StatusCode, want)
				}
			}
		})
	}
}

func TestCrossOrigin_websocketsNeedTheSiteItself(t *testing.T) {
	app := newApplication(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = buffered.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\nSession-Set: {}\r\n\r\n")
		_ = buffered.Flush()
	})
	s := start(t, originSites, "APP", app.address())
	for _, test := range []struct {
		site, origin string
		cookie       bool
		want         int
	}{
		{"$SITE", "", true, http.StatusSwitchingProtocols},
		{"$SITE", "http://$HOST", true, http.StatusSwitchingProtocols},
		{"$SITE", "https://evil.example", true, http.StatusForbidden},
		{"$SITE", "https://evil.example", false, http.StatusSwitchingProtocols},
		{"$SITE2", "https://evil.example", true, http.StatusForbidden},
		{"$SITE2", "https://app.example.com", true, http.StatusSwitchingProtocols},
		{"$SITE3", "https://evil.example", true, http.StatusSwitchingProtocols},
	} {
		t.Run(fmt.Sprint(test.site, test.origin, test.cookie), func(t *testing.T) {
			host := strings.TrimSuffix(strings.TrimPrefix(s.url(test.site+"/"), "http://"), "/")
			header := ""
			if test.origin != "" {
				header += "Origin: " + strings.Replace(test.origin, "$HOST", host, 1) + "\r\n"
			}
			if test.cookie {
				header += "Cookie: session=" + s.visitorWith(t).get(test.site+"/login").cookie(t).Value + "\r\n"
			}
			conn := sendRaw(t, host, "GET /app HTTP/1.1\r\nHost: "+host+"\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+header+"\r\n")
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != test.want {
				t.Errorf("the handshake is answered by %d, want %d", res.StatusCode, test.want)
			}
		})
	}
}

// A gateway in front asks by requests of its own, always by GET, which of its
// visitors are let in to other applications: what counts is what they want there.
func TestCrossOrigin_countsWhatAGatewayIsAskedFor(t *testing.T) {
	app := newApplication(t, nil)
	s := start(t, `
{
	servers {
		trusted_proxies static 127.0.0.0/8
	}
}
$SITE {
	handle /login {
		reverse_proxy $SITE2
	}
	handle {
		forward_auth $SITE2 {
			uri /verify
		}
		reverse_proxy $APP
	}
}
$SITE2 {
	session
	session_edit /login put user alice
	session_auth /verify user
	respond "{method} for {header.X-Forwarded-Method}"
}`, "APP", app.address())
	v := s.visitor()
	cookie := "Cookie: session=" + v.get("/login").cookie(t).Value + "\r\n"
	own := strings.TrimSuffix(s.url("/"), "/")
	for _, test := range []struct {
		method  string
		headers []string
		want    int
	}{
		{http.MethodPost, []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, http.StatusForbidden},
		{http.MethodDelete, []string{"Origin", "https://evil.example"}, http.StatusForbidden},
		{http.MethodGet, []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, http.StatusOK},
		{http.MethodGet, []string{"Sec-Fetch-Site", "cross-site", "X-Forwarded-Method", "POST"}, http.StatusOK}, // the gateway says it anew
		{http.MethodPost, []string{"Sec-Fetch-Site", "same-origin", "Origin", own}, http.StatusOK},
		{http.MethodPost, []string{"Origin", own}, http.StatusOK},
		{http.MethodPost, nil, http.StatusOK},
	} {
		before := len(app.requests())
		a := v.do(test.method, "/app", test.headers...)
		if reached := len(app.requests()) > before; a.StatusCode != test.want || reached != (test.want == http.StatusOK) {
			t.Errorf("%s with %q is answered by %d %q, want %d; the application was asked: %v", test.method, test.headers, a.StatusCode, a.body, test.want, reached)
		}
	}
	s.logged(`"origin":"https://evil.example","method":"POST"`)
	// What is unsafe does not become safe by saying so.
	if a := v.do(http.MethodPost, "$SITE2/", "Origin", "https://evil.example", "X-Forwarded-Method", http.MethodGet); a.StatusCode != http.StatusForbidden {
		t.Errorf("a POST of another origin that is said to be a GET is answered %d", a.StatusCode)
	}

	host := strings.TrimPrefix(own, "http://")
	for _, test := range []struct {
		site, origin, upgrade string
		want                  int
	}{
		{"$SITE", own, "Connection: Upgrade\r\nUpgrade: websocket\r\n", http.StatusOK},
		{"$SITE", "https://evil.example", "Connection: Upgrade\r\nUpgrade: websocket\r\n", http.StatusForbidden},
		{"$SITE2", own, "", http.StatusOK}, // as nginx asks, which drops Upgrade
		{"$SITE2", "https://evil.example", "", http.StatusForbidden},
	} {
		conn := sendRaw(t, strings.TrimPrefix(s.url(test.site), "http://"), "GET /verify HTTP/1.1\r\nHost: "+host+"\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: "+test.origin+"\r\n"+test.upgrade+cookie+"\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != test.want {
			t.Errorf("%s answers a handshake from %s with %d, want %d", test.site, test.origin, res.StatusCode, test.want)
		}
	}
}
