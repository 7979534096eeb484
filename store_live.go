package caddysession

import (
	"context"
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

// waitNoLonger closes the stores of earlier configs but for those that requests use.
func (l *liveBackends) waitNoLonger() (err error) {
	for _, b := range l.abandoned() {
		if late := b.late.Load(); late != nil && late.Stop() && b.holders.Add(-1) == 0 {
			err = errors.Join(err, b.close())
		}
	}
	return err
}

// closeAbandoned closes them all when the process exits: it leaves no file open,
// whatever the config that ran last has.
func (l *liveBackends) closeAbandoned(context.Context) {
	for _, b := range l.abandoned() {
		b.closeLate()
	}
}

// abandoned returns the stores that no config has any more.
func (l *liveBackends) abandoned() (all []*backend) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.all {
		if b.abandoned.Load() {
			all = append(all, b)
		}
	}
	return all
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
