package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/caddy-session/caddy-session/bench/internal/keepalive"
	"github.com/caddy-session/caddy-session/bench/internal/measure"
	"github.com/caddy-session/caddy-session/bench/internal/process"
)

// work is what every side is asked to do.
type work struct {
	name, title, path string
	cookie            bool // the requests carry one
	body              string
}

var works = []work{
	{name: "none", title: "untouched, no cookie", path: "/none", body: "-"},
	{name: "cookie", title: "untouched, with a cookie", path: "/none", cookie: true, body: "-"},
	{name: "read", title: "read", path: "/read", cookie: true, body: loginValues[0][1]},
	{name: "write", title: "written", path: "/write", cookie: true, body: "-"},
}

// compare lets every side do the work, and proves afterwards that it was done.
func (b *bench) compare(c config, w work) ([]measure.Row, error) {
	var all []measure.Side
	sides := slices.DeleteFunc(slices.Clone(b.sides), func(r *running) bool { return !r.does(w) })
	for _, r := range sides {
		all = append(all, measure.Side{
			Name: r.name, Op: r.operate(w), ServerCPU: r.cpu,
			ClientCPU: func() time.Duration { return process.OwnCPU() + b.upstream.CPU() },
		})
	}
	results := measure.Compare(c.plan, c.connections, all)
	allocs := make([]allocated, len(sides))
	for i, r := range sides {
		var err error
		if allocs[i], err = r.allocations(w); err != nil {
			return nil, err
		}
		if err := r.checkCounts(); err != nil {
			return nil, err
		}
	}
	return report(w, sides, results, allocs), nil
}

// operate returns one request of a connection.
func (r *running) operate(w work) func(caller, n int) error {
	requests := make([][]byte, len(r.visitors))
	for i, v := range r.visitors {
		cookie := ""
		if w.cookie {
			cookie = v.cookie
		}
		requests[i] = keepalive.Get(w.path, cookie)
	}
	body := w.body
	return func(caller, _ int) error {
		v := r.visitors[caller]
		res, err := v.conn.Do(requests[caller])
		if err == nil && (res.Status != 200 || string(res.Body) != body) {
			err = fmt.Errorf("answered with %d", res.Status)
		}
		if w.name == "write" {
			if err == nil {
				v.writes++
			} else {
				v.unsure++
			}
		}
		return err
	}
}
