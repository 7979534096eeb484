package caddysession_test

import (
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// example reads a Caddyfile of examples/ for start: what it takes from the
// environment, the test names.
func example(t testing.TB, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("examples", file))
	if err != nil {
		t.Fatal(err)
	}
	config := regexp.MustCompile(`\{\$([A-Z0-9_]+)(:[^}]*)?\}`).ReplaceAllStringFunc(string(text), func(name string) string {
		name, _, _ = strings.Cut(strings.Trim(name, "{}"), ":")
		return strings.ReplaceAll(name, "_", "")
	})
	for strings.HasPrefix(config, "#") || strings.HasPrefix(config, "\n") { // start looks for global options
		_, config, _ = strings.Cut(config, "\n")
	}
	return config
}

// shop is one of examples/apps, running.
type shop struct{ caddyfile, name, value string } // the name in its Caddyfile that stands for its address

var shops = map[string]func(t *testing.T) shop{
	"PHP":     startPHP,
	"Flask":   startFlask,
	"Express": startExpress,
	"Go":      startGo,
}

func TestApps_keepTheirSessionsInCaddy(t *testing.T) {
	for name, run := range shops {
		t.Run(name, func(t *testing.T) {
			app := run(t)
			root, err := filepath.Abs("examples/apps/php/public")
			if err != nil {
				t.Fatal(err)
			}
			s := start(t, example(t, app.caddyfile), app.name, app.value, "ROOT", root)
			goShopping(t, s)
		})
	}
}

func goShopping(t *testing.T, s *server) {
	v := s.visitor()
	page := func(wants ...string) {
		t.Helper()
		a := v.get("/")
		if a.StatusCode != http.StatusOK {
			t.Fatalf("the shop answers %d %q", a.StatusCode, a.body)
		}
		for _, want := range wants {
			if !strings.Contains(html.UnescapeString(a.body), want) {
				t.Fatalf("the page has no %s:\n%s", want, a.body)
			}
		}
		// A screen reader says what to type.
		if fields := strings.Count(a.body, "<input "); fields == 0 || strings.Count(a.body, "aria-label=") != fields || !strings.Contains(a.body, `<html lang="en">`) {
			t.Errorf("a field has no name, or the page no language:\n%s", a.body)
		}
		if strings.Contains(a.body, "<i>") {
			t.Errorf("what a visitor typed is not escaped:\n%s", a.body)
		}
	}
	const loggedOut, loggedIn = `id="login"`, `id="logout"`
	page(loggedOut, `<ul id="cart"></ul>`)
	if a := v.get("/"); len(a.Header["Set-Cookie"]) > 0 || len(a.Header["Session-Set"]) > 0 {
		t.Errorf("a visitor who did nothing is sent %v", a.Header)
	}
	s.table().wantRows(0)

	guest := v.post("/cart", "item", "Buch Nr. 1").redirected(t).cookie(t).Value
	page(loggedOut, `<ul id="cart"><li>Buch Nr. 1</li></ul>`)
	id := s.table().only().id
	member := v.post("/login", "user", "Zoë <i>").redirected(t).cookie(t).Value
	if member == guest {
		t.Error("the login left the token as it was")
	}
	page(`<b id="user">Zoë <i></b>`, `<b id="visits">1</b>`, loggedIn, `<li>Buch Nr. 1</li>`)
	page(`<b id="visits">2</b>`)
	v.post("/cart", "item", "😀\u007f\u2028").redirected(t)
	page(`<b id="visits">3</b>`, `<ul id="cart"><li>Buch Nr. 1</li><li>😀`+"\u007f\u2028"+`</li></ul>`)
	if now := s.table().only().id; now != id {
		t.Errorf("the public id was %s and is %s", id, now)
	}

	several := s.visitor()
	several.post("/cart", "item", "the first").redirected(t)
	adding := make(map[string]func() (*answer, error))
	for _, item := range []string{"ink", "lamp", "map", "pen", "rope", "tea"} {
		form := "item=" + item
		r := several.request(http.MethodPost, "/cart", "Content-Type", "application/x-www-form-urlencoded")
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(form)), int64(len(form))
		adding[item] = func() (*answer, error) { return several.ask(r) }
	}
	together(t, adding, func(a *answer, t *testing.T) { a.redirected(t) })
	if a := several.get("/"); strings.Count(a.body, "<li>") != 1+len(adding) {
		t.Errorf("of %d items that were added side by side the cart has %s", len(adding), a.body)
	}
	several.post("/logout").redirected(t)

	odd := s.visitor()
	for _, field := range []string{"item[]", "item[a][b]"} {
		odd.post("/cart", field, "no field of the form").redirected(t)
	}
	odd.post("/cart", "item", "\xff").redirected(t)
	if a := odd.get("/"); strings.Count(a.body, "<li>") != 2 || !strings.Contains(a.body, `id="add"`) {
		t.Errorf("after odd forms the page is %s", a.body)
	}
	odd.post("/logout").redirected(t)

	if c := v.post("/logout").redirected(t).cookie(t); c.Value != "" {
		t.Errorf("the logout sets %v", c)
	}
	page(loggedOut, `<ul id="cart"></ul>`)
	s.table().wantRows(0)
	if a := s.visitor().withoutJar().get("/", "Cookie", "session="+member); strings.Contains(a.body, "Zo") {
		t.Errorf("after the logout its token still shows %s", a.body)
	}
}

