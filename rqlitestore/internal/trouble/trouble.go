// Package trouble is how the transport below gorqlite tells the store what keeps a
// request from being answered while it is under way: who stops waiting for it gets
// no answer that would say so.
package trouble

import (
	"context"
	"sync/atomic"
)

// Place is where it is told. The zero value is ready.
type Place struct{ newest atomic.Pointer[error] }

// Clear forgets what was told.
func (p *Place) Clear() { p.newest.Store(nil) }

// Newest is what was told last, or nil.
func (p *Place) Newest() error {
	if err := p.newest.Load(); err != nil {
		return *err
	}
	return nil
}

type key struct{}

// With has requests with the context tell their trouble at p.
func With(ctx context.Context, p *Place) context.Context {
	return context.WithValue(ctx, key{}, p)
}

// Tell is for a transport whose request waits. what is called if somebody listens.
func Tell(ctx context.Context, what func() error) {
	if p, ok := ctx.Value(key{}).(*Place); ok {
		err := what()
		p.newest.Store(&err)
	}
}
