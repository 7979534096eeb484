package caddysession_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	caddysession "github.com/caddy-session/caddy-session"
)

func TestAdmin_endsSessionsOfEveryCaddyOnACluster(t *testing.T) {
	d := onCluster(t)
	second := &server{t: t, names: map[string]string{"ADMIN": d.caddys[1].admin}}
	cookie, id := d.login(t)
	_, other := d.login(t)
	if got := idsOf(adminInto[caddysession.ListResult](second, http.MethodGet, "/session/sessions")); strings.Join(got, " ") != strings.Join(sorted(id, other), " ") {
		t.Errorf("the other Caddy lists %v", got)
	}
	second.run("revoke", id)
	if got := d.caddys[0].get("/show", cookie).want(t, http.StatusOK).body; strings.Contains(got, "alice") {
		t.Errorf("a session that the other Caddy ended is %q", got)
	}
	if rows := d.rowsOf(t, id); rows != 0 {
		t.Errorf("the session has %d rows", rows)
	}
	one := adminInto[stores](second, http.MethodGet, "/session/stores").Stores[0]
	leaders := 0
	for _, n := range one.Nodes {
		if n.State != "closed" || n.Since.IsZero() {
			t.Errorf("a node is %+v", n)
		}
		if n.Leader {
			leaders++
		}
	}
	if one.Kind != "rqlite" || !one.Reachable || len(one.Nodes) != 3 || leaders != 1 {
		t.Errorf("the store is %+v", one)
	}
}

func TestAdmin_showsAClusterThatDoesNotLetItIn(t *testing.T) {
	const password = "hunter2hunter2"
	store := newStandIn(t)
	s := startWithAdmin(t, adminSite, "STORE", "rqlite "+store.URL+" {\n\t\t\tusername me\n\t\t\tpassword "+password+"\n\t\t\ttimeout 300ms\n\t\t}")
	s.signIn("alice")
	store.mode.Store(serveMode(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
	}))
	for _, path := range []string{"stores", "count", "sessions", "sessions/none", "export"} {
		a := s.admin(http.MethodGet, "/session/"+path, "")
		if path != "stores" && a.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s is answered %d", path, a.StatusCode)
		}
		if strings.Contains(a.body, password) {
			t.Errorf("%s has the password: %s", path, a.body)
		}
	}
	one := adminInto[stores](s, http.MethodGet, "/session/stores").Stores[0]
	if one.Reachable || one.Locked || one.Error == "" || len(one.Nodes) != 1 || one.Nodes[0].Address != store.URL {
		t.Errorf("the store is %+v", one)
	}
	out, notes, err := s.cli("stats")
	if err == nil || !strings.Contains(out, "unreachable") || !strings.Contains(notes, one.Name+": ") || strings.Contains(out+notes, password) {
		t.Errorf("stats: %v, writes %q and %q", err, out, notes)
	}
	t.Log(one.Error)
}

// For scripts: what cannot be told of a store is no success.
func TestCommand_statsFailWhereTheyCannotBeTold(t *testing.T) {
	store := newStandIn(t)
	s := startWithAdmin(t, adminSite, "STORE", "rqlite "+store.URL+" {\n\t\t\ttimeout 300ms\n\t\t}")
	s.signIn("alice")
	name := strings.TrimPrefix(store.URL, "http://")
	fails := func(reachable, why string) {
		t.Helper()
		var out, notes string
		var err error
		eventually(t, "stats to fail for "+why, func() bool { // what came before wears off
			out, notes, err = s.cli("stats", "--json", "--store", name)
			return strings.Contains(notes, why)
		})
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(notes, name+": ") {
			t.Errorf("it is %v, and writes %q", err, notes)
		}
		if strings.Count(out, "\n") != 1 || !strings.Contains(out, reachable) || !strings.Contains(out, `"error":"`) || strings.Contains(out, `"sessions":1`) {
			t.Errorf("it writes %q", out)
		}
	}
	store.mode.Store(serveMode(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		http.Error(w, "no space left on device", http.StatusInternalServerError)
	}))
	fails(`"reachable":false`, "no space left")
	saysWhen := regexp.MustCompile(`:\d\d +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d status 500`) // behind since when
	if out := s.watched(name + ": "); !strings.Contains(out, "unreachable") || !saysWhen.MatchString(out) {
		t.Errorf("watched it writes %q", out)
	}

	store.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
		if bytes.Contains(bodyOf(r), []byte("count(*)")) {
			http.Error(w, "not now", http.StatusInternalServerError)
			return
		}
		node.ServeHTTP(w, r)
	}))
	fails(`"reachable":true`, "counting its sessions")

	store.works()
	eventually(t, "stats to succeed", func() bool {
		out, notes, err := s.cli("stats", "--json")
		return err == nil && notes == "" && strings.Contains(out, `"sessions":1`)
	})
	if err := s.load("$SITE {\n\trespond ok\n}"); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"stats", "list"} {
		if _, notes, err := s.cli(command); err == nil || !strings.Contains(notes, "the config that is running has no session") {
			t.Errorf("%s without any store: %v, writes %q", command, err, notes)
		}
	}
}

// Many tables in one database are made one after the other: those of which all were
// asked for at once would be called unreachable.
func TestAdmin_showsManyStoresThatAreNew(t *testing.T) {
	const tables, atOnce = 50, 8
	store := newStandIn(t)
	var sites strings.Builder
	for i := range tables {
		fmt.Fprintf(&sites, "\thandle /%d {\n\t\tsession {\n\t\t\trqlite %s\n\t\t\ttable sessions%d\n\t\t}\n\t}\n", i, store.URL, i)
	}
	var asked atomic.Int64
	tooMany := make(chan struct{})
	say := sync.OnceFunc(func() { close(tooMany) })
	store.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
		if bytes.Contains(bodyOf(r), []byte("CREATE ")) {
			if asked.Add(1) > atOnce {
				say()
			}
			defer asked.Add(-1)
			select { // long enough for others to come meanwhile
			case <-tooMany:
			case <-time.After(50 * time.Millisecond):
			}
		}
		node.ServeHTTP(w, r)
	}))
	s := startWithAdmin(t, "$SITE {\n"+sites.String()+"}")
	reachable := func() bool { // a slow machine takes more than one call
		all := adminInto[stores](s, http.MethodGet, "/session/stores").Stores
		if len(all) != tables {
			t.Fatalf("%d stores are shown", len(all))
		}
		return !slices.ContainsFunc(all, func(one caddysession.StoreStatus) bool { return !one.Reachable })
	}
	eventually(t, "all stores to be reachable", reachable)
	if closed(tooMany) {
		t.Errorf("more than %d stores were asked at once", atOnce)
	}
}
