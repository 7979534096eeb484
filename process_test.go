package caddysession_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rqlite/gorqlite"

	"github.com/caddy-session/caddy-session/internal/rqlited"
)

// What concerns several Caddys, their end or their start is tested with Caddy as
// it is shipped, in processes of its own.

var (
	consistencyRounds = flag.Int("consistency.rounds", 0, "how often the consistency tests repeat what they do; 0 is the default of each")
	consistencyRace   = flag.Bool("consistency.race", false, "whether the Caddys of the consistency tests are built with the race detector")
)

func roundsOr(usual int) int {
	if *consistencyRounds > 0 {
		return *consistencyRounds
	}
	if testing.Short() {
		return max(1, usual/5)
	}
	return usual
}

// builds holds the directory that Caddy is built into, once in a run.
var builds struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if builds.dir != "" {
		_ = os.RemoveAll(builds.dir) // it is a temporary directory
	}
	os.Exit(code)
}

// caddyBinary builds ./cmd/caddy.
func caddyBinary(t testing.TB) string {
	t.Helper()
	builds.once.Do(func() {
		if builds.dir, builds.err = os.MkdirTemp("", "caddy-session"); builds.err != nil {
			return
		}
		args := []string{"build", "-o", builds.dir}
		if *consistencyRace {
			args = append(args, "-race")
		}
		if out, err := exec.Command("go", append(args, "./cmd/caddy")...).CombinedOutput(); err != nil {
			builds.err = fmt.Errorf("building Caddy: %w: %s", err, out)
		}
	})
	if builds.err != nil {
		t.Fatal(builds.err)
	}
	return filepath.Join(builds.dir, "caddy")
}

// deployment is Caddys on one store, and the application behind them.
type deployment struct {
	t       *testing.T
	caddys  []*caddyProcess
	cluster *rqlited.Cluster // nil with the embedded node
	conn    *gorqlite.Connection
	app     *meetingPlace
	http    *http.Client
	sockets bool // the Caddys that are added get their sockets from outside
}

// onEveryStore runs a test with one Caddy on the embedded node, and with two on three rqlite nodes.
func onEveryStore(t *testing.T, test func(t *testing.T, d *deployment)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) {
		d := newDeployment(t, nil)
		d.add().start()
		test(t, d)
	})
	t.Run("three rqlite nodes", func(t *testing.T) { test(t, onCluster(t)) })
}

// onCluster starts two Caddys on three rqlite nodes.
func onCluster(t *testing.T) *deployment {
	t.Helper()
	d := newDeployment(t, rqlited.Start(t, 3))
	for range 2 {
		d.add().start()
	}
	return d
}

