package rqlitestore

import (
	"context"
	"time"
)

// minNote is how long a deleted token is remembered at least: longer than a
// request that holds the session may be under way.
const minNote = time.Hour

func (s *RqliteStore) sendTouches(ctx context.Context, calls []*call[struct{}]) error {
	_, err := s.executeRepeatable(ctx, work{kindTouch, len(calls)}, statement{Query: s.sql.touch, Arguments: []any{joinRows(calls), julian(s.now())}})
	return err
}

func (s *RqliteStore) sendDestroys(ctx context.Context, calls []*call[struct{}]) error {
	_, err := s.executeRepeatable(ctx, work{kindDestroy, len(calls)}, statement{Query: s.sql.destroy, Arguments: []any{joinRows(calls)}})
	return err
}

func (s *RqliteStore) sendCommits(ctx context.Context, calls []*call[struct{}]) error {
	var st statement
	if len(calls) == 1 {
		st = statement{Query: s.sql.commit.one, Arguments: splitCommitRow(calls[0].row)}
	} else {
		starts, rows := joinBlob(calls)
		st = statement{Query: s.sql.commit.many, Arguments: []any{starts, rows}}
	}
	// Not repeatable: a late upsert would overwrite a newer one.
	_, err := s.execute(ctx, work{kindCommit, len(calls)}, st)
	return err
}

func (s *RqliteStore) sendDeletes(ctx context.Context, calls []*call[struct{}]) error {
	rows := joinRows(calls)
	remove := statement{Query: s.sql.remove, Arguments: []any{rows}}
	if s.reviveDeleted {
		_, err := s.executeRepeatable(ctx, work{kindDelete, len(calls)}, remove)
		return err
	}
	note := statement{Query: s.sql.note, Arguments: []any{rows, julian(s.now().Add(minNote))}}
	_, err := s.executeRepeatable(ctx, work{kindDelete, len(calls)}, note, remove)
	return err
}
