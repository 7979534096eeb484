package caddysession

import (
	"bufio"
	"io"
	"maps"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// responseWriter stores the session before the first byte of the final header,
// so that whoever has the response finds the session as the response left it.
// When that fails nothing of the response goes out: from then on every call
// returns the error, and the handler answers instead.
type responseWriter struct {
	caddyhttp.ResponseWriterWrapper
	session     *Session
	wroteHeader bool
	unsent      bool // the header waits for the body, by which the server tells its type
	failed      error
	watch       *watch      // while the response goes on, see revalidate
	over        atomic.Bool // the session has ended meanwhile
}

// WriteHeader passes informational headers on, without our cookie, and stores the session for the final one.
func (w *responseWriter) WriteHeader(status int) {
	if w.failed != nil {
		return
	}
	if w.wroteHeader {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	if !isFinal(status) {
		w.session.stripCookie(w.Header())
		w.ResponseWriter.WriteHeader(status)
		return
	}
	if w.commit() != nil {
		return
	}
	w.wroteHeader = true
	w.session.close()
	cancel := w.session.cancel // an error route that comes later has another one
	w.watch = w.session.watchWhileOpen(func() {
		w.over.Store(true)
		cancel()
		// Neither reading the request ends with its context, as a tunnel's other way,
		// nor writing to a client that does not read.
		_ = http.NewResponseController(w.ResponseWriter).SetReadDeadline(time.Now()) // a writer without deadlines has none to give
		_ = http.NewResponseController(innermost(w.ResponseWriter)).SetWriteDeadline(time.Now())
	})
	w.ResponseWriter.WriteHeader(status)
	if _, typed := w.Header()["Content-Type"]; typed {
		w.hasten()
	} else {
		w.unsent = true
	}
}

// isFinal reports whether no other header follows one with this status.
func isFinal(status int) bool {
	return status < 100 || status > 199 || status == http.StatusSwitchingProtocols
}

// innermost is the server's own writer, which takes a deadline from any goroutine:
// the one of Caddy's idle timeouts around it does not.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		around, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = around.Unwrap()
	}
}

// hasten sends a header that sets the cookie at once, where the body may take its
// time: one that waited for it would reach the browser after that of a login made
// meanwhile, and take its place. Where the length is not known, reverse_proxy
// flushes by itself, and to flush would make chunks of a short body. Where the type
// is not, the server looks for it in the beginning of the body, and the header waits.
func (w *responseWriter) hasten() {
	if w.session.setsCookie() && w.Header().Get("Content-Length") != "" {
		_ = http.NewResponseController(w.ResponseWriter).Flush() // a writer that cannot sends it with the body
	}
}

// setsCookie reports whether the response's header has our cookie.
func (s *Session) setsCookie() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written != ""
}

// hasCookie reports whether a commit has made a cookie for the response.
func (s *Session) hasCookie() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cookie != ""
}

// commit stores the session and writes what the response says of it into the header.
func (w *responseWriter) commit() error {
	if w.failed != nil {
		return w.failed
	}
	if w.failed = w.session.commit(); w.failed != nil {
		w.session.setStoreErr(w.failed)
		w.session.cancel() // whoever is still streaming the response can stop
		return w.failed
	}
	w.session.writeHeader(w.Header())
	return nil
}

// begin writes the header if it is not out yet, and says why nothing may follow it.
func (w *responseWriter) begin() error {
	if !w.wroteHeader {
		w.WriteHeader(http.StatusOK)
	}
	if w.over.Load() {
		return errSessionEnded
	}
	return w.failed
}

func (w *responseWriter) Write(p []byte) (int, error) {
	if err := w.begin(); err != nil {
		return 0, err
	}
	n, err := w.ResponseWriter.Write(p)
	if w.unsent && n > 0 {
		w.unsent = false
		w.hasten()
	}
	return n, err
}

// ReadFrom keeps sendfile, by pieces where the session may end meanwhile.
func (w *responseWriter) ReadFrom(r io.Reader) (sent int64, err error) {
	for err = w.begin(); err == nil; err = w.begin() {
		if w.watch == nil {
			return w.ResponseWriterWrapper.ReadFrom(r)
		}
		n, err := w.ResponseWriterWrapper.ReadFrom(io.LimitReader(r, watchedPiece))
		if sent += n; err != nil || n < watchedPiece {
			return sent, err
		}
	}
	return sent, err
}

// watchedPiece is how many bytes are sent before the next look whether the session has ended.
const watchedPiece = 64 << 10

// FlushError sends the header, and with it the cookie, at the latest now.
func (w *responseWriter) FlushError() error {
	if err := w.begin(); err != nil {
		return err
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Flush is FlushError for callers of http.Flusher.
func (w *responseWriter) Flush() {
	_ = w.FlushError() // http.Flusher has no place for it
}

// Hijack stores the session and hands the connection over. A caller that wrote
// no header before writes one itself: it has no cookie of ours.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if !w.wroteHeader {
		if err := w.commit(); err != nil {
			return nil, nil, err
		}
	}
	conn, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.wroteHeader = true
	w.session.close()
	w.watch.stop()
	w.watch = nil // the connection may outlive the handler
	if watch := w.session.watchWhileOpen(func() { conn.Close() }); watch != nil {
		return &watchedConn{conn, watch}, buffered, nil
	}
	return conn, buffered, nil
}

// writeHeader puts the cookie, and what caches need to know, into a response's header.
func (s *Session) writeHeader(header http.Header) {
	s.mu.Lock()
	read, cookie := s.read, s.cookie
	s.mu.Unlock()
	s.stripCookie(header)
	if read {
		s.h.checkKept(header)
		addVary(header)
	}
	if cookie == "" {
		return
	}
	header.Add("Set-Cookie", cookie)
	s.checkDomain()
	s.checkScheme()
	s.checkPath()
	s.mu.Lock()
	s.written = cookie
	s.mu.Unlock()
	// A shared cache that kept this response would hand the session to everybody.
	// Only no-store and private keep all of them from it: the qualified
	// no-cache="Set-Cookie" is ignored by many.
	if !isPrivate(header) {
		header.Set("Cache-Control", "private, no-store")
	}
	maps.DeleteFunc(header, outranksCacheControl)
}

// stripCookie removes what the application sets under the cookie's name, and
// says so: a framework that keeps something of its own there finds it nowhere.
func (s *Session) stripCookie(header http.Header) {
	s.mu.Lock()
	written := s.written
	s.mu.Unlock()
	if name := s.h.cookie.strip(header, written); name != "" {
		s.h.sampled.warn("the application sets a cookie under the name of the session's, which is dropped: give one of them another name, the session's with `cookie <name>`",
			zap.String("cookie", name))
	}
}

// close ends what depends on the header being open.
func (s *Session) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
}

var (
	_ http.ResponseWriter = (*responseWriter)(nil)
	_ http.Flusher        = (*responseWriter)(nil)
	_ http.Hijacker       = (*responseWriter)(nil)
	_ io.ReaderFrom       = (*responseWriter)(nil)
)
