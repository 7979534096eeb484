package rqlitestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// DestroyPrincipal is [RqliteStore.DestroyPrincipals] for one principal.
func (s *RqliteStore) DestroyPrincipal(ctx context.Context, principal, exceptID string) error {
	return s.DestroyPrincipals(ctx, []string{principal}, exceptID)
}

// DestroyPrincipals removes all sessions of these principals, every token of
// theirs, but that with the id exceptID; "" spares none. Sessions that a
// principal had once and somebody else has now stay. Of very many it removes some
// at a time, until there is none. It tries again until ctx ends; only then it
// returns an error, and some of very many may be gone.
func (s *RqliteStore) DestroyPrincipals(ctx context.Context, principals []string, exceptID string) error {
	if slices.Contains(principals, "") {
		return errors.New("destroy sessions of a principal: it has no name")
	}
	if len(principals) == 0 {
		return nil
	}
	names, except := jsonOfHex(principals), hexText(exceptID)
	for last, done := "", false; !done; {
		var err error
		if last, done, err = s.destroySome(ctx, names, except, last); err != nil {
			return fmt.Errorf("destroy sessions of a principal: %w", err)
		}
	}
	return nil
}

// someSessions is how many sessions of principals one statement removes. All of
// those that a user of programs may have would hold other writes up for seconds,
// and might not be removed in the time that there is, however often it is tried.
const someSessions = 500

// destroySome removes all sessions of principals, or some where there are very
// many, other ones than the last that it was to remove.
func (s *RqliteStore) destroySome(ctx context.Context, names, except, last string) (ids string, done bool, err error) {
	ctx, cancel := withTimeout(ctx, writeTimeout)
	defer cancel()
	for try := 0; ; try++ {
		if ids, err = s.someOf(ctx, names, except); err == nil {
			remove := statement{Query: s.sql.destroySome, Arguments: []any{ids, names}}
			if done = ids == "" || ids == last; done {
				remove = statement{Query: s.sql.destroyPrincipal, Arguments: []any{names, except}}
			}
			_, err = s.executeRepeatable(ctx, work{kindDestroyPrincipal, 0}, remove)
		}
		if err == nil || !pause(ctx, try) {
			return ids, done, err
		}
	}
}

// someOf returns the ids of some sessions of principals, as JSON; "" where they
// have no more than those. As in a cleanup, a read chooses what is removed by name.
func (s *RqliteStore) someOf(ctx context.Context, names, except string) (string, error) {
	return s.query(ctx, work{kindDestroyPrincipal, 0}, exactlyOne, statement{Query: s.sql.someOf, Arguments: []any{names, except, someSessions}})
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
