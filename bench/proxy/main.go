// Command proxy measures what a session costs in a real Caddy in front of an
// upstream: `session` on its stores, scs's own LoadAndSave, and no session at
// all, on keep-alive connections over loopback. It prints a Markdown table.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/caddy-session/caddy-session/bench/internal/keepalive"
	"github.com/caddy-session/caddy-session/bench/internal/measure"
	"github.com/caddy-session/caddy-session/bench/internal/process"
	"github.com/caddy-session/caddy-session/bench/internal/site"
)

// upstreamCommand is the first argument of the program when it is to be the upstream.
const upstreamCommand = "upstream"

type config struct {
	plan        measure.Plan
	connections int
	only        string
	sides       string
	dir         string
	profiles    string
}

func main() {
	if err := dispatch(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "proxy:", err)
		os.Exit(1)
	}
}

// dispatch runs the benchmark, or one of the processes that it starts.
func dispatch(args []string) error {
	if len(args) == 2 {
		switch args[0] {
		case upstreamCommand:
			return keepalive.Serve(args[1])
		case site.Command:
			return site.Serve(args[1])
		}
	}
	c, err := parse(args)
	if err != nil {
		return err
	}
	return run(c)
}

func run(c config) error {
	b, err := start(c)
	if err != nil {
		return err
	}
	defer b.stop()
	load := process.StartLoad()
	var rows []measure.Row
	for _, work := range works {
		if c.only != "" && c.only != work.name {
			continue
		}
		fmt.Fprintln(os.Stderr, work.title)
		got, err := b.compare(c, work)
		if err != nil {
			return err
		}
		rows = append(rows, got...)
	}
	if err := measure.WriteTable(os.Stdout, head, rows); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	fmt.Printf("\n%s\n", about(c, load.Others()))
	return b.profileAll(c)
}

func parse(args []string) (config, error) {
	var c config
	f := flag.NewFlagSet("proxy", flag.ContinueOnError)
	f.DurationVar(&c.plan.Round, "round", 2*time.Second, "how long each side works in a round")
	f.DurationVar(&c.plan.Warmup, "warmup", 500*time.Millisecond, "how long each side works before the first round")
	f.IntVar(&c.plan.Rounds, "rounds", 5, "rounds, of which the medians are reported")
	f.IntVar(&c.connections, "connections", 64, "keep-alive connections, each with a session of its own")
	f.StringVar(&c.only, "only", "", "only this work: none, cookie, read or write")
	f.StringVar(&c.sides, "sides", "", "only these sides, separated by commas: bare, embedded, keys, shared, memstore, rqlited, cached, redis")
	f.StringVar(&c.dir, "dir", os.TempDir(), "where the stores keep their data; a real disk")
	f.StringVar(&c.profiles, "profiles", "", "after the measurement write profiles of each Caddy at each work into this directory")
	if err := f.Parse(args); err != nil {
		return c, fmt.Errorf("read flags: %w", err)
	}
	if f.NArg() > 0 {
		return c, errors.New("unexpected arguments")
	}
	return c, nil
}
