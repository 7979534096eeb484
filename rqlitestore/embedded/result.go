package embedded

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded/internal/sqlite"
)

// mark is where a result begins in the output, and when.
type mark struct {
	at   int
	time time.Time
}

func (r *runner) begin() mark {
	if n := len(r.out); n > 0 && r.out[n-1] == '}' {
		r.out = append(r.out, ',')
	}
	m := mark{at: len(r.out)}
	if r.timings {
		m.time = time.Now()
	}
	r.out = append(r.out, '{')
	return m
}

// end closes a result. If it is an error, that takes the place of what was written.
func (r *runner) end(m mark, err error) error {
	if errors.Is(err, errNotFinite) {
		r.broken = err
	}
	if err != nil {
		if r.failed == nil {
			r.failed = err
		}
		r.out = append(r.out[:m.at], `{"error":`...)
		r.out = appendString(r.out, err.Error())
	} else if r.timings {
		r.out = append(r.field("time"), seconds(time.Since(m.time))...)
	}
	r.out = append(r.out, '}')
	return err
}

// field begins a member of the object that is being written.
func (r *runner) field(name string) []byte {
	if r.out[len(r.out)-1] != '{' {
		r.out = append(r.out, ',')
	}
	r.out = append(append(append(r.out, '"'), name...), `":`...)
	return r.out
}

func seconds(d time.Duration) string {
	return strconv.FormatFloat(max(d.Seconds(), 1e-9), 'g', -1, 64)
}

// changes appends what a statement that gives no rows did.
func (r *runner) changes(lastInsertID, rowsAffected int64) {
	if lastInsertID != 0 {
		r.out = strconv.AppendInt(r.field("last_insert_id"), lastInsertID, 10)
	}
	if rowsAffected != 0 {
		r.out = strconv.AppendInt(r.field("rows_affected"), rowsAffected, 10)
	}
	if r.associative {
		r.out = append(r.field("rows"), "null"...)
	}
}

// rows runs stmt and appends its columns, types and rows.
func (r *runner) rows(stmt *sqlite.Stmt) error {
	if stmt == nil {
		if r.associative {
			r.out = append(r.field("rows"), "[]"...)
		}
		return nil
	}
	row, err := stmt.Step()
	if err != nil {
		return err
	}
	columns := stmt.Columns()
	types := make([]string, len(columns))
	shown := make([]string, len(columns)) // the types by which the first row is shown: before those of expressions are known
	for i, c := range columns {
		types[i], shown[i] = c.Declared, c.Declared
		if row && c.Declared == "" {
			types[i] = valueType(stmt.Type(i))
		}
	}
	if len(columns) == 0 {
		row = false
	}
	if r.associative {
		return r.objects(stmt, row, columns, types, shown)
	}
	return r.arrays(stmt, row, columns, types, shown)
}

func (r *runner) arrays(stmt *sqlite.Stmt, row bool, columns []sqlite.Column, types, shown []string) error {
	if len(columns) == 0 {
		return nil
	}
	r.out = append(r.field("columns"), '[')
	for i, c := range columns {
		r.out = appendString(r.comma(i), c.Name)
	}
	r.out = append(r.out, ']')
	r.out = append(r.field("types"), '[')
	for i, t := range types {
		r.out = appendString(r.comma(i), t)
	}
	r.out = append(r.out, ']')
	if !row {
		return nil
	}
	r.out = append(r.field("values"), '[')
	var err error
	for n := 0; row; n++ {
		r.out = append(r.comma(n), '[')
		for i := range columns {
			if r.out, err = appendValue(r.comma(i), stmt, i, columns[i].Declared, shown[i], r.blobsAsArrays); err != nil {
				return err
			}
		}
		r.out = append(r.out, ']')
		shown = types
		if row, err = r.next(stmt); err != nil {
			return err
		}
	}
	r.out = append(r.out, ']')
	return nil
}

func (r *runner) objects(stmt *sqlite.Stmt, row bool, columns []sqlite.Column, types, shown []string) error {
	if len(columns) > 0 {
		r.out = append(r.field("types"), '{')
		for i, c := range columns {
			r.out = append(appendString(r.comma(i), c.Name), ':')
			r.out = appendString(r.out, types[i])
		}
		r.out = append(r.out, '}')
	}
	r.out = append(r.field("rows"), '[')
	var err error
	for n := 0; row; n++ {
		r.out = append(r.comma(n), '{')
		for i, c := range columns {
			r.out = append(appendString(r.comma(i), c.Name), ':')
			if r.out, err = appendValue(r.out, stmt, i, c.Declared, shown[i], r.blobsAsArrays); err != nil {
				return err
			}
		}
		r.out = append(r.out, '}')
		shown = types
		if row, err = r.next(stmt); err != nil {
			return err
		}
	}
	r.out = append(r.out, ']')
	return nil
}

// next goes to the next row.
func (r *runner) next(stmt *sqlite.Stmt) (bool, error) {
	if len(r.out) > r.maxResult {
		return false, fmt.Errorf("result is larger than %d bytes", r.maxResult)
	}
	return stmt.Step()
}

// comma separates element i from the one before.
func (r *runner) comma(i int) []byte {
	if i > 0 {
		r.out = append(r.out, ',')
	}
	return r.out
}
