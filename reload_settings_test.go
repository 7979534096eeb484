package caddysession_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// The apps of a config start in no particular order: the stores may have their
// new settings already when another app fails.
func TestReload_thatFailsToStartLeavesTheSettings(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	site := func(options string) string {
		return "$METRICS {\nmetrics /metrics\n}\n$SITE {\nsession {\n" + options + "\n}\nsession_edit /put put user alice\nrespond ok\n}\n"
	}
	s := start(t, site("max_calls 321"), "METRICS", "http://"+freeAddress(t))
	s.visitor().get("/put")
	fails := site("max_calls 7") + "http://" + taken.Addr().String() + " {\nbind 127.0.0.1\nrespond taken\n}"
	for range 12 {
		if err := s.load(fails); err == nil {
			t.Fatal("a config with an address that is in use was taken")
		}
		if got := s.scrape().sum("store_max_calls"); got != 321 {
			t.Fatalf("after a reload that failed, max_calls is %v", got)
		}
	}
}

// A session that was stored under an idle_timeout must not end by it while it is
// used, once there is none any more.
func TestReload_withoutIdleTimeoutKeepsSessionsInUse(t *testing.T) {
	site := func(options string) string {
		return "$SITE {\nsession {\n" + options + "\n}\nsession_edit /put put user alice\nrespond \"{http.session.data.user}\"\n}"
	}
	const idle = 2 * time.Second
	s := start(t, site("idle_timeout 2s"))
	v := s.visitor()
	v.get("/put")
	stored := time.Now()
	s.reload(site(""))
	eventually(t, "the idle time to be over", func() bool {
		v.get("/").want(t, http.StatusOK, "alice")
		return time.Since(stored) > idle+idle/2
	})
}

// What a session has of its time when the settings change: `lifetime` is that of the
// next login, as what the cookie is; a shorter idle_timeout comes with what is stored,
// a longer one with use.
func TestReload_leavesSessionsTheirEnd(t *testing.T) {
	site := func(options string) string {
		return "$SITE {\nsession {\n" + options + "\n}\nsession_edit /put increment n\nsession_edit /login renew\nrespond {http.session.expires}\n}"
	}
	s := start(t, site(""))
	v := s.visitor()
	v.get("/put")
	left := func() time.Duration { // without use
		return time.Duration((s.table().only().expiry - julian(time.Now())) * float64(24*time.Hour))
	}
	const strict = "lifetime 2h\ncookie {\nsame_site strict\n}"
	for _, step := range []struct {
		options, path string
		idle, life    time.Duration
	}{
		{strict, "/", 24 * time.Hour, 24 * time.Hour},
		{strict, "/put", 24 * time.Hour, 24 * time.Hour},
		{strict, "/login", 2 * time.Hour, 2 * time.Hour},
		{"lifetime 48h", "/put", 2 * time.Hour, 2 * time.Hour},
		{"idle_timeout 1h", "/", 2 * time.Hour, 2 * time.Hour},
		{"idle_timeout 1h", "/put", time.Hour, 2 * time.Hour},
		{"idle_timeout 30m", "/", time.Hour, 2 * time.Hour},
		{"idle_timeout 30m", "/put", 30 * time.Minute, 2 * time.Hour},
		{"idle_timeout 1h", "/", time.Hour, 2 * time.Hour},
		{"", "/", 2 * time.Hour, 2 * time.Hour},
	} {
		s.reload(site(step.options))
		near := func(got, want time.Duration) bool { return (got - want).Abs() < 10*time.Minute }
		a := v.get(step.path)
		if set := a.Header.Get("Set-Cookie"); strings.Contains(set, "SameSite=Strict") != (step.path == "/login") || (set != "") != (step.path == "/login") {
			t.Errorf("with %q after %s the cookie is %q", step.options, step.path, set)
		}
		ends, err := time.Parse(time.RFC3339, a.body)
		if err != nil || !near(time.Until(ends), step.life) {
			t.Errorf("with %q after %s the session ends in %v, want %v (%v)", step.options, step.path, time.Until(ends), step.life, err)
		}
		// a use is noted in the background
		eventually(t, fmt.Sprintf("a session with %q after %s to end %v later", step.options, step.path, step.idle), func() bool { return near(left(), step.idle) })
	}
}

