package main

import (
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/caddy-session/caddy-session/bench/internal/measure"
	"github.com/caddy-session/caddy-session/bench/internal/process"
)

var head = measure.Row{
	"session", "side", "requests a second", "p50", "p99", "CPU of Caddy and store", "allocations in Caddy", "rate to bare", "to bare by CPU", "rate to its peer", "to it by CPU",
}

type goal struct{ work, side string }

// goals are for the rate of a side: to that of no session at all, and to that
// of its peer: the plain way on a comparable store, or what costs less.
var (
	toBare = map[goal]float64{
		{"none", embedded}: 0.97,
		{"read", rqlited}:  0.65,
		{"write", rqlited}: 0.5,
		{"read", cached}:   0.85,
	}
	toPeer = map[goal]float64{
		{"read", embedded}:  1,
		{"read", keys}:      0.95,
		{"write", keys}:     0.95,
		{"read", shared}:    0.95,
		{"write", embedded}: 0.95,
		{"read", rqlited}:   1,
		{"write", rqlited}:  1,
	}
)

func report(w work, sides []*running, results []measure.Result, allocs []allocated) []measure.Row {
	var rows []measure.Row
	for i, r := range results {
		rate := measure.Count(r.Median(measure.Rate))
		if n := r.Errors(); n > 0 {
			rate += fmt.Sprintf(" (%d errors)", n)
		}
		row := measure.Row{
			w.title, sides[i].title, rate,
			measure.Latency(r.Median(measure.P50)), measure.Latency(r.Median(measure.P99)),
			fmt.Sprintf("%.0f µs", r.Median(measure.ServerCPU)),
			fmt.Sprintf("%.0f, %.1f KB", allocs[i].objects, allocs[i].bytes/1e3),
			"", "", "", "",
		}
		if i > 0 {
			row[7], row[8] = ratios(r, results[0], toBare, w)
		}
		if peer := slices.IndexFunc(sides, func(s *running) bool { return s.name == sides[i].peer }); peer >= 0 {
			row[9], row[10] = ratios(r, results[peer], toPeer, w)
		}
		rows = append(rows, row)
	}
	return rows
}

// ratios compares the rates, and what the rates would be if the processors had
// nothing else to do: the processor time of all that takes part.
func ratios(r, base measure.Result, goals map[goal]float64, w work) (rate, cpu string) {
	ratio := r.Ratio(base, measure.Rate)
	rate = measure.Times(ratio)
	if bound, ok := goals[goal{w.name, r.Name}]; ok {
		rate = measure.Goal{Bound: bound}.Verdict(ratio)
	}
	return rate, measure.Times(base.Ratio(r, measure.CPU))
}

// about is the line under the table: what it was measured on, and how.
func about(c config, others float64) string {
	return fmt.Sprintf("%s, %s, %d CPUs, %s, Caddy %s, scs %s, rqlited %s, redis %s. "+
		"%d rounds of %s a side, alternated; medians; ratios are medians of the rounds' ratios. "+
		"%d keep-alive connections, HTTP/1.1 on loopback, each with a session of its own of about 250 bytes; load, Caddy, upstream and store on one machine. "+
		"Every write that was answered was counted in the session afterwards. Other processes used %.0f %% of the machine meanwhile.",
		time.Now().Format(time.DateOnly), process.CPUModel(), runtime.NumCPU(), runtime.Version(),
		process.ModuleVersion("github.com/caddyserver/caddy/v2"), process.ModuleVersion("github.com/alexedwards/scs/v2"),
		process.RqlitedVersion(), process.RedisVersion(), c.plan.Rounds, c.plan.Round, c.connections, 100*others)
}
