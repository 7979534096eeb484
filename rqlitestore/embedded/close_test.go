package embedded

import (
	"context"
	"errors"
	"testing"
	"time"
)

const endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT count(*) FROM n"

// What nothing else ends does not keep the node from closing, whichever of its statements runs.
func TestClose_endsReadsWithoutDeadline(t *testing.T) {
	t.Parallel()
	n, conn := withLog(t, 1_000_000)
	db := n.db.Load()
	db.grace = time.Millisecond
	ended := make(chan error, 1)
	go func() {
		_, err := conn.Query([]string{endless, endless, endless})
		ended <- err
	}()
	eventually(t, "the read has begun", func() bool { return len(db.reading) == 1 })
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("the read was answered")
	}
}

func TestClose_endsTheWaitForAConnection(t *testing.T) {
	t.Parallel()
	n, _ := withLog(t, 1_000_000)
	db := n.db.Load()
	waits := map[string]func(ctx context.Context) error{
		"a read": func(ctx context.Context) error {
			_, err := db.takeReader(ctx)
			return err
		},
		"a checkpoint": func(ctx context.Context) error {
			_, err := db.takeWriter(ctx)
			return err
		},
		"a write": func(ctx context.Context) error {
			return db.write(&job{ctx: ctx, r: &runner{}})
		},
	}
	check := func(ctx context.Context, want error) {
		for name, wait := range waits {
			ended := make(chan error, 1)
			go func() { ended <- wait(ctx) }()
			select {
			case err := <-ended:
				if !errors.Is(err, want) {
					t.Errorf("%s: %v, want %v", name, err, want)
				}
			case <-time.After(time.Minute):
				t.Errorf("%s waits for ever, want %v", name, want)
			}
		}
	}

	writer, err := db.takeWriter(t.Context())
	if err != nil || !db.holdReaders(time.Minute) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	check(ctx, context.Canceled)
	db.releaseReaders(cap(db.reading))
	db.putWriter(writer)

	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	check(t.Context(), ErrClosed)
}
