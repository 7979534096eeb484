package caddysession

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"

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
	sameSiteModes = []string{"lax", "strict", "none"}
	secureModes   = []string{"auto", "on", "off"}
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
	if err := cmp.Or(checkChoice("same_site", c.SameSite, sameSiteModes), checkChoice("secure", c.Secure, secureModes)); err != nil {
		return err
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
