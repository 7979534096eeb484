package caddysession

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Devices is where users see and end their own sessions: those of the principal
// that the session at hand belongs to. A browser gets a page, which works
// without JavaScript; whoever accepts application/json gets JSON.
//
// The enclosing session has to have the option principal. A visitor who is not
// signed in gets a 401.
type Devices struct {
	// The path that it answers on; other requests go on. Default: every
	// request that the route matches.
	Path string `json:"path,omitempty"`
}

const (
	deviceForm    = 64 << 10        // what a request to end a session may send
	deviceShown   = 100             // sessions; a page of thousands is of no use to anybody
	deviceCounted = 10_000          // sessions that are looked at: without a bound there is no page of very many
	deviceTime    = loadTimeout / 3 // that is spent on looking at more than are shown
)

// CaddyModule returns the Caddy module information.
func (*Devices) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.session_devices",
		New: func() caddy.Module { return new(Devices) },
	}
}

// Validate reports a path that no request can have.
func (d *Devices) Validate() error {
	if d.Path != "" && !strings.HasPrefix(d.Path, "/") {
		return errors.New("the path of session_devices begins with /")
	}
	if hasPlaceholder(d.Path) {
		return fmt.Errorf("the path of session_devices is taken as it is, placeholders are not replaced in %s: give it a matcher instead", d.Path)
	}
	return nil
}

var (
	errDevicesNoPrincipal = errors.New("session_devices needs the option principal of `session`: without it nobody knows whose sessions they are")
	errNotSignedIn        = errors.New("nobody is signed in: there are no sessions to show")
	errNotYours           = errors.New("you have no session with this id")
	errNothingToDo        = errors.New("say which session is to end: its id, or others")
)

// ServeHTTP shows or ends sessions of the one who asks.
func (d *Devices) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if d.Path != "" && r.URL.Path != d.Path {
		return next.ServeHTTP(w, r)
	}
	sessions, err := enclosing(r, "this session_devices")
	if err != nil {
		return err
	}
	session := sessions.current
	if session.h.principalKey == "" {
		return mistake(r.Context(), errDevicesNoPrincipal)
	}
	if err := session.Load(); err != nil {
		return session.httpError(err)
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Add("Vary", "Accept")
	principal := session.h.principal(session.scs)
	if principal == "" || session.isUnstored() {
		return caddyhttp.Error(http.StatusUnauthorized, errNotSignedIn)
	}
	page := accepts(r, "text/html")
	visit := deviceVisit{session, principal, page, !page && accepts(r, "application/json"), cmp.Or(sessions.csrfField, csrfField)}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return visit.show(w, http.StatusOK)
	case http.MethodPost, http.MethodDelete:
		return visit.end(w, r)
	}
	w.Header().Set("Allow", "GET, HEAD, POST, DELETE")
	return caddyhttp.Error(http.StatusMethodNotAllowed, errors.New("sessions are shown with GET and ended with POST or DELETE"))
}

// accepts reports whether the client names a type among those that it takes.
func accepts(r *http.Request, kind string) bool {
	return strings.Contains(strings.Join(r.Header["Accept"], ","), kind)
}

// deviceVisit is a request of somebody who is signed in.
type deviceVisit struct {
	*Session
	principal string
	page      bool   // it comes from a browser that shows what is answered
	json      bool   // the answer is to be JSON
	field     string // of forms that carries the token
}

// devicesResult is the JSON of a GET.
type devicesResult struct {
	// The sessions, this one first, then those used or created last; 100 at most.
	Sessions []device `json:"sessions"`

	// How many older ones there are, which are not among them; of thousands, how
	// many at least. They can be ended all the same.
	More int `json:"more"`

	// What a request to end one has to send: in the header X-CSRF-Token or in
	// the field csrf_token, or the one that session_csrf names.
	CSRFToken string `json:"csrf_token"`

	Field   string `json:"-"` // of the page's forms
	Stale   bool   `json:"-"` // the one that was sent is from before a login
	AtLeast bool   `json:"-"` // there may be more than More says
}

