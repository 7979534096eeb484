package main

import (
	"bufio"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-session/caddy-session/bench/internal/measure"
)

// allocated is what a Caddy has allocated since it was started.
type allocated struct{ objects, bytes float64 }

// allocations returns what a request of this work allocates in Caddy. Unlike
// times it does not depend on what else the machine does.
func (r *running) allocations(w work) (perRequest allocated, err error) {
	before, err := r.allocatedSoFar()
	if err != nil {
		return allocated{}, err
	}
	// Every connection works, as when it was measured: writes travel together.
	s := measure.Run(measure.Side{Op: r.operate(w)}, len(r.visitors), 500*time.Millisecond)
	after, err := r.allocatedSoFar()
	if err != nil {
		return allocated{}, err
	}
	n := float64(max(s.Ops+len(r.visitors), 1)) // those that ended too late were made too
	return allocated{(after.objects - before.objects) / n, (after.bytes - before.bytes) / n}, nil
}

func (r *running) allocatedSoFar() (a allocated, err error) {
	res, err := http.Get("http://" + r.admin + "/metrics")
	if err != nil {
		return a, fmt.Errorf("read metrics: %w", err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		switch name {
		case "go_memstats_mallocs_total":
			a.objects, err = strconv.ParseFloat(value, 64)
		case "go_memstats_alloc_bytes_total":
			a.bytes, err = strconv.ParseFloat(value, 64)
		}
		if err != nil {
			return a, fmt.Errorf("read metrics: %w", err)
		}
	}
	return a, lines.Err()
}
