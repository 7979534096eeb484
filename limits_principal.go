package caddysession

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"go.uber.org/zap"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

// PrincipalLimit bounds how many sessions one user may have.
type PrincipalLimit struct {
	// How many.
	Max int `json:"max"`

	// Who gives way at a login beyond that: `oldest` ends the session that
	// began first, `reject` refuses the login with a 403. Default: oldest.
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

// statusError is an error of a request that is nobody's fault here: the client
// is told with a status of its own.
type statusError struct {
	error
	status int
}

var errTooManySessions = statusError{errors.New("this user has as many sessions as max_per_principal allows"), http.StatusForbidden}

// isLogin reports whether this commit gives the session a principal.
func (s *Session) isLogin(ctx context.Context) (principal string, login bool) {
	if s.h.limit == nil {
		return "", false
	}
	s.mu.Lock()
	before := s.owner
	s.mu.Unlock()
	principal = s.h.principal(ctx)
	return principal, principal != "" && principal != before
}

// admit refuses a login beyond the limit, where that is the policy.
func (s *Session) admit(ctx context.Context, principal string) error {
	if s.h.limit.Policy != rejectLogin {
		return nil
	}
	others, err := s.othersOf(ctx, principal)
	if err != nil {
		return s.storeFailed(doingCount, err)
	}
	if len(others) >= s.h.limit.Max {
		s.h.backend.metrics.tooManySessions.Inc()
		return errTooManySessions
	}
	return nil
}

// makeRoom ends what a login that was stored leaves no room for: with `reject`
// that is this session itself, when several logins came at the same moment.
func (s *Session) makeRoom(ctx context.Context, principal string) error {
	others, err := s.othersOf(ctx, principal)
	if err != nil {
		s.h.logger.Error("max_per_principal could not be enforced at a login; the next one tries again", zap.Error(err))
		return nil
	}
	excess := len(others) + 1 - s.h.limit.Max
	if excess <= 0 {
		return nil
	}
	if s.h.limit.Policy == rejectLogin {
		s.h.backend.metrics.tooManySessions.Inc()
		return errors.Join(errTooManySessions, s.h.backend.destroy(ctx, s.row()))
	}
	slices.SortFunc(others, func(a, b ownedRow) int { return cmp.Compare(a.created, b.created) })
	for _, o := range others[:excess] {
		if err := s.h.backend.destroy(ctx, o.Record); err != nil {
			s.h.logger.Error("max_per_principal could not be enforced at a login; the next one tries again", zap.Error(err))
			return nil
		}
		s.noteDestroyed(o.ID, principal)
	}
	return nil
}

func (s *Session) row() rqlitestore.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec
}

// ownedRow is a session of a principal.
type ownedRow struct {
	rqlitestore.Record
	created int // Unix time; 0 where that cannot be read
}

// othersOf returns the sessions of a principal but this one.
func (s *Session) othersOf(ctx context.Context, principal string) (others []ownedRow, err error) {
	own := s.row().ID
	options := rqlitestore.ListOptions{Principals: s.h.keys.principalHashes(principal), Limit: listPage}
	err = s.h.lease.pages(ctx, options, func(recs []rqlitestore.Record) error {
		for _, rec := range recs {
			if rec.ID != own {
				_, values, _ := s.h.keys.values(rec) // of one that cannot be read there are none
				created, _ := values[createdKey].(int)
				others = append(others, ownedRow{rec, created})
			}
		}
		return nil
	})
	return others, err
}
