package embedded_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rqlite/gorqlite"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
	"github.com/caddy-session/caddy-session/rqlitestore/embedded/internal/sqlite"
)

// sql is a statement with its arguments.
func sql(text string, args ...any) gorqlite.ParameterizedStatement {
	return gorqlite.ParameterizedStatement{Query: text, Arguments: args}
}

func connect(t testing.TB, n *embedded.Node) *gorqlite.Connection {
	t.Helper()
	conn, err := n.Connection()
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// write runs writes that must succeed, in one transaction.
func write(t testing.TB, conn *gorqlite.Connection, statements ...string) {
	t.Helper()
	if _, err := conn.Write(statements); err != nil {
		t.Fatalf("%q: %v", statements, err)
	}
}

// count runs a query for one number.
func count(t testing.TB, conn *gorqlite.Connection, query string) (n int64) {
	t.Helper()
	rows, err := conn.QueryOne(query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	if !rows.Next() {
		t.Fatalf("%s: no row", query)
	}
	if err := rows.Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNode_doesNothingBeforeItIsUsed(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "not", "there")
	n := embedded.New(filepath.Join(dir, "sessions.db"), embedded.Options{})
	connect(t, n)
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory was made: %v", err)
	}
}

func TestNode_keepsItsFilesPrivate(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	dir := filepath.Join(t.TempDir(), "a", "b")
	file := filepath.Join(dir, "sessions.db")
	n := embedded.New(file, embedded.Options{})
	t.Cleanup(func() { n.Close() })
	write(t, connect(t, n), "CREATE TABLE t (a)")
	for name, want := range map[string]fs.FileMode{
		filepath.Dir(dir): 0o700, dir: 0o700, file: 0o600, file + "-wal": 0o600, file + "-shm": 0o600, file + ".lock": 0o600,
	} {
		info, err := os.Stat(name)
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", name, info.Mode().Perm(), want)
		}
	}
}

func TestNode_closeLeavesOneFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sessions.db")
	n := embedded.New(file, embedded.Options{})
	conn := connect(t, n)
	write(t, conn, "CREATE TABLE t (a)", "INSERT INTO t VALUES(1), (2)")
	count(t, conn, "SELECT count(*) FROM t") // with a reader open too
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"-wal", "-shm", "-journal"} {
		if _, err := os.Stat(file + suffix); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", suffix, err)
		}
	}
	// The file alone has everything.
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(t.TempDir(), "moved.db")
	if err := os.WriteFile(moved, content, 0o600); err != nil {
		t.Fatal(err)
	}
	m := embedded.New(moved, embedded.Options{})
	t.Cleanup(func() { m.Close() })
	if got := count(t, connect(t, m), "SELECT count(*) FROM t"); got != 2 {
		t.Errorf("%d rows, want 2", got)
	}
}

