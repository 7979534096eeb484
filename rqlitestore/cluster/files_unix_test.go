//go:build unix

package cluster_test

import (
	"syscall"
	"testing"
)

// Clients that take all files this process may have open leave it none for another
// connection to a node. Those that there are go on, and no node is to blame: if its
// breaker opened they would be closed, and none would come about in their place. Not
// parallel: the limit is that of all tests.
func TestTransport_shortOfFilesGoesOnWithItsConnections(t *testing.T) {
	leader := newFake(t, leading())
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	set := func(limit syscall.Rlimit) {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}
	none := limit
	none.Cur = 3
	defer set(limit)
	goesOnWithItsConnections(t, leader, []string{leader.URL}, func() { set(none) })
}
