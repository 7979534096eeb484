package caddysession_test

import (
	"net/http"
	"testing"
)

// A backup is restored while Caddy runs: what it knows of a session is newer than
// the row, and what is changed now is changed in what was restored.
func TestRestored_olderRowsAreGoneOnWith(t *testing.T) {
	store := newStandIn(t)
	s := start(t, `
$SITE {
	session {
		rqlite $STORE
		cache 1m
	}
	session_edit /visit increment visits
	respond "{http.session.data.visits}"
}`, "STORE", store.URL)
	v := s.visitor()
	v.get("/visit").want(t, http.StatusOK, "1")
	store.executes("CREATE TABLE backup AS SELECT * FROM sessions")
	v.get("/visit").want(t, http.StatusOK, "2")
	v.get("/visit").want(t, http.StatusOK, "3")
	store.executes("DELETE FROM sessions")
	store.executes("INSERT INTO sessions SELECT * FROM backup")
	v.get("/visit").want(t, http.StatusOK, "4") // counted from what is in the cache
	v.get("/").want(t, http.StatusOK, "2")
	v.get("/visit").want(t, http.StatusOK, "3")
}
