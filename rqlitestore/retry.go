package rqlitestore

import (
	"context"
	"math/rand/v2"
	"time"
)

// retry calls try until it succeeds, ctx ends, or its error is one that stays.
func retry(ctx context.Context, stays func(error) bool, try func() error) error {
	for n := 0; ; n++ {
		err := try()
		if err == nil || stays(err) {
			return err
		}
		if !pause(ctx, n) {
			return ended{context.Cause(ctx), err}
		}
	}
}

// pause waits before another try, longer with each, at random so that those who
// collided do not do so again. It returns false when ctx ends first.
func pause(ctx context.Context, try int) bool {
	d := min(time.Millisecond<<min(try, 10), 100*time.Millisecond)
	return sleep(ctx, time.Duration(rand.Int64N(int64(d))))
}
