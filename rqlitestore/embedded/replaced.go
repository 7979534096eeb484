package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded/internal/sqlite"
)

// A file that is removed, or replaced by a backup, while it is open goes on without a name: what is written to it is
// gone with the process. So whoever wrote looks, before the write is acknowledged, whether the file is still the one of
// its name; who only reads is late by lookInterval at most.

// errReplaced is the error of a write to a file that has lost its name.
var errReplaced = errors.New("session database was removed or replaced while it was in use")

// lookInterval is how often reads look for the file.
const lookInterval = time.Second

// epoch is what looks are counted from: by the wall clock there would be none for as long as it was set back.
var epoch = time.Now()

// identity is the file that a database has open.
type identity struct {
	// file is open for no more than to be compared with what has its name: the number of a file on its disk may change
	// on some file systems while nobody has it open.
	file *os.File
	// unknown says that files cannot be told from each other here.
	unknown bool
	looked  atomic.Int64 // when, in nanoseconds since epoch
}

// isReplaced reports whether what lies under the name of the file is not the file that is open. Where that cannot be
// told it is not.
func (db *database) isReplaced() bool {
	if db.identity.unknown {
		return false
	}
	db.identity.looked.Store(int64(time.Since(epoch)))
	has, err := os.Stat(db.file)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	is, err := db.identity.file.Stat()
	return err == nil && !os.SameFile(is, has)
}

// closeIdentity comes when no connection is open any more: it would drop their locks on the file.
func (db *database) closeIdentity() error {
	if db.identity.file == nil {
		return nil
	}
	return db.identity.file.Close()
}

// looksReplaced is isReplaced for those who read: they look once in lookInterval, and in between it is false.
func (db *database) looksReplaced() bool {
	return int64(time.Since(epoch))-db.identity.looked.Load() > int64(lookInterval) && db.isReplaced()
}

// reopen closes db, whose file has lost its name, so that the next request opens what lies there now, as a new process
// would. It returns an error if that must not be, as db's log beside the file would be taken for the log of the new one.
func (n *Node) reopen(ctx context.Context, db *database) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || n.db.Load() != db {
		return nil // another request was first
	}
	if err := db.emptyLog(ctx); err != nil {
		return fmt.Errorf("%w: %s: its log cannot be emptied: %w", errReplaced, db.file, err)
	}
	n.db.Store(nil)
	err := db.close()
	if n.options.Replaced != nil {
		n.options.Replaced()
	}
	return err
}

// emptyLog writes the log back, to the last page.
func (db *database) emptyLog(ctx context.Context) error {
	writer, err := db.takeWriter(ctx)
	if err != nil {
		return err
	}
	defer db.putWriter(writer)
	if !db.holdReaders(db.grace) {
		return errors.New("a read takes too long")
	}
	defer db.releaseReaders(cap(db.reading))
	return truncateLog(writer)
}

func truncateLog(writer *sqlite.Conn) error {
	busy, err := writer.Int("PRAGMA wal_checkpoint(TRUNCATE)")
	if err == nil && busy != 0 {
		err = errors.New("another process reads it")
	}
	return err
}

// current is the open database, of the file that has its name.
func (n *Node) current(ctx context.Context) (*database, error) {
	db, err := n.open(ctx)
	if err != nil || !db.looksReplaced() {
		return db, err
	}
	if err := n.reopen(ctx, db); err != nil {
		return nil, err
	}
	return n.open(ctx)
}

// lost reports whether a request failed for no other reason than that db has lost its file.
func (n *Node) lost(db *database, err error) bool {
	return errors.Is(err, errReplaced) || errors.Is(err, ErrClosed) && n.db.Load() != db
}
