package sqlite

import (
	"strings"

	"modernc.org/libc"
	"modernc.org/libc/sys/types"
	sqlite3 "modernc.org/sqlite/lib"
)

// Type is the type of a value.
type Type int32

// The types of SQLite's values.
const (
	Integer Type = sqlite3.SQLITE_INTEGER
	Float   Type = sqlite3.SQLITE_FLOAT
	Text    Type = sqlite3.SQLITE_TEXT
	Blob    Type = sqlite3.SQLITE_BLOB
	Null    Type = sqlite3.SQLITE_NULL
)

// Column is a column of a result.
type Column struct {
	Name string
	// Declared is the type that the table's definition gives it, in lower case; empty for an expression.
	Declared string
}

// Stmt is a prepared statement.
type Stmt struct {
	c      *Conn
	ptr    uintptr
	kept   bool // by the cache: Close resets it
	params int

	readOnly bool
	explain  bool

	// memory holds what text and blobs were copied into for SQLite to read.
	memory []binding

	columns []Column
	// prepared counts how often SQLite compiled the statement anew because the schema changed.
	prepared int32
}

type binding struct {
	index   int32
	address uintptr
}

func newStmt(c *Conn, ptr uintptr) *Stmt {
	return &Stmt{
		c: c, ptr: ptr, prepared: -1,
		params:   int(sqlite3.Xsqlite3_bind_parameter_count(c.tls, ptr)),
		readOnly: sqlite3.Xsqlite3_stmt_readonly(c.tls, ptr) != 0,
		explain:  sqlite3.Xsqlite3_stmt_isexplain(c.tls, ptr) != 0,
	}
}

// Close ends the use of the statement: it is reset and its parameters are forgotten.
func (s *Stmt) Close() {
	sqlite3.Xsqlite3_reset(s.c.tls, s.ptr) // repeats the error of the last step
	s.unbind()
	if !s.kept {
		s.finalize()
	}
}

func (s *Stmt) finalize() {
	if s.ptr != 0 {
		sqlite3.Xsqlite3_finalize(s.c.tls, s.ptr)
		s.ptr = 0
	}
}

// unbind frees the memory of text and blobs. Numbers stay bound, the next use replaces them: clearing
// everything (sqlite3_clear_bindings) can make SQLite compile the statement again.
func (s *Stmt) unbind() {
	for _, b := range s.memory {
		sqlite3.Xsqlite3_bind_null(s.c.tls, s.ptr, b.index)
		libc.Xfree(s.c.tls, b.address)
	}
	s.memory = s.memory[:0]
}

// ReadOnly says that the statement cannot change the database.
func (s *Stmt) ReadOnly() bool { return s.readOnly }

// Explain says that the statement is an EXPLAIN, which runs nothing.
func (s *Stmt) Explain() bool { return s.explain }

// Params is the number of parameters, or rather the highest index.
func (s *Stmt) Params() int { return s.params }

// ParamIndex is the index, from 1, of the parameter of this name (with its prefix, such as ":name"); 0 if there is none.
func (s *Stmt) ParamIndex(name string) int {
	p, err := libc.CString(name)
	if err != nil {
		return 0
	}
	defer libc.Xfree(s.c.tls, p)
	return int(sqlite3.Xsqlite3_bind_parameter_index(s.c.tls, s.ptr, p))
}

// BindInt64 sets the parameter i, counted from 1, to an integer.
func (s *Stmt) BindInt64(i int, v int64) error {
	return s.bound(sqlite3.Xsqlite3_bind_int64(s.c.tls, s.ptr, int32(i), v))
}

// BindFloat sets the parameter i to a floating point number.
func (s *Stmt) BindFloat(i int, v float64) error {
	return s.bound(sqlite3.Xsqlite3_bind_double(s.c.tls, s.ptr, int32(i), v))
}

// BindNull sets the parameter i to NULL.
func (s *Stmt) BindNull(i int) error {
	return s.bound(sqlite3.Xsqlite3_bind_null(s.c.tls, s.ptr, int32(i)))
}

