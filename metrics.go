package caddysession

import (
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

// Caddy's registry is new with every config, the metrics go on: they belong to
// the process and are registered with each. None has a label with a token, a
// user, an address or anything else that a visitor could make more of.
var (
	loadsTotal           = counters("loads_total", "Requests that asked for their session, by what was found.", "result")
	unreadableTotal      = counters("unreadable_rows_total", "Rows that were found and could not be read.")
	createdTotal         = counters("created_total", "Sessions stored for the first time.")
	savesTotal           = counters("saves_total", "Changes of stored sessions that were stored, renewals with them.")
	touchesTotal         = counters("touches_total", "Times that the use of a session was noted, by what came of it.", "result")
	renewalsTotal        = counters("renewals_total", "Sessions given a new token at a change of rights.")
	rotationsTotal       = counters("rotations_total", "Sessions given a new token because the old one was old.")
	destroyedTotal       = counters("destroyed_total", "Sessions ended by a request, but for those that destroy_others ended.")
	conflictsTotal       = counters("conflicts_total", "Changes made again because another request had changed the session first.")
	droppedTotal         = counters("dropped_changes_total", "Requests whose changes were dropped because they came too late, by why.", "reason")
	refusedCookiesTotal  = counters("refused_cookies_total", "Session cookies that were taken for none, by why.", "reason")
	refusedUpstreamTotal = counters("refused_upstream_headers_total", "Session-Set and Session-Action headers of applications that were not followed.", "header")
	errorsTotal          = counters("store_errors_total", "Failures of the store as requests met them, by what was being done.", "operation")
	rejectedTotal        = counters("rejected_total", "What was turned away because a limit was reached.", "limit")
	lostEventsTotal      = counters("lost_events_total", "Events that no subscriber got because too many waited.")

	requestRows = histograms("store_request_rows", "Rows in one request to the store.",
		prometheus.ExponentialBuckets(1, 2, 10), "kind")
	requestSeconds = histograms("store_request_duration_seconds", "How long requests to the store took.",
		[]float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}, "kind")
	requestErrorsTotal = counters("store_request_errors_total", "Requests to the store that failed, by kind.", "kind")
)

// metricsPrefix is what all names begin with.
const metricsPrefix = "caddy_session_"

// collectors are all of the above and the gauges, for the registry.
var collectors = []prometheus.Collector{storeGauges{}}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: metricsPrefix + name, Help: help}, append([]string{"store"}, labels...))
	collectors = append(collectors, vec)
	return vec
}

func histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: metricsPrefix + name, Help: help, Buckets: buckets}, append([]string{"store"}, labels...))
	collectors = append(collectors, vec)
	return vec
}

// registerMetrics adds the metrics to a config's registry.
func registerMetrics(registry *prometheus.Registry) error {
	for _, c := range collectors {
		if err := registry.Register(c); err != nil && !errors.As(err, &prometheus.AlreadyRegisteredError{}) {
			return err
		}
	}
	return nil
}

// storeMetrics are the metrics of one store. The children that requests count
// with are looked up once: to count costs one atomic addition.
type storeMetrics struct {
	store string // the label

	loadCached, loadFound, loadUnknown, loadNone, loadFailed prometheus.Counter
	unreadable, created, saves, renewals, rotations          prometheus.Counter
	touched, touchFailed, touchDropped                       prometheus.Counter
	destroyed, conflicts                                     prometheus.Counter
	ambiguousCookie, malformedCookie, forgedCookie           prometheus.Counter
	unknownKeyCookie, unboundSession, strayed                prometheus.Counter
	badSet, badAction                                        prometheus.Counter
	tooManyCalls, tooManyNew, tooManySessions, tooLarge      prometheus.Counter
	lostEvents                                               prometheus.Counter

	requests sync.Map                      // kind → *requestMetrics; few, and named by the store, not by visitors
	dropped  map[error]prometheus.Counter  // by why
	failures map[string]prometheus.Counter // by what was being done
}

