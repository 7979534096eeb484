// Package sqlite is the part of SQLite's C interface that the embedded node needs, over the pure Go
// translation modernc.org/sqlite/lib.
//
// It stands on the library rather than on database/sql for three reasons: rqlite's answers depend on
// what only the C interface tells (whether a statement is read-only, declared types, what is left of
// a script), results go from SQLite's memory into JSON without a copy in between, and no database/sql
// driver name is registered, which two packages of one program could fight over.
//
// A Conn and its statements belong to one goroutine at a time; only Interrupt may be called from others.
package sqlite

import (
	"fmt"
	"strings"
	"sync"
	"time"
	"unsafe"

	"modernc.org/libc"
	"modernc.org/libc/sys/types"
	sqlite3 "modernc.org/sqlite/lib"
)

const pointerSize = unsafe.Sizeof(uintptr(0))

var setup = sync.OnceFunc(func() {
	// What modernc.org/sqlite does when it is initialized: the page size of Linux on arm64.
	sqlite3.PatchIssue199()
	preferFdatasync()
})

// Version is the version of SQLite, such as "3.54.1".
const Version = sqlite3.SQLITE_VERSION

// maxValue is the size that a text, a blob or a row may have, in bytes. SQLite's own limit, a gigabyte, lets one
// expression such as zeroblob(1e9) take the memory of the process.
const maxValue = 64 << 20

// Conn is one connection to a database file.
type Conn struct {
	tls *libc.TLS
	db  uintptr
	// out is room for the two pointers that sqlite3_prepare_v3 gives back.
	out uintptr
	// frames is where the pages in the log are counted, see CountWAL.
	frames uintptr

	cache cache

	// closing guards db against an Interrupt that comes while the connection closes.
	closing sync.Mutex
}

