package cluster

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// patience is how long after the loss of the leader requests wait for the next
// one. rqlite elects one within about 3 s. In a longer outage they wait only
// as long as it takes to find out that it is over.
const (
	patience      = 5 * time.Second
	leastPatience = 250 * time.Millisecond
)

func (c *call) givingUpAt(v *view) time.Time {
	least, most := c.begun.Add(leastPatience), v.outage.Add(patience)
	if most.After(least) {
		return most
	}
	return least
}

// hopeless reports whether there is nothing left to try or to wait for.
func (c *call) hopeless(v *view) bool {
	if len(c.useless) >= len(c.t.nodes) {
		return true
	}
	return !c.pausing() && !time.Now().Before(c.givingUpAt(v))
}

var (
	errNoAnswer       = errors.New("no node has answered")
	errNoNode         = errors.New("no node can answer") // and none is being asked, so a delicate request was not applied: the store knows it by this text
	errOutcomeUnknown = errors.New("the outcome is unknown, and the request must not be repeated")
)

// failure is the error that names each node and why it did not answer.
func (c *call) failure(cause error) error {
	v := c.t.view.Load()
	reasons := make([]string, len(c.t.nodes))
	for i, n := range c.t.nodes {
		reasons[i] = n.name + ": " + c.reason(v, n)
	}
	return fmt.Errorf("cluster: %w (%s)", cause, strings.Join(reasons, "; "))
}

func (c *call) reason(v *view, n *node) string {
	if err := c.reasons[n]; err != nil {
		return err.Error()
	}
	if c.flying(n) {
		return "no answer yet"
	}
	if s := n.status(nil); s.State != Closed {
		return "is down: " + s.LastError
	}
	if n.followsElsewhere() != "" {
		return "is in another cluster"
	}
	if v.isLeaderUnknown() {
		return "knows no leader"
	}
	return "not asked"
}
