package rqlitestore

import (
	"context"
	"sync"
	"time"
)

const (
	maxRows  = 512
	maxBytes = 1 << 20
)

// sharing says what a lane does with calls that have the same key.
type sharing bool

const (
	oneRowPerKey sharing = false // a second call waits for the next request
	shareRows    sharing = true  // they share a row and its answer
)

// lane gathers calls of one kind. At most one request is under way; what comes
// in meanwhile travels together in the next one, so a lone call waits for
// nothing. A call never joins a request that has been sent.
type lane[A any] struct {
	// send makes one request of the calls and answers each of them. An error
	// is one of them all.
	send    func(ctx context.Context, calls []*call[A]) error
	timeout time.Duration
	sharing sharing

	mu      sync.Mutex
	waiting []*call[A]
	running bool
}

// call is one caller's row on its way.
type call[A any] struct {
	key string // what there may be one row of in a request
	id  string // the session's id, where the answer needs it
	row []byte // the row as JSON

	version int64  // what a save was based on
	writeID string // what it leaves in the row
	again   bool   // it was sent before, and nobody knows what became of that

	answer A
	err    error
	done   chan struct{}
	left   bool       // the caller gave up before the row was sent
	also   []*call[A] // calls that share this row
}

func newLane[A any](send func(context.Context, []*call[A]) error, timeout time.Duration, sharing sharing) *lane[A] {
	return &lane[A]{send: send, timeout: timeout, sharing: sharing}
}

// do sends c with others of its kind and waits for its answer, or until ctx
// ends: a row that was not sent by then never is.
func (l *lane[A]) do(ctx context.Context, c call[A]) (A, error) {
	p := &c
	l.enqueue(p)
	return l.wait(ctx, p)
}

// doAll is do for several calls. It returns the first error.
func (l *lane[A]) doAll(ctx context.Context, calls []call[A]) error {
	ps := make([]*call[A], len(calls))
	for i := range calls {
		c := calls[i]
		ps[i] = &c
	}
	l.enqueue(ps...)
	var first error
	for _, p := range ps {
		if _, err := l.wait(ctx, p); err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (l *lane[A]) enqueue(calls ...*call[A]) {
	for _, c := range calls {
		c.done = make(chan struct{})
	}
	l.mu.Lock()
	l.waiting = append(l.waiting, calls...)
	start := !l.running && len(l.waiting) > 0
	l.running = l.running || start
	l.mu.Unlock()
	if start {
		// In a goroutine of its own, so that the caller can give up.
		go l.run()
	}
}

func (l *lane[A]) wait(ctx context.Context, c *call[A]) (A, error) {
	select {
	case <-c.done:
		return c.answer, c.err
	case <-ctx.Done():
		l.mu.Lock()
		c.left = true
		l.mu.Unlock()
		var none A
		return none, context.Cause(ctx)
	}
}

// run sends what waits until nothing does.
func (l *lane[A]) run() {
	for {
		calls := l.take()
		if calls == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
		l.sendAll(ctx, calls)
		cancel()
	}
}

// sendAll sends calls as one request. An error that one row caused is searched
// by halves, so that it reaches its own caller and no other.
func (l *lane[A]) sendAll(ctx context.Context, calls []*call[A]) {
	err := l.send(ctx, calls)
	if err != nil && len(calls) > 1 && isRowError(err) {
		half := len(calls) / 2
		l.sendAll(ctx, calls[:half])
		l.sendAll(ctx, calls[half:])
		return
	}
	for _, c := range calls {
		if err != nil {
			c.err = err
		}
		for _, o := range c.also {
			o.answer, o.err = c.answer, c.err
			close(o.done)
		}
		close(c.done)
	}
}

// take returns the calls of the next request, nil when none waits.
func (l *lane[A]) take() []*call[A] {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := make(map[string]*call[A], min(len(l.waiting), maxRows))
	var (
		calls []*call[A]
		rest  []*call[A]
		bytes int
	)
	for i, c := range l.waiting {
		if c.left {
			continue
		}
		if f := first[c.key]; f != nil {
			if l.sharing {
				f.also = append(f.also, c)
			} else {
				rest = append(rest, c)
			}
			continue
		}
		if len(calls) == maxRows || (len(calls) > 0 && bytes+len(c.row) > maxBytes) {
			rest = append(rest, l.waiting[i:]...)
			break
		}
		first[c.key] = c
		calls = append(calls, c)
		bytes += len(c.row) + 1
	}
	l.waiting = rest
	l.running = calls != nil
	return calls
}