// show lists the sessions, with the status of what the request asked for.
func (v deviceVisit) show(w http.ResponseWriter, status int) error {
	devices, all, err := v.devices()
	if err != nil {
		return v.unavailable(w, doingList, err)
	}
	shown := devices[:min(len(devices), deviceShown)]
	result := devicesResult{shown, len(devices) - len(shown), v.CSRFToken(), v.field, status == http.StatusForbidden, !all}
	if v.json {
		return v.answerJSON(w, result)
	}
	return writeDevicesPage(w, status, result)
}

func (v deviceVisit) answerJSON(w http.ResponseWriter, answer any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(answer)
}

// end ends one session, or all but this one.
func (v deviceVisit) end(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, deviceForm)
	err := r.ParseForm()
	if err == nil { // what scripts send as FormData is multipart
		err = r.ParseMultipartForm(deviceForm)
	}
	if err != nil && !errors.Is(err, http.ErrNotMultipart) {
		return caddyhttp.Error(http.StatusBadRequest, err)
	}
	secret := v.csrfSecret() // a token from before a renewal ends nothing
	if !isMadeFrom(secret, r.Header.Get(csrfHeader)) && !isMadeFrom(secret, r.PostForm.Get(v.field)) {
		if v.page { // that may have been open during a login
			return v.show(w, http.StatusForbidden)
		}
		return caddyhttp.Error(http.StatusForbidden, errCSRF)
	}
	which := r.PostForm.Get("end")
	if r.Method == http.MethodDelete {
		which = r.URL.Query().Get("id")
	}
	// A button may be pressed twice, or on a page from before the session ended:
	// the list says what has become of it, where a 404 would say that there is no page.
	if err := v.endWhich(w, which); err != nil && !(v.page && errors.Is(err, errNotYours)) {
		return err
	}
	if v.json {
		return v.answerJSON(w, map[string]string{"ended": which})
	}
	w.Header().Set("Location", sameAddress)
	w.WriteHeader(http.StatusSeeOther)
	return nil
}

func (v deviceVisit) endWhich(w http.ResponseWriter, which string) error {
	end := v.Destroy
	switch which {
	case "":
		return caddyhttp.Error(http.StatusBadRequest, errNothingToDo)
	case v.ID():
	case "others":
		end = v.DestroyOthers
	default:
		return v.endOther(w, which)
	}
	if err := end(); err != nil {
		return v.httpError(err)
	}
	return nil
}

// endOther ends a session of the one who asks that is not the one at hand.
func (v deviceVisit) endOther(w http.ResponseWriter, id string) error {
	ctx, cancel := v.storeContext(commitTimeout)
	defer cancel()
	rec, found, err := v.h.backend.store.Current(ctx, id)
	if err != nil {
		return v.unavailable(w, doingLoad, err)
	}
	if _, kept := v.h.lease.describe(rec); !found || v.h.principalIn(kept) != v.principal {
		return caddyhttp.Error(http.StatusNotFound, errNotYours)
	}
	if err := v.h.backend.destroy(ctx, rec); err != nil {
		return v.unavailable(w, doingEnd, err)
	}
	v.reportDestroyed(id, v.principal)
	return nil
}

func (v deviceVisit) unavailable(w http.ResponseWriter, doing string, err error) error {
	err = storeError{doing, err}
	v.h.backend.report(err)
	w.Header().Set("Retry-After", retryAfterOf(http.StatusServiceUnavailable, err))
	return v.httpError(err)
}

// sameAddress leads back to where the browser sent the request, whatever was
// rewritten since, by a proxy in front as well.
const sameAddress = "?"

func parseDevices(helper httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	d := new(Devices)
	return d, d.UnmarshalCaddyfile(helper.Dispenser)
}

// UnmarshalCaddyfile reads a `session_devices` directive. Syntax:
//
//	session_devices [<matcher>] [<path>]
func (d *Devices) UnmarshalCaddyfile(disp *caddyfile.Dispenser) error {
	disp.Next() // consume directive name
	if disp.NextArg() {
		d.Path = disp.Val()
		if err := d.Validate(); err != nil {
			return disp.WrapErr(err)
		}
	}
	if err := noArgs(disp); err != nil {
		return err
	}
	if disp.NextBlock(0) {
		return noBlock(disp, "session_devices")
	}
	return nil
}

var (
	_ caddy.Validator             = (*Devices)(nil)
	_ caddyfile.Unmarshaler       = (*Devices)(nil)
	_ caddyhttp.MiddlewareHandler = (*Devices)(nil)
)