// newStoreMetrics returns the metrics under a label: the same for the same label.
func newStoreMetrics(store string) *storeMetrics {
	m := &storeMetrics{
		store:            store,
		loadCached:       loadsTotal.WithLabelValues(store, "cached"),
		loadFound:        loadsTotal.WithLabelValues(store, "found"),
		loadUnknown:      loadsTotal.WithLabelValues(store, "unknown"),
		loadNone:         loadsTotal.WithLabelValues(store, "none"),
		loadFailed:       loadsTotal.WithLabelValues(store, "error"),
		unreadable:       unreadableTotal.WithLabelValues(store),
		created:          createdTotal.WithLabelValues(store),
		saves:            savesTotal.WithLabelValues(store),
		renewals:         renewalsTotal.WithLabelValues(store),
		rotations:        rotationsTotal.WithLabelValues(store),
		touched:          touchesTotal.WithLabelValues(store, "stored"),
		touchFailed:      touchesTotal.WithLabelValues(store, "error"),
		touchDropped:     touchesTotal.WithLabelValues(store, "dropped"),
		destroyed:        destroyedTotal.WithLabelValues(store),
		conflicts:        conflictsTotal.WithLabelValues(store),
		ambiguousCookie:  refusedCookiesTotal.WithLabelValues(store, "ambiguous"),
		malformedCookie:  refusedCookiesTotal.WithLabelValues(store, "malformed"),
		forgedCookie:     refusedCookiesTotal.WithLabelValues(store, "forged"),
		unknownKeyCookie: refusedCookiesTotal.WithLabelValues(store, "unknown_key"),
		unboundSession:   refusedCookiesTotal.WithLabelValues(store, "bind"),
		strayed:          refusedCookiesTotal.WithLabelValues(store, "audience"),
		badSet:           refusedUpstreamTotal.WithLabelValues(store, "set"),
		badAction:        refusedUpstreamTotal.WithLabelValues(store, "action"),
		tooManyCalls:     rejectedTotal.WithLabelValues(store, "max_calls"),
		tooManyNew:       rejectedTotal.WithLabelValues(store, "max_new_per_client"),
		tooManySessions:  rejectedTotal.WithLabelValues(store, "max_per_principal"),
		tooLarge:         rejectedTotal.WithLabelValues(store, "max_size"),
		lostEvents:       lostEventsTotal.WithLabelValues(store),
		dropped:          make(map[error]prometheus.Counter),
		failures:         make(map[string]prometheus.Counter),
	}
	for why, reason := range dropReasons {
		m.dropped[why] = droppedTotal.WithLabelValues(store, reason)
	}
	for doing, operation := range operations {
		m.failures[doing] = errorsTotal.WithLabelValues(store, operation)
	}
	return m
}

// countLoad counts what the store answered.
func (m *storeMetrics) countLoad(found bool, err error) {
	switch {
	case err != nil:
		m.loadFailed.Inc()
	case found:
		m.loadFound.Inc()
	default:
		m.loadUnknown.Inc()
	}
}

// countCookie counts a request whose cookie is not looked up.
func (m *storeMetrics) countCookie(t taken) {
	switch {
	case t.ambiguous:
		m.ambiguousCookie.Inc()
	case t.token != "":
	case t.has[unknownKey]:
		m.unknownKeyCookie.Inc()
	case t.has[forged]:
		m.forgedCookie.Inc()
	case t.has[malformed], t.has[plain]:
		m.malformedCookie.Inc()
	}
}

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

// dropReasons are why changes are dropped, as the label says it.
var dropReasons = map[error]string{
	errInGrace:                "grace",
	errOtherPrincipal:         "principal",
	rqlitestore.ErrGone:       "gone",
	rqlitestore.ErrSuperseded: "renewed",
}

// countDropped counts a request whose changes came too late, once: what it has
// changed is tried again at its end.
func (s *Session) countDropped(why error) {
	s.mu.Lock()
	known := s.late
	s.late = true
	s.mu.Unlock()
	if known {
		return
	}
	for known, counter := range s.h.backend.metrics.dropped {
		if errors.Is(why, known) {
			counter.Inc()
			return
		}
	}
}

// What can fail, in the words of the error messages, and as the label says it.
const (
	doingLoad       = "loading"
	doingStore      = "storing"
	doingEnd        = "ending"
	doingEndOthers  = "ending the other sessions of a principal in"
	doingTouch      = "observing the use of"
	doingTrack      = "tracking the use of"
	doingEndAliases = "retiring the older tokens of"
	doingCount      = "counting the sessions of a principal for"
	doingList       = "listing the sessions of a principal for"
)

var operations = map[string]string{
	doingLoad:       "load",
	doingStore:      "store",
	doingEnd:        "destroy",
	doingEndOthers:  "destroy_others",
	doingTouch:      "touch",
	doingTrack:      "track",
	doingEndAliases: "retire_tokens",
	doingCount:      "count",
	doingList:       "list",
}

// countFailure counts a failure of the store.
func (m *storeMetrics) countFailure(doing string, err error) {
	if errors.Is(err, errBusy) {
		return // counted as rejected
	}
	if counter, ok := m.failures[doing]; ok {
		counter.Inc()
	}
}
