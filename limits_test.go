package caddysession_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const limitedSite = `
{
	admin $ADMIN
}
$METRICS {
	metrics /metrics
}
$SITE {
	session {
		rqlite $STORE {
			timeout 10s
		}
		table $TABLE
		max_calls $MAX
	}
	handle /put {
		session_edit put user alice
		respond ok
	}
	handle /put-id {
		session_edit put user bob
		respond {http.session.id}
	}
	handle /increment {
		session_edit increment n
		respond ok
	}
	handle /remembered/* {
		session {
			rqlite $STORE {
				timeout 10s
			}
			table $TABLE
			max_calls $MAX
			cookie remembered
			cache 1m
			idle_timeout 1h
			touch_interval 1ms
		}
		session_edit /remembered/put put user alice
		respond "user {http.session.data.user}"
	}
	respond "user {http.session.data.user}"
	handle_errors {
		respond "sorry: {err.status_code}"
	}
}`

// waitsFor makes it answer only after the gate was opened.
func (s *standIn) waitsFor(gate <-chan struct{}) {
	s.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
		select {
		case <-gate:
			node.ServeHTTP(w, r)
		case <-s.done:
		}
	}))
}

// holdsUp makes it answer requests for the session with a token only after the gate was opened.
func (s *standIn) holdsUp(token string, gate <-chan struct{}) {
	stored := hex.EncodeToString([]byte(hashOf(token)))
	s.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if bytes.Contains(bytes.ToLower(body), []byte(stored)) {
			select {
			case <-gate:
			case <-s.done:
				return
			}
		}
		node.ServeHTTP(w, r)
	}))
}

// isSlow makes it take a time for every request, however many rows it has.
func (s *standIn) isSlow(latency time.Duration) {
	s.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
		select {
		case <-time.After(latency):
			node.ServeHTTP(w, r)
		case <-s.done:
		}
	}))
}

