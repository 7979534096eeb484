package caddysession_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	caddysession "github.com/caddy-session/caddy-session"
	"github.com/caddy-session/caddy-session/internal/rqlited"
	"github.com/caddy-session/caddy-session/rqlitestore"
)

var moveSessions = flag.Int("move.sessions", 3_000, "how many sessions the export and the import are tested with")

// writeRows makes a file of an export, in the order that an export has.
func writeRows(t testing.TB, file string, n int) {
	t.Helper()
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(out)
	encoder := json.NewEncoder(w)
	expiry := time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
	for i := range n {
		sum := sha256.Sum256([]byte{byte(i), byte(i >> 8), byte(i >> 16), byte(i >> 24)})
		row := rqlitestore.Row{
			Token: fmt.Sprintf("%08d", i) + base64.RawURLEncoding.EncodeToString(sum[:26]), ID: base64.RawURLEncoding.EncodeToString(sum[:16]),
			Data:   fmt.Appendf(nil, `{"deadline":%q,"values":{"__created":1795566461,"n":%d,"user":"user%d"}}`, expiry.Format(time.RFC3339), i, i%1000),
			Expiry: expiry, Version: 1, Writes: hex.EncodeToString(sum[:4]), Principal: fmt.Sprint("user", i%1000),
		}
		if err := encoder.Encode(row); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

func digest(t testing.TB, file string) string {
	t.Helper()
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, in); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// interrupt starts a command and kills it as soon as it has come far enough.
func interrupt(t testing.TB, cmd *exec.Cmd, enough func() bool) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Minute, "it to come far enough", enough)
	if err := cmd.Process.Kill(); err != nil {
		t.Errorf("it ended before it could be killed: %v", err)
	}
	_ = cmd.Wait() // it was killed
}

