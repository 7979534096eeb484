package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/caddy-session/caddy-session/bench/internal/process"
	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
)

const storeCommand = "store"

// serveStore is the process of a store: an embedded node that listens, and takes
// a time for every request.
func serveStore(args []string) error {
	if len(args) != 3 {
		return errors.New("a store wants a file, an address and a time")
	}
	latency, err := time.ParseDuration(args[2])
	if err != nil {
		return fmt.Errorf("read time: %w", err)
	}
	node := embedded.New(args[0], embedded.Options{})
	return http.ListenAndServe(args[1], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(latency)
		node.ServeHTTP(w, r)
	}))
}

func startStore(dir string, latency time.Duration) (*process.Process, string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", fmt.Errorf("make directory: %w", err)
	}
	addr, err := process.FreeAddr()
	if err != nil {
		return nil, "", err
	}
	cmd, err := process.Again(storeCommand, filepath.Join(dir, "store.db"), addr, latency.String())
	if err != nil {
		return nil, "", err
	}
	p, err := process.Listener(cmd, addr)
	return p, addr, err
}
