package embedded

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded/internal/sqlite"
)

const endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT count(*) FROM n"

// What nothing else ends does not keep the node from closing, whichever of its statements runs.
func TestClose_endsReadsWithoutDeadline(t *testing.T) {
	t.Parallel()
	n, conn := withLog(t, 1_000_000)
	db := n.db.Load()
	db.grace = time.Millisecond
	ended := make(chan error, 1)
	go func() {
		_, err := conn.Query([]string{endless, endless, endless})
		ended <- err
	}()
	eventually(t, "the read has begun", func() bool { return len(db.reading) == 1 })
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("the read was answered")
	}
}

func TestClose_endsTheWaitForAConnection(t *testing.T) {
	t.Parallel()
	n, _ := withLog(t, 1_000_000)
	db := n.db.Load()
	waits := map[string]func(ctx context.Context) error{
		"a read": func(ctx context.Context) error {
			_, err := db.takeReader(ctx)
			return err
		},
		"a checkpoint": func(ctx context.Context) error {
			_, err := db.takeWriter(ctx)
			return err
		},
		"a write": func(ctx context.Context) error {
			return db.write(&job{ctx: ctx, r: &runner{}})
		},
	}
	check := func(ctx context.Context, want error) {
		for name, wait := range waits {
			ended := make(chan error, 1)
			go func() { ended <- wait(ctx) }()
			select {
			case err := <-ended:
				if !errors.Is(err, want) {
					t.Errorf("%s: %v, want %v", name, err, want)
				}
			case <-time.After(time.Minute):
				t.Errorf("%s waits for ever, want %v", name, want)
			}
		}
	}

	writer, err := db.takeWriter(t.Context())
	if err != nil || !db.holdReaders(time.Minute) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	check(ctx, context.Canceled)
	db.releaseReaders(cap(db.reading))
	db.putWriter(writer)

	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	check(t.Context(), ErrClosed)
}

// As long as the log of a file that was replaced cannot be emptied, the one in its place is not opened: SQLite would
// take that log for its own.
func TestNode_opensNoFileBesideTheLogOfAnother(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("the system lets nobody replace an open file")
	}
	n, conn := withLog(t, 1_000_000)
	backup := New(filepath.Join(t.TempDir(), "backup.db"), Options{})
	restored, err := backup.Connection()
	if err != nil {
		t.Fatal(err)
	}
	fill(t, restored, "CREATE TABLE t (a)", 1)
	fill(t, restored, "INSERT INTO t VALUES('restored')", 1)
	if err := backup.Close(); err != nil {
		t.Fatal(err)
	}
	fill(t, conn, onePage, 3)
	other, err := sqlite.Open(n.file, true, 0) // as another process
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Exec("BEGIN"); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Int("SELECT count(*) FROM t"); err != nil {
		t.Fatal(err)
	}
	fill(t, conn, onePage, 3)
	if err := os.Rename(backup.file, n.file); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := conn.WriteOne(onePage); err == nil || !strings.Contains(err.Error(), "its log cannot be emptied") {
			t.Errorf("a write while another process reads the log: %v", err)
		}
	}
	other.Close()
	fill(t, conn, onePage, 1)
	rows, err := conn.QueryOne("SELECT count(*), max(a = 'restored') FROM t")
	if err != nil || !rows.Next() {
		t.Fatal(err)
	}
	if got, err := rows.Slice(); err != nil || got[0] != 2.0 || got[1] != 1.0 {
		t.Errorf("%v rows, of the backup: %v (%v)", got[0], got[1], err)
	}
}