func TestLimits_ofCallsTurnAwayTheNextAtOnce(t *testing.T) {
	store := newStandIn(t)
	s := startWithAdmin(t, limitedSite, "STORE", store.URL, "TABLE", "sessions_calls", "MAX", "2", "METRICS", "http://"+freeAddress(t))
	v, guest := s.visitor(), s.visitor().withoutJar()
	token := v.get("/put").cookie(t).Value
	eventually(t, "upkeep to be done", func() bool { return s.scrape().sum("store_calls") == 0 })

	hold := func(requests int) (release func()) {
		t.Helper()
		gate := make(chan struct{})
		store.waitsFor(gate)
		var held sync.WaitGroup
		for range requests {
			held.Go(func() {
				a, err := v.try(http.MethodGet, "/")
				if err != nil || a.StatusCode != http.StatusOK || a.body != "user alice" {
					t.Errorf("a call that was let in got %v (%v)", a, err)
				}
			})
		}
		eventually(t, "the calls to be under way", func() bool { return s.scrape().sum("store_calls") == float64(requests) })
		return func() {
			close(gate)
			held.Wait()
			store.works()
			eventually(t, "upkeep to be done", func() bool { return s.scrape().sum("store_calls") == 0 })
		}
	}
	turnedAway := func(a *answer) {
		t.Helper()
		a.want(t, http.StatusServiceUnavailable, "sorry: 503")
		if a.Header.Get("Retry-After") != "1" || a.Header["Set-Cookie"] != nil {
			t.Errorf("the header is %v", a.Header)
		}
	}

	before := s.scrape()
	release := hold(2)
	turnedAway(v.get("/"))
	turnedAway(v.get("/increment"))
	turnedAway(guest.get("/put"))
	release()
	s.counts(before, 3, "rejected_total", `limit="max_calls"`)
	s.counts(before, 0, "store_errors_total")
	v.get("/").want(t, http.StatusOK, "user alice")
	if strings.Contains(s.readLog(), "the session store is unavailable") {
		t.Error("the log says that the store is down")
	}

	t.Run("upkeep leaves half to requests", func(t *testing.T) {
		v.get("/remembered/put")
		v.get("/remembered/").want(t, http.StatusOK, "user alice")
		eventually(t, "upkeep to be done", func() bool { return s.scrape().sum("store_calls") == 0 })
		before := s.scrape()
		release := hold(1)
		v.get("/remembered/").want(t, http.StatusOK, "user alice") // from memory
		s.grows(before, "touches_total", `result="dropped"`)
		release()
		s.counts(before, 0, "rejected_total")
	})
	t.Run("the admin API needs none", func(t *testing.T) {
		other := s.visitor()
		id := other.get("/put-id").body
		gate := make(chan struct{})
		store.holdsUp(token, gate)
		var held sync.WaitGroup
		for range 2 {
			held.Go(func() {
				if a, err := v.try(http.MethodGet, "/"); err != nil || a.StatusCode != http.StatusOK {
					t.Errorf("a call that was let in got %v (%v)", a, err)
				}
			})
		}
		eventually(t, "the calls to be under way", func() bool { return s.scrape().sum("store_calls") == 2 })
		turnedAway(other.get("/"))
		if a := s.admin(http.MethodDelete, "/session/sessions/"+id, ""); a.StatusCode != http.StatusOK {
			t.Errorf("the operator got %d %q", a.StatusCode, a.body)
		}
		close(gate)
		held.Wait()
		store.works()
		other.get("/").want(t, http.StatusOK, "user ")
	})
	t.Run("a reload changes it", func(t *testing.T) {
		s.names["MAX"] = "3"
		s.reload(limitedSite)
		release := hold(3)
		turnedAway(v.get("/"))
		release()
		s.names["MAX"] = "1"
		s.reload(limitedSite)
		release = hold(1)
		turnedAway(v.get("/"))
		release()
	})
}

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
	store.isSlow(latency)
	took := 3 * time.Second
	if testing.Short() {
		took = time.Second
	}

	var peak, good, rejected []time.Duration
	l := newLoad(s, cookies)
	l.inTurn(places, took)
	peak = l.answered(http.StatusOK)
	perSecond := float64(len(peak)) / took.Seconds()

	l = newLoad(s, cookies)
	l.atRate(5*perSecond, took)
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

// load is many visitors with sessions; a third of what they do is to write.
type load struct {
	s       *server
	cookies []string
	http    *visitor
	mu      sync.Mutex
	took    map[int][]time.Duration // by status; 0 is no answer
}

func newLoad(s *server, cookies []string) *load {
	s.t.Helper()
	v := s.visitor().withoutJar()
	v.http.Transport.(*http.Transport).MaxIdleConnsPerHost = 500
	return &load{s: s, cookies: cookies, http: v, took: map[int][]time.Duration{}}
}

func (l *load) request(i int) {
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

// inTurn sends requests from n visitors, each when the one before was answered.
func (l *load) inTurn(n int, lasting time.Duration) {
	end := time.Now().Add(lasting)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			for ; time.Now().Before(end); i += n {
				l.request(i)
			}
		})
	}
	all.Wait()
}

// atRate sends requests whether those before were answered or not.
func (l *load) atRate(perSecond float64, lasting time.Duration) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	var all sync.WaitGroup
	begun, sent := time.Now(), 0
	for now := begun; now.Sub(begun) < lasting; now = <-tick.C {
		for due := int(now.Sub(begun).Seconds() * perSecond); sent < due; sent++ {
			i := sent
			all.Go(func() { l.request(i) })
		}
	}
	all.Wait()
}

func (l *load) answered(status int) []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.took[status]
}

func (l *load) others() int {
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
	s := start(t, clientLimitSite, "PER", "1h", "STORE", "rqlite "+store.URL+" {\ntimeout 500ms\n}", "METRICS", "http://"+freeAddress(t))
	for range 5 {
		store.losesReplies(1)
		s.visitor().get("/put").want(t, http.StatusOK, "ok")
	}
	s.visitor().get("/put").want(t, http.StatusTooManyRequests, "sorry: 429")
}
