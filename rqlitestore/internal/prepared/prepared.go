// Package prepared is how the store tells the transport below gorqlite of which
// requests the table was there before: where a node has none, it may have lost its
// data.
package prepared

import "context"

type key struct{}

// With marks ctx: the table of the request made with it was there.
func With(ctx context.Context) context.Context { return context.WithValue(ctx, key{}, true) }

// Is reports whether ctx was marked by [With].
func Is(ctx context.Context) bool { return ctx.Value(key{}) != nil }
