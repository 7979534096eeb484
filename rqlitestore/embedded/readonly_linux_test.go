package embedded_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
)

func init() { roles["on a read-only file system"] = openReadOnly }

// openReadOnly makes a database, and opens it where nothing can be written any more.
func openReadOnly(args []string) error {
	dir := args[0]
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=1m"); err != nil {
		return fmt.Errorf("%s: %w", noSmallDisk, err)
	}
	file := filepath.Join(dir, "sessions.db")
	before := embedded.New(file, embedded.Options{})
	if err := errors.Join(before.Open(), before.Close()); err != nil {
		return err
	}
	if err := syscall.Mount("none", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("%s: %w", noSmallDisk, err)
	}
	err := embedded.New(file, embedded.Options{}).Open()
	if !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "must be writable by the user of this process") {
		return fmt.Errorf("the error does not say what to do: %w", err)
	}
	return nil
}

// A service that is confined after it was tried out, or a volume that is mounted
// read-only, has the lock from before, so it is the file that cannot be opened.
func TestNode_readOnlyFileSystem(t *testing.T) {
	t.Parallel()
	runWithMounts(t, "on a read-only file system", t.TempDir())
}