// moveTo reads a file into a store and writes what is there to another one; each
// is killed in the middle once.
func moveTo(t *testing.T, s *server, store, file string) (exported string) {
	t.Helper()
	n := fmt.Sprintf("%d", *moveSessions)
	caddyBinary(t) // built before the time counts
	begun := time.Now()
	interrupt(t, s.command("import", file, "--store", store), func() bool {
		noted, err := os.ReadFile(file + ".imported")
		return err == nil && bytes.Contains(noted, []byte(`"received"`))
	})
	out, notes, err := s.cli("import", file, "--store", store, "--json")
	if err != nil || !strings.Contains(notes, "going on after") {
		t.Fatalf("importing the rest: %v\n%s%s", err, out, notes)
	}
	var result caddysession.ImportResult
	if err := json.Unmarshal([]byte(out), &result); err != nil || result.Received != int64(*moveSessions) {
		t.Errorf("the import says %q (%v)", out, err)
	}
	if _, err := os.Stat(file + ".imported"); err == nil {
		t.Error("the notes of the import are still there")
	}
	imported := time.Since(begun)
	count := adminInto[caddysession.CountResult](s, http.MethodGet, "/session/count?store="+store)
	if count.Sessions != int64(*moveSessions) {
		t.Fatalf("%s has %d sessions, want %s", store, count.Sessions, n)
	}

	begun = time.Now()
	exported = filepath.Join(t.TempDir(), "exported")
	interrupt(t, s.command("export", exported, "--store", store), func() bool {
		info, err := os.Stat(exported + ".partial")
		return err == nil && info.Size() > 100_000
	})
	partial, err := os.OpenFile(exported+".partial", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = partial.WriteString(`{"token":"torn`)
	if err != nil || partial.Close() != nil {
		t.Fatal(err)
	}
	out, notes, err = s.cli("export", exported, "--store", store)
	if err != nil || !strings.Contains(notes, "going on with") || !strings.Contains(strings.ReplaceAll(notes, ",", ""), n+" rows written") || out != "" {
		t.Fatalf("exporting the rest: %v\n%s%s", err, out, notes)
	}
	t.Logf("%s sessions: import %v, export %v, each killed once", n, imported.Round(time.Millisecond), time.Since(begun).Round(time.Millisecond))
	if info, err := os.Stat(exported); err != nil || info.Mode().Perm() != 0o600 && runtime.GOOS != "windows" { // which has no such modes
		t.Errorf("the export is %v (%v), want it for its owner only", info.Mode(), err)
	}
	return exported
}

func TestCommand_movesSessionsThoughKilled(t *testing.T) {
	s := startWithAdmin(t, adminSite, "STORE", "")
	file := filepath.Join(t.TempDir(), "sessions.ndjson")
	writeRows(t, file, *moveSessions)
	exported := moveTo(t, s, "sessions.db", file)
	if digest(t, exported) != digest(t, file) {
		t.Errorf("what was exported differs from what was imported")
	}
	if _, _, err := s.cli("export", exported); err == nil {
		t.Error("an export overwrites a file")
	}
	if out := s.run("import", file, "--json"); !strings.Contains(out, `"added":0`) {
		t.Errorf("importing it again says %q", out)
	}
}

func TestCommand_movesSessionsToACluster(t *testing.T) {
	cluster := rqlited.Start(t, 3)
	s := startWithAdmin(t, `
$SITE {
	route /a {
		session
	}
	route /b {
		session {
			rqlite $NODES
		}
	}
}`, "NODES", strings.Join(cluster.URLs(), " "))
	from := filepath.Join(t.TempDir(), "sessions.ndjson")
	writeRows(t, from, *moveSessions)
	embedded := moveTo(t, s, "sessions.db", from)
	onCluster := strings.TrimPrefix(cluster.URLs()[0], "http://")
	back := moveTo(t, s, onCluster, embedded)
	if digest(t, back) != digest(t, from) {
		t.Error("what comes from the cluster differs from what was there first")
	}
	out := s.run("stats", "--store", onCluster)
	if !strings.Contains(out, "leader") || strings.Count(out, "closed") != 3 {
		t.Errorf("the nodes are shown as\n%s", out)
	}
}

func TestCommand_pipesFromStoreToStore(t *testing.T) {
	s := startWithAdmin(t, `
$SITE {
	route /login {
		session
		session_edit put user alice
		respond {http.session.id}
	}
	route /elsewhere {
		session {
			embedded $DIR/other.db
		}
		respond "{http.session.data.user}"
	}
}`)
	v := s.visitor()
	v.get("/login")
	v.get("/elsewhere").want(t, http.StatusOK, "")
	from, to := s.command("export", "-", "--store", "sessions.db"), s.command("import", "-", "--store", "other.db")
	pipe, err := from.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	to.Stdin = pipe
	var notes bytes.Buffer
	to.Stderr = &notes
	if err := from.Start(); err != nil {
		t.Fatal(err)
	}
	if err := to.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &notes)
	}
	if err := from.Wait(); err != nil {
		t.Fatal(err)
	}
	if want := "1 row read into other.db: 1 added, 0 were there already or have expired\n"; notes.String() != want {
		t.Errorf("it says %q, want %q", &notes, want)
	}
	eventually(t, "the session to be elsewhere", func() bool { return v.get("/elsewhere").body == "alice" })
}

// adminProxy leads to the admin API.
func (s *server) adminProxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: s.names["ADMIN"]})
		r.Out.Header.Set("Origin", "http://"+s.names["ADMIN"])
	}}
}

