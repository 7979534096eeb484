package caddysession_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// recipes are what each Caddyfile of examples/recipes is to do.
var recipes = map[string]func(t *testing.T){
	"app-and-api": func(t *testing.T) {
		s := start(t, example(t, "recipes/app-and-api.Caddyfile"))
		v, origin := s.visitor(), s.url("$SITE2")
		ask := func(method, path, origin string, status int) {
			t.Helper()
			a := v.do(method, path, "Origin", origin, "Sec-Fetch-Site", "same-site", "Access-Control-Request-Method", method)
			if a.StatusCode != status || a.Header.Get("Access-Control-Allow-Origin") != s.url("$SITE2") || a.Header.Get("Access-Control-Allow-Credentials") != "true" {
				t.Errorf("%s %s from %s is answered %d with %v", method, path, origin, a.StatusCode, a.Header)
			}
		}
		ask(http.MethodOptions, "/", origin, http.StatusNoContent)
		ask(http.MethodPut, "/", origin, http.StatusUnauthorized)
		ask(http.MethodPost, "/login?user=alice", origin, http.StatusNoContent)
		ask(http.MethodPut, "/", origin, http.StatusOK)
		ask(http.MethodPut, "/", "http://other.example", http.StatusForbidden)
		if page := v.get("$SITE2/").body; !strings.Contains(page, s.url("$SITE")) {
			t.Errorf("the application's page is %s", page)
		}
	},
	"basic-auth": func(t *testing.T) {
		s := start(t, example(t, "recipes/basic-auth.Caddyfile"))
		v := s.visitor()
		v.get("/").want(t, http.StatusUnauthorized, "")
		first := v.get("/", "Authorization", basic("alice", "wonderland"))
		first.want(t, http.StatusOK, "Hello alice")
		first.cookie(t)
		v.get("/").want(t, http.StatusOK, "Hello alice")
		v.get("/", "Authorization", basic("alice", "wrong")).want(t, http.StatusOK, "Hello alice")
		s.visitor().get("/", "Authorization", basic("alice", "wrong")).want(t, http.StatusUnauthorized, "")
		s.table().wantRows(1)
	},
	"devices": func(t *testing.T) {
		s := start(t, example(t, "recipes/devices.Caddyfile"))
		const path = "/account/sessions"
		login := func() *visitor {
			v := s.visitor()
			a := v.get("/login", "Authorization", basic("alice", "wonderland"), "User-Agent", "Mozilla/5.0 (Windows NT 10.0) Firefox/140.0")
			if a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != path {
				t.Fatalf("the login is answered %d to %q", a.StatusCode, a.Header.Get("Location"))
			}
			return v
		}
		a := s.visitor().get(path)
		if a.StatusCode != http.StatusUnauthorized || a.Header.Get("Content-Type") != "text/html; charset=utf-8" || !strings.Contains(a.body, "Sign in") {
			t.Errorf("a guest is answered %d %q", a.StatusCode, a.body)
		}
		all := make([]*visitor, 6)
		for i := range all {
			all[i] = login()
		}
		all = slices.DeleteFunc(all, func(v *visitor) bool { return v.get(path).StatusCode == http.StatusUnauthorized })
		if len(all) != 5 {
			t.Fatalf("%d of 6 sessions are left, want 5", len(all))
		}
		shown := all[0].devices()
		if len(shown.Sessions) != 5 || shown.Sessions[4].Used == "" || shown.Sessions[4].Address != "127.0.0.1" {
			t.Fatalf("the sessions are %+v", shown.Sessions)
		}
		if page := all[0].get(path).body; strings.Count(page, "Firefox on Windows") < 5 {
			t.Errorf("the page is %s", page)
		}
		all[0].submit(path, url.Values{"end": {"others"}, "csrf_token": {shown.CSRFToken}})
		s.table().wantRows(1)
	},
	"forward-auth": func(t *testing.T) {
		s := start(t, example(t, "recipes/forward-auth.Caddyfile"))
		v := s.visitor()
		v.get("/").want(t, http.StatusUnauthorized, "Who are you?")
		v.get("/", "Remote-User", "mallory").want(t, http.StatusUnauthorized, "Who are you?")
		v.get("/", "X-Key", "open-sesame").want(t, http.StatusOK, "Hello alice")
		v.get("/").want(t, http.StatusOK, "Hello alice")
		v.get("/", "Remote-User", "mallory").want(t, http.StatusOK, "Hello alice")
		v.get("/", "Connection", "Remote-User").want(t, http.StatusOK, "Hello alice")
		s.table().wantRows(1)

		// A gateway that lets strangers see a page has signed nobody in.
		s = start(t, strings.Replace(example(t, "recipes/forward-auth.Caddyfile"), "header Remote-User alice", "", 1))
		v = s.visitor()
		v.get("/", "X-Key", "open-sesame", "Remote-User", "mallory").want(t, http.StatusOK, "Hello ")
		v.get("/").want(t, http.StatusUnauthorized, "Who are you?")
		s.table().wantRows(0)
	},
	"sticky-upstreams": func(t *testing.T) {
		s := start(t, example(t, "recipes/sticky-upstreams.Caddyfile"))
		seen := map[string]bool{}
		for range 30 {
			v := s.visitor()
			home := v.get("/begin").body
			seen[home] = true
			for range 5 {
				v.get("/").want(t, http.StatusOK, home)
				v.get("/", "Session-Key", "forged").want(t, http.StatusOK, home)
			}
		}
		if !seen["first"] || !seen["second"] {
			t.Errorf("30 sessions went to %v alone", seen)
		}
		a := s.visitor().get("/")
		if a.StatusCode != http.StatusOK || a.Header["Set-Cookie"] != nil {
			t.Errorf("a guest is answered %d and sent %v", a.StatusCode, a.Header["Set-Cookie"])
		}
	},
	"rate-limit": func(t *testing.T) {
		s := start(t, example(t, "recipes/rate-limit.Caddyfile"))
		alice, bob, guest := s.visitor(), s.visitor(), s.visitor()
		alice.do(http.MethodPost, "/login?user=alice").want(t, http.StatusOK, "Hello alice")
		bob.do(http.MethodPost, "/login?user=bob").want(t, http.StatusOK, "Hello bob")
		for i := range 21 {
			want := http.StatusOK
			if i == 20 {
				want = http.StatusTooManyRequests
			}
			if a := alice.get("/"); a.StatusCode != want {
				t.Fatalf("request %d of a session is answered %d, want %d", i+1, a.StatusCode, want)
			}
		}
		bob.get("/").want(t, http.StatusOK, "Hello bob")
		for range 3 { // with the two logins
			guest.get("/").want(t, http.StatusOK, "Hello ")
		}
		guest.get("/").want(t, http.StatusTooManyRequests, "")
	},
	"login-and-back": func(t *testing.T) {
		s := start(t, example(t, "recipes/login-and-back.Caddyfile"))
		v := s.visitor()
		wantRedirect := func(path, to string, headers ...string) {
			t.Helper()
			if a := v.get(path, headers...); a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != to {
				t.Errorf("%s is answered %d to %q, want a redirect to %q", path, a.StatusCode, a.Header.Get("Location"), to)
			}
		}
		const page = "/books?by=a&b=%26"
		login := "/login?next=" + url.QueryEscape(page)
		v.get(page).want(t, http.StatusUnauthorized, "Please sign in")
		wantRedirect(page, login, "Accept", "text/html,*/*;q=0.8")
		a := v.get(login, "Accept", "text/html,*/*;q=0.8")
		a.want(t, http.StatusUnauthorized, "Please sign in")
		if a.Header.Get("WWW-Authenticate") == "" {
			t.Error("the login does not ask for the password")
		}
		wantRedirect(login, page, "Authorization", basic("alice", "wonderland"))
		v.get(page).want(t, http.StatusOK, "Hello alice, this is "+page)
		for _, away := range []string{"", "//evil.example/", `/\evil.example/`, "/\t/evil.example/", "https://evil.example/", " //evil.example/"} {
			wantRedirect("/login?next="+url.QueryEscape(away), "/", "Authorization", basic("alice", "wonderland"))
		}
	},
	"guest-cart": func(t *testing.T) {
		s := start(t, example(t, "recipes/guest-cart.Caddyfile"))
		v := s.visitor()
		v.get("/").want(t, http.StatusOK, "user: , books: , pens: ")
		s.table().wantRows(0)
		v.do(http.MethodPost, "/add/pen").redirected(t)
		var tabs sync.WaitGroup
		for range 10 {
			tabs.Go(func() {
				if _, err := v.try(http.MethodPost, "/add/book"); err != nil {
					t.Error(err)
				}
			})
		}
		tabs.Wait()
		v.do(http.MethodPost, "/login?user=alice").redirected(t).cookie(t)
		v.get("/").want(t, http.StatusOK, "user: alice, books: 10, pens: 1")
		v.do(http.MethodPost, "/checkout").redirected(t)
		v.get("/").want(t, http.StatusOK, "user: alice, books: , pens: ")
		v.do(http.MethodPost, "/add/pen").redirected(t)
		v.do(http.MethodPost, "/login?user=alice").redirected(t)
		v.get("/").want(t, http.StatusOK, "user: alice, books: , pens: 1")
		v.do(http.MethodPost, "/login?user=bob").redirected(t)
		v.get("/").want(t, http.StatusOK, "user: bob, books: , pens: ")
		v.do(http.MethodPost, "/logout").redirected(t)
		s.table().wantRows(0)
	},
	"remember-me": func(t *testing.T) {
		s := start(t, example(t, "recipes/remember-me.Caddyfile"))
		v := s.visitor()
		if c := v.do(http.MethodPost, "/login?user=alice").redirected(t).cookie(t); c.MaxAge != 0 || !c.Expires.IsZero() {
			t.Errorf("the cookie of a login is %v, want one that ends with the browser", c)
		}
		if c := v.do(http.MethodPost, "/login?user=alice&remember=on").redirected(t).cookie(t); c.MaxAge < 29*secondsPerDay {
			t.Errorf("the remembered cookie is %v", c)
		}
		if c := v.do(http.MethodPost, "/login?user=bob").redirected(t).cookie(t); c.MaxAge != 0 || !c.Expires.IsZero() {
			t.Errorf("the cookie of who signs in after somebody who is remembered is %v", c)
		}
		if body := v.get("/").body; !strings.HasPrefix(body, "Hello bob, until 20") {
			t.Errorf("the page is %q", body)
		}
		if c := v.do(http.MethodPost, "/logout").redirected(t).cookie(t); c.MaxAge >= 0 {
			t.Errorf("the logout sets %v", c)
		}
	},
	"two-sites": func(t *testing.T) {
		address := freeAddress(t)
		_, port, _ := net.SplitHostPort(address)
		s := start(t, example(t, "recipes/two-sites.Caddyfile"),
			"SITE", "http://shop.example.localhost:"+port, "SITE2", "http://help.example.localhost:"+port)
		v := s.visitor()
		v.http.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address) // whatever the names resolve to here
		}
		c := v.do(http.MethodPost, "/login?user=alice").redirected(t).cookie(t)
		if c.Domain != "example.localhost" {
			t.Errorf("the cookie is for %s", c.Domain)
		}
		v.get("/").want(t, http.StatusOK, "The shop knows alice")
		v.get("$SITE2/").want(t, http.StatusOK, "The help desk knows alice")
		s.table().wantRows(1)
	},
	"maintenance": func(t *testing.T) {
		s := start(t, example(t, "recipes/maintenance.Caddyfile"))
		v := s.visitor()
		a := v.get("/")
		a.want(t, http.StatusServiceUnavailable, "We are back soon")
		if a.Header.Get("Retry-After") != "600" {
			t.Errorf("Retry-After is %q", a.Header.Get("Retry-After"))
		}
		v.get("/staff").want(t, http.StatusUnauthorized, "")
		staff := v.get("/staff", "Authorization", basic("alice", "wonderland"))
		staff.redirected(t)
		v.get("/").want(t, http.StatusOK, "Hello alice, this is the new site")
	},
}

