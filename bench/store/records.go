package main

import (
	"context"
	"errors"
	"sync"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

// records returns an operation on versioned records, which the handler uses and
// only RqliteStore has. Each caller has a session of its own.
func (c config) records(store *rqlitestore.RqliteStore, operation string) func(caller, n int) error {
	var sessions [maxCallers]struct {
		once sync.Once
		rec  rqlitestore.Record
	}
	ctx := context.Background()
	return func(caller, n int) (err error) {
		s := &sessions[caller]
		s.once.Do(func() {
			s.rec = rqlitestore.Record{
				Token: operation + c.token(caller, 0), ID: operation + c.token(caller, 0),
				Data: payloads[0], Expiry: expiry(),
			}
			err = store.Create(ctx, s.rec)
			if errors.Is(err, rqlitestore.ErrExists) {
				err = nil
			}
			if err == nil {
				s.rec, _, err = store.Load(ctx, s.rec.Token)
			}
		})
		switch {
		case err != nil:
		case operation == "load":
			var found bool
			if _, found, err = store.Load(ctx, s.rec.Token); err == nil && !found {
				err = errLost
			}
		case operation == "update":
			s.rec, err = store.Update(ctx, s.rec, func(cur rqlitestore.Record) (rqlitestore.Record, error) {
				cur.Data = payloads[n%len(payloads)]
				return cur, nil
			})
		}
		return err
	}
}
