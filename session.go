package caddysession

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// Session is the session of one request. It is loaded when it is first read or
// written, and stored before the response's header goes out. Its methods may be
// called from several goroutines.
//
// What is changed after the header is stored when the handler returns, however
// long it streams, and only the log is told if that fails. What needs the cookie
// is an error then: beginning a session, Renew, Remember, DestroyOthers. Once the
// handlers of the request have returned, every change is an error, and so it is in
// the error route of a request whose session was refused or could not be stored.
//
// Values are what JSON has (map[string]any, []any, string, int, float64, bool,
// nil), and time.Time and []byte. Treat what Get returns as read-only; a changed
// copy is stored with Put.
type Session struct {
	h         *Handler
	request   context.Context // of the request, without our additions
	presented ticket          // what the cookie carries
	secure    bool            // the cookie is a Secure one
	overHTTP  bool            // it is, and a browser came over http, so it drops it
	unproven  bool            // it is not, and a proxy that is not trusted says https
	astray    bool            // the cookie's path is not that of the request
	binding   string          // what the request is, as far as sessions are bound to it
	host      string          // that the client asked for
	audience  string          // that is configured for the request
	cancel    context.CancelFunc

	// Locks are taken in the order in which they stand here, scs's own before mu.

	changing sync.Mutex // held while an edit is made, so that edits have an order, and while they are stored
	serving  bool       // a handler is running it: what changes will be stored; written with changing held

	loading sync.Mutex      // held while the store is asked
	scs     context.Context // carries scs's data once loaded: until then nothing is known of the session

	mu sync.Mutex // guards what follows; never held while scs or the store is called

	// Loading finds a row, or none, or fails.
	found   bool  // the request came with a session
	loadErr error // why it is not known whether there is one
	read    bool  // it was asked for: the response depends on the cookie

	// What is done to it is done to what scs holds, and kept here for a commit.
	row          row    // as read or last written; the zero row where nothing is stored
	edits        []edit // what was done since, in order
	nextID       string // the id that a session not stored yet will have
	deleted      bool   // scs asked to delete the token: a destroy or a renewal
	rotating     string // the token of a renewal that changes nothing else
	ending       bool   // it is to be destroyed
	endingOthers bool   // the other sessions of its principal are to be destroyed

	// A commit stores that, drops it because it came too late, or fails.
	committed    bool      // it was committed, and not changed by its own methods since
	handedOut    bool      // scs's data was: what is done to it is not seen here
	late         bool      // changes were dropped
	storeErr     error     // why they could not be stored
	answered     bool      // that, or that it was refused, is answered by an error route: nothing more is stored
	allowed      bool      // its client may begin it
	lost         string    // a token that nobody has: of an insert whose outcome is not known, or of a row that is no more
	alone        string    // the id of the session whose others were destroyed, by this request
	heldInVain   []byte    // what scs held when its upkeep failed
	touchedUntil time.Time // until when a touch has it go on

	// What the response says of it, until its header is out.
	remembered bool   // it was marked when last committed: the idle time does not count, the cookie outlives the browser
	issue      bool   // the cookie is to be written
	cookie     string // the Set-Cookie of the response
	written    string // the one that is in the response's header
	closed     bool   // the final header is out: nothing is loaded any more
}

// What the handler keeps among the values, beside scs's own __rememberMe.
const (
	reserved    = "__"         // prefix of such keys: they are not the application's
	createdKey  = "__created"  // Unix time
	rotatedKey  = "__rotated"  // Unix time of the last new token
	boundKey    = "__bound"    // what the session is bound to, see bind
	audienceKey = "__audience" // where it is good
	cookieKey   = "__cookie"   // and under which name
	usedKey     = "__used"     // Unix time of the last use that was tracked, see track
	addressKey  = "__address"  // of the client at that time
	agentKey    = "__agent"    // its User-Agent
	aloneKey    = "__alone"    // changes when all others of its principal are destroyed
	beforeKey   = "__before"   // hashes of the tokens that led here before, with keys
	rememberKey = "__rememberMe"
)

// isReserved reports whether a key is the session's own.
func isReserved(key string) bool { return strings.HasPrefix(key, reserved) }

const (
	loadTimeout   = 3 * time.Second
	commitTimeout = 5 * time.Second
)

var (
	errReservedKey = errors.New("keys that begin with " + reserved + " are the session's own")
	errAfterHeader = errors.New("the response's header is out: the session can no longer be changed")
	errAnswered    = errors.New("what this request did to its session was refused or could not be stored: its error page changes nothing")
	errReturned    = errors.New("the handlers of this request have returned: what its session is changed to now would not be stored, so change it before")
)

type sessionKey struct{}

// FromContext returns the session of a request's context, or nil where no
// `session` encloses the handler that asks. Ask before the handler returns: a
// goroutine that outlives it gets nil.
func FromContext(ctx context.Context) *Session {
	s, _ := ctx.Value(sessionKey{}).(*Session)
	return s
}

