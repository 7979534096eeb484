package caddysession

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"
)

// ClientLimit bounds how many new sessions a client may begin.
type ClientLimit struct {
	// How many new sessions a client may begin at once.
	Sessions int `json:"sessions"`

	// How long it takes until as many are allowed again; they become
	// available one by one.
	Per caddy.Duration `json:"per"`
}

func (l *ClientLimit) check() error {
	switch {
	case l == nil:
		return nil
	case l.Sessions < 1:
		return fmt.Errorf("max_new_per_client must be a positive number of sessions, not %d", l.Sessions)
	case l.Per <= 0:
		return fmt.Errorf("max_new_per_client needs a positive duration, not %v", time.Duration(l.Per))
	}
	return checkDuration("per of max_new_per_client", l.Per, leastDuration)
}

// maxClients is how many addresses a limit knows. Those that were not seen for
// long are forgotten first; they may then begin as many sessions as at first.
const maxClients = 1 << 16

// clientLimiter has a token bucket for each client. All handlers of a store with
// the same limit share it, over reloads too.
type clientLimiter struct {
	limit   ClientLimit
	buckets *otter.Cache[netip.Prefix, *rate.Limiter]
}

// limiterOf returns the limiter of a limit; nil where there is none.
func (b *backend) limiterOf(limit *ClientLimit) *clientLimiter {
	if limit == nil {
		return nil
	}
	if known, ok := b.clients.Load(*limit); ok {
		return known.(*clientLimiter)
	}
	fresh := &clientLimiter{limit: *limit, buckets: otter.Must(&otter.Options[netip.Prefix, *rate.Limiter]{
		MaximumSize: maxClients,
		// A bucket that was left alone for so long is full again.
		ExpiryCalculator: otter.ExpiryAccessing[netip.Prefix, *rate.Limiter](time.Duration(limit.Per)),
	})}
	known, lost := b.clients.LoadOrStore(*limit, fresh)
	if lost {
		fresh.buckets.StopAllGoroutines()
	}
	return known.(*clientLimiter)
}

// forgetClients ends what the limits of the store do in the background.
func (b *backend) forgetClients() {
	b.clients.Range(func(_, known any) bool {
		known.(*clientLimiter).buckets.StopAllGoroutines()
		return true
	})
}

// clientLimited says that a client has begun too many sessions.
type clientLimited struct{ wait time.Duration }

func (clientLimited) Error() string {
	return "the client has begun as many new sessions as max_new_per_client allows: nothing of this request is stored"
}

// mayBegin takes a new session from what the client of the request has left,
// once in a request.
func (s *Session) mayBegin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.h.perClient == nil || s.allowed {
		return nil
	}
	if err := s.h.perClient.take(s.request); err != nil {
		s.h.backend.metrics.tooManyNew.Inc()
		return err
	}
	s.allowed = true
	return nil
}

// hasNotBegun gives back what mayBegin took: a client that asks again and again
// while the store is down begins nothing, and is to be let in when it is back.
func (s *Session) hasNotBegun() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.allowed {
		s.allowed = false
		s.h.perClient.giveBack(s.request)
	}
}

func (l *clientLimiter) take(ctx context.Context) error {
	bucket, _ := l.buckets.ComputeIfAbsent(clientOf(ctx), func() (*rate.Limiter, bool) {
		every := time.Duration(l.limit.Per) / time.Duration(l.limit.Sessions)
		return rate.NewLimiter(rate.Every(max(every, 1)), l.limit.Sessions), false
	})
	now := time.Now()
	if bucket.AllowN(now, 1) {
		return nil
	}
	missing := 1 - bucket.TokensAt(now)
	return clientLimited{time.Duration(missing / float64(bucket.Limit()) * float64(time.Second))}
}

func (l *clientLimiter) giveBack(ctx context.Context) {
	if bucket, known := l.buckets.GetIfPresent(clientOf(ctx)); known {
		bucket.AllowN(time.Now(), -1) // a reservation that was let in at once can no longer be cancelled
	}
}

// clientOf is the network of the request's client: its address, or for IPv6 the
// /64 that one customer has all addresses of. Where Caddy knows no address, as
// behind a unix socket, all clients are one.
func clientOf(ctx context.Context) netip.Prefix {
	text, _ := caddyhttp.GetVar(ctx, caddyhttp.ClientIPVarKey).(string)
	address, _ := netip.ParseAddr(text)
	address = address.Unmap()
	network, _ := address.Prefix(min(address.BitLen(), 64)) // no more bits than it has: it cannot fail
	return network
}
