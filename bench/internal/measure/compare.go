package measure

import (
	"slices"
	"time"
)

// Plan says how long and how often each side works.
type Plan struct {
	Round, Warmup time.Duration
	Rounds        int
}

// Result holds the samples of one side, in the order of the rounds.
type Result struct {
	Name    string
	Samples []Sample
}

// Compare runs every side once a round. The order turns from round to round, so
// that no side always follows the same other one.
func Compare(p Plan, callers int, sides []Side) []Result {
	results := make([]Result, len(sides))
	for i, s := range sides {
		results[i].Name = s.Name
		Run(s, callers, p.Warmup)
	}
	for round := range p.Rounds {
		for i := range sides {
			k := (i + round) % len(sides)
			results[k].Samples = append(results[k].Samples, Run(sides[k], callers, p.Round))
		}
	}
	return results
}

// Median returns the median of a figure over the rounds.
func (r Result) Median(figure func(Sample) float64) float64 {
	values := make([]float64, len(r.Samples))
	for i, s := range r.Samples {
		values[i] = figure(s)
	}
	return Median(values)
}

// Errors is how many operations failed in all rounds.
func (r Result) Errors() int {
	n := 0
	for _, s := range r.Samples {
		n += s.Errors
	}
	return n
}

// Ratio returns the median over the rounds of a figure of r by that of base in
// the same round: what changes from round to round for both drops out.
func (r Result) Ratio(base Result, figure func(Sample) float64) float64 {
	var values []float64
	for i := range min(len(r.Samples), len(base.Samples)) {
		// A side that finished nothing in a round has no ratio in it.
		if v := figure(base.Samples[i]); v > 0 {
			values = append(values, figure(r.Samples[i])/v)
		}
	}
	return Median(values)
}

// P50 is the median latency in nanoseconds.
func P50(s Sample) float64 { return float64(s.P50) }

// P99 is the latency in nanoseconds that one operation in a hundred exceeds.
func P99(s Sample) float64 { return float64(s.P99) }

// Rate is the number of operations per second.
func Rate(s Sample) float64 { return s.PerSecond() }

// ServerCPU is the servers' processor time per operation in microseconds.
func ServerCPU(s Sample) float64 { return perOp(s.ServerCPU, s.Ops) }

// ClientCPU is this end's processor time per operation in microseconds.
func ClientCPU(s Sample) float64 { return perOp(s.ClientCPU, s.Ops) }

// CPU is the processor time per operation on both ends, in microseconds. Where
// both share one machine it bounds the rate, and other work on the machine
// changes it less than the rate.
func CPU(s Sample) float64 { return perOp(s.ServerCPU+s.ClientCPU, s.Ops) }

func perOp(d time.Duration, ops int) float64 {
	return float64(d.Nanoseconds()) / 1e3 / float64(max(ops, 1))
}

// Median sorts values and returns the middle one, 0 of none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	mid := len(values) / 2
	if len(values)%2 == 1 {
		return values[mid]
	}
	return (values[mid-1] + values[mid]) / 2
}
