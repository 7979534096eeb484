package caddysession

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// cookieJar reads, writes and hides the cookie of one handler.
type cookieJar struct {
	plain, host string // names; host is "" where only one is in use
	template    http.Cookie
	secure      string
	mustSecure  bool // what else is set asks for Secure
}

func newCookieJar(c *CookieConfig) cookieJar {
	if c == nil {
		c = &CookieConfig{}
	}
	jar := cookieJar{
		plain:  c.Name,
		secure: cmp.Or(c.Secure, "auto"),
		template: http.Cookie{
			Domain:      c.Domain,
			Path:        cmp.Or(c.Path, "/"),
			HttpOnly:    c.HTTPOnly == nil || *c.HTTPOnly,
			SameSite:    sameSites[c.SameSite],
			Partitioned: c.Partitioned != nil && *c.Partitioned,
		},
	}
	if jar.plain == "" {
		jar.plain = plainName
		if jar.template.Domain == "" && jar.template.Path == "/" && jar.secure != "off" {
			jar.host = hostPrefix + plainName
		}
	}
	// Browsers accept these only when Secure, whatever the scheme looks like from here.
	jar.mustSecure = isNamedSecure(jar.plain) || c.SameSite == "none" || jar.template.Partitioned
	return jar
}

// isSecure reports whether the cookie of this request is a Secure one.
func (j *cookieJar) isSecure(r *http.Request) bool {
	switch {
	case j.secure == "on" || j.mustSecure:
		return true
	case j.secure == "off":
		return false
	}
	return isHTTPS(r)
}

// isHTTPS reports whether the client came over https: to this server, or to a
// proxy in front of it that it trusts. Traefik says wss where a websocket is
// opened over https: browsers send the Secure cookie there, too.
func isHTTPS(r *http.Request) bool {
	return r.TLS != nil || isFromTrustedProxy(r) && saysHTTPS(r)
}

// saysHTTPS reports whether a proxy, or whoever sent the request, says that the
// client came over https.
func saysHTTPS(r *http.Request) bool {
	proto := r.Header.Get("X-Forwarded-Proto")
	return strings.EqualFold(proto, "https") || strings.EqualFold(proto, "wss")
}

// isOverHTTP reports whether a browser asked over http, where it takes no Secure
// cookie. It says Sec-Fetch-Site where it takes one all the same, as from localhost,
// but for WebKit, which says so there and takes none.
func isOverHTTP(r *http.Request, host string) bool {
	if isHTTPS(r) || r.Header.Get("Sec-Fetch-Site") != "" && !isWebKit(r.UserAgent()) {
		return false
	}
	own := "http://" + host
	return r.Header.Get("Origin") == own || strings.HasPrefix(r.Header.Get("Referer"), own+"/")
}

// isWebKit reports whether a browser is Safari or another of WebKit's: Chromium's name
// that engine, too.
func isWebKit(userAgent string) bool {
	return strings.Contains(userAgent, "AppleWebKit/") && !strings.Contains(userAgent, "Chrome/")
}

// checkScheme says in the log that browsers drop the session's cookie, which is
// Secure, as they came over http: visitors would never be signed in. Or that it is
// not Secure on a site that seems to be served over https, which nobody would see.
func (s *Session) checkScheme() {
	if s.unproven {
		s.h.sampled.warn("the session's cookie is not Secure, for the https of X-Forwarded-Proto comes from an address that is not trusted: if it is your proxy's, name it in trusted_proxies, or set `secure on`",
			zap.String("cookie", s.cookieName()), zap.String("host", s.host))
	}
	if !s.overHTTP {
		return
	}
	s.h.sampled.warn("browsers drop the session's cookie: it is Secure, and they came over http; serve the site over https, or leave out what makes the cookie Secure: `secure on`, `same_site none`, `partitioned` and names like __Host-…",
		zap.String("cookie", s.cookieName()), zap.String("host", s.host))
}

// isAstray reports whether the client asked for a path with which it sends no cookie
// of ours.
func (j *cookieJar) isAstray(r *http.Request) bool {
	if j.template.Path == "/" {
		return false
	}
	asked := r.URL
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok { // before any rewrite
		asked = original.URL
	}
	rest, under := strings.CutPrefix(asked.EscapedPath(), j.template.Path)
	return !under || rest != "" && rest[0] != '/' && !strings.HasSuffix(j.template.Path, "/")
}

// checkPath says in the log that the session is never seen again where it was begun.
func (s *Session) checkPath() {
	if s.astray && !s.h.mapped.Load() {
		s.h.sampled.warn("browsers do not send the session's cookie back to where it was set: its path is neither the one that they asked for nor one above it, and each request there begins another session; leave path out, or begin sessions under it",
			zap.String("cookie", s.cookieName()), zap.String("path", s.h.cookie.template.Path))
	}
}

