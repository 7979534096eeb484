package caddysession

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"golang.org/x/net/idna"
)

// CrossOriginConfig says what happens to requests that a page of another
// origin made the browser send with the session's cookie. Requests that change
// nothing (GET, HEAD, OPTIONS) are let through, websocket handshakes are not,
// over whichever version of HTTP: they carry the session on. Where a gateway asks
// about a request of its own (forward_auth), what counts is X-Forwarded-Method.
type CrossOriginConfig struct {
	// deny answers such requests with a 403; allow lets them all through.
	// Default: deny.
	Policy string `json:"policy,omitempty"`

	// Origins that are trusted in spite of deny, like https://app.example.com.
	Origins []string `json:"origins,omitempty"`
}

var originPolicies = []string{"deny", "allow"}

func (c *CrossOriginConfig) check() error {
	if c == nil {
		return nil
	}
	if err := checkChoice("cross_origin", c.Policy, originPolicies); err != nil {
		return err
	}
	if c.Policy == "allow" && len(c.Origins) > 0 {
		return errors.New("cross_origin allow lets all origins in: to trust some only, write cross_origin deny and their names")
	}
	for _, origin := range c.Origins {
		if err := http.NewCrossOriginProtection().AddTrustedOrigin(origin); err != nil {
			return fmt.Errorf("%q is no origin: write scheme and host, like https://app.example.com", origin)
		}
		if strings.HasSuffix(origin, ",") {
			return fmt.Errorf("%q: origins stand with a blank between them, and no comma", origin)
		}
		if strings.Contains(origin, "*") {
			return fmt.Errorf("%q: origins have no wildcards: name each of them, like https://app.example.com", origin)
		}
		if sent := asBrowsersSend(origin); sent != origin {
			return fmt.Errorf("%q is no origin as browsers send it: write %s", origin, sent)
		}
	}
	return nil
}

// asBrowsersSend is an origin in the form that requests have it in, with which it
// is compared: in lower case and ASCII, without the port that goes without saying.
func asBrowsersSend(origin string) string {
	scheme, address, _ := strings.Cut(strings.ToLower(origin), "://")
	host, port, err := net.SplitHostPort(address)
	if err != nil || strings.Contains(host, ":") { // without a port, or of IPv6
		host, port = address, ""
	}
	if ascii, err := idna.Lookup.ToASCII(host); err == nil {
		host = ascii
	}
	if port == "" || scheme == "http" && port == "80" || scheme == "https" && port == "443" {
		return scheme + "://" + host
	}
	return scheme + "://" + host + ":" + port
}

// originGuard refuses what other sites make a browser send; nil refuses nothing.
type originGuard struct {
	protection *http.CrossOriginProtection
	trusted    []string
}

func newOriginGuard(c *CrossOriginConfig) *originGuard {
	if c == nil {
		c = &CrossOriginConfig{}
	}
	if c.Policy == "allow" {
		return nil
	}
	g := &originGuard{http.NewCrossOriginProtection(), c.Origins}
	for _, origin := range c.Origins {
		_ = g.protection.AddTrustedOrigin(origin) // checked when the config was
	}
	return g
}

func (g *originGuard) sameAs(other *originGuard) bool {
	return (g == nil) == (other == nil) && (g == nil || slices.Equal(g.trusted, other.trusted))
}

var (
	errCrossOrigin = errors.New("a page of another origin sent this request with the visitor's session; if it may, name its origin: `cross_origin deny <origin>`")

	// Over plain http browsers say no more than Origin, which nginx, unless told
	// otherwise, sends to Caddy beside another Host.
	errOtherHost = errors.New("the host of this request, which has the visitor's session, is not that of its Origin: a page of another origin sent it (if that may, name its origin: `cross_origin deny <origin>`), or a proxy in front changes Host: have it pass Host on as the browser sent it, or say X-Forwarded-Host from an address in trusted_proxies")

	// Over plain http browsers send Origin only, and with this policy not even a site's own.
	errNullOrigin = errors.New("a page of another origin sent this request with the visitor's session, or one of the site's own that does not say so: over http browsers hide it under `Referrer-Policy: no-referrer`; serve the site over https or make that policy same-origin, for `cross_origin deny <origin>` cannot name it")

	// Sign-ins that come back by a form are such pages where they send that policy.
	errHiddenOrigin = errors.New("a page of another origin sent this request with the visitor's session and hides which (Origin: null, as under `Referrer-Policy: no-referrer`, from a sandboxed frame or after a redirect), so `cross_origin deny <origin>` cannot name it; if it may, have it say its origin, or give this path alone a `session` of its own with `cross_origin allow`")
)

// checkOrigin refuses an unsafe cross-origin request that carries a session.
// It looks at Sec-Fetch-Site, or where a browser sends none, at Origin.
func (s *Session) checkOrigin(r *http.Request) error {
	guard := s.h.origins
	if guard == nil || s.presented.token == "" {
		return nil
	}
	asked := r
	if method := wantedMethod(r); method != r.Method || s.host != r.Host {
		asked = r.WithContext(r.Context())
		asked.Host = s.host // what the browser asked a trusted proxy for
		asked.Method = method
	}
	if guard.protection.Check(asked) == nil {
		return nil
	}
	why := whyForeign(r)
	// Caddy logs a 403 as debug only.
	s.h.sampled.warn("a cross-origin request was refused", zap.Error(why), zap.String("origin", r.Header.Get("Origin")),
		zap.String("method", asked.Method), zap.String("host", s.host), zap.String("path", r.URL.Path))
	return caddyhttp.Error(http.StatusForbidden, why)
}

// wantedMethod is what the check goes by: POST for a handshake of a websocket (a
// CONNECT is unsafe as it is), and what a gateway is asked for that asks here, by a
// GET, whether its visitor is let in. Whoever names another method can only be
// refused for it, so it may be anybody.
func wantedMethod(r *http.Request) string {
	forwarded := r.Header.Get("X-Forwarded-Method")
	switch {
	// nginx's auth_request drops Upgrade, and no page can set a Sec- header.
	case isUpgrade(r), r.Header.Get("Sec-Websocket-Key") != "":
		return http.MethodPost
	case forwarded != "" && isSafe(r.Method):
		return forwarded
	}
	return r.Method
}

// isSafe reports whether requests of a method change nothing (RFC 9110 §9.2.1).
func isSafe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// refuse makes the error page of such a request that of a guest, for whom nothing
// is stored: a session begun there would take the place of the visitor's.
func (s *Session) refuse() { s.presented, s.answered = ticket{}, true }

// whyForeign is what to do about a request that was refused.
func whyForeign(r *http.Request) error {
	hidden, byHost := r.Header.Get("Origin") == "null", r.Header.Get("Sec-Fetch-Site") == ""
	switch {
	case hidden && byHost:
		return errNullOrigin
	case hidden:
		return errHiddenOrigin
	case byHost:
		return errOtherHost
	}
	return errCrossOrigin
}
