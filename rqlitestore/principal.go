package rqlitestore

import (
	"context"
	"errors"
	"fmt"
)

// DestroyPrincipal removes all sessions of a principal, every token of theirs,
// but that with the id exceptID; "" spares none. Sessions that the principal had
// once and somebody else has now stay. It tries again until ctx ends; only then
// it returns an error.
func (s *RqliteStore) DestroyPrincipal(ctx context.Context, principal, exceptID string) error {
	if principal == "" {
		return errors.New("destroy sessions of a principal: it has no name")
	}
	ctx, cancel := withTimeout(ctx, writeTimeout)
	defer cancel()
	st := statement{Query: s.sql.destroyPrincipal, Arguments: []any{hexText(principal), hexText(exceptID)}}
	for try := 0; ; try++ {
		_, err := s.executeRepeatable(ctx, st)
		if err == nil {
			return nil
		}
		if !pause(ctx, try) {
			return fmt.Errorf("destroy sessions of a principal: %w", err)
		}
	}
}
