package process

import (
	"context"
	"os/exec"
)

// Listener starts a program that listens on addr, and waits until it does.
func Listener(cmd *exec.Cmd, addr string) (*Process, error) {
	return Start(cmd, func(ctx context.Context) error { return accepts(ctx, addr) })
}
