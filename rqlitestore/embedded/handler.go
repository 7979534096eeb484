package embedded

import (
	"errors"
	"mime"
	"net"
	"net/http"
	"strings"
)

// Version is what the node gives as rqlite's version to clients that ask. It is the version whose answers it follows.
const Version = "v10.0.0-embedded"

// ServeHTTP serves the API over HTTP, for debugging with rqlite's shell or curl.
//
// There is no authentication: whoever reaches it reads and writes every session. Bind it to a loopback
// address, and only while you need it. Requests that a browser sends for a web page are refused, so that no
// page the operator happens to visit can use it: those with an Origin or a foreign Sec-Fetch-Site, those to
// a host name other than localhost (DNS rebinding), and bodies that are not JSON.
func (n *Node) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("X-Rqlite-Version", Version)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if why := fromBrowser(req); why != "" {
		http.Error(w, why, http.StatusForbidden)
		return
	}
	if !jsonBody(req) {
		http.Error(w, "the body must be application/json", http.StatusUnsupportedMediaType)
		return
	}
	a, err := n.readAndAnswer(req)
	_, unread := errors.AsType[bodyError](err)
	switch {
	case errors.Is(err, errTooLarge):
		http.Error(w, errTooLarge.Error(), http.StatusRequestEntityTooLarge)
		return
	case unread:
		http.Error(w, "read the body: "+err.Error(), http.StatusBadRequest)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", a.contentType())
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // the client is gone if this fails
}

// fromBrowser says why a request looks like one that a web page makes; "" if it does not.
func fromBrowser(req *http.Request) string {
	if req.Header.Get("Origin") != "" {
		return "requests of web pages are refused: Origin"
	}
	if site := req.Header.Get("Sec-Fetch-Site"); site != "" && site != "none" {
		return "requests of web pages are refused: Sec-Fetch-Site"
	}
	host := req.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if host != "" && !strings.EqualFold(host, "localhost") && net.ParseIP(host) == nil {
		return "use an IP address or localhost: other host names are refused"
	}
	return ""
}

// jsonBody says whether the body, if there is one, is declared as JSON or, as rqlite's shell sends it, not at all.
func jsonBody(req *http.Request) bool {
	declared := req.Header.Get("Content-Type")
	if req.Method != http.MethodPost || declared == "" {
		return true
	}
	mediaType, _, err := mime.ParseMediaType(declared)
	return err == nil && mediaType == "application/json"
}
