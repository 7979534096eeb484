package caddysession

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

// rates tells from two looks at Caddy's metrics what happened per second in
// between.
type rates struct {
	*client
	at, before time.Time
	now, then  map[string]float64
}

// metricPrefix begins the names of this plugin's metrics.
const metricPrefix = "caddy_session_"

// take looks at the metrics. Where there are none, there are no rates.
func (r *rates) take() {
	r.before, r.then = r.at, r.now
	r.at, r.now = time.Now(), nil
	res, err := caddycmd.AdminAPIRequest(r.address, http.MethodGet, "/metrics", http.Header{"Connection": {"close"}}, nil)
	if err != nil {
		return
	}
	defer res.Body.Close()
	r.now = readCounters(res.Body)
}

// readCounters reads counters, and how often a histogram was observed, in
// Prometheus's text format.
func readCounters(from io.Reader) map[string]float64 {
	counters := make(map[string]float64)
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		series, value, ok := cutLast(lines.Text(), " ")
		name, _, _ := strings.Cut(series, "{")
		if !ok || !strings.HasPrefix(name, metricPrefix) || !strings.HasSuffix(name, "_total") && !strings.HasSuffix(name, "_count") {
			continue
		}
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			counters[strings.TrimPrefix(series, metricPrefix)] = n
		}
	}
	return counters
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// print writes what happened since the look before; nothing at the first one.
func (r *rates) print() error {
	passed := r.at.Sub(r.before).Seconds()
	if r.then == nil || r.now == nil || passed <= 0 {
		return nil
	}
	table := newTable(r.out)
	fmt.Fprintln(table, "\nPER SECOND\t")
	for _, series := range slices.Sorted(maps.Keys(r.now)) {
		if grown := r.now[series] - r.then[series]; grown > 0 {
			fmt.Fprintf(table, "%s\t%.1f\n", printable(series, 120), grown/passed)
		}
	}
	return table.Flush()
}
