package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func open(t *testing.T) *Conn {
	t.Helper()
	return openFile(t, emptyFile(t), false)
}

func emptyFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "a?b%20c.db") // would be something else in a URI
	if runtime.GOOS == "windows" {
		file = filepath.Join(t.TempDir(), "a%20c.db")
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func openFile(t *testing.T, file string, readOnly bool) *Conn {
	t.Helper()
	c, err := Open(file, readOnly, 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func mustExec(t *testing.T, c *Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if err := c.Exec(sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

func TestOpen_fileMustExist(t *testing.T) {
	t.Parallel()
	_, err := Open(filepath.Join(t.TempDir(), "none"), false, 0)
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(err.Error(), "unable to open database file") {
		t.Errorf("got %v", err)
	}
}

func TestPrepare_takesScriptsApart(t *testing.T) {
	t.Parallel()
	c := open(t)
	for sql, want := range map[string]string{
		"SELECT 1":              "",
		"SELECT 1;":             "",
		"SELECT 1 ; SELECT 2":   "SELECT 2",
		"SELECT 1; -- end":      "-- end",
		"SELECT 1;\x00 SELECT":  "",
		"SELECT 'é'; SELECT 22": "SELECT 22",
	} {
		s, rest, err := c.Prepare(sql)
		if err != nil || rest != want {
			t.Errorf("%q leaves %q, %v; want %q", sql, rest, err, want)
			continue
		}
		s.Close()
	}
	for _, sql := range []string{"", " ", "-- nothing", "/* nothing */"} {
		if s, rest, err := c.Prepare(sql); s != nil || rest != "" || err != nil {
			t.Errorf("%q: %v %q %v", sql, s, rest, err)
		}
	}
	if _, _, err := c.Prepare("nonsense"); err == nil || err.Error() != `near "nonsense": syntax error` {
		t.Errorf("got %v", err)
	}
}

func TestPrepare_keepsStatementsWithinBounds(t *testing.T) {
	t.Parallel()
	c := open(t)
	first, _, err := c.Prepare("SELECT 1")
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	if again, _, _ := c.Prepare("SELECT 1"); again != first {
		t.Error("the statement was not kept")
	} else {
		again.Close()
	}
	for i := range 3 * maxStatements {
		got, err := c.Int(fmt.Sprintf("SELECT %d", i))
		if err != nil || got != int64(i) {
			t.Fatalf("SELECT %d: %d, %v", i, got, err)
		}
	}
	if n := len(c.cache.byText); n != maxStatements || c.cache.order.Len() != n {
		t.Errorf("%d statements are kept, want %d", n, maxStatements)
	}
	if _, err := c.Int("SELECT 7 -- " + strings.Repeat("x", maxKeptText)); err != nil {
		t.Error(err)
	}
	if c.cache.get("SELECT 7 -- "+strings.Repeat("x", maxKeptText)) != nil {
		t.Error("a text of any length is kept")
	}
}

func TestStmt_bindsEveryTypeAndForgetsIt(t *testing.T) {
	t.Parallel()
	c := open(t)
	const sql = "SELECT ?, ?, ?, ?, ?"
	for range 3 {
		s, _, err := c.Prepare(sql)
		if err != nil {
			t.Fatal(err)
		}
		err = errors.Join(s.BindInt64(1, -1<<63), s.BindFloat(2, 1.5), s.BindText(3, "a\x00é"), s.BindBlob(4, ""), s.BindNull(5))
		if err != nil {
			t.Fatal(err)
		}
		if row, err := s.Step(); !row || err != nil {
			t.Fatalf("step: %v %v", row, err)
		}
		for i, want := range []Type{Integer, Float, Text, Blob, Null} {
			if got := s.Type(i); got != want {
				t.Errorf("column %d has type %d, want %d", i, got, want)
			}
		}
		if s.Int64(0) != -1<<63 || s.Float(1) != 1.5 || string(s.Text(2)) != "a\x00é" || len(s.Blob(3)) != 0 {
			t.Errorf("got %d %v %q %q", s.Int64(0), s.Float(1), s.Text(2), s.Blob(3))
		}
		s.Close()
		if len(s.memory) != 0 {
			t.Error("memory was not freed")
		}
	}
	s, _, err := c.Prepare(sql)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.BindInt64(6, 1); err == nil {
		t.Error("bound a parameter that is not there")
	}
}

func TestStmt_seesAChangedSchema(t *testing.T) {
	t.Parallel()
	file := emptyFile(t)
	c := openFile(t, file, false)
	mustExec(t, c, "PRAGMA journal_mode=WAL", "CREATE TABLE t (a INTEGER)")
	reader := openFile(t, file, true)
	columns := func() string {
		s, _, err := reader.Prepare("SELECT * FROM t")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, err := s.Step(); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(s.Columns())
	}
	if got := columns(); got != "[{a integer}]" {
		t.Errorf("got %s", got)
	}
	mustExec(t, c, "ALTER TABLE t ADD COLUMN b BLOB")
	if got := columns(); got != "[{a integer} {b blob}]" {
		t.Errorf("got %s", got)
	}
}

func TestConn_readOnlyRefusesWrites(t *testing.T) {
	t.Parallel()
	file := emptyFile(t)
	c := openFile(t, file, false)
	mustExec(t, c, "PRAGMA journal_mode=WAL", "CREATE TABLE t (a)")
	if err := openFile(t, file, true).Exec("INSERT INTO t VALUES(1)"); !ReadOnly(err) {
		t.Errorf("got %v", err)
	}
}

func TestConn_busyAndNotADatabase(t *testing.T) {
	t.Parallel()
	file := emptyFile(t)
	c := openFile(t, file, false)
	mustExec(t, c, "CREATE TABLE t (a)", "BEGIN EXCLUSIVE")
	if err := openFile(t, file, false).Exec("INSERT INTO t VALUES(1)"); !Busy(err) {
		t.Errorf("got %v", err)
	}
	if !c.InTransaction() {
		t.Error("there is a transaction")
	}
	mustExec(t, c, "ROLLBACK")

	other := emptyFile(t)
	if err := os.WriteFile(other, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openFile(t, other, false).Int("SELECT count(*) FROM sqlite_schema"); !NotADatabase(err) {
		t.Errorf("got %v", err)
	}
}

func TestConn_interruptEndsAStatement(t *testing.T) {
	t.Parallel()
	c := open(t)
	done := make(chan error)
	go func() {
		_, err := c.Int("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT max(i) FROM n")
		done <- err
	}()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if !Interrupted(err) {
				t.Errorf("got %v", err)
			}
			if n, err := c.Int("SELECT 1"); n != 1 || err != nil {
				t.Errorf("the next statement: %d %v", n, err)
			}
			return
		case <-tick.C:
			c.Interrupt()
		}
	}
}

func TestConn_closeTwice(t *testing.T) {
	t.Parallel()
	c := open(t)
	mustExec(t, c, "CREATE TABLE t (a)")
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	c.Interrupt()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
