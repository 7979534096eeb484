package caddysession_test

import (
	"bytes"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// How fresh a read is, is what `consistency` says. Where what was read may be out
// of date, a value that is set to what it seems to be is stored all the same: it
// may have become another one.
func TestConsistency_isThatOfTheOption(t *testing.T) {
	for name, test := range map[string]struct {
		store, session string // options
		level          string // of reads; "" = none is made
		stored         bool   // what seems to be the same
	}{
		"none given":   {"", "", "linearizable", false},
		"linearizable": {"consistency linearizable", "", "linearizable", false},
		"strong":       {"consistency strong", "", "strong", false},
		"weak":         {"consistency weak", "", "weak", true},
		"none":         {"consistency none", "", "none", true},
		"from memory":  {"", "cache 1m", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			store := newStandIn(t)
			var mu sync.Mutex
			levels := make(map[string]bool)
			store.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
				if r.URL.Path == "/db/query" && bytes.Contains(bodyOf(r), []byte(`FROM \"sessions\" p`)) {
					mu.Lock()
					levels[r.URL.Query().Get("level")] = true
					mu.Unlock()
				}
				node.ServeHTTP(w, r)
			}))
			s := start(t, `
$SITE {
	session {
		rqlite $STORE {
			$LEVEL
		}
		$CACHE
	}
	session_edit put user alice
	respond ok
}`, "STORE", store.URL, "LEVEL", test.store, "CACHE", test.session)
			v, table := s.visitor(), openTable(t, store.file)
			v.get("/").want(t, http.StatusOK, "ok")
			before := table.only().version
			v.get("/").want(t, http.StatusOK, "ok")
			if stored := table.only().version != before; stored != test.stored {
				t.Errorf("the same value is stored: %v, want %v", stored, test.stored)
			}
			mu.Lock()
			got := strings.Join(slices.Collect(maps.Keys(levels)), " ")
			mu.Unlock()
			if got != test.level {
				t.Errorf("sessions are read at the level %q, want %q", got, test.level)
			}

			// as another Caddy does
			alterFile(t, store.file, "UPDATE sessions SET data=CAST(replace(CAST(data AS TEXT),'alice','bob') AS BLOB),version=version+1")
			v.get("/").want(t, http.StatusOK, "ok")
			if data := table.only().data; !strings.Contains(data, "alice") {
				t.Errorf("what the request has put is lost: %s", data)
			}
		})
	}
}
