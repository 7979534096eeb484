package caddysession

import (
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
)

// label is what metrics and events call the store: short, and the same as long
// as one node of it is where it was. It has no address and no path, which may be
// private.
func (r *resolvedStore) label() string {
	kind := "rqlite"
	if r.file != "" {
		kind = "embedded"
	}
	return storeLabels.of(r.places(), r.withTable(kind))
}

// storeLabels are the labels given out so far. A process has few stores, and
// each keeps its label.
var storeLabels = labels{byPlace: make(map[string]string), given: make(map[string]int)}

type labels struct {
	mu      sync.Mutex
	byPlace map[string]string
	given   map[string]int // how many of a kind
}

// of returns the label of the store that is in these places. The second store of
// a kind gets a number.
func (l *labels) of(places []string, kind string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	label := l.known(places)
	if label == "" {
		label = kind
		if l.given[kind]++; l.given[kind] > 1 {
			label += "-" + strconv.Itoa(l.given[kind])
		}
	}
	for _, place := range places {
		l.byPlace[place] = label
	}
	return label
}

func (l *labels) known(places []string) string {
	for _, place := range places {
		if label, ok := l.byPlace[place]; ok {
			return label
		}
	}
	return ""
}

// storeGauges tells how the stores are when somebody asks.
type storeGauges struct{}

var (
	upGauge     = gauge("store_up", "Whether the store answered when it was last needed.")
	callsGauge  = gauge("store_calls", "Calls of the store that are under way.")
	limitGauge  = gauge("store_max_calls", "How many there may be, as max_calls says.")
	waitGauge   = gauge("store_waiting_calls", "Calls that travel to the store or wait for the next request to it.")
	openGauge   = gauge("node_breaker_open", "Whether a node of the cluster gets no requests because it does not answer. Nodes are numbered as in the configuration.", "node")
	leaderGauge = gauge("node_leader", "Whether a node is taken for the leader.", "node")
)

func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(metricsPrefix+name, help, append([]string{"store"}, labels...), nil)
}

// Describe implements prometheus.Collector.
func (storeGauges) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{upGauge, callsGauge, limitGauge, waitGauge, openGauge, leaderGauge} {
		to <- desc
	}
}

// Collect implements prometheus.Collector.
func (storeGauges) Collect(to chan<- prometheus.Metric) {
	send := func(desc *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	for label, b := range live.byLabel() {
		send(upGauge, truth(!b.down.Load()), label)
		send(callsGauge, float64(b.store.calls.Load()), label)
		send(limitGauge, float64(b.store.limit.Load()), label)
		send(waitGauge, float64(b.store.Waiting()), label)
		if b.cluster == nil {
			continue
		}
		for i, node := range b.cluster.Nodes() {
			number := strconv.Itoa(i + 1)
			send(openGauge, truth(node.State != cluster.Closed), label, number)
			send(leaderGauge, truth(node.Leader), label, number)
		}
	}
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

var _ prometheus.Collector = storeGauges{}
