package rqlitestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

var (
	errNoToken  = errors.New("apply returned a record without a token: it has to return the one that it got, changed")
	errExited   = errors.New("apply ended its goroutine, as FailNow of a test does: it has to return an error")
	errCutShort = fmt.Errorf("%w, and then there was no answer in time", ErrConflict)
	errTooMany  = fmt.Errorf("%w, by too many to tell whether this was stored", ErrConflict)
)

// Update changes a session: apply gets the newest known record and returns it
// with its changes; what it returns is stored as a whole, the expiry too. At first
// that record is rec itself, or the result of an update of the same session that
// went before in this process; after a lost race it is what is there now, and
// apply is called again, until ctx ends (after 5 s if it has no deadline). The
// store sets the version of the result to that of the record that apply got plus
// one, so apply may seal data to it. apply is never running any more when Update
// has returned. It must not keep or change the Data it got, and must not call the
// store.
//
// Updates of one session that wait together in this process are applied one
// after the other and stored as one. An error of apply reaches its own caller
// only, and its change is not stored.
//
// A result with another Token renews the session: the old row stays readable
// for [Grace] as it was, the new row has the same ID. With Alias set as well
// the old token becomes a way in to the new row, until AliasUntil at most.
//
// Update returns the record as stored. ErrGone says that the session has ended,
// ErrSuperseded that it was renewed with a change of rights since rec was read;
// nothing was stored then. ErrConflict says that others were always faster. After
// that and any other error nobody knows, but it was not stored twice.
func (s *RqliteStore) Update(ctx context.Context, rec Record, apply func(cur Record) (Record, error)) (Record, error) {
	if rec.ID == "" {
		return Record{}, errors.New("update session: record has no id")
	}
	if !rec.Superseded.IsZero() {
		return Record{}, fmt.Errorf("update session: %w", ErrSuperseded)
	}
	ctx, cancel := withTimeout(ctx, writeTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	c := &change{rec: plain(rec), apply: apply, deadline: deadline, done: make(chan struct{})}
	s.enchain(c)
	select {
	case <-c.done:
	case <-ctx.Done():
		c.leave(context.Cause(ctx))
		<-c.done
	}
	if c.panicked != nil {
		panic(c.panicked)
	}
	if c.err != nil {
		return Record{}, fmt.Errorf("update session: %w", c.err)
	}
	return c.result, nil
}

// plain is rec without what only a look-up tells.
func plain(rec Record) Record {
	rec.Alias, rec.AliasSince, rec.AliasUntil = false, time.Time{}, time.Time{}
	return rec
}

// chains holds the chain of each session for which runChain runs, by its id.
type chains struct {
	mu   sync.Mutex
	runs map[string]*chain
}

// chain is the updates of one session that wait for the one under way.
type chain struct {
	waiting []*change
	lane    atomic.Pointer[lane[outcome]] // of the one under way
}

// change is one call of Update.
type change struct {
	chain    *chain
	rec      Record
	apply    func(Record) (Record, error)
	deadline time.Time

	mu       sync.Mutex // held while apply runs
	finished bool
	result   Record
	err      error
	panicked any
	why      error // what went wrong with the last try
	done     chan struct{}
}

// finish gives the caller its answer, unless it has left.
func (c *change) finish(rec Record, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finishLocked(rec, err)
}

func (c *change) finishLocked(rec Record, err error) {
	if !c.finished {
		c.finished, c.result, c.err = true, rec, err
		close(c.done)
	}
}

// leave is finish by the caller itself: its apply is not called any more.
func (c *change) leave(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	why := c.why
	if l := c.chain.lane.Load(); why == nil && l != nil {
		why = l.why()
	}
	if why != nil {
		err = ended{err, why}
	}
	c.finishLocked(Record{}, err)
}

// tryFailed keeps what went wrong with a try, for a caller who leaves during the next.
// The tries before say more than one that was cut short.
func (c *change) tryFailed(ctx context.Context, why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why == nil || ctx.Err() == nil {
		c.why = why
	}
}

// applyTo runs apply on cur. It returns false if the change is out: its caller
// has left, or apply failed.
func (c *change) applyTo(cur Record) (next Record, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.finished {
		return Record{}, false
	}
	returned := false
	defer func() {
		if !returned {
			c.panicked = recover() // a panic is for the caller's own goroutine
			c.finishLocked(Record{}, errExited)
		}
	}()
	next, err := c.apply(cur)
	returned = true
	if err == nil && next.Token == "" {
		err = errNoToken
	}
	if err == nil {
		err = checkSize(next.Data)
	}
	if err != nil {
		c.finishLocked(Record{}, err)
		return Record{}, false
	}
	next.ID, next.Version, next.Rights = cur.ID, cur.Version+1, cur.Rights
	next.Superseded, next.AliasSince, next.Aliased = time.Time{}, time.Time{}, cur.Aliased
	next.Expiry = next.Expiry.Round(time.Millisecond)
	switch {
	case next.Token == cur.Token:
		next.Alias = false
	case next.Alias:
		next.Aliased = true
		if next.AliasUntil.IsZero() {
			next.AliasUntil = next.Expiry
		}
	default:
		next.Rights++
		next.Aliased = false
	}
	return next, true
}

// enchain adds c to the chain of its session and starts it if need be.
func (s *RqliteStore) enchain(c *change) {
	s.chains.mu.Lock()
	defer s.chains.mu.Unlock()
	ch, runs := s.chains.runs[c.rec.ID]
	if !runs {
		ch = new(chain)
		s.chains.runs[c.rec.ID] = ch
		go s.runChain(c.rec.ID, ch)
	}
	c.chain = ch
	ch.waiting = append(ch.waiting, c)
}

// runChain stores the changes of one session until none waits.
func (s *RqliteStore) runChain(id string, ch *chain) {
	var (
		cur   Record
		queue []*change
		ended bool
	)
	defer func() {
		if !ended { // an apply took this goroutine with it: the others go on in another
			s.chains.mu.Lock()
			ch.waiting = append(queue, ch.waiting...)
			s.chains.mu.Unlock()
			go s.runChain(id, ch)
		}
	}()
	for {
		s.chains.mu.Lock()
		queue = append(queue, ch.waiting...)
		ch.waiting = nil
		if len(queue) == 0 {
			delete(s.chains.runs, id)
			s.chains.mu.Unlock()
			ended = true
			return
		}
		s.chains.mu.Unlock()
		cur, queue = s.round(cur, queue)
	}
}

// round stores the first changes of the queue as one write and returns the
// record that is known then and the changes that are left.
func (s *RqliteStore) round(cur Record, queue []*change) (Record, []*change) {
	for _, c := range queue {
		if cur.ID == "" || c.rec.Version > cur.Version {
			cur = c.rec
		}
	}
	last := slices.MaxFunc(queue, func(a, b *change) int { return a.deadline.Compare(b.deadline) })
	ctx, cancel := context.WithDeadline(context.Background(), last.deadline)
	defer cancel()
	for try := 0; ; try++ {
		next, applied, rest := applyAll(cur, queue)
		if len(applied) == 0 {
			return cur, rest
		}
		out := s.store(ctx, cur, next, applied)
		switch out.state {
		case stateDone:
			finishAll(applied, plain(next), nil)
			return plain(next), rest
		case stateConflict:
			cur = out.current
			triesFailed(ctx, applied, ErrConflict)
			if pause(ctx, try) {
				triesFailed(ctx, applied, errCutShort)
				continue // the same changes, on what is there now
			}
		case stateGone:
			failAll(applied, ErrGone)
		case stateTooMany:
			failAll(applied, errTooMany)
		default:
			if ctx.Err() == nil {
				failAll(applied, out.err)
			}
		}
		return Record{}, rest // whose time is up leaves by itself
	}
}

// applyAll applies changes one after the other. It stops behind one that
// changed the token, because then there is another row to write to, and when
// there are many.
func applyAll(cur Record, queue []*change) (next Record, applied, rest []*change) {
	next = cur
	for i, c := range queue {
		if c.rec.Rights < next.Rights {
			c.finish(Record{}, ErrSuperseded)
			continue
		}
		if c.rec.Rights > next.Rights { // restored from before a login, whose token nobody has any more
			c.finish(Record{}, ErrGone)
			continue
		}
		rec, ok := c.applyTo(next)
		if !ok {
			continue
		}
		renewed := rec.Token != next.Token
		if renewed && len(applied) > 0 {
			// By itself, so that the old row has what was stored under its token.
			return next, applied, queue[i:]
		}
		applied = append(applied, c)
		next = rec
		if renewed || len(applied) == maxRows {
			return next, applied, queue[i+1:]
		}
	}
	return next, applied, nil
}

// store sends one write of changes until it is known what became of it or ctx
// ends.
func (s *RqliteStore) store(ctx context.Context, cur, next Record, changes []*change) outcome {
	id := s.newWriteID()
	c := call[outcome]{key: cur.ID, id: cur.ID, version: cur.Version, writeID: id}
	var l *lane[outcome]
	switch {
	case next.Token != cur.Token:
		l, c.row = s.renewals, fullRow(cur, next, id)
		next.Data = nil
		c.bare = fullRow(cur, next, id)
	case next.Expiry.Equal(cur.Expiry) && next.Principal == cur.Principal:
		l, c.row = s.saves, saveRow(cur, next, id)
	default:
		l, c.row = s.saveAlls, saveRow(cur, next, id)
	}
	changes[0].chain.lane.Store(l)
	for try := 0; ; try++ {
		out, err := l.doHere(ctx, c) // this goroutine is the session's own
		switch {
		case err != nil && isDefinite(err) && !(c.again && isRefused(err)): // of an earlier try a refusal says nothing
			return outcome{state: stateUnknown, err: err}
		case err != nil && isUnsent(err) && !c.again:
			out = outcome{state: stateNotApplied, err: err}
		case err != nil:
			out = outcome{state: stateUnknown, err: unknown(err)}
		case out.state == stateNotApplied && out.err == nil:
			out.err = errReply
		}
		if out.state != stateNotApplied && out.state != stateUnknown {
			return out
		}
		triesFailed(ctx, changes, out.err)
		if !pause(ctx, try) {
			return outcome{state: stateUnknown}
		}
		c.again = c.again || !isUnsent(err)
	}
}

func finishAll(changes []*change, stored Record, err error) {
	for _, c := range changes {
		c.finish(stored, err)
	}
}

func triesFailed(ctx context.Context, changes []*change, why error) {
	for _, c := range changes {
		c.tryFailed(ctx, why)
	}
}

func failAll(changes []*change, err error) { finishAll(changes, Record{}, err) }
