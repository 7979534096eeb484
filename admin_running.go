package caddysession

import (
	"errors"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// running are the apps that have started and are not cleaned up yet, the newest
// last. During a reload there are two; one that fails to load leaves again, and
// the one before it is what runs.
var running struct {
	mu   sync.Mutex
	apps []*App
}

// enter makes a the app whose stores the admin API shows.
func (a *App) enter() {
	running.mu.Lock()
	defer running.mu.Unlock()
	running.apps = append(running.apps, a)
}

// leave takes back what enter did. Where that was of no avail, for another app
// of the config failed to start, it returns the app that goes on running.
func (a *App) leave() (goesOn *App) {
	running.mu.Lock()
	defer running.mu.Unlock()
	at := slices.Index(running.apps, a)
	if at < 0 {
		return nil
	}
	if newest := at == len(running.apps)-1; newest && at > 0 {
		goesOn = running.apps[at-1]
	}
	running.apps = slices.Delete(running.apps, at, at+1)
	return goesOn
}

// holdStores returns the stores of the config that is running, by name. They
// stay open until letGo is called, also when a reload takes them away.
func holdStores() (stores []namedStore, letGo func()) {
	running.mu.Lock()
	defer running.mu.Unlock()
	if len(running.apps) > 0 {
		stores = nameStores(running.apps[len(running.apps)-1].leases)
	}
	for _, s := range stores {
		s.backend.hold()
	}
	return stores, func() {
		for _, s := range stores {
			s.backend.letGo()
		}
	}
}

// names are what people call the store: the file or the nodes, and the table behind
// them unless it is the usual one. The short one is the file without its directory,
// or the first node.
func (r *resolvedStore) names() (short, long string) {
	if r.file != "" {
		return r.withTable(filepath.Base(r.file)), r.withTable(r.file)
	}
	hosts := make([]string, len(r.rqlite.Addresses))
	for i, address := range r.rqlite.Addresses {
		u, _ := url.Parse(address) // it was checked
		hosts[i] = u.Host
	}
	return r.withTable(hosts[0]), r.withTable(strings.Join(hosts, ","))
}

// namedStore is a store of a config with the name that the admin API and the
// command line have for it.
type namedStore struct {
	name string
	long string // good as a name, too
	*lease
}

// nameStores gives the stores of a config their names: the short one, or where two
// would be called the same, the long one.
func nameStores(leases map[string]*lease) []namedStore {
	uses := make(map[string]int)
	for _, l := range leases {
		short, _ := l.store.names()
		uses[short]++
	}
	var stores []namedStore
	for _, l := range leases {
		name, long := l.store.names()
		if uses[name] > 1 {
			name = long
		}
		stores = append(stores, namedStore{name, long, l})
	}
	slices.SortFunc(stores, func(a, b namedStore) int { return strings.Compare(a.name, b.name) })
	return stores
}

var errNoStore = errors.New("the config that is running has no session")

// storeFor returns the store that a request names with ?store=. Where there is
// only one it needs no name.
func storeFor(r *http.Request, stores []namedStore) (namedStore, error) {
	name := r.URL.Query().Get("store")
	if len(stores) == 0 {
		return namedStore{}, apiError(http.StatusNotFound, "%w", errNoStore)
	}
	if name == "" && len(stores) == 1 {
		return stores[0], nil
	}
	names := make([]string, len(stores))
	for i, s := range stores {
		if name == s.name || name == s.long || name == s.backend.metrics.store {
			return s, nil
		}
		names[i] = s.name
	}
	if name == "" {
		return namedStore{}, apiError(http.StatusBadRequest, "there are several stores: name one of %s", strings.Join(names, ", "))
	}
	return namedStore{}, apiError(http.StatusNotFound, "no store is called %q: there is %s", name, strings.Join(names, ", "))
}
