package caddysession

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// retryAfter is what a client is told to wait, in seconds, when the store is down.
const retryAfter = "5"

// statusClientGone is what Caddy's reverse_proxy logs too when nobody is left to answer.
const statusClientGone = 499

// storeError is an error of the store, not of what was to be stored.
type storeError struct {
	doing string // doingLoad or one of its kind
	error
}

func (e storeError) Error() string { return e.doing + " the session: " + e.error.Error() }

func (e storeError) Unwrap() error { return e.error }

// report counts and logs a failure of the store, if err is one. It is for what a
// request has met in the end: a call that failed and is made again is no outage.
func (b *backend) report(err error) {
	failed := storeError{}
	if !errors.As(err, &failed) {
		return
	}
	b.metrics.countFailure(failed.doing, err)
	if failed.doing == doingLoad || failed.doing == doingList {
		b.observeRead(err)
	} else {
		b.observeWrite(err)
	}
}

// fail records why the session could not be loaded: for the handler's answer,
// or, where visitors are anonymous meanwhile, for whoever wants to store something.
// The request is cut short, so that nobody is taken for a guest because the store
// is down: not every reader can return an error, and not every error gets here.
func (s *Session) fail(err error) error {
	err = storeError{doingLoad, err}
	s.h.backend.report(err)
	s.scs = s.empty()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loadErr = err
	if s.h.anonymous {
		return nil
	}
	s.cancel()
	return err
}

func (s *Session) setStoreErr(err error) {
	s.mu.Lock()
	s.storeErr = err
	s.mu.Unlock()
}

// failure is why the request is to be answered with an error; nil while visitors are
// anonymous because the session could not be loaded.
func (s *Session) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loadErr != nil && !s.h.anonymous {
		return s.loadErr
	}
	return s.storeErr
}

func (s *Session) isAnswered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answered
}

// answerFailure makes the error for a request whose session could not be loaded
// or stored, and takes back what the response's header had become. A cookie for what
// was stored before the failure is in it all the same: nobody else has the token.
func (s *Session) answerFailure(header http.Header, entry []headerField, failure error) error {
	s.takeBack()
	clear(header)
	for _, field := range entry {
		header[field.name] = field.values
	}
	if s.hasCookie() {
		s.writeHeader(header)
	}
	answer := s.httpError(failure)
	if seconds := retryAfterOf(answer.StatusCode, failure); seconds != "" {
		header.Set("Retry-After", seconds)
	}
	return answer
}

// takeBack makes the session what it was before what could not be stored: an
// error page must not name the user of a login that was refused. It may ask for
// it, unless it is not known what it was.
func (s *Session) takeBack() {
	s.mu.Lock()
	s.answered, s.storeErr = true, nil
	s.mu.Unlock()
	loaded := s.loaded()
	if loaded == nil {
		return
	}
	s.mu.Lock()
	s.edits, s.nextID = nil, ""
	s.mu.Unlock()
	stored := s.valuesRead(false) // of the values in the grace not all are to be seen
	_ = s.h.manager.Clear(loaded) // asks no store: it cannot fail
	for key, value := range stored {
		s.h.manager.Put(loaded, key, value)
	}
}

// httpError says what an error of the session is to the client: a limit was
// reached, or a store that is down may be back soon; anything else is a mistake of
// whoever changed the session.
func (s *Session) httpError(failure error) caddyhttp.HandlerError {
	switch {
	case s.request.Err() != nil:
		return caddyhttp.Error(statusClientGone, failure)
	case errors.As(failure, &clientLimited{}):
		return caddyhttp.Error(http.StatusTooManyRequests, failure)
	case errors.As(failure, &storeError{}):
		return caddyhttp.Error(http.StatusServiceUnavailable, failure)
	case errors.Is(failure, errTooManySessions):
		return caddyhttp.Error(http.StatusForbidden, failure)
	}
	return mistake(s.request, failure, zap.String("session_id", s.id()))
}

// mistake is the error of a request that is a 500. Why it is one is in the log, also
// where there is a handle_errors: errors with a page Caddy logs only when debugging.
func mistake(ctx context.Context, err error, fields ...zap.Field) caddyhttp.HandlerError {
	server, _ := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if server != nil && server.Errors != nil && len(server.Errors.Routes) > 0 {
		caddy.Log().Named("http.handlers.session").Error("a request is a 500", append(fields, zap.Error(err))...)
	}
	return caddyhttp.Error(http.StatusInternalServerError, err)
}

// retryAfterOf is what a client is told to wait, in seconds, before it tries
// again; "" where that is of no use.
func retryAfterOf(status int, failure error) string {
	limited := clientLimited{}
	switch {
	case errors.As(failure, &limited):
		return strconv.Itoa(max(1, int(math.Ceil(limited.wait.Seconds()))))
	case errors.Is(failure, errBusy):
		return "1"
	case status == http.StatusServiceUnavailable:
		return retryAfter
	}
	return ""
}
