package rqlitestore_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/internal/rqlited"
	"github.com/caddy-session/caddy-session/rqlitestore"
	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
)

// A site grows by loading the file of its embedded node into a cluster: the one
// file that a clean stop leaves has all sessions.
func TestGrowing_aClusterTakesTheEmbeddedFile(t *testing.T) {
	const sessions = 500
	nodes := rqlited.Start(t, 3)
	ctx := context.Background()
	file := filepath.Join(t.TempDir(), "sessions.db")

	node := embedded.New(file, embedded.Options{})
	conn, err := node.Connection()
	if err != nil {
		t.Fatal(err)
	}
	before := rqlitestore.NewWithOptions(conn, rqlitestore.Options{})
	for i := range sessions {
		rec := rqlitestore.Record{Token: fmt.Sprint("token", i), ID: fmt.Sprint("id", i), Data: []byte(fmt.Sprint("data", i)), Expiry: time.Now().Add(time.Hour)}
		if err := before.Create(ctx, rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := node.Close(); err != nil {
		t.Fatal(err)
	}

	plain, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, nodes.Leader(t).URL+"/db/load", bytes.NewReader(plain))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/octet-stream")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("rqlite refuses the file: %s", answer.Status)
	}

	conn, err = cluster.Connect(nodes.URLs()...)
	if err != nil {
		t.Fatal(err)
	}
	after := rqlitestore.NewWithOptions(conn, rqlitestore.Options{})
	for i := range sessions {
		rec, found, err := after.Load(ctx, fmt.Sprint("token", i))
		if err != nil || !found || string(rec.Data) != fmt.Sprint("data", i) || rec.ID != fmt.Sprint("id", i) {
			t.Fatalf("session %d on the cluster: %+v %v %v", i, rec, found, err)
		}
		rec, err = after.Update(ctx, rec, func(rec rqlitestore.Record) (rqlitestore.Record, error) {
			rec.Data = append(rec.Data, '+')
			return rec, nil
		})
		if err != nil || rec.Version != 2 {
			t.Fatalf("session %d is not to be changed on the cluster: %+v %v", i, rec, err)
		}
	}
}
