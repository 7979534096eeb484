package caddysession_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A login that was acknowledged after the directory of the file was removed under
// the running Caddy survives a crash, as any other.
func TestReplaced_aLoginIsInTheFileThatIsThere(t *testing.T) {
	d := newDeployment(t, nil)
	p := d.add()
	p.start()
	lost, _ := d.login(t)
	if err := os.RemoveAll(filepath.Dir(p.file())); err != nil {
		t.Skipf("the system keeps what is open: %v", err)
	}
	cookie, id := d.login(t)
	eventually(t, "a session that was removed to be gone", func() bool { // reads are cached for a second
		return !strings.Contains(p.get("/show", lost).want(t, http.StatusOK).body, "alice")
	})
	if n := strings.Count(readFile(t, p.logFile), "the session file was removed or replaced"); n != 1 {
		t.Errorf("that the file is gone is logged %d times", n)
	}
	p.kill()
	p.start()
	if a := p.get("/show", cookie).want(t, http.StatusOK); !strings.HasPrefix(a.body, id+" alice") {
		t.Errorf("after a crash the session is %q", a.body)
	}
}

// What was read from the file before is nobody's session any more, however long
// reads may be answered from memory.
func TestReplaced_readsFromMemoryAreForgotten(t *testing.T) {
	s := start(t, "$SITE {\nsession {\ncache 5m\n}\nsession_edit /put put user alice\nrespond {http.session.data.user}\n}")
	v := s.visitor()
	v.get("/put")
	if a := v.get("/"); a.body != "alice" {
		t.Fatalf("got %q", a.body)
	}
	if err := os.RemoveAll(filepath.Dir(s.file())); err != nil {
		t.Skipf("the system keeps what is open: %v", err)
	}
	s.visitor().get("/put") // a write looks at once
	if a := v.get("/"); a.body != "" {
		t.Errorf("a session that was removed is still %q", a.body)
	}
}

// Nor does a request that found its session gone leave it to the next one.
func TestReplaced_whatIsGoneIsForgotten(t *testing.T) {
	s := start(t, "$SITE {\nsession {\ncache 5m\n}\nsession_edit /put put user alice\nsession_edit /count increment n\nrespond {http.session.data.user}\n}")
	v := s.visitor()
	v.get("/put")
	v.get("/").want(t, http.StatusOK, "alice")
	s.alter("DELETE FROM sessions")
	v.get("/count")
	v.get("/").want(t, http.StatusOK, "")
}

// A request that had read its session before a backup took the place of the file
// makes its change on what is in the backup.
func TestReplaced_changesGoOnWhereTheBackupIs(t *testing.T) {
	s := start(t, "$SITE {\nsession {\ncache 5m\n}\nsession_edit increment n\nrespond {http.session.data.n}\n}")
	v := s.visitor()
	v.get("/").want(t, http.StatusOK, "1")
	backup := filepath.Join(filepath.Dir(s.file()), "backup.db")
	s.alter("VACUUM INTO ?", backup)
	v.get("/").want(t, http.StatusOK, "2")
	v.get("/").want(t, http.StatusOK, "3")
	if err := os.Rename(backup, s.file()); err != nil {
		t.Skipf("the system keeps what is open: %v", err)
	}
	v.get("/").want(t, http.StatusOK, "4") // by what it had read
	v.get("/").want(t, http.StatusOK, "3")
}

func readFile(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
