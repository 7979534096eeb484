package caddysession_test

import (
	"bytes"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/caddy-session/caddy-session/internal/rqlited"
)

// The steps of the README, "From one machine to a cluster".
func TestGrowing_everybodyIsStillSignedIn(t *testing.T) {
	cluster := rqlited.Start(t, 3)
	d := newDeployment(t, nil)
	p := d.add()
	p.start()
	cookies := map[string]string{} // by id
	for range 20 {
		cookie, id := d.login(t)
		cookies[id] = cookie
	}

	if out, err := p.command("stop", "--config", p.config).CombinedOutput(); err != nil {
		t.Fatalf("caddy stop: %v\n%s", err, out)
	}
	<-p.exited
	p.cmd = nil
	file, err := os.ReadFile(p.file())
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Post(cluster.URLs()[0]+"/db/load", "application/octet-stream", bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("rqlite refuses the file: %s", res.Status)
	}
	config, err := os.ReadFile(p.config)
	if err != nil {
		t.Fatal(err)
	}
	onCluster := strings.Replace(string(config), "idle_timeout", "rqlite "+strings.Join(cluster.URLs(), " ")+"\n\t\tidle_timeout", 1)
	if err := os.WriteFile(p.config, []byte(onCluster), 0o600); err != nil {
		t.Fatal(err)
	}
	p.start()

	for id, cookie := range cookies {
		if got := p.get("/show", cookie).want(t, http.StatusOK).body; !strings.HasPrefix(got, id+" alice") {
			t.Errorf("on the cluster the session %s is %q", id, got)
		}
	}
	admin := &server{t: t, names: map[string]string{"ADMIN": p.admin}}
	if out := admin.run("stats"); !strings.Contains(out, "20") || !strings.Contains(out, "rqlite") {
		t.Errorf("the store is shown as\n%s", out)
	}
}
