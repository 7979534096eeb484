package cluster_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/internal/rqlited"
	"github.com/caddy-session/caddy-session/rqlitestore/internal/idempotent"
)

// With the disks of all nodes full each leader gives up as soon as it is one. Requests
// fail soon, until there is room. Not parallel: the nodes are to lie on the small disk.
func TestTransport_failsSoon_whenAllDisksAreFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Skipf("no file system for the test: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	t.Run("nodes", func(t *testing.T) {
		t.Setenv("TMPDIR", dir)
		c := rqlited.Start(t, 3)
		tr := transportFor(t, c.URLs())
		tr.Start()
		conn, err := tr.Connection()
		if err != nil {
			t.Fatal(err)
		}
		useTable(t, conn)
		write := func() error {
			ctx, cancel := context.WithTimeout(idempotent.With(t.Context()), writeDeadline)
			defer cancel()
			_, err := conn.WriteOneContext(ctx, "INSERT INTO t(n) VALUES(hex(zeroblob(10000)))")
			return err
		}
		filler := filepath.Join(dir, "filler")
		if err := os.WriteFile(filler, make([]byte, 32<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("filling the disk: %v", err)
		}
		eventually(t, "a request fails before its time is over", func() bool {
			err := write()
			return err != nil && strings.Contains(err.Error(), "no node can answer")
		})
		begun := time.Now()
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a request is answered", func() bool { return write() == nil })
		t.Logf("answered %.2f s after there was room", time.Since(begun).Seconds())
	})
}
