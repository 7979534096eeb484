package caddysession_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	caddysession "github.com/caddy-session/caddy-session"
)

// cli runs `caddy session` as a user does, against the Caddy of the test.
func (s *server) cli(args ...string) (stdout, stderr string, err error) {
	s.t.Helper()
	cmd := s.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

func (s *server) command(args ...string) *exec.Cmd {
	s.t.Helper()
	cmd := exec.Command(caddyBinary(s.t), append([]string{"session", "--address", s.names["ADMIN"]}, args...)...)
	cmd.Env = append(cmd.Environ(), "TZ=UTC")
	cmd.SysProcAttr = dieWithParent()
	return cmd
}

// run is cli for what succeeds.
func (s *server) run(args ...string) (stdout string) {
	s.t.Helper()
	out, errs, err := s.cli(args...)
	if err != nil {
		s.t.Fatalf("caddy session %s: %v\n%s%s", strings.Join(args, " "), err, out, errs)
	}
	return out
}

// What differs from run to run.
var (
	aTime = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`)
	aSize = regexp.MustCompile(`(19|20)\d B`) // times have a varying number of digits
	anID  = regexp.MustCompile(`[A-Za-z0-9_-]{22}`)
	aWait = regexp.MustCompile(`STATE +|ok, [0-9.]+[mµ]?s +`)
)

func steady(text string) string {
	text = aTime.ReplaceAllString(text, "2026-01-02 15:04:05")
	text = aWait.ReplaceAllStringFunc(text, func(found string) string {
		word, _, _ := strings.Cut(found, " ")
		return map[string]string{"STATE": "STATE    ", "ok,": "ok, 1ms  "}[word]
	})
	text = aSize.ReplaceAllString(text, "200 B")
	return anID.ReplaceAllString(text, "AAAAAAAAAAAAAAAAAAAAAA")
}

func (s *server) wantRun(want string, args ...string) {
	s.t.Helper()
	want = strings.TrimPrefix(want, "\n")
	if got := steady(s.run(args...)); got != want {
		s.t.Errorf("caddy session %s writes\n%swant\n%s", strings.Join(args, " "), got, want)
	}
}

func TestCommand_asAUserSeesIt(t *testing.T) {
	s := startWithAdmin(t, adminSite, "STORE", "")
	_, id := s.signIn("alice")
	s.signIn("alice")
	name := "\x1b[31mred\u009b5m\U000e0001" + strings.Repeat("x", 50)
	evil, evils := s.signIn(name)

	s.wantRun(`
STORE        KIND      TABLE     STATE    SESSIONS  KEYS
sessions.db  embedded  sessions  ok, 1ms  3         none 3
`, "stats", "--store", s.file()) // the whole name does, too
	s.wantRun(`
ID                      PRINCIPAL  CREATED              USED  EXPIRES              ADDRESS  SIZE
AAAAAAAAAAAAAAAAAAAAAA  alice      2026-01-02 15:04:05  -     2026-01-02 15:04:05  -        200 B
AAAAAAAAAAAAAAAAAAAAAA  alice      2026-01-02 15:04:05  -     2026-01-02 15:04:05  -        200 B
`, "list", "--principal", "alice")
	s.wantRun(`
id             AAAAAAAAAAAAAAAAAAAAAA
principal      alice
audience       127.0.0.1
created        2026-01-02 15:04:05
used           -
address        -
user agent     -
expires        2026-01-02 15:04:05
at the latest  2026-01-02 15:04:05
remembered     false
size           200 B
saves          1
values
{
  "account": {
    "name": "alice"
  },
  "cart": "book"
}
`, "show", id, "--values")
	if out := s.run("show", id); strings.Contains(out, "book") {
		t.Errorf("values are shown to somebody who did not ask:\n%s", out)
	}
	for _, args := range [][]string{{"list"}, {"list", "--json"}, {"show", evils, "--values"}, {"show", evils, "--values", "--json"}, {"export", "-"}} {
		if out := s.run(args...); strings.ContainsAny(out, "\x1b\u009b\U000e0001") || !strings.Contains(out, "red") {
			t.Errorf("%v lets control characters through: %q", args, out)
		}
	}
	var one caddysession.SessionStatus
	if err := json.Unmarshal([]byte(s.run("show", evils, "--json")), &one); err != nil || one.Principal != name {
		t.Errorf("the principal is %q, want %q: %v", one.Principal, name, err)
	}
	evil.get("/remember")

	one = caddysession.SessionStatus{}
	lines := strings.Split(strings.TrimSpace(s.run("list", "--json")), "\n")
	if len(lines) != 3 {
		t.Fatalf("list --json writes %d lines", len(lines))
	}
	if err := json.Unmarshal([]byte(lines[0]), &one); err != nil || one.ID == "" {
		t.Errorf("list --json writes %q", lines[0])
	}
	if out, notes, err := s.cli("list", "--limit", "2"); err != nil || strings.Count(out, "\n") != 3 || !strings.Contains(notes, "--limit 0") {
		t.Errorf("list --limit 2 writes %v\n%s%s", err, out, notes)
	}
	for _, limit := range []string{"3", "0"} {
		if out, notes, err := s.cli("list", "--limit", limit); err != nil || strings.Count(out, "\n") != 4 || notes != "" {
			t.Errorf("list --limit %s writes %v\n%s%s", limit, err, out, notes)
		}
	}

	if out, notes, err := s.cli("revoke", "none", id); err == nil || out != "1 session ended in sessions.db\n" || !strings.Contains(notes, "none: there is no session") || strings.Contains(notes, id) {
		t.Errorf("revoke of one that is gone and one that is there: %v, writes %q and %q", err, out, notes)
	}
	s.wantRun("1 session ended in sessions.db\n", "revoke", "--principal", "alice")
	s.wantRun("0 sessions ended in sessions.db\n", "revoke", "--principal", "alice")
	s.wantRun(`{"store":"sessions.db","revoked":1}`+"\n", "revoke", "--all", "--yes", "--json")
	s.wantRun("0 expired rows removed from sessions.db\n", "purge")
	s.table().wantRows(0)

	first, second := strings.TrimSpace(s.run("keygen")), strings.TrimSpace(s.run("keygen"))
	if raw, err := base64.RawURLEncoding.DecodeString(first); err != nil || len(raw) != 32 || first == second {
		t.Errorf("keygen writes %q and %q (%v)", first, second, err)
	}
}

func TestCommand_purgeSaysHowManyRows(t *testing.T) {
	s := startWithAdmin(t, strings.Replace(adminSite, "$STORE", "lifetime 100ms\n\t\tcleanup_interval 0", 1))
	expire := func(sessions int) {
		t.Helper()
		for range sessions {
			s.signIn("alice")
		}
		eventually(t, "the sessions to expire", func() bool {
			return adminInto[caddysession.CountResult](s, http.MethodGet, "/session/count").Sessions == 0
		})
		s.table().wantRows(sessions)
	}
	expire(2)
	s.wantRun("2 expired rows removed from sessions.db\n", "purge")
	expire(1)
	s.wantRun("1 expired row removed from sessions.db\n", "purge")
	expire(3)
	s.wantRun(`{"store":"sessions.db","purged":3}`+"\n", "purge", "--json")
	s.wantRun(`{"store":"sessions.db","purged":0}`+"\n", "purge", "--json")
	s.table().wantRows(0)
}

func TestCommand_saysWhatIsWrong(t *testing.T) {
	s := startWithAdmin(t, adminSite, "STORE", "")
	s.signIn("alice")
	for _, test := range []struct{ args, want string }{
		{"show -none", "goes behind --"},
		{"show -- -none", "there is no session with this id"},
		{"show none", "there is no session with this id"},
		{"show", "show takes the id of one session; see caddy session show --help"},
		{"list alice", "list takes no arguments: --principal <name> names a user"},
		{"export", "export takes one file, or - for the standard output"},
		{"export " + s.log, "is there already: remove it, or name another file"},
		{"revoke none", "none: there is no session with this id"},
		{"revoke", "say which sessions are to end"},
		{"revoke x --all", "say which sessions are to end"},
		{"revoke --all", "say --yes"},
		{"list --limit -1", "not -1"},
		{"list --store other", `no store is called \"other\": there is sessions.db`},
		{"stats --store other", `no store is called \"other\": there is sessions.db`},
		{"stats --watch -1s", "not -1s"},
		{"list --address 127.0.0.1:1", "is Caddy running? With `admin off` it has none"},
		{"list --address " + strings.TrimPrefix(s.names["SITE"], "http://"), "is not of Caddy's admin API"},
		{"import " + s.names["DIR"] + "/none", "/none: "}, // and then what the system says of such a file
		{"sessions", "unknown command"},
	} {
		out, notes, err := s.cli(strings.Fields(test.args)...)
		if err == nil || !strings.Contains(notes, test.want) || out != "" {
			t.Errorf("caddy session %s: %v, writes %q and %q, want %q", test.args, err, out, notes, test.want)
		}
	}
	if _, notes, _ := s.cli("stats", "--none"); strings.Contains(notes, "an id that") {
		t.Errorf("stats knows no ids: %s", notes)
	}
	s.table().wantRows(1)
}

