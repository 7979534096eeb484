// Package idempotent is how the store and the transport below gorqlite agree on
// which requests may be sent more than once.
//
// gorqlite passes the context of a call on to the [http.Request], so a mark on
// the context reaches the [http.RoundTripper]. A request without the mark may
// only be repeated where it was certainly not applied.
package idempotent

import (
	"context"
	"sync/atomic"
)

type key struct{}

// With marks ctx: the request made with it leaves the same rows behind whether
// it is applied once, twice, or late, after others. The mark is for one request.
func With(ctx context.Context) context.Context {
	return context.WithValue(ctx, key{}, new(atomic.Int64))
}

// Is reports whether ctx was marked by [With].
func Is(ctx context.Context) bool {
	return sent(ctx) != nil
}

// Sending is what a transport that repeats requests calls each time before it
// sends the one with this context.
func Sending(ctx context.Context) {
	if n := sent(ctx); n != nil {
		n.Add(1)
	}
}

// NotApplied takes back a Sending after which the request was certainly not applied.
func NotApplied(ctx context.Context) {
	if n := sent(ctx); n != nil {
		n.Add(-1)
	}
}

// MayBeApplied reports whether it was sent at all and not taken back.
func MayBeApplied(ctx context.Context) bool {
	n := sent(ctx)
	return n != nil && n.Load() > 0
}

// Repeated reports whether the request was sent more than once. Its reply then
// says what the last of them found, not what the first one did.
func Repeated(ctx context.Context) bool {
	n := sent(ctx)
	return n != nil && n.Load() > 1
}

func sent(ctx context.Context) *atomic.Int64 {
	n, _ := ctx.Value(key{}).(*atomic.Int64)
	return n
}