// Rows of which nobody knows whether they had been stored when they were sent
// again are not said to have been there before.
func TestCommand_importOwnsUpToLostAnswers(t *testing.T) {
	s := startWithAdmin(t, "$SITE {\nsession\nrespond hi\n}")
	s.visitor().get("/").want(t, http.StatusOK, "hi")
	file := filepath.Join(t.TempDir(), "sessions.ndjson")
	writeRows(t, file, 3)

	admin := s.adminProxy()
	lost := false
	between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && !lost {
			lost = true
			admin.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		admin.ServeHTTP(w, r)
	}))
	defer between.Close()
	through := &server{t: t, names: map[string]string{"ADMIN": between.Listener.Addr().String()}}

	_, notes, err := through.cli("import", file)
	if want := "0 added, 3 were there already, have expired, or were sent twice because the import was interrupted\n"; err != nil || !strings.HasSuffix(notes, want) {
		t.Errorf("it says %q (%v), want %q", notes, err, want)
	}
	if _, notes, err = s.cli("import", file); err != nil || !strings.HasSuffix(notes, "0 added, 3 were there already or have expired\n") {
		t.Errorf("a second import says %q (%v)", notes, err)
	}
}

// An export that was kept for too long, or a clock that is ahead, leaves nothing to
// import: the store does not have those sessions, and nobody is to be told that it does.
func TestCommand_importSaysThatRowsMayHaveExpired(t *testing.T) {
	s := startWithAdmin(t, "$SITE {\nsession\nrespond hi\n}")
	s.visitor().get("/").want(t, http.StatusOK, "hi")
	file := filepath.Join(t.TempDir(), "sessions.ndjson")
	row := `{"token":"old","data":"e30=","id":"old","version":1,"expiry":"2026-01-01T00:00:00Z"}` + "\n"
	if err := os.WriteFile(file, []byte(row), 0o600); err != nil {
		t.Fatal(err)
	}
	_, notes, err := s.cli("import", file)
	if want := "0 added, 1 were there already or have expired\n"; err != nil || !strings.HasSuffix(notes, want) {
		t.Errorf("it says %q (%v), want %q", notes, err, want)
	}
	if list, _, err := s.cli("list"); err != nil || strings.Contains(list, "old") {
		t.Errorf("it lists %q (%v)", list, err)
	}
}

