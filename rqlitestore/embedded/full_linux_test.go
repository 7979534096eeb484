package embedded_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rqlite/gorqlite"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
)

func init() { roles["writer on a small disk"] = writeOnSmallDisk }

// noSmallDisk is said where the system gives this user no file system of its own.
const noSmallDisk = "no file system for the test"

// writeOnSmallDisk mounts a small file system, fills it, and writes while it is full and when there is room again.
func writeOnSmallDisk(args []string) error {
	dir := args[0]
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=600k"); err != nil {
		return fmt.Errorf("%s: %w", noSmallDisk, err)
	}
	conn, err := embedded.Connect(filepath.Join(dir, "sessions.db"))
	if err != nil {
		return err
	}
	insert := func() error {
		_, err := conn.Write([]string{"INSERT INTO t VALUES(1)", "UPDATE t SET a=a+1"})
		return err
	}
	if _, err := conn.WriteOne("CREATE TABLE t (a)"); err != nil {
		return err
	}
	if err := insert(); err != nil {
		return err
	}
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("filling the disk: %w", err)
	}
	// What is left of the last page of memory may take some more.
	stored := 1
	for err = insert(); err == nil && stored < 1000; err = insert() {
		stored++
	}
	var definite *gorqlite.StatementError
	if !errors.As(err, &definite) || !strings.Contains(err.Error(), "disk is full") {
		return fmt.Errorf("after %d rows the error of a full disk is %T: %w", stored, err, err)
	}
	if err := os.Remove(filler); err != nil {
		return err
	}
	if err := insert(); err != nil {
		return fmt.Errorf("with room: %w", err)
	}
	rows, err := conn.QueryOne("SELECT count(*) FROM t")
	if err != nil {
		return err
	}
	var there int
	if rows.Next(); rows.Scan(&there) != nil || there != stored+1 {
		return fmt.Errorf("%d rows are there, %d were acknowledged", there, stored+1)
	}
	return nil
}

// On a full disk it is certain that a write stored nothing, so nobody has to ask what became of it.
func TestNode_fullDiskLeavesNoDoubt(t *testing.T) {
	t.Parallel()
	runWithMounts(t, "writer on a small disk", t.TempDir())
}

func init() { roles["opener on a disk without inodes"] = openWithoutInodes }

// openWithoutInodes opens a file on a disk that takes no other file, as one with very many small ones, and when it does.
func openWithoutInodes(args []string) error {
	dir := args[0]
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=1m,nr_inodes=20"); err != nil {
		return fmt.Errorf("%s: %w", noSmallDisk, err)
	}
	file := filepath.Join(dir, "sessions.db")
	open := func() error {
		node := embedded.New(file, embedded.Options{})
		return errors.Join(node.Open(), node.Close())
	}
	if err := open(); err != nil {
		return err
	}
	var fillers []string
	var err error
	for err == nil {
		filler := filepath.Join(dir, fmt.Sprint("filler", len(fillers)))
		if err = os.WriteFile(filler, nil, 0o600); err == nil {
			fillers = append(fillers, filler)
		}
	}
	if !errors.Is(err, syscall.ENOSPC) || len(fillers) == 0 {
		return fmt.Errorf("%d files, then: %w", len(fillers), err)
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), "the disk must have room for these files, inodes too") {
		return fmt.Errorf("the error of a disk without inodes is %w", err)
	}
	for _, filler := range fillers {
		if err := os.Remove(filler); err != nil {
			return err
		}
	}
	return open()
}

// SQLite says of such a disk that there is no such file: that of its log, which it could not make.
func TestNode_saysThatADiskMayHaveNoInodes(t *testing.T) {
	t.Parallel()
	runWithMounts(t, "opener on a disk without inodes", t.TempDir())
}

// runWithMounts runs the test binary once more, in a role that mounts file systems of its own.
func runWithMounts(t *testing.T, role string, args ...string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if exited := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exited) || strings.Contains(string(out), noSmallDisk)) {
		t.Skipf("%s: %v %s", noSmallDisk, err, out)
	}
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
