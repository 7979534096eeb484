package rqlitestore_test

import (
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/caddy-session/caddy-session/rqlitestore"
	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
)

// A web server with sessions that survive a restart. For a cluster, change the
// line with Connect to
//
//	conn, err := cluster.Connect("http://n1:4001", "http://n2:4001", "http://n3:4001")
func Example() {
	conn, err := embedded.Connect("sessions.db")
	if err != nil {
		log.Fatal(err)
	}
	sessions := scs.New()
	sessions.Lifetime = 24 * time.Hour
	sessions.Store = rqlitestore.New(conn)

	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		sessions.Put(r.Context(), "visits", sessions.GetInt(r.Context(), "visits")+1)
		fmt.Fprintln(w, "visits:", sessions.GetInt(r.Context(), "visits"))
	})
	log.Fatal(http.ListenAndServe("localhost:8080", sessions.LoadAndSave(mux)))
}
