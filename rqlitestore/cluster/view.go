package cluster

import "time"

// view is what the Transport believes about the cluster at one moment. It is
// replaced as a whole; changed is closed when that happens.
type view struct {
	leader     *node     // nil: none of the nodes is known to lead
	led        bool      // one was, now or before
	outOfReach bool      // there is a leader, but it is none of the nodes we can reach: they are to forward
	since      time.Time // when leader was found or lost
	outage     time.Time // when the last outage began; one loss of the leader after the other may be one outage
	changed    chan struct{}
}

// isLeaderUnknown reports whether the leader is to be searched for.
func (v *view) isLeaderUnknown() bool { return v.leader == nil && !v.outOfReach }

// replaceView publishes a new view made by change from the current one. change
// returns false to keep it.
func (t *Transport) replaceView(change func(v *view) bool) bool {
	t.viewMu.Lock()
	defer t.viewMu.Unlock()
	old := t.view.Load()
	next := *old
	next.changed = make(chan struct{})
	if !change(&next) {
		return false
	}
	t.view.Store(&next)
	close(old.changed)
	return true
}

// leaderFound makes n the leader.
func (t *Transport) leaderFound(n *node) { t.leaderInstead(n, t.view.Load().leader) }

// leaderInstead makes n the leader if that is still before. It reports whether it
// has.
func (t *Transport) leaderInstead(n, before *node) bool {
	if before == n || !t.replaceView(func(v *view) bool {
		if v.leader != before || !n.closed.Load() {
			return false
		}
		v.leader, v.led, v.outOfReach, v.since = n, true, false, time.Now()
		return true
	}) {
		return false
	}
	n.setElsewhere("", time.Now())
	t.observe(LeaderFound, n, nil)
	return true
}

// leaderLost notes that n does not lead, if it was thought to.
func (t *Transport) leaderLost(n *node, why error) {
	if t.replaceView(func(v *view) bool {
		if v.leader != n {
			return false
		}
		v.leader = nil
		t.searchBegins(v)
		return true
	}) {
		t.observe(LeaderLost, n, why)
	}
}

// searchBegins is called with a view from which the leader was just taken.
func (t *Transport) searchBegins(v *view) {
	now := time.Now()
	if !t.inVain(v) {
		v.outage = now
	}
	v.since = now
}

// inVain reports whether leaders come and go without one request being answered, as
// where the disks of all nodes are full: that is one outage, and not many.
func (t *Transport) inVain(v *view) bool {
	return t.answered.Load() < sinceEpoch(v.outage) && time.Since(v.since) < patience
}

// unsettle makes the watch look again whether the leader is out of reach.
func (t *Transport) unsettle() {
	t.replaceView(func(v *view) bool {
		if !v.outOfReach {
			return false
		}
		v.outOfReach = false
		t.searchBegins(v)
		return true
	})
	t.kick()
}

// leaderHint follows what a node says about the leader's address, where that is
// one of ours.
func (t *Transport) leaderHint(from *node, host string) bool {
	for _, n := range t.nodes {
		if n != from && n.base.Host == host && n.closed.Load() {
			t.leaderFound(n)
			return true
		}
	}
	return false
}

// judge decides, while no leader is known, whether it is out of reach: every node
// has been asked since, none leads, and at least one is in touch with a leader.
// (A follower says who leads only after having reached it.)
func (t *Transport) judge() {
	t.replaceView(func(v *view) bool {
		if !v.isLeaderUnknown() {
			return false
		}
		knows := false
		for _, n := range t.nodes {
			switch said := n.lastWord(v.since); {
			case said == roleUnknown:
				return false
			case n.followsElsewhere() != "": // it speaks of another cluster
			case said == roleLeader:
				return false
			case said == roleFollower, said == roleDenied:
				knows = true
			}
		}
		v.outOfReach = knows
		return knows
	})
}

// nodeDown opens the breaker of n.
func (t *Transport) nodeDown(n *node, err error) { t.shutOut(n, err, BreakerOpened) }

// shutOut is nodeDown for a reason that is told as kind.
func (t *Transport) shutOut(n *node, err error, kind EventKind) {
	if !n.open(err) {
		return
	}
	n.http.CloseIdleConnections()
	t.observe(kind, n, err)
	t.leaderLost(n, err)
	t.wake()
	t.kick()
}

// nodeUp closes the breaker of n.
func (t *Transport) nodeUp(n *node) {
	if n.shut() {
		t.observe(BreakerClosed, n, nil)
		t.wake()
	}
}

// wake lets waiting requests look again.
func (t *Transport) wake() { t.replaceView(func(*view) bool { return true }) }
