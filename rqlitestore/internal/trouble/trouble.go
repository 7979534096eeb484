// Package trouble is how the transport below gorqlite tells the store what keeps a
// request from being answered while it is under way: who stops waiting for it gets
// no answer that would say so.
package trouble

import (
	"context"
	"sync/atomic"
)

// Place is where it is told. The zero value is ready.
type Place struct {
	newest atomic.Pointer[error]
	other  atomic.Pointer[Place]
}

// Follow has p know what is told at another place, until something is told at p: one
// request waits for the other.
func (p *Place) Follow(other *Place) { p.other.Store(other) }

// Newest is what was told last, or nil.
func (p *Place) Newest() error {
	told := p.newest.Load()
	if other := p.other.Load(); told == nil && other != nil {
		told = other.newest.Load()
	}
	if told == nil {
		return nil
	}
	return *told
}

type key struct{}

// With has requests with the context tell their trouble at p.
func With(ctx context.Context, p *Place) context.Context {
	return context.WithValue(ctx, key{}, p)
}

// Of returns the place of ctx; one that has none gets one.
func Of(ctx context.Context) (context.Context, *Place) {
	if p, ok := ctx.Value(key{}).(*Place); ok {
		return ctx, p
	}
	p := new(Place)
	return With(ctx, p), p
}

// Tell is for a transport whose request waits. what is called if somebody listens.
func Tell(ctx context.Context, what func() error) {
	if p, ok := ctx.Value(key{}).(*Place); ok {
		err := what()
		p.newest.Store(&err)
	}
}
