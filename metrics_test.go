package caddysession_test

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	caddysession "github.com/caddy-session/caddy-session"
)

// samples are what one scrape shows: the series, as it is written, and its value.
type scraped map[string]float64

var sampleLine = regexp.MustCompile(`(?m)^(caddy_session_[^ ]+) ([^ \n]+)$`)

// scrape asks Caddy for its metrics as Prometheus does.
func (s *server) scrape() scraped {
	s.t.Helper()
	a := s.visitor().insist("$METRICS/metrics")
	if a.StatusCode != http.StatusOK {
		s.t.Fatalf("the scrape got %d %q", a.StatusCode, a.body)
	}
	found := scraped{}
	for _, line := range sampleLine.FindAllStringSubmatch(a.body, -1) {
		value, err := strconv.ParseFloat(line[2], 64)
		if err != nil {
			s.t.Fatal(err)
		}
		found[line[1]] = value
	}
	return found
}

// insist asks until there is an answer: right after a reload Linux resets
// connections that wait in the socket which Caddy closes.
func (v *visitor) insist(path string) (a *answer) {
	v.t.Helper()
	eventually(v.t, "an answer from "+path, func() (answered bool) {
		var err error
		a, err = v.try(http.MethodGet, path)
		return err == nil
	})
	return a
}

// sum adds up the series of a name that have the labels, like result="found".
func (m scraped) sum(name string, labels ...string) float64 {
	total := 0.0
	for series, value := range m {
		family, rest, _ := strings.Cut(series, "{")
		if family == "caddy_session_"+name && !slices.ContainsFunc(labels, func(label string) bool { return !strings.Contains(rest, label) }) {
			total += value
		}
	}
	return total
}

// counts checks how much a series has grown since an earlier scrape. The
// process has the metrics of other tests too.
func (s *server) counts(before scraped, want float64, name string, labels ...string) {
	s.t.Helper()
	var have float64
	for range 200 { // what happens off the request's path takes its time
		if have = s.scrape().sum(name, labels...) - before.sum(name, labels...); have >= want {
			break
		}
	}
	if have != want {
		s.t.Errorf("%s %v has grown by %v, want %v", name, labels, have, want)
	}
}

// grows waits until a series is more than in an earlier scrape.
func (s *server) grows(before scraped, name string, labels ...string) {
	s.t.Helper()
	eventually(s.t, name+" to grow", func() bool { return s.scrape().sum(name, labels...) > before.sum(name, labels...) })
}

const metricsSites = `
$METRICS {
	metrics /metrics
}
(routes) {
	handle /put {
		session_edit {
			put user {query.user}
			put roles {query.roles}
		}
		respond ok
	}
	handle /cart {
		session_edit put cart {query.cart}
		respond {http.session.id}
	}
	handle /renew {
		session_edit renew
		respond ok
	}
	handle /logout {
		session_edit destroy
		respond ok
	}
	handle /out-elsewhere {
		session_edit destroy_others
		respond ok
	}
	handle /wait {
		in_go $WAIT
	}
	handle /app {
		session {
			$STORE
			upstream {
				accept
			}
		}
		reverse_proxy $APP
	}
	handle /plain {
		respond plain
	}
	handle /devices {
		session_devices
	}
	respond "{http.session.data.user}"
}
`

