package caddysession

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// A store that fails now and then is back when it has not failed for a while.
func TestHealth_aShakyStoreIsBackInTheEnd(t *testing.T) {
	core, log := observer.New(zap.InfoLevel)
	b := &backend{metrics: newStoreMetrics("shaky")}
	b.logger.Store(zap.New(core))
	logged := func(want ...string) {
		t.Helper()
		var got []string
		for _, entry := range log.TakeAll() {
			got = append(got, entry.Message)
		}
		if !slices.Equal(got, want) {
			t.Errorf("logged %q, want %q", got, want)
		}
	}
	const down, up = "the session store is unavailable", "the session store is available"
	b.observe(errors.New("too slow"))
	b.observe(nil)
	logged(down, up)
	b.observe(errors.New("too slow"))
	logged(down)
	b.observe(nil)
	b.observe(errors.New("too slow"))
	b.observe(nil)
	logged()
	b.failed.Store(new(time.Now().Add(-failureHolds)))
	b.observe(nil)
	logged(up)
}

// After a token that could not be stored readers are given one again, once the pause is over.
func TestHealth_tokensAreGivenAgainAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := new(backend)
		b.rotateFrom.Store(new(time.Now().Add(rotationPause)))
		if b.takesTokens() {
			t.Error("readers wait for new tokens at once")
		}
		<-time.After(rotationPause + time.Nanosecond)
		if !b.takesTokens() {
			t.Error("readers are given no new token any more")
		}
	})
}
