package caddysession_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

const audienceSite = `
{
	metrics
	servers {
		trusted_proxies static 127.0.0.0/8
	}
}
$METRICS {
	metrics
}
(site) {
	handle /login {
		session_edit put user {query.user}
		respond "in"
	}
	handle {
		respond "user={http.session.data.user}"
	}
}
http://shop.test:$PORT, http://SHOP.test.:$PORT {
	session {
		$SHOP
	}
	import site
}
http://tool.test:$PORT {
	session {
		$TOOL
	}
	import site
}
http://help.shop.test:$PORT {
	session {
		$HELP
	}
	import site
}`

// A session is good where the browser sends its cookie, whoever presents it.
func TestAudience_ofASession(t *testing.T) {
	const none = "lifetime 24h"
	domain := "cookie session {\ndomain shop.test\n}"
	dotted := "cookie session {\ndomain .shop.test\n}"
	for name, test := range map[string]struct {
		shop, tool, help string // an option of each
		host             string // where the session of the shop is presented
		headers          []string
		good             bool
	}{
		"itself":                                     {none, none, none, "shop.test", nil, true},
		"itself, in another spelling":                {none, none, none, "SHOP.test", nil, true},
		"another to browsers":                        {none, none, none, "shop.test.", nil, false},
		"another site":                               {none, none, none, "tool.test", nil, false},
		"a host below":                               {none, none, none, "help.shop.test", nil, false},
		"a host below, of the domain":                {domain, none, domain, "help.shop.test", nil, true},
		"a host below, of the domain with a dot":     {dotted, none, dotted, "help.shop.test", nil, true},
		"another site than the domain":               {domain, none, none, "tool.test", nil, false},
		"one whose name ends like the domain":        {domain, none, none, "tool.test", []string{"X-Forwarded-Host", "myshop.test"}, false},
		"the same audience":                          {"audience all", "audience all", none, "tool.test", nil, true},
		"another audience":                           {"audience one", "audience two", none, "tool.test", nil, false},
		"an audience, and none there":                {"audience one", none, none, "tool.test", nil, false},
		"none, and an audience there":                {none, "audience one", none, "tool.test", nil, false},
		"a placeholder":                              {"audience {http.request.host}", "audience {http.request.host}", none, "tool.test", nil, false},
		"what a trusted proxy says":                  {none, none, none, "tool.test", []string{"X-Forwarded-Host", "shop.test"}, true},
		"what a trusted proxy says of others":        {none, none, none, "shop.test", []string{"X-Forwarded-Host", "tool.test"}, false},
		"what a client says to one that adds to it":  {none, none, none, "tool.test", []string{"X-Forwarded-Host", "shop.test, tool.test"}, false},
		"what a client says to one that adds a line": {none, none, none, "tool.test", []string{"X-Forwarded-Host", "shop.test", "X-Forwarded-Host", "tool.test"}, false},
		"what a trusted proxy adds":                  {none, none, none, "tool.test", []string{"X-Forwarded-Host", "tool.test, shop.test"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			address := freeAddress(t)
			_, port, _ := net.SplitHostPort(address)
			s := start(t, audienceSite, "PORT", port, "SHOP", test.shop, "TOOL", test.tool, "HELP", test.help, "METRICS", "http://"+freeAddress(t))
			v := s.visitor().withoutJar()
			v.http.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, address)
			}
			cookie := v.get("http://shop.test:" + port + "/login?user=alice").cookie(t)
			before := s.scrape()
			headers := append([]string{"Cookie", cookie.Name + "=" + cookie.Value}, test.headers...)
			want, refused := "user=", 1.0
			if test.good {
				want, refused = "user=alice", 0
			}
			a := v.get("http://"+test.host+":"+port+"/", headers...)
			a.want(t, http.StatusOK, want)
			s.counts(before, refused, "refused_cookies_total", `reason="audience"`)
			if len(a.Cookies()) > 0 {
				t.Errorf("a cookie is set: %v", a.Cookies())
			}
			if !test.good {
				s.logged("a session that was begun elsewhere is presented")
			}
			v.get("http://shop.test:"+port+"/", headers[:2]...).want(t, http.StatusOK, "user=alice")
		})
	}
}

