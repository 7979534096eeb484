// Package process starts the servers that the benchmarks measure and reads how
// much processor time they use.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"time"
)

const startTimeout = 20 * time.Second

// Process is a server that runs beside the benchmark.
type Process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	log    bytes.Buffer
}

// Start starts cmd and waits until ready reports nil. What the process prints
// is kept for the error when it never does.
func Start(cmd *exec.Cmd, ready func(context.Context) error) (*Process, error) {
	p := &Process{cmd: cmd, exited: make(chan struct{})}
	if cmd.Stderr == nil {
		cmd.Stderr = &p.log
	}
	if cmd.Stdout == nil {
		cmd.Stdout = cmd.Stderr
	}
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	started.Lock()
	started.processes = append(started.processes, p)
	started.Unlock()
	go func() {
		_ = cmd.Wait() // a killed process always reports an error
		close(p.exited)
	}()
	if err := p.await(ready); err != nil {
		p.Stop()
		return nil, fmt.Errorf("start %s: %w\n%s", cmd.Path, err, p.tail())
	}
	return p, nil
}

func (p *Process) await(ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

func (p *Process) tail() []byte {
	out := p.log.Bytes()
	return out[max(0, len(out)-2000):]
}

// Stop ends the process and waits for it.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(os.Interrupt) // it may be gone already
	select {
	case <-p.exited:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// PID is the id of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Again is the command that starts this program once more, with other arguments.
func Again(args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return exec.Command(self, args...), nil
}

// FreeAddr returns an address on loopback that nobody listens on.
func FreeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// accepts reports whether something listens on addr.
func accepts(ctx context.Context, addr string) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return c.Close()
}
