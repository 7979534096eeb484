package caddysession

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

// defaultMaxCalls is far more than a store works on at a time: calls that wait
// travel together. What comes on top of it would only wait for longer than
// clients do.
const defaultMaxCalls = 1024

// errBusy is the error of a call that was one too many. The store is not down.
var errBusy = errors.New("as many calls of the session store as max_calls allows are under way: try again")

// boundedStore is a store with a bound on the calls that are under way at a
// time. The next one fails at once: while the store is slow, those who come
// later do not make it slower, and requests do not pile up. What an operator asks
// goes to the RqliteStore itself: an overload is when sessions may have to be ended.
type boundedStore struct {
	*rqlitestore.RqliteStore
	metrics *storeMetrics
	limit   atomic.Int64
	calls   atomic.Int64
}

func newBoundedStore(store *rqlitestore.RqliteStore, metrics *storeMetrics) *boundedStore {
	s := &boundedStore{RqliteStore: store, metrics: metrics}
	s.limit.Store(defaultMaxCalls)
	return s
}

// begin takes a place among the calls under way. Each nil is to be followed by end.
func (s *boundedStore) begin() error {
	if s.calls.Add(1) > s.limit.Load() {
		s.calls.Add(-1)
		s.metrics.tooManyCalls.Inc()
		return errBusy
	}
	return nil
}

// beginUpkeep is begin for what no client waits for. It leaves half of the
// places to requests, so that none is turned away for it.
func (s *boundedStore) beginUpkeep() error {
	if s.calls.Add(1) > max(1, s.limit.Load()/2) {
		s.calls.Add(-1)
		return errBusy
	}
	return nil
}

func (s *boundedStore) end() { s.calls.Add(-1) }

// Load is that of the store.
func (s *boundedStore) Load(ctx context.Context, token string) (rqlitestore.Record, bool, error) {
	if err := s.begin(); err != nil {
		return rqlitestore.Record{}, false, err
	}
	defer s.end()
	return s.RqliteStore.Load(ctx, token)
}

// Current is that of the store.
func (s *boundedStore) Current(ctx context.Context, id string) (rqlitestore.Record, bool, error) {
	if err := s.begin(); err != nil {
		return rqlitestore.Record{}, false, err
	}
	defer s.end()
	return s.RqliteStore.Current(ctx, id)
}

// CurrentWatched is Current for a watch, refused where there are many calls: it asks again soon.
func (s *boundedStore) CurrentWatched(ctx context.Context, id string) (rqlitestore.Record, bool, error) {
	if err := s.beginUpkeep(); err != nil {
		return rqlitestore.Record{}, false, err
	}
	defer s.end()
	return s.RqliteStore.Current(ctx, id)
}

// Create is that of the store.
func (s *boundedStore) Create(ctx context.Context, rec rqlitestore.Record) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.end()
	return s.RqliteStore.Create(ctx, rec)
}

// Update is that of the store.
func (s *boundedStore) Update(ctx context.Context, rec rqlitestore.Record, apply func(rqlitestore.Record) (rqlitestore.Record, error)) (rqlitestore.Record, error) {
	if err := s.begin(); err != nil {
		return rqlitestore.Record{}, err
	}
	defer s.end()
	return s.RqliteStore.Update(ctx, rec, apply)
}

// Track is Update for what tracks the use of a session, dropped where there are many calls: so is Touch.
func (s *boundedStore) Track(ctx context.Context, rec rqlitestore.Record, apply func(rqlitestore.Record) (rqlitestore.Record, error)) (rqlitestore.Record, error) {
	if err := s.beginUpkeep(); err != nil {
		return rqlitestore.Record{}, err
	}
	defer s.end()
	return s.RqliteStore.Update(ctx, rec, apply)
}

// Destroy is that of the store.
func (s *boundedStore) Destroy(ctx context.Context, ids ...string) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.end()
	return s.RqliteStore.Destroy(ctx, ids...)
}

// DestroyPrincipals is that of the store.
func (s *boundedStore) DestroyPrincipals(ctx context.Context, principals []string, exceptID string) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.end()
	return s.RqliteStore.DestroyPrincipals(ctx, principals, exceptID)
}

// List is that of the store.
func (s *boundedStore) List(ctx context.Context, o rqlitestore.ListOptions) ([]rqlitestore.Record, string, error) {
	if err := s.begin(); err != nil {
		return nil, "", err
	}
	defer s.end()
	return s.RqliteStore.List(ctx, o)
}

// Touch is that of the store, dropped where there are many calls: the next
// request of the session makes up for it.
func (s *boundedStore) Touch(ctx context.Context, id string, expiry time.Time) error {
	if err := s.beginUpkeep(); err != nil {
		s.metrics.touchDropped.Inc()
		return err
	}
	defer s.end()
	err := s.RqliteStore.Touch(ctx, id, expiry)
	if err != nil {
		s.metrics.touchFailed.Inc()
	} else {
		s.metrics.touched.Inc()
	}
	return err
}

// Presented is that of the store, dropped where there are many calls.
func (s *boundedStore) Presented(ctx context.Context, id, token string) error {
	if err := s.beginUpkeep(); err != nil {
		return err
	}
	defer s.end()
	return s.RqliteStore.Presented(ctx, id, token)
}
