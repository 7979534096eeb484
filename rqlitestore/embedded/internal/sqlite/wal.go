package sqlite

import (
	"encoding/binary"
	"unsafe"

	"modernc.org/libc"
	"modernc.org/libc/sys/types"
	sqlite3 "modernc.org/sqlite/lib"
)

// framesSize is the size of what countFrames writes.
const framesSize = 4

// CountWAL, called once, makes the connection count the pages in the write-ahead log, and ends SQLite's own checkpoints on it.
func (c *Conn) CountWAL() error {
	if c.frames = libc.Xcalloc(c.tls, 1, types.Size_t(framesSize)); c.frames == 0 {
		return errNoMemory
	}
	sqlite3.Xsqlite3_wal_hook(c.tls, c.db, hook(countFrames), c.frames)
	return nil
}

// WALPages is how many pages were in the log after the last commit on this connection.
func (c *Conn) WALPages() int {
	return int(binary.NativeEndian.Uint32(libc.GoBytes(c.frames, framesSize)))
}

// countFrames is called by SQLite after a commit, with the address that CountWAL gave it.
func countFrames(_ *libc.TLS, frames, _, _ uintptr, n int32) int32 {
	binary.NativeEndian.PutUint32(libc.GoBytes(frames, framesSize), uint32(n))
	return sqlite3.SQLITE_OK
}

// hook makes a function what the translated C code calls as a function pointer.
func hook(f func(tls *libc.TLS, arg, db, name uintptr, n int32) int32) uintptr {
	p := struct {
		f func(*libc.TLS, uintptr, uintptr, uintptr, int32) int32
	}{f}
	return *(*uintptr)(unsafe.Pointer(&p))
}
