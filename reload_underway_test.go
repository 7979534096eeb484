package caddysession_test

import (
	"net/http"
	"testing"

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