func newDeployment(t *testing.T, cluster *rqlited.Cluster) *deployment {
	t.Helper()
	transport := &http.Transport{MaxIdleConns: 1000, MaxIdleConnsPerHost: 500}
	t.Cleanup(transport.CloseIdleConnections)
	d := &deployment{
		t: t, cluster: cluster, app: newMeetingPlace(t),
		http: &http.Client{
			Transport: transport, Timeout: 30 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	if cluster != nil {
		conn, err := gorqlite.OpenWithClient(cluster.Nodes[0].URL+"?disableClusterDiscovery=true&level=linearizable", &http.Client{Timeout: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		d.conn = conn
	}
	return d
}

// The site of a deployment. What only needs the session to be there does not
// read it: /plain has no session data.
const deployedSites = `
{
	admin $ADMIN
	persist_config off
	grace_period 10s
	storage file_system $DIR/caddy
	log default {
		output file $DIR/caddy.log {
			roll_disabled
		}
		level WARN
	}
	session {
		$STORE
		idle_timeout 1h
		touch_interval 1ms
	}
}
(routes) {
	handle /plain {
		respond plain
	}
	handle /login {
		session_edit {
			renew
			put user alice
			redir /
		}
	}
	handle /logout {
		session_edit {
			destroy
			redir /
		}
	}
	handle /show {
		respond "{http.session.id} {http.session.data.user} {http.session.data.n}"
	}
	handle /increment {
		session_edit increment n
		respond {http.session.data.n}
	}
	handle /put {
		session_edit put n {query.n}
		respond {http.session.data.n}
	}
	handle /app/* {
		session {
			upstream {
				send *
				accept
			}
		}
		reverse_proxy $APP
	}
}
$SITE {
	$BIND
	session
	import routes
}
$CACHED {
	session {
		cache 1s
	}
	import routes
}
$LIMITED {
	session {
		principal user
		max_per_principal 3 reject
	}
	handle /login {
		session_edit put user {query.user}
	}
	handle {
		respond {http.session.data.user}
	}
}
`

// caddyProcess is one Caddy. Its addresses and data stay the same when it is started again.
type caddyProcess struct {
	d                    *deployment
	dir, config          string
	site, cached, admin  string
	limited              string   // users of this one have three sessions at most
	socket               *os.File // that the site listens on, if it is opened for it
	cmd                  *exec.Cmd
	exited               chan struct{}
	commandLine, logFile string
}

// add prepares a Caddy.
func (d *deployment) add() *caddyProcess {
	d.t.Helper()
	dir := d.t.TempDir()
	p := &caddyProcess{
		d: d, dir: dir, config: filepath.Join(dir, "Caddyfile"), logFile: filepath.Join(dir, "caddy.log"),
		site: "http://" + lowAddress(d.t), cached: "http://" + lowAddress(d.t), admin: lowAddress(d.t),
		limited:     "http://" + lowAddress(d.t),
		commandLine: caddyBinary(d.t),
	}
	store := ""
	if d.cluster != nil {
		store = "rqlite " + strings.Join(d.cluster.URLs(), " ")
	}
	bind := ""
	if d.sockets {
		p.listen()
		bind = "bind fd/3"
	}
	config := strings.NewReplacer(
		"$SITE", p.site, "$CACHED", p.cached, "$LIMITED", p.limited, "$ADMIN", p.admin, "$DIR", dir, "$STORE", store, "$APP", d.app.address(), "$BIND", bind,
	).Replace(deployedSites)
	if err := os.WriteFile(p.config, []byte(config), 0o600); err != nil {
		d.t.Fatal(err)
	}
	d.caddys = append(d.caddys, p)
	d.t.Cleanup(func() {
		p.kill()
		if log, _ := os.ReadFile(p.logFile); d.t.Failed() {
			d.t.Logf("the end of the log of the Caddy at %s:\n%s", p.site, log[max(0, len(log)-4000):])
		}
	})
	return p
}

// listen opens the site's socket, as a service manager does.
func (p *caddyProcess) listen() {
	p.d.t.Helper()
	l, err := net.Listen("tcp", strings.TrimPrefix(p.site, "http://"))
	if err != nil {
		p.d.t.Fatal(err)
	}
	defer l.Close()
	if p.socket, err = l.(*net.TCPListener).File(); err != nil {
		p.d.t.Fatal(err)
	}
	p.d.t.Cleanup(func() { p.socket.Close() })
}

// file is where the embedded node keeps its data.
func (p *caddyProcess) file() string { return filepath.Join(p.dir, "caddy", "sessions.db") }

func (p *caddyProcess) command(args ...string) *exec.Cmd {
	cmd := exec.Command(p.commandLine, args...)
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+p.dir, "XDG_CONFIG_HOME="+p.dir, "HOME="+p.dir)
	return cmd
}

// start runs Caddy and waits until it answers; it returns how long that took.
func (p *caddyProcess) start() time.Duration {
	p.d.t.Helper()
	begun := time.Now()
	cmd := p.command("run", "--config", p.config)
	output, err := os.OpenFile(filepath.Join(p.dir, "output.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.d.t.Fatal(err)
	}
	defer output.Close()
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = dieWithParent()
	if p.socket != nil {
		cmd.ExtraFiles = []*os.File{p.socket}
	}
	if err := cmd.Start(); err != nil {
		p.d.t.Fatalf("starting Caddy: %v", err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // a killed process always reports an error
		close(exited)
	}()
	p.cmd, p.exited = cmd, exited
	within(p.d.t, time.Minute, "Caddy to answer", func() bool {
		a := p.get("/plain", "")
		return a.err == nil && a.status == http.StatusOK
	})
	return time.Since(begun)
}

// kill ends Caddy as a crash does.
func (p *caddyProcess) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill() // it may be gone already, which is what is wanted
	<-p.exited
	p.cmd = nil
}

// terminate asks Caddy to end, and waits for it.
func (p *caddyProcess) terminate() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.exited
	p.cmd = nil
}

// lowAddress is a free loopback address below the ports that the system hands
// out to outgoing connections: it must still be free when Caddy starts again.
func lowAddress(t testing.TB) string {
	t.Helper()
	for range 200 {
		var b [2]byte
		_, _ = rand.Read(b[:])
		address := fmt.Sprintf("127.0.0.1:%d", 10000+(int(b[0])<<8+int(b[1]))%10000)
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}

// reply is what Caddy answered.
type reply struct {
	status int
	body   string
	cookie string // the session cookie that it sets, "" if none
	header http.Header
	err    error
	took   time.Duration
}

// get fetches a path of the site with a session cookie.
func (p *caddyProcess) get(path, cookie string) reply {
	return p.d.do(http.MethodGet, p.site+path, cookie)
}

// post is for what changes the session: net/http itself would repeat a GET.
func (p *caddyProcess) post(path, cookie string) reply {
	return p.d.do(http.MethodPost, p.site+path, cookie)
}

func (d *deployment) do(method, url, cookie string) reply {
	begun := time.Now()
	r, err := http.NewRequestWithContext(context.Background(), method, url, nil)
	if err != nil {
		return reply{err: err}
	}
	if cookie != "" {
		r.Header.Set("Cookie", "session="+cookie)
	}
	res, err := d.http.Do(r)
	if err != nil {
		return reply{err: err, took: time.Since(begun)}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	a := reply{status: res.StatusCode, body: string(body), header: res.Header, err: err, took: time.Since(begun)}
	for _, c := range res.Cookies() {
		if isSessionCookie(c.Name) {
			a.cookie = c.Value
		}
	}
	return a
}

// want checks that a request succeeded and returns its body.
func (a reply) want(t testing.TB, status int) reply {
	t.Helper()
	if a.err != nil || a.status != status {
		t.Fatalf("got %d %q (%v), want %d", a.status, a.body, a.err, status)
	}
	return a
}

// login begins a session and returns its cookie and its public id.
func (d *deployment) login(t testing.TB) (cookie, id string) {
	t.Helper()
	cookie = d.caddys[0].post("/login", "").want(t, http.StatusSeeOther).cookie
	id, _, _ = strings.Cut(d.caddys[0].get("/show", cookie).want(t, http.StatusOK).body, " ")
	if cookie == "" || id == "" {
		t.Fatal("the login gave no session")
	}
	return cookie, id
}

// unknownCookie has the right form and belongs to no session.
func unknownCookie() string {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// rowsOf counts the rows of a session in the store, whatever Caddy says.
func (d *deployment) rowsOf(t testing.TB, id string) int {
	t.Helper()
	const count = "SELECT count(*) FROM sessions WHERE id = ?"
	n := 0
	if d.cluster == nil {
		if err := openTable(t, d.caddys[0].file()).db.QueryRow(count, id).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	r, err := d.conn.QueryOneParameterized(gorqlite.ParameterizedStatement{Query: count, Arguments: []any{id}})
	if err != nil {
		t.Fatal(err)
	}
	for r.Next() {
		if err := r.Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
	return n
}
