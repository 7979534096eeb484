package idempotent_test

import (
	"context"
	"testing"

	"github.com/caddy-session/caddy-session/rqlitestore/internal/idempotent"
)

func TestWith_isSeenThroughDerivedContexts(t *testing.T) {
	t.Parallel()
	plain := context.Background()
	if idempotent.Is(plain) {
		t.Error("an unmarked context is reported as idempotent")
	}
	marked, cancel := context.WithCancel(idempotent.With(plain))
	defer cancel()
	if !idempotent.Is(marked) {
		t.Error("the mark is lost in a derived context")
	}
}
