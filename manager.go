package caddysession

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/alexedwards/scs/v2"
	"go.uber.org/zap"

	"github.com/caddy-session/caddy-session/codec"
	"github.com/caddy-session/caddy-session/rqlitestore"
)

// newManager makes the scs SessionManager that keeps the values of this
// handler's sessions, and finds out under which key it looks for them in a context.
//
// IdleTimeout stays zero: scs would write on every request. The idle time is
// kept in the row's expiry by the Session, and the cookie is written by the handler.
//
// n is the number of the handler within its config.
func newManager(h *Handler, n int) (*scs.SessionManager, any) {
	m := blankManager(n)
	m.Store = scsStore{h}
	m.Codec = rowCodec{}
	m.Lifetime = h.lifetime
	m.Cookie = scs.SessionCookie{
		Name:        h.cookie.plain,
		Domain:      h.cookie.template.Domain,
		HttpOnly:    h.cookie.template.HttpOnly,
		Path:        h.cookie.template.Path,
		SameSite:    h.cookie.template.SameSite,
		Partitioned: h.cookie.template.Partitioned,
		Persist:     h.persist,
	}
	probe := &keyProbe{Context: context.Background()}
	_, _ = m.Load(probe, "") // an empty token asks no store: it cannot fail
	return m, probe.key
}

// blanks are what managers are copies of. scs.New starts a goroutine that never
// ends, for a store that is not used here. All that is needed of it is a key for
// contexts that no other handler of a request has.
var blanks struct {
	mu       sync.Mutex
	managers []*scs.SessionManager
}

// blankManager returns a manager for the nth handler of a config: configs do not
// share requests, so its key may be that of the nth handler of another one.
func blankManager(n int) *scs.SessionManager {
	blanks.mu.Lock()
	defer blanks.mu.Unlock()
	for len(blanks.managers) <= n {
		blanks.managers = append(blanks.managers, scs.New())
	}
	m := *blanks.managers[n]
	return &m
}

// keyProbe is a context that remembers what it was first asked for.
type keyProbe struct {
	context.Context
	key any
}

func (p *keyProbe) Value(key any) any {
	if p.key == nil {
		p.key = key
	}
	return nil
}

// rowCodec tells rows that cannot be read from a store that cannot be reached.
type rowCodec struct{ codec.JSON }

// brokenRow is a row that is there and cannot be decoded.
type brokenRow struct{ error }

func (c rowCodec) Decode(data []byte) (time.Time, map[string]any, error) {
	deadline, values, err := c.JSON.Decode(data)
	if err != nil {
		return deadline, nil, brokenRow{err}
	}
	return deadline, values, nil
}

// scsStore is the scs.Store under the manager. Within a request it works for the
// Session in the context: it hands over the row that was read, and the Session
// decides how values are written, so that scs's own calls get the same care.
type scsStore struct{ h *Handler }

// foundKey is the context key of a *foundRow: the Session asks with its ticket and
// gets what FindCtx found.
type foundKey struct{}

// foundRow is what a ticket led to.
type foundRow struct {
	row
	given []byte // values to find without asking the store
}

// storedPrefix marks tokens from AllCtx: they are the hashes that the table
// holds. Cookies cannot have this form.
const storedPrefix = "stored:"

// search finds the row of a token of which nobody knows the key.
func (h *Handler) search(ctx context.Context, token string) (found row, ok bool, err error) {
	hashes := h.keys.tokenHashes(token)
	if stored, listed := strings.CutPrefix(token, storedPrefix); listed {
		hashes = []string{stored}
	}
	for _, hash := range hashes {
		if ok, err = h.load(ctx, &found, hash); ok || err != nil {
			return found, ok, err
		}
	}
	return found, false, nil
}

func (s scsStore) FindCtx(ctx context.Context, token string) ([]byte, bool, error) {
	if found, _ := ctx.Value(foundKey{}).(*foundRow); found != nil {
		if found.given != nil {
			return found.given, true, nil
		}
		ok, err := s.h.load(ctx, &found.row, tokenHash(found.ticket.key, token))
		return found.values, ok, err
	}
	found, ok, err := s.h.search(ctx, token)
	return found.values, ok, err
}

func (s scsStore) CommitCtx(ctx context.Context, token string, data []byte, deadline time.Time) error {
	if session := FromContext(ctx); session != nil && session.h == s.h {
		return session.save(ctx, token, data, deadline)
	}
	return s.replace(ctx, token, data, deadline)
}

// replace is a commit outside of any request: the last one wins.
func (s scsStore) replace(ctx context.Context, token string, data []byte, deadline time.Time) error {
	began, keys := time.Now(), s.h.keys
	found, ok, err := s.h.search(ctx, token)
	if err != nil {
		return err
	}
	if !ok {
		rec := rqlitestore.Record{Token: tokenHash(keys.first(), token), ID: newID(), Expiry: s.h.expiry(deadline), Version: 1}
		rec.Data = keys.first().sealRow(rec, data)
		return s.h.backend.store.Create(ctx, rec)
	}
	rec, err := s.h.backend.store.Update(ctx, found.rec, func(current rqlitestore.Record) (rqlitestore.Record, error) {
		next := keys.withValues(current, data)
		next.Expiry = s.h.expiry(deadline)
		return next, nil
	})
	if err == nil {
		s.h.backend.wrote(rec, nil, began)
	}
	return err
}

// DeleteCtx is how scs begins both Destroy and RenewToken. Within a request it
// only takes note: the commit knows which of them was meant.
func (s scsStore) DeleteCtx(ctx context.Context, token string) error {
	if session := FromContext(ctx); session != nil && session.h == s.h && session.takeDelete(token) {
		return nil
	}
	found, ok, err := s.h.search(ctx, token)
	if err != nil || !ok {
		return err
	}
	return s.h.backend.destroy(ctx, found.rec)
}

func (s scsStore) AllCtx(ctx context.Context) (map[string][]byte, error) {
	all := make(map[string][]byte)
	err := pages(ctx, s.h.backend.store, nil, func(recs []rqlitestore.Record) error {
		for _, rec := range recs {
			data, err := s.h.keys.open(rec, rec.Token)
			if err == nil {
				_, _, err = codec.JSON{}.Decode(data) // what scs cannot decode ends its Iterate
			}
			if err != nil {
				s.h.logger.Warn("a session's row is left out of a listing: it cannot be read", zap.String("session_id", rec.ID), zap.Error(err))
				continue
			}
			all[storedPrefix+rec.Token] = data
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

func (s scsStore) Find(token string) ([]byte, bool, error) {
	return s.FindCtx(context.Background(), token)
}

func (s scsStore) Commit(token string, data []byte, deadline time.Time) error {
	return s.CommitCtx(context.Background(), token, data, deadline)
}

func (s scsStore) Delete(token string) error {
	return s.DeleteCtx(context.Background(), token)
}

var (
	_ scs.CtxStore         = scsStore{}
	_ scs.IterableCtxStore = scsStore{}
	_ scs.Codec            = rowCodec{}
)
