//go:build unix

package embedded_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
)

func init() {
	roles["limited writer"] = writeLimited
	roles["no other files"] = useNoOtherFiles
}

// writeLimited does what writeForever does until no file can grow any more, as on a full disk.
func writeLimited(args []string) error {
	signal.Ignore(syscall.SIGXFSZ) // so that the write is an error
	limit := syscall.Rlimit{Cur: 300 << 10, Max: 300 << 10}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	return writeForever(args)
}

func TestCrash_fullDiskStoresExactlyWhatItAcknowledges(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sessions.db")
	p := startProcess(t, "limited writer", file, "0")
	var lines []string
	for p.out.Scan() {
		lines = append(lines, p.out.Text())
	}
	if err := p.Wait(); err != nil || len(lines) < 4 {
		t.Fatalf("after %d rows: %v: %s", len(lines), err, p.err.String())
	}
	if got := p.err.String(); !strings.Contains(got, "disk") {
		t.Errorf("the error is %s", got)
	}
	acknowledged := map[int]bool{}
	addNumbers(t, acknowledged, lines)
	if there := checkAcknowledged(t, file, acknowledged); !maps.Equal(there, acknowledged) {
		t.Errorf("%d rows are there, %d were acknowledged", len(there), len(acknowledged))
	}
}

// useNoOtherFiles changes and sorts more than SQLite keeps in memory by itself, where no file can be opened any more.
func useNoOtherFiles(args []string) error {
	conn, err := embedded.Connect(args[0])
	if err != nil {
		return err
	}
	if _, err := conn.Write([]string{
		"CREATE TABLE t (a TEXT NOT NULL)",
		"INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<8000) SELECT hex(randomblob(250)) FROM n",
	}); err != nil {
		return err
	}
	const sort = "SELECT sum(n) FROM (SELECT row_number() OVER (ORDER BY a, length(a)) AS n FROM t LIMIT 3)"
	if _, err := conn.QueryOne("SELECT a FROM t LIMIT 1"); err != nil { // opens what it reads by
		return err
	}
	next, err := os.Open(args[0])
	if err != nil {
		return err
	}
	var limit syscall.Rlimit
	setLimit(&limit.Cur, next.Fd())
	setLimit(&limit.Max, next.Fd())
	if err := errors.Join(next.Close(), syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)); err != nil {
		return err
	}
	if file, err := os.Open(args[0]); err == nil {
		return errors.Join(errors.New("files can still be opened"), file.Close())
	}
	if _, err := conn.Write([]string{"UPDATE t SET a = a || 'x'"}); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	if _, err := conn.QueryOne(sort); err != nil {
		return fmt.Errorf("reading: %w", err)
	}
	return nil
}

// setLimit is for numbers that have a sign on some systems.
func setLimit[N int64 | uint64](limit *N, to uintptr) { *limit = N(to) }

// In a container whose root is read-only there is often no other place to write to than that of the file.
func TestNode_needsNoTemporaryFiles(t *testing.T) {
	t.Parallel()
	p := startProcess(t, "no other files", filepath.Join(t.TempDir(), "sessions.db"))
	if err := p.Wait(); err != nil {
		t.Errorf("%v: %s", err, p.err.String())
	}
}

func TestNode_pipeIsNoDatabase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := embedded.New(pipe, embedded.Options{}).Open(); err == nil || !strings.Contains(err.Error(), "is no regular file") {
		t.Errorf("Open: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("in the directory is %v (%v)", left, err)
	}
}

// To open it would wait for somebody who writes to it.
func TestNode_pipeIsNoLock(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sessions.db")
	if err := syscall.Mkfifo(file+".lock", 0o600); err != nil {
		t.Fatal(err)
	}
	if err := embedded.New(file, embedded.Options{}).Open(); err == nil || !strings.Contains(err.Error(), "sessions.db.lock is no regular file: remove it") {
		t.Errorf("Open: %v", err)
	}
}

func TestNode_linkIntoNoDirectory(t *testing.T) {
	t.Parallel()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("nowhere/sessions.db", link); err != nil {
		t.Fatal(err)
	}
	if err := embedded.New(link, embedded.Options{}).Open(); err == nil || !strings.Contains(err.Error(), link+": ") || !strings.Contains(err.Error(), "nowhere: no such file") ||
		!strings.Contains(err.Error(), "a symbolic link leads there: make that directory") {
		t.Errorf("Open: %v", err)
	}
}

func TestNode_pathThatSQLiteDoesNotTake(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for len(dir) < 400 {
		dir = filepath.Join(dir, strings.Repeat("d", 50))
	}
	for _, length := range []int{504, 505} {
		n := embedded.New(filepath.Join(dir, strings.Repeat("f", length-len(dir)-1)), embedded.Options{})
		t.Cleanup(func() { n.Close() })
		err := n.Open()
		if taken := length == 504; taken != (err == nil) || !taken && !strings.Contains(err.Error(), "its path is too long, of 505 bytes: name one of 504 at most") {
			t.Errorf("%d bytes: %v", length, err)
		}
	}
}
