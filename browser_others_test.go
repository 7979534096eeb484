package caddysession_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// surfer is a browser that shows a page.
type surfer interface {
	visit(address string)
	eval(script string) string
	click(selector string)
	back()
	want(selector, text string)
}

// inBrowsers runs a test in each browser that is installed.
func inBrowsers(t *testing.T, run func(t *testing.T, b surfer)) {
	for _, b := range []struct {
		name  string
		start func(t *testing.T) surfer
	}{
		{"Chromium", func(t *testing.T) surfer { return &tab{t, startBrowser(t), ""} }},
		{"Firefox", startFirefox},
		{"WebKit", startWebKit},
	} {
		t.Run(b.name, func(t *testing.T) { run(t, b.start(t)) })
	}
}

// driver is a browser that takes WebDriver's commands.
type driver struct {
	t   *testing.T
	ask func(c command, params any) (answer json.RawMessage, err error)
}

// command has its address in WebDriver and its name in Marionette, by which Firefox
// takes the same without a program between.
type command struct{ path, name string }

var (
	beginSession = command{"/session", "WebDriver:NewSession"}
	navigate     = command{"/url", "WebDriver:Navigate"}
	goBack       = command{"/back", "WebDriver:Back"}
	execute      = command{"/execute/sync", "WebDriver:ExecuteScript"}
)

func (d *driver) must(c command, params any) {
	d.t.Helper()
	if _, err := d.ask(c, params); err != nil {
		d.t.Fatalf("%s: %v", c.name, err)
	}
}

func (d *driver) visit(address string) {
	d.t.Helper()
	d.must(navigate, map[string]any{"url": address})
}

func (d *driver) back() {
	d.t.Helper()
	d.must(goBack, struct{}{})
}

func (d *driver) try(script string) (string, error) {
	answer, err := d.ask(execute, map[string]any{"script": "return `${" + script + "}`", "args": []any{}})
	if err != nil {
		return "", err
	}
	var text struct{ Value string }
	err = json.Unmarshal(answer, &text)
	return text.Value, err
}

func (d *driver) eval(script string) string {
	d.t.Helper()
	text, err := d.try(script)
	if err != nil {
		d.t.Fatalf("%s: %v", script, err)
	}
	return text
}

// click presses a button or a link and waits for the page that it leads to.
func (d *driver) click(selector string) {
	d.t.Helper()
	d.eval("window.left = 'here', document.querySelector('" + selector + "').click()")
	eventually(d.t, "a page after "+selector, func() bool {
		// On the way to another site there may be a blank page.
		state, err := d.try("window.left ?? (location.protocol == 'about:' ? 'between' : document.readyState)")
		return err == nil && state == "complete"
	})
}

func (d *driver) want(selector, text string) {
	d.t.Helper()
	if got := d.eval(textOf(selector)); got != text {
		d.t.Fatalf("%s is %q, want %q", selector, got, text)
	}
}

