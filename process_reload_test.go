package caddysession_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/internal/rqlited"
)

// Caddy is reloaded again and again while it has traffic. It gets its socket
// from outside: where it opens the socket itself, Linux resets the connections
// that wait in the old one when Caddy closes it, whatever the config. For the
// same reason each request has a connection of its own: one that is sent just
// when the server closes an idle connection is lost.
func TestReload_keepsRequestsSessionsAndResources(t *testing.T) {
	t.Run("embedded", func(t *testing.T) { reloadUnderTraffic(t, newDeployment(t, nil)) })
	t.Run("three rqlite nodes", func(t *testing.T) { reloadUnderTraffic(t, newDeployment(t, rqlited.Start(t, 3))) })
}

func reloadUnderTraffic(t *testing.T, d *deployment) {
	d.sockets = true
	d.http.Transport.(*http.Transport).DisableKeepAlives = true
	p := d.add()
	p.start()
	l := d.startTraffic(t)
	goOn(time.Second)
	l.end()
	p.reload(t) // what only the first reload makes is not counted
	goroutines, files := p.settled(t)

	l = d.startTraffic(t)
	reloads := roundsOr(20)
	for range reloads {
		p.reload(t)
		goOn(200 * time.Millisecond)
	}
	samples := l.end()
	all, _ := statuses(samples)
	failed := 0
	for _, s := range samples {
		if errors.Is(s.err, io.EOF) {
			continue // net/http's graceful stop closed a connection with the request still on its way
		}
		if !s.ok() {
			failed++
			t.Logf("failed: %d %q (%v)", s.status, s.body, s.err)
		}
	}
	goroutinesAfter, filesAfter := p.settled(t)
	t.Logf("%d reloads under %d requests a second: %s; goroutines %d before and %d after, open files %d and %d",
		reloads, trafficRate, all, goroutines, goroutinesAfter, files, filesAfter)
	if failed > 0 {
		t.Errorf("%d requests failed", failed)
	}
	if n := goroutinesAfter - goroutines; n > 5 {
		t.Errorf("%d goroutines were left behind", n)
	}
	if n := filesAfter - files; n > 5 {
		t.Errorf("%d open files were left behind", n)
	}
	l.checkCounters(t)
}

// reload runs `caddy reload`.
func (p *caddyProcess) reload(t *testing.T) {
	t.Helper()
	if out, err := p.command("reload", "--force", "--address", p.admin, "--config", p.config).CombinedOutput(); err != nil {
		t.Errorf("caddy reload: %v: %s", err, out)
	}
}

// settled counts goroutines and open files once nothing is under way any more:
// when they have not become fewer for a while.
func (p *caddyProcess) settled(t *testing.T) (goroutines, files int) {
	t.Helper()
	p.d.http.CloseIdleConnections()
	goroutines, files = 1<<30, 1<<30
	last := time.Now()
	within(t, time.Minute, "goroutines to end", func() bool {
		g, f := p.goroutines(t), p.openFiles(t)
		if g < goroutines || f < files {
			goroutines, files, last = min(g, goroutines), min(f, files), time.Now()
		}
		return time.Since(last) > 3*time.Second
	})
	return goroutines, files
}

func (p *caddyProcess) goroutines(t *testing.T) (n int) {
	t.Helper()
	a := p.d.do(http.MethodGet, "http://"+p.admin+"/debug/pprof/goroutine?debug=1", "").want(t, http.StatusOK)
	first, _ := bufio.NewReader(strings.NewReader(a.body)).ReadString('\n')
	if _, err := fmt.Sscanf(first, "goroutine profile: total %d", &n); err != nil {
		t.Fatalf("%q: %v", first, err)
	}
	return n
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
