package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rqlite/gorqlite"
)

// ErrClosed is the error of requests after [Transport.Close]. errors.Is finds it
// in what RoundTrip returns; gorqlite, and so the store, passes on its text only.
var ErrClosed = errors.New("cluster: the transport is closed")

// Transport sends each request to the right node of a cluster. It is safe for
// concurrent use.
type Transport struct {
	cfg   Config
	nodes []*node

	view   atomic.Pointer[view]
	viewMu sync.Mutex // held while the view is replaced

	latency latency
	hedges  allowance
	turn    atomic.Uint32 // the node, by its index, that is the first choice where any will do

	lastUse  atomic.Int64 // when a request last came, as sinceEpoch tells it
	answered atomic.Int64 // when the cluster last answered one
	emptied  atomic.Int64 // when the table was first found to be gone, the last time

	leaderQuestion, aliveQuestion, strongQuestion *question

	ctx  context.Context // ends with Close
	stop context.CancelFunc

	watchMu  sync.Mutex // guards watching and started; taken before viewMu, and that before the lock of a node
	watching bool
	started  bool
	look     chan struct{} // wakes the watch
}

var _ http.RoundTripper = (*Transport)(nil)

// New checks the configuration and returns a Transport for it. It does no I/O:
// the nodes need not be up.
func New(c Config) (*Transport, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	urls, err := parseAddresses(c.Nodes)
	if err != nil {
		return nil, err
	}
	if c.TLS != nil && !slices.ContainsFunc(urls, func(u *url.URL) bool { return u.Scheme == "https" }) {
		return nil, errors.New("cluster: there are TLS settings, but no address begins with https://")
	}
	t := &Transport{cfg: c, look: make(chan struct{}, 1)}
	t.leaderQuestion, t.aliveQuestion, t.strongQuestion = c.newProbe("linearizable"), c.newProbe("none"), c.newProbe("strong")
	t.ctx, t.stop = context.WithCancel(context.Background())
	for _, u := range urls {
		t.nodes = append(t.nodes, newNode(u, c.TLS))
	}
	now := time.Now()
	v := &view{since: now, outage: now, changed: make(chan struct{})}
	if len(t.nodes) == 1 {
		v.leader = t.nodes[0] // there is nobody else to ask
	}
	t.view.Store(v)
	t.hedges.tokens.Store(hedgeBurst)
	return t, nil
}

// Connect returns a gorqlite connection to the cluster with these nodes, read
// at the level linearizable. User name and password may stand in one or all of
// the URLs: http://user:password@host:4001. Connect does no I/O. There is no way
// to close the connections to the nodes but to end the process; use New to have one.
func Connect(urls ...string) (*gorqlite.Connection, error) {
	c := Config{}
	var user *url.Userinfo
	for i, address := range urls {
		u, err := parseAddress(address)
		if err != nil {
			return nil, fmt.Errorf("cluster: address %d of %d: %w", i+1, len(urls), err)
		}
		if u.User != nil {
			if user != nil && user.String() != u.User.String() {
				return nil, errors.New("cluster: the addresses have different user names or passwords")
			}
			user = u.User
		}
		u.User = nil
		c.Nodes = append(c.Nodes, u.String())
	}
	if user != nil {
		c.Username = user.Username()
		c.Password, _ = user.Password()
	}
	t, err := New(c)
	if err != nil {
		return nil, err
	}
	return t.Connection()
}

// Connection returns a gorqlite connection over this Transport, without
// gorqlite's own discovery of nodes. It does no I/O.
func (t *Transport) Connection() (*gorqlite.Connection, error) {
	client := &http.Client{
		Transport: t,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
	// The host stands for the whole cluster, in error messages too: RoundTrip
	// puts a node in its place.
	conn, err := gorqlite.OpenWithClient("http://rqlite?disableClusterDiscovery=true&level="+t.cfg.Level, client)
	if err != nil {
		return nil, fmt.Errorf("cluster: open the connection: %w", err)
	}
	return conn, nil
}

// Start keeps an eye on the nodes even while there are no requests, so that the
// leader is known before the first one comes and [Transport.Nodes] is fresh. It
// does not wait for any node and may be called more than once.
func (t *Transport) Start() {
	t.watchMu.Lock()
	t.started = true
	t.watchMu.Unlock()
	t.kick()
}

// Close ends the background work and drops idle connections. Requests under way
// fail, as those that come later do, with [ErrClosed].
func (t *Transport) Close() {
	t.stop()
	t.CloseIdleConnections()
}

// CloseIdleConnections closes the connections that no request uses.
func (t *Transport) CloseIdleConnections() {
	for _, n := range t.nodes {
		n.http.CloseIdleConnections()
	}
}

// Nodes returns what is known about each node, in the order of the
// configuration.
func (t *Transport) Nodes() []NodeStatus {
	leader := t.view.Load().leader
	all := make([]NodeStatus, len(t.nodes))
	for i, n := range t.nodes {
		all[i] = n.status(leader)
	}
	return all
}
