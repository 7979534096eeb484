package caddysession

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func statsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stats [--watch <duration>] [--json]",
		Short: "Shows the stores and how they are",
		Long: `
Shows the stores of the running config, whether they can be reached, how many
sessions are in each, and which keys have sealed them ("none": not sealed): a
key that no session is under can be dropped. The state of a node is that of its
circuit breaker: closed is good, open is a node that does not answer and gets no
requests, half-open one that is being tried. With --watch it goes on showing
them, and with them what happens per second.

Where there is no store, or one cannot be reached, counted or written to (a full
disk), it says so on the standard error and exits with 1, unless it watches.`,
		Args: takes(0, "no arguments: --store <name> names a store"),
		RunE: run(showStats),
	}
	cmd.Flags().Duration("watch", 0, "Show it anew this often, until interrupted")
	jsonFlag(cmd)
	return cmd
}

// StoreStats is a store, how it is, and what is in it. Its error also says why
// the sessions of one that is reachable could not be counted.
type StoreStats struct {
	StoreStatus

	// How many sessions are good now; absent where they could not be counted.
	Sessions *int64 `json:"sessions,omitempty"`

	// How many of them each key has sealed.
	Keys []KeyCount `json:"keys,omitempty"`
}

func showStats(c *client, fl caddycmd.Flags) error {
	every := fl.Duration("watch")
	if every < 0 {
		return fmt.Errorf("--watch is how often to look, like 2s, not %v", every)
	}
	rates, look := &rates{client: c}, &look{client: c, last: make(map[string]lastCount)}
	for {
		if every > 0 {
			rates.take()
		}
		stats, err := look.stats()
		if err != nil {
			return err
		}
		if every > 0 && !fl.Bool("json") {
			c.clear()
		}
		if err := c.printStats(stats, fl.Bool("json")); err != nil {
			return err
		}
		troubles := troublesOf(stats)
		if every == 0 {
			return troubles
		}
		if !fl.Bool("json") {
			if troubles != nil {
				fmt.Fprintf(c.out, "\n%v\n", troubles)
			}
			if err := rates.print(); err != nil {
				return err
			}
		}
		time.Sleep(every)
	}
}

// look looks at the stores, again and again.
type look struct {
	*client
	last map[string]lastCount // by the name of the store
}

// lastCount is what was counted last. A count reads all of a table, so it is
// only repeated when ten times as long as it took has passed.
type lastCount struct {
	CountResult
	good time.Time // until then
}

// stats asks for all stores, or for that which was named.
func (l *look) stats() ([]StoreStats, error) {
	var all struct {
		Stores []StoreStatus `json:"stores"`
	}
	if err := l.get("stores", nil, &all); err != nil {
		return nil, err
	}
	var stats []StoreStats
	for _, s := range all.Stores {
		stats = append(stats, l.withCount(s))
	}
	return stats, nil
}

// withCount adds what is in a store that can be reached.
func (l *look) withCount(s StoreStatus) StoreStats {
	one := StoreStats{StoreStatus: s}
	if !s.Reachable {
		return one
	}
	count, err := l.count(s.Name)
	if err != nil {
		one.Error = fmt.Sprintf("counting its sessions: %v", err)
		return one
	}
	one.Sessions, one.Keys = &count.Sessions, count.Keys
	return one
}

// count counts the sessions of a store.
func (l *look) count(store string) (CountResult, error) {
	begun := time.Now()
	if last, ok := l.last[store]; ok && begun.Before(last.good) {
		return last.CountResult, nil
	}
	named := client{address: l.address, store: store}
	var count CountResult
	if err := named.get("count", nil, &count); err != nil {
		return count, err
	}
	l.last[store] = lastCount{count, begun.Add(11 * time.Since(begun))}
	return count, nil
}

// troublesOf says what is wrong with the stores; nil if nothing is.
func troublesOf(stats []StoreStats) error {
	if len(stats) == 0 {
		return errNoStore
	}
	var troubles []string
	for _, s := range stats {
		if s.Error != "" {
			troubles = append(troubles, s.Name+": "+printable(s.Error, 500))
		}
		if s.WritesFail != "" {
			troubles = append(troubles, s.Name+": "+printable(s.WritesFail, 500))
		}
	}
	if troubles == nil {
		return nil
	}
	return errors.New(strings.Join(troubles, "; "))
}

// clear begins a new page on a terminal.
func (c *client) clear() {
	if file, ok := c.out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		fmt.Fprint(c.out, "\x1b[H\x1b[2J")
	}
}

func (c *client) printStats(stats []StoreStats, asJSON bool) error {
	if asJSON {
		for _, s := range stats {
			if err := c.printJSON(s); err != nil {
				return err
			}
		}
		return nil
	}
	table := newTable(c.out)
	fmt.Fprintln(table, "STORE\tKIND\tTABLE\tSTATE\tSESSIONS\tKEYS")
	for _, s := range stats {
		sessions := "-"
		if s.Sessions != nil {
			sessions = humanize.Comma(*s.Sessions)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", s.Name, s.Kind, s.Table, s.state(), sessions, keyCounts(s.Keys))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if err := c.printNodes(stats); err != nil {
		return err
	}
	for _, s := range stats {
		if s.PlainUntil != nil {
			fmt.Fprintf(c.out, "\n%s: sessions that are not sealed are accepted until %s\n", s.Name, localTime(s.PlainUntil))
		}
	}
	return nil
}

// state is how a store is, in a few words.
func (s StoreStatus) state() string {
	switch {
	case s.Locked:
		return "locked by another process"
	case !s.Reachable:
		return "unreachable"
	case s.WritesFail != "":
		return "writes fail"
	}
	return "ok, " + time.Duration(s.Latency*float64(time.Second)).Round(10*time.Microsecond).String()
}

func keyCounts(keys []KeyCount) string {
	var counts []string
	for _, k := range keys {
		count := k.Key + " " + humanize.Comma(k.Sessions)
		if !k.Configured {
			count += " (refused)"
		}
		counts = append(counts, count)
	}
	return cmp.Or(strings.Join(counts, ", "), "-")
}

func (c *client) printNodes(stats []StoreStats) error {
	table := newTable(c.out)
	head := false
	for _, s := range stats {
		for _, n := range s.Nodes {
			if !head {
				fmt.Fprintln(table, "\nNODE\tOF\tROLE\tSTATE\tSINCE\tLAST ERROR")
				head = true
			}
			role := "-"
			if n.Leader {
				role = "leader"
			}
			failure := "-"
			if n.LastError != "" {
				failure = localTime(&n.LastErrorAt) + " " + printable(n.LastError, 80)
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", n.Address, s.Name, role, n.State, localTime(&n.Since), failure)
		}
	}
	return table.Flush()
}
