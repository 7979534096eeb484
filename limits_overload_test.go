package caddysession_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/internal/load"
)

// A store that takes 40 ms for a request is asked five times as much as it can
// do: what is let in is done as fast as ever, the rest is told so at once. How
// fast that is the log says; a busy machine fails no test.
func TestLimits_keepTheGoodputUnderOverload(t *testing.T) {
	const places, latency = 16, 40 * time.Millisecond
	store := newStandIn(t)
	s := startWithAdmin(t, limitedSite, "STORE", store.URL, "TABLE", "sessions_overload", "MAX", fmt.Sprint(places), "METRICS", "http://"+freeAddress(t))
	var cookies []string
	for range 8 * places {
		cookies = append(cookies, s.visitor().withoutJar().get("/put").cookie(t).Value)
	}
	store.slows(latency)
	took := 3 * time.Second
	if testing.Short() {
		took = time.Second
	}

	var peak, good, rejected []time.Duration
	l := newRush(s, cookies)
	load.InTurn(places, took, l.request)
	peak = l.answered(http.StatusOK)
	perSecond := float64(len(peak)) / took.Seconds()

	l = newRush(s, cookies)
	load.AtRate(5*perSecond, took, l.request)
	rejected, good = l.answered(http.StatusServiceUnavailable), l.answered(http.StatusOK)
	goodput := float64(len(good)) / took.Seconds()
	t.Logf("peak %.0f/s; at five times that %.0f/s answered (%.0f %%), p99 %v; %d turned away, p50 %v, p99 %v, max %v; %d others",
		perSecond, goodput, 100*goodput/perSecond, quantile(good, .99),
		len(rejected), quantile(rejected, .5), quantile(rejected, .99), quantile(rejected, 1), l.others())
	if len(rejected) == 0 || len(good) == 0 {
		t.Errorf("%d requests were turned away, %d answered", len(rejected), len(good))
	}
	if l.others() > 0 {
		t.Errorf("%d requests were neither done nor turned away", l.others())
	}
}

// rush is what many visitors with sessions do; a third of it is to write.
type rush struct {
	s       *server
	cookies []string
	http    *visitor
	mu      sync.Mutex
	took    map[int][]time.Duration // by status; 0 is no answer
}

func newRush(s *server, cookies []string) *rush {
	s.t.Helper()
	v := s.visitor().withoutJar()
	v.http.Transport.(*http.Transport).MaxIdleConnsPerHost = 500
	return &rush{s: s, cookies: cookies, http: v, took: map[int][]time.Duration{}}
}

func (l *rush) request(i int) {
	path := "/"
	if i%3 == 0 {
		path = "/increment"
	}
	begun := time.Now()
	a, err := l.http.try(http.MethodPost, path, "Cookie", "session="+l.cookies[i*7%len(l.cookies)])
	status := 0
	if err == nil {
		status = a.StatusCode
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took[status] = append(l.took[status], time.Since(begun))
}

func (l *rush) answered(status int) []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.took[status]
}

func (l *rush) others() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for status, took := range l.took {
		if status != http.StatusOK && status != http.StatusServiceUnavailable {
			n += len(took)
		}
	}
	return n
}

func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Round(100 * time.Microsecond)
}
