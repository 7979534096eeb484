package embedded_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
)

// roleVariable tells the test binary, when a test runs it once more as another process, what to be.
const roleVariable = "EMBEDDED_TEST_ROLE"

var roles = map[string]func(args []string) error{
	"writer": writeForever,
	"holder": hold,
}

func TestMain(m *testing.M) {
	role, ok := roles[os.Getenv(roleVariable)]
	if !ok {
		os.Exit(m.Run())
	}
	if err := role(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// writeForever stores numbers in a file, from the given one on, and prints each when it is acknowledged. It ends when
// a write fails.
func writeForever(args []string) error {
	next, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	conn, err := embedded.Connect(args[0])
	if err != nil {
		return err
	}
	if _, err := conn.WriteOne("CREATE TABLE IF NOT EXISTS t (a INTEGER PRIMARY KEY, twice INTEGER NOT NULL)"); err != nil {
		return err
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				mu.Lock()
				n := next
				next++
				mu.Unlock()
				if _, err := conn.Write([]string{
					fmt.Sprintf("INSERT INTO t VALUES(%d, 0)", n),
					fmt.Sprintf("UPDATE t SET twice = %d WHERE a = %d", 2*n, n),
				}); err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
				mu.Lock()
				fmt.Println(n)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return nil
}

// hold opens a file, says so, and closes it when its input ends.
func hold(args []string) error {
	n := embedded.New(args[0], embedded.Options{})
	if err := n.Open(); err != nil {
		return err
	}
	fmt.Println("open")
	if _, err := io.ReadAll(os.Stdin); err != nil {
		return err
	}
	return n.Close()
}

// process is the test binary in another role.
type process struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
	err strings.Builder
}

func startProcess(t *testing.T, role string, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: exec.CommandContext(t.Context(), self, args...)}
	p.Env = append(os.Environ(), roleVariable+"="+role)
	p.Stderr = &p.err
	if p.in, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewScanner(out)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// kill ends it with SIGKILL and returns the lines that it had printed and nobody has read.
func (p *process) kill(t *testing.T) (lines []string) {
	t.Helper()
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for p.out.Scan() {
		lines = append(lines, p.out.Text())
	}
	_ = p.Wait() // killed is an error too
	return lines
}

func TestCrash_losesNothingThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sessions.db")
	acknowledged := map[int]bool{}
	for round, rows := range []int{1, 40, 150, 7, 300} {
		p := startProcess(t, "writer", file, strconv.Itoa(round*1_000_000))
		var lines []string
		for len(lines) < rows && p.out.Scan() {
			lines = append(lines, p.out.Text())
		}
		lines = append(lines, p.kill(t)...)
		if len(lines) < rows {
			t.Fatalf("round %d: the writer ended after %d rows: %s", round, len(lines), p.err.String())
		}
		addNumbers(t, acknowledged, lines)
		checkAcknowledged(t, file, acknowledged)
	}
}

func addNumbers(t *testing.T, set map[int]bool, lines []string) {
	t.Helper()
	for _, line := range lines {
		n, err := strconv.Atoi(line)
		if err != nil {
			t.Fatal(err)
		}
		set[n] = true
	}
}

// checkAcknowledged checks that what was acknowledged is there, and returns all that is.
func checkAcknowledged(t *testing.T, file string, acknowledged map[int]bool) (there map[int]bool) {
	t.Helper()
	n := embedded.New(file, embedded.Options{})
	conn := connect(t, n)
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}()
	rows, err := conn.QueryOne("SELECT a, twice FROM t")
	if err != nil {
		t.Fatal(err)
	}
	there = map[int]bool{}
	for rows.Next() {
		var a, twice int
		if err := rows.Scan(&a, &twice); err != nil {
			t.Fatal(err)
		}
		if twice != 2*a {
			t.Errorf("%d has half of its transaction", a)
		}
		there[a] = true
	}
	for a := range acknowledged {
		if !there[a] {
			t.Errorf("%d was acknowledged and is gone", a)
		}
	}
	if got, err := conn.QueryOne("PRAGMA integrity_check"); err != nil || !got.Next() {
		t.Errorf("integrity check: %v", err)
	} else if m, _ := got.Map(); m["integrity_check"] != "ok" {
		t.Errorf("integrity check: %v", m)
	}
	return there
}

