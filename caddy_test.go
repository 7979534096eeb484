package caddysession_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	caddysession "github.com/caddy-session/caddy-session"
)

// server is Caddy with a Caddyfile. There is one in a process, so tests that
// start one do not run side by side; what has to wait is a parallel subtest.
//
// In a Caddyfile, $SITE… is replaced by an http address on a free port, $TLS…
// by an https one, $DIR by the test's own directory, and other names by what
// the test says they are.
type server struct {
	t        testing.TB
	names    map[string]string
	log      string
	mu       sync.Mutex
	idle     []func() // close the connections that visitors keep; under mu
	running  bool     // under mu
	reloaded bool     // under mu
}

// globals are what every Caddyfile here starts with.
const globals = `
	admin $ADMIN
	persist_config off
	skip_install_trust
	local_certs
	auto_https disable_redirects
	grace_period 1s
	storage file_system $DIR/caddy
	log default {
		output file $DIR/caddy.log {
			roll_disabled
		}
		level DEBUG
	}
`

// start runs Caddy with a Caddyfile until the test ends. Its data directory is
// one of the test's own. Names come in pairs: the name and its value.
func start(t testing.TB, config string, names ...string) *server {
	t.Helper()
	dir := caddyDir(t)
	t.Setenv("XDG_DATA_HOME", dir)
	t.Setenv("XDG_CONFIG_HOME", dir)
	s := &server{t: t, names: map[string]string{"DIR": dir, "ADMIN": "off"}, log: filepath.Join(dir, "caddy.log")}
	for i := 0; i < len(names); i += 2 {
		s.names[names[i]] = names[i+1]
	}
	if err := s.load(config); err != nil {
		t.Fatalf("starting Caddy: %v", err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Errorf("stopping Caddy: %v", err)
		}
		caddysession.ForgetStores()
		if t.Failed() {
			t.Logf("Caddy's log:\n%s", strings.Join(slices.DeleteFunc(strings.Split(s.readLog(), "\n"), func(line string) bool {
				return strings.HasPrefix(line, `{"level":"debug"`) && !strings.Contains(line, `"http.log.error`)
			}), "\n"))
		}
	})
	return s
}

// caddyDir is a directory of the test's own for a Caddy in this process: that
// keeps the log of its last config open, and Windows removes no open file.
func caddyDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "caddy-session")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil && runtime.GOOS != "windows" {
			t.Error(err)
		}
	})
	return dir
}

// load gives Caddy another Caddyfile; names that are in use stay what they are.
func (s *server) load(config string) error {
	s.t.Helper()
	adapted, err := s.adapt(config)
	if err == nil {
		adapted, err = withCertificate(adapted)
	}
	if err != nil {
		return err
	}
	err = caddy.Load(adapted, true)
	s.mu.Lock()
	s.reloaded, s.running = s.running, true
	s.mu.Unlock()
	return err
}

// reload gives Caddy another Caddyfile and waits until its site answers: Linux
// resets some connections that reach a listener which is being handed over.
func (s *server) reload(config string) {
	s.t.Helper()
	if err := s.load(config); err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	for _, closeIdle := range s.idle {
		closeIdle()
	}
	s.mu.Unlock()
	s.visitor().handshake("/")
}

func (s *server) wasReloaded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reloaded
}

func (s *server) adapt(config string) ([]byte, error) {
	s.t.Helper()
	config = strings.TrimSpace(config) + "\n"
	if rest, ok := strings.CutPrefix(config, "{\n"); ok {
		config = "{" + globals + rest
	} else {
		config = "{" + globals + "}\n" + config
	}
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(s.expand(config)), nil)
	return adapted, err
}

var nameInConfig = regexp.MustCompile(`\$[A-Z]+[0-9]*`)

func (s *server) expand(config string) string {
	return nameInConfig.ReplaceAllStringFunc(config, func(name string) string {
		name = name[1:]
		if _, known := s.names[name]; !known {
			switch {
			case strings.HasPrefix(name, "SITE"):
				s.names[name] = "http://" + freeAddress(s.t)
			case strings.HasPrefix(name, "TLS"):
				s.names[name] = "https://" + freeAddress(s.t)
			default:
				s.t.Fatalf("the Caddyfile uses $%s, which the test does not set", name)
			}
		}
		return s.names[name]
	})
}

// url is an address within a site, which is the one named SITE unless the path begins with $NAME.
func (s *server) url(path string) string {
	if strings.HasPrefix(path, "/") {
		path = "$SITE" + path
	}
	return s.expand(path)
}

// file is the embedded node's default file.
func (s *server) file() string { return filepath.Join(s.names["DIR"], "caddy", "sessions.db") }

// logged waits until Caddy's log has a text.
func (s *server) logged(text string) {
	s.t.Helper()
	eventually(s.t, "the log to say "+text, func() bool { return strings.Contains(s.readLog(), text) })
}

func (s *server) readLog() string {
	log, err := os.ReadFile(s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(log)
}

// freeAddress returns an address that nobody listens on, and no one twice: the
// kernel may give a port that was closed a moment ago again.
func freeAddress(t testing.TB) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := l.Addr().String()
		_ = l.Close() // it has taken no connection
		if _, given := givenAddresses.LoadOrStore(address, nil); !given {
			return address
		}
	}
}

var givenAddresses sync.Map

// eventually waits for a condition, and fails the test when it does not come.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	within(t, time.Minute, what, condition)
}

func within(t testing.TB, limit time.Duration, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("waited %v in vain for %s", limit, what)
		case <-tick.C:
		}
	}
}

// code is a Caddy handler that runs a function of the test: `in_go <name>`.
type code struct {
	Name string `json:"name"`
}

var codes sync.Map // name → func(http.ResponseWriter, *http.Request, caddyhttp.Handler) error

// inGo registers a function and returns the name for the Caddyfile.
func inGo(t testing.TB, run func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error) string {
	name := t.Name() + fmt.Sprintf("/%p", &run)
	codes.Store(name, run)
	t.Cleanup(func() { codes.Delete(name) })
	return name
}

func init() {
	caddy.RegisterModule(code{})
	httpcaddyfile.RegisterHandlerDirective("in_go", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		c := new(code)
		return c, c.UnmarshalCaddyfile(h.Dispenser)
	})
	httpcaddyfile.RegisterDirectiveOrder("in_go", httpcaddyfile.Before, "respond")
}

func (code) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.in_go", New: func() caddy.Module { return new(code) }}
}

func (c *code) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&c.Name) {
		return d.ArgErr()
	}
	return nil
}

func (c code) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	run, ok := codes.Load(c.Name)
	if !ok {
		return fmt.Errorf("no code is registered as %s", c.Name)
	}
	return run.(func(http.ResponseWriter, *http.Request, caddyhttp.Handler) error)(w, r, next)
}
