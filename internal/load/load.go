// Package load sends requests as visitors do: one after the other, or at a rate
// whatever became of those before.
package load

import (
	"sync"
	"time"
)

// InTurn lets so many visitors make requests, each when the one before was
// answered. i counts the requests of all.
func InTurn(visitors int, lasting time.Duration, request func(i int)) {
	end := time.Now().Add(lasting)
	var all sync.WaitGroup
	for i := range visitors {
		all.Go(func() {
			for ; time.Now().Before(end); i += visitors {
				request(i)
			}
		})
	}
	all.Wait()
}

// AtRate makes requests whether those before were answered or not, and waits for
// all answers.
func AtRate(perSecond float64, lasting time.Duration, request func(i int)) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	var all sync.WaitGroup
	begun, sent := time.Now(), 0
	for now := begun; now.Sub(begun) < lasting; now = <-tick.C {
		for due := int(now.Sub(begun).Seconds() * perSecond); sent < due; sent++ {
			i := sent
			all.Go(func() { request(i) })
		}
	}
	all.Wait()
}
