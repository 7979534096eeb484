package caddysession

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// A session is good for the audience for which it was begun, as a token is in
// RFC 7519 §4.1.3. Whoever has a session on one site could otherwise show it to
// another one that keeps its own in the same table: browsers do not do that, but
// nothing else keeps anybody from it. The same holds for the cookies of one site.

func (h *Handler) checkAudience() error {
	if strings.Contains(h.Audience, "{http.session.") {
		return errors.New("audience: a session cannot be its own audience; name the site, or use {http.request.host}")
	}
	return checkLongForm("audience", h.Audience)
}

// audienceOf is the audience that is configured for a request; "" without any.
func (h *Handler) audienceOf(ctx context.Context) string {
	if h.audience == "" {
		return ""
	}
	repl := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	return repl.ReplaceAll(h.audience, "")
}

// askedHost is the host that the client asked for, of this server or of a proxy in
// front of it that it trusts. One that adds to what its client sent, as Apache
// does, adds at the end: what stands before may be anybody's.
func askedHost(r *http.Request) string {
	lines := r.Header.Values("X-Forwarded-Host")
	if len(lines) == 0 || !isFromTrustedProxy(r) {
		return r.Host
	}
	last := lines[len(lines)-1]
	return cmp.Or(strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:]), r.Host)
}

// noHost is the audience of sessions that are begun by clients which name no host,
// as HTTP/1.0 allows: it must not be taken for none, which is good anywhere.
const noHost = "(no host)"

// canonicalHost is a host in lower case, without its port. Two hosts that Caddy, or a
// browser with its cookies, tells apart stay two, like example.com with a dot at the
// end and without: a site that answers to any host could begin sessions of another one
// otherwise. And none begins with a dot, for that is how a cookie's domain is noted.
func canonicalHost(host string) string {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if name == "" || strings.HasPrefix(name, ".") {
		return noHost
	}
	return strings.ToLower(name)
}

// isMeantFor reports whether a session that was begun for an audience, and under a
// cookie's name, is good for this request: where the audience is the one configured, or
// both are where the request came. A session from before audiences were noted is good
// for any, one from before names were is good under any.
func (s *Session) isMeantFor(audience, cookie string) bool {
	if audience == "" || audience == s.audience {
		return true
	}
	if cookie != "" && !s.h.cookie.owns(cookie) {
		return false
	}
	host := canonicalHost(s.host)
	if domain, ok := strings.CutPrefix(audience, "."); ok {
		return isUnder(host, domain)
	}
	return host == audience
}

// isUnder reports whether a host is a domain or one of its subdomains.
func isUnder(host, domain string) bool {
	return host == domain || strings.HasSuffix(host, "."+domain)
}

// isHere is isMeantFor for the session that was loaded.
func (s *Session) isHere(loaded context.Context, id string) bool {
	audience, cookie := s.h.manager.GetString(loaded, audienceKey), s.h.manager.GetString(loaded, cookieKey)
	if s.isMeantFor(audience, cookie) {
		return true
	}
	s.h.backend.metrics.strayed.Inc()
	s.h.sampled.warn("a session that was begun elsewhere is presented: it is none here; sites that are to share sessions need the same audience, and a proxy in front that changes Host belongs to trusted_proxies",
		zap.String("session_id", id), zap.String("audience", audience), zap.String("host", s.host),
		zap.String("begun_as", cookie), zap.String("cookie", s.cookieName()))
	return false
}

// putAudience keeps in a session that is being stored what it is good for. What
// was noted before stays, unless another audience is configured.
func (s *Session) putAudience(ctx context.Context) {
	noted := s.h.manager.GetString(ctx, audienceKey)
	if noted == "" || s.audience != "" && s.audience != noted {
		s.h.manager.Put(ctx, audienceKey, s.ownAudience())
	}
	if s.audience == "" && !s.h.manager.Exists(ctx, cookieKey) {
		s.h.manager.Put(ctx, cookieKey, s.cookieName())
	}
}

func (s *Session) cookieName() string { return s.h.cookie.name(s.secure) }

// ownAudience is the audience of a session that begins with this request: what
// is configured, or where the browser sends its cookie.
func (s *Session) ownAudience() string {
	domain := s.h.cookie.template.Domain
	switch {
	case s.audience != "":
		return s.audience
	case domain != "":
		return "." + canonicalHost(strings.TrimPrefix(domain, "."))
	}
	return canonicalHost(s.host)
}

// checkDomain says in the log that browsers drop the session's cookie, whose
// domain is not that of the site: visitors would never be signed in.
func (s *Session) checkDomain() {
	domain := s.h.cookie.template.Domain
	if domain == "" || isUnder(canonicalHost(s.host), canonicalHost(strings.TrimPrefix(domain, "."))) {
		return
	}
	s.h.sampled.warn("browsers drop the session's cookie: its domain is neither the host that they asked for nor a domain above it; a proxy in front that changes Host belongs to trusted_proxies",
		zap.String("domain", domain), zap.String("host", s.host))
}
