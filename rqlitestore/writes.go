package rqlitestore

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"
)

// minNote is how long a deleted token is remembered at least: longer than a
// request that holds the session may be under way.
const minNote = time.Hour

// A write id is what a save leaves in its row, so that after a lost reply one
// can see whether it was applied. It is a dot, the name of the store that wrote,
// and what tells the writes of that store apart, in base64url: no secret.
//
// A store sends one write of a session at a time, so it only ever asks for its
// last one. Therefore a row keeps one write id of each store, the newest first:
// however often others save a row meanwhile, it can be told whose writes it has.
// Only ids of the 8 stores that wrote last are kept.
const (
	writerLen  = 1 + 5 // 30 bits tell the stores of one row apart
	writeIDLen = writerLen + 6
	keptWrites = 8
	writesLen  = keptWrites * writeIDLen // characters
)

// newWriter returns the first part of a store's write ids.
func newWriter() string { return "." + randomText(writerLen-1) }

func (s *RqliteStore) newWriteID() string { return s.writer + randomText(writeIDLen-writerLen) }

// randomText returns n random characters of base64url, at most 10.
func randomText(n int) string {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], rand.Uint64())
	return base64.RawURLEncoding.EncodeToString(b[:])[:n]
}

// writesSQL is the expression for the write ids of a row with one more in front.
func writesSQL(id, ids string) string {
	ids = "coalesce(" + ids + ",'')"
	older := fmt.Sprintf("instr(%s,substr(%s,1,%d))", ids, id, writerLen)
	return fmt.Sprintf("substr(%[1]s||iif(%[3]s,substr(%[2]s,1,%[3]s-1)||substr(%[2]s,%[3]s+%[4]d),%[2]s),1,%[5]d)",
		id, ids, older, writeIDLen, writesLen)
}

func (s *RqliteStore) sendTouches(ctx context.Context, calls []*call[struct{}]) error {
	_, err := s.executeRepeatable(ctx, work{kindTouch, len(calls)}, statement{Query: s.sql.touch, Arguments: []any{joinRows(calls), julian(s.now())}})
	return err
}

func (s *RqliteStore) sendDestroys(ctx context.Context, calls []*call[struct{}]) error {
	_, err := s.executeRepeatable(ctx, work{kindDestroy, len(calls)}, statement{Query: s.sql.destroy, Arguments: []any{joinRows(calls)}})
	return err
}

func (s *RqliteStore) sendCommits(ctx context.Context, calls []*call[struct{}]) error {
	st := statement{Query: s.sql.commit.one}
	if len(calls) == 1 {
		st.Arguments = splitCommitRow(calls[0].row)
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

func (s *RqliteStore) endOlderTokens(ctx context.Context, id, token string) error {
	args := []any{hexText(id), hexText(token), julian(s.now().Add(Grace))}
	_, err := s.executeRepeatable(ctx, work{kindPresented, 1}, statement{Query: s.sql.endOlder, Arguments: args}, statement{Query: s.sql.endAlias, Arguments: args[:2]})
	return err
}
