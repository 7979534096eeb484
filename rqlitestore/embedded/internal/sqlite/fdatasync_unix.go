//go:build unix

package sqlite

import (
	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// preferFdatasync makes a commit sync with fdatasync(2) where the system has it, as the SQLite of every
// Linux distribution does. The data is just as safe; what is left out is the journal entry for a new mtime.
func preferFdatasync() {
	tls := libc.NewTLS()
	defer tls.Close()
	sqlite3.Xmodernc_fdatasync(tls, 1)
}
