package cluster_test

import (
	"crypto/tls"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
)

func TestNew_refusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	good := []string{"http://n1:4001"}
	for name, c := range map[string]struct {
		config cluster.Config
		want   string
	}{
		"no node":           {cluster.Config{}, "no address"},
		"no scheme":         {cluster.Config{Nodes: []string{"n1:4001"}}, "want http://host:port"},
		"bare host":         {cluster.Config{Nodes: []string{"n1"}}, "want http://host:port"},
		"other scheme":      {cluster.Config{Nodes: []string{"ftp://n1:4001"}}, "want http://host:port"},
		"no host":           {cluster.Config{Nodes: []string{"http://:4001"}}, "no host"},
		"a path":            {cluster.Config{Nodes: []string{"http://n1:4001/db/query"}}, "a path"},
		"a query":           {cluster.Config{Nodes: []string{"http://n1:4001?level=weak"}}, "query"},
		"a fragment":        {cluster.Config{Nodes: []string{"http://n1:4001#x"}}, "fragment"},
		"port too big":      {cluster.Config{Nodes: []string{"http://n1:70000"}}, "port"},
		"port zero":         {cluster.Config{Nodes: []string{"http://n1:0"}}, "port"},
		"not a URL":         {cluster.Config{Nodes: []string{"http://us er:secret@n1"}}, "want http://host:port"},
		"control character": {cluster.Config{Nodes: []string{"http://u:secret@n1\n"}}, "want http://host:port"},
		"user in address":   {cluster.Config{Nodes: []string{"http://u:secret@n1:4001"}}, "Username"},
		"listed twice":      {cluster.Config{Nodes: []string{"http://n1:4001", "http://n1"}}, "twice"},
		"second is wrong":   {cluster.Config{Nodes: []string{"http://n1:4001", "n2"}}, "address 2 of 2"},
		"negative timeout":  {cluster.Config{Nodes: good, Timeout: -1}, "timeout"},
		"level":             {cluster.Config{Nodes: good, Level: "eventual"}, "linearizable"},
		"reply limit":       {cluster.Config{Nodes: good, MaxReply: -1}, "limit"},
		"nameless password": {cluster.Config{Nodes: good, Password: "secret"}, "user name"},
		"useless TLS":       {cluster.Config{Nodes: good, TLS: &tls.Config{MinVersion: tls.VersionTLS13}}, "https://"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := cluster.New(c.config)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v: want one with %q", err, c.want)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Fatalf("the error shows the password: %v", err)
			}
		})
	}
}

func TestNew_completesAddresses(t *testing.T) {
	t.Parallel()
	tr, err := cluster.New(cluster.Config{Nodes: []string{"http://n1", "https://n2:5001/", "http://[::1]"}})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	for i, want := range []string{"http://n1:4001", "https://n2:5001", "http://[::1]:4001"} {
		if got := tr.Nodes()[i].URL; got != want {
			t.Errorf("node %d is %s, want %s", i, got, want)
		}
	}
}

func TestNew_doesNoIO(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var accepted atomic.Int32
	go func() {
		for {
			if _, err := l.Accept(); err != nil {
				return
			}
			accepted.Add(1)
		}
	}()
	url := "http://" + l.Addr().String()
	tr, err := cluster.New(cluster.Config{Nodes: []string{url, "http://203.0.113.1:4001"}})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if _, err := tr.Connection(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if _, err := cluster.Connect(url, "http://203.0.113.1:4001"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("Connect took %s", took)
	}
	if n := accepted.Load(); n > 0 {
		t.Errorf("%d connections were made", n)
	}
}

func TestConnect_takesCredentialsFromURLs(t *testing.T) {
	t.Parallel()
	f := newFake(t, leading())
	conn, err := cluster.Connect("http://mary:p%40ss@" + f.host())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.QueryOne("SELECT n FROM t"); err == nil {
		// The fake's answer has no columns; what counts is what arrived.
		t.Log("the query was answered")
	}
	got := f.requests()
	if len(got) == 0 || got[0].user != "mary" || got[0].password != "p@ss" {
		t.Fatalf("arrived: %+v", got)
	}
}

func TestConnect_refusesDifferentCredentials(t *testing.T) {
	t.Parallel()
	_, err := cluster.Connect("http://a:secret1@n1", "http://b:secret2@n2")
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Fatalf("error %v", err)
	}
}
