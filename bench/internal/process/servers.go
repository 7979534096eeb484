package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
)

// ErrMissing says that a server is not installed here.
var ErrMissing = errors.New("not here")

// Rqlited starts one rqlite node with its data below dir and returns the URL of
// its HTTP API. The program is named by the environment variable RQLITED.
func Rqlited(dir string) (*Process, string, error) {
	bin := os.Getenv("RQLITED")
	if bin == "" {
		return nil, "", fmt.Errorf("rqlited: %w: RQLITED does not name the program", ErrMissing)
	}
	api, err := FreeAddr()
	if err != nil {
		return nil, "", err
	}
	raft, err := FreeAddr()
	if err != nil {
		return nil, "", err
	}
	cmd := exec.Command(bin, "-node-id", "bench", "-http-addr", api, "-raft-addr", raft, filepath.Join(dir, "rqlite"))
	p, err := Start(cmd, func(ctx context.Context) error { return getOK(ctx, "http://"+api+"/readyz") })
	return p, "http://" + api, err
}

// Redis starts a Redis that acknowledges a write only when it is on disk, with
// its data below dir, and returns its address.
func Redis(dir string) (*Process, string, error) {
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, "", fmt.Errorf("redis-server: %w", ErrMissing)
	}
	addr, err := FreeAddr()
	if err != nil {
		return nil, "", err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, "", fmt.Errorf("read address: %w", err)
	}
	dir = filepath.Join(dir, "redis")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", fmt.Errorf("make directory: %w", err)
	}
	cmd := exec.Command(bin, "--bind", host, "--port", port, "--dir", dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "always")
	p, err := Start(cmd, func(ctx context.Context) error { return accepts(ctx, addr) })
	return p, addr, err
}

func getOK(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return nil
}
