package caddysession

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"golang.org/x/net/http/httpguts"
)

// CookieConfig is the cookie that carries a session's token (RFC 6265bis).
type CookieConfig struct {
	// Its name. Default: __Host-session where the cookie is Secure, has no
	// domain and the path /, else session. Each is read where it is written
	// only, so a site that is served over http and https keeps two.
	Name string `json:"name,omitempty"`

	// The domain, if subdomains are to share the session: the site's host or one
	// above it, or browsers drop the cookie, which is logged. Default: the host
	// alone.
	Domain string `json:"domain,omitempty"`

	// The path under which the browser sends the cookie. Default: /.
	Path string `json:"path,omitempty"`

	// lax, strict or none, which makes the cookie Secure. Default: lax.
	SameSite string `json:"same_site,omitempty"`

	// Whether the cookie is sent over https only: on, off, or auto, which is
	// on for requests that came over https, to Caddy or to a proxy that it
	// trusts, and where browsers take the cookie in no other way: with
	// `same_site none`, `partitioned` or a name like __Host-… . Default: auto.
	Secure string `json:"secure,omitempty"`

	// Whether scripts are kept from reading the cookie. Default: true.
	HTTPOnly *bool `json:"http_only,omitempty"`

	// Whether the browser keeps one cookie per top-level site (CHIPS), for
	// sites that are embedded in others. It makes the cookie Secure, so the site
	// needs https, and in a frame it is sent with `same_site none` only. Default:
	// false.
	Partitioned *bool `json:"partitioned,omitempty"`
}

const (
	plainName  = "session"
	hostPrefix = "__Host-"
)

var (
	sameSites = map[string]http.SameSite{
		"": http.SameSiteLaxMode, "lax": http.SameSiteLaxMode,
		"strict": http.SameSiteStrictMode, "none": http.SameSiteNoneMode,
	}
	secureModes = []string{"auto", "on", "off"}
)

func (c *CookieConfig) inherit(defaults *CookieConfig) *CookieConfig {
	if c == nil || defaults == nil {
		return cmp.Or(c, defaults)
	}
	merged := *c
	inherit(&merged.Name, defaults.Name)
	inherit(&merged.Domain, defaults.Domain)
	inherit(&merged.Path, defaults.Path)
	inherit(&merged.SameSite, defaults.SameSite)
	inherit(&merged.Secure, defaults.Secure)
	inherit(&merged.HTTPOnly, defaults.HTTPOnly)
	inherit(&merged.Partitioned, defaults.Partitioned)
	return &merged
}

// check reports a cookie that browsers would refuse.
func (c *CookieConfig) check() error {
	if c == nil {
		return nil
	}
	if _, ok := sameSites[c.SameSite]; !ok {
		return fmt.Errorf("unknown same_site %q: use lax, strict or none", c.SameSite)
	}
	if c.Secure != "" && !slices.Contains(secureModes, c.Secure) {
		return fmt.Errorf("unknown secure %q: use auto, on or off", c.Secure)
	}
	if c.Name != "" && !httpguts.ValidHeaderFieldName(c.Name) {
		return fmt.Errorf("%q is no name for a cookie: use letters, digits, - and _", c.Name)
	}
	if hasUnescapedPlaceholder(c.Domain) || hasUnescapedPlaceholder(c.Path) {
		return errors.New("placeholders are not replaced in the cookie's domain and path: write them out, or {$NAME} in a Caddyfile")
	}
	if c.Path != "" && (!strings.HasPrefix(c.Path, "/") || strings.ContainsAny(c.Path, "; \t\r\n") || !canWrite(http.Cookie{Path: c.Path})) {
		return fmt.Errorf("the cookie's path %q must start with / and hold no blank or semicolon, and ASCII only", c.Path)
	}
	if before, ok := strings.CutSuffix(c.Path, "*"); ok {
		return fmt.Errorf("the cookie's path %q has no wildcards, it is the beginning of all that it is for: write %s", c.Path, cmp.Or(strings.TrimRight(before, "/"), "/"))
	}
	if c.Domain != "" && (strings.Contains(c.Domain, ":") || !canWrite(http.Cookie{Domain: c.Domain})) {
		return fmt.Errorf("the cookie's domain %q must be a plain host name in ASCII, like example.com", c.Domain)
	}
	if hasPrefixFold(c.Name, hostPrefix) {
		switch {
		case c.Domain != "":
			return fmt.Errorf("a cookie named %s must not have a domain (browsers refuse it): leave domain out, or name the cookie __Secure-…", c.Name)
		case c.Path != "" && c.Path != "/":
			return fmt.Errorf("a cookie named %s must have the path / (browsers refuse any other)", c.Name)
		}
	}
	if isNamedSecure(c.Name) && c.Secure == "off" {
		return fmt.Errorf("a cookie named %s must be Secure (browsers refuse it otherwise): leave secure out, or set it on", c.Name)
	}
	if isNamedHTTPOnly(c.Name) && c.HTTPOnly != nil && !*c.HTTPOnly {
		return fmt.Errorf("a cookie named %s must be HttpOnly (browsers refuse it otherwise): leave http_only out, or set it on", c.Name)
	}
	if c.SameSite == "none" && c.Secure == "off" {
		return errors.New("same_site none needs a Secure cookie (browsers refuse it otherwise): leave secure out, or set it on")
	}
	if c.Partitioned != nil && *c.Partitioned && c.Secure == "off" {
		return errors.New("a partitioned cookie must be Secure (browsers refuse it otherwise): leave secure out, or set it on")
	}
	return nil
}

// canWrite reports whether net/http writes a cookie's attributes as they are: it
// leaves out what is not allowed.
func canWrite(c http.Cookie) bool {
	c.Name = plainName
	return c.Valid() == nil
}

// isNamedSecure reports whether browsers take a cookie of this name only if it is Secure.
func isNamedSecure(name string) bool {
	return hasPrefixFold(name, hostPrefix) || hasPrefixFold(name, "__Secure-") || hasPrefixFold(name, "__Http-")
}

// isNamedHTTPOnly reports whether browsers take a cookie of this name only if it is HttpOnly.
func isNamedHTTPOnly(name string) bool {
	return hasPrefixFold(name, "__Http-") || hasPrefixFold(name, "__Host-Http-")
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

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
