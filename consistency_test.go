package caddysession_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	caddysession "github.com/caddy-session/caddy-session"
)

// Parallel requests of one session add a key each. All have read the session
// before the first of them stores it.
func TestConsistency_parallelRequestsLoseNoKey(t *testing.T) {
	const parallel = 50
	onEveryStore(t, func(t *testing.T, d *deployment) {
		missing, rounds := 0, roundsOr(20)
		begun := time.Now()
		for round := range rounds {
			cookie, _ := d.login(t)
			var requests sync.WaitGroup
			for i := range parallel {
				p := d.caddys[i%len(d.caddys)]
				requests.Go(func() {
					a := p.post(fmt.Sprintf("/app/set?key=k%d&meet=%d&of=%d", i, round, parallel), cookie)
					if a.err != nil || a.status != http.StatusOK {
						t.Errorf("a request that adds a key: %d %s (%v)", a.status, a.body, a.err)
					}
				})
			}
			requests.Wait()
			var data map[string]any
			if err := json.Unmarshal([]byte(d.caddys[0].get("/app/show", cookie).want(t, http.StatusOK).body), &data); err != nil {
				t.Fatal(err)
			}
			for i := range parallel {
				if data[fmt.Sprint("k", i)] != true {
					missing++
				}
			}
		}
		t.Logf("%d rounds of %d requests in %.1f s: %d keys missing", rounds, parallel, time.Since(begun).Seconds(), missing)
		if missing > 0 {
			t.Errorf("%d keys are missing", missing)
		}
	})
}

// A logout races requests of its session: readers that note its use, writers,
// and streams. Whoever comes out first, the session is over afterwards.
func TestConsistency_logoutIsFinal(t *testing.T) {
	const inFlight = 100
	onEveryStore(t, func(t *testing.T, d *deployment) {
		rounds := roundsOr(50)
		var valid, rows, late, guests int
		var ids []string
		for round := range rounds {
			cookie, id := d.login(t)
			ids = append(ids, id)
			cookies := d.raceLogout(t, cookie, round, inFlight)
			for _, p := range d.caddys {
				if _, user, _ := shown(p.get("/show", cookie).want(t, http.StatusOK)); user != "" {
					valid++
				}
			}
			rows += d.rowsOf(t, id)
			for _, other := range cookies { // of requests that came after the logout, as guests
				guests++
				if guest, user, _ := shown(d.caddys[0].get("/show", other).want(t, http.StatusOK)); user != "" || guest == id {
					valid++
				}
			}
		}
		for _, id := range ids {
			late += d.rowsOf(t, id)
		}
		t.Logf("%d logouts, each among %d requests: tokens valid afterwards %d, rows there afterwards %d, and at the end %d (%d requests came after the logout and got a session of their own)",
			rounds, inFlight, valid, rows, late, guests)
		if valid+rows+late > 0 {
			t.Error("a logout was not final")
		}
	})
}

// raceLogout sends requests and a logout in the middle of them. It returns the
// cookies that the requests set.
func (d *deployment) raceLogout(t *testing.T, cookie string, round, inFlight int) (cookies []string) {
	t.Helper()
	paths := []string{"/app/show?", "/app/set?key=k%d", "/app/stream?key=s%d", "/show", "/increment"}
	waiting := inFlight * 3 / len(paths) // those of the application; the others start when these have met
	name := fmt.Sprint("logout", round)
	meet := d.app.meeting(name, waiting)
	var requests, streams sync.WaitGroup
	var mu sync.Mutex
	for i := range inFlight {
		p, path := d.caddys[i%len(d.caddys)], paths[i%len(paths)]
		app, stream := strings.HasPrefix(path, "/app/"), strings.HasPrefix(path, "/app/stream")
		if strings.Contains(path, "%d") {
			path = fmt.Sprintf(path, i)
		}
		group := &requests
		if stream {
			group = &streams
		}
		group.Go(func() {
			if app {
				path += fmt.Sprintf("&meet=%s&of=%d", name, waiting)
			} else {
				<-meet.open
				pauseUpTo(5 * time.Millisecond)
			}
			ask := p.get
			if !strings.Contains(path, "/show") {
				ask = p.post
			}
			a := ask(path, cookie)
			if a.err != nil || a.status != http.StatusOK {
				t.Errorf("%s beside a logout: %d %s (%v)", path, a.status, a.body, a.err)
			}
			if a.cookie != "" {
				mu.Lock()
				defer mu.Unlock()
				cookies = append(cookies, a.cookie)
			}
		})
	}
	<-meet.open
	pauseUpTo(5 * time.Millisecond)
	d.caddys[round%len(d.caddys)].post("/logout", cookie).want(t, http.StatusSeeOther)
	requests.Wait()
	close(meet.over) // the streams go on until after the logout
	streams.Wait()
	return cookies
}

