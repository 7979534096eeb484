package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"github.com/gofrs/flock"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded/internal/sqlite"
)

// ErrLocked is the error of Open, and of every request to /db/, while another process or another Node has the file open;
// /status, /nodes, /leader and /readyz say it in their answers. The error that wraps it names the file. It heals by itself
// when the other lets go.
// errors.Is finds it in what Open and RoundTrip return. Through gorqlite, so also in what the store returns, its text arrives only.
var ErrLocked = errors.New("session database is in use")

// ErrClosed is the same of a Node that has been closed. Of it too gorqlite passes on the text only.
var ErrClosed = errors.New("session database is closed")

// lockFile takes the lock beside file.
//
// The lock is a file of its own, not a lock on the database, for two reasons. SQLite's locks are POSIX
// record locks, which the system drops as soon as the process closes any descriptor of that file; and
// where locks are mandatory a lock on the database would keep out the tools that may read it at any time,
// such as sqlite3 or a backup. The file stays there when it is unlocked: to remove it would let two
// processes each hold a lock on a file of this name.
func lockFile(file string) (*flock.Flock, error) {
	name := file + ".lock"
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() { // to open a named pipe would wait for ever
		return nil, fmt.Errorf("lock session database %s: %s is no regular file: remove it", file, name)
	}
	lock := flock.New(name, flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return nil, fmt.Errorf("lock session database %s: %w: the directory, and what is there of the file, its .lock, -wal and -shm, "+
			"must be writable by the user of this process", file, err)
	case err != nil:
		return nil, fmt.Errorf("lock session database %s: %w", file, err)
	case !ok && ours(name):
		return nil, fmt.Errorf("open %s: %w by this process: open it once and share that Node or its connection, or give each a file of its own", file, ErrLocked)
	case !ok:
		return nil, fmt.Errorf("open %s: %w by another process: stop that process, give this one a file of its own, or let both share an rqlite cluster", file, ErrLocked)
	}
	held.Store(name, true)
	return lock, nil
}

// held has the names of the locks that this process has.
var held sync.Map

func ours(name string) bool {
	_, ok := held.Load(name)
	return ok
}

func unlock(lock *flock.Flock) error {
	held.Delete(lock.Path())
	return lock.Unlock()
}

// openError says what to do about an error from opening file.
func openError(file string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("open session database %s: %w: file and directory must be writable by the user of this process", file, err)
	case sqlite.CannotOpen(err) && len(file) > sqlite.LongestPath:
		return fmt.Errorf("open session database %s: %w: its path is too long, of %d bytes: name one of %d at most",
			file, err, len(file), sqlite.LongestPath)
	case sqlite.CannotOpen(err), sqlite.ReadOnly(err): // SQLite names the file and means the log, too
		return fmt.Errorf("open session database %s: %w: the file, its -wal and -shm where they are there, and the directory must be writable by the user of this process, "+
			"and the disk must have room for these files, inodes too", file, err)
	case sqlite.CannotShare(err): // by its own words the disk is broken
		return fmt.Errorf("open session database %s: %w: this file system cannot map files into memory, as some of networks and of folders that are "+
			"shared with a container or a virtual machine cannot: name a file on a local disk or volume", file, err)
	case sqlite.NotADatabase(err):
		return fmt.Errorf("open session database %s: %w: move that file away, or name another", file, err)
	case sqlite.Damaged(err): // by a copy that was cut short, or a disk
		return fmt.Errorf("open session database %s: %w: put a backup in its place, or move it away, which ends all sessions", file, err)
	case sqlite.Busy(err):
		return fmt.Errorf("open session database %s: %w: another program has locked it", file, err)
	default:
		return fmt.Errorf("open session database %s: %w", file, err)
	}
}
