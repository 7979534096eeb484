package caddysession

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// UpstreamConfig shares the session with an application in any language over
// HTTP headers. What a client sends under the names in use never reaches the
// application, and no Session-* header of the application reaches the client. Of
// requests that reach the application on another route it is not so: put a
// `session` that shares it around every route that leads there.
type UpstreamConfig struct {
	// The keys to send as the request header Session-Data, one JSON object in
	// ASCII; * sends all. The public id goes with it as Session-Id.
	Send []string `json:"send,omitempty"`

	// Request headers that carry one value each, by the name of the header: the
	// key to send. A text that cannot be a header is sent as a JSON string in ASCII.
	Headers map[string]string `json:"headers,omitempty"`

	// Whether the application may change the session with the response headers
	// Session-Set, a JSON merge patch (RFC 7396), and Session-Action: renew,
	// destroy or destroy_others.
	Accept bool `json:"accept,omitempty"`
}

// check reports a configuration that cannot be meant.
func (c *UpstreamConfig) check() error {
	if c == nil {
		return nil
	}
	if len(c.Send) == 0 && len(c.Headers) == 0 && !c.Accept {
		return errors.New("upstream shares nothing: send keys, map one to a header, or accept changes")
	}
	if len(c.Send) > 1 && slices.Contains(c.Send, "*") {
		return errors.New("send * sends all keys: leave the others out")
	}
	for _, key := range append(slices.Collect(maps.Values(c.Headers)), c.Send...) {
		if err := checkKey(key); err != nil {
			return err
		}
	}
	folded := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) { // so that the error is always the same
		if folded[fold(name)] {
			return fmt.Errorf("header %s is given twice", name)
		}
		folded[fold(name)] = true
		if !httpguts.ValidHeaderFieldName(name) || strings.ContainsAny(name, "_.") {
			return fmt.Errorf("%q is no name for a header: use letters, digits and -", name)
		}
		if strings.HasPrefix(fold(name), ourPrefix) {
			return fmt.Errorf("header %s: names that begin with Session- are taken; call it X-%s", name, name)
		}
		if slices.Contains(takenNames, fold(name)) {
			return fmt.Errorf("header %s has a meaning of its own: choose another name", name)
		}
	}
	return nil
}

// takenNames are headers that mean something to the proxy itself: it drops them, or
// writes them anew.
var takenNames = []string{
	"alt-svc", "connection", "content-length", "cookie", "host", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
	"te", "trailer", "transfer-encoding", "upgrade", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto",
}
