package caddysession_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// With keys a forged cookie is told from a genuine one without the store; those
// who are signed in go on meanwhile. How fast, the log says.
func TestKeys_forgedCookiesCostNoCallOfTheStore(t *testing.T) {
	withSecrets(t)
	store := newStandIn(t)
	s := start(t, "$METRICS {\nmetrics /metrics\n}"+keysConfig("keys {env.SESSION_TEST_FIRST}\nrqlite "+store.URL), "METRICS", "http://"+freeAddress(t))
	member := s.visitor()
	genuine := member.get("/login?user=alice").cookie(t).Value
	keyID, err := base64.RawURLEncoding.DecodeString(genuine)
	if err != nil {
		t.Fatal(err)
	}
	forge := func() string {
		raw := bytes.Clone(keyID)
		_, _ = rand.Read(raw[4:]) // it does not fail
		return "session=" + base64.RawURLEncoding.EncodeToString(raw)
	}
	const reads = 300
	read := func() (p99 time.Duration) {
		var took []time.Duration
		for range reads {
			began := time.Now()
			member.get("/").want(t, http.StatusOK, "user=alice visits=")
			took = append(took, time.Since(began))
		}
		return quantile(took, .99)
	}
	alone := read()
	before, counted := store.calls.Load(), s.scrape()
	guests, amongGuests := flooded(s, func() []string { return nil }, read)
	forgers, amongForgers := flooded(s, func() []string { return []string{"Cookie", forge()} }, read)
	if calls := store.calls.Load() - before; calls != 2*reads {
		t.Errorf("the store was called %d times for %d reads of the member and %d forged cookies", calls, 2*reads, forgers)
	}
	s.counts(counted, float64(forgers), "refused_cookies_total", `reason="forged"`)
	t.Logf("%d forged cookies cost 0 calls of the store; the member's p99 was %v alone, %v among %d requests without a cookie, and %v among the forged",
		forgers, alone, amongGuests, guests, amongForgers)
}

// flooded runs read while others send requests as fast as they can; it returns
// how many those were, and what read returned.
func flooded(s *server, headers func() []string, read func() time.Duration) (n int64, p99 time.Duration) {
	t := s.t
	var sent atomic.Int64
	ended := make(chan struct{})
	var all sync.WaitGroup
	for range 4 {
		guest := s.visitor().withoutJar()
		all.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				a, err := guest.try(http.MethodGet, "/", headers()...)
				if err != nil || a.body != "user= visits=" || a.Header["Set-Cookie"] != nil {
					t.Errorf("a request of the flood: %v %v", a, err)
					return
				}
				sent.Add(1)
			}
		})
	}
	eventually(t, "the flood", func() bool { return sent.Load() > 100 })
	p99 = read()
	close(ended)
	all.Wait()
	return sent.Load(), p99
}
