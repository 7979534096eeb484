package embedded_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
)

// Each request tries to open a file that is no database: what it leaves open each time
// would be all that a process may have.
func TestNode_leavesNoFileOpen(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sessions.db")
	if err := os.WriteFile(file, []byte(strings.Repeat("x", 4096)), 0o600); err != nil {
		t.Fatal(err)
	}
	n := embedded.New(file, embedded.Options{})
	conn := connect(t, n)
	for range 2 {
		if err := n.Open(); err == nil {
			t.Fatal("opened what is no database")
		}
	}
	if open := openBelow(t, filepath.Dir(file)); open != nil {
		t.Errorf("after it could not be opened: %v", open)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	write(t, conn, "CREATE TABLE t (a)")
	count(t, conn, "SELECT count(*) FROM t")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if open := openBelow(t, filepath.Dir(file)); open != nil {
		t.Errorf("after it was closed: %v", open)
	}
}

// openBelow returns the files in a directory that this process has open.
func openBelow(t *testing.T, dir string) (open []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range all {
		if name, err := os.Readlink(fd); err == nil && strings.HasPrefix(name, dir) {
			open = append(open, name)
		}
	}
	return open
}