// isFromTrustedProxy reports whether what the request says of the client's own
// request, in X-Forwarded-*, is to be believed.
func isFromTrustedProxy(r *http.Request) bool {
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return trusted
}

// name returns the name under which the cookie is read and written.
func (j *cookieJar) name(secure bool) string {
	if secure && j.host != "" {
		return j.host
	}
	return j.plain
}

// owns reports whether a cookie of this name is ours, whatever the scheme.
func (j *cookieJar) owns(name string) bool {
	return name == j.plain || j.host != "" && name == j.host
}

// taken is what the cookies of a request say.
type taken struct {
	ticket
	ambiguous bool           // two different ones under our name: there is no ticket then
	has       [verdicts]bool // whether any of them is that
}

// take finds the ticket in the request and removes our cookies from it, so that
// nothing downstream sees them; other cookies stay byte for byte.
func (j *cookieJar) take(header http.Header, secure bool, ring *keyring) (t taken) {
	lines := header["Cookie"]
	if !j.mentioned(lines) {
		return t
	}
	ours := j.name(secure)
	kept := make([]string, 0, len(lines))
	for _, line := range lines {
		rest := make([]string, 0, 8)
		for pair := range strings.SplitSeq(line, ";") {
			name, value, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
			switch {
			case !j.owns(name):
				rest = append(rest, pair)
			case name == ours:
				t.add(ring.read(value))
			}
		}
		if line = strings.TrimLeft(strings.Join(rest, ";"), " \t"); line != "" {
			kept = append(kept, line)
		}
	}
	if len(kept) == 0 {
		delete(header, "Cookie")
	} else {
		header["Cookie"] = kept
	}
	if t.ambiguous {
		t.ticket = ticket{}
	}
	return t
}

// giveBack undoes what take did to a request, once it was served: a cache around
// the session tells by the cookies whose answer it keeps. After an error our cookies stay away,
// for an error route may lead to the application, and so they do when the client has
// gone: a handler that did not wait for us may be answering.
func (j *cookieJar) giveBack(r *http.Request, header http.Header, cookies []string, err error) {
	if err == nil && r.Context().Err() == nil && j.mentioned(cookies) {
		header["Cookie"] = cookies
	}
}

// add takes one more cookie into account.
func (t *taken) add(found ticket, is verdict) {
	t.has[is] = true
	if is == genuine {
		t.ambiguous = t.ambiguous || t.token != "" && t.ticket != found
		t.ticket = found
	}
}

// mentioned is a quick look whether any line may hold one of our cookies.
func (j *cookieJar) mentioned(lines []string) bool {
	for _, line := range lines {
		if strings.Contains(line, j.plain) || j.host != "" && strings.Contains(line, j.host) {
			return true
		}
	}
	return false
}

// write makes the Set-Cookie header for a ticket's value; an empty one removes
// the cookie. A zero expiry makes a cookie that ends with the browser.
func (j *cookieJar) write(value string, expiry time.Time, secure bool) string {
	cookie := j.template
	cookie.Name, cookie.Value, cookie.Secure = j.name(secure), value, secure
	switch {
	case value == "":
		cookie.MaxAge = -1
	case !expiry.IsZero():
		cookie.Expires = expiry.Add(time.Second).Truncate(time.Second)
		cookie.MaxAge = int(time.Until(expiry).Seconds() + 1)
	}
	return cookie.String()
}

// strip removes Set-Cookie headers under our names: only the handler writes
// those. It returns the name of one that is not the handler's own, if there is any.
func (j *cookieJar) strip(header http.Header, own string) (foreign string) {
	lines := header["Set-Cookie"]
	if len(lines) == 0 {
		return ""
	}
	kept := slices.DeleteFunc(slices.Clone(lines), func(line string) bool {
		name := cookieNamed(line)
		if j.owns(name) && line != own {
			foreign = name
		}
		return j.owns(name)
	})
	if len(kept) == 0 {
		delete(header, "Set-Cookie")
	} else if len(kept) != len(lines) {
		header["Set-Cookie"] = kept
	}
	return foreign
}

// cookieNamed is under which name a browser sends what a Set-Cookie sets. One
// without a name is sent as its value alone, which may look like one with a name.
func cookieNamed(line string) string {
	pair, _, _ := strings.Cut(line, ";")
	name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
	if name = strings.TrimSpace(name); name == "" {
		name, _, _ = strings.Cut(strings.TrimSpace(value), "=")
	}
	return name
}