// pauseUpTo lets others go first, or not.
func pauseUpTo(d time.Duration) { <-time.After(time.Duration(rand.Int64N(int64(d)))) }

// shown takes the answer of /show apart.
func shown(a reply) (id, user string, n int) {
	parts := strings.Split(a.body, " ")
	n, _ = strconv.Atoi(parts[2]) // "" is 0
	return parts[0], parts[1], n
}

// What one Caddy has stored the other one reads, at once.
func TestConsistency_caddysReadEachOthersWrites(t *testing.T) {
	const steps = 500
	onEveryStore(t, func(t *testing.T, d *deployment) {
		cookie, _ := d.login(t)
		stale := 0
		for i := range steps {
			n := strconv.Itoa(i + 1)
			d.caddys[i%len(d.caddys)].post("/put?n="+n, cookie).want(t, http.StatusOK)
			if a := d.caddys[(i+1)%len(d.caddys)].get("/show", cookie).want(t, http.StatusOK); !strings.HasSuffix(a.body, " "+n) {
				stale++
			}
		}
		t.Logf("%d writes, each read at once on the other side: %d stale", steps, stale)
		if stale > 0 {
			t.Errorf("%d of %d reads did not see the write before them", stale, steps)
		}
	})
}

// Logins of one user come at the same moment, on every Caddy. As many succeed as
// the user may have sessions, and these stay.
func TestConsistency_parallelLoginsFillTheLimit(t *testing.T) {
	const parallel, most = 12, 3 // as the site has it
	onEveryStore(t, func(t *testing.T, d *deployment) {
		rounds, wrong, begun := roundsOr(30), 0, time.Now()
		for round := range rounds {
			user := fmt.Sprint("user", round)
			in := d.loginTogether(t, user, parallel)
			late := d.do(http.MethodPost, d.caddys[0].limited+"/login?user="+user, "")
			if len(in) != most || late.status != http.StatusForbidden {
				wrong++
				t.Logf("%d of %d logins succeeded, and one afterwards got a %d", len(in), parallel, late.status)
			}
			for _, cookie := range in {
				for _, p := range d.caddys {
					if a := d.do(http.MethodGet, p.limited+"/", cookie).want(t, http.StatusOK); a.body != user {
						t.Errorf("a session that was let in has gone: %q", a.body)
					}
				}
			}
		}
		t.Logf("%d rounds of %d logins in %.1f s: %d times others than %d succeeded", rounds, parallel, time.Since(begun).Seconds(), wrong, most)
		if wrong > 0 {
			t.Errorf("in %d rounds others than %d of the logins succeeded", wrong, most)
		}
	})
}

// loginTogether returns the cookies of the logins that succeeded.
func (d *deployment) loginTogether(t *testing.T, user string, parallel int) (cookies []string) {
	t.Helper()
	var logins sync.WaitGroup
	var mu sync.Mutex
	begin := make(chan struct{})
	for i := range parallel {
		p := d.caddys[i%len(d.caddys)]
		logins.Go(func() {
			<-begin
			a := d.do(http.MethodPost, p.limited+"/login?user="+user, "")
			mu.Lock()
			defer mu.Unlock()
			switch {
			case a.status == http.StatusOK:
				cookies = append(cookies, a.cookie)
			case a.err != nil || a.status != http.StatusForbidden || a.cookie != "":
				t.Errorf("a login beside others: %d (%v), cookie %q", a.status, a.err, a.cookie)
			}
		})
	}
	close(begin)
	logins.Wait()
	return cookies
}