func TestLock_keepsOutAnotherProcess(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sessions.db")
	holder := startProcess(t, "holder", file)
	if !holder.out.Scan() || holder.out.Text() != "open" {
		t.Fatalf("the holder did not open: %s", holder.err.String())
	}

	n := embedded.New(file, embedded.Options{})
	t.Cleanup(func() { n.Close() })
	conn := connect(t, n)
	err := n.Open()
	if !errors.Is(err, embedded.ErrLocked) || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "by another process: stop that") {
		t.Errorf("Open beside the holder: %v", err)
	}
	if _, err := conn.QueryOne("SELECT 1"); err == nil || !strings.Contains(err.Error(), embedded.ErrLocked.Error()) {
		t.Errorf("query beside the holder: %v", err)
	}
	wantFailing(t, n, embedded.ErrLocked)

	holder.in.Close()
	if err := holder.Wait(); err != nil {
		t.Fatalf("holder: %v: %s", err, holder.err.String())
	}
	if got := count(t, conn, "SELECT 1"); got != 1 {
		t.Error("the lock is free and the node did not heal")
	}

	other := startProcess(t, "holder", file)
	other.in.Close()
	if err := other.Wait(); err == nil || !strings.Contains(other.err.String(), embedded.ErrLocked.Error()) {
		t.Errorf("the other process beside this one: %v: %s", err, other.err.String())
	}
}

func TestLock_isFreeAfterACrash(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sessions.db")
	holder := startProcess(t, "holder", file)
	if !holder.out.Scan() {
		t.Fatalf("the holder did not open: %s", holder.err.String())
	}
	holder.kill(t)
	n := embedded.New(file, embedded.Options{})
	t.Cleanup(func() { n.Close() })
	if err := n.Open(); err != nil {
		t.Error(err)
	}
}

func TestLock_isOneForEveryNameOfTheFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "sessions.db")
	first := embedded.New(file, embedded.Options{})
	t.Cleanup(func() { first.Close() })
	if err := first.Open(); err != nil {
		t.Fatal(err)
	}
	link, linkedDir := filepath.Join(dir, "link.db"), filepath.Join(t.TempDir(), "dir")
	if err := errors.Join(os.Symlink(file, link), os.Symlink(dir, linkedDir)); err != nil {
		t.Skipf("this system makes no links: %v", err)
	}
	for _, name := range []string{file, link, filepath.Join(linkedDir, "sessions.db"), filepath.Join(dir, ".", "x", "..", "sessions.db")} {
		n := embedded.New(name, embedded.Options{})
		if err := n.Open(); !errors.Is(err, embedded.ErrLocked) {
			t.Errorf("%s: %v", name, err)
		}
		n.Close()
	}
}

// A link whose file is yet to be made is another name of that file already.
func TestLock_isOneForALinkToAFileThatIsNotThereYet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, link := filepath.Join(dir, "sessions.db"), filepath.Join(dir, "link")
	if err := errors.Join(os.Symlink("sessions.db", filepath.Join(dir, "inner")), os.Symlink(filepath.Join(dir, "inner"), link)); err != nil {
		t.Skip(err)
	}
	n := embedded.New(link, embedded.Options{})
	t.Cleanup(func() { n.Close() })
	if err := n.Open(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, link} {
		again := embedded.New(name, embedded.Options{})
		t.Cleanup(func() { again.Close() })
		if err := again.Open(); !errors.Is(err, embedded.ErrLocked) {
			t.Errorf("%s is open twice: %v", name, err)
		}
	}
}
