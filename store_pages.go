package caddysession

import (
	"context"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

// lister is a store to read sessions from: for visitors the one with a bound on
// its calls, for operators that without.
type lister interface {
	List(ctx context.Context, o rqlitestore.ListOptions) (recs []rqlitestore.Record, next string, err error)
}

// pages reads sessions page by page.
func pages(ctx context.Context, from lister, o rqlitestore.ListOptions, page func([]rqlitestore.Record) error) error {
	for {
		recs, next, err := from.List(ctx, o)
		if err != nil {
			return err
		}
		if err := page(recs); err != nil {
			return err
		}
		if next == "" {
			return nil
		}
		o.After = next
	}
}
