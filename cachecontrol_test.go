package caddysession_test

import (
	"strings"
	"testing"
)

// TestCacheControl_ofPagesThatDependOnASessionIsWarnedOf has an application answer as a cache between
// `session` and it would.
func TestCacheControl_ofPagesThatDependOnASessionIsWarnedOf(t *testing.T) {
	stored := "Cache-Status=" + escape("Souin; fwd=uri-miss; stored")
	for _, test := range []struct {
		name, path string
		warned     bool
	}{
		{"kept by what no one said", "/read?" + stored, true},
		{"kept by an age", "/read?Cache-Control=max-age=60&" + stored, true},
		{"kept as one of two", "/read?Cache-Status=Other;+hit&" + stored, true},
		{"not kept", "/read?Cache-Status=" + escape("Souin; fwd=uri-miss; key=stored"), false},
		{"for everybody", "/read?Cache-Control=public,+max-age=60&" + stored, false},
		{"one for each session", "/read?Vary=Session-Data&" + stored, false},
		{"of a request that did not ask", "/?" + stored, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			app := newApplication(t, obedient)
			s := start(t, `
$SITE {
	session
	handle /read {
		@member session user
		reverse_proxy @member $APP
		reverse_proxy $APP
	}
	reverse_proxy $APP
}`, "APP", app.address())
			s.visitor().get(test.path).want(t, 200, "app")
			if warned := strings.Contains(s.readLog(), "a cache keeps a page"); warned != test.warned {
				t.Errorf("it is warned of: %v", warned)
			}
		})
	}
}

func TestCacheControl_keepsCookiesOutOfSharedCaches(t *testing.T) {
	app := newApplication(t, obedient)
	s := start(t, `
$SITE {
	session
	session_edit /put put user alice
	@member session user
	handle /read {
		header @member X-Read yes
		reverse_proxy $APP
	}
	reverse_proxy $APP
}`, "APP", app.address())
	v := s.visitor().withoutJar()
	for _, test := range []struct {
		name, path, cacheControl, vary string
	}{
		{"no cookie, nothing said", "/", "", ""},
		{"no cookie, public", "/?Cache-Control=public,max-age=60", "public,max-age=60", ""},
		{"read only", "/read?Cache-Control=public", "public", "Cookie"},
		{"read only, varies already", "/read?Vary=accept,+cookie", "", "accept, cookie"},
		{"read only, varies by something else", "/read?Vary=Accept", "", "Accept|Cookie"},
		{"read only, varies by everything", "/read?Vary=*", "", "*"},
		{"cookie, nothing said", "/put", "private, no-store", "Cookie"},
		{"cookie, public", "/put?Cache-Control=public,+max-age=3600", "private, no-store", "Cookie"},
		{"cookie, max-age", "/put?Cache-Control=max-age=3600", "private, no-store", "Cookie"},
		{"cookie, s-maxage", "/put?Cache-Control=s-maxage=3600", "private, no-store", "Cookie"},
		{"cookie, private", "/put?Cache-Control=private,+max-age=60", "private, max-age=60", "Cookie"},
		{"cookie, no-store", "/put?Cache-Control=no-store", "no-store", "Cookie"},
		{"cookie, no-store that is passed over", "/put?Cache-Control=must-understand,+no-store,+max-age=60", "private, no-store", "Cookie"},
		{"cookie, private field", "/put?Cache-Control=private=%22X-A%22", "private, no-store", "Cookie"},
		{"cookie, private in quotes", "/put?Cache-Control=max-age=60,+x=%22a,+private,+b%22", "private, no-store", "Cookie"},
		{"cookie, private in quotes with an escape", "/put?Cache-Control=max-age=60,+x=%22%5C%22,+private,+b%22", "private, no-store", "Cookie"},
		{"cookie, private behind an open quote", "/put?Cache-Control=max-age=60,+x=%22a,+private", "private, no-store", "Cookie"},
		{"cookie, private beside quotes", "/put?Cache-Control=no-cache=%22Set-Cookie%22,+private", `no-cache="Set-Cookie", private`, "Cookie"},
		{"cookie, Expires", "/put?Expires=Thu,+01+Jan+2099+00:00:00+GMT&Surrogate-Control=max-age=60", "private, no-store", "Cookie"},
		{"cookie, private and public", "/put?Cache-Control=private&Cache-Control=public,+max-age=60", "private, no-store", "Cookie"},
		{"cookie, for one cache", "/put?Cloudflare-CDN-Cache-Control=max-age=60&CDN-Cache-Control=max-age=60&Akamai-Cache-Control=max-age=60&Edge-Control=!no-store,max-age=60&X-Accel-Expires=60", "private, no-store", "Cookie"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := v.get(test.path)
			if got := strings.Join(a.Header["Cache-Control"], "|"); got != test.cacheControl {
				t.Errorf("Cache-Control is %q, want %q", got, test.cacheControl)
			}
			if got := strings.Join(a.Header["Vary"], "|"); got != test.vary {
				t.Errorf("Vary is %q, want %q", got, test.vary)
			}
			for _, name := range []string{"Expires", "Surrogate-Control", "CDN-Cache-Control", "Cloudflare-CDN-Cache-Control", "Akamai-Cache-Control", "Edge-Control", "X-Accel-Expires"} {
				if strings.HasPrefix(test.path, "/put") && a.Header.Get(name) != "" {
					t.Errorf("the response may be kept: %v", a.Header)
				}
			}
		})
	}
}
