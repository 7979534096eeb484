package cluster

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

// How often the watch looks at the cluster.
const (
	searchInterval  = 100 * time.Millisecond // while no leader is known
	trialInterval   = 250 * time.Millisecond // while a breaker is open
	refreshInterval = 5 * time.Second        // while all is well, after Start
	longSearch      = 10 * time.Second       // after that the search slows down
	idleTime        = 30 * time.Second       // without requests the watch ends, unless started
)

// learn draws the conclusions about the cluster from how an attempt ended.
func (t *Transport) learn(o outcome) {
	switch o.verdict {
	case answered:
		t.latency.add(o.took)
		if o.mode != local {
			t.answered.Store(sinceEpoch(time.Now()))
		}
		if o.mode != direct {
			t.prefer(o.n)
		}
		return
	case unsent:
		t.unreachable(o.n, o.reply)
	case moved:
		if o.leader != "" {
			o.n.says(roleFollower, time.Now().Add(-o.took))
		}
		t.leaderLost(o.n, o.reason)
		if !t.leaderHint(o.n, o.leader) {
			t.unsettle()
		}
	case lost:
		t.leaderLost(o.n, o.reason)
		t.unsettle()
	case cut:
		if o.late && o.n.silentSince(time.Now().Add(-o.took)) {
			// Whatever connections are left may be as dead as this one.
			o.n.http.CloseIdleConnections()
		}
		t.check(o.n)
	case garbled:
		t.check(o.n)
	case emptied:
		t.unsettle()
	}
	o.n.fail(o.reason)
}

// prefer makes n the first choice where any node will do.
func (t *Transport) prefer(n *node) {
	t.turn.Store(uint32(slices.Index(t.nodes, n)))
}

// unreachable is called when no connection to the node came about. One that
// was refused says all; one that takes its time may be due to load. One that
// this process has no file left for says nothing of the node, nor does a name that
// cannot be asked for: an open breaker would close the connections that there are.
func (t *Transport) unreachable(n *node, r reply) {
	switch {
	case isShortOfFiles(r.reason):
	case r.late, isUnnamed(r.reason):
		t.check(n)
	default:
		t.nodeDown(n, r.reason)
	}
}

// isUnnamed reports whether what answers for names is out of order. That there is
// no such name is an answer: the node may have gone with it.
func isUnnamed(err error) bool {
	var failed *net.DNSError
	return errors.As(err, &failed) && !failed.IsNotFound
}

// isShortOfFiles reports whether this process, or the machine, may open no more
// files. A failed look-up of a name passes on the text only.
func isShortOfFiles(err error) bool {
	return err != nil && strings.Contains(err.Error(), syscall.EMFILE.Error())
}

// check finds out, in the background, whether a silent node is alive, and opens
// its breaker if it is not. A node that is slow to answer this too, but answers
// other requests meanwhile, is overloaded, or this process is: with its breaker
// open things would only get worse.
func (t *Transport) check(n *node) {
	if !n.closed.Load() || !n.checking.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer n.checking.Store(false)
		ctx, cancel := context.WithTimeout(t.ctx, t.checkTimeout())
		defer cancel()
		begun := time.Now()
		r := t.put(ctx, t.aliveQuestion, n, local)
		if r.alive() {
			// After a change of the cluster's members a leader answers no linearizable
			// read before something has gone through its log, as a strong read does.
			t.put(ctx, t.strongQuestion, n, forward)
			return
		}
		unnamed := isUnnamed(r.reason)
		if unnamed { // which took no time: it may just have answered over the connections that are in use
			begun = begun.Add(-t.checkTimeout())
		}
		if (!r.late && !unnamed || n.silentSince(begun)) && !isShortOfFiles(r.reason) && t.ctx.Err() == nil {
			t.nodeDown(n, r.reason)
		}
	}()
}

// kick makes the watch look now. It starts it where it does not run.
func (t *Transport) kick() {
	t.watchMu.Lock()
	defer t.watchMu.Unlock()
	if t.ctx.Err() != nil {
		return
	}
	if !t.watching {
		t.watching = true
		// Nobody has looked for a while: an outage begins to count now.
		t.replaceView(func(v *view) bool {
			if !v.isLeaderUnknown() {
				return false
			}
			v.since = time.Now()
			v.outage = v.since
			return true
		})
		go t.watch()
		return
	}
	select {
	case t.look <- struct{}{}:
	default:
	}
}

