package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/caddy-session/caddy-session/internal/realfile"
	"github.com/caddy-session/caddy-session/rqlitestore/embedded/internal/sqlite"
)

const (
	// busyTimeout is how long a statement waits for another process that has the file open, such as a
	// backup or the sqlite3 shell.
	busyTimeout = 2 * time.Second
	// closeGrace is how long Close lets statements finish before it interrupts them.
	closeGrace = 5 * time.Second
)

// database is an open file: one connection that writes and a few that read. In WAL mode readers see
// what was committed when they began, and neither wait for the writer nor make it wait.
type database struct {
	file     string
	lock     *flock.Flock
	identity identity

	// writer holds the connection that writes; who has taken it out may use it.
	writer chan *sqlite.Conn
	queue  queue
	// reading has room for as many readers as there may be at a time.
	reading chan struct{}

	log   walLog
	grace time.Duration // closeGrace

	closed chan struct{} // closed when the database is

	mu   sync.Mutex
	idle []*sqlite.Conn        // readers that nobody uses, the last used at the end: its pages are warm
	all  map[*sqlite.Conn]bool // readers in use and idle
}

// openDatabase locks and opens file, and makes it and its directory where they do not exist.
func openDatabase(file string, o Options, checkpointPages int) (db *database, err error) {
	if file, err = resolve(file); err != nil {
		return nil, err
	}
	lock, err := lockFile(file)
	if err != nil {
		return nil, err
	}
	db = &database{
		file: file, lock: lock,
		writer:  make(chan *sqlite.Conn, 1),
		reading: make(chan struct{}, max(4, 2*runtime.GOMAXPROCS(0))),
		all:     make(map[*sqlite.Conn]bool),
		closed:  make(chan struct{}),
		log:     newLog(checkpointPages),
		grace:   closeGrace,
	}
	if err := db.connect(o); err != nil {
		return nil, errors.Join(openError(file, err), db.closeIdentity(), unlock(lock))
	}
	db.identity.unknown = db.isReplaced() // as it cannot be by now
	go db.checkpoints()
	return db, nil
}

// connect opens the connection that writes and the one for checkpoints.
func (db *database) connect(o Options) error {
	writer, err := db.openWriter(o)
	if err != nil {
		return err
	}
	if db.log.conn, err = sqlite.Open(db.file, false, busyTimeout); err != nil {
		return errors.Join(err, writer.Close())
	}
	db.writer <- writer
	return nil
}

func (db *database) openWriter(o Options) (conn *sqlite.Conn, err error) {
	synchronous, err := synchronousPragma(o.Synchronous)
	if err != nil {
		return nil, err
	}
	// SQLite gives the WAL the mode of the database, so that this one holds for all.
	if db.identity.file, err = os.OpenFile(db.file, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	if conn, err = sqlite.Open(db.file, false, busyTimeout); err != nil {
		return nil, err
	}
	for _, sql := range []string{
		"PRAGMA journal_mode=WAL",
		synchronous,
		"PRAGMA journal_size_limit=16777216",
		"PRAGMA schema_version", // opens the log: where that cannot be, it is known now
	} {
		if err := conn.Exec(sql); err != nil {
			conn.Close()
			return nil, err
		}
	}
	if err := conn.CountWAL(); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// resolve gives file the one name by which it is locked, whatever links lead to it.
func resolve(file string) (string, error) {
	if file == "" {
		return "", errors.New("the file of the session database has no name")
	}
	if file == ":memory:" {
		return "", errors.New("the session database is kept in a file, not in memory: name one in a temporary directory")
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	dir := filepath.Dir(abs)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("create the directory of the session database: %w: name a file where the user of this process may write "+
			"(in a Caddyfile by embedded <file>)", err)
	}
	real, err := realfile.Of(abs)
	if err != nil {
		return "", fmt.Errorf("find the directory of the session database %s: %w: a symbolic link leads there: make that directory, "+
			"mount the disk that has it, or name another file", abs, err)
	}
	return real, checkKind(real)
}

// checkKind reports what can hold no database, before a lock is made beside it.
func checkKind(file string) error {
	info, err := os.Stat(file)
	switch {
	case err != nil: // it is not there yet, or opening it will tell
		return nil
	case info.IsDir():
		return fmt.Errorf("session database %s is a directory: name a file in it, like %s", file, filepath.Join(file, "sessions.db"))
	case !info.Mode().IsRegular():
		return fmt.Errorf("session database %s is no regular file: name another", file)
	}
	return nil
}

// takeWriter waits for the connection that writes, for work that is no request.
func (db *database) takeWriter(ctx context.Context) (*sqlite.Conn, error) {
	select {
	case conn := <-db.writer:
		return conn, nil
	case <-db.closed:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (db *database) putWriter(conn *sqlite.Conn) { db.writer <- conn }

// rollback undoes what is open.
func rollback(conn *sqlite.Conn) {
	if conn.InTransaction() {
		// The only error is that SQLite has rolled back already.
		_ = conn.Exec("ROLLBACK")
	}
}

// takeReader waits for a connection that reads.
func (db *database) takeReader(ctx context.Context) (*sqlite.Conn, error) {
	select {
	case db.reading <- struct{}{}:
	case <-db.closed:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if conn := db.takeIdle(); conn != nil {
		return conn, nil
	}
	conn, err := db.openReader()
	if err != nil {
		<-db.reading
		return nil, err
	}
	return conn, nil
}

func (db *database) takeIdle() *sqlite.Conn {
	db.mu.Lock()
	defer db.mu.Unlock()
	n := len(db.idle)
	if n == 0 {
		return nil
	}
	conn := db.idle[n-1]
	db.idle = db.idle[:n-1]
	return conn
}

func (db *database) openReader() (*sqlite.Conn, error) {
	if db.isReplaced() {
		return nil, errReplaced // it would read another file than the writer writes
	}
	conn, err := sqlite.Open(db.file, true, busyTimeout)
	if err != nil {
		return nil, openError(db.file, err)
	}
	if err := conn.Exec("PRAGMA query_only=1"); err != nil {
		conn.Close()
		return nil, openError(db.file, err)
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	db.all[conn] = true
	return conn, nil
}

func (db *database) putReader(conn *sqlite.Conn) {
	rollback(conn)
	db.mu.Lock()
	db.idle = append(db.idle, conn)
	db.mu.Unlock()
	<-db.reading
}

// close waits for the statements under way, writes the WAL back into the file, closes and unlocks it.
func (db *database) close() error {
	for patience := db.grace; !db.holdReaders(patience); patience = time.Millisecond {
		db.interruptReaders() // until none is left: one request may run several statements
	}
	writer := <-db.writer // a write is bounded by the context of its request
	close(db.closed)
	<-db.log.done
	for conn := range db.all {
		conn.Close()
	}
	db.log.conn.Close()
	err := truncateLog(writer)
	if err = errors.Join(err, writer.Close(), db.closeIdentity(), unlock(db.lock)); err != nil {
		// Nothing is lost: the log stays and is read when the file is opened again.
		return fmt.Errorf("close session database %s: %w: as long as there is a %s-wal the file is not complete without it",
			db.file, err, filepath.Base(db.file))
	}
	return nil
}

func (db *database) interruptReaders() {
	db.mu.Lock()
	defer db.mu.Unlock()
	for conn := range db.all {
		conn.Interrupt()
	}
}
