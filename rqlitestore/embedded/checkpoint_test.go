package embedded

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rqlite/gorqlite"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded/internal/sqlite"
)

// withLog opens a node whose log gathers this many pages between checkpoints, with a table t.
func withLog(t *testing.T, pages int) (*Node, *gorqlite.Connection) {
	t.Helper()
	n := New(filepath.Join(t.TempDir(), "sessions.db"), Options{Synchronous: "normal"})
	n.checkpointPages = pages
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	conn, err := n.Connection()
	if err != nil {
		t.Fatal(err)
	}
	fill(t, conn, "CREATE TABLE t (a BLOB)", 1)
	return n, conn
}

func fill(t *testing.T, conn *gorqlite.Connection, statement string, times int) {
	t.Helper()
	for range times {
		if _, err := conn.WriteOne(statement); err != nil {
			t.Fatal(err)
		}
	}
}

const onePage = "INSERT INTO t VALUES(randomblob(3000))"

// pin takes a reader that has begun to read.
func pin(t *testing.T, db *database) *sqlite.Conn {
	t.Helper()
	conn, err := db.takeReader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	beginRead(t, conn)
	return conn
}

// pinAsAnother takes a reader as another process has it.
func pinAsAnother(t *testing.T, n *Node) *sqlite.Conn {
	t.Helper()
	conn, err := sqlite.Open(n.file, true, 0)
	if err != nil {
		t.Fatal(err)
	}
	beginRead(t, conn)
	return conn
}

func beginRead(t *testing.T, conn *sqlite.Conn) {
	t.Helper()
	if err := conn.Exec("BEGIN"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Int("SELECT count(*) FROM t"); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		<-tick.C
	}
}

// logPages is the length of the log.
func logPages(t *testing.T, db *database) int {
	t.Helper()
	writer, err := db.takeWriter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer db.putWriter(writer)
	return writer.WALPages()
}

func TestCheckpoint_isDueAsOftenInEachLog(t *testing.T) {
	t.Parallel()
	l := newLog(10)
	for range 3 {
		for pages := 1; pages < 50; pages++ {
			l.count(pages)
			due := len(l.full) > 0
			if due {
				<-l.full
			}
			if due != (pages%10 == 0) {
				t.Errorf("at %d pages: %v", pages, due)
			}
		}
		l.restartAt = 1000 // beside a read that takes long
		l.count(0)
		if l.restartAt != 40 {
			t.Errorf("the next log is to begin at %d pages", l.restartAt)
		}
	}
}

func TestCheckpoint_comesByItself(t *testing.T) {
	t.Parallel()
	n, conn := withLog(t, 20)
	fill(t, conn, onePage, 100)
	eventually(t, "the pages are in the file", func() bool {
		info, err := os.Stat(n.file)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size() >= 60*4096
	})
}

func TestCheckpoint_ofALongLogWaitsForReadersAndBeginsAnew(t *testing.T) {
	t.Parallel()
	n, conn := withLog(t, 1_000_000)
	db := n.db.Load()
	db.log.restartAt, db.log.patience = 50, time.Minute
	reader := pin(t, db)
	fill(t, conn, onePage, 60)
	done := make(chan struct{})
	go func() {
		defer close(done)
		db.checkpoint()
	}()
	eventually(t, "no reader can start", func() bool { return len(db.reading) == cap(db.reading) })
	db.putReader(reader)
	<-done
	if len(db.reading) != 0 {
		t.Error("readers are still kept from starting")
	}
	reader = pin(t, db)
	defer db.putReader(reader)
	fill(t, conn, onePage, 1)
	if pages := logPages(t, db); pages >= 50 {
		t.Errorf("the log has %d pages and did not begin anew", pages)
	}
}

func TestCheckpoint_leavesALongReadAlone(t *testing.T) {
	t.Parallel()
	n, conn := withLog(t, 1_000_000)
	db := n.db.Load()
	db.log.restartAt, db.log.patience = 50, time.Millisecond
	reader := pin(t, db)
	defer db.putReader(reader)
	fill(t, conn, onePage, 60)
	db.checkpoint()
	if got := len(db.reading); got != 1 {
		t.Errorf("%d readers are held, want the one", got)
	}
	if db.log.restartAt < 100 {
		t.Errorf("tried again at %d pages", db.log.restartAt)
	}
	if got, err := reader.Int("SELECT count(*) FROM t"); got != 0 || err != nil {
		t.Errorf("the read sees %d rows, %v: it began before them", got, err)
	}
	fill(t, conn, onePage, 1)
}

// Who copies the file after a close must know that it is not all.
func TestClose_saysThatAReaderKeptTheLog(t *testing.T) {
	t.Parallel()
	n, conn := withLog(t, 1_000_000)
	fill(t, conn, onePage, 3)
	other := pinAsAnother(t, n)
	fill(t, conn, onePage, 3)
	if err := n.Close(); err == nil || !strings.Contains(err.Error(), "another process reads it") || !strings.Contains(err.Error(), "-wal") {
		t.Errorf("Close: %v", err)
	}
	other.Close()
	again := New(n.file, Options{})
	defer again.Close()
	if err := again.Open(); err != nil {
		t.Fatal(err)
	}
	db := again.db.Load()
	reader := pin(t, db)
	defer db.putReader(reader)
	if got, err := reader.Int("SELECT count(*) FROM t"); got != 6 || err != nil {
		t.Errorf("%d of 6 rows are there: %v", got, err)
	}
}
