package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/caddy-session/caddy-session/bench/internal/measure"
	"github.com/caddy-session/caddy-session/bench/internal/process"
)

const profileFor = 6 * time.Second

// profileAll writes profiles of the CPU and the allocations of every Caddy at every work. It is done apart
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
			done := make(chan error, 2)
			for _, kind := range []string{"profile", "allocs"} {
				go func() { done <- r.profile(kind, filepath.Join(c.profiles, w.name+"-"+r.name+"."+kind)) }()
			}
			measure.Run(measure.Side{Op: r.operate(w)}, c.connections, profileFor)
			if err := errors.Join(<-done, <-done); err != nil {
				return fmt.Errorf("profile %s: %w", r.title, err)
			}
		}
	}
	return nil
}

func (r *running) profile(kind, file string) error {
	return process.SaveProfile(fmt.Sprintf("http://%s/debug/pprof/%s?seconds=%d", r.admin, kind, int(profileFor.Seconds())-1), file)
}
