package cluster

import (
	"crypto/tls"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// State is the state of a node's circuit breaker.
type State string

// The states of a breaker.
const (
	Closed   State = "closed"    // the node gets requests
	Open     State = "open"      // it gets none: it does not answer, or leads another cluster
	HalfOpen State = "half-open" // it gets none, and is being tried in the background
)

// NodeStatus is what is known about one node.
type NodeStatus struct {
	URL         string    // scheme, host and port as configured
	Leader      bool      // requests go to this node
	State       State     // of its breaker
	Since       time.Time // when it began, or ceased, to get requests
	LastError   string    // the newest failure, also after the node has recovered; "" if there was none
	LastErrorAt time.Time // when that was
}

// role is what a node said about itself when it was last asked.
type role int

const (
	roleUnknown  role = iota
	roleLeader        // it answered a linearizable read
	roleFollower      // it knows a leader, who is somebody else; of which cluster, elsewhere tells
	roleLost          // it knows no leader
	roleDenied        // it does not let us ask
	roleFailed        // it did not answer
)

// node is one configured node: its connections, its breaker, its last word.
type node struct {
	name string
	base *url.URL
	http *http.Transport

	closed   atomic.Bool  // mirrors state == Closed, for the path of requests
	checking atomic.Bool  // a liveness check is under way
	heard    atomic.Int64 // when it last answered anything, as sinceEpoch tells it

	mu          sync.Mutex
	state       State
	since       time.Time
	lastError   error
	lastErrorAt time.Time
	failures    int       // failed trials since the breaker opened
	nextTrial   time.Time // of an open breaker
	role        role
	roleAt      time.Time
	called      string // the name that it gives itself, as a leader
	stranger    error  // why it is none of our cluster though it leads; nil if it is

	elsewhere      string // whom it follows in another cluster; "" if it does not
	elsewhereSince time.Time
	elsewhereTold  bool

	probes    int // under way
	lastProbe time.Time
	clockOff  bool // as last told
}

func newNode(u *url.URL, tlsConfig *tls.Config) *node {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // a connection of its own for each request in flight: one that hangs holds up no other
	n := &node{
		name: u.String(),
		base: u,
		http: &http.Transport{
			// No proxy from the environment: it would be a host outside the cluster.
			Proxy:                  nil,
			DialContext:            dial,
			TLSClientConfig:        tlsConfig.Clone(),
			TLSHandshakeTimeout:    5 * time.Second,
			MaxIdleConnsPerHost:    256,
			IdleConnTimeout:        30 * time.Second, // less than what load balancers cut off at
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
			Protocols:              protocols,
		},
		state: Closed,
		since: time.Now(),
	}
	n.closed.Store(true)
	return n
}

// epoch is what moments are counted from that are kept as numbers: those of the
// wall clock would be wrong for as long as it was set back.
var epoch = time.Now()

func sinceEpoch(t time.Time) int64 { return int64(t.Sub(epoch)) }

// silentSince reports whether the node has not answered anything since then.
func (n *node) silentSince(then time.Time) bool { return n.heard.Load() < sinceEpoch(then) }

// fail notes why the node failed. Of an open breaker the reason stays.
func (n *node) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.state == Closed {
		n.lastError, n.lastErrorAt = err, time.Now()
	}
}

// open opens the breaker, or keeps it open for another, longer while. It
// reports whether the breaker was closed before.
func (n *node) open(err error) (changed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	changed = n.state == Closed
	if changed {
		n.since = now // a trial that fails does not begin another outage
	}
	n.state = Open
	n.closed.Store(false)
	n.lastError, n.lastErrorAt = err, now
	n.nextTrial = now.Add(min(firstTrial<<min(n.failures, 8), lastTrial))
	n.failures++
	return changed
}

// An open breaker tries its node after a pause that grows from the first to the
// last of these.
const (
	firstTrial = 100 * time.Millisecond
	lastTrial  = time.Second
)

// shut closes the breaker and reports whether it was open.
func (n *node) shut() (changed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.state == Closed {
		return false
	}
	n.state, n.since, n.failures = Closed, time.Now(), 0
	n.closed.Store(true)
	return true
}

// says notes what the node said about itself when asked at asked.
func (n *node) says(r role, asked time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if asked.Before(n.roleAt) {
		return // an older question that took longer
	}
	n.role, n.roleAt = r, asked
}

// lastWord returns what the node said about itself when asked since then.
func (n *node) lastWord(since time.Time) role {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.state != Closed {
		return roleFailed
	}
	if n.roleAt.Before(since) {
		return roleUnknown
	}
	return n.role
}

// beginProbe reports whether the node should be asked now, and whether that is
// a trial of an open breaker. Each true is to be followed by endProbe.
func (n *node) beginProbe(now time.Time) (probe, trial bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.state == Closed:
		// A follower hangs for as long as it waits for a leader that hangs, so
		// an older probe must not keep a newer one from the good news.
		if n.probes >= 8 || now.Sub(n.lastProbe) < minProbeGap {
			return false, false
		}
	case n.probes > 0 || now.Before(n.nextTrial):
		return false, false
	default:
		n.state = HalfOpen
		trial = true
	}
	n.probes++
	n.lastProbe = now
	return true, trial
}

// minProbeGap keeps a storm of failing requests from becoming one of probes.
const minProbeGap = 20 * time.Millisecond

func (n *node) endProbe() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.probes--
}

func (n *node) status(leader *node) NodeStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := NodeStatus{URL: n.name, Leader: n == leader, State: n.state, Since: n.since}
	if n.lastError != nil {
		s.LastError, s.LastErrorAt = n.lastError.Error(), n.lastErrorAt
	}
	return s
}
