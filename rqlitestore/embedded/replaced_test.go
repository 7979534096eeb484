package embedded_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
)

// inUse opens a file of one row in a directory of its own.
func inUse(t *testing.T) (n *embedded.Node, file string, replaced *atomic.Int64) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the system lets nobody remove an open file")
	}
	file = filepath.Join(t.TempDir(), "data", "sessions.db")
	replaced = new(atomic.Int64)
	n = embedded.New(file, embedded.Options{Replaced: func() { replaced.Add(1) }})
	t.Cleanup(func() { n.Close() })
	write(t, connect(t, n), "CREATE TABLE IF NOT EXISTS t (a)", "INSERT INTO t VALUES('old')")
	return n, file, replaced
}

// kept closes the node and counts the rows that a new process would find.
func kept(t *testing.T, n *embedded.Node, file, where string) int64 {
	t.Helper()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	again := embedded.New(file, embedded.Options{})
	defer again.Close()
	return count(t, connect(t, again), "SELECT count(*) FROM t WHERE "+where)
}

// What is written after the file was removed is in the file that is there.
func TestNode_writesToTheFileThatHasTheName(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(file string) error{
		"the file is removed":      os.Remove,
		"the directory is removed": func(file string) error { return os.RemoveAll(filepath.Dir(file)) },
		"the file is moved away":   func(file string) error { return os.Rename(file, file+".old") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, file, replaced := inUse(t)
			if err := remove(file); err != nil {
				t.Fatal(err)
			}
			conn := connect(t, n)
			var writers sync.WaitGroup
			for range 20 { // of which each finds it
				writers.Go(func() { write(t, conn, "CREATE TABLE IF NOT EXISTS t (a)", "INSERT INTO t VALUES('new')") })
			}
			writers.Wait()
			if got := replaced.Load(); got != 1 {
				t.Errorf("told %d times that the file is gone", got)
			}
			if got := kept(t, n, file, "a='new'"); got != 20 {
				t.Errorf("%d of 20 rows that were acknowledged are in the file", got)
			}
		})
	}
}

// A backup that is moved there is what counts from then on, for reads too.
func TestNode_takesABackupThatIsMovedThere(t *testing.T) {
	t.Parallel()
	n, file, replaced := inUse(t)
	conn := connect(t, n)
	count(t, conn, "SELECT count(*) FROM t") // on a connection that the next reads use again
	if err := n.SetSynchronous("normal"); err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "backup.db")
	b := embedded.New(backup, embedded.Options{})
	write(t, connect(t, b), "CREATE TABLE t (a)", "INSERT INTO t VALUES('restored')")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(backup, file); err != nil {
		t.Fatal(err)
	}
	for begun := time.Now(); count(t, conn, "SELECT count(*) FROM t WHERE a='restored'") != 1; {
		if time.Since(begun) > time.Minute {
			t.Fatal("reads do not see the backup")
		}
	}
	var writers sync.WaitGroup
	for range 20 {
		writers.Go(func() { write(t, conn, "INSERT INTO t VALUES('new')") })
	}
	writers.Wait()
	if got := replaced.Load(); got != 1 {
		t.Errorf("told %d times that the file is another", got)
	}
	if _, body := roundTrip(t, n, "/db/request", `["DELETE FROM t WHERE 0", "PRAGMA synchronous"]`); !strings.Contains(body, `"values":[[1]]`) {
		t.Errorf("it is not as synchronous as was set: %s", body)
	}
	if got := count(t, conn, "SELECT count(*) FROM t WHERE a='old'"); got != 0 {
		t.Errorf("%d rows of the file that was replaced", got)
	}
	if got := kept(t, n, file, "a IN ('restored','new')"); got != 21 {
		t.Errorf("%d of 21 rows are in the file", got)
	}
}
