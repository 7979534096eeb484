package rqlited

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Node is one rqlited process. Its ports and data stay the same through
// [Node.Restart]. Its methods are meant for one goroutine at a time.
type Node struct {
	// URL is where the node serves its HTTP API, without a slash at the end.
	URL string

	bin, dir, http, raft string
	flags                []string

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{}
	frozen bool
	log    bytes.Buffer
}

func newNode(tb testing.TB, bin string, flags []string) *Node {
	tb.Helper()
	n := &Node{
		bin:   bin,
		dir:   filepath.Join(tb.TempDir(), "data"),
		http:  freeAddr(tb),
		raft:  freeAddr(tb),
		flags: flags,
	}
	n.URL = "http://" + n.http
	tb.Cleanup(func() {
		n.Kill()
		if tb.Failed() && testing.Verbose() {
			out := n.log.Bytes()
			tb.Logf("the end of the log of rqlited %s:\n%s", n.http, out[max(0, len(out)-2000):])
		}
	})
	return n
}

// Running reports whether the process lives and is not frozen.
func (n *Node) Running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cmd != nil && !n.frozen
}

// Kill ends the process at once (SIGKILL), as a crash does.
func (n *Node) Kill() { n.end(os.Kill) }

// Stop asks the process to end (SIGTERM) and waits for it: a leader hands over
// before it goes.
func (n *Node) Stop() { n.end(terminate) }

// Freeze halts the process without ending it (SIGSTOP): its sockets stay open
// and nobody answers.
func (n *Node) Freeze(tb testing.TB) {
	tb.Helper()
	n.signal(tb, true)
}

// Thaw lets a frozen process go on (SIGCONT).
func (n *Node) Thaw(tb testing.TB) {
	tb.Helper()
	n.signal(tb, false)
}

// Restart starts a killed or stopped node on its old data and ports. It does
// not wait until the node is ready.
func (n *Node) Restart(tb testing.TB) {
	tb.Helper()
	// Membership is in the node's own Raft state: joining again is not needed
	// and fails while the node that was joined is down.
	n.start(tb)
}

// RestartEmpty starts a killed or stopped node without its data, as one whose disk
// was lost, on its old ports, and without -join: it becomes a cluster of its own.
func (n *Node) RestartEmpty(tb testing.TB) {
	tb.Helper()
	if err := os.RemoveAll(n.dir); err != nil {
		tb.Fatal(err)
	}
	n.start(tb)
}

// WaitReady waits until the node knows a leader and takes requests.
func (n *Node) WaitReady(tb testing.TB) {
	tb.Helper()
	eventually(tb, "answer of "+n.URL+"/readyz", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.URL+"/readyz", nil)
		if err != nil {
			return false
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}

func (n *Node) start(tb testing.TB, join ...string) {
	tb.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd != nil {
		tb.Fatalf("rqlited %s is running already", n.http)
	}
	args := []string{"-node-id", n.raft, "-http-addr", n.http, "-raft-addr", n.raft}
	args = append(append(append(args, n.flags...), join...), n.dir)
	cmd := exec.Command(n.bin, args...)
	cmd.Stdout, cmd.Stderr = &n.log, &n.log
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		tb.Fatalf("start rqlited: %v", err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // a killed process always reports an error
		close(exited)
	}()
	n.cmd, n.exited = cmd, exited
}

// end signals the process and waits until it is gone.
func (n *Node) end(sig os.Signal) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		return
	}
	if n.frozen && sig != os.Kill {
		_ = freeze(n.cmd.Process, false)
	}
	_ = n.cmd.Process.Signal(sig) // it may be gone already, which is what is wanted
	select {
	case <-n.exited:
	case <-time.After(startTimeout):
		_ = n.cmd.Process.Kill()
		<-n.exited
	}
	n.cmd, n.frozen = nil, false
}

func (n *Node) signal(tb testing.TB, frozen bool) {
	tb.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		tb.Fatalf("rqlited %s is not running", n.http)
	}
	if err := freeze(n.cmd.Process, frozen); err != nil {
		tb.Fatalf("freeze or thaw rqlited %s: %v", n.http, err)
	}
	n.frozen = frozen
}

// freeAddr returns a loopback address nobody listens on. It stays below the
// range that the system hands out to outgoing connections, because a port must
// still be free when a node is restarted.
func freeAddr(tb testing.TB) string {
	tb.Helper()
	for range 200 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		_ = l.Close() // only the port was wanted
		return addr
	}
	tb.Fatal("rqlited: no free port")
	return ""
}
