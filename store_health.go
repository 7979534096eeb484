package caddysession

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-session/caddy-session/rqlitestore"
	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
)

// health is how a store was when it was last needed, and what was told of that.
type health struct {
	down        atomic.Bool                  // the last call failed
	failed      atomic.Pointer[time.Time]    // when one last did
	writeFailed atomic.Pointer[writeFailure] // nil once all is well again

	told  atomic.Bool // that it is down
	shaky atomic.Bool // that was told soon after it had come back

	telling sync.Mutex // held while it is told, and guards what follows
	back    time.Time  // when it was last told to be back
}

// writeFailure is that a write failed while reads went on, as on a full disk.
type writeFailure struct {
	at  time.Time // of the last one
	why error
}

// failureHolds is for how long after such a failure that a read is answered is
// no news: it says nothing of the writes. Each later failure begins that anew.
const failureHolds = 30 * time.Second

// writesFail returns the last failure of a write, unless that is over; or nil.
func (b *backend) writesFail() *writeFailure {
	if f := b.writeFailed.Load(); f != nil && time.Since(f.at) < failureHolds {
		return f
	}
	return nil
}

// observeRead is observe for what came of a read.
func (b *backend) observeRead(err error) {
	if isNoNews(err) || err == nil && b.writesFail() != nil {
		return
	}
	if b.writeFailed.Load() != nil {
		b.writeFailed.Store(nil)
	}
	b.observe(err)
}

// observeWrite is observe for what came of a write.
func (b *backend) observeWrite(err error) {
	switch {
	case isNoNews(err):
		return
	case err == nil && b.writeFailed.Load() != nil:
		b.writeFailed.Store(nil)
	case err != nil && (!b.down.Load() || b.writesFail() != nil):
		b.writeFailed.Store(&writeFailure{time.Now(), err})
	}
	b.observe(err)
}

// isNoNews reports whether an error says nothing of the store: it was not asked,
// or not for long, or has answered, with a row that the keys do not open or that
// others changed each time before this process did.
func isNoNews(err error) bool {
	return err != nil && (errors.Is(err, errBusy) || errors.Is(err, errSlow) || errors.Is(err, rqlitestore.ErrConflict) || errors.As(err, new(refused)))
}

// observe logs when the store becomes unavailable, and when it is back:
// once each, however many requests notice. That it was closed is neither.
func (b *backend) observe(err error) {
	if b.closed.Load() {
		return
	}
	if err != nil {
		b.failed.Store(new(time.Now()))
	}
	if b.down.Load() != (err != nil) {
		b.down.Store(err != nil)
	}
	if b.told.Load() == (err != nil) || err == nil && b.isShaky() {
		return
	}
	b.telling.Lock()
	defer b.telling.Unlock()
	if b.told.Load() == (err != nil) {
		return
	}
	b.told.Store(err != nil)
	if err == nil {
		b.back = time.Now()
	} else {
		b.shaky.Store(time.Since(b.back) < failureHolds)
		b.tell(event{name: storeUnavailable})
	}
	switch {
	case errors.Is(err, embedded.ErrLocked):
		b.log().Error("another process has the session store open; requests that need a session get a 503 until it lets go",
			zap.String("store", b.name), zap.Error(err))
	case err != nil:
		b.log().Error("the session store is unavailable", zap.String("store", b.name), zap.Error(err))
	default:
		b.log().Info("the session store is available", zap.String("store", b.name))
	}
}

// isShaky reports whether an answer is no sign that the store is back: one that is slow
// or almost full fails now this request and now that one, which is one outage.
func (b *backend) isShaky() bool {
	return b.shaky.Load() && time.Since(*b.failed.Load()) < failureHolds
}

// observeReplaced logs that a file went away under the running Caddy, and the
// sessions with it, whatever table they are in.
func observeReplaced(file string) {
	var newest *backend
	for _, b := range live.ofFile(file) {
		b.endedAll()
		if newest == nil || !b.abandoned.Load() {
			newest = b
		}
	}
	if newest == nil {
		return // it has just been closed
	}
	newest.log().Error("the session file was removed or replaced while Caddy had it open: what lies there now is opened, and sessions that it does not have have ended",
		zap.String("store", newest.name), zap.String("file", file))
}

// observeNode logs when a node of the cluster ceases to answer, and when it is
// back: the store may go on without it, and would not with one less.
func (b *backend) observeNode(e cluster.Event) {
	log := b.log().With(zap.String("store", b.name), zap.String("node", e.Node)) // another table on the cluster says it as well
	switch e.Kind {
	case cluster.BreakerOpened:
		log.Warn("a node of the rqlite cluster does not answer and gets no requests until it does", zap.Error(e.Err))
	case cluster.Stranger:
		log.Error("the nodes of the rqlite cluster are in two clusters, and what is stored in the one is not in the other: this node gets no requests", zap.Error(e.Err))
	case cluster.BreakerClosed:
		log.Info("a node of the rqlite cluster answers again")
	case cluster.ClockDiffers:
		log.Warn("the clocks of this machine and of a node of the rqlite cluster differ: a Caddy whose clock is wrong ends sessions too early or too late, for other Caddys too; set the clock, and let all machines take their time from one source",
			zap.Error(e.Err))
	case cluster.ClockAgrees:
		log.Info("the clocks of this machine and of a node of the rqlite cluster agree again")
	}
}
