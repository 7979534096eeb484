package cluster

import (
	"fmt"
	"net/http"
	"time"
)

// mostClockOff is by how much the clocks of this machine and of a node may differ
// before it is worth telling.
const mostClockOff = 5 * time.Second

// compareClocks looks at the time that a node gives with an answer to a question
// that was sent at sent, and tells when it ceases to be that of this machine, and
// when it is again. Nothing here goes by a node's clock; but it is the one thing
// by which a clock can be seen to be wrong.
func (t *Transport) compareClocks(n *node, sent time.Time, answer http.Header) {
	date, err := http.ParseTime(answer.Get("Date"))
	if err != nil {
		return // whatever is in between gives none
	}
	off := clockOff(date, sent, time.Now())
	n.mu.Lock()
	changed := n.clockOff != (off != "")
	n.clockOff = off != ""
	n.mu.Unlock()
	switch {
	case !changed:
	case off == "":
		t.observe(ClockAgrees, n, nil)
	default:
		t.observe(ClockDiffers, n, fmt.Errorf("the clock of this machine is about %s the node's", off))
	}
}

// clockOff says how this machine's clock differs from one that showed date, which
// has no fractions of a second, at some moment from sent to received; "" where it
// may be right.
func clockOff(date, sent, received time.Time) string {
	if ahead := sent.Sub(date.Add(time.Second)); ahead > mostClockOff {
		return ahead.Round(time.Second).String() + " ahead of"
	}
	if behind := date.Sub(received); behind > mostClockOff {
		return behind.Round(time.Second).String() + " behind"
	}
	return ""
}
