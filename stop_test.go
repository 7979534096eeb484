package caddysession_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// A Caddy that is stopped while streams go on does not say at the end that its store
// fails: it has closed that itself.
func TestStop_isNoOutage(t *testing.T) {
	app := newApplication(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "data: hello\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	s := startAlone(t, nil, `
$SITE {
	session {
		revalidate 1ms
	}
	session_edit /login put user alice
	@member session user
	reverse_proxy @member $APP
}`, "APP", app.address(), "ADMIN", freeAddress(t))
	for range 20 {
		stream := openStream(t, s.visitor(), "/login")
		defer stream.Close()
	}
	res, err := http.Post("http://"+s.names["ADMIN"]+"/stop", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	s.logged("shutdown complete")
	if strings.Contains(s.readLog(), "the session store is unavailable") {
		t.Error("that the store was closed is logged as an outage")
	}
}
