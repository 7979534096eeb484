package main

import (
	"fmt"
	"time"

	"github.com/caddy-session/caddy-session/bench/internal/process"
)

// profileServer fetches a CPU profile of rqlited while the rounds run. It only
// says something when RqliteStore works alone (-sides store).
func profileServer(c config, sides []side) error {
	seconds := int(c.plan.Round/time.Second) * c.plan.Rounds * len(c.callers) * len(c.operations)
	return process.SaveProfile(fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", sides[0].url, max(seconds, 1)), c.rqliteProf)
}
