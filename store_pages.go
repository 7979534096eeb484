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

const listPage = 1000 // rows at a time

// pages reads the sessions of principals, or without any those of everybody, page
// by page.
func pages(ctx context.Context, from lister, principals []string, page func([]rqlitestore.Record) error) error {
	o := rqlitestore.ListOptions{Principals: principals, Limit: listPage}
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
