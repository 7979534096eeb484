package caddysession_test

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func TestCookie_hasTheConfiguredAttributes(t *testing.T) {
	for _, test := range []struct {
		name, site, options, extra, want string // want: without value and Expires
	}{
		{"http", "$SITE", "", "", "session=; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"},
		{"https", "$TLS", "", "", "__Host-session=; Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=Lax"},
		{"named", "$TLS", "cookie sid", "", "sid=; Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=Lax"},
		{"path", "$TLS", "cookie {\npath /shop\n}", "", "session=; Path=/shop; Max-Age=86400; HttpOnly; Secure; SameSite=Lax"},
		{"domain", "$TLS", "cookie {\ndomain example.com\n}", "", "session=; Path=/; Domain=example.com; Max-Age=86400; HttpOnly; Secure; SameSite=Lax"},
		{"strict", "$SITE", "cookie {\nsame_site strict\n}", "", "session=; Path=/; Max-Age=86400; HttpOnly; SameSite=Strict"},
		{"none is Secure", "$SITE", "cookie sid {\nsame_site none\n}", "", "sid=; Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=None"},
		{"__Host- over http", "$SITE", "cookie __Host-a", "", "__Host-a=; Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=Lax"},
		{"__Http- over http", "$SITE", "cookie __Http-a", "", "__Http-a=; Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=Lax"},
		{"__Secure- over http", "$SITE", "cookie __Secure-a", "", "__Secure-a=; Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=Lax"},
		{"partitioned over http", "$SITE", "cookie a {\npartitioned\n}", "", "a=; Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=Lax; Partitioned"},
		{"for scripts", "$SITE", "cookie {\nhttp_only off\n}", "", "session=; Path=/; Max-Age=86400; SameSite=Lax"},
		{"secure on", "$SITE", "cookie {\nsecure on\n}", "", "__Host-session=; Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=Lax"},
		{"secure off", "$TLS", "cookie {\nsecure off\n}", "", "session=; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"},
		{"partitioned", "$TLS", "cookie {\npartitioned\nsame_site none\n}", "", "__Host-session=; Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=None; Partitioned"},
		{"lifetime", "$SITE", "lifetime 30m", "", "session=; Path=/; Max-Age=1800; HttpOnly; SameSite=Lax"},
		{"persist off", "$SITE", "persist off", "", "session=; Path=/; HttpOnly; SameSite=Lax"},
		{"remembered", "$SITE", "persist off\nremember_lifetime 7d", "remember on", "session=; Path=/; Max-Age=604800; HttpOnly; SameSite=Lax"},
		{"not remembered", "$SITE", "", "remember off", "session=; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t, test.site+` {
	session {
		`+test.options+`
	}
	session_edit {
		put user alice
		`+test.extra+`
	}
	respond "ok"
}`)
			v := s.visitor().withoutJar()
			if test.site == "$TLS" {
				v.handshake("$TLS/")
			}
			a := v.get(test.site + "/")
			if len(a.Header["Set-Cookie"]) != 1 {
				t.Fatalf("the response sets %d cookies, want 1", len(a.Header["Set-Cookie"]))
			}
			var kept []string
			var cookie *http.Cookie
			for part := range strings.SplitSeq(a.Header.Get("Set-Cookie"), "; ") {
				switch {
				case cookie == nil:
					cookie = a.Cookies()[0]
					part = cookie.Name + "="
				case strings.HasPrefix(part, "Expires="):
					continue
				}
				kept = append(kept, part)
			}
			got := strings.Replace(strings.Join(kept, "; "), "Max-Age=86401", "Max-Age=86400", 1)
			if got != test.want {
				t.Errorf("Set-Cookie is\n%s, want\n%s", got, test.want)
			}
			if len(cookie.Value) != 43 {
				t.Errorf("the token has %d characters, want 43 (256 bits in base64url)", len(cookie.Value))
			}
			if cookie.MaxAge > 0 {
				want := time.Now().Add(time.Duration(cookie.MaxAge) * time.Second)
				if d := cookie.Expires.Sub(want).Abs(); d > 10*time.Second {
					t.Errorf("Expires is %v, %v off Max-Age", cookie.Expires, d)
				}
			}
		})
	}
}

func TestCookie_isSecureBehindATrustedProxyThatSpeaksHTTPS(t *testing.T) {
	const site = `
$SITE {
	session
	session_edit put user alice
	respond "ok"
}`
	for _, test := range []struct {
		name, globals, proto, want string
	}{
		{"trusted, https", "{\nservers {\ntrusted_proxies static private_ranges\n}\n}\n", "https", "__Host-session"},
		{"trusted, https as Traefik says it of a websocket", "{\nservers {\ntrusted_proxies static private_ranges\n}\n}\n", "wss", "__Host-session"},
		{"trusted, http as Traefik says it of a websocket", "{\nservers {\ntrusted_proxies static private_ranges\n}\n}\n", "ws", "session"},
		{"trusted, http", "{\nservers {\ntrusted_proxies static private_ranges\n}\n}\n", "http", "session"},
		{"trusted, not said", "{\nservers {\ntrusted_proxies static private_ranges\n}\n}\n", "", "session"},
		{"not trusted", "", "https", "session"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t, test.globals+site)
			v := s.visitor().withoutJar()
			var headers []string
			if test.proto != "" {
				headers = []string{"X-Forwarded-Proto", test.proto}
			}
			cookie := v.get("/", headers...).cookie(t)
			if cookie.Name != test.want || cookie.Secure != (test.want != "session") {
				t.Errorf("got cookie %s (Secure: %v), want %s", cookie.Name, cookie.Secure, test.want)
			}
			again := v.get("/", append(headers, "Cookie", cookie.Name+"="+cookie.Value)...)
			if again.Header["Set-Cookie"] != nil {
				t.Error("the cookie is not recognized when it comes back")
			}
			const explained = "the session's cookie is not Secure"
			if test.globals == "" {
				s.logged(explained)
			} else if strings.Contains(s.readLog(), explained) {
				t.Error("a proxy that is trusted is said not to be")
			}
		})
	}
}

func TestCookie_isHiddenFromTheApplication(t *testing.T) {
	app := newApplication(t, nil)
	s := start(t, `
$SITE {
	session
	handle /login {
		session_edit put user alice
		respond "ok"
	}
	handle /touched {
		reverse_proxy $APP {
			header_up X-User {http.session.data.user}
		}
	}
	handle {
		reverse_proxy $APP
	}
}`, "APP", app.address())
	v := s.visitor().withoutJar()
	token := v.get("/login").cookie(t).Value

	for _, test := range []struct {
		name       string
		sent, kept []string
		member     bool
	}{
		{"alone", []string{"session=" + token}, nil, true},
		{"first", []string{"session=" + token + "; a=1; b=2"}, []string{"a=1; b=2"}, true},
		{"middle", []string{"a=1; session=" + token + "; b=2"}, []string{"a=1; b=2"}, true},
		{"last", []string{"a=1; b=2; session=" + token}, []string{"a=1; b=2"}, true},
		{"no others touched", []string{"a=1;b=2;  c = 3 ;;d"}, []string{"a=1;b=2;  c = 3 ;;d"}, false},
		{"odd spacing", []string{"a=1;b=2;  session=" + token + ";c=\"x y, z\" ;;  d"}, []string{"a=1;b=2;c=\"x y, z\" ;;  d"}, true},
		{"several lines", []string{"a=1", "session=" + token, "b=2; session=" + token}, []string{"a=1", "b=2"}, true},
		{"similar names", []string{"xsession=1; session2=2; Session=3; SESSION=4; session=" + token}, []string{"xsession=1; session2=2; Session=3; SESSION=4"}, true},
		{"the https one", []string{"__Host-session=" + token + "; a=1"}, []string{"a=1"}, false},
		{"malformed", []string{"session=garbage; a=1"}, []string{"a=1"}, false},
		{"without value", []string{"session; a=1"}, []string{"a=1"}, false},
		{"twice the same", []string{"session=" + token + "; session=" + token + "; a=1"}, []string{"a=1"}, true},
		{"and a malformed one", []string{"session=garbage; session=" + token}, nil, true},
		{"two different ones", []string{"session=" + token + "; session=" + strings.Repeat("A", 43)}, nil, false},
		{"three lines with two different ones", []string{"session=" + strings.Repeat("A", 43), "a=1", "session=" + token}, []string{"a=1"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var headers []string
			for _, line := range test.sent {
				headers = append(headers, "Cookie", line)
			}
			for _, path := range []string{"/", "/touched"} {
				a := v.get(path, headers...)
				a.want(t, http.StatusOK, "app")
				if a.Header["Set-Cookie"] != nil {
					t.Errorf("%s sets a cookie: %v", path, a.Header["Set-Cookie"])
				}
				if got := app.last(t).Header["Cookie"]; !slices.Equal(got, test.kept) {
					t.Errorf("%s: the application got %q, want %q", path, got, test.kept)
				}
			}
			if member := app.last(t).Header.Get("X-User") == "alice"; member != test.member {
				t.Errorf("the visitor is taken for a member: %v, want %v", member, test.member)
			}
		})
	}
}

func TestCookie_ofTheApplicationUnderOurNameIsDropped(t *testing.T) {
	app := newApplication(t, func(w http.ResponseWriter, r *http.Request) {
		for _, line := range []string{"a=1", "session=theirs; Path=/", "__Host-session=theirs; Secure", " session =spaced", "=session=nameless", "= __Host-session=nameless", "sessions=2", "=b=3"} {
			w.Header().Add("Set-Cookie", line)
		}
		w.WriteHeader(http.StatusOK)
	})
	s := start(t, `
$SITE {
	session
	session_edit /put put user alice
	reverse_proxy $APP
}`, "APP", app.address())
	v := s.visitor().withoutJar()
	want := []string{"a=1", "sessions=2", "=b=3"}
	if got := v.get("/").Header["Set-Cookie"]; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	s.logged(droppedCookie)
	a := v.get("/put")
	if got := a.Header["Set-Cookie"]; len(got) != 4 || !slices.Equal(got[:3], want) || !strings.HasPrefix(got[3], "session=") || strings.Contains(got[3], "theirs") {
		t.Errorf("got %q, want %q and ours", got, want)
	}
}

// Browsers keep the cookie from before such a change beside the new one.
// A domain that is not the site's makes every login one that does not last.
func TestCookie_domainOfAnotherSiteIsExplained(t *testing.T) {
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	s := start(t, `
http://:$PORT {
	session {
		cookie session {
			domain example.test
		}
	}
	session_edit put user alice
	respond "ok"
}
$SITE {
	respond "ok"
}`, "PORT", port)
	login := func(host string) {
		v := s.visitor().withoutJar()
		v.http.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		}
		v.get("http://" + host + ":" + port + "/").cookie(t)
	}
	const explained = "browsers drop the session's cookie"
	for _, host := range []string{"example.test", "shop.Example.test"} {
		login(host)
	}
	if strings.Contains(s.readLog(), explained) {
		t.Error("hosts under the domain are said not to be")
	}
	for range 2 {
		login("notexample.test")
	}
	s.logged(explained)
	if n := strings.Count(s.readLog(), explained); n != 1 {
		t.Errorf("it is logged %d times", n)
	}
}

// Browsers take no Secure cookie over http, but for localhost's, to which they say
// Sec-Fetch-Site (and WebKit takes none there, either): every login would be one that
// does not last, and nothing would say why.
func TestCookie_secureOverHTTPIsExplained(t *testing.T) {
	const (
		site = `
{
	servers {
		trusted_proxies static 127.0.0.1
	}
}
(login) {
	session_edit put user alice
	respond "ok"
}
$SITE {
	session {
		cookie {
			same_site none
		}
	}
	import login
}
$SITE2 {
	session
	import login
}`
		explained = "browsers drop the session's cookie"
		webkit    = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15"
		chromium  = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
	)
	login := func(t *testing.T, s *server, site string, headers ...string) {
		t.Helper()
		for i, value := range headers {
			headers[i] = s.expand(value)
		}
		s.visitor().do(http.MethodPost, site+"/", headers...).cookie(t)
	}
	t.Run("taken", func(t *testing.T) {
		s := start(t, site)
		own := s.url("$SITE")
		login(t, s, "$SITE") // a program, or a browser behind a proxy that is not trusted
		login(t, s, "$SITE", "Origin", own, "Sec-Fetch-Site", "same-origin")
		login(t, s, "$SITE", "Origin", own, "Sec-Fetch-Site", "same-origin", "User-Agent", chromium)
		login(t, s, "$SITE", "Origin", strings.Replace(own, "http:", "https:", 1))
		login(t, s, "$SITE", "Origin", strings.Replace(own, "http:", "https:", 1), "User-Agent", webkit)
		login(t, s, "$SITE", "Origin", "http://other.example", "Referer", "http://other.example/")
		login(t, s, "$SITE", "Origin", own, "X-Forwarded-Proto", "https")
		login(t, s, "$SITE2", "Origin", s.url("$SITE2")) // its cookie is not Secure
		if strings.Contains(s.readLog(), explained) {
			t.Error("a cookie that browsers take is said to be dropped")
		}
	})
	for name, headers := range map[string][]string{
		"by Referer":             {"Referer", "$SITE/form"},
		"by Origin":              {"Origin", "$SITE"},
		"by WebKit at localhost": {"Origin", "$SITE", "Sec-Fetch-Site", "same-origin", "User-Agent", webkit},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, site)
			login(t, s, "$SITE", headers...)
			s.logged(explained)
			login(t, s, "$SITE", headers...)
			if n := strings.Count(s.readLog(), explained); n != 1 {
				t.Errorf("it is logged %d times", n)
			}
		})
	}
}

// Browsers take a cookie of any path, and send it under that alone: a login elsewhere
// begins a session that is never seen there, and so does the next one.
func TestCookie_pathOfAnotherIsExplained(t *testing.T) {
	s := start(t, `
(site) {
	route {
		uri /shop/rewritten strip_prefix /shop
		session {
			cookie {
				path /shop
			}
		}
		session_edit put user alice
		respond ok
	}
}
$SITE {
	import site
}
$SITE2 {
	import site
}`)
	const explained = "each request there begins another session"
	v := s.visitor().withoutJar()
	for _, path := range []string{"/shop", "/shop/", "/shop/login", "/shop/rewritten"} {
		v.get(path).cookie(t)
	}
	// A proxy in front changes the path: browsers do send it.
	v.get("$SITE2/", "Cookie", "session="+v.get("$SITE2/shop").cookie(t).Value)
	v.get("$SITE2/").cookie(t)
	if strings.Contains(s.readLog(), explained) {
		t.Error("a cookie that browsers send is said to be for another path")
	}
	for range 2 {
		v.get("/shopping").cookie(t)
	}
	s.logged(explained)
	if n := strings.Count(s.readLog(), explained); n != 1 {
		t.Errorf("it is logged %d times", n)
	}
}

func TestCookie_shownTwiceIsExplained(t *testing.T) {
	s := start(t, `
$SITE {
	session
	session_edit /put put user alice
	respond "user: {http.session.data.user}"
}`)
	v := s.visitor().withoutJar()
	ours, older := v.get("/put").cookie(t), v.get("/put").cookie(t)
	for range 3 { // a browser shows both for every picture of a page
		v.get("/", "Cookie", "session="+older.Value+"; session="+ours.Value).want(t, http.StatusOK, "user: ")
	}
	for _, cookies := range [][]string{{ours.Value, older.Value, older.Value}, {ours.Value, older.Value, ours.Value}} {
		v.get("/", "Cookie", "session="+strings.Join(cookies, "; session=")).want(t, http.StatusOK, "user: ")
	}
	v.get("/", "Cookie", "session="+ours.Value+"; session="+ours.Value).want(t, http.StatusOK, "user: alice")
	const explained = "whoever changes domain, path or partitioned of a cookie has to change its name as well"
	s.logged(explained)
	if n := strings.Count(s.readLog(), explained); n != 1 {
		t.Errorf("it is logged %d times", n)
	}
}

// droppedCookie is what the log says of it.
const droppedCookie = "sets a cookie under the name of the session's"

// The error page replaces the cookie that the route to it has set.
func TestCookie_ofTheErrorPageIsNotTheApplications(t *testing.T) {
	s := start(t, `
$SITE {
	session
	session_edit put user alice
	error 404
	handle_errors {
		session
		session_edit renew
		respond "page for {http.session.data.user}"
	}
}`)
	a := s.visitor().get("/")
	a.want(t, http.StatusNotFound, "page for alice")
	a.cookie(t)
	if strings.Contains(s.readLog(), droppedCookie) {
		t.Error("the log takes the session's own cookie for one of the application")
	}
}

// A cache of Caddy's that stands around the session keeps an answer under the
// cookie that the request has when it comes back: without one it would be a guest's.
func TestCookie_isThereForWhoIsAroundTheSession(t *testing.T) {
	var kept sync.Map // path and cookies → answer, as `Vary: Cookie` has it
	cache := inGo(t, func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
		if answer, ok := kept.Load(r.URL.Path + r.Header.Get("Cookie")); ok {
			_, err := io.WriteString(w, answer.(string))
			return err
		}
		answer := httptest.NewRecorder()
		if err := next.ServeHTTP(answer, r); err != nil {
			return err
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		if answer.Header().Get("Vary") == "Cookie" && answer.Header().Get("Cache-Control") == "" {
			kept.Store(r.URL.Path+r.Header.Get("Cookie"), answer.Body.String())
		}
		_, err := w.Write(answer.Body.Bytes())
		return err
	})
	app := newApplication(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "error page for "+r.Header.Get("Cookie"))
	})
	s := start(t, `
{
	order in_go before session
}
$SITE {
	in_go $CACHE
	session
	session_edit /login put user alice
	error /missing 404
	respond "Hello {http.session.data.user}"
	handle_errors {
		reverse_proxy $APP
	}
}`, "CACHE", cache, "APP", app.address())
	v := s.visitor()
	v.get("/login")
	for range 2 {
		v.get("/", "Cookie", "a=1").want(t, http.StatusOK, "Hello alice")
		s.visitor().get("/", "Cookie", "a=1").want(t, http.StatusOK, "Hello ")
	}
	v.get("/missing", "Cookie", "a=1").want(t, http.StatusOK, "error page for a=1")
}

// Some caches ask once more when they may not give the first answer to all who
// wait for it.
func TestCookie_isHiddenFromTheApplicationThatIsAskedTwice(t *testing.T) {
	twice := inGo(t, func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
		if err := next.ServeHTTP(httptest.NewRecorder(), r); err != nil {
			return err
		}
		return next.ServeHTTP(w, r)
	})
	app := newApplication(t, nil)
	s := start(t, `
{
	order in_go before session
}
$SITE {
	in_go $TWICE
	session
	session_edit increment n
	handle /n {
		respond {http.session.data.n}
	}
	reverse_proxy $APP
}`, "TWICE", twice, "APP", app.address())
	v := s.visitor()
	v.get("/").want(t, http.StatusOK, "app")
	v.get("/", "Cookie", "a=1").want(t, http.StatusOK, "app")
	for _, r := range app.requests()[2:] {
		if got := r.Header["Cookie"]; !slices.Equal(got, []string{"a=1"}) {
			t.Errorf("the application got the cookies %q", got)
		}
	}
	v.get("/n").want(t, http.StatusOK, "6")
}

// A header that waited for a slow body would reach the browser after that of a
// login made meanwhile, and its cookie would take the login's place.
func TestCookie_doesNotWaitForTheBody(t *testing.T) {
	const begins = "a beginning, "
	finish := make(chan struct{})
	app := newApplication(t, func(w http.ResponseWriter, r *http.Request) {
		length := len("slow")
		w.Header()["Content-Type"] = []string{"text/plain"}
		if r.URL.Path == "/slow/untyped" { // the server looks for the type in the beginning of the body
			w.Header()["Content-Type"] = nil
			length += len(begins)
		}
		w.Header().Set("Content-Length", strconv.Itoa(length))
		_, _ = io.WriteString(w, begins[:length-len("slow")])
		_ = http.NewResponseController(w).Flush()
		select {
		case <-finish:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, "slow")
	})
	s := start(t, `
(site) {
	session {
		principal user
	}
	handle /login {
		session_edit put user alice
		respond ok
	}
	handle /slow* {
		session_edit put cart book
		reverse_proxy $APP
	}
	handle /short {
		session_edit put cart book
		in_go $SHORT
	}
	handle {
		respond "{http.session.data.user} {http.session.data.cart}"
	}
}
$SITE {
	import site
}
$TLS {
	import site
}`, "APP", app.address(), "SHORT", inGo(t, func(w http.ResponseWriter, _ *http.Request, _ caddyhttp.Handler) error {
		w.Header().Set("Content-Type", "text/plain")
		_, err := io.WriteString(w, "short")
		return err
	}))
	s.visitor().handshake("$TLS/")
	for _, site := range []string{"$SITE", "$TLS"} {
		for path, want := range map[string]string{"/slow": "slow", "/slow/untyped": begins + "slow"} {
			t.Run(site+path, func(t *testing.T) {
				v := s.visitorWith(t)
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				slow, err := v.http.Do(v.request(http.MethodGet, site+path).WithContext(ctx))
				if err != nil {
					t.Fatalf("the header waits for the body: %v", err)
				}
				defer slow.Body.Close()
				v.get(site+"/login").want(t, http.StatusOK, "ok")
				finish <- struct{}{}
				if body, err := io.ReadAll(slow.Body); string(body) != want || slow.ContentLength != int64(len(want)) || err != nil {
					t.Errorf("the body is %q of %d bytes, %v", body, slow.ContentLength, err)
				}
				v.get(site+"/").want(t, http.StatusOK, "alice book")
			})
		}
	}
	a := s.visitor().get("/short") // the server counts what is written at once
	if a.cookie(t); a.ContentLength != int64(len("short")) {
		t.Errorf("a short body has the length %d and the encoding %q", a.ContentLength, a.TransferEncoding)
	}
}

func TestCookie_isOnePerScheme(t *testing.T) {
	s := start(t, `
$SITE, $TLS {
	session
	session_edit /put put scheme {http.request.scheme}
	respond "{http.session.data.scheme}"
}`)
	v := s.visitor().withoutJar()
	v.handshake("$TLS/")
	plain, secure := v.get("/put").cookie(t), v.get("$TLS/put").cookie(t)
	both := plain.Name + "=" + plain.Value + "; " + secure.Name + "=" + secure.Value
	v.get("/", "Cookie", both).want(t, http.StatusOK, "http")
	v.get("$TLS/", "Cookie", both).want(t, http.StatusOK, "https")
	v.get("/", "Cookie", "session="+secure.Value).want(t, http.StatusOK, "https")
	v.get("$TLS/", "Cookie", plain.Name+"="+plain.Value).want(t, http.StatusOK, "")
}
