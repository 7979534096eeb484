package caddysession_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
)

// subscriber is a module that runs a function of the test for events:
// `on <event> in_go <name>`.
type subscriber struct {
	Name string `json:"name"`
}

var subscribers sync.Map // name → func(caddy.Event)

// onEvent registers a function and returns the name for the Caddyfile.
func onEvent(t testing.TB, run func(caddy.Event)) string {
	name := t.Name() + fmt.Sprintf("/%p", &run)
	subscribers.Store(name, run)
	t.Cleanup(func() { subscribers.Delete(name) })
	return name
}

func init() { caddy.RegisterModule(subscriber{}) }

func (subscriber) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.in_go", New: func() caddy.Module { return new(subscriber) }}
}

func (s *subscriber) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&s.Name) {
		return d.ArgErr()
	}
	return nil
}

func (s *subscriber) Handle(_ context.Context, e caddy.Event) error {
	run, ok := subscribers.Load(s.Name)
	if !ok {
		return fmt.Errorf("no subscriber is registered as %s", s.Name)
	}
	run.(func(caddy.Event))(e)
	return nil
}

var (
	_ caddyevents.Handler   = (*subscriber)(nil)
	_ caddyfile.Unmarshaler = (*subscriber)(nil)
)

// heard are the events that a subscriber got.
type heard struct {
	mu  sync.Mutex
	all []caddy.Event
}

func (h *heard) hear(e caddy.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, e)
}

// said is what was heard so far, an event a line: its name and data.
func (h *heard) said() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var lines []string
	for _, e := range h.all {
		lines = append(lines, fmt.Sprint(e.Name(), " ", e.Data))
	}
	return strings.Join(lines, "\n")
}

const eventsSite = `
{
	events {
		on session_created in_go $HEAR
		on session_renewed in_go $HEAR
		on session_destroyed in_go $HEAR
		on session_store_unavailable in_go $HEAR
	}
}
$METRICS {
	metrics /metrics
}
$SITE {
	session {
		$STORE
		principal user
		table $TABLE
	}
	handle /put {
		session_edit put user {query.user}
		respond "{http.session.id}"
	}
	handle /renew {
		session_edit renew
		respond "renewed"
	}
	handle /increment {
		session_edit increment n
		respond "{http.session.data.n}"
	}
	handle /elsewhere {
		session_edit destroy_others
		respond "alone"
	}
	handle /logout {
		session_edit destroy
		respond "out"
	}
	handle /plain {
		respond plain
	}
	respond "{http.session.data.user}"
}`

func TestEvents_tellOfSessionsAfterTheyWereStored(t *testing.T) {
	var h heard
	s := start(t, eventsSite, "HEAR", onEvent(t, h.hear), "STORE", "embedded\nmax_per_principal 2", "TABLE", "events_told", "METRICS", "http://"+freeAddress(t))
	v, other := s.visitor(), s.visitor()
	label := s.label(s.scrape())
	want := ""
	expect := func(format string, args ...any) {
		t.Helper()
		want = strings.TrimPrefix(want+"\n"+fmt.Sprintf(format, args...), "\n")
		eventually(t, "the event", func() bool { return len(h.said()) >= len(want) })
		if said := h.said(); said != want {
			t.Fatalf("heard\n%s\nwant\n%s", said, want)
		}
	}

	v.get("/plain")
	v.get("/")
	a := v.get("/put?user=alice")
	id, first := a.body, a.cookie(t).Value
	expect("session_created map[principal:alice session_id:%s store:%s]", id, label)
	v.get("/increment").want(t, http.StatusOK, "1")
	second := v.get("/renew").cookie(t).Value
	expect("session_renewed map[principal:alice session_id:%s store:%s]", id, label)
	third := v.get("/put?user=bob").cookie(t).Value // another principal: renewed by itself
	expect("session_renewed map[principal:bob session_id:%s store:%s]", id, label)
	twin := other.get("/put?user=bob").body
	expect("session_created map[principal:bob session_id:%s store:%s]", twin, label)
	v.get("/elsewhere").want(t, http.StatusOK, "alone")
	expect("session_destroyed map[all_but:%s principal:bob store:%s]", id, label)
	v.get("/logout").want(t, http.StatusOK, "out")
	expect("session_destroyed map[principal:bob session_id:%s store:%s]", id, label)

	for range 3 { // one more than there may be
		s.visitor().get("/put?user=carol").cookie(t)
	}
	eventually(t, "the event of what gave way", func() bool { return strings.Contains(h.said(), "session_destroyed map[principal:carol ") })

	for _, token := range []string{first, second, third} {
		if strings.Contains(h.said(), token) || strings.Contains(h.said(), hashOf(token)) {
			t.Error("an event has a token")
		}
	}
}