func TestMetrics_countWhatHappens(t *testing.T) {
	store := newStandIn(t)
	wait, waiting, goOn := newWait(t)
	app := newApplication(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Session-Set", "no JSON")
		w.Header().Set("Session-Action", "dance")
	})
	s := start(t, strings.ReplaceAll(metricsSites, "$STORE", "rqlite "+store.URL)+`
$SITE {
	session {
		rqlite $STORE
		principal user
		idle_timeout 1h
		touch_interval 1ms
	}
	import routes
}
$ROTATING {
	session {
		rqlite $STORE
		renew_interval 1s
		cookie rotating
	}
	session_edit /put put user {query.user}
	respond "{http.session.data.user}"
}
$BOUND {
	session {
		rqlite $STORE
		bind {http.request.header.User-Agent}
		cookie bound
	}
	session_edit /put put user {query.user}
	respond "{http.session.data.user}"
}
$LIMITED {
	session {
		rqlite $STORE
		principal user
		max_per_principal 1 reject
		max_size 500
		cookie limited
	}
	session_edit put user {query.user}
	respond "{http.session.data.user}"
}
$CACHED {
	session {
		rqlite $STORE
		cache 10m
		cookie cached
	}
	session_edit /put put user {query.user}
	respond "{http.session.data.user}"
}`, "STORE", store.URL, "WAIT", wait, "APP", app.address(), "METRICS", "http://"+freeAddress(t), "ROTATING", "http://"+freeAddress(t), "BOUND", "http://"+freeAddress(t), "LIMITED", "http://"+freeAddress(t), "CACHED", "http://"+freeAddress(t))
	v := s.visitor()
	before := s.scrape()

	v.get("/plain").want(t, http.StatusOK, "plain")
	s.counts(before, 0, "loads_total")
	v.get("/").want(t, http.StatusOK, "")
	s.counts(before, 1, "loads_total", `result="none"`)
	v.withoutJar().get("/", "Cookie", "session="+unknownCookie()).want(t, http.StatusOK, "")
	s.counts(before, 1, "loads_total", `result="unknown"`)
	v.withoutJar().get("/", "Cookie", "session="+unknownCookie()+"; session="+unknownCookie())
	s.counts(before, 1, "refused_cookies_total", `reason="ambiguous"`)
	for reason, value := range map[string]string{"malformed": "garbage", "unknown_key": strings.Repeat("A", 70)} {
		if a := v.withoutJar().get("/", "Cookie", "session="+value); a.StatusCode != http.StatusOK || a.body != "" || a.Header["Set-Cookie"] != nil {
			t.Errorf("with a cookie that is %s: %d %q, cookies %q", reason, a.StatusCode, a.body, a.Header["Set-Cookie"])
		}
		s.counts(before, 1, "refused_cookies_total", `reason="`+reason+`"`)
	}

	v.get("/put?user=alice").want(t, http.StatusOK, "ok")
	s.counts(before, 1, "created_total")
	for _, count := range []string{"store_request_rows_count", "store_request_rows_sum", "store_request_duration_seconds_count"} {
		s.counts(before, 1, count, `kind="create"`)
	}
	s.grows(before, "store_request_duration_seconds_sum", `kind="create"`)
	v.get("/").want(t, http.StatusOK, "alice")
	s.counts(before, 1, "loads_total", `result="found"`)
	s.grows(before, "touches_total", `result="stored"`)
	old := v.get("/renew").cookie(t)
	v.get("/cart?cart=book")
	s.counts(before, 1, "renewals_total")
	s.counts(before, 2, "saves_total")

	t.Run("a change made again", func(t *testing.T) {
		before := s.scrape()
		waited := s.whileWaiting(v, "/wait", waiting, goOn, func() { v.get("/cart?cart=pen") })
		waited.want(t, http.StatusOK, "waited")
		s.counts(before, 1, "conflicts_total")
		s.counts(before, 2, "saves_total")
	})
	t.Run("a change too late for a renewal", func(t *testing.T) {
		before := s.scrape()
		s.whileWaiting(v, "/wait", waiting, goOn, func() { v.get("/renew") })
		s.counts(before, 1, "dropped_changes_total", `reason="renewed"`)
		v.withoutJar().get("/", "Cookie", "session="+old.Value)
		s.counts(before, 0, "dropped_changes_total", `reason="grace"`)
		v.withoutJar().get("/cart?cart=late", "Cookie", "session="+old.Value)
		s.counts(before, 1, "dropped_changes_total", `reason="grace"`)
	})
	t.Run("headers that are not followed", func(t *testing.T) {
		before := s.scrape()
		v.get("/app")
		s.counts(before, 1, "refused_upstream_headers_total", `header="set"`)
		s.counts(before, 1, "refused_upstream_headers_total", `header="action"`)
	})
	t.Run("a logout", func(t *testing.T) {
		before := s.scrape()
		s.whileWaiting(v, "/wait", waiting, goOn, func() { v.get("/logout") })
		s.counts(before, 1, "destroyed_total")
		s.counts(before, 1, "dropped_changes_total", `reason="gone"`)
	})
	t.Run("what is too much", func(t *testing.T) {
		before := s.scrape()
		s.visitor().get("$LIMITED/?user=erin").want(t, http.StatusOK, "erin")
		if a := s.visitor().get("$LIMITED/?user=erin"); a.StatusCode != http.StatusForbidden {
			t.Errorf("a second session got %d", a.StatusCode)
		}
		s.counts(before, 1, "rejected_total", `limit="max_per_principal"`)
		if a := s.visitor().get("$LIMITED/?user=" + strings.Repeat("e", 2000)); a.StatusCode != http.StatusInternalServerError {
			t.Errorf("a large session got %d", a.StatusCode)
		}
		s.counts(before, 1, "rejected_total", `limit="max_size"`)
	})
	t.Run("a token that is old", func(t *testing.T) {
		before, v := s.scrape(), s.visitor()
		v.get("$ROTATING/put?user=bob")
		eventually(t, "a new token", func() bool { return len(v.get("$ROTATING/").Cookies()) > 0 })
		s.counts(before, 1, "rotations_total")
		s.counts(before, 0, "renewals_total")
	})
	t.Run("the session of another browser", func(t *testing.T) {
		before, v := s.scrape(), s.visitor()
		v.get("$BOUND/put?user=eve")
		v.get("$BOUND/", "User-Agent", "another").want(t, http.StatusOK, "")
		s.counts(before, 1, "refused_cookies_total", `reason="bind"`)
	})
	t.Run("a session that is read from memory", func(t *testing.T) {
		before, v := s.scrape(), s.visitor()
		v.get("$CACHED/put?user=ivan")
		eventually(t, "the session to be in memory", func() bool { // which takes it a moment later
			v.get("$CACHED/").want(t, http.StatusOK, "ivan")
			return s.scrape().sum("loads_total", `result="cached"`) > before.sum("loads_total", `result="cached"`)
		})
		before = s.scrape()
		v.get("$CACHED/").want(t, http.StatusOK, "ivan")
		s.counts(before, 1, "loads_total", `result="cached"`)
		s.counts(before, 0, "loads_total", `result="found"`)
	})
	t.Run("a row that cannot be read", func(t *testing.T) {
		before, v := s.scrape(), s.visitor()
		v.get("/put?user=frank")
		alterFile(t, store.file, "UPDATE sessions SET data=x'7b' WHERE principal='frank'")
		for range 2 {
			if a := v.get("/"); a.StatusCode != http.StatusOK || a.body != "" || a.Header["Set-Cookie"] != nil {
				t.Errorf("its visitor got %d %q, cookies %q", a.StatusCode, a.body, a.Header["Set-Cookie"])
			}
		}
		s.counts(before, 2, "unreadable_rows_total")
		const unreadable = "a session's row cannot be read"
		s.logged(unreadable)
		if n := strings.Count(s.readLog(), unreadable); n != 1 {
			t.Errorf("the log says it %d times", n)
		}
		var left int // it is left for the operator
		if err := openTable(t, store.file).db.QueryRow("SELECT count(*) FROM sessions WHERE principal='frank'").Scan(&left); err != nil || left != 1 {
			t.Errorf("there are %d rows of it (%v)", left, err)
		}
	})
	t.Run("a use that the store does not note", func(t *testing.T) {
		v := s.visitor()
		v.get("/put?user=heidi")
		before := s.scrape()
		store.isFull()
		v.get("/").want(t, http.StatusOK, "heidi")
		s.grows(before, "touches_total", `result="error"`)
		s.grows(before, "store_request_errors_total", `kind="touch"`)
		store.works()
	})
	t.Run("a list that the store does not give", func(t *testing.T) {
		v := s.visitor()
		v.get("/put?user=grace")
		before := s.scrape()
		store.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
			if bytes.Contains(bodyOf(r), []byte("ORDER BY rowid DESC")) {
				_, _ = io.WriteString(w, `{"results":[{"error":"out of memory"}]}`)
				return
			}
			node.ServeHTTP(w, r)
		}))
		if a := v.get("/devices"); a.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("got %d %q, want 503", a.StatusCode, a.body)
		}
		s.counts(before, 1, "store_errors_total", `operation="list"`)
		store.works()
	})
	t.Run("a store that is down", func(t *testing.T) {
		v := s.visitor()
		v.get("/put?user=carol")
		before := s.scrape()
		if up := before.sum("store_up", `store="`+s.label(before)+`"`); up != 1 {
			t.Errorf("store_up is %v while it works", up)
		}
		store.fails()
		if a := v.get("/"); a.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("got %d, want 503", a.StatusCode)
		}
		s.counts(before, 1, "loads_total", `result="error"`)
		s.counts(before, 1, "store_errors_total", `operation="load"`)
		s.counts(before, -1, "store_up", `store="`+s.label(before)+`"`)
		s.visitor().get("/put?user=dave")
		s.grows(before, "store_errors_total", `operation="store"`)
		store.works()
		eventually(t, "the store to be asked again", func() bool { return v.get("/").body == "carol" })
		s.counts(before, 0, "store_up", `store="`+s.label(before)+`"`)
	})
	t.Run("no value of a visitor is in a label", func(t *testing.T) {
		for series := range s.scrape() {
			for _, private := range []string{"alice", "carol", old.Value, "127.0.0.1", store.URL} {
				if strings.Contains(series, private) {
					t.Errorf("%s has %q", series, private)
				}
			}
		}
	})
}

