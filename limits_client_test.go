package caddysession_test

import (
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"
)

const clientLimitSite = `
{
	servers {
		trusted_proxies static private_ranges 127.0.0.0/8
	}
}
$METRICS {
	metrics /metrics
}
$SITE {
	session {
		$STORE
		max_new_per_client 5 $PER
	}
	handle /put {
		session_edit put user alice
		respond ok
	}
	handle /increment {
		session_edit increment n
		respond {http.session.data.n}
	}
	respond "user {http.session.data.user}"
	handle_errors {
		respond "sorry: {err.status_code}"
	}
}`

func TestLimits_ofNewSessionsHoldUpNobodyElse(t *testing.T) {
	s := start(t, clientLimitSite, "PER", "1h", "STORE", "embedded", "METRICS", "http://"+freeAddress(t))
	member, guest := s.visitor(), s.visitor().withoutJar()
	from := func(address string) *answer { return guest.get("/put", "X-Forwarded-For", address) }
	member.get("/put").want(t, http.StatusOK, "ok")

	increment := func(n int) (took []time.Duration) {
		t.Helper()
		for range n {
			begun := time.Now()
			member.get("/increment")
			took = append(took, time.Since(begun))
		}
		return took
	}
	quiet := increment(50)
	before := s.scrape()
	const flood = 2000
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range flood / 8 {
				a := guest.get("/put")
				if a.StatusCode == http.StatusOK {
					continue
				}
				if a.StatusCode != http.StatusTooManyRequests || a.body != "sorry: 429" || a.Header["Set-Cookie"] != nil {
					t.Errorf("got %d %q %v", a.StatusCode, a.body, a.Header)
				}
				if seconds, err := strconv.Atoi(a.Header.Get("Retry-After")); err != nil || seconds < 1 || seconds > 3600/5 {
					t.Errorf("Retry-After is %q", a.Header.Get("Retry-After"))
				}
			}
		})
	}
	flooded := increment(50)
	all.Wait()
	t.Logf("a member waits %v, p99 %v; in the flood %v, p99 %v", quantile(quiet, .5), quantile(quiet, .99), quantile(flooded, .5), quantile(flooded, .99))
	member.get("/increment").want(t, http.StatusOK, "101")
	s.table().wantRows(5)
	s.counts(before, 4, "created_total")
	s.counts(before, flood-4, "rejected_total", `limit="max_new_per_client"`)
	guest.get("/").want(t, http.StatusOK, "user ") // to read is free

	t.Run("clients are networks", func(t *testing.T) {
		for range 5 {
			from("192.0.2.1").want(t, http.StatusOK, "ok")
			from("2001:db8:1:2::1").want(t, http.StatusOK, "ok")
		}
		for address, status := range map[string]int{
			"192.0.2.1":          http.StatusTooManyRequests,
			"::ffff:192.0.2.1":   http.StatusTooManyRequests,
			"192.0.2.2":          http.StatusOK,
			"2001:db8:1:2:a:b::": http.StatusTooManyRequests,
			"2001:db8:1:3::1":    http.StatusOK,
		} {
			if a := from(address); a.StatusCode != status {
				t.Errorf("%s got %d, want %d", address, a.StatusCode, status)
			}
		}
	})
	t.Run("a reload forgets nobody", func(t *testing.T) {
		s.reload(clientLimitSite)
		guest.get("/put").want(t, http.StatusTooManyRequests, "sorry: 429")
		member.get("/increment").want(t, http.StatusOK, "102")
	})
	t.Run("after a while there is room again", func(t *testing.T) {
		s.names["PER"] = "1s"
		s.reload(clientLimitSite)
		for range 20 {
			guest.get("/put")
		}
		eventually(t, "room for a session", func() bool { return guest.get("/put").StatusCode == http.StatusOK })
	})
}

// A create whose outcome is unknown is tried under another token: that is still one session.
func TestLimits_countASessionOnceHoweverOftenItIsTried(t *testing.T) {
	store := newStandIn(t)
	s := start(t, clientLimitSite, "PER", "1h", "STORE", "rqlite "+store.URL, "METRICS", "http://"+freeAddress(t))
	begun := time.Now()
	store.isFull()
	for range 6 { // what was not stored is no session
		s.visitor().get("/put").want(t, http.StatusServiceUnavailable, "sorry: 503")
	}
	store.works()
	eventually(t, "the store is back", func() bool { return s.visitor().get("/put").StatusCode == http.StatusOK })
	for range 4 {
		store.losesReplies(1)
		s.visitor().get("/put").want(t, http.StatusOK, "ok")
	}
	refused := s.visitor().get("/put")
	refused.want(t, http.StatusTooManyRequests, "sorry: 429")

	// There is room for the next one a fifth of the hour after the first.
	const most = 3600 / 5
	least := most - int(time.Since(begun).Seconds()) - 1
	if seconds, err := strconv.Atoi(refused.Header.Get("Retry-After")); err != nil || seconds < least || seconds > most {
		t.Errorf("Retry-After is %q, want %d to %d", refused.Header.Get("Retry-After"), least, most)
	}
}
