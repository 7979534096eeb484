package cluster

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/rqlite/gorqlite"
)

// Defaults of [Config].
const (
	DefaultTimeout  = 2 * time.Second
	DefaultLevel    = "linearizable"
	DefaultMaxReply = 64 << 20
)

// Config says which nodes to talk to, and how.
type Config struct {
	// Nodes are the addresses of the nodes' HTTP API, http://host:port or
	// https://host:port, without user name, path or query. The port is 4001
	// when it is left out. List every voting node of the cluster.
	Nodes []string

	// Username and Password are sent to these nodes as HTTP basic
	// authentication. They need rqlite's permissions query and execute.
	Username, Password string

	// TLS is for https addresses: trusted authorities, a client certificate.
	// Default: the system's authorities.
	TLS *tls.Config

	// Timeout bounds one attempt at one node. A request may consist of several;
	// together they are bounded by the deadline of its context or, without
	// one, by 5 s or twice the Timeout, whichever is longer. Default 2 s.
	Timeout time.Duration

	// Level is the read consistency of connections made by
	// [Transport.Connection]: none, weak, linearizable or strong. Default
	// linearizable.
	Level string

	// MaxReply bounds the size of a reply in bytes. A longer one is an error.
	// Default 64 MiB.
	MaxReply int64

	// Observe, if set, is told what happens to nodes and requests, for logs
	// and metrics. It is called on the path of requests: it must be quick and
	// safe for concurrent use.
	Observe func(Event)
}

// withDefaults fills in what was left out and refuses what cannot work.
func (c Config) withDefaults() (Config, error) {
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.Level = cmp.Or(c.Level, DefaultLevel)
	c.MaxReply = cmp.Or(c.MaxReply, DefaultMaxReply)
	if c.Timeout < 0 {
		return c, errors.New("cluster: the timeout is negative")
	}
	if _, err := gorqlite.ParseConsistencyLevel(c.Level); err != nil {
		return c, fmt.Errorf("cluster: consistency level %q: want none, weak, linearizable or strong", c.Level)
	}
	if c.MaxReply < 0 {
		return c, errors.New("cluster: the limit for replies is negative")
	}
	if c.Username == "" && c.Password != "" {
		return c, errors.New("cluster: a password without a user name")
	}
	return c, nil
}

// withCredentials returns the header with the credentials added.
func (c Config) withCredentials(h http.Header) http.Header {
	if c.Username == "" {
		return h
	}
	r := http.Request{Header: h.Clone()}
	if r.Header == nil {
		r.Header = make(http.Header)
	}
	r.SetBasicAuth(c.Username, c.Password)
	return r.Header
}

// budget is how long a request without a deadline may take in all.
func (c Config) budget() time.Duration { return max(5*time.Second, 2*c.Timeout) }
