// Command limits measures what visitors notice of a flood of forged cookies and
// of too many requests at once: a real Caddy, its store, and the load are
// processes of their own. It prints Markdown tables.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/caddy-session/caddy-session/bench/internal/process"
	"github.com/caddy-session/caddy-session/bench/internal/site"
)

var (
	rounds = flag.Int("rounds", 5, "rounds, of which the medians are reported")
	round  = flag.Duration("round", 3*time.Second, "how long each side works in a round")
	dir    = flag.String("dir", os.TempDir(), "where the store keeps its data")
)

func main() {
	if err := dispatch(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "limits:", err)
		os.Exit(1)
	}
}

// dispatch runs the benchmark, or one of the processes that it starts.
func dispatch(args []string) error {
	if len(args) > 1 {
		switch args[0] {
		case site.Command:
			return site.Serve(args[1])
		case storeCommand:
			return serveStore(args[1:])
		case floodCommand:
			return sendFlood(args[1:])
		}
	}
	flag.Parse()
	if flag.NArg() > 0 {
		return errors.New("unexpected arguments")
	}
	work, err := os.MkdirTemp(*dir, "bench-limits-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(work)
	load := process.StartLoad()
	if err := measureFlood(filepath.Join(work, "flood")); err != nil {
		return fmt.Errorf("flood: %w", err)
	}
	if err := measureOverload(filepath.Join(work, "overload")); err != nil {
		return fmt.Errorf("overload: %w", err)
	}
	fmt.Printf("\n%s, %d CPUs; %d rounds of %v a side, alternated. Other processes used %.0f %% of the machine meanwhile.\n",
		time.Now().Format(time.DateOnly), runtime.NumCPU(), *rounds, *round, 100*load.Others())
	return nil
}