// watch looks at the nodes until all is well or nobody needs them.
func (t *Transport) watch() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		t.lookAround()
		timer.Reset(t.interval())
		select {
		case <-timer.C:
		case <-t.look:
		case <-t.ctx.Done():
			return
		}
		if t.endWatch() {
			return
		}
	}
}

// endWatch ends the watch if there is no reason for it.
func (t *Transport) endWatch() bool {
	t.watchMu.Lock()
	defer t.watchMu.Unlock()
	if t.started {
		return false
	}
	idle := sinceEpoch(time.Now())-t.lastUse.Load() > int64(idleTime)
	if !idle && (t.view.Load().leader == nil || t.anyOpen()) {
		return false
	}
	t.watching = false
	return true
}

func (t *Transport) interval() time.Duration {
	v := t.view.Load()
	switch searching := time.Since(v.since); {
	case v.isLeaderUnknown() && searching < longSearch:
		return searchInterval
	case v.outOfReach && searching < 2*time.Second:
		return searchInterval
	case t.anyOpen() || v.isLeaderUnknown():
		return trialInterval
	}
	return refreshInterval
}

func (t *Transport) anyOpen() bool {
	return slices.ContainsFunc(t.nodes, func(n *node) bool { return !n.closed.Load() })
}

// lookAround asks every node that it is time to ask, all at once.
func (t *Transport) lookAround() {
	now := time.Now()
	for _, n := range t.nodes {
		if probe, trial := n.beginProbe(now); probe {
			go func() {
				defer n.endProbe()
				t.probe(n, trial)
			}()
		}
	}
}

// probe asks one node whether it leads. With trial its breaker is open, and it
// has to show first that it is alive.
func (t *Transport) probe(n *node, trial bool) {
	ctx, cancel := context.WithTimeout(t.ctx, t.probeTimeout())
	defer cancel()
	if trial {
		// A read that it answers from its own data.
		if r := t.put(ctx, t.aliveQuestion, n, local); !r.alive() {
			t.nodeDown(n, r.reason)
			return
		}
		if n.whyStranger() == nil {
			t.nodeUp(n)
		}
		defer func() {
			if why := n.whyStranger(); why != nil { // still
				t.nodeDown(n, why)
			}
		}()
	}
	begun := time.Now()
	r := t.put(ctx, t.leaderQuestion, n, direct)
	if t.ctx.Err() != nil {
		return
	}
	if r.response != nil {
		t.compareClocks(n, begun, r.response.Header)
	}
	switch {
	case r.verdict == answered && !r.denied:
		n.says(roleLeader, begun)
		n.setCalledName(r.response.Header.Get(servedBy))
		t.claim(n, begun)
	case r.denied:
		n.says(roleDenied, begun)
		n.fail(r.reason)
	case r.verdict == moved && r.leader != "":
		// The address it names is not followed here: the leader, if it is one
		// of ours, is being asked as well, and advertised addresses can mislead.
		t.follow(n, r.leader, begun)
	case r.verdict == moved, r.verdict == lost:
		n.says(roleLost, begun)
		n.fail(r.reason)
		// Another connection may lead to a node that knows one: through a load
		// balancer, or as the name has got another address.
		n.http.CloseIdleConnections()
		t.leaderLost(n, r.reason)
	case r.verdict == unsent:
		n.says(roleFailed, begun)
		t.unreachable(n, r)
	default:
		n.says(roleFailed, begun)
		n.fail(r.reason)
		t.check(n)
	}
	t.judge()
}

func (t *Transport) probeTimeout() time.Duration {
	return min(max(time.Second, t.checkTimeout()), t.cfg.Timeout)
}

// alive reports whether this is how an rqlite node answers, be it with an error.
func (r reply) alive() bool {
	return r.verdict == answered || r.verdict == moved || r.verdict == lost
}

// newProbe is the SELECT 1 that tells something about a node. It needs only
// the permission to query.
func (c Config) newProbe(level string) *question {
	request := &http.Request{
		Method: http.MethodPost,
		URL:    &url.URL{Path: "/db/query", RawQuery: "level=" + level},
		Proto:  "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	header := http.Header{"Content-Type": {"application/json"}}
	return &question{request: request, header: c.withCredentials(header), body: []byte(`[["SELECT 1"]]`)}
}
