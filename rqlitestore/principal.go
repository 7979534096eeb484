package rqlitestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// destroyedAtOnce is how many sessions of principals one request removes: all of
// those that a user of programs may have would hold other writes up for seconds.
const destroyedAtOnce = 500

// DestroyPrincipals removes all sessions of these principals, every token of
// theirs, but that with the id exceptID; "" spares none. Sessions that a
// principal had once and somebody else has now stay. It tries again until ctx
// ends; only then, or where a node refuses its user or the connection was closed,
// it returns an error. Of principals with thousands of sessions it removes some at
// a time, so after an error some may be gone: call it again.
func (s *RqliteStore) DestroyPrincipals(ctx context.Context, principals []string, exceptID string) error {
	if slices.Contains(principals, "") {
		return errors.New("destroy sessions of a principal: it has no name")
	}
	if len(principals) == 0 {
		return nil
	}
	for {
		removed, err := s.destroySome(ctx, principals, exceptID)
		if err != nil {
			return fmt.Errorf("destroy sessions of a principal: %w", err)
		}
		if removed < destroyedAtOnce { // of each session at least one row
			return nil
		}
	}
}

// destroySome removes as many sessions of principals as one request may, and
// returns how many rows those were.
func (s *RqliteStore) destroySome(ctx context.Context, principals []string, exceptID string) (removed int64, err error) {
	ctx, cancel := withTimeout(ctx, writeTimeout)
	defer cancel()
	st := statement{Query: s.sql.destroyPrincipal, Arguments: []any{jsonOfHex(principals), hexText(exceptID), destroyedAtOnce}}
	err = retry(ctx, isRefused, func() error {
		rows, err := s.executeRepeatable(ctx, work{kindDestroyPrincipal, 0}, st)
		if err == nil {
			removed = rows[0]
		}
		return err
	})
	return removed, err
}

// DestroyBeyond removes what these principals together have beyond max sessions:
// of the sessions with these ids, every token of theirs, as many as that takes,
// in the order of the ids. Sessions of others stay. It returns the ids of those
// that it removed.
//
// To count and to remove is one step, so callers that come at the same time
// remove no more than they have to. It is not tried again, because a request that
// arrived late could remove a session that was spared by the one that was
// answered: after an error nobody knows.
func (s *RqliteStore) DestroyBeyond(ctx context.Context, principals []string, max int, ids ...string) (destroyed []string, err error) {
	ctx, cancel := withTimeout(ctx, writeTimeout)
	defer cancel()
	cells, err := s.returning(ctx, work{kindDestroyPrincipal, 0}, statement{
		Query:     s.sql.destroyBeyond,
		Arguments: []any{jsonOfHex(principals), jsonOfHex(ids), julian(s.now()), max},
	})
	if err != nil {
		return nil, fmt.Errorf("destroy sessions beyond a number: %w", err)
	}
	var p fieldParser
	for _, cell := range cells { // one for each token
		if id := p.hex(cell); !slices.Contains(destroyed, id) {
			destroyed = append(destroyed, id)
		}
	}
	if p.bad {
		return nil, errReply
	}
	return destroyed, nil
}