// Readers ask all the time while the session is written and, in the end, logged
// out: none sees less than what was acknowledged before it asked.
func TestConsistency_readersAreNeverBehind(t *testing.T) {
	const readers, writes = 8, 10
	onEveryStore(t, func(t *testing.T, d *deployment) {
		var asked, behind, loggedIn, failed atomic.Int64
		for round := range roundsOr(50) {
			cookie, _ := d.login(t)
			var written atomic.Int64
			var over atomic.Bool
			var all sync.WaitGroup
			for i := range readers {
				p := d.caddys[i%len(d.caddys)]
				all.Go(func() {
					for after := 0; after < 5; {
						least, ended := written.Load(), over.Load()
						a := p.get("/show", cookie)
						if ended {
							after++
						}
						if a.err != nil || a.status != http.StatusOK {
							failed.Add(1)
							continue
						}
						asked.Add(1)
						switch _, user, n := shown(a); {
						case ended && user != "":
							loggedIn.Add(1)
						case !ended && user != "" && int64(n) < least:
							behind.Add(1)
						}
					}
				})
			}
			for n := range writes {
				if p := d.caddys[n%len(d.caddys)]; p.post(fmt.Sprint("/put?n=", n+1), cookie).status == http.StatusOK {
					written.Store(int64(n + 1))
				}
			}
			eventually(t, "a logout", func() bool {
				return d.caddys[round%len(d.caddys)].post("/logout", cookie).status == http.StatusSeeOther
			})
			over.Store(true)
			all.Wait()
		}
		t.Logf("%d reads: %d did not see a write that was acknowledged before, %d did not see the logout; %d were not answered",
			asked.Load(), behind.Load(), loggedIn.Load(), failed.Load())
		if behind.Load()+loggedIn.Load() > 0 {
			t.Error("readers were behind")
		}
	})
}

// With a cache a Caddy sees its own writes at once, and those of others soon.
func TestConsistency_cacheIsStaleForItsTimeAtMost(t *testing.T) {
	const maxAge = time.Second // as the site has it
	onEveryStore(t, func(t *testing.T, d *deployment) {
		cookie, _ := d.login(t)
		own := d.caddys[0]
		for i := range 200 {
			n := strconv.Itoa(i + 1)
			d.do(http.MethodPost, own.cached+"/put?n="+n, cookie).want(t, http.StatusOK)
			if a := d.do(http.MethodGet, own.cached+"/show", cookie).want(t, http.StatusOK); !strings.HasSuffix(a.body, " "+n) {
				t.Fatalf("write %s was not seen at once by the Caddy that made it: %q", n, a.body)
			}
		}
		other := d.caddys[len(d.caddys)-1]
		longest := time.Duration(0)
		for i := range 5 {
			d.do(http.MethodGet, other.cached+"/show", cookie).want(t, http.StatusOK) // now it is in the cache
			n := strconv.Itoa(1000 + i)
			d.do(http.MethodPost, own.cached+"/put?n="+n, cookie).want(t, http.StatusOK)
			written := time.Now()
			for {
				asked := time.Now()
				a := d.do(http.MethodGet, other.cached+"/show", cookie).want(t, http.StatusOK)
				if strings.HasSuffix(a.body, " "+n) {
					break
				}
				if age := asked.Sub(written); age > maxAge {
					t.Fatalf("a request %v after the write did not see it", age)
				}
				longest = max(longest, asked.Sub(written))
			}
		}
		d.do(http.MethodPost, own.cached+"/logout", cookie).want(t, http.StatusSeeOther)
		ended := time.Now()
		if _, user, _ := shown(d.do(http.MethodGet, own.cached+"/show", cookie).want(t, http.StatusOK)); user != "" {
			t.Error("a logout was not seen at once by the Caddy that did it")
		}
		for {
			asked := time.Now()
			if _, user, _ := shown(d.do(http.MethodGet, other.cached+"/show", cookie).want(t, http.StatusOK)); user == "" {
				break
			}
			if age := asked.Sub(ended); age > maxAge {
				t.Fatalf("a request %v after the logout did not see it", age)
			}
			longest = max(longest, asked.Sub(ended))
		}
		t.Logf("200 own writes and a logout seen at once; those of the other Caddy were missed for %v at most", longest.Round(time.Millisecond))
	})
}