// Open opens the database at path, which is taken literally: no URI, no special names. The file must exist.
// A statement waits up to busy for a lock that another process holds.
func Open(path string, readOnly bool, busy time.Duration) (*Conn, error) {
	setup()
	c := &Conn{tls: libc.NewTLS(), cache: newCache()}
	if c.out = libc.Xmalloc(c.tls, types.Size_t(2*pointerSize)); c.out == 0 {
		return nil, errNoMemory
	}
	name, err := libc.CString(path)
	if err != nil {
		return nil, errNoMemory
	}
	defer libc.Xfree(c.tls, name)

	// No mutex: a Conn is used by one goroutine at a time.
	flags := int32(sqlite3.SQLITE_OPEN_NOMUTEX | sqlite3.SQLITE_OPEN_READWRITE)
	if readOnly {
		flags = sqlite3.SQLITE_OPEN_NOMUTEX | sqlite3.SQLITE_OPEN_READONLY
	}
	rc := sqlite3.Xsqlite3_open_v2(c.tls, name, c.out, flags, 0)
	c.db = c.pointer(0)
	if rc != sqlite3.SQLITE_OK {
		err := c.failure(rc)
		c.Close()
		return nil, err
	}
	sqlite3.Xsqlite3_extended_result_codes(c.tls, c.db, 1)
	sqlite3.Xsqlite3_limit(c.tls, c.db, sqlite3.SQLITE_LIMIT_LENGTH, maxValue)
	sqlite3.Xsqlite3_busy_timeout(c.tls, c.db, int32(busy.Milliseconds()))
	for _, sql := range []string{
		// What it takes to undo a large statement, or to sort, would else go to a file in /tmp, which is not to be written
		// to where the root of a container or of a service is read-only. It is no more than the statement changes or reads.
		"PRAGMA temp_store=MEMORY",
		// On macOS a sync leaves the data in the drive's memory, which a power cut empties, unless it is asked for more.
		"PRAGMA fullfsync=1",
	} {
		if err := c.Exec(sql); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

// Close finalizes every statement and closes the connection. Closing twice is harmless.
func (c *Conn) Close() error {
	c.closing.Lock()
	defer c.closing.Unlock()
	if c.tls == nil {
		return nil
	}
	c.cache.clear()
	var err error
	if rc := sqlite3.Xsqlite3_close_v2(c.tls, c.db); rc != sqlite3.SQLITE_OK {
		err = c.failure(rc)
	}
	libc.Xfree(c.tls, c.out)
	libc.Xfree(c.tls, c.frames)
	c.tls.Close()
	c.db, c.out, c.frames, c.tls = 0, 0, 0, nil
	return err
}

// Interrupt makes the statement that runs at this moment end with an error whose Interrupted is true.
// It has no effect on statements that start later, nor, now and then, on one that is just starting.
func (c *Conn) Interrupt() {
	c.closing.Lock()
	defer c.closing.Unlock()
	if c.tls == nil {
		return
	}
	tls := libc.NewTLS() // c.tls is in use by the goroutine that runs the statement
	defer tls.Close()
	sqlite3.Xsqlite3_interrupt(tls, c.db)
}

// Exec runs one statement that has no parameters and whose rows, if any, are of no interest.
func (c *Conn) Exec(sql string) error {
	s, rest, err := c.Prepare(sql)
	if err != nil {
		return err
	}
	if s == nil || rest != "" {
		return fmt.Errorf("sqlite: not one statement: %s", sql)
	}
	defer s.Close()
	for {
		row, err := s.Step()
		if err != nil {
			return err
		}
		if !row {
			return nil
		}
	}
}

// Int runs one statement that answers with one integer.
func (c *Conn) Int(sql string) (int64, error) {
	s, _, err := c.Prepare(sql)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	row, err := s.Step()
	if err != nil || !row {
		return 0, err
	}
	return s.Int64(0), nil
}

// Prepare compiles the first statement of sql and returns what follows it, without surrounding space.
// The statement is nil where sql starts with nothing but space and comments.
// A statement that is alone in its text is kept and given out again for the same text.
func (c *Conn) Prepare(sql string) (s *Stmt, rest string, err error) {
	if s := c.cache.get(sql); s != nil {
		return s, "", nil
	}
	text, err := libc.CString(sql)
	if err != nil {
		return nil, "", errNoMemory
	}
	defer libc.Xfree(c.tls, text)
	rc := sqlite3.Xsqlite3_prepare_v3(c.tls, c.db, text, -1, sqlite3.SQLITE_PREPARE_PERSISTENT, c.out, c.out+pointerSize)
	if rc != sqlite3.SQLITE_OK {
		return nil, "", c.failure(rc)
	}
	end := c.pointer(1) - text
	rest = strings.TrimSpace(strings.TrimRight(sql[end:], "\x00"))
	if zero := strings.IndexByte(rest, 0); zero >= 0 {
		rest = strings.TrimSpace(rest[:zero]) // to SQLite a text ends there
	}
	ptr := c.pointer(0)
	if ptr == 0 {
		return nil, rest, nil
	}
	s = newStmt(c, ptr)
	if rest == "" {
		c.cache.put(sql, s)
	}
	return s, rest, nil
}

// InTransaction says whether a transaction is open.
func (c *Conn) InTransaction() bool {
	return sqlite3.Xsqlite3_get_autocommit(c.tls, c.db) == 0
}

// Changes is the number of rows that the last INSERT, UPDATE or DELETE that has finished has changed.
func (c *Conn) Changes() int64 { return int64(sqlite3.Xsqlite3_changes64(c.tls, c.db)) }

// LastInsertID is the rowid of the last row that was inserted into a table that has one.
func (c *Conn) LastInsertID() int64 { return int64(sqlite3.Xsqlite3_last_insert_rowid(c.tls, c.db)) }

// pointer reads one of the pointers in out.
func (c *Conn) pointer(i uintptr) uintptr {
	b := libc.GoBytes(c.out+i*pointerSize, int(pointerSize))
	return *(*uintptr)(unsafe.Pointer(unsafe.SliceData(b)))
}
