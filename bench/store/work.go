package main

import (
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"github.com/caddy-session/caddy-session/bench/internal/measure"
	"github.com/caddy-session/caddy-session/bench/internal/process"
	"github.com/caddy-session/caddy-session/rqlitestore"
)

const (
	maxCallers = 1024
	maxTokens  = 16 // of one caller
	dataBytes  = 257
)

// token is one of a caller's own: callers never ask for the same row, so no
// answer can be shared.
func (c config) token(caller, n int) string { return tokens[caller][n%c.tokens] }

var tokens = func() (t [maxCallers][maxTokens]string) {
	for caller := range t {
		for n := range t[caller] {
			t[caller][n] = rand.Text() + rand.Text()[:17] // 43 characters, as scs's tokens
		}
	}
	return t
}()

var payloads = func() (p [64][]byte) {
	for i := range p {
		p[i] = make([]byte, dataBytes)
		rand.Read(p[i])
	}
	return p
}()

func expiry() time.Time { return time.Now().Add(24 * time.Hour) }

// fill stores every token once.
func fill(c config, s store) error {
	const workers = 64
	var (
		wg   sync.WaitGroup
		errs [workers]error
	)
	for w := range workers {
		wg.Go(func() {
			for caller := w; caller < maxCallers && errs[w] == nil; caller += workers {
				for n := range c.tokens {
					if err := s.Commit(c.token(caller, n), payloads[n], expiry()); err != nil {
						errs[w] = err
						return
					}
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

// compare lets the sides do one operation.
func compare(c config, operation string, callers int, sides []side) []measure.Result {
	var all []measure.Side
	for _, s := range sides {
		op := c.operate(s, operation)
		if op == nil {
			continue
		}
		all = append(all, measure.Side{
			Name: s.name, Op: op, ServerCPU: s.server.CPU, ClientCPU: process.OwnCPU,
		})
	}
	return measure.Compare(c.plan, callers, all)
}

var errLost = errors.New("a session that was stored is not there")

// operate returns one side's way of an operation, nil if it has none.
func (c config) operate(s side, operation string) func(caller, n int) error {
	switch operation {
	case "commit":
		return func(caller, n int) error {
			return s.store.Commit(c.token(caller, n), payloads[n%len(payloads)], expiry())
		}
	case "find":
		return func(caller, n int) error {
			data, found, err := s.store.Find(c.token(caller, n))
			if err == nil && (!found || len(data) != dataBytes) {
				err = errLost
			}
			return err
		}
	}
	if store, ok := s.store.(*rqlitestore.RqliteStore); ok {
		return c.records(store, operation)
	}
	return nil
}
