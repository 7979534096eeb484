package caddysession

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

const (
	cacheWeight = 64 << 20         // bytes that the cached sessions of one store may take
	cacheMaxAge = 10 * time.Minute // the longest `cache` there may be
	entryWeight = 400              // bytes that an entry takes beside its data

	// nodeCacheAge is how long reads of the embedded node are answered from
	// memory without being asked to. Nobody but this process writes there, and it
	// sees what it writes at once; the bound is for an operator who changes the
	// file with another program.
	nodeCacheAge = time.Second
)

// readCache keeps sessions of one store as they were read or written by this
// process. How old an answer may be is each handler's choice.
type readCache struct {
	entries *otter.Cache[string, cacheEntry]
	cleared atomic.Pointer[time.Time] // what was read before then is out of date
	oldest  atomic.Int64              // how old an answer to any handler may be, in nanoseconds
}

// cacheEntry is a session as it was at a time; without a record it only says
// that what was read before that time is out of date.
type cacheEntry struct {
	rec    rqlitestore.Record      // without ID: the token was ended or renewed by this process
	at     time.Time               // when the read or the write began; when the end was done
	opened *atomic.Pointer[[]byte] // the record's data, once somebody has opened its seal
}

func newReadCache() *readCache {
	c := new(readCache)
	c.entries = otter.Must(&otter.Options[string, cacheEntry]{
		MaximumWeight: cacheWeight,
		// That something has ended must outlive what was read before then: it gives
		// way to nothing, and is kept for as long as such an answer would be good.
		Weigher: func(token string, e cacheEntry) uint32 {
			if e.isEnd() {
				return 0
			}
			return uint32(entryWeight + len(token) + 2*len(e.rec.Data)) // sealed and opened
		},
		// What is older is no answer to anybody; it would take memory for nothing.
		ExpiryCalculator: otter.ExpiryWritingFunc(func(otter.Entry[string, cacheEntry]) time.Duration {
			return time.Duration(c.oldest.Load())
		}),
	})
	return c
}

// allow notes how old an answer to a handler may be. Where that is older than
// before, it is no answer from before: its end may have been forgotten.
func (c *readCache) allow(age time.Duration) {
	for known := c.oldest.Load(); int64(age) > known; known = c.oldest.Load() {
		if c.oldest.CompareAndSwap(known, int64(age)) {
			c.clear()
			return
		}
	}
}

// clear forgets all that was read so far.
func (c *readCache) clear() {
	c.cleared.Store(new(time.Now()))
}

// isEnd reports whether an entry only says that something has ended.
func (e cacheEntry) isEnd() bool { return e.rec.ID == "" }

// get returns a session that is known to have been so less than maxAge ago.
func (c *readCache) get(token string, maxAge time.Duration) (e cacheEntry, ok bool) {
	e, ok = c.entries.GetIfPresent(token)
	now := time.Now()
	if !ok || e.isEnd() || now.Sub(e.at) >= maxAge || !e.rec.Expiry.After(now) {
		return cacheEntry{}, false
	}
	if cleared := c.cleared.Load(); cleared != nil && !e.at.After(*cleared) {
		return cacheEntry{}, false
	}
	if c.endedSince(e.at, e.rec.ID) || e.rec.Principal != "" && c.endedSince(e.at, principalEntry(e.rec.Principal)) {
		return cacheEntry{}, false
	}
	return e, true
}

func (c *readCache) endedSince(at time.Time, key string) bool {
	ended, ok := c.entries.GetIfPresent(key)
	return ok && !at.After(ended.at)
}

// principalEntry is under what the end of a principal's sessions is noted: no
// token and no id has a space.
func principalEntry(principal string) string { return "principal " + principal }

// put notes what a token leads to, as a read or a write found it that began at
// a time, and the data opened, if that is known. What is newer stays: of two
// records the one with the higher version, and an end that was done after the
// read or the write began, for it may have come between that and now.
func (c *readCache) put(token string, rec rqlitestore.Record, values []byte, began time.Time) {
	opened := new(atomic.Pointer[[]byte])
	if values != nil {
		opened.Store(&values)
	}
	c.entries.Compute(token, func(known cacheEntry, found bool) (cacheEntry, otter.ComputeOp) {
		timeTells := known.isEnd() || rec.Version == known.rec.Version
		if found && (rec.Version < known.rec.Version || timeTells && !began.After(known.at)) {
			return known, otter.CancelOp
		}
		return cacheEntry{rec, began, opened}, otter.WriteOp
	})
}

