package caddysession_test

import (
	"bytes"
	"encoding/hex"
	"net/http"
	"strings"
	"sync"
	"testing"
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
			principal user
			cache 1m
			idle_timeout 1h
			touch_interval 1ms
		}
		session_edit /remembered/put put user alice
		session_edit /remembered/increment increment n
		session_edit /remembered/others destroy_others
		session_edit /remembered/logout destroy
		respond /remembered/csrf {http.session.csrf_token}
		session_devices /remembered/devices
		respond "user {http.session.data.user}"
	}
	handle /tracked/* {
		session {
			rqlite $STORE {
				timeout 10s
			}
			table $TABLE
			max_calls $MAX
			cookie tracked
			track on
		}
		session_edit /tracked/put put user alice
		respond "user {http.session.data.user}"
	}
	handle /open/* {
		session {
			rqlite $STORE {
				timeout 10s
			}
			table $TABLE
			max_calls $MAX
			cookie open
			on_store_error anonymous
		}
		session_edit /open/put put user alice
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
		if bytes.Contains(bytes.ToLower(bodyOf(r)), []byte(stored)) {
			select {
			case <-gate:
			case <-s.done:
				return
			}
		}
		node.ServeHTTP(w, r)
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
				for err != nil && t.Context().Err() == nil { // a reload closes connections
					a, err = v.try(http.MethodGet, "/")
				}
				if err != nil || a.StatusCode != http.StatusOK || a.body != "user alice" {
					t.Errorf("a call that was let in got %v (%v)", a, err)
				}
			})
		}
		eventually(t, "the calls to be under way", func() bool { return s.scrape().sum("store_calls") == float64(requests) })
		eventually(t, "the calls to travel or wait", func() bool { return s.scrape().sum("store_waiting_calls") == float64(requests) })
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
	t.Run("so does tracking", func(t *testing.T) {
		visitors := make([]*visitor, 10)
		for i := range visitors {
			visitors[i] = s.visitor()
			visitors[i].get("/tracked/put").want(t, http.StatusOK, "user alice")
		}
		alterFile(t, store.file, `UPDATE sessions_calls SET data=CAST(json_set(CAST(data AS TEXT),'$.values.__used',1) AS BLOB)`)
		before, gate := s.scrape(), make(chan struct{})
		store.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
			if bytes.Contains(bodyOf(r), []byte("UPDATE ")) {
				select {
				case <-gate:
				case <-store.done:
					return
				}
			}
			node.ServeHTTP(w, r)
		}))
		for i, v := range visitors {
			v.get("/tracked/").want(t, http.StatusOK, "user alice")
			if i == 0 {
				eventually(t, "its use to be noted", func() bool { return s.scrape().sum("store_calls") == 1 })
			}
		}
		close(gate)
		store.works()
		eventually(t, "upkeep to be done", func() bool { return s.scrape().sum("store_calls") == 0 })
		s.counts(before, 0, "rejected_total")
	})
	t.Run("a list of one's own sessions is one", func(t *testing.T) {
		v.get("/remembered/put")
		if a := v.get("/remembered/devices"); a.StatusCode != http.StatusOK {
			t.Errorf("got %d %q", a.StatusCode, a.body)
		}
		eventually(t, "upkeep to be done", func() bool { return s.scrape().sum("store_calls") == 0 })
		release := hold(2)
		turnedAway(v.get("/remembered/devices"))
		release()
	})
	t.Run("whatever is done with a session that is read from memory is one", func(t *testing.T) {
		var visitors [4]*visitor // a failure makes a session one to be read again
		for i := range visitors {
			visitors[i] = s.visitor()
			visitors[i].get("/remembered/put").want(t, http.StatusOK, "user alice")
		}
		changes, leaves, endsAnother, endsOthers := visitors[0], visitors[1], visitors[2], visitors[3]
		secret := endsAnother.get("/remembered/csrf").body
		endAnother := func() *answer {
			return endsAnother.do(http.MethodDelete, "/remembered/devices?id=another", "X-CSRF-Token", secret)
		}
		eventually(t, "upkeep to be done", func() bool { return s.scrape().sum("store_calls") == 0 })
		release := hold(2)
		turnedAway(changes.get("/remembered/increment"))
		turnedAway(leaves.get("/remembered/logout"))
		turnedAway(endAnother())
		turnedAway(endsOthers.get("/remembered/others"))
		release()
		changes.get("/remembered/increment").want(t, http.StatusOK, "user alice")
		leaves.get("/remembered/logout").want(t, http.StatusOK, "user ")
		endAnother().want(t, http.StatusNotFound, "sorry: 404")
		endsOthers.get("/remembered/others").want(t, http.StatusOK, "user alice")
		eventually(t, "each to have ended", func() bool { return s.scrape().sum("store_calls") == 0 })
	})
	t.Run("those who only read are anonymous where that is the policy", func(t *testing.T) {
		v.get("/open/put").want(t, http.StatusOK, "user alice")
		release := hold(2)
		v.get("/open/").want(t, http.StatusOK, "user ")
		turnedAway(v.get("/open/put"))
		release()
		v.get("/open/").want(t, http.StatusOK, "user alice")
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
		v.get("/remembered/put")
		before := s.scrape()
		v.get("/remembered/").want(t, http.StatusOK, "user alice")
		s.grows(before, "touches_total", `result="stored"`) // with one place there is some for upkeep, too
	})
}
