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

func TestRepeated_countsWhatIsSent(t *testing.T) {
	t.Parallel()
	marked := idempotent.With(context.Background())
	other := idempotent.With(context.Background())
	derived, cancel := context.WithCancel(marked)
	defer cancel()
	idempotent.Sending(context.Background()) // not marked: nobody asks
	idempotent.Sending(derived)
	if idempotent.Repeated(marked) {
		t.Error("one request is reported as repeated")
	}
	idempotent.Sending(marked)
	if !idempotent.Repeated(marked) || !idempotent.Repeated(derived) {
		t.Error("a second one is not reported")
	}
	if idempotent.Repeated(other) || idempotent.Repeated(context.Background()) {
		t.Error("another request is reported as repeated")
	}
}

func TestMayBeApplied_isWhatWasSentAndNotTakenBack(t *testing.T) {
	t.Parallel()
	marked := idempotent.With(context.Background())
	if idempotent.MayBeApplied(marked) || idempotent.MayBeApplied(context.Background()) {
		t.Error("what was not sent is reported as if it were")
	}
	idempotent.Sending(marked)
	idempotent.Sending(marked)
	idempotent.NotApplied(marked)
	idempotent.NotApplied(context.Background()) // not marked: nobody asks
	if !idempotent.MayBeApplied(marked) || idempotent.Repeated(marked) {
		t.Error("of two that were sent the one that may be applied is not all that is reported")
	}
	idempotent.NotApplied(marked)
	if idempotent.MayBeApplied(marked) {
		t.Error("what was taken back is reported as sent")
	}
}
