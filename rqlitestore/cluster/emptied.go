package cluster

import (
	"errors"
	"time"
)

// A leader that is started again without its data, and without -join, leads a cluster
// of its own before the others have elected the next leader. Until they have, it goes by
// the address that they still take for the leader's, and what it says is believed: there
// is no session any more. But its table is gone, too.

var errNoTable = errors.New("it has no table where there was one: it may have lost its data and have been started without -join")

// emptiedAgain is after how long the table that is gone is another one, which was made
// in the place of the first.
const emptiedAgain = time.Minute

// mayHaveLostData is called when the table is gone. It reports whether to ask again,
// as long as the nodes may take to elect the next leader: after that somebody has dropped
// the table.
func (t *Transport) mayHaveLostData() bool {
	if len(t.nodes) == 1 {
		return false // whose data it is
	}
	now := sinceEpoch(time.Now())
	since := t.emptied.Load()
	if since == 0 || now-since > int64(emptiedAgain) {
		t.emptied.Store(now)
		return true
	}
	return now-since < int64(patience)
}
