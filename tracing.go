package caddysession

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

const tracerName = "github.com/caddy-session/caddy-session"

// startSpan begins a span within the request's trace. Where there is none, or
// nobody records it, nothing is made: the span is then nil.
func (s *Session) startSpan(ctx context.Context, name string) (context.Context, trace.Span) {
	parent := trace.SpanFromContext(s.request)
	if !parent.IsRecording() {
		return ctx, nil
	}
	ctx, span := parent.TracerProvider().Tracer(tracerName).Start(ctx, name, trace.WithSpanKind(trace.SpanKindInternal))
	span.SetAttributes(attribute.String("session.store", s.h.backend.metrics.store))
	return ctx, span
}

// endSpan ends a span with what came of it: an error says what failed and names no token.
func endSpan(span trace.Span, id string, err error) {
	if span == nil {
		return
	}
	if id != "" {
		span.SetAttributes(attribute.String("session.id", id))
	}
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}
