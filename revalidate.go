package caddysession

import (
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"
)

var errSessionEnded = errors.New("the session has ended: the connection is closed, as `revalidate` asks")

// watch asks every now and then whether the session of a response that goes on
// is still there, and calls end once when it is not.
type watch struct {
	session *Session
	end     func()

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
}

// watchWhileOpen begins a watch; nil where there is nothing to watch.
func (s *Session) watchWhileOpen(end func()) *watch {
	if s.h.revalidate == 0 || s.isUnstored() {
		return nil
	}
	w := &watch{session: s, end: end}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(s.h.revalidate, w.look)
	return w
}

func (w *watch) look() {
	over, err := w.session.isOver()
	if !over {
		again := w.session.h.revalidate
		if errors.Is(err, errBusy) {
			again = rand.N(min(again, busyPause)) // or those that came together would all come together again
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.stopped {
			w.timer.Reset(again)
		}
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped {
		w.stopped = true
		w.session.h.logger.Info(errSessionEnded.Error(), zap.String("session_id", w.session.id()))
		w.end()
	}
}

// busyPause is how long a watch waits at most before it asks a busy store anew.
const busyPause = time.Second

// stop ends the watch: after it returns, end is not called any more and not
// under way. It may be called more than once, and on nil.
func (w *watch) stop() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}

// isOver reports whether the session has ended, or belongs to somebody else. A
// store that does not answer ends nothing.
func (s *Session) isOver() (over bool, err error) {
	known := s.knownRow()
	ctx, cancel := s.storeContext(loadTimeout)
	defer cancel()
	b := s.h.backend.inUse()
	rec, found, err := b.store.CurrentWatched(ctx, known.rec.ID)
	if err != nil || !found {
		b.observeRead(err)
		return err == nil, err
	}
	if s.h.principalKey == "" {
		return false, nil
	}
	_, values, err := s.h.keys.values(rec)
	if err != nil { // a newer config may have moved the row to a key of its own
		_, values, err = b.keys.Load().values(rec)
	}
	return err != nil || s.h.principalIn(values) != known.principal, nil
}

// watchedConn is a connection that was handed over; its watch ends with it.
type watchedConn struct {
	net.Conn
	watch *watch
}

func (c *watchedConn) Close() error {
	c.watch.stop()
	return c.Conn.Close()
}

// CloseWrite ends one way of the connection, as TCP and TLS can: reverse_proxy
// closes both where there is no such method.
func (c *watchedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
