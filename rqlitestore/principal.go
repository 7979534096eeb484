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
// principal had once and somebody else has now stay. It tries again until ctx
// ends; only then it returns an error.
func (s *RqliteStore) DestroyPrincipals(ctx context.Context, principals []string, exceptID string) error {
	if slices.Contains(principals, "") {
		return errors.New("destroy sessions of a principal: it has no name")
	}
	if len(principals) == 0 {
		return nil
	}
	ctx, cancel := withTimeout(ctx, writeTimeout)
	defer cancel()
	st := statement{Query: s.sql.destroyPrincipal, Arguments: []any{jsonOfHex(principals), hexText(exceptID)}}
	for try := 0; ; try++ {
		_, err := s.executeRepeatable(ctx, work{kindDestroyPrincipal, 0}, st)
		if err == nil {
			return nil
		}
		if !pause(ctx, try) {
			return fmt.Errorf("destroy sessions of a principal: %w", err)
		}
	}
}
