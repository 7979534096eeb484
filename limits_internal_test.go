package caddysession

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// However many addresses come, only so many are remembered.
func TestLimits_rememberABoundedNumberOfClients(t *testing.T) {
	b := new(backend)
	t.Cleanup(b.forgetClients)
	clients := b.limiterOf(&ClientLimit{Sessions: 1, Per: caddy.Duration(time.Hour)})
	heap := func() uint64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	from := func(address string) context.Context {
		return context.WithValue(t.Context(), caddyhttp.VarsCtxKey, map[string]any{caddyhttp.ClientIPVarKey: address})
	}

	before := heap()
	for i := range 4 * maxClients {
		if err := clients.take(from(fmt.Sprintf("2001:db8:%x:%x::1", i>>16, i&0xffff))); err != nil {
			t.Fatalf("the first session of client %d: %v", i, err)
		}
	}
	clients.buckets.CleanUp()
	if n := clients.buckets.EstimatedSize(); n > maxClients {
		t.Errorf("%d clients are remembered", n)
	}
	if grown := int64(heap()-before) >> 20; grown > 64 {
		t.Errorf("they take %d MiB", grown)
	} else {
		t.Logf("%d clients take %d MiB", clients.buckets.EstimatedSize(), grown)
	}

	again := from("192.0.2.1")
	if err := clients.take(again); err != nil {
		t.Fatal(err)
	}
	if err := clients.take(again); !errors.As(err, &clientLimited{}) {
		t.Errorf("a second session of a client: %v", err)
	}
}
