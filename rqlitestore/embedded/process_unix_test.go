//go:build unix

package embedded_test

import (
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
)

func init() { roles["limited writer"] = writeLimited }

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
	if err := embedded.New(link, embedded.Options{}).Open(); err == nil || !strings.Contains(err.Error(), link+": ") || !strings.Contains(err.Error(), "nowhere: no such file") {
		t.Errorf("Open: %v", err)
	}
}
