package rqlitestore

import (
	"cmp"
	"context"
	"strings"

	"github.com/caddy-session/caddy-session/rqlitestore/internal/idempotent"
)

// outcome is what became of a create, save or renewal.
type outcome struct {
	state state
	// err says why, with stateUnknown and stateNotApplied.
	err error
	// current is the row that is there now, with stateConflict and stateTooMany.
	current Record
}

type state int

const (
	stateDone       state = iota // stored
	stateConflict                // others stored something first
	stateGone                    // the session has no current row
	stateNotApplied              // not stored so far; the same write may be sent again
	stateTooMany                 // cannot be told: too many others saved the row since
	stateUnknown                 // cannot be told: the database does not answer
)

func (s *RqliteStore) sendCreates(ctx context.Context, calls []*call[outcome]) error {
	st := statement{Query: s.sql.create.one}
	if len(calls) == 1 {
		st.Arguments = splitCreateRow(calls[0].row)
	} else {
		starts, rows := joinBlob(calls)
		st = statement{Query: s.sql.create.many, Arguments: []any{starts, rows}}
	}
	// Not repeatable: a late duplicate would bring back a session that was
	// destroyed in between.
	rows, err := s.execute(ctx, work{kindCreate, len(calls)}, st)
	if done(rows, err, len(calls)) {
		return nil
	}
	if err != nil && (isDefinite(err) || isUnsent(err)) {
		return err
	}
	found, readErr := s.resolve(ctx, calls)
	for _, c := range calls {
		mine := strings.Contains(found[c.id].writes, createWriteID.of(c.row))
		switch {
		case readErr == nil && mine:
		case err != nil:
			c.answer.err = unknown(err)
		case readErr != nil:
			c.answer.err = unknown(readErr)
		default:
			c.answer.err = ErrExists
		}
	}
	return nil
}

// sendSaves makes the sender of a lane of saves.
func (s *RqliteStore) sendSaves(sql writing) func(context.Context, []*call[outcome]) error {
	return func(ctx context.Context, calls []*call[outcome]) error {
		ctx = idempotent.With(ctx)
		var st statement
		if now := julian(s.now()); len(calls) == 1 {
			st = statement{Query: sql.one, Arguments: splitSaveRow(calls[0].row, now)}
		} else {
			starts, rows := joinBlob(calls)
			st = statement{Query: sql.many, Arguments: []any{starts, rows, now}}
		}
		rows, err := s.execute(ctx, work{kindSave, len(calls)}, st)
		return s.settle(ctx, calls, rows, err)
	}
}

func (s *RqliteStore) sendRenewals(ctx context.Context, calls []*call[outcome]) error {
	now := s.now()
	bare := joinBare(calls)
	ctx = idempotent.With(ctx)
	rows, err := s.execute(
		ctx, work{kindRenew, len(calls)},
		statement{Query: s.sql.supersede, Arguments: []any{bare, julian(now), julian(now.Add(Grace))}},
		statement{Query: s.sql.follow, Arguments: []any{bare}},
		statement{Query: s.sql.renew, Arguments: []any{joinRows(calls)}},
	)
	if err == nil && rows[0] != rows[2] {
		rows = nil // part of it was applied before
	}
	return s.settle(ctx, calls, rows, err)
}

// done reports whether each of n rows was surely stored.
func done(rows []int64, err error, n int) bool {
	return err == nil && len(rows) > 0 && rows[0] == int64(n)
}

// settle finds out what became of each save or renewal. When all rows were
// stored nothing needs to be asked. When the reply was lost, or fewer rows were
// stored than sent, one read through the Raft log tells.
func (s *RqliteStore) settle(ctx context.Context, calls []*call[outcome], rows []int64, err error) error {
	if done(rows, err, len(calls)) {
		return nil
	}
	if err != nil && (isDefinite(err) || isUnsent(err)) {
		return err
	}
	sure := err == nil && rows != nil && !idempotent.Repeated(ctx)
	found, readErr := s.resolve(ctx, calls)
	stored := int64(0)
	for _, c := range calls {
		if readErr != nil {
			c.answer = outcome{state: stateUnknown, err: unknown(cmp.Or(err, readErr))} // the first says more
			continue
		}
		c.answer = judge(c, found)
		switch c.answer.state {
		case stateNotApplied:
			c.answer.err = err
			if now := found[c.id].Record; sure && !c.again && now.Version < c.version {
				c.answer = outcome{state: stateConflict, current: now} // a backup was restored: the same write never fits
			}
		case stateDone:
			stored++
		}
	}
	if sure && rows[0] == stored {
		// Whoever was stored is known, so the others were not, this time.
		for _, c := range calls {
			if c.answer.state == stateTooMany && !c.again {
				c.answer.state = stateConflict
			}
		}
	}
	return nil
}

// resolved is a current row with the ids of its last writes.
type resolved struct {
	Record
	writes   string
	readable bool
}

// resolve reads the current rows of the calls' sessions through the Raft log.
func (s *RqliteStore) resolve(ctx context.Context, calls []*call[outcome]) (map[string]resolved, error) {
	ids := make([]string, len(calls))
	for i, c := range calls {
		ids[i] = c.id
	}
	cells, err := s.returning(idempotent.With(ctx), work{kindResolve, len(calls)}, statement{Query: s.sql.resolve, Arguments: []any{jsonOfHex(ids), julian(s.now())}})
	if err != nil {
		return nil, err
	}
	found := make(map[string]resolved, len(cells))
	for _, cell := range cells {
		writes, packed, ok := strings.Cut(cell, ":")
		if !ok {
			return nil, errReply
		}
		rec, _, readable, err := parseRecord(packed)
		if err != nil {
			return nil, err
		}
		found[rec.ID] = resolved{Record: rec, writes: writes, readable: readable}
	}
	return found, nil
}

// judge tells from the row that is there now what became of a write that was
// based on c.version.
func judge(c *call[outcome], found map[string]resolved) outcome {
	row, ok := found[c.id]
	if !ok || !row.readable {
		return outcome{state: stateGone}
	}
	since := row.Version - c.version // no fewer than the writes that were applied
	if since <= 0 {
		return outcome{state: stateNotApplied}
	}
	lastOfMine := strings.Index(row.writes, c.writeID[:writerLen])
	switch {
	case lastOfMine >= 0 && strings.HasPrefix(row.writes[lastOfMine:], c.writeID):
		return outcome{state: stateDone}
	case lastOfMine >= 0 || len(row.writes) < writesLen || since <= keptWrites:
		return outcome{state: stateConflict, current: row.Record}
	default: // so many others may have pushed it out
		return outcome{state: stateTooMany, current: row.Record}
	}
}