// post sends a form; fields come in pairs.
func (v *visitor) post(path string, fields ...string) *answer {
	v.t.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return v.submit(path, form)
}

func (a *answer) redirected(t testing.TB) *answer {
	t.Helper()
	if a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != "/" {
		t.Fatalf("the answer is %d %q, want a redirect to /", a.StatusCode, a.body)
	}
	return a
}

func startPHP(t *testing.T) shop {
	t.Helper()
	found, _ := filepath.Glob("/usr/sbin/php-fpm*") // the pattern is a good one
	fpm, err := exec.LookPath("php-fpm")
	if err != nil && len(found) == 0 {
		t.Skip("php-fpm is not installed")
	}
	if err != nil {
		fpm = found[len(found)-1]
	}
	dir, address := t.TempDir(), freeAddress(t)
	config := "[global]\nerror_log = " + dir + "/error.log\n[www]\nlisten = " + address + "\npm = static\npm.max_children = 2\n"
	args := []string{"-n", "-F", "-y", dir + "/fpm.conf"}
	if os.Getuid() == 0 {
		config += "user = root\ngroup = root\n"
		args = append(args, "-R")
	}
	if err := os.WriteFile(dir+"/fpm.conf", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, exec.Command(fpm, args...), address)
	return shop{"apps/php/Caddyfile", "PHPFPM", address}
}

// The Caddyfile of the PHP shop finds its folder only from where the README has
// it started.
func TestApps_phpRunsAsItsReadmeSays(t *testing.T) {
	readme, err := os.ReadFile("examples/apps/README.md")
	if err != nil || !strings.Contains(string(readme), "`cd php && caddy run`") {
		t.Fatalf("the README says something else: %v\n%s", err, readme)
	}
	site, dir := freeAddress(t), t.TempDir()
	cmd := exec.Command(caddyBinary(t), "run")
	cmd.Dir = "examples/apps/php"
	cmd.Env = append(os.Environ(), "PHP_FPM="+startPHP(t).value, "SITE=http://"+site, "CADDY_ADMIN="+freeAddress(t),
		"XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	run(t, cmd, site)
	if a := (&server{t: t, names: map[string]string{"SITE": "http://" + site}}).visitor().get("/"); !strings.Contains(a.body, `id="login"`) {
		t.Errorf("the shop answers %d %q", a.StatusCode, a.body)
	}
}

func startFlask(t *testing.T) shop {
	t.Helper()
	for _, python := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(python, "-c", "import flask").Run() != nil {
			continue
		}
		address := freeAddress(t)
		_, port, _ := net.SplitHostPort(address)
		run(t, exec.Command(python, "-m", "flask", "--app", "examples/apps/flask/app.py", "run", "--port", port), address)
		return shop{"apps/Caddyfile", "APP", address}
	}
	t.Skip("Python with Flask is not installed")
	return shop{}
}

func startExpress(t *testing.T) shop {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
	}
	dir, address := t.TempDir(), freeAddress(t)
	if err := os.CopyFS(dir, os.DirFS("examples/apps/express")); err != nil {
		t.Fatal(err)
	}
	install := exec.Command("npm", "install", "--no-audit", "--no-fund", "--prefer-offline")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Skipf("npm could not install express: %.300s", out)
	}
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.Command("node", "app.js")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "PORT="+port)
	run(t, cmd, address)
	return shop{"apps/Caddyfile", "APP", address}
}

func startGo(t *testing.T) shop {
	t.Helper()
	binary, address := filepath.Join(t.TempDir(), "shop"), freeAddress(t)
	if out, err := exec.Command("go", "build", "-o", binary, "./examples/apps/go").CombinedOutput(); err != nil {
		t.Fatalf("building the shop: %v: %s", err, out)
	}
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.Command(binary)
	cmd.Env = append(os.Environ(), "PORT="+port)
	run(t, cmd, address)
	return shop{"apps/Caddyfile", "APP", address}
}

// run starts a program, waits until it listens, and ends it with the test.
func run(t *testing.T, cmd *exec.Cmd, address string) {
	t.Helper()
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", cmd.Path, err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // so that its children end as well
		exited := make(chan struct{})
		go func() {
			_ = cmd.Wait() // it reports the signal
			close(exited)
		}()
		select {
		case <-exited:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-exited
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", cmd.Path, output.String())
		}
	})
	eventually(t, cmd.Path+" to listen", func() bool {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
}
