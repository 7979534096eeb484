package caddysession

import (
	"context"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// ServeHTTP makes the session available to next and stores it before the
// response's header goes out. It costs next to nothing while nobody asks for it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	sessions := sessionsOf(r)
	session, outer := sessions.find(h), FromContext(r.Context())
	header, cookies := r.Header, r.Header["Cookie"]
	switch {
	case session == nil && outer != nil && outer.is(h):
		// A request within the request: its response is no response of its own, so
		// the session is the outer one's to store. That of httpInclude is none: it
		// has nothing of the outer one but its headers, and these have no cookie.
		h.join(outer.h)
		sessions.enter(outer)
		return h.upstream.within(sessions, w, r, next)
	case session != nil && session.serving: // enclosed by one like it
		h.join(session.h)
		defer sessions.leave(sessions.enter(session))
		return h.upstream.within(sessions, w, r, next)
	case session != nil: // within an error route, or asked once more
		h.join(session.h)
		session.h.cookie.take(header, session.secure, session.h.keys) // what they say is known
		err := (&visit{session: session}).serve(w, r, next, sessions, h.upstream)
		session.h.cookie.giveBack(r, header, cookies, err)
		return err
	}
	if err := sessions.checkCookie(h, r); err != nil {
		return err
	}
	keepBetween(r.Header)
	frameConnect(r)
	v := new(visit)
	v.session = &v.begun
	h.begin(v.session, r)
	err := v.session.checkOrigin(r)
	sessions.add(v.session)
	if err != nil {
		v.session.refuse()
		h.upstream.stripRequest(r)                // an error route may lead to the application
		sessions.leave(sessions.enter(v.session)) // for the error routes
		return err
	}
	err = v.serve(w, r, next, sessions, h.upstream)
	h.cookie.giveBack(r, header, cookies, err)
	return err
}

// visit is what it takes to have a session around a request, in one piece of
// memory: most requests need no more of it.
type visit struct {
	session *Session
	begun   Session // where the session begins with this visit
	writer  responseWriter
	context requestContext
	entry   [4]headerField
}

// begin takes the session's cookie from the request. It asks the store for nothing.
func (h *Handler) begin(s *Session, r *http.Request) {
	s.h, s.request, s.secure = h, r.Context(), h.cookie.isSecure(r)
	cookie := h.cookie.take(r.Header, s.secure, h.keys)
	h.backend.metrics.countCookie(cookie)
	if cookie.ambiguous {
		h.sampled.warn("a request carries two different session cookies: it is served without a session; whoever changes domain, path or partitioned of a cookie has to change its name as well",
			zap.String("cookie", s.cookieName()))
	}
	if cookie.has[unknownKey] {
		h.sampled.warn("session cookies arrive that were issued under a key which is not configured: they are no sessions here; is a secret missing in keys?",
			zap.String("cookie", s.cookieName()))
	}
	if cookie.has[plain] && cookie.token == "" {
		h.sampled.counted(zap.WarnLevel, "session cookies from before there were keys arrive: they are no sessions here, for plain_until of keys is not set or has passed",
			zap.String("cookie", s.cookieName()))
	}
	s.presented, s.binding = cookie.ticket, h.binding(s.request)
	s.host, s.audience = askedHost(r), h.audienceOf(s.request)
	s.overHTTP = s.secure && isOverHTTP(r, s.host)
	s.unproven = !s.secure && h.cookie.secure != "off" && saysHTTPS(r)
	if s.astray = h.cookie.isAstray(r); s.astray && cookie.token != "" {
		h.mapped.Store(true)
	}
}

// serve runs next within the session.
func (v *visit) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, sessions *sessions, upstream *upstream) (err error) {
	s := v.session
	defer sessions.leave(sessions.enter(s))
	s.h.backend.hold()
	defer s.h.backend.letGo()
	ctx, cancel := context.WithCancel(r.Context()) // of a guest too: what he begins may fail to be stored
	defer cancel()
	s.cancel = cancel

	rw := &v.writer
	rw.ResponseWriter, rw.session = w, s
	defer func() { rw.watch.stop() }()
	entry := takeHeader(w.Header(), v.entry[:0])
	defer func() {
		if !rw.wroteHeader {
			sessions.page = w.Header()
		}
		if rw.failed == nil {
			return
		}
		// reverse_proxy aborts when it can no longer write. Nothing has been
		// written yet, so the client can still be told what happened.
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			panic(p)
		}
		err = s.answerFailure(w.Header(), entry, rw.failed)
		sessions.withdraw(r.Header, s)
		sessions.keepCookies(w.Header(), s)
	}()

	v.context.enter(r, ctx, s)
	defer v.context.leave()
	err = upstream.within(sessions, rw, r, next)
	s.setServing(false) // a goroutine that it has left behind is told so
	if rw.wroteHeader {
		s.commitLate()
		rw.watch.stop()
		if rw.over.Load() { // what was cut short must not look whole, nor its connection be used again
			panic(http.ErrAbortHandler)
		}
		return err
	}
	_ = rw.commit() // kept in rw.failed
	return err
}

// headerField is one field of a header as it was.
type headerField struct {
	name   string
	values []string
}

// takeHeader adds a header to fields; a map for the two or three that there are
// would cost every request more.
func takeHeader(header http.Header, fields []headerField) []headerField {
	for name, values := range header {
		fields = append(fields, headerField{name, values})
	}
	return fields
}

// is reports whether a handler's session is this one: the same cookie in the same store.
func (s *Session) is(h *Handler) bool {
	return s.h.backend == h.backend && s.h.cookie.plain == h.cookie.plain
}
