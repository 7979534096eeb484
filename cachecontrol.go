package caddysession

import (
	"net/http"
	"regexp"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/net/http/httpguts"
)

// outranksCacheControl reports whether some caches follow a header rather than
// Cache-Control: those of RFC 9213 are named for whom they are meant, like
// Cloudflare-CDN-Cache-Control and Akamai-Cache-Control.
func outranksCacheControl(name string, _ []string) bool {
	switch name = strings.ToLower(name); name {
	case "expires", "surrogate-control", "edge-control", "x-accel-expires":
		return true
	}
	return strings.HasSuffix(name, "-cache-control")
}

// quoted is what stands in quotes: the value of a directive, be it a list.
var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

// isPrivate reports whether the response itself already keeps shared caches out.
func isPrivate(header http.Header) bool {
	all := strings.ToLower(quoted.ReplaceAllString(strings.Join(header.Values("Cache-Control"), ","), ""))
	if strings.Contains(all, `"`) {
		return false // a cache may take what follows for a value
	}
	for directive := range strings.SplitSeq(all, ",") {
		switch strings.TrimSpace(directive) {
		case "private", "no-store":
			// Where must-understand stands beside it, caches that know that pass no-store over.
			return !strings.Contains(all, "public") && !strings.Contains(all, "must-understand")
		}
	}
	return false
}

// addVary says that the response depends on the cookie.
func addVary(header http.Header) {
	if lists := header["Vary"]; !httpguts.HeaderValuesContainsToken(lists, "*") && !httpguts.HeaderValuesContainsToken(lists, "Cookie") {
		header.Add("Vary", "Cookie")
	}
}

// checkKept says in the log that a cache behind the session (RFC 9211 tells of one)
// keeps a response that may depend on it, and was not told for whom that is.
func (h *Handler) checkKept(header http.Header) {
	told := httpguts.HeaderValuesContainsToken(header["Cache-Control"], "public") || httpguts.HeaderValuesContainsToken(header["Vary"], dataHeader)
	if status := header["Cache-Status"]; !told && saysStored.MatchString(strings.Join(status, ",")) {
		h.sampled.warn("a cache keeps a page whose request asked for its session, and may give it to others: have the cache come first, by the global option `order cache before session`, or the application say for whom the page is, by Cache-Control private or public",
			zap.Strings("cache_status", status))
	}
}

// saysStored finds the parameter by which a cache says that it has kept the response.
var saysStored = regexp.MustCompile(`;\s*stored\b`)
