package caddysession_test

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/internal/rqlited"
)

var (
	reloadRounds = flag.Int("reload.rounds", 0, "how often Caddy is reloaded under traffic; 0 is 10 times, 3 with -short")
	reloadRate   = flag.Int("reload.rate", 200, "how many requests a second Caddy has meanwhile; a machine that cannot keep up fails some")
)

func reloadCount() int {
	switch {
	case *reloadRounds > 0:
		return *reloadRounds
	case testing.Short():
		return 3
	}
	return 10
}

// Caddy is reloaded again and again while it has traffic. It gets its socket
// from outside: where it opens the socket itself, Linux resets the connections
// that wait in the old one when Caddy closes it, whatever the config. Still
// net/http's graceful stop closes connections whose request is on its way, also
// where there is nothing but `respond`. So each request has a connection of its
// own, and one that got no answer is sent again, as browsers do.
func TestReload_keepsRequestsSessionsAndResources(t *testing.T) {
	t.Run("embedded", func(t *testing.T) { reloadUnderTraffic(t, newDeployment(t, nil)) })
	t.Run("three rqlite nodes", func(t *testing.T) { reloadUnderTraffic(t, newDeployment(t, rqlited.Start(t, 3))) })
}

func reloadUnderTraffic(t *testing.T, d *deployment) {
	d.sockets = true
	d.http.Transport.(*http.Transport).DisableKeepAlives = true
	p := d.add()
	p.start()
	l := d.startTrafficAt(t, *reloadRate, true)
	goOn(time.Second)
	l.end()
	p.reload(t) // what only the first reload makes is not counted
	before := p.settled(t)

	l = d.startTrafficAt(t, *reloadRate, true)
	reloads, begun := reloadCount(), time.Now()
	for range reloads {
		p.reload(t)
		goOn(200 * time.Millisecond)
	}
	took := time.Since(begun)
	samples := l.end()
	all, _ := statuses(samples)
	failed, again := 0, 0
	for _, s := range samples {
		if s.again {
			again++
		}
		if !s.ok() {
			failed++
			t.Logf("failed: %d %q (%v)", s.status, s.body, s.err)
		}
	}
	after := p.settled(t)
	t.Logf("%d reloads under %.0f requests a second: %s (%d after no answer at first), p99 %v; before %+v, after %+v",
		reloads, float64(len(samples))/took.Seconds(), all, again, slowest(samples, .99), before, after)
	if failed > 0 {
		t.Errorf("%d requests failed", failed)
	}
	if n := after.goroutines - before.goroutines; n > 5 {
		t.Errorf("%d goroutines were left behind", n)
	}
	if n := after.files - before.files; n > 5 {
		t.Errorf("%d open files were left behind", n)
	}
	l.checkCounters(t)
}

// slowest is how long the given share of requests took at most.
func slowest(samples []sample, share float64) time.Duration {
	took := make([]time.Duration, len(samples))
	for i, s := range samples {
		took[i] = s.took
	}
	return quantile(took, share)
}

// reload runs `caddy reload`.
func (p *caddyProcess) reload(t *testing.T) {
	t.Helper()
	if out, err := p.command("reload", "--force", "--address", p.admin, "--config", p.config).CombinedOutput(); err != nil {
		t.Errorf("caddy reload: %v: %s", err, out)
	}
}

// usage is what Caddy holds. The connections that it keeps open to the nodes of
// its store, as many as there once were calls at a time, are counted apart.
type usage struct{ goroutines, files, connections int }

// settled counts once nothing is under way any more: when the goroutines and
// files have not become fewer for a while.
func (p *caddyProcess) settled(t *testing.T) usage {
	t.Helper()
	least := usage{1 << 30, 1 << 30, 0}
	last := time.Now()
	eventually(t, "goroutines to end", func() bool {
		if now := p.usage(t); now.goroutines < least.goroutines || now.files < least.files {
			least = usage{min(now.goroutines, least.goroutines), min(now.files, least.files), now.connections}
			last = time.Now()
		}
		return time.Since(last) > 3*time.Second
	})
	return least
}

var stackCount = regexp.MustCompile(`^(\d+) @`)

func (p *caddyProcess) usage(t *testing.T) (u usage) {
	t.Helper()
	a := p.d.do(http.MethodGet, "http://"+p.admin+"/debug/pprof/goroutine?debug=1", "").want(t, http.StatusOK)
	_, stacks, _ := strings.Cut(a.body, "\n") // the total
	for stack := range strings.SplitSeq(stacks, "\n\n") {
		count := stackCount.FindStringSubmatch(stack)
		if count == nil {
			continue
		}
		n, _ := strconv.Atoi(count[1])
		switch { // a connection has two goroutines
		case strings.Contains(stack, "(*persistConn).readLoop"):
			u.connections += n
		case !strings.Contains(stack, "(*persistConn).writeLoop"):
			u.goroutines += n
		}
	}
	u.files = p.openFiles(t) - u.connections
	return u
}

func (p *caddyProcess) openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir(filepath.Join("/proc", fmt.Sprint(p.cmd.Process.Pid), "fd"))
	if os.IsNotExist(err) {
		t.Skip("this system does not list a process's open files under /proc")
	}
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}