func basic(user, password string) string {
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}

func TestRecipes(t *testing.T) {
	files, err := filepath.Glob("examples/recipes/*.Caddyfile")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no recipes: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".Caddyfile")
		t.Run(name, func(t *testing.T) {
			if recipes[name] == nil {
				t.Fatal("nobody checks what it does")
			}
			recipes[name](t)
		})
	}
}

// rateLimit stands in for http.handlers.rate_limit of
// github.com/mholt/caddy-ratelimit: its syntax, as far as the recipe goes, and a
// count for each key that never ends.
type rateLimit struct {
	Zone   string `json:"zone"`
	Key    string `json:"key"`
	Events int    `json:"events"`

	counting sync.Mutex
	counts   map[string]int
}

func init() {
	caddy.RegisterModule(new(rateLimit))
	httpcaddyfile.RegisterHandlerDirective("rate_limit", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		limit := new(rateLimit)
		return limit, limit.UnmarshalCaddyfile(h.Dispenser)
	})
}

func (*rateLimit) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.rate_limit", New: func() caddy.Module { return new(rateLimit) }}
}

func (l *rateLimit) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	for d.Next() {
		for d.NextBlock(0) {
			if d.Val() != "zone" || !d.Args(&l.Zone) {
				return d.ArgErr()
			}
			for nesting := d.Nesting(); d.NextBlock(nesting); {
				option, value := d.Val(), ""
				if !d.AllArgs(&value) {
					return d.ArgErr()
				}
				switch option {
				case "key":
					l.Key = value
				case "events":
					l.Events, _ = strconv.Atoi(value)
				}
			}
		}
	}
	return nil
}

func (l *rateLimit) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	key := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).ReplaceAll(l.Key, "")
	l.counting.Lock()
	if l.counts == nil {
		l.counts = make(map[string]int)
	}
	l.counts[key]++
	over := l.counts[key] > l.Events
	l.counting.Unlock()
	if over {
		return caddyhttp.Error(http.StatusTooManyRequests, errors.New("too many requests"))
	}
	return next.ServeHTTP(w, r)
}