// A client that names no host has a session where no host is named.
func TestAudience_ofNoHost(t *testing.T) {
	_, port, _ := net.SplitHostPort(freeAddress(t))
	s := start(t, `
:$PORT {
	session
	session_edit /login put user alice
	respond "user={http.session.data.user}"
}
$SITE {
	session
	respond "user={http.session.data.user}"
}`, "PORT", port)
	ask := func(path, headers string) *http.Response {
		t.Helper()
		conn := sendRaw(t, "127.0.0.1:"+port, "GET "+path+" HTTP/1.0\r\n"+headers+"\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	for _, host := range []string{"", "Host: :80\r\n"} {
		cookie := (&answer{Response: ask("/login", host)}).cookie(t)
		body, err := io.ReadAll(ask("/", host+"Cookie: session="+cookie.Value+"\r\n").Body)
		if err != nil || string(body) != "user=alice" {
			t.Errorf("where it was begun: %q, %v", body, err)
		}
		s.visitor().withoutJar().get("/", "Cookie", "session="+cookie.Value).want(t, http.StatusOK, "user=")
	}
}

// A site that answers to any host begins no session of another site, which Caddy
// tells from what the client calls it.
func TestAudience_ofAnyHost(t *testing.T) {
	_, port, _ := net.SplitHostPort(freeAddress(t))
	start(t, `
http://shop.test:$PORT {
	session
	respond "the shop: user={http.session.data.user}"
}
:$PORT {
	session
	session_edit /login put user alice
	respond "any host: user={http.session.data.user}"
}`, "PORT", port)
	ask := func(path, host, cookie string) *answer {
		t.Helper()
		conn := sendRaw(t, "127.0.0.1:"+port, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\nCookie: session="+cookie+"\r\nConnection: close\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return &answer{Response: res, body: string(body)}
	}
	for _, host := range []string{
		"shop.test.", "shop.test.:" + port, "[[shop.test]]", "[shop.test.]", // the shop's, but for the spelling
		".shop.test", ".test", ".test:" + port, "[.test]", // a domain above it
	} {
		cookie := ask("/login", host, "").cookie(t)
		ask("/", host, cookie.Value).want(t, http.StatusOK, "any host: user=alice")
		if got := ask("/", "shop.test", cookie.Value).body; got != "the shop: user=" {
			t.Errorf("begun as %s: %s", host, got)
		}
	}
}

// Nobody is signed out when a site is given an audience, or by the version that
// brought audiences.
func TestAudience_isTakenOnByWhatIsThere(t *testing.T) {
	const site = `
$SITE {
	session {
		$OPTION
	}
	session_edit /login put user alice
	session_edit /count increment n
	respond "user={http.session.data.user}"
}`
	s := start(t, site, "OPTION", "lifetime 24h")
	v := s.visitor()
	token := v.get("/login").cookie(t).Value
	noted := func(by, audience string) {
		t.Helper()
		rows, err := s.table().current()
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			if row.token == hashOf(by) && !strings.Contains(row.data, `"__audience":"`+audience+`"`) {
				t.Errorf("stored is %s", row.data)
			}
		}
	}
	noted(token, "127.0.0.1")
	takesOn := func(audience, old string) {
		t.Helper()
		s.alter(`INSERT INTO sessions (token, id, data, expiry, version)
			SELECT ?, ?, CAST(json_remove(CAST(data AS TEXT), '$.values.__audience', '$.values.__cookie') AS BLOB), expiry, version FROM sessions WHERE token = ?`,
			hashOf(old), old, hashOf(token))
		guest := s.visitor().withoutJar()
		for _, path := range []string{"/", "/count", "/"} {
			guest.get(path, "Cookie", "session="+old).want(t, http.StatusOK, "user=alice")
		}
		noted(old, audience)
	}
	takesOn("127.0.0.1", strings.Repeat("o", len(token)))
	s.names["OPTION"] = "audience shop"
	s.reload(site)
	for _, path := range []string{"/", "/count", "/"} {
		v.get(path).want(t, http.StatusOK, "user=alice")
	}
	noted(token, "shop")
	takesOn("shop", strings.Repeat("w", len(token)))
}

// A site's cookies do not stand for each other, unless that is asked for.
func TestAudience_ofTwoCookies(t *testing.T) {
	s := start(t, `
(site) {
	session {
		cookie {args[0]}
		audience {args[1]}
	}
	session_edit /login put user alice
	session_edit /count increment n
	respond "user={http.session.data.user}"
}
$SITE {
	session {
		cookie shop
	}
	session_edit /login put user alice
	session_edit /count increment n
	respond "user={http.session.data.user}"
}
$SITE2 {
	session {
		cookie admin
	}
	session_auth user
	respond "user={http.session.data.user}"
}
$SITE3 {
	import site shop all
}
$SITE4 {
	import site admin all
}
$TLS {
	session
	session_edit /login put user alice
}
$TLS2 {
	session {
		cookie __Host-session
	}
	respond "user={http.session.data.user}"
}`)
	begin := func(site string) string {
		t.Helper()
		_, value, _ := strings.Cut(s.visitor().get(site+"/login").Header.Get("Set-Cookie"), "=")
		value, _, _ = strings.Cut(value, ";")
		return value
	}
	v := s.visitor().withoutJar()
	token := begin("$SITE")
	v.get("$SITE2/", "Cookie", "admin="+token).want(t, http.StatusUnauthorized, "")
	s.logged("a session that was begun elsewhere is presented")
	v.get("/", "Cookie", "shop="+token).want(t, http.StatusOK, "user=alice")

	shared := begin("$SITE3")
	v.get("$SITE4/", "Cookie", "admin="+shared).want(t, http.StatusOK, "user=alice")

	// Over https this is the name that goes without saying.
	named := s.visitor()
	named.handshake("$TLS/")
	named.handshake("$TLS2/")
	named.get("$TLS/login").cookie(t)
	named.get("$TLS2/").want(t, http.StatusOK, "user=alice")

	// Nobody is signed out by the version that brought this, and what is used is noted.
	old := strings.Repeat("o", len(token))
	s.alter(`INSERT INTO sessions (token, id, data, expiry, version)
		SELECT ?, 'old', CAST(replace(CAST(data AS TEXT), '"__cookie":"shop",', '') AS BLOB), expiry, version FROM sessions WHERE token = ?`,
		hashOf(old), hashOf(token))
	v.get("/", "Cookie", "shop="+old).want(t, http.StatusOK, "user=alice")
	v.get("$SITE2/", "Cookie", "admin="+old).want(t, http.StatusOK, "user=alice")
	v.get("/count", "Cookie", "shop="+old).want(t, http.StatusOK, "user=alice")
	v.get("$SITE2/", "Cookie", "admin="+old).want(t, http.StatusUnauthorized, "")
}
