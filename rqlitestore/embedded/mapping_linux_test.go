package embedded_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
)

func init() { roles["where files cannot be mapped"] = openUnmappable }

// openUnmappable opens a database on a file system that maps no files into memory.
func openUnmappable(args []string) error {
	from, to := args[0], args[1]
	if out, err := exec.Command("bindfs", "-o", "direct_io", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", noSmallDisk, err, out)
	}
	defer syscall.Unmount(to, syscall.MNT_DETACH)
	n := embedded.New(filepath.Join(to, "sessions.db"), embedded.Options{})
	defer n.Close()
	if err := n.Open(); err == nil || !strings.Contains(err.Error(), "name a file on a local disk") {
		return fmt.Errorf("the error does not say what to do: %v", err)
	}
	return nil
}

// Some file systems of networks, and folders that are shared with a container or a virtual machine, map no files. SQLite
// takes that for a broken disk.
func TestNode_fileSystemThatMapsNoFiles(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("bindfs"); err != nil {
		t.Skip(err)
	}
	runWithMounts(t, "where files cannot be mapped", t.TempDir(), t.TempDir())
}
