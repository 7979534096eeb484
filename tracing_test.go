package caddysession_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// traceReceiver is an OpenTelemetry collector that keeps what it is sent.
type traceReceiver struct {
	*httptest.Server
	mu    sync.Mutex
	spans []*otlp.Span
}

func newTraceReceiver(t testing.TB) *traceReceiver {
	t.Helper()
	c := new(traceReceiver)
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		request := new(collector.ExportTraceServiceRequest)
		if err == nil {
			err = proto.Unmarshal(body, request)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, resource := range request.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				c.spans = append(c.spans, scope.Spans...)
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

// trace waits for the span of a request and returns those below it, by name.
func (c *traceReceiver) trace(t testing.TB, root string) map[string]*otlp.Span {
	t.Helper()
	children := map[string]*otlp.Span{}
	eventually(t, "the trace of "+root, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, parent := range c.spans {
			if parent.Name != root {
				continue
			}
			for _, child := range c.spans {
				if string(child.ParentSpanId) == string(parent.SpanId) && string(child.TraceId) == string(parent.TraceId) {
					children[child.Name] = child
				}
			}
			return true
		}
		return false
	})
	return children
}

func attributesOf(span *otlp.Span) map[string]string {
	all := map[string]string{}
	for _, a := range span.GetAttributes() {
		all[a.Key] = a.Value.GetStringValue()
	}
	return all
}

func TestTracing_showsTheStoreInTheRequestsTrace(t *testing.T) {
	receiver, store := newTraceReceiver(t), newStandIn(t)
	t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.URL)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
	s := start(t, `
$SITE {
	tracing {
		span {path}
	}
	session {
		rqlite $STORE
		table traced
	}
	handle /plain* {
		respond plain
	}
	handle /put* {
		session_edit increment n
		respond "{http.session.id}"
	}
	handle /logout* {
		session_edit destroy
		respond out
	}
	respond "{http.session.data.n}"
}
$UNTRACED {
	session {
		rqlite $STORE
		table traced
	}
	respond "{http.session.data.n}"
}`, "STORE", store.URL, "UNTRACED", "http://"+freeAddress(t))
	v := s.visitor()
	want := func(path string, names ...string) map[string]*otlp.Span {
		t.Helper()
		spans := receiver.trace(t, path)
		for _, name := range names {
			if spans[name] == nil {
				t.Errorf("the trace of %s has no %s", path, name)
			}
		}
		if len(spans) != len(names) {
			t.Errorf("below %s there are %d spans, want %d: %v", path, len(spans), len(names), spans)
		}
		return spans
	}

	v.get("/plain")
	want("/plain")
	a := v.get("/put/first")
	id, token := a.body, a.cookie(t).Value
	want("/put/first", "session.commit")
	v.get("/")
	want("/", "session.load")
	v.get("$UNTRACED/").want(t, http.StatusOK, "1")
	v.get("/put/second")
	for name, span := range want("/put/second", "session.load", "session.commit") {
		have := attributesOf(span)
		if have["session.id"] != id || !strings.HasPrefix(have["session.store"], "rqlite/traced") || span.EndTimeUnixNano < span.StartTimeUnixNano {
			t.Errorf("%s is %v", name, span)
		}
	}
	store.fails()
	v.get("/down")
	down := want("/down", "session.load")["session.load"]
	if down.GetStatus().GetCode() != otlp.Status_STATUS_CODE_ERROR {
		t.Errorf("the load that failed is %v", down)
	}
	store.works()
	eventually(t, "the store to be asked again", func() bool { return v.get("/logout").StatusCode == http.StatusOK })

	receiver.mu.Lock()
	defer receiver.mu.Unlock()
	for _, span := range receiver.spans {
		for _, secret := range []string{token, hashOf(token)} {
			if strings.Contains(span.String(), secret) {
				t.Errorf("a span has a token: %v", span)
			}
		}
	}
}
