package caddysession

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/net/http/httpguts"
)

// CrossOriginConfig says what happens to requests that a page of another
// origin made the browser send with the session's cookie. Requests that change
// nothing (GET, HEAD, OPTIONS) are let through, websocket handshakes are not,
// over whichever version of HTTP: they carry the session on.
type CrossOriginConfig struct {
	// deny answers such requests with a 403; allow lets them all through.
	// Default: deny.
	Policy string `json:"policy,omitempty"`

	// Origins that are trusted in spite of deny, like https://app.example.com.
	Origins []string `json:"origins,omitempty"`
}

func (c *CrossOriginConfig) check() error {
	if c == nil {
		return nil
	}
	if err := checkChoice("cross_origin", c.Policy, []string{"deny", "allow"}); err != nil {
		return err
	}
	if c.Policy == "allow" && len(c.Origins) > 0 {
		return errors.New("cross_origin allow lets all origins in: to trust some only, write cross_origin deny and their names")
	}
	for _, origin := range c.Origins {
		if err := http.NewCrossOriginProtection().AddTrustedOrigin(origin); err != nil {
			return fmt.Errorf("%q is no origin: write scheme and host, like https://app.example.com", origin)
		}
	}
	return nil
}

// originGuard refuses what other sites make a browser send; nil refuses nothing.
type originGuard struct{ protection *http.CrossOriginProtection }

func newOriginGuard(c *CrossOriginConfig) *originGuard {
	if c == nil {
		c = &CrossOriginConfig{}
	}
	if c.Policy == "allow" {
		return nil
	}
	g := &originGuard{http.NewCrossOriginProtection()}
	for _, origin := range c.Origins {
		_ = g.protection.AddTrustedOrigin(origin) // checked when the config was
	}
	return g
}

var (
	errCrossOrigin = errors.New("a page of another origin sent this request with the visitor's session; if it may, name its origin: `cross_origin deny <origin>`")

	// Over plain http browsers send Origin only, and with this policy not even a site's own.
	errNullOrigin = errors.New("a page of another origin sent this request with the visitor's session, or one of the site's own that does not say so: over http browsers hide it under `Referrer-Policy: no-referrer`; serve the site over https or make that policy same-origin, for `cross_origin deny <origin>` cannot name it")
)

// checkOrigin refuses an unsafe cross-origin request that carries a session.
// It looks at Sec-Fetch-Site, or where a browser sends none, at Origin.
func (s *Session) checkOrigin(r *http.Request) error {
	guard := s.h.origins
	if guard == nil || s.presented.token == "" {
		return nil
	}
	asked := r
	if isUpgrade(r) || s.host != r.Host {
		asked = r.WithContext(r.Context())
		asked.Host = s.host // what the browser asked a trusted proxy for
	}
	if isUpgrade(r) { // a CONNECT is unsafe as it is
		asked.Method = http.MethodPost
	}
	if guard.protection.Check(asked) != nil {
		if r.Header.Get("Origin") == "null" && r.Header.Get("Sec-Fetch-Site") == "" {
			return caddyhttp.Error(http.StatusForbidden, errNullOrigin)
		}
		return caddyhttp.Error(http.StatusForbidden, errCrossOrigin)
	}
	return nil
}

// isUpgrade reports whether the request opens a websocket over HTTP/1.1 (RFC 6455).
func isUpgrade(r *http.Request) bool {
	return httpguts.HeaderValuesContainsToken(r.Header["Connection"], "upgrade") &&
		strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// isWebsocketConnect reports whether the request opens a websocket over HTTP/2
// (RFC 8441) or HTTP/3 (RFC 9220), where it is an extended CONNECT, in the form
// that each server gives it.
func isWebsocketConnect(r *http.Request) bool {
	return r.Method == http.MethodConnect &&
		(r.ProtoMajor == 2 && r.Header.Get(":protocol") == "websocket" || r.ProtoMajor == 3 && r.Proto == "websocket")
}
