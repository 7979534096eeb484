package rqlitestore_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/internal/idempotent"
)

// chaos does to requests what a network and frozen nodes do: it loses them,
// loses their replies, delivers them after their sender gave up, and delivers
// twice what may be repeated.
type chaos struct{ late sync.WaitGroup }

// settle waits for what is still under way.
func (c *chaos) settle() { c.late.Wait() }

func (c *chaos) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		body, err := readBody(r)
		if err != nil {
			return nil, err
		}
		send := func(ctx context.Context) (*http.Response, error) { return next.RoundTrip(withBody(r, ctx, body)) }
		repeatable := isQuery(r) || idempotent.Is(r.Context())
		idempotent.Sending(r.Context())
		switch n := rand.IntN(100); {
		case n < 3: // lost on its way there
			return nil, errLost
		case n < 6: // lost on its way back
			discard(send(r.Context()))
			return nil, errLost
		case n < 9: // it arrives when nobody waits for it any more
			c.deliverLate(send, r.Context())
			return nil, errLost
		case n < 12 && repeatable: // once more, later
			idempotent.Sending(r.Context())
			c.deliverLate(send, r.Context())
		case n < 15 && repeatable: // twice, and the second reply counts
			idempotent.Sending(r.Context())
			discard(send(r.Context()))
		}
		return send(r.Context())
	})
}

func (c *chaos) deliverLate(send func(context.Context) (*http.Response, error), ctx context.Context) {
	delay := time.Duration(rand.Int64N(int64(100 * time.Millisecond)))
	c.late.Go(func() {
		<-time.After(delay)
		discard(send(context.WithoutCancel(ctx)))
	})
}

func readBody(r *http.Request) ([]byte, error) {
	defer r.Body.Close()
	return io.ReadAll(r.Body)
}

func withBody(r *http.Request, ctx context.Context, body []byte) *http.Request {
	clone := r.Clone(ctx)
	clone.Body = io.NopCloser(bytes.NewReader(body))
	clone.ContentLength = int64(len(body))
	return clone
}

func discard(res *http.Response, err error) {
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
}
