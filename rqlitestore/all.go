package rqlitestore

import (
	"context"
	"errors"
	"fmt"
)

var errUnreadable = errors.New("a row holds data that cannot be read")

// AllCtx is All with a context. It reads page by page, so it is no snapshot:
// sessions that come or go meanwhile may be in it or not.
func (s *RqliteStore) AllCtx(ctx context.Context) (map[string][]byte, error) {
	all := make(map[string][]byte)
	for from := ""; ; {
		recs, more, err := s.page(ctx, from, pageRows)
		if err != nil {
			return nil, fmt.Errorf("list sessions: %w", err)
		}
		for _, rec := range recs {
			if rec.Data == nil {
				return nil, fmt.Errorf("list sessions: %w", errUnreadable)
			}
			all[rec.Token] = rec.Data
			from = behind(rec.Token)
		}
		if !more {
			return all, nil
		}
	}
}
