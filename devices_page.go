package caddysession

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"strings"
	"time"
)

var (
	//go:embed devices.css
	devicesStyle string

	//go:embed devices.html
	devicesSource string

	devicesPage = template.Must(template.New("devices").Funcs(template.FuncMap{
		"style":   func() template.CSS { return template.CSS(devicesStyle) },
		"machine": func(v any) string { return stamp(v, time.RFC3339) },
		"human":   func(v any) string { return stamp(v, "2 January 2006, 15:04 UTC") },
		"agent":   agentName,
		"others":  func(all []device) bool { return len(all) > 1 },
	}).Parse(devicesSource))

	// devicesPolicy lets the page's own style in, and nothing else. It has no
	// form-action: browsers hold redirects against that, too, and a site may have
	// its visitors sign in elsewhere once they have signed out here.
	devicesPolicy = func() string {
		sum := sha256.Sum256([]byte(devicesStyle))
		return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
			"'; base-uri 'none'; frame-ancestors 'none'"
	}()
)

// writeDevicesPage writes the page for browsers.
func writeDevicesPage(w http.ResponseWriter, status int, result devicesResult) error {
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	if header.Get("Content-Security-Policy") == "" {
		header.Set("Content-Security-Policy", devicesPolicy)
	}
	if header.Get("X-Frame-Options") == "" {
		header.Set("X-Frame-Options", "DENY") // where the site's own policy says nothing of frames: what it says comes first
	}
	w.WriteHeader(status)
	return devicesPage.Execute(w, result)
}

func stamp(v any, layout string) string {
	switch t := v.(type) {
	case *time.Time:
		if t != nil {
			return t.UTC().Format(layout)
		}
	case time.Time:
		return t.UTC().Format(layout)
	}
	return ""
}

// What browsers and systems call themselves in the User-Agent; many name others
// too, so the first that fits is it.
var (
	browsers = [][2]string{
		{"Edg", "Edge"},
		{"OPR/", "Opera"},
		{"SamsungBrowser/", "Samsung Internet"},
		{"Firefox/", "Firefox"},
		{"FxiOS/", "Firefox"},
		{"CriOS/", "Chrome"},
		{"Chrome/", "Chrome"},
		{"Safari/", "Safari"},
		{"curl/", "curl"},
	}
	systems = [][2]string{
		{"iPhone", "iPhone"},
		{"iPad", "iPad"},
		{"Android", "Android"},
		{"CrOS", "ChromeOS"},
		{"Windows", "Windows"},
		{"Mac OS X", "macOS"},
		{"Linux", "Linux"},
	}
)

// agentName says in a few words what a User-Agent is.
func agentName(userAgent string) string {
	browser, system := named(userAgent, browsers), named(userAgent, systems)
	switch {
	case browser == "" && system == "":
		return "Unknown browser"
	case system == "":
		return browser
	case browser == "":
		return system
	}
	return browser + " on " + system
}

func named(userAgent string, known [][2]string) string {
	for _, k := range known {
		if strings.Contains(userAgent, k[0]) {
			return k[1]
		}
	}
	return ""
}
