package caddysession_test

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"testing"
)

func TestCanceled_requestsStoreTheirUpdate(t *testing.T) {
	const rounds = 200
	var cancels sync.Map // round → context.CancelFunc of the client's request
	app := newApplication(t, func(w http.ResponseWriter, r *http.Request) {
		cancel, _ := cancels.Load(r.Header.Get("Round"))
		cancel.(context.CancelFunc)() // after the edit, before the commit
		w.WriteHeader(http.StatusOK)
	})
	s := start(t, `
$SITE {
	session
	handle /put {
		session_edit put user alice
		respond "put"
	}
	handle /read {
		respond "{http.session.data.visits}"
	}
	handle {
		session_edit increment visits
		reverse_proxy $APP
	}
}`, "APP", app.address())
	v := s.visitor()
	v.get("/put")
	for round := range rounds {
		ctx, cancel := context.WithCancel(t.Context())
		cancels.Store(strconv.Itoa(round), cancel)
		if res, err := v.http.Do(v.request(http.MethodGet, "/", "Round", strconv.Itoa(round)).WithContext(ctx)); err == nil {
			res.Body.Close()
		}
	}
	eventually(t, "every update to be stored", func() bool { return v.get("/read").body == strconv.Itoa(rounds) })
}
