package embedded

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded/internal/sqlite"
)

// The errors of statements that have not run, in rqlite's words.
var (
	errQueryWrites    = errors.New("attempt to change database via query operation")
	errQueryTimeout   = errors.New("query timeout")
	errExecuteTimeout = errors.New("execute timeout")
)

// runner runs the statements of one request on one connection and writes their results as JSON.
type runner struct {
	params
	conn    *sqlite.Conn
	reading bool // conn is one that only reads
	out     []byte
	// maxResult is the size that out may have.
	maxResult int
	// failed is the error of the first statement that failed.
	failed error
	// broken is an error that leaves no answer but itself: a result that JSON has no form for.
	broken error
}

// reset begins an answer, on this connection.
func (r *runner) reset(conn *sqlite.Conn) {
	r.conn, r.failed, r.broken = conn, nil, nil
	r.out = append(r.out[:0], `{"results":[`...)
}

// query runs a statement and appends its rows, or its error, which it also returns.
func (r *runner) query(s statement) error {
	start := r.begin()
	err := r.each(s, func(stmt *sqlite.Stmt, last bool) error {
		if !last {
			return nil // as in the query of rqlite's driver, those before are compiled and not run
		}
		return r.rows(stmt)
	})
	switch {
	case r.reading && sqlite.ReadOnly(err):
		err = errQueryWrites
	case sqlite.Interrupted(err):
		err = errQueryTimeout
	}
	return r.end(start, err)
}

// execute runs a statement and appends how many rows it changed, or its error, which it also returns.
func (r *runner) execute(s statement) error {
	if returnsRows(s.sql) {
		stmt, rest, err := r.conn.Prepare(s.sql)
		if err == nil && stmt != nil {
			returning := rest == "" && !stmt.ReadOnly() && len(stmt.Columns()) > 0
			stmt.Close()
			if returning {
				return r.query(s)
			}
		}
	}
	start := r.begin()
	ids, changes := int64(0), int64(0)
	err := r.each(s, func(stmt *sqlite.Stmt, _ bool) error {
		if stmt == nil {
			ids, changes = 0, 0
			return nil
		}
		row, err := stmt.Step()
		ids, changes = r.conn.LastInsertID(), r.conn.Changes()
		for row && err == nil { // rows that nobody wants
			row, err = stmt.Step()
		}
		return err
	})
	switch {
	case err == nil:
		r.changes(ids, changes)
	case sqlite.Interrupted(err):
		err = errExecuteTimeout
	}
	return r.end(start, err)
}

// returnsRows tells as rqlite tells whether the rows of RETURNING are wanted: by the word and a space.
// A statement in which a line break follows runs all the same, and reports what it changed.
func returnsRows(sql string) bool {
	const word = "returning "
	for i := 0; i+len(word) <= len(sql); i++ {
		if sql[i]|0x20 == 'r' && strings.EqualFold(sql[i:i+len(word)], word) {
			return true
		}
	}
	return false
}

// each prepares the statements in s one after the other, binds their arguments and calls run, the last time with last.
// A statement that is nothing but a comment is nil.
func (r *runner) each(s statement, run func(stmt *sqlite.Stmt, last bool) error) error {
	args := s.args
	for sql := s.sql; ; {
		stmt, rest, err := r.prepare(sql, &args, len(s.args))
		if err != nil {
			return err
		}
		err = run(stmt, rest == "")
		if stmt != nil {
			stmt.Close()
		}
		if err != nil || rest == "" {
			return err
		}
		sql = rest
	}
}

// prepare compiles the first statement of sql and binds it to the first of args, which it takes off.
func (r *runner) prepare(sql string, args *[]argument, all int) (*sqlite.Stmt, string, error) {
	if err := guard(sql); err != nil {
		return nil, "", err
	}
	stmt, rest, err := r.conn.Prepare(sql)
	if err != nil || stmt == nil {
		return nil, rest, err
	}
	n := stmt.Params()
	if len(*args) < n {
		stmt.Close()
		return nil, "", fmt.Errorf("not enough args to execute query: want %d got %d", n, all)
	}
	if err := bind(stmt, *args, n); err != nil {
		stmt.Close()
		return nil, "", err
	}
	*args = (*args)[n:]
	return stmt, rest, nil
}

// bind binds the first n arguments by position or name, and the named ones among the rest by name.
func bind(stmt *sqlite.Stmt, args []argument, n int) error {
	if slices.ContainsFunc(args, func(a argument) bool { return a.name != "" }) {
		for i := 1; i <= n; i++ { // a parameter that nothing names is NULL, whatever it was the last time
			if err := stmt.BindNull(i); err != nil {
				return err
			}
		}
	}
	for i, a := range args {
		if a.name == "" {
			if i < n {
				if err := a.bind(stmt, i+1); err != nil {
					return err
				}
			}
			continue
		}
		for _, prefix := range [...]string{":", "@", "$"} {
			if index := stmt.ParamIndex(prefix + a.name); index > 0 {
				if err := a.bind(stmt, index); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (a argument) bind(stmt *sqlite.Stmt, i int) error {
	switch a.kind {
	case integer:
		return stmt.BindInt64(i, a.int)
	case real:
		return stmt.BindFloat(i, a.float)
	case text:
		return stmt.BindText(i, a.text)
	case blob:
		return stmt.BindBlob(i, a.text)
	default:
		return stmt.BindNull(i)
	}
}
