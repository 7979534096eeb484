package caddysession

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddy-session/caddy-session/codec"
)

// upstreamWriter takes the Session-* headers out of an application's response,
// and does what they say if that is accepted.
type upstreamWriter struct {
	*caddyhttp.ResponseWriterWrapper
	upstreams   upstreams // that share the session
	session     *Session
	wroteHeader bool
}

// WriteHeader acts on the final header; informational ones only lose what is ours.
func (w *upstreamWriter) WriteHeader(status int) {
	if isFinal(status) && !w.wroteHeader {
		w.wroteHeader = true
		if w.upstreams.accept() {
			w.obey(w.Header())
		} else {
			w.session.h.sayUnaccepted(w.Header())
		}
	}
	stripResponse(w.Header())
	w.ResponseWriter.WriteHeader(status)
}

func (w *upstreamWriter) begin() {
	if !w.wroteHeader {
		w.WriteHeader(http.StatusOK)
	}
}

func (w *upstreamWriter) Write(p []byte) (int, error) {
	w.begin()
	return w.ResponseWriter.Write(p)
}

// ReadFrom keeps sendfile.
func (w *upstreamWriter) ReadFrom(r io.Reader) (int64, error) {
	w.begin()
	return w.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError sends the header at the latest now.
func (w *upstreamWriter) FlushError() error {
	w.begin()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Flush is FlushError for callers of http.Flusher.
func (w *upstreamWriter) Flush() {
	_ = w.FlushError() // http.Flusher has no place for it
}

// Hijack hands the connection over.
func (w *upstreamWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// stripResponse removes the Session-* headers, trailers with them.
func stripResponse(header http.Header) {
	maps.DeleteFunc(header, func(name string, _ []string) bool {
		return isOurs(strings.TrimPrefix(name, http.TrailerPrefix))
	})
	dropTokens(header, "Trailer", isOurs)
}

func isOurs(name string) bool {
	var b [len(ourPrefix)]byte
	return len(name) >= len(b) && string(appendFolded(b[:0], name[:len(b)])) == ourPrefix
}

// maxChanges is how many changes one response may ask for with a header: each
// takes as long as the session is large.
const maxChanges = 100

// obey changes the session as the application's response asks. What cannot be
// understood is logged and left out; the response goes out all the same.
func (w *upstreamWriter) obey(header http.Header) {
	metrics := w.session.h.backend.metrics
	w.follow(setHeader, slices.Values(header.Values(setHeader)), w.patch, metrics.badSet)
	w.follow(actionHeader, actionsIn(header), w.session.act, metrics.badAction)
}

// sayUnaccepted says in the log that nothing comes of what an application asks for:
// one that has signed a user in would wonder where the session is.
func (h *Handler) sayUnaccepted(header http.Header) {
	for _, name := range []string{setHeader, actionHeader} {
		if len(header.Values(name)) > 0 {
			h.sampled.warn("the application answers with a header that changes nothing here and is dropped: the block `upstream` has no `accept`",
				zap.String("header", name))
		}
	}
}

// refuseLate says so where the application asks for a change after its header, in a
// trailer: a cookie that it may need is no longer to be had.
func (w *upstreamWriter) refuseLate(header http.Header) {
	metrics := w.session.h.backend.metrics
	late := func(name string) iter.Seq[string] {
		return slices.Values(slices.Concat(header[name], header[http.TrailerPrefix+name]))
	}
	refuse := func(string) error { return errAsTrailer }
	w.follow(setHeader, late(setHeader), refuse, metrics.badSet)
	w.follow(actionHeader, late(actionHeader), refuse, metrics.badAction)
}

// actionsIn are the elements of the lists that Session-Action has.
func actionsIn(header http.Header) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range header.Values(actionHeader) {
			for action := range strings.SplitSeq(line, ",") {
				if action = strings.TrimSpace(action); action != "" && !yield(action) {
					return
				}
			}
		}
	}
}

// follow makes the changes that a header asks for. The log says once a response
// what is wrong with them: one header could fill it otherwise.
func (w *upstreamWriter) follow(name string, changes iter.Seq[string], do func(string) error, refused prometheus.Counter) {
	var first error
	left := maxChanges
	for change := range changes {
		err := errTooManyChanges
		if left > 0 {
			err = do(change)
		}
		if err != nil {
			refused.Inc()
			if first == nil {
				first = err
			}
		}
		if left--; left < 0 {
			break
		}
	}
	if first != nil {
		w.session.h.logger.Error("the application's "+name+" is ignored", zap.String("session_id", w.session.id()), zap.Error(first))
	}
}

// act does what a Session-Action says.
func (s *Session) act(action string) error {
	switch action {
	case "renew":
		return s.Renew()
	case "destroy":
		return s.Destroy()
	case "destroy_others":
		return s.DestroyOthers()
	}
	return errUnknownAction
}

// MergePatch changes the session by a JSON merge patch (RFC 7396): a value
// replaces, an object is merged, null removes. A patch of which something has no form
// in a session is an error.
func (s *Session) MergePatch(patch map[string]any) error { return s.mergePatches(patch) }

// mergePatches makes the changes of all patches or, where one is an error, of none.
func (s *Session) mergePatches(patches ...map[string]any) error {
	var keys []string
	for i, patch := range patches {
		keys = slices.AppendSeq(keys, maps.Keys(patch))
		if _, err := codec.EncodeValue(patch); err != nil {
			return err // a map within itself would be merged for ever
		}
		patches[i], _ = codec.Clone(patch).(map[string]any) // the caller may go on with it
	}
	if slices.ContainsFunc(keys, isReserved) {
		return errReservedKey
	}
	return s.change(func(values map[string]any) { mergeAll(values, patches) }, keys...)
}

// patch makes the changes of a Session-Set.
func (w *upstreamWriter) patch(line string) error {
	s := w.session
	patches, err := patchesIn(line)
	if err != nil {
		return err
	}
	if err := s.Load(); err != nil {
		return err
	}
	// What the application could not be sent again would shut the visitor out of it.
	after := s.values()
	mergeAll(after, patches)
	if err := w.upstreams.check(after); err != nil {
		return err
	}
	// What could not be stored would cost the visitor the whole response.
	encoded, err := codec.JSON{}.Encode(s.h.manager.Deadline(s.scs), after)
	if err != nil {
		return err
	}
	if _, fits := s.h.fits(encoded, s.knownRow().values); !fits {
		return errTooLarge
	}
	return s.mergePatches(patches...)
}

// patchesIn are the patches of one line. The Headers of the Fetch standard, and some
// proxies, make one of several lines, with commas between (RFC 9110 section 5.3).
func patchesIn(line string) ([]map[string]any, error) {
	value, err := codec.DecodeValue([]byte("[" + line + "]"))
	if err != nil {
		return nil, err
	}
	list, _ := value.([]any)
	if len(list) > maxChanges {
		return nil, errTooManyChanges
	}
	var patches []map[string]any
	for _, element := range list {
		patch, ok := element.(map[string]any)
		if !ok {
			return nil, errNoObject
		}
		patches = append(patches, patch)
	}
	if patches == nil {
		return nil, errNoObject
	}
	return patches, nil
}

func mergeAll(values map[string]any, patches []map[string]any) {
	for _, patch := range patches {
		merge(values, patch)
	}
}

// merge applies a patch; it changes no object in place but the outermost, for others may hold them.
func merge(values, patch map[string]any) {
	for key, value := range patch {
		switch value := value.(type) {
		case nil:
			delete(values, key)
		case map[string]any:
			inner := make(map[string]any)
			maps.Copy(inner, objectIn(values[key]))
			merge(inner, value)
			values[key] = inner
		default:
			values[key] = value
		}
	}
}

// Why what an application asks for is not done.
var (
	errUnknownAction  = errors.New("it must be renew, destroy or destroy_others")
	errTooLarge       = errors.New("the session would grow beyond max_size")
	errNoObject       = errors.New("it must be a JSON object")
	errAsTrailer      = errors.New("it comes after the response's header, as a trailer: send it in the header")
	errTooManyChanges = fmt.Errorf("one response may ask for %d changes at most: the others are left out", maxChanges)
)

var (
	_ http.ResponseWriter = (*upstreamWriter)(nil)
	_ http.Flusher        = (*upstreamWriter)(nil)
	_ http.Hijacker       = (*upstreamWriter)(nil)
	_ io.ReaderFrom       = (*upstreamWriter)(nil)
)
