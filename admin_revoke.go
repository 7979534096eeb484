package caddysession

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

// RevokeResult says how many sessions were ended.
type RevokeResult struct {
	// The name of the store.
	Store string `json:"store"`

	// How many sessions were ended.
	Revoked int `json:"revoked"`
}

func adminRevoke(w http.ResponseWriter, r *http.Request, s namedStore) error {
	id := r.PathValue("id")
	rec, found, err := s.backend.revoke(r.Context(), id)
	if err != nil {
		return s.unavailable(err)
	}
	if !found {
		return errNoSession
	}
	status, _ := s.describe(rec)
	s.backend.tell(event{name: sessionDestroyed, id: id, principal: status.Principal})
	return writeJSON(w, RevokeResult{s.name, 1})
}

func adminRevokeMany(w http.ResponseWriter, r *http.Request, s namedStore) error {
	all, err := flag(r, "all")
	if err != nil {
		return err
	}
	name := r.URL.Query().Get("principal")
	var revoked int
	switch {
	case all && name != "", !all && name == "":
		return apiError(http.StatusBadRequest, "say whose sessions are to end: principal=<name>, or all=1 for those of everybody")
	case all:
		revoked, err = s.revokeAll(r.Context())
	default:
		revoked, err = s.revokePrincipal(r.Context(), name)
	}
	if err != nil {
		return s.unavailable(err)
	}
	if revoked == 0 && !all && s.unnamed() {
		return errNoPrincipals
	}
	s.backend.tell(event{name: sessionDestroyed, principal: name})
	return writeJSON(w, RevokeResult{s.name, revoked})
}

// revoke ends the session with an id, and returns its row if there was one.
func (b *backend) revoke(ctx context.Context, id string) (rec rqlitestore.Record, found bool, err error) {
	rec, found, err = b.store.RqliteStore.Current(ctx, id)
	if err == nil {
		err = b.store.RqliteStore.Destroy(ctx, id)
	}
	b.ended(id)
	return rec, found, err
}

// revokePrincipal ends all sessions of a principal. Those that are renewed
// meanwhile carry the name, so the ones that do not go first.
func (l *lease) revokePrincipal(ctx context.Context, name string) (revoked int, err error) {
	hashes := l.keys.principalHashes(name)
	if revoked, err = l.revokeUnmarked(ctx, name, hashes); err != nil {
		return revoked, err
	}
	err = pages(ctx, l.backend.store.RqliteStore, hashes, func(recs []rqlitestore.Record) error {
		revoked += len(recs)
		return nil
	})
	if err != nil {
		return revoked, err
	}
	return revoked, l.backend.destroyPrincipals(ctx, l.backend.store.RqliteStore, hashes, "")
}

// revokeUnmarked ends the sessions that are a principal's by their values alone:
// they were stored before the option principal was set or changed, or by a handler
// without it. Those that are marked with one of the hashes are left.
func (l *lease) revokeUnmarked(ctx context.Context, name string, hashes []string) (revoked int, err error) {
	return l.revokeWhere(ctx, func(rec rqlitestore.Record) bool {
		if slices.Contains(hashes, rec.Principal) {
			return false
		}
		status, _ := l.describe(rec)
		return status.Principal == name
	})
}

// revokeWhere looks at every session and ends those that are meant.
func (l *lease) revokeWhere(ctx context.Context, meant func(rqlitestore.Record) bool) (revoked int, err error) {
	err = pages(ctx, l.backend.store.RqliteStore, nil, func(recs []rqlitestore.Record) error {
		ids := make([]string, 0, len(recs))
		for _, rec := range recs {
			if rec.ID != "" && meant(rec) {
				ids = append(ids, rec.ID)
			}
		}
		if len(ids) == 0 {
			return nil
		}
		defer l.backend.endedAll()
		if err := l.backend.store.RqliteStore.Destroy(ctx, ids...); err != nil {
			return err
		}
		revoked += len(ids)
		return nil
	})
	return revoked, err
}

// revokeAll ends every session that there is when it is called. A session that
// is renewed meanwhile moves to another place in the table and may be missed,
// so it looks until it has found no old one twice.
func (l *lease) revokeAll(ctx context.Context) (revoked int, err error) {
	begun := time.Now()
	old := func(rec rqlitestore.Record) bool {
		status, _ := l.describe(rec)
		return status.Created == nil || !status.Created.After(begun)
	}
	for clean := 0; clean < 2; {
		n, err := l.revokeWhere(ctx, old)
		if revoked += n; err != nil {
			return revoked, err
		}
		if clean++; n > 0 {
			clean = 0
		}
	}
	return revoked, nil
}

// PurgeResult says how many rows of expired sessions were removed.
type PurgeResult struct {
	// The name of the store.
	Store string `json:"store"`

	// How many rows of expired sessions were removed; a session that was
	// renewed has one for each token. What another Caddy on the store removes
	// at the same time is not counted.
	Purged int64 `json:"purged"`
}

func adminPurge(w http.ResponseWriter, r *http.Request, s namedStore) error {
	removed, err := s.backend.store.DeleteExpired(r.Context())
	if err != nil {
		return s.unavailable(err)
	}
	return writeJSON(w, PurgeResult{s.name, removed})
}
