package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/caddy-session/caddy-session/bench/internal/measure"
)

const profileFor = 6 * time.Second

// profileAll writes a CPU profile of every Caddy at every work. It is done apart
// from the measurement, which it would slow down.
func (b *bench) profileAll(c config) error {
	if c.profiles == "" {
		return nil
	}
	if err := os.MkdirAll(c.profiles, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	for _, w := range works {
		if c.only != "" && c.only != w.name {
			continue
		}
		for _, r := range b.sides {
			done := make(chan error, 1)
			go func() { done <- r.profile(filepath.Join(c.profiles, w.name+"-"+r.name)) }()
			measure.Run(measure.Side{Op: r.operate(w)}, c.connections, profileFor)
			if err := <-done; err != nil {
				return fmt.Errorf("profile %s: %w", r.title, err)
			}
		}
	}
	return nil
}

func (r *running) profile(file string) error {
	res, err := http.Get(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", r.admin, int(profileFor.Seconds())-1))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, res.Body); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
