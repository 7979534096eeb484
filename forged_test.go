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
	s := start(t, keysConfig("keys {env.SESSION_TEST_FIRST}\nrqlite "+store.URL))
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
	read := func() (took []time.Duration) {
		for range reads {
			began := time.Now()
			member.get("/").want(t, http.StatusOK, "user=alice visits=")
			took = append(took, time.Since(began))
		}
		return took
	}
	alone := read()
	before := store.calls.Load()

	var forged atomic.Int64
	flooding := make(chan struct{})
	var all sync.WaitGroup
	for range 4 {
		guest := s.visitor().withoutJar()
		all.Go(func() {
			for {
				select {
				case <-flooding:
					return
				default:
				}
				a, err := guest.try(http.MethodGet, "/", "Cookie", forge())
				if err != nil || a.body != "user= visits=" || a.Header["Set-Cookie"] != nil {
					t.Errorf("a forged cookie: %v %v", a, err)
					return
				}
				forged.Add(1)
			}
		})
	}
	eventually(t, "the flood", func() bool { return forged.Load() > 100 })
	meanwhile := read()
	close(flooding)
	all.Wait()
	if calls := store.calls.Load() - before; calls != reads {
		t.Errorf("the store was called %d times for %d reads of the member and %d forged cookies", calls, reads, forged.Load())
	}
	t.Logf("%d forged cookies cost 0 calls of the store; the member's p99 was %v alone and %v meanwhile",
		forged.Load(), quantile(alone, .99), quantile(meanwhile, .99))
}
