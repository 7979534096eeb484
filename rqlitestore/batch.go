package rqlitestore

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/internal/trouble"
)

const (
	maxRows  = 512
	maxBytes = 1 << 20
	// maxData is how many bytes of data the answer to a request of several reads
	// has at most. In hex it is twice as long.
	maxData = 4 << 20
	// fewRows is up to how many rows a request of reads has another one sent
	// beside it, so that a second caller does not wait for the first. What comes
	// in while a larger one is under way makes a larger one, which costs everybody
	// less. Of writes there is always one at a time: each request is an entry of
	// the Raft log and a sync of the disk.
	fewRows = 4
	// manyRows is how many reads a second request has at least beside a larger
	// one, and it has no fewer than that one: so both sides of the connection have
	// something to do, and a row costs little more in each of two.
	manyRows = 24
)

// sharing says what a lane does with calls that have the same key.
type sharing bool

const (
	oneRowPerKey sharing = false // a second call waits for the next request
	shareRows    sharing = true  // they share a row and its answer
)

// lane gathers calls of one kind. While its requests are under way, what comes
// in waits and travels together in the next one, so a lone call waits for
// nothing. A call never joins a request that has been sent.
type lane[A any] struct {
	// send makes one request of the calls and answers each of them. An error
	// is one of them all.
	send    func(ctx context.Context, calls []*call[A]) error
	timeout time.Duration
	sharing sharing
	// width is how many bytes of a request a byte of a row takes.
	width   int
	late    deadline
	trouble atomic.Pointer[trouble.Place] // of the newest request

	mu      sync.Mutex
	waiting []*call[A]
	flights int // requests under way
	aboard  int // calls in them
}

// call is one caller's row on its way.
type call[A any] struct {
	key string // what there may be one row of in a request
	id  string // the session's id, where the answer needs it
	row []byte // the row as its statement wants it
	// bare is the row without its data, for statements beside that one which need none.
	bare []byte

	version int64  // what a save was based on
	writeID string // what it leaves in the row
	again   bool   // it was sent before, and nobody knows what became of that
	size    int    // of the data, where the answer had no room for it: asked for again

	answer A
	err    error
	done   chan struct{}
	left   bool       // the caller gave up before the row was sent
	also   []*call[A] // calls that share this row
}

func newLane[A any](send func(context.Context, []*call[A]) error, timeout time.Duration, sharing sharing) *lane[A] {
	return &lane[A]{
		send: send, timeout: timeout, sharing: sharing,
		width: 1, late: deadline{after: timeout},
	}
}

// asBlob says that the rows travel in hex, as those in blob.go.
func (l *lane[A]) asBlob() *lane[A] {
	l.width = 2
	return l
}

// do sends c with others of its kind and waits for its answer, or until ctx
// ends: a row that was not sent by then never is. Where ctx has no deadline, it
// waits for as long as a request may take.
func (l *lane[A]) do(ctx context.Context, c call[A]) (A, error) {
	if l.sharing || ctx.Done() == nil {
		// A read may be broken off, and this write cannot be given up.
		return l.doHere(ctx, c)
	}
	l.enqueue(&c)
	return l.wait(ctx, &c)
}

// doHere is do for a call whose request may end with ctx. If it is alone, it is
// sent by this goroutine: to hand it over costs a tenth of what rqlite takes to
// answer.
func (l *lane[A]) doHere(ctx context.Context, c call[A]) (A, error) {
	if !l.board() {
		l.enqueue(&c)
		return l.wait(ctx, &c)
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	defer func() { // also where the connection or an observer panics, which whoever calls may survive
		if l.land() {
			go l.run()
		}
	}()
	err := l.fly(ctx, []*call[A]{&c})
	return c.answer, err
}

// fly is send, for whose trouble there is a place.
func (l *lane[A]) fly(ctx context.Context, calls []*call[A]) error {
	place := new(trouble.Place)
	l.trouble.Store(place)
	defer l.trouble.CompareAndSwap(place, nil) // it is nothing that a later call would wait for
	return l.send(trouble.With(ctx, place), calls)
}

// why is what keeps the newest request from being answered, or nil.
func (l *lane[A]) why() error {
	if place := l.trouble.Load(); place != nil {
		return place.Newest()
	}
	return nil
}

// board begins a flight with this call alone, if one may begin and nobody waits.
func (l *lane[A]) board() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) > 0 || !l.mayFly(l.flights) {
		return false
	}
	l.flights++
	l.aboard++
	return true
}

