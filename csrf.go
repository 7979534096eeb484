package caddysession

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// CSRF asks requests that change something for the session's token,
// {http.session.csrf_token}: in the header X-CSRF-Token or in a field of the
// form (the synchronizer token of OWASP's CSRF cheat sheet). It is for sites
// that want more than `cross_origin deny`, which holds for every session.
//
// Requests without a session have nothing to lose and go on, and so do handshakes
// of websockets, to which a page cannot add a token: `cross_origin` is what
// keeps other sites from these.
type CSRF struct {
	// The field of forms that carries the token. It is looked for in the first
	// MiB of the body, so it stands before the files. Default: csrf_token.
	Field string `json:"field,omitempty"`
}

const (
	csrfKey       = "__csrf"     // the secret behind a session's tokens
	csrfField     = "csrf_token" // unless the site names another
	csrfHeader    = "X-Csrf-Token"
	csrfFormBytes = 1 << 20 // of a body that are looked at for the field
)

// CaddyModule returns the Caddy module information.
func (*CSRF) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.session_csrf",
		New: func() caddy.Module { return new(CSRF) },
	}
}

// CSRFToken returns a token for the forms of this session, "" where there is none
// and none is going to be stored. It is another one each time, so that compressed
// pages do not give it away (BREACH), and stays good until the session is renewed.
func (s *Session) CSRFToken() string {
	s.settleSecret()
	secret := s.csrfSecret()
	if secret == "" {
		return ""
	}
	masked := make([]byte, 2*len(secret))
	pad, body := masked[:len(secret)], masked[len(secret):]
	rand.Read(pad)
	subtle.XORBytes(body, pad, []byte(secret))
	return base64.RawURLEncoding.EncodeToString(masked)
}

// VerifyCSRF reports whether a token was made for this session. One from before a
// renewal is good for as long as the session's older token is: the second press of a
// login's button sends both.
func (s *Session) VerifyCSRF(token string) bool {
	return isMadeFrom(s.csrfSecret(), token) || isMadeFrom(s.secretBefore(), token)
}

func isMadeFrom(secret, token string) bool {
	masked, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || secret == "" || len(masked) != 2*len(secret) {
		return false
	}
	half := len(secret)
	subtle.XORBytes(masked[half:], masked[half:], masked[:half])
	return subtle.ConstantTimeCompare(masked[half:], []byte(secret)) == 1
}

// settleSecret gives a session that is going to be stored, or renewed for another
// user, the secret that it will have then, for the page that is being made.
func (s *Session) settleSecret() {
	if s.beginChange() != nil {
		return // nothing more is stored
	}
	defer s.changing.Unlock()
	_ = s.renewForPrincipal(s.scs) // asks no store: it cannot fail
	s.mu.Lock()
	begins := !s.keepsRow() && !s.closed
	s.mu.Unlock()
	if m := s.h.manager; begins && len(s.Keys()) > 0 && !m.Exists(s.scs, csrfKey) {
		m.Put(s.scs, csrfKey, newID())
		s.markChanged()
	}
}

// secretBefore is that of a session which another request has renewed meanwhile.
func (s *Session) secretBefore() string {
	secret, _ := s.valuesRead(true)[csrfKey].(string)
	return secret
}

func (s *Session) csrfSecret() string {
	_ = s.Load()
	return s.h.manager.GetString(s.scs, csrfKey)
}

var errCSRF = errors.New("the request carries no token of this session: send {http.session.csrf_token} in the header X-CSRF-Token or in the form")

// Validate reports a field that no form has.
func (c *CSRF) Validate() error {
	if hasPlaceholder(c.Field) {
		return fmt.Errorf("session_csrf takes the name of a field, in which placeholders are not replaced, not %s", c.Field)
	}
	return nil
}

// ServeHTTP refuses what would change something without a token.
func (c *CSRF) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if all, ok := caddyhttp.GetVar(r.Context(), sessionsVar).(*sessions); ok {
		all.csrfField = c.field()
	}
	if isSafe(r.Method) || isWebsocketConnect(r) {
		return next.ServeHTTP(w, r)
	}
	sessions, err := enclosing(r, "this session_csrf")
	if err != nil {
		return err
	}
	session := sessions.current
	if err := session.Load(); err != nil {
		return session.httpError(err)
	}
	if session.isUnstored() {
		return next.ServeHTTP(w, r)
	}
	inHeader := r.Header.Get(csrfHeader)
	if session.VerifyCSRF(inHeader) {
		return next.ServeHTTP(w, r)
	}
	// The header may be the application's own: Rails' Turbo sends it with every form.
	inForm, err := c.fromForm(r)
	if err != nil {
		return caddyhttp.Error(http.StatusBadRequest, err)
	}
	if !session.VerifyCSRF(inForm) {
		// Caddy logs a 403 as debug only.
		session.h.sampled.warn("a request was refused for want of a token", zap.Error(errCSRF), zap.String("field", c.field()),
			zap.Bool("has_another", inHeader != "" || inForm != ""), zap.String("method", r.Method), zap.String("path", r.URL.Path))
		return caddyhttp.Error(http.StatusForbidden, errCSRF)
	}
	return next.ServeHTTP(w, r)
}

func (c *CSRF) field() string { return cmp.Or(c.Field, csrfField) }

// fromForm finds the field in the first megabyte of a form, and leaves the body
// for whoever is asked next.
func (c *CSRF) fromForm(r *http.Request) (string, error) {
	field := c.field()
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || r.Body == nil {
		return "", nil //nolint:nilerr // not a form: it has no field
	}
	var seen bytes.Buffer
	body := r.Body
	head := io.TeeReader(io.LimitReader(body, csrfFormBytes), &seen)
	defer func() {
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(&seen, body), body}
	}()
	switch kind {
	case "application/x-www-form-urlencoded":
		form, err := io.ReadAll(head)
		if err != nil {
			return "", err
		}
		values, err := url.ParseQuery(whole(form))
		if err != nil {
			return "", nil //nolint:nilerr // no form after all
		}
		return values.Get(field), nil
	case "multipart/form-data":
		return fromMultipart(multipart.NewReader(head, params["boundary"]), field)
	}
	return "", nil
}

// whole leaves out the end of a form of which no more was read: it may be cut
// within an escaped character.
func whole(form []byte) string {
	if end := bytes.LastIndexByte(form, '%'); len(form) == csrfFormBytes && end >= len(form)-2 {
		form = form[:end]
	}
	return string(form)
}

// fromMultipart reads parts up to the field, which stands before the files.
func fromMultipart(form *multipart.Reader, field string) (string, error) {
	for {
		part, err := form.NextPart()
		if err != nil {
			return "", nil //nolint:nilerr // the end, or no form after all
		}
		if part.FormName() == field {
			value, err := io.ReadAll(io.LimitReader(part, 256))
			return string(value), err
		}
	}
}

func parseCSRF(helper httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	c := new(CSRF)
	return c, c.UnmarshalCaddyfile(helper.Dispenser)
}

// UnmarshalCaddyfile reads a `session_csrf` directive. Syntax:
//
//	session_csrf [<matcher>] [<field>]
func (c *CSRF) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume directive name
	if d.NextArg() {
		c.Field = d.Val()
	}
	if err := noArgs(d); err != nil {
		return err
	}
	if d.NextBlock(0) {
		return noBlock(d, "session_csrf")
	}
	return here(d, c.Validate())
}

var (
	_ caddy.Validator             = (*CSRF)(nil)
	_ caddyhttp.MiddlewareHandler = (*CSRF)(nil)
	_ caddyfile.Unmarshaler       = (*CSRF)(nil)
)
