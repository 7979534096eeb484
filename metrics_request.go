package caddysession

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

// requestMetrics are those of one kind of request to the store.
type requestMetrics struct {
	rows, seconds prometheus.Observer
	failed        prometheus.Counter
}

// requestKinds are the metrics of the kinds of requests that a store has made
// so far: few, and named by the store, not by visitors.
type requestKinds struct{ byKind sync.Map } // kind → *requestMetrics

// observe is told of each request to the store.
func (m *storeMetrics) observe(r rqlitestore.Request) {
	known, ok := m.requests.byKind.Load(r.Kind)
	if !ok {
		known, _ = m.requests.byKind.LoadOrStore(r.Kind, &requestMetrics{
			rows:    requestRows.WithLabelValues(m.store, r.Kind),
			seconds: requestSeconds.WithLabelValues(m.store, r.Kind),
			failed:  requestErrorsTotal.WithLabelValues(m.store, r.Kind),
		})
	}
	of := known.(*requestMetrics)
	of.seconds.Observe(r.Duration.Seconds())
	if r.Rows > 0 {
		of.rows.Observe(float64(r.Rows))
	}
	if r.Err != nil {
		of.failed.Inc()
	}
}
