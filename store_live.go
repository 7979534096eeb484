package caddysession

import (
	"errors"
	"slices"
	"sync"
)

// live are the stores that are in use. Of two with the same label, while a
// reload changes how one store is reached, the newer one is shown.
var live liveBackends

type liveBackends struct {
	mu  sync.Mutex
	all []*backend
}

func (l *liveBackends) add(b *backend) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, b)
}

func (l *liveBackends) remove(b *backend) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = slices.DeleteFunc(l.all, func(other *backend) bool { return other == b })
}

// closeAbandoned closes the stores that only requests of earlier configs use.
func (l *liveBackends) closeAbandoned() error {
	l.mu.Lock()
	all := slices.Clone(l.all)
	l.mu.Unlock()
	var errs []error
	for _, b := range all {
		if b.abandoned.Load() {
			errs = append(errs, b.close())
		}
	}
	return errors.Join(errs...)
}

// ofFile returns the stores in a file, the newest last.
func (l *liveBackends) ofFile(file string) (all []*backend) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.all {
		if b.file == file {
			all = append(all, b)
		}
	}
	return all
}

// newest returns the store with this label that the newest config has, or nil.
func (l *liveBackends) newest(label string) *backend {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range slices.Backward(l.all) {
		if b.metrics.store == label && !b.abandoned.Load() {
			return b
		}
	}
	return nil
}

func (l *liveBackends) byLabel() map[string]*backend {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make(map[string]*backend, len(l.all))
	for _, b := range l.all {
		all[b.metrics.store] = b
	}
	return all
}
