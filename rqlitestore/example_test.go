package rqlitestore_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/caddy-session/caddy-session/codec"
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

// With settings and an end of its own, as in a test or beside a server that is shut
// down: first the requests end, then the cleanup, then the node.
func ExampleNewWithOptions() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	node := embedded.New(filepath.Join(dir, "app.db"), embedded.Options{})
	conn, err := node.Connection()
	if err != nil {
		log.Fatal(err)
	}
	store := rqlitestore.NewWithOptions(conn, rqlitestore.Options{
		Table:           "admin_sessions",
		CleanupInterval: time.Minute,
		OnCleanupError:  func(err error) { log.Print(err) },
	})
	sessions := scs.New()
	sessions.Store = store
	sessions.Codec = codec.JSON{} // instead of gob: any SQL tool reads the rows

	login := sessions.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sessions.Put(r.Context(), "user", "alice")
	}))
	login.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/login", nil))
	err = sessions.Iterate(context.Background(), func(ctx context.Context) error {
		fmt.Println(sessions.GetString(ctx, "user"))
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}

	store.StopCleanup()
	if err := node.Close(); err != nil {
		log.Fatal(err)
	}
	// Output: alice
}

// Any number of writers, in any number of processes: none of their changes is lost.
func ExampleRqliteStore_Update() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	node := embedded.New(filepath.Join(dir, "sessions.db"), embedded.Options{})
	defer node.Close()
	conn, err := node.Connection()
	if err != nil {
		log.Fatal(err)
	}
	store := rqlitestore.NewWithOptions(conn, rqlitestore.Options{})

	ctx := context.Background()
	token := rand.Text()
	err = store.Create(ctx, rqlitestore.Record{Token: token, ID: rand.Text(), Data: []byte("0"), Expiry: time.Now().Add(time.Hour)})
	if err != nil {
		log.Fatal(err)
	}
	var writers sync.WaitGroup
	for range 10 {
		writers.Go(func() {
			rec, ok, err := store.Load(ctx, token)
			if err != nil || !ok {
				log.Fatal(ok, err)
			}
			_, err = store.Update(ctx, rec, func(cur rqlitestore.Record) (rqlitestore.Record, error) {
				n, err := strconv.Atoi(string(cur.Data))
				if err != nil {
					return cur, err // nothing is stored
				}
				cur.Data = strconv.AppendInt(nil, int64(n+1), 10)
				return cur, nil
			})
			if err != nil {
				log.Fatal(err)
			}
		})
	}
	writers.Wait()
	rec, _, err := store.Load(ctx, token)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, version %d\n", rec.Data, rec.Version)
	// Output: 10, version 11
}
