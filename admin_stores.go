package caddysession

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
)

// healthTimeout is how long a store may take to show that it is there.
const healthTimeout = 3 * time.Second

// statusesAtOnce is how many stores are asked at the same time. Of hundreds in one
// file or cluster, which make their tables when first asked, most would wait for the
// others, and be called unreachable.
const statusesAtOnce = 8

// StoreStatus is a store of the config that is running, and how it is.
type StoreStatus struct {
	// The name for the parameter store and for --store.
	Name string `json:"name"`

	// What metrics and events call it; good as a name, too.
	Label string `json:"label"`

	// embedded or rqlite.
	Kind string `json:"kind"`

	// The file of an embedded node.
	File string `json:"file,omitempty"`

	// The table in it.
	Table string `json:"table"`

	// Whether it answered a read just now.
	Reachable bool `json:"reachable"`

	// How long that took, in seconds.
	Latency float64 `json:"latency"`

	// Whether another process has the file of an embedded node open, so that
	// this one cannot.
	Locked bool `json:"locked"`

	// Why it is not reachable.
	Error string `json:"error,omitempty"`

	// Why what visitors did could not be stored last, where reads are answered
	// all the same, as on a full disk; absent once something is stored again, or
	// half a minute after the last that was not.
	WritesFail string `json:"writes_fail,omitempty"`

	// Until when sessions from before there were keys are accepted; absent when
	// they are not.
	PlainUntil *time.Time `json:"plain_until,omitempty"`

	// The nodes of a cluster.
	Nodes []NodeStatus `json:"nodes,omitempty"`
}

// NodeStatus is what is known about a node of a cluster.
type NodeStatus struct {
	// The address as configured.
	Address string `json:"address"`

	// Whether it leads: requests go to it.
	Leader bool `json:"leader"`

	// The state of its circuit breaker: closed while requests are sent to it,
	// open while they are not, half-open while it is tried again.
	State string `json:"state"`

	// When it began, or ceased, to get requests.
	Since time.Time `json:"since"`

	// Its newest failure, also after it has recovered.
	LastError string `json:"last_error,omitempty"`

	// When that was.
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
}

func adminStores(w http.ResponseWriter, r *http.Request, stores []namedStore) error {
	if r.URL.Query().Get("store") != "" {
		one, err := storeFor(r, stores)
		if err != nil {
			return err
		}
		stores = []namedStore{one}
	}
	statuses := make([]StoreStatus, len(stores))
	var all sync.WaitGroup
	turns := make(chan struct{}, statusesAtOnce)
	for i, s := range stores {
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			statuses[i] = s.status(r.Context())
		})
	}
	all.Wait()
	return writeJSON(w, map[string]any{"stores": statuses})
}

// status asks the store for a session that is not there.
func (s namedStore) status(ctx context.Context) StoreStatus {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	status := StoreStatus{Name: s.name, Label: s.backend.metrics.store, Kind: "embedded", File: s.store.file, Table: s.store.table}
	begun := time.Now()
	err := s.backend.blocked()
	if err == nil {
		_, _, err = s.backend.store.RqliteStore.Current(ctx, "none")
	}
	status.Latency = time.Since(begun).Seconds()
	status.Reachable, status.Locked = err == nil, errors.Is(err, embedded.ErrLocked)
	if err != nil {
		status.Error = oneLine(err)
	} else if f := s.backend.writesFail(); f != nil {
		status.WritesFail = oneLine(f.why)
	}
	if s.keys != nil && s.keys.acceptsPlain() {
		status.PlainUntil = new(s.keys.plainUntil.UTC())
	}
	if s.backend.cluster == nil {
		return status
	}
	status.Kind = "rqlite"
	for _, n := range s.backend.cluster.Nodes() {
		status.Nodes = append(status.Nodes, NodeStatus{n.URL, n.Leader, string(n.State), n.Since.UTC(), n.LastError, n.LastErrorAt.UTC()})
	}
	return status
}

// oneLine is the text of an error; gorqlite's have several lines.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// CountResult says how many sessions a store has.
type CountResult struct {
	// The name of the store.
	Store string `json:"store"`

	// How many sessions are good now.
	Sessions int64 `json:"sessions"`

	// How many of them each key has sealed.
	Keys []KeyCount `json:"keys"`
}

// KeyCount says how many sessions a key has sealed.
type KeyCount struct {
	// The name of the key, by which nobody can tell its secret; "none" for
	// sessions that are not sealed.
	Key string `json:"key"`

	// How many sessions it has sealed. A key that is configured and not the
	// first can be dropped when there are none.
	Sessions int64 `json:"sessions"`

	// Whether these sessions can be used: the key is configured, or they are
	// not sealed and there are no keys, or plain_until is yet to come.
	Configured bool `json:"configured"`

	// Whether it is the key that new sessions are sealed with.
	First bool `json:"first"`
}

func adminCount(w http.ResponseWriter, r *http.Request, s namedStore) error {
	counts, err := s.backend.store.CountByPrefix(r.Context(), sealedPrefix)
	if err != nil {
		return s.unavailable(err)
	}
	byKey := make(map[string]int64)
	result := CountResult{Store: s.name}
	for prefix, n := range counts {
		result.Sessions += n
		byKey[keyOf([]byte(prefix))] += n
	}
	result.Keys = s.keys.counts(byKey)
	return writeJSON(w, result)
}

// counts lists the keys with how many rows each has sealed: first the ones
// that are configured in their order, then no key, then those that are not.
func (r *keyring) counts(byKey map[string]int64) []KeyCount {
	var counts []KeyCount
	for i, k := range r.all() {
		counts = append(counts, KeyCount{Key: k.name(), Sessions: byKey[k.name()], Configured: true, First: i == 0})
		delete(byKey, k.name())
	}
	if plain := byKey[""]; plain > 0 || r == nil {
		counts = append(counts, KeyCount{Key: "none", Sessions: plain, Configured: r.acceptsPlain(), First: r == nil})
	}
	delete(byKey, "")
	for _, name := range slices.Sorted(maps.Keys(byKey)) {
		counts = append(counts, KeyCount{Key: name, Sessions: byKey[name]})
	}
	return counts
}