// newWait is a handler that changes the session, says that it is waiting, and
// goes on when it is told.
func newWait(t testing.TB) (name string, waiting, goOn chan struct{}) {
	waiting, goOn = make(chan struct{}), make(chan struct{})
	return inGo(t, func(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
		if err := caddysession.FromContext(r.Context()).Increment("n", 1); err != nil {
			return err
		}
		waiting <- struct{}{}
		<-goOn
		_, err := io.WriteString(w, "waited")
		return err
	}), waiting, goOn
}

// whileWaiting sends a request that has changed its session when meanwhile
// runs, and stores it afterwards.
func (s *server) whileWaiting(v *visitor, path string, waiting, goOn chan struct{}, meanwhile func()) *answer {
	s.t.Helper()
	done := make(chan *answer, 1)
	go func() {
		a, _ := v.try(http.MethodGet, path)
		done <- a
	}()
	<-waiting
	meanwhile()
	goOn <- struct{}{}
	a := <-done
	if a == nil {
		s.t.Fatal("the request that waited got no answer")
	}
	return a
}

// label is that of the store that was added last.
func (s *server) label(m scraped) string {
	s.t.Helper()
	labels := m.labels()
	if len(labels) != 1 {
		s.t.Fatalf("there are the stores %q, want one", labels)
	}
	return labels[0]
}