// end notes that a token leads to nothing that is known, or that a session has
// ended by its id, whatever tokens lead to it: an id is shorter than any token.
// Of a principal it notes that some sessions may have ended.
func (c *readCache) end(token string) {
	c.entries.Set(token, cacheEntry{at: time.Now()})
}

// useCache decides how old an answer to this handler may be, and makes the
// cache if it may be answered from memory at all.
func (h *Handler) useCache() {
	if h.backend.node != nil {
		h.cacheAge = max(h.cacheAge, nodeCacheAge)
	}
	if h.cacheAge > 0 {
		h.backend.making.Do(func() { h.backend.cache.Store(newReadCache()) })
		h.backend.cache.Load().allow(h.cacheAge)
	}
}

// load reads and opens the row that a token with this hash leads to, from the cache
// where that is allowed.
func (h *Handler) load(ctx context.Context, r *row, hash string) (found bool, err error) {
	var cache *readCache
	if h.cacheAge > 0 {
		cache = h.backend.cache.Load()
		if e, known := cache.get(hash, h.cacheAge); known {
			h.backend.metrics.loadCached.Inc()
			r.rec, r.cached = e.rec, h.backend.cluster != nil
			return true, r.openOnce(h.keys, hash, e.opened)
		}
	}
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	r.rec, found, err = h.backend.store.Load(ctx, hash)
	h.backend.metrics.countLoad(found, err)
	if err != nil || !found {
		return false, err
	}
	err = r.open(h.keys, hash)
	if cache != nil && r.rec.Token == hash && cacheable(r.rec) {
		cache.put(hash, r.rec, r.values, start)
	}
	return true, err
}

// open opens the seal of a row that a token with this hash led to.
func (r *row) open(keys *keyring, hash string) (err error) {
	if r.values, err = keys.open(r.rec, hash); err != nil {
		return brokenRow{err}
	}
	return nil
}

// openOnce is open for a row that is read again and again.
func (r *row) openOnce(keys *keyring, hash string, opened *atomic.Pointer[[]byte]) error {
	if values := opened.Load(); values != nil {
		r.values = *values
		return nil
	}
	err := r.open(keys, hash)
	if err == nil {
		opened.Store(new(r.values))
	}
	return err
}

// cacheable reports whether a record holds while nobody stores anything: a
// token that is being replaced does not.
func cacheable(rec rqlitestore.Record) bool {
	return rec.Superseded.IsZero() && !rec.Aliased
}

// wrote makes what this process stored, in a write that began at a time, known
// to its own reads at once: a record, and its data before it was sealed, if that
// is at hand.
func (b *backend) wrote(rec rqlitestore.Record, values []byte, began time.Time) {
	if !cacheable(rec) {
		b.ended(rec.Token)
		return
	}
	if cache := b.cache.Load(); cache != nil {
		cache.put(rec.Token, rec, values, began)
	}
}

// ended makes the end of a token known to this process's own reads at once. It
// is called when the store has done it: what was read before then is forgotten,
// what is read from then on is not.
func (b *backend) ended(token string) {
	if cache := b.cache.Load(); cache != nil {
		cache.end(token)
	}
}

// endedAll makes it known to this process's own reads that any session may have
// ended.
func (b *backend) endedAll() {
	if cache := b.cache.Load(); cache != nil {
		cache.clear()
	}
}

// touched moves the expiry of a cached session, so that it is not touched again by the next request.
func (b *backend) touched(token string, expiry time.Time) {
	cache := b.cache.Load()
	if cache == nil {
		return
	}
	cache.entries.ComputeIfPresent(token, func(known cacheEntry) (cacheEntry, otter.ComputeOp) {
		if known.isEnd() {
			return known, otter.CancelOp
		}
		known.rec.Expiry = expiry
		return known, otter.WriteOp
	})
}

// destroy ends a stored session, for this process's own reads at once.
func (b *backend) destroy(ctx context.Context, rec rqlitestore.Record) error {
	err := b.store.Destroy(ctx, rec.ID)
	b.ended(rec.ID)
	return err
}
