package main

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/caddy-session/caddy-session/bench/internal/keepalive"
	"github.com/caddy-session/caddy-session/bench/internal/measure"
	"github.com/caddy-session/caddy-session/internal/load"
)

const (
	places       = 16                    // calls of the store at once
	storeLatency = 40 * time.Millisecond // of each
	visitors     = 8 * places
	times        = 5 // as many requests as the site can answer
)

const overloadRoutes = `
	session {
		rqlite http://{STORE}
		max_calls 16
	}
	handle /login {
		session_edit put user alice
		respond 204
	}
	handle /increment {
		session_edit increment n
		respond ok
	}
	handle {
		respond "{http.session.data.user}."
	}`

// measureOverload asks a site five times as much as its slow store can do.
func measureOverload(dir string) error {
	addr, stop, err := startSite(dir, overloadRoutes, storeLatency)
	if err != nil {
		return err
	}
	defer stop()
	l := &rush{addr: addr, free: make(chan *keepalive.Conn, 4096)}
	for range visitors {
		conn := keepalive.NewConn(addr)
		cookie, err := login(conn)
		if err != nil {
			return err
		}
		l.cookies = append(l.cookies, cookie)
		l.free <- conn
	}
	var goodput, p50, p99, slowest []float64
	turnedAway := 0
	for range *rounds {
		l.took = make(map[int][]time.Duration)
		load.InTurn(places, *round, l.request)
		peak := float64(len(l.took[http.StatusOK])) / round.Seconds()
		l.took = make(map[int][]time.Duration)
		load.AtRate(times*peak, *round, l.request)
		good, away := l.took[http.StatusOK], l.took[http.StatusServiceUnavailable]
		if n := l.answers(); n != len(good)+len(away) || len(away) == 0 {
			return fmt.Errorf("%d answers, of them %d good and %d turned away", n, len(good), len(away))
		}
		slices.Sort(away)
		turnedAway += len(away)
		goodput = append(goodput, float64(len(good))/round.Seconds()/peak)
		p50 = append(p50, float64(measure.Percentile(away, 50)))
		p99 = append(p99, float64(measure.Percentile(away, 99)))
		slowest = append(slowest, float64(away[len(away)-1]))
	}
	fmt.Println("\n| asked for | goodput to the peak | turned away | p50 | p99 | slowest, median of the rounds | slowest of all |\n| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
	fmt.Printf("| %d x the peak | %.0f %% | %d | %v | %v | %v | %v |\n", times, 100*measure.Median(goodput), turnedAway,
		rounded(measure.Median(p50)), rounded(measure.Median(p99)), rounded(measure.Median(slowest)), rounded(slices.Max(slowest)))
	return nil
}

// rush is what many visitors with sessions do; a third of it is to write.
type rush struct {
	addr    string
	cookies []string
	free    chan *keepalive.Conn
	mu      sync.Mutex
	took    map[int][]time.Duration // by status; 0 is no answer
}

func (l *rush) request(i int) {
	path := "/"
	if i%3 == 0 {
		path = "/increment"
	}
	text := keepalive.Get(path, l.cookies[i*7%len(l.cookies)])
	begun := time.Now()
	var conn *keepalive.Conn
	select {
	case conn = <-l.free:
	default:
		conn = keepalive.NewConn(l.addr)
	}
	res, err := conn.Do(text)
	took := time.Since(begun)
	status := res.Status
	if err != nil {
		status = 0
	}
	l.free <- conn
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took[status] = append(l.took[status], took)
}

func (l *rush) answers() int {
	n := 0
	for _, took := range l.took {
		n += len(took)
	}
	return n
}