// A store outlives a reload, and what there is to say of it is in the log of the
// config that runs.
func TestReload_storesLogWhereTheNewConfigSays(t *testing.T) {
	store := newStandIn(t)
	site := func(log string) string {
		return `
{
	log other {
		output file $DIR/` + log + `.log
		include http.handlers.session session
	}
}
$SITE {
	session {
		rqlite $STORE {
			timeout 300ms
		}
	}
	session_edit /login put user alice
	respond "{http.session.data.user}"
}`
	}
	s := start(t, site("first"), "STORE", store.URL)
	v := s.visitor()
	v.get("/login").cookie(t)
	s.reload(site("second"))
	store.fails()
	if a := v.get("/"); a.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	log, err := os.ReadFile(s.expand("$DIR/second.log"))
	if err != nil || !strings.Contains(string(log), "the session store is unavailable") {
		t.Errorf("the new log has\n%s%v", log, err)
	}
}

// What has expired is removed as often as the config that runs says.
func TestReload_beginsTheCleanup(t *testing.T) {
	site := func(cleanup string) string {
		return "$SITE {\nsession {\nlifetime 100ms\ncleanup_interval " + cleanup + "\n}\nsession_edit /put put user alice\nrespond \"{http.session.data.user}\"\n}"
	}
	s := start(t, site("0"))
	s.visitor().get("/put").want(t, http.StatusOK, "alice")
	table := s.table()
	table.wantRows(1)
	s.reload(site("50ms"))
	eventually(t, "the row to be removed", func() bool { return table.count() == 0 })
}

// A session that is larger than a new max_size allows is left as it is: it gets its
// new tokens, and may shrink, but not grow.
func TestReload_toASmallerMaxSizeLeavesSessionsInUse(t *testing.T) {
	app := newApplication(t, obedient)
	site := func(options string) string {
		return "$SITE {\nsession {\n" + options + "\nupstream {\naccept\n}\n}\n" + `
	session_edit /put* put text {query.text}
	session_edit /renew* renew
	respond /show* "{http.session.data.text} {http.session.data.cart} {http.session.data.note}"
	respond /put* ok
	respond /renew* ok
	reverse_proxy $APP
}`
	}
	s := start(t, site(""), "APP", app.address())
	v := s.visitor()
	text := strings.Repeat("x", 1500)
	v.get("/put?text="+text).want(t, http.StatusOK, "ok")
	v.get("/?Session-Set="+escape(`{"cart":{"book":1,"`+text+`":1},"note":"old"}`)).want(t, http.StatusOK, "app")

	s.reload(site("max_size 1KiB\nrenew_interval 1ms"))
	if v.get("/show").Header.Get("Set-Cookie") == "" {
		t.Error("the session gets no new token")
	}
	s.reload(site("max_size 1KiB"))
	v.get("/renew").want(t, http.StatusOK, "ok")
	v.get("/?Session-Set="+escape(`{"cart":{"`+text+`":null}}`)).want(t, http.StatusOK, "app")
	v.get("/show").want(t, http.StatusOK, text+` {"book":1} old`)
	if got := v.get("/put?text=x" + text).StatusCode; got != http.StatusInternalServerError {
		t.Errorf("it may grow: %d", got)
	}
	v.get("/?Session-Set="+escape(`{"note":"older"}`)).want(t, http.StatusOK, "app")
	v.get("/show").want(t, http.StatusOK, text+` {"book":1} old`)
	v.get("/put?text=x").want(t, http.StatusOK, "ok")
	v.get("/put?text="+text[:1200]).want(t, http.StatusInternalServerError, "")
	v.get("/show").want(t, http.StatusOK, `x {"book":1} old`)
}
