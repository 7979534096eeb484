package cluster

import (
	"sync/atomic"
	"time"
)

// latency follows how long good answers take, as TCP follows its round trips
// (RFC 6298): a smoothed mean and a smoothed deviation. Concurrent updates may
// overwrite each other, which does not matter here.
type latency struct {
	mean, deviation atomic.Int64 // nanoseconds
}

func (l *latency) add(took time.Duration) {
	sample := int64(took)
	mean := l.mean.Load()
	if mean == 0 {
		l.mean.Store(sample)
		l.deviation.Store(sample / 2)
		return
	}
	diff := sample - mean
	l.mean.Store(mean + diff/8)
	l.deviation.Store(l.deviation.Load() + (max(diff, -diff)-l.deviation.Load())/4)
}

// unusual is how long an answer takes that is worth asking somebody else for.
func (l *latency) unusual() time.Duration {
	return time.Duration(l.mean.Load() + 4*l.deviation.Load())
}

// hedgeDelay is how long a request waits for one node before a second gets it.
func (t *Transport) hedgeDelay() time.Duration {
	return min(max(minHedgeDelay, t.latency.unusual()), t.cfg.Timeout/2)
}

// checkTimeout is how long a silent node may take to show that it is alive.
func (t *Transport) checkTimeout() time.Duration {
	return min(max(minCheckTimeout, 4*t.hedgeDelay()), t.cfg.Timeout)
}

const (
	minHedgeDelay   = 100 * time.Millisecond
	minCheckTimeout = 500 * time.Millisecond
)

// allowance bounds how many requests are hedged: one in ten, and some at once
// after a quiet time. So a cluster that is slow because it is overloaded does
// not get twice the load.
type allowance struct {
	tokens atomic.Int64 // tenths of a hedge
}

const (
	hedgeBurst = 32 * hedgeCost
	hedgeCost  = 10
)

// earn is called once a request.
func (a *allowance) earn() {
	if a.tokens.Load() < hedgeBurst {
		a.tokens.Add(1)
	}
}

// spend reports whether a request may be hedged now.
func (a *allowance) spend() bool {
	if a.tokens.Add(-hedgeCost) >= 0 {
		return true
	}
	a.tokens.Add(hedgeCost)
	return false
}