// Nor is a session kept in memory whose end came between its reading and the answer.
func TestConsistency_cacheKeepsNothingFromBeforeAnEnd(t *testing.T) {
	store := newStandIn(t)
	const site = `
$SITE {
	session {
		rqlite $STORE
		$OPTION
	}
	handle /login {
		session_edit put user {query.user}
		respond "{http.session.id}"
	}
	respond "{http.session.data.user}"
}`
	s := startWithAdmin(t, site, "STORE", store.URL, "OPTION", "persist on")
	v, id := s.signIn("alice")
	s.names["OPTION"] = "cache 1m"
	s.reload(site) // it is not in memory yet
	read, ended := make(chan struct{}), make(chan struct{})
	var held atomic.Bool
	store.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
		found := r.URL.Path == "/db/query" && bytes.Contains(bodyOf(r), []byte("sessions"))
		node.ServeHTTP(w, r)
		if found && held.CompareAndSwap(false, true) {
			close(read)
			<-ended
		}
	}))
	answered := make(chan *answer, 1)
	go func() {
		a, _ := v.try(http.MethodGet, "/")
		answered <- a
	}()
	<-read
	if n := adminInto[caddysession.RevokeResult](s, http.MethodDelete, "/session/sessions/"+id).Revoked; n != 1 {
		t.Errorf("%d sessions are revoked, want 1", n)
	}
	close(ended)
	if a := <-answered; a == nil || a.body != "alice" {
		t.Errorf("what was read before is answered %v", a)
	}
	v.get("/").want(t, http.StatusOK, "")
}

// counted is what clients know of one counter.
type counted struct{ acked, unknown atomic.Int64 }

// count takes note of what became of an increment.
func (c *counted) count(a reply) {
	if a.err == nil && a.status == http.StatusOK {
		c.acked.Add(1)
	} else {
		c.unknown.Add(1)
	}
}

// check compares the counter with what was acknowledged.
func (c *counted) check(t testing.TB, n int) {
	t.Helper()
	acked, unknown := c.acked.Load(), c.unknown.Load()
	if int64(n) < acked || int64(n) > acked+unknown {
		t.Errorf("the counter is at %d; %d increments were acknowledged, %d others may have been made", n, acked, unknown)
	}
}

// Increments by many clients at once are made once each, fault or no fault.
func TestConsistency_counterCounts(t *testing.T) {
	const clients, each = 20, 100
	run := func(t *testing.T, d *deployment, site func(*caddyProcess) string, halfway func()) {
		cookie, _ := d.login(t)
		var c counted
		var all sync.WaitGroup
		half := make(chan struct{}, 1)
		begun := time.Now()
		for i := range clients {
			all.Go(func() {
				for step := range each {
					a := d.do(http.MethodPost, site(d.caddys[(i+step)%len(d.caddys)])+"/increment", cookie)
					if c.count(a); a.err != nil {
						pauseUpTo(100 * time.Millisecond) // so that there is something left to do when Caddy is back
					}
					if c.acked.Load() >= clients*each/2 {
						select {
						case half <- struct{}{}:
						default:
						}
					}
				}
			})
		}
		if halfway != nil {
			<-half
			halfway()
		}
		all.Wait()
		_, _, n := shown(d.caddys[0].get("/show", cookie).want(t, http.StatusOK))
		t.Logf("%d increments in %.1f s: %d acknowledged, %d unknown, the counter is at %d",
			clients*each, time.Since(begun).Seconds(), c.acked.Load(), c.unknown.Load(), n)
		c.check(t, n)
		if halfway == nil && c.unknown.Load() > 0 {
			t.Errorf("%d increments failed without any fault", c.unknown.Load())
		}
	}
	uncached := func(p *caddyProcess) string { return p.site }
	cached := func(p *caddyProcess) string { return p.cached }
	onEveryStore(t, func(t *testing.T, d *deployment) {
		run(t, d, uncached, nil)
		run(t, d, cached, nil) // increments of what may be out of date
	})
	t.Run("embedded, Caddy killed", func(t *testing.T) {
		d := newDeployment(t, nil)
		p := d.add()
		p.start()
		run(t, d, uncached, func() { p.kill(); p.start() })
	})
	t.Run("three rqlite nodes, leader killed", func(t *testing.T) {
		d := onCluster(t)
		run(t, d, uncached, func() { d.cluster.Leader(t).Kill() })
	})
}
