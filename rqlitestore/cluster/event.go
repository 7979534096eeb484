package cluster

// EventKind says what happened.
type EventKind string

// What [Config.Observe] is told.
const (
	BreakerOpened EventKind = "breaker_opened" // the node gets no requests until it is back
	BreakerClosed EventKind = "breaker_closed" // the node is back
	LeaderFound   EventKind = "leader_found"   // the node leads from now on
	LeaderLost    EventKind = "leader_lost"    // the node does not lead any more, or does not answer
	Retried       EventKind = "retried"        // an attempt at the node failed and the request goes on
	ClockDiffers  EventKind = "clock_differs"  // the clocks of this machine and of the node differ by seconds; Err says how
	ClockAgrees   EventKind = "clock_agrees"   // they do not any more
	Stranger      EventKind = "stranger"       // the node is in another cluster, and gets no requests until it has joined this one
	Hedged        EventKind = "hedged"         // the node got a request that another one is slow to answer
)

// Event is one thing that happened to a node or to a request.
type Event struct {
	Kind EventKind
	Node string // address of the node
	Err  error  // why; nil for good news
}

func (t *Transport) observe(kind EventKind, n *node, err error) {
	if t.cfg.Observe != nil {
		t.cfg.Observe(Event{Kind: kind, Node: n.name, Err: err})
	}
}
