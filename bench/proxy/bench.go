package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-session/caddy-session/bench/internal/keepalive"
	"github.com/caddy-session/caddy-session/bench/internal/process"
	"github.com/caddy-session/caddy-session/bench/internal/site"
)

// bench holds the processes and what each side has to be asked.
type bench struct {
	upstream *process.Process
	sides    []*running
	stops    []func()
}

// running is a side with its Caddy.
type running struct {
	side
	caddy       *process.Process
	addr, admin string
	server      *process.Process // of the store, if it has one
	visitors    []*visitor
}

// visitor is a connection with a session of its own.
type visitor struct {
	conn   *keepalive.Conn
	cookie string
	writes int // that were answered with 200
	unsure int // that were not
}

func start(c config) (b *bench, err error) {
	b = new(bench)
	defer func() {
		if err != nil {
			b.stop()
		}
	}()
	dir, err := os.MkdirTemp(c.dir, "bench-proxy-")
	if err != nil {
		return b, fmt.Errorf("make directory: %w", err)
	}
	b.stops = append(b.stops, func() { _ = os.RemoveAll(dir) })
	upstream, err := b.startUpstream()
	if err != nil {
		return b, err
	}
	stores, err := b.startStores(c, dir)
	if err != nil {
		return b, err
	}
	for _, s := range sides {
		server := stores[s.store]
		if (s.store != "" && server.process == nil) || !c.wants(s) {
			continue
		}
		r := &running{side: s, server: server.process}
		routes := strings.NewReplacer("{UPSTREAM}", upstream, "{STORE}", server.addr).Replace(s.routes)
		if r.caddy, r.addr, r.admin, err = site.Start(dir, s.name, routes); err != nil {
			return b, fmt.Errorf("%s: %w", s.title, err)
		}
		b.stops = append(b.stops, r.caddy.Stop)
		b.sides = append(b.sides, r)
		if err := r.login(c.connections); err != nil {
			return b, fmt.Errorf("%s: %w", s.title, err)
		}
	}
	return b, nil
}

func (b *bench) startUpstream() (addr string, err error) {
	if addr, err = process.FreeAddr(); err != nil {
		return "", err
	}
	cmd, err := process.Again(upstreamCommand, addr)
	if err != nil {
		return "", err
	}
	if b.upstream, err = process.Listener(cmd, addr); err != nil {
		return "", err
	}
	b.stops = append(b.stops, b.upstream.Stop)
	return addr, nil
}

type storeServer struct {
	process *process.Process
	addr    string
}

// startStores starts the servers of stores that are installed here.
func (b *bench) startStores(c config, dir string) (map[string]storeServer, error) {
	stores := make(map[string]storeServer)
	for name, start := range map[string]func(string) (*process.Process, string, error){
		rqlited: process.Rqlited, redis: process.Redis,
	} {
		if !slices.ContainsFunc(sides, func(s side) bool { return s.store == name && c.wants(s) }) {
			continue
		}
		p, addr, err := start(dir)
		switch {
		case errors.Is(err, process.ErrMissing):
			fmt.Fprintln(os.Stderr, "left out:", err)
			continue
		case err != nil:
			return nil, err
		}
		b.stops = append(b.stops, p.Stop)
		stores[name] = storeServer{p, strings.TrimPrefix(addr, "http://")}
	}
	return stores, nil
}

func (c config) wants(s side) bool {
	return c.sides == "" || s.name == bare || slices.Contains(strings.Split(c.sides, ","), s.name)
}

func (b *bench) stop() {
	for _, f := range slices.Backward(b.stops) {
		f()
	}
}

// login gives every connection a session, and proves that it is one.
func (r *running) login(connections int) error {
	for range connections {
		v := &visitor{conn: keepalive.NewConn(r.addr)}
		r.visitors = append(r.visitors, v)
		if r.name == bare {
			v.cookie = "session=" + strings.Repeat("a", 43)
			continue
		}
		res, err := v.conn.Do(keepalive.Get("/login", ""))
		if err != nil {
			return err
		}
		cookie, ok := res.Cookie()
		if res.Status != 204 || !ok {
			return fmt.Errorf("the login was answered with %d", res.Status)
		}
		v.cookie = cookie
		if res, err = v.conn.Do(keepalive.Get("/read", v.cookie)); err != nil {
			return err
		}
		if string(res.Body) != loginValues[0][1] {
			return fmt.Errorf("a session that was stored reads as %q, with status %d", res.Body, res.Status)
		}
	}
	return nil
}

// checkCounts proves that every write that was answered is there, once.
func (r *running) checkCounts() error {
	if r.name == bare {
		return nil
	}
	for _, v := range r.visitors {
		if v.writes+v.unsure == 0 {
			continue
		}
		res, err := v.conn.Do(keepalive.Get("/count", v.cookie))
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(res.Body))
		if err != nil || n < v.writes || n > v.writes+v.unsure {
			return fmt.Errorf("%s: a session counts %q after %d writes that were answered and %d that were not",
				r.title, res.Body, v.writes, v.unsure)
		}
	}
	return nil
}

// cpu is the processor time of a side's Caddy and of its store's server.
func (r *running) cpu() time.Duration {
	sum := r.caddy.CPU()
	if r.server != nil {
		sum += r.server.CPU()
	}
	return sum
}
