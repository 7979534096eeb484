// Package idempotent is how the store tells the transport below gorqlite which
// requests may be sent more than once.
//
// gorqlite passes the context of a call on to the [http.Request], so a mark on
// the context reaches the [http.RoundTripper]. A request without the mark may
// only be repeated where it was certainly not applied.
package idempotent

import "context"

type key struct{}

// With marks ctx: the request made with it leaves the same rows behind whether
// it is applied once, twice, or late, after others.
func With(ctx context.Context) context.Context {
	return context.WithValue(ctx, key{}, true)
}

// Is reports whether ctx was marked by [With].
func Is(ctx context.Context) bool {
	return ctx.Value(key{}) != nil
}