func TestCommand_withoutThePlugin(t *testing.T) {
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	s := &server{t: t, names: map[string]string{"ADMIN": strings.TrimPrefix(other.URL, "http://")}}
	if _, notes, err := s.cli("list"); err == nil || !strings.Contains(notes, "built without this plugin") {
		t.Errorf("%v %s", err, notes)
	}
}

// A Caddy that hangs is one that nobody waits for; one that has much to do is.
func TestCommand_whatDoesNotAnswer(t *testing.T) {
	caddyBinary(t)
	command := func(address string, args ...string) (stdout, stderr string, err error) {
		return (&server{t: t, names: map[string]string{"ADMIN": address}}).cli(args...)
	}
	t.Run("hangs", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes the connections
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if _, notes, err := command(l.Addr().String(), "list"); err == nil || !strings.Contains(notes, "says nothing") {
			t.Errorf("%v %s", err, notes)
		}
	})
	t.Run("has much to do", func(t *testing.T) {
		t.Parallel()
		asked := make(chan struct{})
		noteAsked := sync.OnceFunc(func() { close(asked) })
		busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/session/":
				noteAsked()
				http.NotFound(w, r)
			case "/session/purge":
				select {
				case <-asked:
					_, _ = io.WriteString(w, `{"store":"sessions.db","purged":3}`)
				case <-r.Context().Done():
				}
			}
		}))
		defer busy.Close()
		if out, notes, err := command(strings.TrimPrefix(busy.URL, "http://"), "purge"); err != nil || !strings.Contains(out, "3 expired rows removed") {
			t.Errorf("%v %s %s", err, out, notes)
		}
	})
}

func TestCommand_watches(t *testing.T) {
	s := startWithAdmin(t, adminSite, "STORE", "")
	s.signIn("alice")
	signing, signed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(signed)
		for v := s.visitor(); ; {
			select {
			case <-signing:
				return
			default:
				_, _ = v.withoutJar().try(http.MethodGet, "/login?user=bob")
			}
		}
	}()
	defer func() {
		close(signing)
		<-signed
	}()
	if out := s.watched("created "); !strings.Contains(out, "PER SECOND") {
		t.Errorf("it ended after\n%s", out)
	}
}

// watched is what stats --watch writes until it has looked three times and
// written a text.
func (s *server) watched(until string) string {
	s.t.Helper()
	cmd := s.command("stats", "--watch", "50ms")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}()
	seen := make(chan string, 1)
	go func() {
		var all []byte
		buf := make([]byte, 4096)
		for strings.Count(string(all), " KIND ") < 3 || !strings.Contains(string(all), until) {
			n, err := out.Read(buf)
			if all = append(all, buf[:n]...); err != nil {
				break
			}
		}
		seen <- string(all)
	}()
	select {
	case text := <-seen:
		return text
	case <-time.After(20 * time.Second):
		s.t.Fatal("it is not shown again")
	}
	return ""
}
