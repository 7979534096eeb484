// Package measure runs the same work against several sides in turn and reports
// medians, so that what a shared machine does meanwhile hits every side alike.
package measure

import (
	"slices"
	"sync"
	"time"
)

// Side is one of the ways that are compared.
type Side struct {
	Name string
	// Op does one piece of work for a caller. n counts the caller's own calls.
	Op func(caller, n int) error
	// ServerCPU and ClientCPU return the processor time used so far by the
	// server processes and by this end. Either may be nil.
	ServerCPU, ClientCPU func() time.Duration
}

// Sample is what one side did in one round.
type Sample struct {
	Ops, Errors int
	Elapsed     time.Duration
	P50, P99    time.Duration
	// ServerCPU and ClientCPU are processor time in all, not per operation.
	ServerCPU, ClientCPU time.Duration
}

// PerSecond is the rate of operations that succeeded.
func (s Sample) PerSecond() float64 { return float64(s.Ops) / s.Elapsed.Seconds() }

// Run lets callers work on a side side by side for about d, each in a closed
// loop. Only operations that end in time count.
func Run(side Side, callers int, d time.Duration) Sample {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		all   []time.Duration
		fails int
	)
	server, client := read(side.ServerCPU), read(side.ClientCPU)
	begin := time.Now()
	end := begin.Add(d)
	for caller := range callers {
		wg.Go(func() {
			took, failed := loop(side.Op, caller, end)
			mu.Lock()
			all = append(all, took...)
			fails += failed
			mu.Unlock()
		})
	}
	wg.Wait()
	s := Sample{
		Ops: len(all), Errors: fails, Elapsed: d,
		ServerCPU: read(side.ServerCPU) - server,
		ClientCPU: read(side.ClientCPU) - client,
	}
	slices.Sort(all)
	s.P50, s.P99 = Percentile(all, 50), Percentile(all, 99)
	return s
}

func loop(op func(caller, n int) error, caller int, end time.Time) (took []time.Duration, failed int) {
	took = make([]time.Duration, 0, 1024)
	begin := time.Now()
	for n := 0; ; n++ {
		err := op(caller, n)
		now := time.Now()
		switch {
		case now.After(end):
			return took, failed
		case err != nil:
			failed++
		default:
			took = append(took, now.Sub(begin))
		}
		begin = now
	}
}

// Percentile returns the p-th percentile of sorted durations, 0 of none.
func Percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, len(sorted)*p/100)]
}

func read(clock func() time.Duration) time.Duration {
	if clock == nil {
		return 0
	}
	return clock()
}
