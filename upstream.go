package caddysession

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-session/caddy-session/codec"
)

const (
	dataHeader   = "Session-Data"
	idHeader     = "Session-Id"
	setHeader    = "Session-Set"
	actionHeader = "Session-Action"
	ourPrefix    = "session-"

	maxHeader = 4 << 10 // bytes of one header's value: what servers take without being told
)

// upstream is what shares the session with one application.
type upstream struct {
	config *UpstreamConfig
	names  map[string]bool // of the request headers that are ours, folded
}

func newUpstream(c *UpstreamConfig) *upstream {
	if c == nil {
		return nil
	}
	u := &upstream{config: c, names: make(map[string]bool)}
	for _, name := range []string{dataHeader, idHeader, setHeader, actionHeader} {
		u.names[fold(name)] = true
	}
	for name := range c.Headers {
		u.names[fold(name)] = true
	}
	return u
}

// fold makes one name of all spellings that CGI and its kin take for the same:
// servers differ in which characters become the _ of their variables.
func fold(name string) string { return string(appendFolded(nil, name)) }

// appendFolded is fold into a buffer: it is asked of every header of a request
// and its response. Names are ASCII (RFC 9110 section 5.1).
func appendFolded(b []byte, name string) []byte {
	for _, c := range []byte(name) {
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case (c < 'a' || c > 'z') && (c < '0' || c > '9'):
			c = '-'
		}
		b = append(b, c)
	}
	return b
}

// within runs next with the headers of the session in the request, and those
// of the application kept from the client.
func (u *upstream) within(all *sessions, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if u == nil {
		return next.ServeHTTP(w, r)
	}
	u.stripRequest(r)
	outer, session := all.upstreams, all.current
	all.upstreams = append(slices.Clip(outer), sharing{u, session})
	all.shared = append(all.shared, sharing{u, session})
	defer func() { all.upstreams = outer }()
	if err := all.upstreams.fill(r.Header); err != nil {
		return session.httpError(err)
	}
	uw := &upstreamWriter{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, upstreams: all.upstreams.ofInnermost(), session: session}
	err := next.ServeHTTP(uw, r)
	switch {
	case !uw.upstreams.accept():
	case uw.wroteHeader:
		uw.refuseLate(w.Header())
	default: // the application's headers are there, an error route has its page
		uw.obey(w.Header())
		if failed := all.upstreams.fill(r.Header); failed != nil {
			err = session.httpError(failed)
		}
	}
	stripResponse(w.Header()) // trailers
	return err
}

// stripRequest removes what a client sent under our names, in any spelling, as
// a header or a trailer, and keeps it from having ours removed by naming them
// in Connection.
func (u *upstream) stripRequest(r *http.Request) {
	if u == nil {
		return
	}
	maps.DeleteFunc(r.Header, u.owns)
	maps.DeleteFunc(r.Trailer, u.owns)
	if r.Trailer != nil && r.Body != nil {
		r.Body = &trailerGuard{ReadCloser: r.Body, upstream: u, trailer: r.Trailer}
	}
	for _, list := range []string{"Connection", "Trailer"} {
		dropTokens(r.Header, list, func(name string) bool { return u.owns(name, nil) })
	}
}

// owns reports whether a request's header is ours.
func (u *upstream) owns(name string, _ []string) bool {
	var b [64]byte
	return u.names[string(appendFolded(b[:0], name))]
}

// trailerGuard removes our names from a request's trailers when they arrive:
// net/http adds them at the end of the body, those that were not announced too.
type trailerGuard struct {
	io.ReadCloser
	upstream *upstream
	trailer  http.Header
}

func (g *trailerGuard) Read(p []byte) (int, error) {
	n, err := g.ReadCloser.Read(p)
	if err == io.EOF {
		maps.DeleteFunc(g.trailer, g.upstream.owns)
	}
	return n, err
}

// dropTokens removes names from the comma-separated lists of a header's field.
func dropTokens(header http.Header, field string, drop func(string) bool) {
	var kept []string
	for _, line := range header[field] {
		var names []string
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); name != "" && !drop(name) {
				names = append(names, name)
			}
		}
		if len(names) > 0 {
			kept = append(kept, strings.Join(names, ", "))
		}
	}
	switch {
	case len(kept) > 0:
		header[field] = kept
	case len(header[field]) > 0:
		delete(header, field)
	}
}

// errHeaderTooLong: an application that got nothing would take the visitor for a guest.
var errHeaderTooLong = fmt.Errorf("it is longer than the %d bytes that fit a header; send fewer keys", maxHeader)

// write adds the headers that carry one value each.
func (u *upstream) write(header http.Header, values map[string]any) error {
	for name, key := range u.config.Headers {
		value, ok := lookup(values, key)
		if !ok {
			continue
		}
		text, err := headerText(value)
		if err != nil {
			return fmt.Errorf("the session's %s as header %s: %w", key, name, err)
		}
		header.Set(name, text)
	}
	return nil
}

// sentData is the object of the keys to send; "" if there are none.
func sentData(keys []string, values map[string]any) (string, error) {
	sent := make(map[string]any, len(values))
	for _, key := range keys {
		if value, ok := lookup(values, key); ok {
			sent[key] = value
		}
		if key != "*" {
			continue
		}
		for key, value := range values {
			if !isReserved(key) {
				sent[key] = value
			}
		}
	}
	if len(sent) == 0 {
		return "", nil
	}
	encoded, err := codec.EncodeValue(sent)
	if err != nil {
		return "", err
	}
	text := ascii(encoded)
	if len(text) > maxHeader {
		return "", errHeaderTooLong
	}
	return text, nil
}

// headerText is a value as a header of its own.
func headerText(value any) (string, error) {
	text, plain := value.(string)
	if !plain || !isHeaderText(text) {
		encoded, err := codec.EncodeValue(value)
		if err != nil {
			return "", err
		}
		text = ascii(encoded)
	}
	if len(text) > maxHeader {
		return "", errHeaderTooLong
	}
	return text, nil
}

// isHeaderText reports whether a text can stand in a header as it is. One that
// begins with a quote cannot: it could be mistaken for a text in JSON.
func isHeaderText(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return text == strings.TrimSpace(text) && !strings.HasPrefix(text, `"`)
}

// ascii escapes what is not ASCII in JSON.
func ascii(encoded []byte) string {
	if !slices.ContainsFunc(encoded, func(c byte) bool { return c >= 0x7f }) {
		return string(encoded)
	}
	return escape(encoded, func(c rune) bool { return c < 0x7f })
}

// escape writes characters of a JSON text as JSON's escapes, but for those to keep.
func escape(encoded []byte, keep func(rune) bool) string {
	var b strings.Builder
	b.Grow(len(encoded))
	for _, c := range string(encoded) {
		if keep(c) {
			b.WriteRune(c)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, c) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}
