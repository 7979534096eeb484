package main

import (
	"fmt"
	"runtime"
	"time"

	"github.com/caddy-session/caddy-session/bench/internal/measure"
	"github.com/caddy-session/caddy-session/bench/internal/process"
)

var head = measure.Row{
	"operation", "callers", "side", "per second", "p50", "p99", "server CPU", "client CPU", "RqliteStore's rate to it", "its CPU to RqliteStore's",
}

type goal struct {
	operation string
	callers   int
	side      string
}

var goals = map[goal]float64{
	{"commit", 64, plain}:   3,
	{"commit", 256, plain}:  6,
	{"commit", 1024, plain}: 9,
	{"commit", 1024, peer}:  1,
	{"find", 64, plain}:     6,
	{"find", 256, plain}:    9,
	{"find", 256, peer}:     1,
	{"find", 1024, plain}:   14,
	{"find", 1024, peer}:    1.4,
}

// loneGoal is how much longer a lone call may take than a plain one.
var loneGoal = measure.Goal{Bound: 1.05, Most: true}

func report(operation string, callers int, results []measure.Result) []measure.Row {
	var rows []measure.Row
	for _, r := range results {
		row := measure.Row{
			operation, measure.Count(float64(callers)), r.Name,
			measure.Count(r.Median(measure.Rate)),
			measure.Latency(r.Median(measure.P50)), measure.Latency(r.Median(measure.P99)),
			fmt.Sprintf("%.0f µs", r.Median(measure.ServerCPU)),
			fmt.Sprintf("%.0f µs", r.Median(measure.ClientCPU)),
			verdict(operation, callers, results[0], r), "",
		}
		if r.Name != results[0].Name {
			row[len(row)-1] = measure.Times(r.Ratio(results[0], measure.CPU))
		}
		if n := r.Errors(); n > 0 {
			row[3] += fmt.Sprintf(" (%d errors)", n)
		}
		rows = append(rows, row)
	}
	return rows
}

func verdict(operation string, callers int, first, r measure.Result) string {
	if r.Name == first.Name {
		return ""
	}
	rate := first.Ratio(r, measure.Rate)
	if bound, ok := goals[goal{operation, callers, r.Name}]; ok {
		return measure.Goal{Bound: bound}.Verdict(rate)
	}
	if callers == 1 && r.Name == plain {
		return measure.Times(rate) + ", p50 " + loneGoal.Verdict(first.Ratio(r, measure.P50))
	}
	return measure.Times(rate)
}

// about is the line under the table: what it was measured on, and how.
func about(c config, others float64) string {
	return fmt.Sprintf("%s, %s, %d CPUs, %s, rqlited %s, redis %s, gorqlite %s, redisstore %s. "+
		"%d rounds of %s a side, alternated; medians; ratios are medians of the rounds' ratios. "+
		"%d bytes a session, every caller its own %d sessions of %d in the table, servers and callers on one machine. "+
		"Reads: RqliteStore linearizable, one statement a call at gorqlite's default, weak. "+
		"Other processes used %.0f %% of the machine meanwhile.",
		time.Now().Format(time.DateOnly), process.CPUModel(), runtime.NumCPU(), runtime.Version(),
		process.RqlitedVersion(), process.RedisVersion(),
		process.ModuleVersion("github.com/rqlite/gorqlite"), process.ModuleVersion("github.com/alexedwards/scs/redisstore"),
		c.plan.Rounds, c.plan.Round, dataBytes, c.tokens, maxCallers*c.tokens, 100*others)
}
