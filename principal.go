package caddysession

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-session/caddy-session/codec"
)

// principalOf names the user in encoded values; "" where nobody is signed in,
// or no key is configured that would tell.
func (h *Handler) principalOf(data []byte) (string, error) {
	if h.principalKey == "" {
		return "", nil
	}
	_, values, err := codec.JSON{}.Decode(data)
	if err != nil {
		return "", err
	}
	return h.principalIn(values), nil
}

// principal names the user in the values that scs holds.
func (h *Handler) principal(ctx context.Context) string {
	if h.principalKey == "" {
		return ""
	}
	value := h.manager.Get(ctx, h.principalKey)
	if value == nil && strings.Contains(h.principalKey, ".") {
		return h.principalIn(h.values(ctx, beginnings(h.principalKey)...))
	}
	return nameIn(value)
}

func (h *Handler) principalIn(values map[string]any) string {
	value, _ := lookup(values, h.principalKey)
	return nameIn(value)
}

// nameIn is a value as the name of a principal. Applications write false, 0 or an
// empty array for nobody, too: all whom that names would be one user.
func nameIn(value any) string {
	name := caddy.ToString(placeholderValue(value))
	if _, text := value.(string); !text && slices.Contains([]string{"false", "0", "[]", "{}"}, name) {
		return ""
	}
	return name
}

// renewForPrincipal renews a stored session whose principal this request changed,
// unless the request did so itself. In the grace a login does it too, for it may
// be the second press of the button; nothing else does.
func (s *Session) renewForPrincipal(ctx context.Context) error {
	known := s.knownRow()
	if s.h.principalKey == "" || !known.exists() || s.isClosed() || s.h.manager.Token(ctx) != known.ticket.token && !s.isRotation() {
		return nil
	}
	if principal := s.h.principal(ctx); principal == known.principal || known.inGrace() && principal == "" {
		return nil
	}
	return s.renew()
}

var errNoPrincipal = errors.New("destroy_others needs the option principal of `session`: without it nobody knows whose the others are")

// DestroyOthers ends all other sessions of the principal: of whom this session
// belongs to when the response begins, or, if it is destroyed by then, belonged
// to. Where nobody is signed in it does nothing.
func (s *Session) DestroyOthers() error {
	if s.h.principalKey == "" {
		return errNoPrincipal
	}
	if err := s.beginChange(); err != nil {
		return err
	}
	defer s.changing.Unlock()
	if s.isClosed() {
		return errAfterHeader
	}
	s.mu.Lock()
	s.endingOthers = true
	s.committed = false
	s.mu.Unlock()
	return nil
}

// destroyOthers does what DestroyOthers was asked for. It comes before what the
// request itself stores: when it fails, nothing has happened yet, but that some of
// very many may have ended, and all of it can be tried again.
func (s *Session) destroyOthers(ctx context.Context) error {
	principal := s.h.principal(ctx)
	s.mu.Lock()
	id, known, asked := s.row.rec.ID, s.row.principal, s.endingOthers
	login := s.deleted || principal != "" && principal != known
	powerless := s.row.inGrace() && !login // an older token, and nothing that renews it
	s.endingOthers = false
	s.mu.Unlock()
	if !asked || powerless {
		return nil
	}
	principal = cmp.Or(principal, known)
	if principal == "" {
		return nil
	}
	if err := s.h.backend.destroyPrincipals(ctx, s.h.backend.store, s.h.keys.principalHashes(principal), id); err != nil {
		return storeError{doingEndOthers, err}
	}
	s.mu.Lock()
	s.alone = id
	s.mu.Unlock()
	s.reportOthersDestroyed(id, principal)
	return nil
}

// putAlone keeps in a session that the others of its user were destroyed.
func (s *Session) putAlone(ctx context.Context) {
	s.mu.Lock()
	alone := s.alone != "" && s.alone == s.row.rec.ID
	s.mu.Unlock()
	if alone {
		s.h.manager.Put(ctx, aloneKey, newID())
	}
}

// destroyOthersAgain destroys what began between destroyOthers and the commit, from
// which on no older token begins any more, and the session that another was made
// beside: it was spared as the one at hand. It is finished even where max_calls
// would allow no other call: the commit is done.
func (s *Session) destroyOthersAgain(ctx context.Context) error {
	s.mu.Lock()
	alone, id, principal, late := s.alone, s.row.rec.ID, s.row.principal, s.late
	s.mu.Unlock()
	if alone == "" || principal == "" || late {
		return nil
	}
	if err := s.h.backend.destroyPrincipals(ctx, s.h.backend.store.RqliteStore, s.h.keys.principalHashes(principal), id); err != nil {
		return storeError{doingEndOthers, err}
	}
	if id != alone {
		s.reportOthersDestroyed(id, principal)
	}
	return nil
}

// principalDestroyer is a store, with a bound on its calls or without.
type principalDestroyer interface {
	DestroyPrincipals(ctx context.Context, principals []string, exceptID string) error
}

// destroyPrincipals ends the sessions of principals, but for one where exceptID is
// not "", for this process's own reads at once.
func (b *backend) destroyPrincipals(ctx context.Context, in principalDestroyer, principals []string, exceptID string) error {
	err := in.DestroyPrincipals(ctx, principals, exceptID)
	for _, principal := range principals { // of very many some may be gone where others are not
		b.ended(principalEntry(principal))
	}
	return err
}
