package rqlitestore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// cleanupRows is how many rows one statement deletes: it never holds the
// cluster up.
const cleanupRows = 1000

// cleanupLoop deletes what has expired, every interval or so: a fifth more or
// less at random, so that the processes that share a table do not all come at
// once.
func (s *RqliteStore) cleanupLoop(ctx context.Context, interval time.Duration, onError func(error)) {
	for {
		t := time.NewTimer(time.Duration((0.8 + 0.4*rand.Float64()) * float64(interval)))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		if err := s.deleteExpired(ctx); err != nil && ctx.Err() == nil && onError != nil {
			onError(fmt.Errorf("delete expired sessions: %w", err))
		}
	}
}

// deleteExpired deletes expired sessions and notes of deleted tokens.
func (s *RqliteStore) deleteExpired(ctx context.Context) error {
	now := julian(s.now())
	for i := range s.sql.deleteExpired {
		for {
			more, err := s.deleteSome(ctx, i, now)
			if err != nil {
				return err
			}
			if !more {
				break
			}
		}
	}
	return nil
}

// deleteSome deletes a bounded number of expired rows of one table. It asks
// first, because a read costs nothing in the Raft log.
func (s *RqliteStore) deleteSome(ctx context.Context, table int, now float64) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	expired, err := s.query(ctx, statement{Query: s.sql.hasExpired[table], Arguments: []any{now}})
	if err != nil || expired != "1" {
		return false, err
	}
	rows, err := s.executeRepeatable(ctx, statement{Query: s.sql.deleteExpired[table], Arguments: []any{now, cleanupRows}})
	if err != nil {
		return false, err
	}
	return rows[0] == cleanupRows, nil
}