// labels are those of the stores that are open.
func (m scraped) labels() (labels []string) {
	for _, series := range slices.Sorted(maps.Keys(m)) {
		if label, ok := strings.CutPrefix(series, `caddy_session_store_up{store="`); ok {
			labels = append(labels, strings.TrimSuffix(label, `"}`))
		}
	}
	return labels
}

func TestMetrics_goOnOverReloads(t *testing.T) {
	config := "$METRICS {\nmetrics /metrics\n}\n$SITE {\nsession\nsession_edit /put put user alice\nrespond ok\n}"
	s := start(t, config, "METRICS", "http://"+freeAddress(t))
	before := s.scrape()
	s.visitor().get("/put")
	for range 3 {
		s.reload(config)
	}
	s.visitor().get("/put")
	s.counts(before, 2, "created_total")
	s.label(s.scrape()) // there is one, not one for each config
	if err := s.load("$METRICS {\nmetrics /metrics\n}"); err != nil {
		t.Fatal(err)
	}
	if got := s.scrape(); len(got) != 0 {
		t.Errorf("a config without sessions still shows %v", got)
	}
}

func TestMetrics_tellStoresApart(t *testing.T) {
	one, two := newStandIn(t), newStandIn(t)
	config := `
$METRICS {
	metrics /metrics
}
(routes) {
	session_edit put user alice
	respond ok
}
$SITE1 {
	session {
		rqlite $ONE
		table apart
	}
	import routes
}
$SITE2 {
	session {
		rqlite $TWO $DEAD {
			timeout $TIMEOUT
		}
		table apart
	}
	import routes
}
$SITE3 {
	session {
		table apart
	}
	import routes
}`
	s := start(t, config, "ONE", one.URL, "TWO", two.URL, "DEAD", "http://"+freeAddress(t), "TIMEOUT", "1s", "METRICS", "http://"+freeAddress(t))
	before := s.scrape()
	for _, site := range []string{"$SITE1/", "$SITE2/", "$SITE2/", "$SITE3/"} {
		s.visitor().get(site).want(t, http.StatusOK, "ok")
	}
	var created []float64
	after := s.scrape()
	for series := range after {
		label, ok := strings.CutPrefix(series, `caddy_session_store_up{`)
		if !ok {
			continue
		}
		label = strings.TrimSuffix(label, "}")
		created = append(created, after.sum("created_total", label)-before.sum("created_total", label))
		if !strings.HasPrefix(label, `store="rqlite/apart`) && !strings.HasPrefix(label, `store="embedded/apart`) {
			t.Errorf("a store is called %s", label)
		}
	}
	if slices.Sort(created); !slices.Equal(created, []float64{1, 1, 2}) {
		t.Errorf("the stores have %v new sessions", created)
	}

	eventually(t, "the dead node to be noticed", func() bool {
		m := s.scrape()
		return m.sum("node_breaker_open", `node="2"`) == 1 && m.sum("node_breaker_open", `node="1"`) == 0 && m.sum("node_leader", `node="1"`) == 2
	})

	// A reload that changes how a store is reached makes no second store of it.
	s.names["TIMEOUT"] = "2s"
	if err := s.load(config); err != nil {
		t.Fatal(err)
	}
	s.visitor().insist("$SITE2/").want(t, http.StatusOK, "ok")
	if up := s.scrape().sum("store_up"); up != 3 {
		t.Errorf("%v stores are up, want 3", up)
	}
}

func TestMetrics_labelStaysWhereANodeDoes(t *testing.T) {
	config := func(nodes ...string) string {
		return "$METRICS {\nmetrics /metrics\n}\n$SITE {\nsession {\nrqlite " + strings.Join(nodes, " ") + "\n}\nrespond ok\n}"
	}
	one, two, three := "http://"+freeAddress(t), "http://"+freeAddress(t), "http://"+freeAddress(t)
	s := start(t, config(one), "METRICS", "http://"+freeAddress(t))
	label := func() string { return s.label(s.scrape()) }
	first := label()
	s.reload(config(one, two))
	s.reload(config(two))
	if got := label(); got != first {
		t.Errorf("a cluster that was extended is %q, and was %q", got, first)
	}
	s.reload(config(three))
	eventually(t, "the cluster of before to be left", func() bool { return len(s.scrape().labels()) == 1 })
	if got := label(); got == first {
		t.Errorf("another cluster is %q as well", got)
	}
}
