package caddysession

import (
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// isUpgrade reports whether the request opens a websocket over HTTP/1.1 (RFC 6455).
func isUpgrade(r *http.Request) bool {
	return httpguts.HeaderValuesContainsToken(r.Header["Connection"], "upgrade") &&
		strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// isWebsocketConnect reports whether the request opens a websocket over HTTP/2
// (RFC 8441) or HTTP/3 (RFC 9220), where it is an extended CONNECT, in the form
// that each server gives it.
func isWebsocketConnect(r *http.Request) bool {
	return r.Method == http.MethodConnect &&
		(r.ProtoMajor == 2 && r.Header.Get(":protocol") == "websocket" || r.ProtoMajor == 3 && r.Proto == "websocket")
}

// keepBetween keeps Caddy between the client and the application: the request does
// not ask for another version of HTTP on its connection (Upgrade: h2c) any more, and
// goes on over HTTP/1.1. reverse_proxy would pass that on, and where the application
// agrees the client's further requests would come past Caddy, with any header, and
// after a logout too.
func keepBetween(header http.Header) {
	if len(header["Upgrade"]) == 0 {
		return
	}
	dropTokens(header, "Upgrade", carriesRequests)
	delete(header, "Http2-Settings")
}

// carriesRequests reports whether a protocol that a client asks for is for further
// requests: HTTP/2 (RFC 7540 section 3.2) or a draft of it (h2c-16), or HTTP within
// TLS (RFC 2817).
func carriesRequests(protocol string) bool {
	protocol = strings.ToLower(protocol)
	return strings.HasPrefix(protocol, "h2") || strings.HasPrefix(protocol, "http/") || strings.HasPrefix(protocol, "tls/")
}

// frameConnect has what follows a CONNECT sent on as its body, in chunks. By itself
// Go's client writes it as it comes, and an application that opens no tunnel takes
// that for further requests, which have come past Caddy, with any header.
func frameConnect(r *http.Request) {
	if r.Method == http.MethodConnect && r.ContentLength < 0 && !isWebsocketConnect(r) {
		r.TransferEncoding = []string{"chunked"}
	}
}
