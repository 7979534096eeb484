package caddysession

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/rqlite/gorqlite"
	"go.uber.org/zap"

	"github.com/caddy-session/caddy-session/rqlitestore"
	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
)

// Stores outlive a reload: the new config takes them before the old one lets go.
var (
	backends = caddy.NewUsagePool() // key of a resolvedStore → *backend
	nodes    = caddy.NewUsagePool() // file → *node: a file is open once, whatever tables are used in it
)

// backend is a store and the connection under it.
type backend struct {
	store   *boundedStore
	node    *embedded.Node            // nil with a cluster
	cluster *cluster.Transport        // nil with the embedded node
	file    string                    // of the embedded node
	cache   atomic.Pointer[readCache] // nil while no handler wants one
	making  sync.Once                 // of the cache
	strict  bool                      // a read sees every acknowledged write
	name    string
	logger  atomic.Pointer[zap.Logger] // of the config that runs, see log
	keys    atomic.Pointer[keyring]    // of that config, nil where it has none

	health

	holders   atomic.Int64 // requests under way, and one more while the store is in the pool
	closing   sync.Once
	closed    atomic.Bool
	abandoned atomic.Bool                // no config has it any more, requests may
	late      atomic.Pointer[time.Timer] // ends the wait for such requests

	background sync.WaitGroup // what is done off the path of requests
	underWay   sync.Map       // the same, by what it is and for which session

	rotateFrom atomic.Pointer[time.Time] // before which no reader's token is rotated

	metrics   *storeMetrics
	listeners listeners // whom events are told
	clients   sync.Map  // ClientLimit → *clientLimiter
}

// node is an embedded node in its pool.
type node struct{ *embedded.Node }

// Destruct closes the file: afterwards it is one plain SQLite database.
func (n node) Destruct() error { return n.Close() }

// takeBackend takes the store from the pool, or adds it there. No I/O.
func takeBackend(r *resolvedStore, logger *zap.Logger) (*backend, error) {
	b, _, err := backends.LoadOrNew(r.key(), func() (caddy.Destructor, error) {
		return newBackend(r, logger)
	})
	if err != nil {
		return nil, err
	}
	return b.(*backend), nil
}

func newBackend(r *resolvedStore, logger *zap.Logger) (*backend, error) {
	b := &backend{file: r.file, name: r.name(), metrics: newStoreMetrics(r.label())}
	b.logger.Store(logger)
	if before := live.newest(b.metrics.store); before != nil {
		b.down.Store(before.down.Load())
		b.told.Store(before.told.Load()) // a reload that brings it back is worth a word too
	}
	conn, err := b.connect(r)
	if err != nil {
		return nil, err
	}
	store := rqlitestore.NewWithOptions(conn, rqlitestore.Options{
		Table:   r.table,
		Observe: b.metrics.observe,
		OnCleanupError: func(err error) {
			b.log().Warn("removing expired sessions failed; the next round tries again", zap.String("store", b.name), zap.Error(err))
		},
	})
	b.store = newBoundedStore(store, b.metrics)
	b.holders.Store(1)
	live.add(b)
	return b, nil
}

func (b *backend) connect(r *resolvedStore) (*gorqlite.Connection, error) {
	if r.file != "" {
		n, _, err := nodes.LoadOrNew(r.file, func() (caddy.Destructor, error) {
			return node{embedded.New(r.file, embedded.Options{Synchronous: r.live.synchronous, Replaced: func() { observeReplaced(r.file) }})}, nil
		})
		if err != nil {
			return nil, err
		}
		b.node, b.strict = n.(node).Node, true
		return b.node.Connection()
	}
	transport, err := cluster.New(cluster.Config{
		Nodes:    r.rqlite.Addresses,
		Username: r.rqlite.Username,
		Password: r.rqlite.Password,
		TLS:      r.tls,
		Timeout:  time.Duration(r.rqlite.Timeout),
		Level:    r.rqlite.Consistency,
		Observe:  b.observeNode,
	})
	if err != nil {
		return nil, err
	}
	b.cluster = transport
	b.strict = r.rqlite.Consistency == "linearizable" || r.rqlite.Consistency == "strong"
	return transport.Connection()
}

// start opens the store in the background and applies what may change while it is in use.
func (b *backend) start(settings liveSettings, keys *keyring, logger *zap.Logger) {
	b.apply(settings, keys, logger)
	if b.cluster != nil {
		b.cluster.Start()
		return
	}
	b.observe(b.node.Open())
}

// apply changes what may change while the store is in use.
func (b *backend) apply(settings liveSettings, keys *keyring, logger *zap.Logger) {
	b.logger.Store(logger)
	b.keys.Store(keys)
	b.store.StartCleanup(settings.cleanup)
	b.store.limit.Store(settings.maxCalls)
	if b.node == nil {
		return
	}
	if err := b.node.SetSynchronous(settings.synchronous); err != nil {
		b.observe(err)
	}
}

// log is that of the newest config which has the store: Caddy closes the log of
// the one that made it when that ends.
func (b *backend) log() *zap.Logger { return b.logger.Load() }

// inUse is this store as the newest config reaches it: the password with which an
// earlier one did may be good no longer.
func (b *backend) inUse() *backend {
	if b.abandoned.Load() {
		if newest := live.newest(b.metrics.store); newest != nil {
			return newest
		}
	}
	return b
}

// hold keeps the store open until letGo: at a reload Caddy does not wait for the
// requests of the config before, and these need their store to the end.
func (b *backend) hold() { b.holders.Add(1) }

func (b *backend) letGo() {
	if b.holders.Add(-1) == 0 {
		go b.closeLate()
	}
}

// closeLate closes a store that no config has any more.
func (b *backend) closeLate() {
	if err := b.close(); err != nil {
		b.log().Error("closing the session store of an earlier config", zap.String("store", b.name), zap.Error(err))
	}
}

// latecomers is for how long a store stays open after a reload took it away. HTTP/2
// lets clients begin requests on a connection for a second after it is asked to end.
const latecomers = 5 * time.Second

// Destruct closes a store that no config uses any more, at the latest with the
// last of its requests. A process that exits has waited for them as long as it is to.
func (b *backend) Destruct() error {
	if caddy.Exiting() {
		return b.close()
	}
	b.abandoned.Store(true)
	b.store.StopCleanup() // it is the newer config's, where that has the store at all
	b.late.Store(time.AfterFunc(latecomers, b.letGo))
	if caddy.ActiveContext().Context == nil { // Caddy was stopped
		return live.waitNoLonger()
	}
	return nil
}

// close ends the upkeep and closes the connection; what comes later fails.
func (b *backend) close() (err error) {
	b.closing.Do(func() {
		b.closed.Store(true)
		b.store.StopCleanup()
		b.background.Wait()
		b.forgetClients()
		live.remove(b)
		if cache := b.cache.Load(); cache != nil {
			cache.entries.StopAllGoroutines()
		}
		if b.cluster != nil {
			b.cluster.Close()
			return
		}
		_, err = nodes.Delete(b.file)
	})
	return err
}

var _ caddy.Destructor = (*backend)(nil)
