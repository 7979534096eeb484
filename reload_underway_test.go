package caddysession_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
)

// Caddy does not wait at a reload for the requests of the config before. Where
// the new one keeps its sessions elsewhere, these still need the old store.
func TestReload_toAnotherStoreLetsRequestsUnderWayFinish(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	app := newApplication(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(arrived)
			<-release
		}
	})
	site := func(options string) string {
		return "$SITE {\nsession {\n" + options + "\n}\n" +
			"handle /slow {\nsession_edit put user alice\nreverse_proxy " + app.address() + "\n}\n" +
			"respond \"{http.session.data.user}\"\n}"
	}
	s := start(t, site(""))
	type result struct {
		answer *answer
		err    error
	}
	slow := make(chan result, 1)
	v := s.visitor().withoutJar()
	go func() {
		a, err := v.try(http.MethodGet, "/slow")
		slow <- result{a, err}
	}()
	<-arrived
	s.reload(site("embedded $DIR/other.db"))
	close(release)
	r := <-slow
	if r.err != nil {
		t.Fatal(r.err)
	}
	r.answer.want(t, http.StatusOK, "")
	token := r.answer.cookie(t).Value
	eventually(t, "the file of before to be closed", func() bool {
		other := embedded.New(s.file(), embedded.Options{})
		defer other.Close()
		return other.Open() == nil
	})
	s.reload(site(""))
	s.visitor().withoutJar().get("/", "Cookie", "session="+token).want(t, http.StatusOK, "alice")
}

// Over HTTP/2 requests come to the config before when that has been stopped.
func TestReload_toAnotherStoreServesWhoIsLate(t *testing.T) {
	site := func(file string) string {
		return "$SITE, $TLS {\nsession {\nembedded $DIR/" + file + "\n}\nsession_edit increment n\nrespond \"{http.session.data.n}\"\n}"
	}
	s := start(t, site("first.db"))
	s.visitor().handshake("$TLS/")
	var visitors sync.WaitGroup
	over := make(chan struct{})
	for range 4 {
		v := s.visitor()
		visitors.Go(func() {
			for !closed(over) {
				// A connection that ends is not the plugin's to say.
				if a, err := v.try(http.MethodGet, "$TLS/"); err == nil && a.StatusCode != http.StatusOK {
					t.Errorf("a visitor is answered %d %q", a.StatusCode, a.body)
					return
				}
			}
		})
	}
	for range 5 {
		s.reload(site("second.db"))
		s.reload(site("first.db"))
	}
	close(over)
	visitors.Wait()
}

// A store that waits for who is late is closed all the same when Caddy stops.
func TestReload_toNoSessionLeavesACompleteFileWhenCaddyStops(t *testing.T) {
	s := startAlone(t, nil, "$SITE {\nsession\nsession_edit put user alice\nrespond {http.session.data.user}\n}", "ADMIN", freeAddress(t))
	s.visitor().get("/").want(t, http.StatusOK, "alice")
	without, err := s.adapt("$SITE {\nrespond without\n}")
	if err != nil {
		t.Fatal(err)
	}
	ask := func(path string, body []byte) {
		t.Helper()
		res, err := http.Post("http://"+s.names["ADMIN"]+path, "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if answer, err := io.ReadAll(res.Body); res.StatusCode != http.StatusOK || err != nil {
			t.Fatalf("%s is answered %d %s (%v)", path, res.StatusCode, answer, err)
		}
	}
	ask("/load", without)
	ask("/stop", nil)
	s.logged("shutdown complete")
	if _, err := os.Stat(s.file() + "-wal"); !os.IsNotExist(err) {
		t.Errorf("the file has something beside it: %v", err)
	}
}

// An operator's request goes on in the store in which it began.
func TestReload_toAnotherStoreLetsAnImportFinish(t *testing.T) {
	site := func(options string) string {
		return "$SITE {\nsession {\n" + options + "\n}\nsession_edit /put put user alice\nrespond \"{http.session.data.user}\"\n}"
	}
	s := startWithAdmin(t, site(""))
	v := s.visitor()
	v.get("/put")
	rows := s.admin(http.MethodGet, "/session/export", "").body

	reading := make(chan struct{})
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { close(reading) }})
	body, write := io.Pipe()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.names["ADMIN"]+"/session/import", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Expect", "100-continue")
	client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute}}
	defer client.CloseIdleConnections()
	go func() {
		<-reading
		if err := s.load(site("embedded $DIR/other.db")); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(write, rows)
		write.Close()
	}()
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(answer), `"received":1`) {
		t.Fatalf("the import got %d %s (%v)", res.StatusCode, answer, err)
	}
}

// A request of the config before cannot read what one of the new config has
// sealed with a key of its own. That is not the store's failure.
func TestReload_toOtherKeysDoesNotTakeTheStoreForUnavailable(t *testing.T) {
	withSecrets(t)
	wait, waiting, goOn := newWait(t)
	site := func(keys string) string {
		return "$SITE {\nsession {\nkeys " + keys + "\n}\nhandle /wait {\nin_go " + wait + "\n}\n" +
			"session_edit /count increment count\nrespond \"{http.session.data.count}\"\n}"
	}
	s := start(t, site("{env.SESSION_TEST_FIRST}"))
	v := s.visitor()
	v.get("/count")
	waited := s.whileWaiting(v, "/wait", waiting, goOn, func() {
		s.reload(site("{env.SESSION_TEST_SECOND} {env.SESSION_TEST_FIRST}"))
		v.get("/count").want(t, http.StatusOK, "2")
	})
	if waited.StatusCode != http.StatusServiceUnavailable || waited.Header.Get("Retry-After") == "" {
		t.Errorf("the request that waited got %d, %v", waited.StatusCode, waited.Header)
	}
	s.logged("it is sealed with a key that is not configured")
	if strings.Contains(s.readLog(), "the session store is unavailable") {
		t.Error("the store is taken for unavailable")
	}
	v.get("/").want(t, http.StatusOK, "2")
}

// While a request of the config before goes on, its store is looked after no more: it
// may be gone for good, or let nobody in.
func TestReload_toAnotherStoreLeavesTheOneBeforeAlone(t *testing.T) {
	var h heard
	wait, waiting, goOn := newWait(t)
	before, after := newStandIn(t), newStandIn(t)
	site := func(store *standIn) string {
		return "{\nevents {\non session_store_unavailable in_go $HEAR\n}\n}\n$SITE {\nsession {\nrqlite " + store.URL + "\ncleanup_interval 20ms\n}\nin_go /wait " + wait + "\n" +
			"session_edit put user alice\nrespond \"{http.session.data.user}\"\n}"
	}
	s := start(t, site(before), "HEAR", onEvent(t, h.hear))
	waited := s.whileWaiting(s.visitor(), "/wait", waiting, goOn, func() {
		s.reload(site(after))
		before.mode.Store(serveMode(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
		}))
		s.visitor().get("/").want(t, http.StatusOK, "alice")
		cleanups := after.calls.Load()
		eventually(t, "the new store to be cleaned up", func() bool { return after.calls.Load() > cleanups+10 })
		if log := s.readLog(); strings.Contains(log, "removing expired sessions failed") {
			t.Error("the store of before is cleaned up in vain")
		}
	})
	if waited.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the request that waited is answered %d", waited.StatusCode)
	}
	s.visitor().get("/").want(t, http.StatusOK, "alice")
	if h.said() != "" {
		t.Errorf("subscribers are told that the store of before is down: %s", h.said())
	}
}
