package caddysession

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

// requestMetrics are those of one kind of request to the store.
type requestMetrics struct {
	rows, seconds prometheus.Observer
	failed        prometheus.Counter
}

// observe is told of each request to the store.
func (m *storeMetrics) observe(r rqlitestore.Request) {
	known, ok := m.requests.Load(r.Kind)
	if !ok {
		known, _ = m.requests.LoadOrStore(r.Kind, &requestMetrics{
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
