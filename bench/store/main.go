// Command store measures RqliteStore on one rqlite node against the plain way,
// one statement a call, and against scs's redisstore on a Redis that acknowledges
// a write only when it is on disk. It prints a Markdown table.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-session/caddy-session/bench/internal/measure"
	"github.com/caddy-session/caddy-session/bench/internal/process"
)

type config struct {
	plan       measure.Plan
	callers    []int
	operations []string
	sides      []string
	pool       int
	tokens     int
	dir        string
	profile    string
	rqliteProf string
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "store:", err)
		os.Exit(1)
	}
}

func run() error {
	c, err := parse()
	if err != nil {
		return err
	}
	sides, stop, err := start(c)
	if err != nil {
		return err
	}
	defer stop()
	if c.profile != "" {
		f, err := os.Create(c.profile)
		if err != nil {
			return fmt.Errorf("create profile: %w", err)
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return fmt.Errorf("start profile: %w", err)
		}
		defer pprof.StopCPUProfile()
	}
	if c.rqliteProf != "" {
		done := make(chan error, 1)
		go func() { done <- profileServer(c, sides) }()
		defer func() {
			if err := <-done; err != nil {
				fmt.Fprintln(os.Stderr, "profile of rqlited:", err)
			}
		}()
	}
	load := process.StartLoad()
	var rows []measure.Row
	for _, op := range c.operations {
		for _, n := range c.callers {
			fmt.Fprintf(os.Stderr, "%s, %d callers\n", op, n)
			rows = append(rows, report(op, n, compare(c, op, n, sides))...)
		}
	}
	if err := measure.WriteTable(os.Stdout, head, rows); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	fmt.Printf("\n%s\n", about(c, load.Others()))
	return nil
}

func parse() (config, error) {
	var (
		c                       config
		callers, ops, onlySides string
	)
	flag.DurationVar(&c.plan.Round, "round", 2*time.Second, "how long each side works in a round")
	flag.DurationVar(&c.plan.Warmup, "warmup", 300*time.Millisecond, "how long each side works before the first round")
	flag.IntVar(&c.plan.Rounds, "rounds", 3, "rounds, of which the medians are reported")
	flag.StringVar(&callers, "callers", "1,16,64,256,1024", "numbers of callers side by side")
	flag.StringVar(&ops, "ops", "commit,find", "operations: commit, find, update, load")
	flag.StringVar(&onlySides, "sides", "store,plain,redis", "sides: store, plain, plain-linearizable, redis")
	flag.IntVar(&c.pool, "redis-pool", 128, "connections to Redis at most")
	flag.IntVar(&c.tokens, "tokens", maxTokens, "sessions of each caller")
	flag.StringVar(&c.dir, "dir", os.TempDir(), "where the servers keep their data; a real disk")
	flag.StringVar(&c.profile, "cpuprofile", "", "write a CPU profile of this end to this file")
	flag.StringVar(&c.rqliteProf, "rqliteprofile", "", "write a CPU profile of rqlited to this file, as long as the first side's rounds")
	flag.Parse()
	if flag.NArg() > 0 {
		return c, errors.New("unexpected arguments")
	}
	if c.tokens < 1 || c.tokens > maxTokens {
		return c, fmt.Errorf("tokens: want 1 to %d", maxTokens)
	}
	for f := range strings.SplitSeq(callers, ",") {
		n, err := strconv.Atoi(f)
		if err != nil || n < 1 || n > maxCallers {
			return c, fmt.Errorf("callers: %q is not a number from 1 to %d", f, maxCallers)
		}
		c.callers = append(c.callers, n)
	}
	c.operations = strings.Split(ops, ",")
	c.sides = strings.Split(onlySides, ",")
	return c, nil
}
