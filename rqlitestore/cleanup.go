package rqlitestore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// A statement of a cleanup deletes few enough rows that no other write waits for
// long: as many as the last one says fit into one turn. A busy database is given
// smaller ones, but not too small: what a write costs whatever is in it would
// then make the cleanup endless, and be of no use to anybody.
const (
	cleanupTurn      = 20 * time.Millisecond
	cleanupRows      = 250
	leastCleanupRows = 100
	mostCleanupRows  = 500
)

// longestInterval is how rarely there is a cleanup at most: a fifth more than the
// longest Duration would be a negative one, and a cleanup without end.
const longestInterval = 100 * 365 * 24 * time.Hour

// cleanup is the deleting of expired rows in the background.
type cleanup struct {
	onError func(error)

	mu    sync.Mutex
	stop  context.CancelFunc // nil while there is none
	every time.Duration
}

// StartCleanup deletes expired rows every interval in the background, instead
// of how often that was done before; where it is the same, it goes on as it was.
// With 0 there is no cleanup any more.
func (s *RqliteStore) StartCleanup(interval time.Duration) {
	s.cleanup.mu.Lock()
	defer s.cleanup.mu.Unlock()
	if s.cleanup.stop != nil {
		if s.cleanup.every == interval {
			return // to begin anew each time would put it off for ever
		}
		s.cleanup.stop()
		s.cleanup.stop = nil
	}
	if interval <= 0 {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	s.cleanup.stop, s.cleanup.every = stop, interval
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
		if !sleep(ctx, time.Duration((0.8+0.4*rand.Float64())*float64(min(interval, longestInterval)))) {
			return
		}
		if _, err := s.DeleteExpired(ctx); err != nil && ctx.Err() == nil && s.cleanup.onError != nil {
			s.cleanup.onError(fmt.Errorf("delete expired sessions: %w", err))
		}
	}
}

// DeleteExpired deletes expired sessions and notes of deleted tokens now, in
// small batches with pauses, so that no other write waits for long. It ends with
// ctx.
//
// It returns how many rows of sessions it has removed, also together with an
// error: none that another process removed at the same time, and no notes. A
// renewed session has a row for each token. After a lost reply the rows of that
// batch may be missing in the count.
func (s *RqliteStore) DeleteExpired(ctx context.Context) (removed int64, err error) {
	now := julian(s.now())
	if removed, err = s.clean(ctx, s.sql.expired, now); err == nil {
		_, err = s.clean(ctx, s.sql.expiredNotes, now)
	}
	return removed, err
}

// clean deletes what has expired in one table and says how many rows those were.
func (s *RqliteStore) clean(ctx context.Context, table cleaning, now float64) (removed int64, err error) {
	for limit, last := cleanupRows, ""; ; {
		tokens, err := s.expired(ctx, table, now, limit)
		if err != nil || tokens == "" || tokens == last {
			return removed, err
		}
		n, took, err := s.deleteExpired(ctx, table, now, tokens)
		removed += n
		if err != nil || strings.Count(tokens, ",")+1 < limit {
			return removed, err
		}
		limit, last = nextCleanupRows(limit, took), tokens
		// The others have at least as much of the database's time.
		if !sleep(ctx, min(took, time.Second)) {
			return removed, context.Cause(ctx)
		}
	}
}

// cleaning is the SQL that cleans one table.
type cleaning struct{ find, remove string }

// cleaningSQL makes the statements that clean a table. What to delete is chosen
// by a read, which costs nothing in the Raft log, and deleted by name: in the log
// there is nothing that another node could understand in another way.
func cleaningSQL(table string) cleaning {
	return cleaning{
		find: `SELECT '["'||group_concat(hex(token),'","')||'"]' FROM (SELECT token FROM ` + table + `
WHERE expiry<=?1 AND typeof(token)='text' ORDER BY expiry LIMIT ?2)`,
		remove: `DELETE FROM ` + table + ` WHERE token IN (SELECT {value} FROM json_each(?1) j) AND expiry<=?2`,
	}
}

// expired returns the tokens of some rows that have expired, as JSON; "" if there
// are none.
func (s *RqliteStore) expired(ctx context.Context, table cleaning, now float64, limit int) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return s.query(ctx, work{kindCleanup, 0}, exactlyOne, statement{Query: table.find, Arguments: []any{now, limit}})
}

// deleteExpired deletes the rows with these tokens. It says how many of them were
// still there, and how long it took.
func (s *RqliteStore) deleteExpired(ctx context.Context, table cleaning, now float64, tokens string) (removed int64, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	begin := time.Now()
	rows, err := s.executeRepeatable(ctx, work{kindCleanup, 0}, statement{Query: table.remove, Arguments: []any{tokens, now}})
	if err != nil {
		return 0, 0, err
	}
	return rows[0], time.Since(begin), nil
}

// nextCleanupRows is how many rows take about one turn, if rows took that long.
func nextCleanupRows(rows int, took time.Duration) int {
	fit := int(float64(rows) * float64(cleanupTurn) / float64(max(took, time.Millisecond)))
	// Half the way, because one measurement says little.
	return min(max((rows+fit)/2, leastCleanupRows), mostCleanupRows)
}

// sleep waits for d. It returns false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
