package caddysession

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

// PrincipalLimit bounds how many sessions one user may have.
type PrincipalLimit struct {
	// How many.
	Max int `json:"max"`

	// Who gives way at a login beyond that: `oldest` ends the session that
	// began first, `reject` refuses the login with a 403. Of logins that come at
	// the same moment as many are let in as there is room for. Default: oldest.
	Policy string `json:"policy,omitempty"`
}

const rejectLogin = "reject"

var limitPolicies = []string{"oldest", rejectLogin}

func (l *PrincipalLimit) check(principal string) error {
	switch {
	case l == nil:
		return nil
	case l.Max < 1:
		return fmt.Errorf("max_per_principal must be 1 or more, not %d", l.Max)
	case principal == "":
		return errors.New("max_per_principal needs the option principal: without it nobody knows whose a session is")
	}
	return checkChoice("policy of max_per_principal", l.Policy, limitPolicies)
}

var errTooManySessions = errors.New("this user has as many sessions as max_per_principal allows")

// isLogin reports whether this commit gives the session a principal.
func (s *Session) isLogin(ctx context.Context) (principal string, login bool) {
	if s.h.limit == nil {
		return "", false
	}
	principal = s.h.principal(ctx)
	return principal, principal != "" && principal != s.knownRow().principal
}

// isOneMore is isLogin for a session that was made beside another: it is one more
// of its user's, whoever that was before.
func (s *Session) isOneMore() (principal string, login bool) {
	principal = s.knownRow().principal
	return principal, s.h.limit != nil && principal != ""
}

// admit refuses a login beyond the limit, where that is the policy.
func (s *Session) admit(ctx context.Context, principal string) error {
	if s.h.limit.Policy != rejectLogin {
		return nil
	}
	full, err := s.isFull(ctx, principal)
	if err != nil {
		return storeError{doingCount, err}
	}
	if full {
		s.h.backend.metrics.tooManySessions.Inc()
		return errTooManySessions
	}
	return nil
}

// isFull reports whether a principal has as many other sessions as are allowed.
func (s *Session) isFull(ctx context.Context, principal string) (bool, error) {
	n := 0
	err := s.othersOf(ctx, s.h.backend.store, principal, func(others []datedRow) error {
		if n += len(others); n >= s.h.limit.Max {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return true, nil
	}
	return false, err
}

var errEnough = errors.New("no more is to be known")

// makeRoom ends what a login that was stored leaves no room for. It is finished
// even where max_calls would allow no other call: the login is stored already.
//
// The store counts and ends in one step. So of logins that come at the same
// moment as many stay as there is room for, and with `reject` no session that was
// let in ever goes.
func (s *Session) makeRoom(ctx context.Context, principal string) error {
	if s.h.limit.Policy == rejectLogin {
		return s.giveWay(ctx, principal)
	}
	if err := s.destroyOldest(ctx, principal); err != nil {
		s.h.logger.Error("max_per_principal could not be enforced at a login; the next one tries again", zap.Error(err))
	}
	return nil
}

// destroyOldest ends the sessions that began first, as many as there are too many. Of
// a user who has very many, as where the limit is new, it ends them as it finds
// them, so that a login that runs out of time leaves the next one less to do.
func (s *Session) destroyOldest(ctx context.Context, principal string) error {
	var newest []datedRow
	return s.othersOf(ctx, s.h.backend.store.RqliteStore, principal, func(others []datedRow) error {
		newest = append(newest, others...)
		slices.SortFunc(newest, func(a, b datedRow) int {
			return cmp.Or(cmp.Compare(a.created, b.created), cmp.Compare(a.ID, b.ID))
		})
		older := newest[:max(0, len(newest)-s.h.limit.Max+1)]
		if len(older) == 0 {
			return nil
		}
		recs := make([]rqlitestore.Record, len(older))
		for i, o := range older {
			recs[i] = o.Record
		}
		newest = slices.Clone(newest[len(older):])
		_, err := s.destroyBeyond(ctx, principal, recs...)
		return err
	})
}

// giveWay ends this session itself if it is one too many: others came at the
// same moment.
func (s *Session) giveWay(ctx context.Context, principal string) error {
	rec := s.knownRow().rec
	ended, err := s.destroyBeyond(ctx, principal, rec)
	if err != nil || ended > 0 {
		s.dropRow()
	}
	switch {
	case err != nil:
		// Whether there was room is not known, so nobody is let in.
		s.destroyLater(rec)
		return storeError{doingCount, err}
	case ended > 0:
		s.h.backend.metrics.tooManySessions.Inc()
		return errTooManySessions
	}
	return nil
}

// destroyBeyond ends the first of these sessions, as many as the principal has
// beyond the limit, and returns how many those were.
func (s *Session) destroyBeyond(ctx context.Context, principal string, recs ...rqlitestore.Record) (ended int, err error) {
	ids := make([]string, len(recs))
	for i, rec := range recs {
		ids[i] = rec.ID
	}
	destroyed, err := s.h.backend.store.RqliteStore.DestroyBeyond(ctx, s.h.keys.principalHashes(principal), s.h.limit.Max, ids...)
	for _, rec := range recs {
		if slices.Contains(destroyed, rec.ID) {
			s.h.backend.ended(rec.ID)
			s.reportDestroyed(rec.ID, principal)
		}
	}
	return len(destroyed), err
}

// datedRow is a session of a principal.
type datedRow struct {
	rqlitestore.Record
	created int // Unix time; 0 where that cannot be read
}

// othersOf hands on the sessions of a principal but this one, page by page.
func (s *Session) othersOf(ctx context.Context, from lister, principal string, page func([]datedRow) error) error {
	own := s.knownRow().rec.ID
	return pages(ctx, from, s.h.keys.principalHashes(principal), func(recs []rqlitestore.Record) error {
		others := make([]datedRow, 0, len(recs))
		for _, rec := range recs {
			if rec.ID != own {
				_, values, _ := s.h.keys.values(rec) // of one that cannot be read there are none
				created, _ := values[createdKey].(int)
				others = append(others, datedRow{rec, created})
			}
		}
		return page(others)
	})
}
