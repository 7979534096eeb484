package caddysession_test

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

const quickstartConfig = "CADDY_SESSION_QUICKSTART"

// TestQuickstart_process is no test of its own: it is Caddy, in the process that
// TestQuickstart starts and kills.
func TestQuickstart_process(t *testing.T) {
	config := os.Getenv(quickstartConfig)
	if config == "" {
		return
	}
	os.Args = []string{"caddy", "run", "--config", config}
	caddycmd.Main()
}

func TestQuickstart_countsOnAfterACrash(t *testing.T) {
	text, err := os.ReadFile("examples/quickstart/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	site, app := freeAddress(t), freeAddress(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "Caddyfile")
	adapted := strings.NewReplacer("localhost:8080", localhost(site), "localhost:8081", localhost(app)).Replace(string(text))
	if err := os.WriteFile(config, []byte(adapted), 0o600); err != nil {
		t.Fatal(err)
	}
	v := (&server{t: t, names: map[string]string{"SITE": "http://" + localhost(site)}}).visitor()
	run := func() (kill func()) {
		cmd := exec.Command(os.Args[0], "-test.run=^TestQuickstart_process$")
		cmd.Env = append(os.Environ(), quickstartConfig+"="+config, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir, "CADDY_ADMIN="+freeAddress(t))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill = func() {
			_ = cmd.Process.Kill() // as a crash does; it may be gone already
			_ = cmd.Wait()
		}
		t.Cleanup(kill)
		eventually(t, "Caddy to answer", func() bool {
			a, err := v.try(http.MethodGet, "/favicon.ico")
			return err == nil && a.StatusCode == http.StatusOK
		})
		return kill
	}

	kill := run()
	if a := v.get("/"); !strings.Contains(a.body, "You have no session") || a.Header["Set-Cookie"] != nil {
		t.Fatalf("a first visit: %v %s", a.Header, a.body)
	}
	if _, err := os.Stat(filepath.Join(dir, "caddy", "sessions.db")); err != nil {
		t.Errorf("the sessions are not where the docs say: %v", err)
	}
	a := v.do(http.MethodPost, "/login?user=Al<i>ce")
	if a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != "/" {
		t.Fatalf("a login: %d %v", a.StatusCode, a.Header)
	}
	a.cookie(t)
	visit := func(n string) {
		t.Helper()
		a := v.get("/")
		if count := visits.FindStringSubmatch(a.body); count == nil || count[1] != n || !strings.Contains(a.body, "Hello, Al&lt;i&gt;ce") {
			t.Fatalf("visit %s: %v in %s", n, count, a.body)
		}
		if strings.Contains(a.body, "session=") {
			t.Errorf("the application sees the cookie: %s", a.body)
		}
	}
	visit("1")
	visit("2")
	kill()
	kill = run()
	visit("3")
	kill()
	run()
	visit("4")
	if a := v.do(http.MethodPost, "/logout"); a.StatusCode != http.StatusSeeOther || a.cookie(t).MaxAge >= 0 {
		t.Errorf("a logout: %d %v", a.StatusCode, a.Header)
	}
	if a := v.get("/"); !strings.Contains(a.body, "You have no session") {
		t.Errorf("after the logout: %s", a.body)
	}
	openTable(t, filepath.Join(dir, "caddy", "sessions.db")).wantRows(0)
}

var visits = regexp.MustCompile(`<b id="visits">(\d+)</b>`)

// localhost is an address as a browser's user writes it.
func localhost(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return "localhost:" + port
}
