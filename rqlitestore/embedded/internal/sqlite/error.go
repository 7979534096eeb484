package sqlite

import (
	"errors"
	"syscall"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

var errNoMemory = errors.New("out of memory")

// Error is an error that SQLite reported.
type Error struct {
	// Code is the extended result code, see https://sqlite.org/rescode.html.
	Code int
	// Message is SQLite's text, such as "no such table: sessions".
	Message string
}

func (e *Error) Error() string { return e.Message }

func (e *Error) primary() int { return e.Code & 0xff }

// Interrupted says whether the statement was ended by Interrupt.
func Interrupted(err error) bool { return is(err, sqlite3.SQLITE_INTERRUPT) }

// ReadOnly says whether the statement would have written on a read-only connection.
func ReadOnly(err error) bool { return is(err, sqlite3.SQLITE_READONLY) }

// LongestPath is how many bytes the path of a file may have, links followed, which is what SQLite takes everywhere but on
// Windows: there it depends. By its error nothing but CannotOpen is the matter with one that is longer.
const LongestPath = 504

// CannotOpen says whether the file, or one of those beside it, could not be opened.
func CannotOpen(err error) bool { return is(err, sqlite3.SQLITE_CANTOPEN) }

// NotADatabase says whether the file holds something else.
func NotADatabase(err error) bool { return is(err, sqlite3.SQLITE_NOTADB) }

// Damaged says whether the file is a database of which parts are not what they must be.
func Damaged(err error) bool { return is(err, sqlite3.SQLITE_CORRUPT) }

// Full says whether there was no room on the disk.
func Full(err error) bool { return is(err, sqlite3.SQLITE_FULL) }

// Busy says whether another process held a lock for longer than the busy timeout.
func Busy(err error) bool { return is(err, sqlite3.SQLITE_BUSY) }

// CannotShare says whether the file system cannot map a file into memory, which the index of the log has to be.
func CannotShare(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == sqlite3.SQLITE_IOERR_SHMMAP
}

func is(err error, code int) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.primary() == code
}

// failure is the error for a call on this connection that answered rc.
func (c *Conn) failure(rc int32) error {
	if c.db == 0 {
		return &Error{Code: int(rc), Message: libc.GoString(sqlite3.Xsqlite3_errstr(c.tls, rc))}
	}
	e := &Error{Code: int(rc), Message: libc.GoString(sqlite3.Xsqlite3_errmsg(c.tls, c.db))}
	if e.primary() == sqlite3.SQLITE_IOERR || e.primary() == sqlite3.SQLITE_CANTOPEN {
		if errno := sqlite3.Xsqlite3_system_errno(c.tls, c.db); errno != 0 {
			e.Message += ": " + syscall.Errno(errno).Error()
		}
	}
	return e
}
