package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// profileServer fetches a CPU profile of rqlited while the rounds run. It only
// says something when RqliteStore works alone (-sides store).
func profileServer(c config, sides []side) error {
	seconds := int(c.plan.Round/time.Second) * c.plan.Rounds * len(c.callers) * len(c.operations)
	res, err := http.Get(fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", sides[0].url, max(seconds, 1)))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	f, err := os.Create(c.rqliteProf)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, res.Body); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