func TestNode_requestsAfterCloseFail(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	conn := connect(t, n)
	write(t, conn, "CREATE TABLE t (a)")
	for range 2 {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Open(); !errors.Is(err, embedded.ErrClosed) {
		t.Errorf("Open after Close: %v", err)
	}
	if _, err := conn.QueryOne("SELECT 1"); err == nil || !strings.Contains(err.Error(), embedded.ErrClosed.Error()) {
		t.Errorf("query after Close: %v", err)
	}
	wantFailing(t, n, embedded.ErrClosed)
}

// wantFailing checks that whoever asks the node without gorqlite finds the error, or its text in an answer.
func wantFailing(t testing.TB, n *embedded.Node, want error) {
	t.Helper()
	for _, path := range []string{"/db/query?q=SELECT+1", "/status", "/nodes", "/leader", "/readyz"} {
		resp, err := n.RoundTrip(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://any"+path, nil))
		if strings.HasPrefix(path, "/db/") {
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", path, err, want)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		if err != nil || !strings.Contains(string(answer), want.Error()) {
			t.Errorf("%s: %s (%v), want %v in it", path, answer, err, want)
		}
	}
}

func TestNode_closeWhileRequestsRun(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	conn := connect(t, n)
	write(t, conn, "CREATE TABLE t (a)")
	var wg sync.WaitGroup
	started := make(chan struct{}, 8)
	for i := range 8 {
		wg.Go(func() {
			for k := 0; ; k++ {
				var err error
				if i%2 == 0 {
					_, err = conn.QueryOne("SELECT count(*) FROM t")
				} else {
					_, err = conn.WriteOne("INSERT INTO t VALUES(1)")
				}
				if err != nil {
					if !strings.Contains(err.Error(), embedded.ErrClosed.Error()) {
						t.Errorf("request during Close: %v", err)
					}
					return
				}
				if k == 0 {
					started <- struct{}{}
				}
			}
		})
	}
	for range 8 {
		<-started
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

func TestNode_reopensWhatAnotherLeft(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sessions.db")
	for i := range 3 {
		n := embedded.New(file, embedded.Options{Synchronous: []string{"", "full", "normal"}[i]})
		conn := connect(t, n)
		write(t, conn, "CREATE TABLE IF NOT EXISTS t (a)", "INSERT INTO t VALUES(1)")
		if got := count(t, conn, "SELECT count(*) FROM t"); got != int64(i+1) {
			t.Errorf("%d rows, want %d", got, i+1)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNode_unknownSynchronousIsAnError(t *testing.T) {
	t.Parallel()
	n := embedded.New(filepath.Join(t.TempDir(), "sessions.db"), embedded.Options{Synchronous: "off"})
	if err := n.Open(); err == nil || !strings.Contains(err.Error(), `"off"`) {
		t.Errorf("Open: %v", err)
	}
}

func TestNode_synchronousIsSet(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]string{"": "2", "full": "2", "normal": "1"} {
		n := embedded.New(filepath.Join(t.TempDir(), "sessions.db"), embedded.Options{Synchronous: setting})
		t.Cleanup(func() { n.Close() })
		// In a request that also writes, so that the connection is the one that writes.
		status, body := roundTrip(t, n, "/db/request", `["CREATE TABLE t (a)", "PRAGMA synchronous", "PRAGMA fullfsync"]`)
		if status != 200 || !strings.Contains(body, `"values":[[`+want+`]]`) {
			t.Errorf("synchronous %q: %d %s", setting, status, body)
		}
		// Without it what was synced is in the drive's memory on macOS, and gone with the power.
		if !strings.Contains(body, `{"columns":["fullfsync"],"types":["integer"],"values":[[1]]}`) {
			t.Errorf("synchronous %q: fullfsync is off: %s", setting, body)
		}
	}
}

func TestNode_connectIsOneLine(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // the file stays open, and Windows removes no such file
	file := filepath.Join(dir, "sessions.db")
	conn, err := embedded.Connect(file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, conn, "CREATE TABLE t (a)")
	// There is no other process to look for.
	if _, err := embedded.Connect(file); !errors.Is(err, embedded.ErrLocked) || !strings.Contains(err.Error(), "by this process: open it once") {
		t.Errorf("the same file once more: %v", err)
	}
}

func TestNode_errorsNameTheFileAndWhatToDo(t *testing.T) {
	t.Parallel()
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte(strings.Repeat("this is no database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	directory := filepath.Join(t.TempDir(), "plain")
	if err := os.Mkdir(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	short := filepath.Join(t.TempDir(), "plain")
	n := embedded.New(short, embedded.Options{})
	write(t, connect(t, n), "CREATE TABLE t (a)")
	if err := errors.Join(n.Close(), os.Truncate(short, 4096)); err != nil {
		t.Fatal(err)
	}
	locked := filepath.Join(t.TempDir(), "plain")
	if err := os.Mkdir(locked+".lock", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, file, want string }{
		{"not a database", plain, "file is not a database"},
		{"below a file", filepath.Join(plain, "sessions.db"), ": name a file where"},
		{"cut short", short, "malformed: put a backup in its place"},
		{"a lock that is none", locked, "plain.lock is no regular file: remove it"},
		{"a directory", directory, "is a directory: name a file in it"},
	} {
		n := embedded.New(c.file, embedded.Options{})
		for range 2 { // an error is not kept: it is tried again
			err := n.Open()
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "plain") {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(directory + ".lock"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a lock lies beside the directory: %v", err)
	}
	if content, err := os.ReadFile(plain); err != nil || !strings.HasPrefix(string(content), "this is no database") {
		t.Errorf("the file was changed: %v", err)
	}
}

// An empty name is no other name of the working directory.
func TestNode_fileWithoutName(t *testing.T) {
	t.Parallel()
	if _, err := embedded.Connect(""); err == nil || !strings.Contains(err.Error(), "has no name") {
		t.Errorf("the error is %v", err)
	}
	// It would be a file of this name, and there after the end of the process.
	if _, err := embedded.Connect(":memory:"); err == nil || !strings.Contains(err.Error(), "temporary directory") {
		t.Errorf("the error is %v", err)
	}
}

func TestNode_whatMustNotBeWritten(t *testing.T) {
	t.Parallel()
	if os.Getuid() <= 0 {
		t.Skip("file modes do not stop this user")
	}
	dir, other := t.TempDir(), filepath.Join(t.TempDir(), "sessions.db")
	if err := errors.Join(os.Chmod(dir, 0o500), os.WriteFile(other+".lock", nil, 0)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, file, want string }{
		{"a directory", filepath.Join(dir, "sessions.db"), "the directory, and what is there of the file"},
		{"the directory above", filepath.Join(dir, "caddy", "sessions.db"), "name a file where the user of this process may write"},
		{"a lock of another user, by whom Caddy was tried out", other, "its .lock"},
	} {
		err := embedded.New(c.file, embedded.Options{}).Open()
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), filepath.Dir(c.file)) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// Another user's log is what a crash leaves of a process that ran as that user.
func TestNode_whatLiesBesideTheFileMustBeWritable(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(dir string) error{
		"a log that is none":          func(dir string) error { return os.Mkdir(filepath.Join(dir, "sessions.db-wal"), 0o700) },
		"a log of another user":       func(dir string) error { return os.WriteFile(filepath.Join(dir, "sessions.db-wal"), nil, 0) },
		"a directory of another user": func(dir string) error { return os.Chmod(dir, 0o500) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if os.Getuid() <= 0 && name != "a log that is none" {
				t.Skip("file modes do not stop this user")
			}
			file := filepath.Join(t.TempDir(), "sessions.db")
			n := embedded.New(file, embedded.Options{})
			write(t, connect(t, n), "CREATE TABLE t (a)")
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
			if err := spoil(filepath.Dir(file)); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Chmod(filepath.Dir(file), 0o700) })
			err := embedded.New(file, embedded.Options{}).Open()
			if err == nil || !strings.Contains(err.Error(), file+":") || !strings.Contains(err.Error(), "its -wal and -shm") {
				t.Errorf("Open: %v", err)
			}
		})
	}
}

func TestNode_healsWhenTheReasonIsGone(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sessions.db")
	if err := os.WriteFile(file, []byte(strings.Repeat("x", 4096)), 0o600); err != nil {
		t.Fatal(err)
	}
	n := embedded.New(file, embedded.Options{})
	t.Cleanup(func() { n.Close() })
	conn := connect(t, n)
	if _, err := conn.QueryOne("SELECT 1"); err == nil {
		t.Fatal("opened what is no database")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got := count(t, conn, "SELECT 1"); got != 1 {
		t.Errorf("got %d", got)
	}
}

func TestNode_fullDiskIsAnErrorAndNothingIsHalf(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	conn := connect(t, n)
	write(t, conn, "CREATE TABLE t (a BLOB)", "PRAGMA max_page_count=10")
	results, err := conn.Write([]string{"INSERT INTO t VALUES(1)", "INSERT INTO t VALUES(zeroblob(1000000))"})
	if err == nil || !strings.Contains(err.Error(), "database or disk is full") {
		t.Fatalf("write to a full disk: %v %v", results, err)
	}
	if got := count(t, conn, "SELECT count(*) FROM t"); got != 0 {
		t.Errorf("%d rows of a transaction that failed", got)
	}
	write(t, conn, "INSERT INTO t VALUES(2)")
}

func TestNode_contextEndsAQuery(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	conn := connect(t, n)
	for _, endless := range []func(context.Context) error{
		func(ctx context.Context) error {
			_, err := conn.QueryOneContext(ctx, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT max(i) FROM n")
			return err
		},
		func(ctx context.Context) error {
			_, err := conn.WriteOneContext(ctx, "CREATE TABLE big AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT count(i) FROM n")
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		start := time.Now()
		err := endless(ctx)
		cancel()
		if err == nil || !errors.Is(ctx.Err(), context.DeadlineExceeded) || time.Since(start) > 5*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	}
	// The connections are as good as before.
	write(t, conn, "CREATE TABLE t (a)")
	if got := count(t, conn, "SELECT count(*) FROM sqlite_schema"); got != 1 {
		t.Errorf("%d tables, want 1", got)
	}
}

func TestNode_contextThatHasEndedDoesNothing(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	conn := connect(t, n)
	write(t, conn, "CREATE TABLE t (a)")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := conn.WriteOneContext(ctx, "INSERT INTO t VALUES(1)"); err == nil {
		t.Error("no error")
	}
	if got := count(t, conn, "SELECT count(*) FROM t"); got != 0 {
		t.Errorf("%d rows, want 0", got)
	}
}

func TestNode_namesTheFileThatAnotherProgramWrites(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sessions.db")
	n := embedded.New(file, embedded.Options{})
	t.Cleanup(func() { n.Close() })
	conn := connect(t, n)
	write(t, conn, "CREATE TABLE t (a)")
	other, err := sqlite.Open(file, false, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Exec("BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	var writers sync.WaitGroup
	for range 20 {
		writers.Go(func() {
			if _, err := conn.WriteOne("INSERT INTO t VALUES(1)"); err == nil || !strings.Contains(err.Error(), "another program writes to "+file) {
				t.Errorf("a write beside it: %v", err)
			}
		})
	}
	writers.Wait()
	if took := time.Since(begun); took < time.Second || took > 20*time.Second { // one waits for two, and the others with it
		t.Errorf("together they waited for %s", took)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, conn, "INSERT INTO t VALUES(1)")
}

// Nobody waits for the file to be opened for longer than there is time, not even
// while another program has it locked.
func TestNode_contextEndsTheWaitForTheFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sessions.db")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := sqlite.Open(file, false, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"PRAGMA locking_mode=EXCLUSIVE", "BEGIN EXCLUSIVE"} {
		if err := other.Exec(sql); err != nil {
			t.Fatal(err)
		}
	}
	n := embedded.New(file, embedded.Options{})
	t.Cleanup(func() { n.Close() })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://embedded.invalid/db/query", strings.NewReader(`["SELECT 1"]`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.RoundTrip(req); !errors.Is(err, context.Canceled) {
		t.Errorf("a request that was given up: %v", err)
	}
	if err := n.Open(); err == nil || !strings.Contains(err.Error(), "another program has locked it") {
		t.Errorf("Open: %v", err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.Open(); err != nil {
		t.Errorf("Open after the other has let go: %v", err)
	}
}

func TestNode_synchronousChangesWhileOpen(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	conn := connect(t, n)
	write(t, conn, "CREATE TABLE t (a)")
	for setting, want := range map[string]string{"normal": "1", "full": "2", "": "2"} {
		if err := n.SetSynchronous(setting); err != nil {
			t.Fatal(err)
		}
		if _, body := roundTrip(t, n, "/db/request", `["DELETE FROM t", "PRAGMA synchronous"]`); !strings.Contains(body, `"values":[[`+want+`]]`) {
			t.Errorf("synchronous %q: %s", setting, body)
		}
	}
	if err := n.SetSynchronous("off"); err == nil {
		t.Error("synchronous off is accepted")
	}
}
