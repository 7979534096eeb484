package embedded

import (
	"context"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded/internal/sqlite"
)

const (
	// checkpointPages is how many pages (of 4 KiB) the write-ahead log gathers before they are written back.
	checkpointPages = 1000
	// restartAfter times as many make readers step aside for a moment, so that the log begins anew.
	restartAfter = 4
	// stepAside is how long readers are waited for then. One that takes longer is left alone.
	stepAside = 100 * time.Millisecond
)

// SQLite checkpoints within a commit and cannot begin the log anew while anybody reads: with reads that overlap all
// the time the log grows for ever and every commit tries in vain. So it is done here. The bulk is copied
// in the background, on a connection of its own, beside reads and writes; then the writer pauses for what came
// meanwhile. Only when the log has become long do readers pause too.

// walLog is the state of the write-ahead log.
type walLog struct {
	conn *sqlite.Conn  // copies it back into the file
	full chan struct{} // asks for a checkpoint
	done chan struct{} // closed when there will be none any more
	// every is how many pages the log gathers between checkpoints.
	every    int
	patience time.Duration // stepAside

	// These belong to who has the writer.
	pages     int // in the log after the last commit
	checkAt   int // how many make a checkpoint due
	restartAt int // how many make a new log due
}

func newLog(every int) walLog {
	l := walLog{full: make(chan struct{}, 1), done: make(chan struct{}), every: every, patience: stepAside}
	l.begin()
	return l
}

// begin sets when the first checkpoints of a new log are due.
func (l *walLog) begin() { l.checkAt, l.restartAt = l.every, restartAfter*l.every }

// count takes notice of how long the log is after a commit, and asks for a checkpoint when it has grown.
func (l *walLog) count(pages int) {
	if pages < l.pages {
		l.begin()
	}
	l.pages = pages
	if pages >= l.checkAt {
		l.checkAt = pages + l.every
		select {
		case l.full <- struct{}{}:
		default: // it has been asked for
		}
	}
}

// checkpoints runs until the database is closed.
func (db *database) checkpoints() {
	defer close(db.log.done)
	for {
		select {
		case <-db.log.full:
			db.checkpoint()
		case <-db.closed:
			return
		}
	}
}

// checkpoint writes the log back. An error (a full disk) leaves it as it is: nothing is lost, and it
// is tried again some pages later.
func (db *database) checkpoint() {
	_ = db.log.conn.Exec("PRAGMA wal_checkpoint(PASSIVE)")
	writer, err := db.takeWriter(context.Background())
	if err != nil {
		return // closed
	}
	defer db.putWriter(writer)
	if pages := writer.WALPages(); pages >= db.log.restartAt {
		if db.holdReaders(db.log.patience) {
			defer db.releaseReaders(cap(db.reading))
			_ = writer.Exec("PRAGMA wal_checkpoint(RESTART)")
			return
		}
		db.log.restartAt = 2 * pages // not again and again beside a read that takes long
	}
	_ = writer.Exec("PRAGMA wal_checkpoint(PASSIVE)")
}

// holdReaders keeps readers from starting and waits for those under way. If they take longer than patience
// it lets them all go on and returns false.
func (db *database) holdReaders(patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for n := range cap(db.reading) {
		select {
		case db.reading <- struct{}{}:
		case <-timer.C:
			db.releaseReaders(n)
			return false
		}
	}
	return true
}

func (db *database) releaseReaders(n int) {
	for range n {
		<-db.reading
	}
}