func TestCommand_mixesNoStores(t *testing.T) {
	s := startWithAdmin(t, `
$SITE {
	route /a {
		session {
			embedded $DIR/a.db
		}
		session_edit put user alice
		respond {http.session.id}
	}
	route /b {
		session {
			embedded $DIR/b.db
		}
	}
}`)
	s.visitor().get("/a")
	file := filepath.Join(t.TempDir(), "exported")
	leave := func(suffix, content string) {
		t.Helper()
		if err := os.WriteFile(file+suffix, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	leave(".partial", `{"token":"zzz"}`+"\n")
	leave(".partial.of", "a.db at "+s.names["ADMIN"]+"\n")
	if _, notes, err := s.cli("export", file, "--store", "b.db"); err == nil || !strings.Contains(notes, "is of the store a.db") {
		t.Errorf("an export of b.db goes on with one of a.db: %v %s", err, notes)
	}
	if _, notes, err := s.cli("export", file, "--store", "a.db", "--restart"); err != nil || !strings.Contains(notes, "1 row written") {
		t.Errorf("an export that begins anew: %v %s", err, notes)
	}
	if left, err := filepath.Glob(file + ".*"); err != nil || len(left) > 0 {
		t.Errorf("it leaves %v (%v)", left, err)
	}

	if runtime.GOOS != "windows" {
		s.exportsIntoNothingThatLiesThere(t.TempDir())
	}

	// Notes of an import to a store that has lost it since.
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	noted, err := json.Marshal(map[string]any{
		"address": s.names["ADMIN"], "store": "b.db", "size": info.Size(), "modified": info.ModTime(), "offset": info.Size(), "received": 1, "added": 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	leave(".imported", string(noted))
	if out := s.run("import", file, "--store", "b.db", "--json"); !strings.Contains(out, `"added":1`) {
		t.Errorf("an import to a store that was emptied says %s", out)
	}
	leave(".imported", string(noted))
	if out := s.run("import", file, "--store", "a.db", "--json"); !strings.Contains(out, `"received":1,"added":0`) {
		t.Errorf("an import to another store says %s", out)
	}
}

// An export is a secret: it goes neither through a link to another file nor into
// one that others may read.
func (s *server) exportsIntoNothingThatLiesThere(dir string) {
	s.t.Helper()
	linked, open, other := filepath.Join(dir, "linked"), filepath.Join(dir, "open"), filepath.Join(dir, "other")
	err := errors.Join(os.WriteFile(other, []byte("other"), 0o600), os.Symlink(other, linked+".partial"), os.Symlink(other, linked+".partial.of"),
		os.WriteFile(open+".partial", nil, 0o600), os.Chmod(open+".partial", 0o644))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, file := range []string{linked, open} {
		s.run("export", file, "--store", "a.db", "--restart")
		if info, err := os.Lstat(file); err != nil || info.Mode() != 0o600 {
			s.t.Errorf("the export is %v (%v)", info.Mode(), err)
		}
	}
	if content, err := os.ReadFile(other); err != nil || string(content) != "other" {
		s.t.Errorf("the other file has %q (%v)", content, err)
	}
}

func TestCommand_exportSurvivesTheEndOfCaddy(t *testing.T) {
	d := newDeployment(t, nil)
	p := d.add()
	p.start()
	file := filepath.Join(t.TempDir(), "sessions.ndjson")
	writeRows(t, file, *moveSessions)
	admin := &server{t: t, names: map[string]string{"ADMIN": p.admin}}

	again := func(begun string, args ...string) {
		t.Helper()
		cmd := admin.command(args...)
		var notes bytes.Buffer
		cmd.Stderr = &notes
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		eventually(t, args[0]+" to begin", func() bool {
			_, err := os.Stat(begun)
			return err == nil
		})
		for range 2 {
			p.kill()
			p.start()
		}
		if err := <-ended; err != nil {
			t.Fatalf("%s: %v\n%s", args[0], err, &notes)
		}
	}
	again(file+".imported", "import", file)
	exported := filepath.Join(t.TempDir(), "exported")
	again(exported+".partial", "export", exported)
	if digest(t, exported) != digest(t, file) {
		t.Error("what was exported differs from what was imported")
	}
}

func TestCommand_importRefusesWhatIsNoExport(t *testing.T) {
	s := startWithAdmin(t, adminSite, "STORE", "")
	file := filepath.Join(t.TempDir(), "sessions.ndjson")
	writeRows(t, file, 3)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"text":        "hunter2\n",
		"a torn line": string(good) + `{"token":"hunter2`,
		"other JSON":  `{"password":"hunter2"}` + "\n",
		"an array":    `["hunter2"]` + "\n",
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, notes, err := s.cli("import", file)
		if err == nil || !strings.Contains(notes, "this is no row of an export") || strings.Contains(notes, "hunter2") {
			t.Errorf("%s: %v %s", name, err, notes)
		}
	}
	if strings.Contains(s.readLog(), "hunter2") {
		t.Error("the log has what was in the file")
	}
	wide := []byte{0xff, 0xfe} // what > of Windows PowerShell makes of an export
	for _, c := range good {
		wide = append(wide, c, 0)
	}
	for name, content := range map[string][]byte{"UTF-16": wide, "UTF-8": append([]byte("\ufeff"), good...)} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, notes, err := s.cli("import", file); err == nil || !strings.Contains(notes, "byte order mark") {
			t.Errorf("%s: %v %s", name, err, notes)
		}
	}
	writeRows(t, file, 3000)
	long, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := long.WriteString("hunter2\n"); err != nil || long.Close() != nil {
		t.Fatal(err)
	}
	_, notes, err := s.cli("import", file)
	want := "after 2,048 rows, which stay, and counted from there: line 953: this is no row of an export (rows stored before it: 512)"
	if err == nil || !strings.Contains(notes, want) {
		t.Errorf("a broken line behind many: %v %s, want %s", err, notes, want)
	}
	if n := adminInto[caddysession.CountResult](s, http.MethodGet, "/session/count").Sessions; n != 2048+512 {
		t.Errorf("there are %d sessions", n)
	}
	if err := os.WriteFile(file, append(append([]byte("\n"), good...), '\n', '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := s.run("import", file, "--json"); !strings.Contains(out, `"received":3`) {
		t.Errorf("with empty lines the answer is %q", out)
	}
}

// An answer about a broken line in the first chunk does not say that nothing was stored.
func TestCommand_importSaysWhatStays(t *testing.T) {
	s := startWithAdmin(t, adminSite, "STORE", "")
	file := filepath.Join(t.TempDir(), "sessions.ndjson")
	writeRows(t, file, 1200)
	broken, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(broken, `{"token":"to`...), 0o600); err != nil {
		t.Fatal(err)
	}
	_, notes, err := s.cli("import", file)
	stored := adminInto[caddysession.CountResult](s, http.MethodGet, "/session/count").Sessions
	want := fmt.Sprintf("line 1201: this is no row of an export (rows stored before it: %d)", stored)
	if err == nil || stored == 0 || !strings.Contains(notes, want) || strings.Contains(notes, "after 0") {
		t.Errorf("%d rows were stored, and it says %q (%v), want %q", stored, notes, err, want)
	}
}

// A backup may lie where nothing can be written.
func TestCommand_importWithoutNotes(t *testing.T) {
	s := startWithAdmin(t, adminSite, "STORE", "")
	file := filepath.Join(t.TempDir(), "sessions.ndjson")
	writeRows(t, file, 3)
	if err := os.MkdirAll(file+".imported.new/in the way", 0o700); err != nil {
		t.Fatal(err)
	}
	_, notes, err := s.cli("import", file)
	if err != nil || !strings.Contains(notes, "one that is interrupted begins anew") || !strings.Contains(notes, "3 added") {
		t.Errorf("it says %q (%v)", notes, err)
	}
}

// A full disk is no reason to ask Caddy again and again.
func TestCommand_exportGivesUpOnAFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	s := startWithAdmin(t, adminSite, "STORE", "")
	s.signIn("alice")
	admin, asked := s.adminProxy(), 0
	between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/session/export" {
			asked++
		}
		admin.ServeHTTP(w, r)
	}))
	defer between.Close()

	cmd := (&server{t: t, names: map[string]string{"ADMIN": between.Listener.Addr().String()}}).command("export", "-")
	var notes bytes.Buffer
	cmd.Stdout, cmd.Stderr = full, &notes
	if err := cmd.Run(); err == nil || !strings.Contains(notes.String(), "no space left") || asked != 1 {
		t.Errorf("it asked %d times, and says %q (%v)", asked, &notes, err)
	}
}

// A line of progress is drawn over the one before, so it must not be broken.
func TestCommand_progressFitsTheTerminal(t *testing.T) {
	script, err := exec.LookPath("script")
	if err != nil || runtime.GOOS != "linux" {
		t.Skip("there is nothing to make a terminal with")
	}
	s := startWithAdmin(t, adminSite, "STORE", "")
	file := filepath.Join(t.TempDir(), "sessions.ndjson")
	writeRows(t, file, 3000)
	args := s.command("import", file).Args
	out, err := exec.Command(script, "-qec", "stty cols 50; '"+strings.Join(args, "' '")+"'", "/dev/null").Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	drawn := strings.Split(string(out), "\r\x1b[K")
	if len(drawn) < 3 || !strings.HasPrefix(drawn[1], "importing ") {
		t.Fatalf("it draws %q", out)
	}
	for _, line := range drawn[1 : len(drawn)-1] {
		if len(line) >= 50 {
			t.Errorf("%q does not fit", line)
		}
	}
}
