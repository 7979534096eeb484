package rqlitestore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// cleanupRows is how many rows one statement deletes, and those that expire in
// the same millisecond as the last of them: it never holds the cluster up.
const cleanupRows = 1000

// cleanup is the deleting of expired rows in the background.
type cleanup struct {
	onError func(error)

	mu   sync.Mutex
	stop context.CancelFunc // nil while there is none
}

// StartCleanup deletes expired rows every interval in the background, instead
// of how often that was done before. With 0 there is no cleanup any more.
func (s *RqliteStore) StartCleanup(interval time.Duration) {
	s.cleanup.mu.Lock()
	defer s.cleanup.mu.Unlock()
	if s.cleanup.stop != nil {
		s.cleanup.stop()
		s.cleanup.stop = nil
	}
	if interval <= 0 {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	s.cleanup.stop = stop
	go s.cleanupLoop(ctx, interval)
}

// StopCleanup ends the cleanup in the background. It may be called more than
// once and on a store without cleanup. The store stays usable.
func (s *RqliteStore) StopCleanup() { s.StartCleanup(0) }

// cleanupLoop deletes what has expired, every interval or so: a fifth more or
// less at random, so that the processes that share a table do not all come at
// once.
func (s *RqliteStore) cleanupLoop(ctx context.Context, interval time.Duration) {
	for {
		t := time.NewTimer(time.Duration((0.8 + 0.4*rand.Float64()) * float64(interval)))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		if err := s.DeleteExpired(ctx); err != nil && ctx.Err() == nil && s.cleanup.onError != nil {
			s.cleanup.onError(fmt.Errorf("delete expired sessions: %w", err))
		}
	}
}

// DeleteExpired deletes expired sessions and notes of deleted tokens now, in
// batches of 1,000, so that no other write waits for long. It ends with ctx.
func (s *RqliteStore) DeleteExpired(ctx context.Context) error {
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
	expired, err := s.query(ctx, work{kindCleanup, 0}, exactlyOne, statement{Query: s.sql.hasExpired[table], Arguments: []any{now}})
	if err != nil || expired != "1" {
		return false, err
	}
	rows, err := s.executeRepeatable(ctx, work{kindCleanup, 0}, statement{Query: s.sql.deleteExpired[table], Arguments: []any{now, cleanupRows}})
	if err != nil {
		return false, err
	}
	return rows[0] >= cleanupRows, nil
}
