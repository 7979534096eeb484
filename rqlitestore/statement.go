package rqlitestore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rqlite/gorqlite"

	"github.com/caddy-session/caddy-session/rqlitestore/internal/idempotent"
	"github.com/caddy-session/caddy-session/rqlitestore/internal/prepared"
)

// statement is SQL with its parameters.
type statement = gorqlite.ParameterizedStatement

// errReply says that a reply has another form than the request asks for: nobody
// knows what was done.
var errReply = errors.New("database answered in an unknown form")

// rowsWanted says what a query that gives one cell may answer.
type rowsWanted bool

const (
	exactlyOne rowsWanted = false
	mayBeNone  rowsWanted = true
)

// query returns the only cell of a query that gives one cell, "" for NULL and
// for none.
func (s *RqliteStore) query(ctx context.Context, w work, want rowsWanted, st statement) (string, error) {
	var cell string
	err := s.withTable(ctx, w, func(ctx context.Context) error {
		results, err := s.conn.QueryParameterizedContext(ctx, []statement{st})
		if err != nil {
			return inShort(err)
		}
		cell, err = oneCell(results, want)
		return err
	})
	return cell, err
}

func oneCell(results []gorqlite.QueryResult, want rowsWanted) (string, error) {
	if len(results) != 1 || len(results[0].Columns()) != 1 {
		return "", errReply
	}
	if results[0].NumRows() == 0 && want == mayBeNone {
		return "", nil
	}
	var c gorqlite.NullString
	if !results[0].Next() || results[0].Scan(&c) != nil {
		return "", errReply
	}
	return c.String, nil
}

// execute runs the statements in one transaction and returns how many rows each
// of them affected.
func (s *RqliteStore) execute(ctx context.Context, w work, sts ...statement) ([]int64, error) {
	var rows []int64
	err := s.withTable(ctx, w, func(ctx context.Context) error {
		results, err := s.conn.WriteParameterizedContext(ctx, sts)
		if err != nil {
			return inShort(err)
		}
		if len(results) != len(sts) {
			return errReply
		}
		rows = make([]int64, len(results))
		for i, r := range results {
			rows[i] = r.RowsAffected
		}
		return nil
	})
	return rows, err
}

// executeRepeatable is execute for statements that may be applied more than
// once, and late.
func (s *RqliteStore) executeRepeatable(ctx context.Context, w work, sts ...statement) ([]int64, error) {
	return s.execute(idempotent.With(ctx), w, sts...)
}

// returning runs one writing statement with a RETURNING clause of one column
// through the Raft log and returns the cells.
func (s *RqliteStore) returning(ctx context.Context, w work, st statement) ([]string, error) {
	var cells []string
	err := s.withTable(ctx, w, func(ctx context.Context) error {
		results, err := s.conn.RequestParameterizedContext(ctx, []statement{st})
		if err != nil {
			return inShort(err)
		}
		if len(results) != 1 || results[0].Query == nil {
			return errReply
		}
		rows := results[0].Query
		cells = make([]string, 0, rows.NumRows())
		for rows.Next() {
			var cell string
			if err := rows.Scan(&cell); err != nil {
				return errReply
			}
			cells = append(cells, cell)
		}
		return nil
	})
	return cells, err
}

// withTable makes a request with the table in place. If somebody dropped the
// table, it is made again, once.
func (s *RqliteStore) withTable(ctx context.Context, w work, request func(context.Context) error) error {
	for again := false; ; again = true {
		if err := s.Prepare(ctx); err != nil {
			return err
		}
		err := s.observed(w, func() error { return request(prepared.With(ctx)) })
		if again || err == nil || !isMissing(err) {
			return inTime(ctx, asUnsent(ctx, asRefused(ctx, err)))
		}
		s.schema.ready.Store(false)
	}
}

// isDefinite reports whether err is an answer of the database itself, whose
// transaction was rolled back, or the refusal of a node: nothing was stored, and to
// ask again is in vain.
func isDefinite(err error) bool {
	var se *gorqlite.StatementError
	return errors.As(err, &se) || isRefused(err)
}

// isMissing reports whether err says that the table is not there, or not in the
// form that it was prepared in.
func isMissing(err error) bool {
	return isDefinite(err) && (strings.Contains(err.Error(), "no such table") || strings.Contains(err.Error(), "no such column") ||
		strings.Contains(err.Error(), "has no column named"))
}

// SQLite result codes (https://www.sqlite.org/rescode.html) that the content of
// one row can cause.
const (
	sqliteTooBig     = 18
	sqliteConstraint = 19
	sqliteMismatch   = 20
	sqliteRange      = 25
)

// isRowError reports whether err may be about one row, so that the others of a
// request deserve another try. A full disk or a missing table is about all.
func isRowError(err error) bool {
	var se *gorqlite.StatementError
	if !errors.As(err, &se) {
		return false
	}
	if se.SQLite != nil {
		switch se.SQLite.Code {
		case sqliteTooBig, sqliteConstraint, sqliteMismatch, sqliteRange:
			return true
		}
	}
	// rqlite before 10.6 sends the text only.
	for _, text := range []string{"constraint failed", "too big", "mismatch", "malformed JSON"} {
		if strings.Contains(se.Message, text) {
			return true
		}
	}
	return false
}

// unknown marks an error after which nobody knows whether a write was applied.
func unknown(err error) error {
	return fmt.Errorf("outcome unknown: %w", err)
}
