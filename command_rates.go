package caddysession

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// rates tells from two looks at Caddy's metrics what happened per second in
// between.
type rates struct {
	*client
	at, before time.Time
	now, then  map[counter]float64
}

// take looks at the metrics. Where there are none, there are no rates.
func (r *rates) take() {
	r.before, r.then = r.at, r.now
	r.at, r.now = time.Now(), nil
	res, err := r.ask(http.MethodGet, "/metrics", nil)
	if err != nil {
		return
	}
	defer res.Body.Close()
	r.now = readCounters(res.Body)
}

// counter is a counter of the metrics, or how often a histogram was observed:
// which store it is of, and what it counts.
type counter struct{ store, what string }

var (
	counterLine  = regexp.MustCompile(`^` + metricsPrefix + `(\w+?)(?:_total|_duration_seconds_count)\{(.*)\} (\S+)$`)
	counterLabel = regexp.MustCompile(`(\w+)="([^"]*)"`)
)

// readCounters reads this plugin's counters in Prometheus's text format.
func readCounters(from io.Reader) map[counter]float64 {
	counters := make(map[counter]float64)
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		found := counterLine.FindStringSubmatch(lines.Text())
		if found == nil {
			continue
		}
		c := counter{what: strings.ReplaceAll(found[1], "_", " ")}
		for _, label := range counterLabel.FindAllStringSubmatch(found[2], -1) {
			if label[1] == "store" {
				c.store = label[2]
			} else {
				c.what += ", " + label[2]
			}
		}
		if n, err := strconv.ParseFloat(found[3], 64); err == nil {
			counters[c] = n
		}
	}
	return counters
}

// print writes what happened since the look before; nothing at the first one.
func (r *rates) print() error {
	passed := r.at.Sub(r.before).Seconds()
	if r.then == nil || r.now == nil || passed <= 0 {
		return nil
	}
	table := newTable(r.out)
	fmt.Fprintln(table, "\nSTORE\tWHAT\tPER SECOND")
	for _, c := range slices.SortedFunc(maps.Keys(r.now), compareCounters) {
		if grown := r.now[c] - r.then[c]; grown > 0 {
			fmt.Fprintf(table, "%s\t%s\t%.1f\n", printable(c.store, 60), printable(c.what, 60), grown/passed)
		}
	}
	return table.Flush()
}

func compareCounters(a, b counter) int {
	return cmp.Or(cmp.Compare(a.store, b.store), cmp.Compare(a.what, b.what))
}
