package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/alexedwards/scs/redisstore"
	"github.com/gomodule/redigo/redis"
	"github.com/rqlite/gorqlite"

	"github.com/caddy-session/caddy-session/bench/internal/process"
	"github.com/caddy-session/caddy-session/bench/plainsql"
	"github.com/caddy-session/caddy-session/rqlitestore"
	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
)

// store is what the sides are asked to do, a part of scs.Store.
type store interface {
	Find(token string) (data []byte, found bool, err error)
	Commit(token string, data []byte, expiry time.Time) error
}

var (
	_ store = (*rqlitestore.RqliteStore)(nil)
	_ store = (*redisstore.RedisStore)(nil)
	_ store = (*plainsql.Store)(nil)
)

// side is one store with the server behind it.
type side struct {
	name   string
	store  store
	server *process.Process
	url    string // of rqlited
}

const (
	ours  = "RqliteStore"
	plain = "one statement a call"
	// plainLinear shows what part of a lone read's time is its level.
	plainLinear = "one statement a call, linearizable"

	peer = "redisstore, fsync always"
)

// plainSides are the plain way at its own level and at that of RqliteStore.
var plainSides = []struct{ short, name, query string }{
	{"plain", plain, ""},
	{"plain-linearizable", plainLinear, "?level=linearizable"},
}

// start starts the servers and returns the sides, the measured one first.
func start(c config) (sides []side, stop func(), err error) {
	var stops []func()
	stop = func() {
		for _, f := range slices.Backward(stops) {
			f()
		}
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	dir, err := os.MkdirTemp(c.dir, "bench-store-")
	if err != nil {
		return nil, nil, fmt.Errorf("make directory: %w", err)
	}
	stops = append(stops, func() { _ = os.RemoveAll(dir) })
	rqlited, url, err := process.Rqlited(dir)
	if err != nil {
		return nil, nil, err
	}
	stops = append(stops, rqlited.Stop)
	sides, err = onRqlite(c, url, rqlited)
	if err != nil {
		return nil, nil, err
	}
	if slices.Contains(c.sides, "redis") {
		server, addr, err := process.Redis(dir)
		switch {
		case errors.Is(err, process.ErrMissing):
			fmt.Fprintln(os.Stderr, "left out:", err)
		case err != nil:
			return nil, nil, err
		default:
			stops = append(stops, server.Stop)
			pool := &redis.Pool{
				MaxIdle: c.pool, MaxActive: c.pool, Wait: true,
				Dial: func() (redis.Conn, error) { return redis.Dial("tcp", addr) },
			}
			sides = append(sides, side{peer, redisstore.New(pool), server, ""})
		}
	}
	for _, s := range sides {
		if err := fill(c, s.store); err != nil {
			return nil, nil, fmt.Errorf("fill %s: %w", s.name, err)
		}
	}
	return sides, stop, nil
}

func onRqlite(c config, url string, server *process.Process) ([]side, error) {
	var sides []side
	if slices.Contains(c.sides, "store") {
		conn, err := cluster.Connect(url)
		if err != nil {
			return nil, err
		}
		sides = append(sides, side{ours, rqlitestore.NewWithCleanupInterval(conn, 0), server, url})
	}
	for _, p := range plainSides {
		if !slices.Contains(c.sides, p.short) {
			continue
		}
		conn, err := gorqlite.Open(url + p.query)
		if err != nil {
			return nil, fmt.Errorf("open gorqlite: %w", err)
		}
		store, err := plainsql.New(conn, "plain_sessions")
		if err != nil {
			return nil, err
		}
		sides = append(sides, side{p.name, store, server, url})
	}
	return sides, nil
}
