package embedded

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

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
	other := pinAsAnother(t, n)
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
