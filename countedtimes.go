package caddysession

import (
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// countedTimes does something now and then, and says how many times there was a
// reason to since it was last done.
type countedTimes struct {
	rate.Sometimes
	waiting atomic.Int64
}

// newCountedTimes does it once a minute at most.
func newCountedTimes() *countedTimes {
	return &countedTimes{Sometimes: rate.Sometimes{Interval: time.Minute}}
}

func (c *countedTimes) Do(do func(times int64)) {
	c.waiting.Add(1)
	c.Sometimes.Do(func() { do(c.waiting.Swap(0)) })
}