// BindText sets the parameter i to a text, which may contain NUL.
func (s *Stmt) BindText(i int, v string) error {
	p, err := s.copyIn(i, v)
	if err != nil {
		return err
	}
	return s.bound(sqlite3.Xsqlite3_bind_text64(s.c.tls, s.ptr, int32(i), p, uint64(len(v)), 0, sqlite3.SQLITE_UTF8))
}

// BindBlob sets the parameter i to a blob.
func (s *Stmt) BindBlob(i int, v string) error {
	p, err := s.copyIn(i, v)
	if err != nil {
		return err
	}
	return s.bound(sqlite3.Xsqlite3_bind_blob64(s.c.tls, s.ptr, int32(i), p, uint64(len(v)), 0))
}

// copyIn copies v to memory that stays in place until unbind.
func (s *Stmt) copyIn(i int, v string) (uintptr, error) {
	p := libc.Xmalloc(s.c.tls, types.Size_t(len(v)+1)) // of an address that is not 0 even for nothing
	if p == 0 {
		return 0, errNoMemory
	}
	copy(libc.GoBytes(p, len(v)), v)
	s.memory = append(s.memory, binding{index: int32(i), address: p})
	return p, nil
}

func (s *Stmt) bound(rc int32) error {
	if rc != sqlite3.SQLITE_OK {
		return s.c.failure(rc)
	}
	return nil
}

// Step runs the statement up to its next row. It returns false when there is none and the statement is done.
func (s *Stmt) Step() (bool, error) {
	switch rc := sqlite3.Xsqlite3_step(s.c.tls, s.ptr); rc {
	case sqlite3.SQLITE_ROW:
		return true, nil
	case sqlite3.SQLITE_DONE:
		return false, nil
	default:
		return false, s.c.failure(rc)
	}
}

// Columns are the columns of the result. A schema that has changed since the statement was prepared is
// seen by the first Step, so this is to be asked after it.
func (s *Stmt) Columns() []Column {
	prepared := sqlite3.Xsqlite3_stmt_status(s.c.tls, s.ptr, sqlite3.SQLITE_STMTSTATUS_REPREPARE, 0)
	if prepared == s.prepared {
		return s.columns
	}
	s.prepared = prepared
	n := sqlite3.Xsqlite3_column_count(s.c.tls, s.ptr)
	s.columns = make([]Column, n)
	for i := range n {
		s.columns[i] = Column{
			Name:     libc.GoString(sqlite3.Xsqlite3_column_name(s.c.tls, s.ptr, i)),
			Declared: strings.ToLower(libc.GoString(sqlite3.Xsqlite3_column_decltype(s.c.tls, s.ptr, i))),
		}
	}
	return s.columns
}

// Type is the type of the value in column i, counted from 0, of the current row.
func (s *Stmt) Type(i int) Type {
	return Type(sqlite3.Xsqlite3_column_type(s.c.tls, s.ptr, int32(i)))
}

// Int64 is the integer in column i.
func (s *Stmt) Int64(i int) int64 {
	return sqlite3.Xsqlite3_column_int64(s.c.tls, s.ptr, int32(i))
}

// Float is the floating point number in column i.
func (s *Stmt) Float(i int) float64 {
	return sqlite3.Xsqlite3_column_double(s.c.tls, s.ptr, int32(i))
}

// Text is the text in column i. It lies in SQLite's memory and is good until the next Step or Close.
func (s *Stmt) Text(i int) []byte {
	return s.view(sqlite3.Xsqlite3_column_text(s.c.tls, s.ptr, int32(i)), i)
}

// Blob is the blob in column i. It lies in SQLite's memory and is good until the next Step or Close.
func (s *Stmt) Blob(i int) []byte {
	return s.view(sqlite3.Xsqlite3_column_blob(s.c.tls, s.ptr, int32(i)), i)
}

func (s *Stmt) view(p uintptr, i int) []byte {
	n := sqlite3.Xsqlite3_column_bytes(s.c.tls, s.ptr, int32(i))
	if p == 0 || n == 0 {
		return nil
	}
	return libc.GoBytes(p, int(n))
}