// Manager returns the scs SessionManager behind the session, for code that is
// written against scs: it works on the request's context as usual. As usual, too,
// what is put into its data after the handler has returned is not stored, and
// nobody is told.
func (s *Session) Manager() *scs.SessionManager { return s.h.manager }

// Get returns the value of a key, or nil.
func (s *Session) Get(key string) any {
	_ = s.Load()
	return s.h.manager.Get(s.scs, key)
}

// Lookup returns the value at a path: a key, or several joined by dots that lead
// into nested objects. A key that itself has dots goes first.
func (s *Session) Lookup(path string) (any, bool) {
	_ = s.Load()
	if isReserved(path) {
		return nil, false
	}
	if value := s.h.manager.Get(s.scs, path); value != nil || !strings.Contains(path, ".") {
		return value, value != nil || s.h.manager.Exists(s.scs, path)
	}
	return lookup(s.values(beginnings(path)...), path)
}

// beginnings are the keys with which a path may begin, itself among them: there may
// be many others.
func beginnings(path string) []string {
	keys := []string{path}
	for i, c := range path {
		if c == '.' {
			keys = append(keys, path[:i])
		}
	}
	return keys
}

func lookup(object map[string]any, path string) (any, bool) {
	if value, ok := object[path]; ok {
		return value, true
	}
	for i, c := range path {
		if c != '.' {
			continue
		}
		if inner := objectIn(object[path[:i]]); inner != nil {
			if value, ok := lookup(inner, path[i+1:]); ok {
				return value, true
			}
		}
	}
	return nil, false
}

// objectIn is a value as an object, nil where it is none.
func objectIn(value any) map[string]any {
	switch object := value.(type) {
	case map[string]any:
		return object
	case map[string]string: // as Go modules may have put it
		values := make(map[string]any, len(object))
		for key, value := range object {
			values[key] = value
		}
		return values
	}
	return nil
}

// Exists reports whether the session has the key.
func (s *Session) Exists(key string) bool {
	_ = s.Load()
	return s.h.manager.Exists(s.scs, key)
}

// Keys returns the application's keys, sorted.
func (s *Session) Keys() []string {
	_ = s.Load()
	return slices.DeleteFunc(s.h.manager.Keys(s.scs), isReserved)
}

// hasKeys reports whether any of the values is the application's.
func hasKeys(values map[string]any) bool {
	for key := range values {
		if !isReserved(key) {
			return true
		}
	}
	return false
}

// values is a copy of what scs holds under these keys, or of all, reserved keys
// included.
func (s *Session) values(keys ...string) map[string]any { return s.h.values(s.scs, keys...) }

func (h *Handler) values(ctx context.Context, keys ...string) map[string]any {
	if len(keys) == 0 {
		keys = h.manager.Keys(ctx)
	}
	values := make(map[string]any, len(keys))
	for _, key := range keys {
		if value := h.manager.Get(ctx, key); value != nil || h.manager.Exists(ctx, key) {
			values[key] = value
		}
	}
	return values
}

// ID returns the public id of a session that is stored or going to be, or "". It is
// random, stays through renewals and gives no access: it may be logged and shown. One
// that is going to be stored may get another id, if an answer of the store is lost.
func (s *Session) ID() string {
	_ = s.Load()
	return s.id()
}

func (s *Session) id() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keepsRow() {
		return s.row.rec.ID
	}
	return s.nextID
}

// IsNew reports whether the request came without a session that is still good.
func (s *Session) IsNew() bool {
	_ = s.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.found
}

// Created returns when the session was first stored; zero for one that is not.
func (s *Session) Created() time.Time {
	_ = s.Load()
	if unix := s.h.manager.GetInt(s.scs, createdKey); unix != 0 {
		return time.Unix(int64(unix), 0).UTC()
	}
	return time.Time{}
}

// Expires returns when the session ends at the latest, however busy it is; zero
// for one that is neither stored nor going to be.
func (s *Session) Expires() time.Time {
	if s.ID() == "" {
		return time.Time{}
	}
	return s.h.manager.Deadline(s.scs)
}

// String returns the public id, so that a session in a log or a placeholder gives nothing away.
func (s *Session) String() string { return s.id() }

func (s *Session) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// logID puts the public id into the request's access log.
func (s *Session) logID(id string) {
	if extra, ok := s.request.Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(zap.String("session_id", id))
	}
}

// newID makes a public id: 128 random bits, less the few ids that a command
// line would take for an option.
func newID() string {
	var raw [16]byte
	for {
		rand.Read(raw[:])
		if id := base64.RawURLEncoding.EncodeToString(raw[:]); id[0] != '-' {
			return id
		}
	}
}

var _ fmt.Stringer = (*Session)(nil)