// startFirefox starts a Firefox of its own.
func startFirefox(t *testing.T) surfer {
	t.Helper()
	program := installed(t, "firefox-esr")
	dir := browserDir(t)
	settings := `
user_pref("marionette.port", 0);
user_pref("remote.prefs.recommended", true); // those for tests: it asks nobody for updates
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("browser.newtabpage.enabled", false);
`
	if err := os.WriteFile(filepath.Join(dir, "user.js"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	runBrowser(t, dir, exec.Command(program, "--headless", "--marionette", "--no-remote", "--profile", dir))
	var conn net.Conn
	eventually(t, "Firefox to listen", func() bool {
		port, err := os.ReadFile(filepath.Join(dir, "MarionetteActivePort"))
		if err == nil {
			conn, err = net.Dial("tcp", "127.0.0.1:"+strings.TrimSpace(string(port)))
		}
		return err == nil
	})
	t.Cleanup(func() { conn.Close() })
	m := &marionette{conn: conn, in: bufio.NewReader(conn)}
	if _, err := m.read(); err != nil { // says who it is
		t.Fatal(err)
	}
	d := &driver{t, m.ask}
	d.must(beginSession, map[string]any{"acceptInsecureCerts": true})
	return d
}

// marionette is Firefox's own protocol: JSON with its length before it.
type marionette struct {
	conn  net.Conn
	in    *bufio.Reader
	asked int
}

func (m *marionette) ask(c command, params any) (json.RawMessage, error) {
	m.asked++
	question, err := json.Marshal([]any{0, m.asked, c.name, params})
	if err != nil {
		return nil, err
	}
	_ = m.conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(m.conn, "%d:%s", len(question), question); err != nil {
		return nil, err
	}
	message, err := m.read()
	if err != nil {
		return nil, err
	}
	var answer []json.RawMessage // 1, number, error, result
	if err := json.Unmarshal(message, &answer); err != nil || len(answer) != 4 {
		return nil, fmt.Errorf("not an answer: %s", message)
	}
	if failed := string(answer[2]); failed != "null" {
		return nil, fmt.Errorf("%s", failed)
	}
	return answer[3], nil
}

func (m *marionette) read() ([]byte, error) {
	var n int
	if _, err := fmt.Fscanf(m.in, "%d:", &n); err != nil {
		return nil, err
	}
	message := make([]byte, n)
	_, err := io.ReadFull(m.in, message)
	return message, err
}

// startWebKit starts WebKit's own little browser, on a screen that nobody sees.
func startWebKit(t *testing.T) surfer {
	t.Helper()
	program := installed(t, "WebKitWebDriver")
	found, _ := filepath.Glob("/usr/lib/*/webkit2gtk-4.*/MiniBrowser")
	if len(found) == 0 {
		t.Skip("WebKit's MiniBrowser is not installed")
	}
	dir := browserDir(t)
	screen := exec.Command(installed(t, "Xvfb"), "-displayfd", "1", "-nolisten", "tcp")
	said, err := screen.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	runBrowser(t, dir, screen)
	display, err := bufio.NewReader(said).ReadString('\n')
	if err != nil {
		t.Fatalf("Xvfb says no display: %v", err)
	}
	_, port, _ := net.SplitHostPort(freeAddress(t))
	cmd := exec.Command(program, "--port="+port)
	cmd.Env = append(os.Environ(), "DISPLAY=:"+strings.TrimSpace(display))
	runBrowser(t, dir, cmd)
	base := "http://127.0.0.1:" + port
	eventually(t, "WebKitWebDriver to answer", func() bool {
		_, err := webdriver(http.MethodGet, base+"/status", nil)
		return err == nil
	})
	answer, err := webdriver(http.MethodPost, base+beginSession.path, map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"acceptInsecureCerts": true, "webkitgtk:browserOptions": map[string]any{"binary": found[0], "args": []string{"--automation"}},
	}}})
	var begun struct{ Value struct{ SessionID string } }
	if err == nil {
		err = json.Unmarshal(answer, &begun)
	}
	if err != nil {
		t.Fatalf("starting %s: %v", found[0], err)
	}
	session := base + beginSession.path + "/" + begun.Value.SessionID
	t.Cleanup(func() { _, _ = webdriver(http.MethodDelete, session, nil) })
	return &driver{t, func(c command, params any) (json.RawMessage, error) {
		return webdriver(http.MethodPost, session+c.path, params)
	}}
}

func webdriver(method, address string, params any) (json.RawMessage, error) {
	body, err := json.Marshal(params)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequest(method, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	client := http.Client{Timeout: patience}
	response, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, answer)
	}
	return answer, err
}

// installed is where a program is; without it the test is skipped.
func installed(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(name + " is not installed")
	}
	return path
}

// browserDir is the home of a browser, some of whose processes may outlive it a little.
func browserDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "caddy-session")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// runBrowser starts a program that ends with the test.
func runBrowser(t *testing.T, home string, cmd *exec.Cmd) {
	t.Helper()
	cmd.Env = append(cmd.Environ(), "HOME="+home, "XDG_CACHE_HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_DATA_HOME="+home)
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}