// land ends the flight of a call that was alone. If others wait meanwhile, the
// flight goes on with them, which is up to the caller.
func (l *lane[A]) land() (goOn bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.aboard--
	if len(l.waiting) == 0 || !l.mayFly(l.flights-1) {
		l.flights--
		return false
	}
	return true
}

// mayFly reports whether a request may be sent beside so many others.
func (l *lane[A]) mayFly(others int) bool {
	switch {
	case others == 0:
		return true
	case others == 1 && bool(l.sharing):
		return l.aboard <= fewRows || len(l.waiting) >= max(manyRows, l.aboard)
	}
	return false
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
	start := l.mayFly(l.flights)
	if start {
		l.flights++
	}
	l.mu.Unlock()
	if start {
		// In a goroutine of its own, so that the caller can give up.
		go l.run()
	}
}

func (l *lane[A]) wait(ctx context.Context, c *call[A]) (A, error) {
	var late <-chan struct{}
	if _, has := ctx.Deadline(); !has {
		late = l.late.begin()
	}
	select {
	case <-c.done:
		return c.answer, c.err
	case <-late:
		return l.leave(c, context.DeadlineExceeded)
	case <-ctx.Done():
		return l.leave(c, context.Cause(ctx))
	}
}

// leave gives up waiting for c, which is sent by itself or behind what is under way:
// the trouble of that is why.
func (l *lane[A]) leave(c *call[A], err error) (none A, _ error) {
	l.mu.Lock()
	c.left = true
	l.mu.Unlock()
	if why := l.why(); why != nil {
		err = ended{err, why}
	}
	return none, err
}

// run sends what waits until nothing does.
func (l *lane[A]) run() {
	var calls []*call[A]
	for {
		calls = l.take(calls)
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
	err := l.fly(ctx, calls)
	if err != nil && len(calls) > 1 && isRowError(err) {
		half := len(calls) / 2
		l.sendAll(ctx, calls[:half])
		l.sendAll(ctx, calls[half:])
		return
	}
	for _, c := range calls {
		if err != nil {
			c.err, c.size = err, 0
		}
		if c.size > 0 {
			continue // take has it sent again
		}
		for _, o := range c.also {
			o.answer, o.err = c.answer, c.err
			close(o.done)
		}
		close(c.done)
	}
}

// take ends a flight with the calls landed and returns those of the next one,
// nil when none can be sent now.
func (l *lane[A]) take(landed []*call[A]) []*call[A] {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range landed {
		l.aboard -= 1 + len(c.also)
		if c.size > 0 {
			l.waitAgain(c)
		}
	}
	var calls []*call[A]
	if l.mayFly(l.flights - 1) {
		calls = l.pick()
	}
	for _, c := range calls {
		l.aboard += 1 + len(c.also)
	}
	if calls == nil {
		l.flights--
	}
	return calls
}

// waitAgain puts a call that was not answered behind those that wait, and each
// that shares its row.
func (l *lane[A]) waitAgain(c *call[A]) {
	l.waiting = append(append(l.waiting, c), c.also...)
	c.also = nil
}

// size is how many calls wait or are under way.
func (l *lane[A]) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) + l.aboard
}

// pick removes the calls of the next request from those that wait.
func (l *lane[A]) pick() (calls []*call[A]) {
	first := make(map[string]*call[A], min(len(l.waiting), maxRows))
	rest := l.waiting[:0]
	bytes, data := 0, 0
	for i, c := range l.waiting {
		if c.left {
			continue
		}
		if f := first[c.key]; f != nil {
			if l.sharing {
				f.also = append(f.also, c)
			} else {
				rest = append(rest, c) // of writes one request at a time is under way
			}
			continue
		}
		if len(calls) == maxRows || len(calls) > 0 && (bytes+l.width*len(c.row) > maxBytes ||
			data+c.size > maxData || (c.size > 0) != (calls[0].size > 0)) {
			rest = append(rest, l.waiting[i:]...)
			break
		}
		first[c.key] = c
		calls = append(calls, c)
		bytes += l.width*len(c.row) + 1
		data += c.size
	}
	clear(l.waiting[len(rest):])
	l.waiting = rest
	return calls
}
