package caddysession_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// Upkeep that the store does not do costs a request little, and is nothing that
// a handler has lost.
func TestUpkeep_failsNoRequest(t *testing.T) {
	until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	for name, upkeep := range map[string]struct{ option, logged string }{
		"a new token": {"keys {env.SESSION_TEST_FIRST} {\n plain_until " + until + "\n}", "a session could not be given a new token"},
		"tracking":    {"track on", "upkeep of a session failed"},
	} {
		testUpkeep(t, name, upkeep.option, upkeep.logged, "/")
		testUpkeep(t, name+" with an error page", upkeep.option, upkeep.logged, "/error")
	}
}

func testUpkeep(t *testing.T, name, option, logged, path string) {
	t.Run(name, func(t *testing.T) {
		store := newStandIn(t)
		const site = `
$SITE {
	session {
		rqlite $STORE {
			timeout 300ms
		}
		cache 1m
		$OPTION
	}
	handle /login {
		session_edit put user alice
	}
	handle /error {
		@member session user alice
		error @member 404
	}
	handle_errors {
		respond "{http.session.data.user}" 200
	}
	handle {
		respond "{http.session.data.user}"
	}
}`
		withSecrets(t)
		s := start(t, site, "STORE", store.URL, "OPTION", "persist on")
		v := s.visitor()
		v.get("/login")
		v.get("/").want(t, http.StatusOK, "alice")
		s.names["OPTION"] = option
		s.reload(site)
		store.hangs()
		begun := time.Now()
		v.get(path).want(t, http.StatusOK, "alice")
		if took := time.Since(begun); took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
		s.logged(logged)
		if strings.Contains(s.readLog(), "what a handler changed") {
			t.Error("the log tells of changes that no handler made")
		}
	})
}

// A session that has no room for a new token keeps nobody else from theirs.
func TestUpkeep_ofAFullSessionHoldsUpNoOther(t *testing.T) {
	s := start(t, `
$SITE {
	session {
		max_size 1KiB
		renew_interval 1s
	}
	handle /put {
		session_edit put text {query.text}
	}
	handle {
		respond "{http.session.data.text}"
	}
}`)
	other, full := s.visitor(), s.visitor()
	other.get("/put?text=x").cookie(t)
	size := 2 << 10
	for ; full.get("/put?text="+strings.Repeat("x", size)).StatusCode != http.StatusOK; size-- {
		if size == 0 {
			t.Fatal("no text is small enough")
		}
	}
	const failed = "a session could not be given a new token"
	eventually(t, "a new token to be due", func() bool {
		full.get("/").want(t, http.StatusOK, strings.Repeat("x", size))
		return strings.Contains(s.readLog(), failed)
	})
	other.get("/").cookie(t)
}
