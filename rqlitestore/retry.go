package rqlitestore

import (
	"context"
	"math/rand/v2"
	"time"
)

// retry calls try until it succeeds, ctx ends, or its error is one that stays. Where
// ctx ends, the tries before say more than one that was cut short.
func retry(ctx context.Context, stays func(error) bool, try func() error) error {
	var why error
	for n := 0; ; n++ {
		err := try()
		if err == nil || stays(err) {
			return err
		}
		if why == nil || ctx.Err() == nil {
			why = err
		}
		if !pause(ctx, n) {
			return ended{context.Cause(ctx), why}
		}
	}
}

// pause waits before another try, longer with each, at random so that those who
// collided do not do so again. It returns false when ctx ends first.
func pause(ctx context.Context, try int) bool {
	d := min(time.Millisecond<<min(try, 10), 100*time.Millisecond)
	return sleep(ctx, time.Duration(rand.Int64N(int64(d))))
}
