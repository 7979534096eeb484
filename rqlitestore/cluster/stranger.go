package cluster

import (
	"context"
	"fmt"
	"time"
)

// servedBy is the header in which a node gives the address that it goes by, which
// is also the one by which followers name their leader.
const servedBy = "X-Rqlite-Served-By"

// claim is called when n has answered as a leader does, to a question of that time.
//
// Two nodes that lead at once are of two clusters, which have nothing of each
// other's rows: one was never joined, or was started again without its data. To go
// by now the one and now the other would lose what was written, so one is left out.
func (t *Transport) claim(n *node, asked time.Time) {
	for v := t.view.Load(); v.leader != n; v = t.view.Load() {
		if v.leader != nil && t.choose(v.leader, n) {
			return
		}
		if !n.closed.Load() || t.view.Load() == v && asked.Before(v.since) {
			return // it is left out, or its answer is older than what is known
		}
		if n.followsElsewhere() != "" && !t.isFollowed(n) {
			return // it has come to lead the cluster in which it followed
		}
		if !v.led && t.isOutnumbered(n) {
			return // it leads another cluster, and was the first to answer
		}
		if t.leaderInstead(n, v.leader) {
			return
		}
	}
}

// isOutnumbered reports whether another node leads as well, and more follow that one.
// One that follows n is enough to go by it: who does not answer holds nobody up.
func (t *Transport) isOutnumbered(n *node) bool {
	name := n.calledName()
	if name == "" {
		return false // nobody can tell
	}
	words := t.askAllBut(n, func(_ *node, w word) bool { return w == word{false, name} })
	following := countFollowers(words)
	for _, w := range words {
		if w.leads && w.name != "" && following[w.name] > following[name] {
			return true
		}
	}
	return false
}

// countFollowers counts those who follow, by the name of the leader.
func countFollowers(words map[*node]word) map[string]int {
	following := make(map[string]int)
	for _, w := range words {
		if !w.leads {
			following[w.name]++
		}
	}
	return following
}

// choose reports whether it could be told what to do about n, which leads as well,
// and does it: of two clusters it leaves out the one whose leader fewer follow.
func (t *Transport) choose(leader, n *node) bool {
	// Leadership may have moved to n. It does not move back, and to n again, within
	// these answers.
	words := t.askAllBut(n, nil)
	first := words[leader]
	if !first.leads {
		return false // any more
	}
	second := t.whoLeads(n)
	if !second.leads || first.name == "" || second.name == "" || first.name == second.name {
		return true // one node under two addresses, or nobody can tell
	}
	if following := countFollowers(words); following[second.name] > following[first.name] {
		t.leaveOut(leader, n)
		t.takeIn(n)
		t.leaderFound(n)
		return true
	}
	t.leaveOut(n, leader)
	return true
}

// word is what a node says of who leads: it does, or one that goes by a name. The
// name is "" where it does not say.
type word struct {
	leads bool
	name  string
}

func (t *Transport) whoLeads(n *node) word {
	ctx, cancel := context.WithTimeout(t.ctx, t.probeTimeout())
	defer cancel()
	switch r := t.put(ctx, t.leaderQuestion, n, direct); {
	case r.verdict == answered && !r.denied:
		return word{true, r.response.Header.Get(servedBy)}
	case r.verdict == moved:
		return word{false, r.leader}
	}
	return word{}
}

// askAllBut asks all nodes but n who leads, until one says what is enough to know.
func (t *Transport) askAllBut(n *node, enough func(other *node, w word) bool) map[*node]word {
	type said struct {
		by *node
		word
	}
	answers := make(chan said, len(t.nodes))
	for _, other := range t.nodes {
		if other != n {
			go func() { answers <- said{other, t.whoLeads(other)} }()
		}
	}
	words := make(map[*node]word)
	for len(words) < len(t.nodes)-1 {
		a := <-answers
		words[a.by] = a.word
		if enough != nil && enough(a.by, a.word) {
			break
		}
	}
	return words
}

// isFollowed reports whether another node of our cluster names n as its leader.
func (t *Transport) isFollowed(n *node) (followed bool) {
	t.askAllBut(n, func(other *node, w word) bool {
		followed = !w.leads && w.name != "" && w.name == n.calledName() && other.followsElsewhere() == ""
		return followed
	})
	return followed
}

// follow is called when n has answered as one that follows a leader who goes by
// this name. Where ours leads all the same, n is in another cluster, and what it
// passes on is answered with other rows: nothing is, until it follows ours.
func (t *Transport) follow(n *node, name string, asked time.Time) {
	ours := t.view.Load().leader
	known := ""
	if ours != nil && ours != n {
		known = ours.calledName()
	}
	before := n.followsElsewhere()
	switch {
	case known == "" && name == before:
		// Ours is gone, and n is where it was.
	case known == "" || name == known || name == n.base.Host || before == "" && !t.areApart(ours, n, name):
		// A proxy before n may put its own address there.
		n.setElsewhere("", asked)
		if n.whyStranger() != nil {
			t.takeIn(n)
		}
	default:
		err := fmt.Errorf("it follows a leader, %s, of another cluster than %s: join it to that one (stop it, empty its data directory, start it with -join), or take its address out of the config", name, ours.name)
		n.fail(err)
		if n.setElsewhere(name, asked) {
			t.observe(Stranger, n, err)
		}
	}
	n.says(roleFollower, asked)
}

// areApart reports whether ours leads and n goes on to name another leader. While
// leadership moves a follower may do so for a moment.
func (t *Transport) areApart(ours, n *node, name string) bool {
	first := t.whoLeads(ours)
	second := t.whoLeads(n)
	return first.leads && first.name != "" && first.name != name && second == word{false, name}
}

// setElsewhere notes whom n follows in another cluster, "" if it does not. It
// reports whether that has lasted long enough to be told, once.
func (n *node) setElsewhere(name string, asked time.Time) (tell bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if asked.Before(n.roleAt) {
		return false // an older question that took longer
	}
	if name == "" || n.elsewhere == "" {
		n.elsewhereSince, n.elsewhereTold = asked, false
	}
	n.elsewhere = name
	tell = name != "" && !n.elsewhereTold && asked.Sub(n.elsewhereSince) >= refreshInterval
	n.elsewhereTold = n.elsewhereTold || tell
	return tell
}

func (n *node) followsElsewhere() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.elsewhere
}

func (n *node) setCalledName(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.called = name
}

func (n *node) calledName() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.called
}

// leaveOut keeps requests from a node that leads another cluster than ours does,
// until it follows.
func (t *Transport) leaveOut(n, ours *node) {
	err := fmt.Errorf("it leads another cluster than %s: one of the two was not joined; stop that one, empty its data directory and start it with -join, or take its address out of the config", ours.name)
	n.setStranger(err)
	t.shutOut(n, err, Stranger)
}

// takeIn ends leaveOut.
func (t *Transport) takeIn(n *node) {
	n.setStranger(nil)
	t.nodeUp(n)
}

// setStranger notes why the node is none of the cluster, or with nil that it is.
func (n *node) setStranger(why error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stranger = why
}

func (n *node) whyStranger() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stranger
}
