package cluster_test

import (
	"crypto/tls"
	"fmt"
	"log"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
)

// A connection to three nodes. Opening it contacts none of them, so a program
// starts with its cluster down.
func ExampleConnect() {
	conn, err := cluster.Connect("http://10.0.0.1:4001", "http://10.0.0.2:4001", "http://10.0.0.3:4001")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	level, err := conn.ConsistencyLevel()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(level)
	// Output: linearizable
}

// With credentials, TLS and a watch over the nodes.
func ExampleNew() {
	transport, err := cluster.New(cluster.Config{
		Nodes:    []string{"https://n1.example.com", "https://n2.example.com", "https://n3.example.com"},
		Username: "sessions",
		Password: "from a secret store",
		TLS:      &tls.Config{MinVersion: tls.VersionTLS13},
		Timeout:  time.Second,
		Observe: func(e cluster.Event) {
			if e.Kind == cluster.BreakerOpened {
				log.Printf("rqlite node %s is down: %v", e.Node, e.Err)
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer transport.Close()
	for _, node := range transport.Nodes() {
		fmt.Println(node.URL, node.State)
	}
	// Output:
	// https://n1.example.com:4001 closed
	// https://n2.example.com:4001 closed
	// https://n3.example.com:4001 closed
}