func TestEvents_tellOnceThatTheStoreIsUnavailable(t *testing.T) {
	var h heard
	store := newStandIn(t)
	s := start(t, eventsSite, "HEAR", onEvent(t, h.hear), "STORE", "rqlite "+store.URL, "TABLE", "events_down", "METRICS", "http://"+freeAddress(t))
	v := s.visitor()
	v.get("/put?user=alice")
	store.fails()
	for range 2 {
		if a := v.get("/"); a.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("got %d, want 503", a.StatusCode)
		}
	}
	eventually(t, "the event", func() bool { return strings.Contains(h.said(), "unavailable") })
	if said := h.said(); strings.Count(said, "session_store_unavailable map[store:rqlite/events_down") != 1 {
		t.Errorf("heard\n%s", said)
	}
}

func TestEvents_ofASlowSubscriberHoldUpNoRequest(t *testing.T) {
	stuck, goOn := make(chan struct{}, 1), make(chan struct{})
	slow := onEvent(t, func(caddy.Event) {
		select {
		case stuck <- struct{}{}:
		default:
		}
		<-goOn
	})
	s := start(t, eventsSite, "HEAR", slow, "STORE", "embedded", "TABLE", "events_slow", "METRICS", "http://"+freeAddress(t))
	defer close(goOn)
	before := s.scrape()
	s.visitor().get("/put?user=alice")
	<-stuck
	const requests, room = 1100, 1024
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			v := s.visitor().withoutJar()
			for range requests / 10 {
				v.get("/put?user=bob")
			}
		})
	}
	all.Wait()
	s.counts(before, requests+1, "created_total")
	s.counts(before, requests-room, "lost_events_total")
}

func TestEvents_reachTheSubscribersOfTheNewestConfig(t *testing.T) {
	var first, second heard
	names := []string{"HEAR", onEvent(t, first.hear), "STORE", "embedded", "TABLE", "events_reload", "METRICS", "http://" + freeAddress(t)}
	s := start(t, eventsSite, names...)
	s.visitor().get("/put?user=alice")
	eventually(t, "the event", func() bool { return strings.Contains(first.said(), "alice") })

	if err := s.load(eventsSite + "\n:0 {\n\tbind /no/such/place\n}"); err == nil {
		t.Fatal("a config that cannot start was taken")
	}
	s.visitor().insist("/put?user=bob")
	eventually(t, "the event after a reload that failed", func() bool { return strings.Contains(first.said(), "bob") })

	s.names["HEAR"] = onEvent(t, second.hear)
	s.reload(eventsSite)
	s.visitor().get("/put?user=carol")
	eventually(t, "the event of the new config", func() bool { return strings.Contains(second.said(), "carol") })
	if strings.Contains(first.said(), "carol") {
		t.Error("the subscriber of the old config got it too")
	}
}

// What a request stores in the store of the config before is told as well, for who
// listens now.
func TestEvents_tellOfWhatIsUnderWayAtAReloadToAnotherStore(t *testing.T) {
	var h heard
	wait, waiting, goOn := newWait(t)
	site := func(options string) string {
		return "{\nevents {\non session_created in_go $HEAR\n}\n}\n" +
			"$SITE {\nsession {\n" + options + "\n}\nin_go /wait " + wait + "\nrespond {http.session.id}\n}"
	}
	s := start(t, site(""), "HEAR", onEvent(t, h.hear))
	s.whileWaiting(s.visitor(), "/wait", waiting, goOn, func() {
		s.reload(site("embedded $DIR/other.db"))
	}).cookie(t)
	eventually(t, "the event", func() bool { return strings.Contains(h.said(), "session_created") })
}

func TestEvents_outliveASubscriberThatPanics(t *testing.T) {
	var h heard
	s := start(t, eventsSite, "HEAR", onEvent(t, func(e caddy.Event) {
		h.hear(e)
		panic("a bug of the subscriber")
	}), "STORE", "embedded", "TABLE", "events_panic", "METRICS", "http://"+freeAddress(t))
	for _, user := range []string{"alice", "bob"} {
		s.visitor().get("/put?user=" + user)
		eventually(t, "the event", func() bool { return strings.Contains(h.said(), user) })
	}
	s.logged("a subscriber panicked")
}
