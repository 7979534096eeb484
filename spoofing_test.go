package caddysession_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// attack is what a client sends to pass something off as the session.
type attack struct {
	name     string
	header   []field
	trailer  []field // sent behind the body
	declared string  // the Trailer header
}

const forged = `{"user":"mallory"}`

// attacks on one header.
func attacks(name string) []attack {
	underscore := strings.ReplaceAll(name, "-", "_")
	dot := strings.ReplaceAll(name, "-", ".")
	mixed := strings.Replace(name, "-", "_", 1)
	one := func(spelling string) []field { return []field{{spelling, forged}} }
	var punctuated []field // lighttpd's CGI and FastCGI take all of these for the same
	for _, c := range "!#$%&'*+^`|~" {
		punctuated = append(punctuated, field{strings.ReplaceAll(name, "-", string(c)), forged})
	}
	return []attack{
		{name: "plain", header: one(name)},
		{name: "lower case", header: one(strings.ToLower(name))},
		{name: "upper case", header: one(strings.ToUpper(name))},
		{name: "underscore", header: one(underscore)},
		{name: "lower case underscore", header: one(strings.ToLower(underscore))},
		{name: "dot", header: one(dot)},
		{name: "mixed", header: one(strings.ToUpper(mixed))},
		{name: "punctuated", header: punctuated},
		{name: "Connection punctuated", header: []field{{"Connection", punctuated[0].name}, punctuated[0]}},
		{name: "trailer punctuated", trailer: punctuated, declared: punctuated[0].name},
		{name: "twice", header: []field{{name, forged}, {strings.ToLower(name), forged + "2"}}},
		{name: "every spelling", header: []field{{name, forged}, {underscore, forged}, {dot, forged}}},
		{name: "empty", header: []field{{name, ""}}},
		{name: "Connection", header: []field{{"Connection", name}}},
		{name: "Connection among others", header: []field{{"Connection", "close, " + strings.ToLower(name) + " ,TE"}}},
		{name: "Connection twice", header: []field{{"Connection", "close"}, {"Connection", ", ," + name + ","}}},
		{name: "Connection and value", header: []field{{"Connection", name}, {name, forged}}},
		{name: "Connection underscore", header: []field{{"Connection", underscore}, {underscore, forged}}},
		{name: "Proxy-Connection", header: []field{{"Proxy-Connection", name}}},
		{name: "trailer declared", trailer: one(name), declared: name},
		{name: "trailer declared among others", trailer: one(name), declared: "X-Other, " + name},
		{name: "trailer behind another's declaration", trailer: one(name), declared: "X-Other"},
		{name: "trailer undeclared", trailer: one(name)},
		{name: "trailer underscore", trailer: one(underscore), declared: "X-Other"},
		{name: "trailer dot", trailer: one(dot), declared: dot},
		{name: "header and trailer", header: one(name), trailer: one(name), declared: name},
	}
}

// sharedSite shares its sessions with a raw application. Caddy itself would drop
// names with _ and .: here it lets those of the attacks through.
const sharedSite = `
{
	servers {
		expected_underscore_headers Session_Data Session_Id Session_Set Session_Action X_User_Name
		expected_dot_headers Session.Data Session.Id Session.Set Session.Action X.User.Name
	}
}
$SITE, $TLS {
	session {
		upstream {
			send user role
			header user X-User-Name
			accept
		}
	}
	handle /login {
		session_edit {
			put user alice
			put role editor
			put secret hidden
		}
		respond {http.session.id}
	}
	handle /show {
		respond "{http.session.id} {http.session.data.user} {http.session.data.role}"
	}
	reverse_proxy $APP
}`

// A client that got the application to go on with HTTP/2 would send it further
// requests, with any header, which Caddy takes for the bytes of a tunnel.
func TestUpstream_noClientGetsPastCaddy(t *testing.T) {
	app := newApplication(t, func(w http.ResponseWriter, r *http.Request) {
		asked := strings.Join(r.Header["Upgrade"], ",")
		if asked == "" {
			_, _ = io.WriteString(w, "HTTP/1.1 "+r.Header.Get("Http2-Settings"))
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+asked+"\r\n\r\n")
	})
	s := start(t, `
$SITE {
	session
	session_edit /login put user alice
	reverse_proxy $APP {
		header_up X-User {http.session.data.user}
	}
}`, "APP", app.address())
	site := strings.TrimPrefix(s.url("$SITE"), "http://")
	cookie := s.visitor().get("/login").cookie(t)
	for upgrade, want := range map[string]string{
		"h2c":              "",
		"H2C":              "",
		"h2":               "",
		"h2c-16":           "", // drafts, which some servers know still
		"H2-14":            "",
		"HTTP/2.0":         "",
		"TLS/1.2, h2c":     "",
		"websocket":        "websocket",
		"h2c, websocket":   "websocket",
		"something-else":   "something-else",
		"h2c\r\nUpgrade: ": "",
	} {
		for _, connection := range []string{"Upgrade", "Upgrade, HTTP2-Settings"} {
			for _, cookies := range []string{"", "Cookie: session=" + cookie.Value + "\r\n"} {
				conn := sendRaw(t, site, "GET / HTTP/1.1\r\nHost: "+site+"\r\n"+cookies+
					"Upgrade: "+upgrade+"\r\nConnection: "+connection+"\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n")
				res, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				switch {
				case want != "":
					if res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Upgrade") != want {
						t.Errorf("%q: %s to %q, want to %q", upgrade, res.Status, res.Header.Get("Upgrade"), want)
					}
				case res.StatusCode != http.StatusOK:
					t.Errorf("%q: %s", upgrade, res.Status)
				default:
					if body, err := io.ReadAll(res.Body); err != nil || string(body) != "HTTP/1.1 " {
						t.Errorf("%q: the application answers %q, %v", upgrade, body, err)
					}
				}
				conn.Close()
			}
		}
	}
}

// What follows a CONNECT would be further requests to an application that opens no
// tunnel, and these have what header the client likes.
func TestUpstream_noClientGetsPastCaddyByConnect(t *testing.T) {
	bodies := make(chan string, 10)
	app := newApplication(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect {
			body, _ := io.ReadAll(r.Body)
			bodies <- string(body)
		}
		w.WriteHeader(http.StatusMethodNotAllowed)
	})
	s := start(t, `
$TLS {
	session {
		upstream {
			send user
		}
	}
	reverse_proxy $APP
}`, "APP", app.address())
	const hidden = "GET /admin HTTP/1.1\r\nHost: app\r\nSession-Data: " + forged + "\r\n\r\n"
	s.visitor().handshake("$TLS/")
	site, err := url.Parse(s.url("$TLS"))
	if err != nil {
		t.Fatal(err)
	}
	over3 := &http3.Transport{TLSClientConfig: onlyHere()}
	t.Cleanup(func() { over3.Close() })
	for name, transport := range map[string]http.RoundTripper{"HTTP2": overHTTP2(t), "HTTP3": over3} {
		t.Run(name, func(t *testing.T) {
			r := &http.Request{Method: http.MethodConnect, URL: site, Host: site.Host, Header: http.Header{}, ContentLength: -1, Body: io.NopCloser(strings.NewReader(hidden))}
			res, err := transport.RoundTrip(r.WithContext(t.Context()))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.StatusCode != http.StatusMethodNotAllowed {
				t.Errorf("it is answered by %s", res.Status)
			}
			if body := <-bodies; body != hidden {
				t.Errorf("the body of the CONNECT is %q, want %q", body, hidden)
			}
		})
	}
	for _, r := range app.requests() {
		if r.Method == http.MethodGet {
			t.Errorf("the application was asked for %s with %q", r.URL, r.Header["Session-Data"])
		}
	}
}

func TestUpstream_seesNothingThatAClientForged(t *testing.T) {
	app := newRawApplication(t)
	s := start(t, sharedSite, "APP", app.address)
	s.visitor().handshake("$TLS/")
	overTLS := new(http.Protocols)
	overTLS.SetHTTP2(true)
	transport := &http.Transport{
		Protocols:       overTLS,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // Caddy's own authority, of this test only
	}
	defer transport.CloseIdleConnections()
	for _, scheme := range schemes {
		login := s.visitor().get(scheme.site + "/login")
		cookie, id := scheme.cookie+"="+login.cookie(t).Value, login.body
		send := attackHTTP1
		if scheme.name == "HTTP2" {
			send = func(t *testing.T, url string, a attack) { attackHTTP2(t, transport, url, a) }
		}
		for _, name := range []string{"Session-Data", "Session-Id", "Session-Set", "Session-Action", "X-User-Name"} {
			for _, a := range attacks(name) {
				for _, member := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s %s %s member=%v", scheme.name, name, a.name, member), func(t *testing.T) {
						if scheme.name == "HTTP2" && slices.ContainsFunc(a.header, func(f field) bool { return strings.HasSuffix(f.name, "Connection") }) {
							t.Skip("HTTP/2 has no such header: a request with one is malformed")
						}
						app.answers("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
						want := map[string][]string{}
						if member {
							a.header = append(slices.Clone(a.header), field{"Cookie", cookie})
							want["Session-Data"] = []string{`{"role":"editor","user":"alice"}`}
							want["Session-Id"] = []string{id}
							want["X-User-Name"] = []string{"alice"}
						}
						send(t, s.url(scheme.site+"/"), a)
						seen := app.request()
						if seen == "" {
							t.Fatal("the application was not asked")
						}
						fields := fieldsOf(seen)
						for _, name := range []string{"Session-Data", "Session-Id", "Session-Set", "Session-Action", "X-User-Name"} {
							if got := valuesOf(fields, name); !slices.Equal(got, want[name]) {
								t.Errorf("the application sees %s as %q, want %q", name, got, want[name])
							}
						}
						if strings.Contains(seen, "mallory") || t.Failed() {
							t.Errorf("the application was sent:\n%s", seen)
						}
					})
				}
			}
		}
	}
}

// A request that is refused before it is run has an error page, too.
func TestUpstream_seesNothingThatWasForgedInAnErrorPage(t *testing.T) {
	app := newApplication(t, nil)
	s := start(t, `
$SITE {
	session {
		upstream {
			send *
			header user X-User
		}
	}
	session_edit /login put user alice
	handle_errors {
		reverse_proxy $APP
	}
}`, "APP", app.address())
	v := s.visitor()
	v.get("/login")
	v.do(http.MethodPost, "/", "Origin", "http://evil.example", "Session-Data", `{"user":"mallory"}`, "Session_Id", "1", "X-User", "mallory").
		want(t, http.StatusOK, "app") // the status is the error page's own
	header := app.last(t).Header
	for _, name := range []string{"Session-Data", "Session_Id", "Session-Id", "X-User"} {
		if got := header[name]; got != nil {
			t.Errorf("the application sees %s as %q", name, got)
		}
	}
}

// attackHTTP1 sends an attack byte for byte.
func attackHTTP1(t *testing.T, url string, a attack) {
	t.Helper()
	host, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	message := attackMessage(host, path, a)
	conn := sendRaw(t, host, message)
	defer conn.Close() // there are many of them
	reply, err := io.ReadAll(conn)
	if err != nil || !bytes.HasPrefix(reply, []byte("HTTP/1.1 200 OK\r\n")) {
		t.Fatalf("the answer is %.200q (%v)", reply, err)
	}
}

func attackMessage(host, path string, a attack) string {
	var b strings.Builder
	fmt.Fprintf(&b, "POST /%s HTTP/1.1\r\nHost: %s\r\n", path, host)
	closes := false
	for _, f := range a.header {
		fmt.Fprintf(&b, "%s: %s\r\n", f.name, f.value)
		closes = closes || f.name == "Connection" && strings.Contains(f.value, "close")
	}
	if !closes {
		b.WriteString("Connection: close\r\n")
	}
	if a.declared != "" {
		fmt.Fprintf(&b, "Trailer: %s\r\n", a.declared)
	}
	b.WriteString("Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n")
	for _, f := range a.trailer {
		fmt.Fprintf(&b, "%s: %s\r\n", f.name, f.value)
	}
	b.WriteString("\r\n")
	return b.String()
}

// attackHTTP2 sends an attack as Go's HTTP/2 client writes it.
func attackHTTP2(t *testing.T, transport *http.Transport, url string, a attack) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, io.NopCloser(strings.NewReader("body")))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range a.header {
		r.Header[f.name] = append(r.Header[f.name], f.value)
	}
	if len(a.trailer) > 0 { // Go's client declares what it sends
		r.Trailer = http.Header{"X-Other": {"1"}}
		for _, f := range a.trailer {
			r.Trailer[f.name] = append(r.Trailer[f.name], f.value)
		}
	}
	res, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("the answer is %d %q (%v)", res.StatusCode, body, err)
	}
}

// leaks are answers of an application that must not reach the client as they are.
var leaks = map[string]string{
	"plain":             "HTTP/1.1 200 OK\r\nSession-Set: $\r\nSession-Action: hold\r\nSession-Data: $\r\nSession-Id: 1\r\nSession-Other: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
	"case":              "HTTP/1.1 200 OK\r\nsession-set: $\r\nSESSION-ACTION: hold\r\nsEsSiOn-DaTa: $\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
	"underscore":        "HTTP/1.1 200 OK\r\nSession_Set: $\r\nsession_action: hold\r\nSESSION_DATA: $\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
	"dot":               "HTTP/1.1 200 OK\r\nSession.Set: $\r\nsession.action: hold\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
	"twice":             "HTTP/1.1 200 OK\r\nSession-Set: $\r\nSession-Set: $\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
	"Connection":        "HTTP/1.1 200 OK\r\nSession-Set: $\r\nContent-Length: 2\r\nConnection: close, Session-Set\r\n\r\nok",
	"early hints":       "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nSession-Set: $\r\nsession_id: 1\r\n\r\nHTTP/1.1 103 Early Hints\r\nSession-Action: hold\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
	"processing":        "HTTP/1.1 102 Processing\r\nSession.Set: $\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
	"trailer":           "HTTP/1.1 200 OK\r\nTrailer: Session-Set, X-Sum\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\nSession-Set: $\r\nX-Sum: 1\r\n\r\n",
	"trailer alone":     "HTTP/1.1 200 OK\r\nTrailer: session_set\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\nSession_Set: $\r\n\r\n",
	"undeclared":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\nSession-Set: $\r\nSession.Action: hold\r\n\r\n",
	"behind another's":  "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nSession-Set: $\r\n\r\n",
	"no content":        "HTTP/1.1 204 No Content\r\nSession-Set: $\r\nConnection: close\r\n\r\n",
	"redirect":          "HTTP/1.1 303 See Other\r\nLocation: /\r\nSession-Set: $\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
	"an error":          "HTTP/1.1 500 Internal Server Error\r\nSession-Set: $\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno",
	"unusual character": "HTTP/1.1 200 OK\r\nSession-Set!: $\r\nSession-~: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
}

func TestUpstream_answersReachNoClientAsTheyAre(t *testing.T) {
	app := newRawApplication(t)
	for _, accept := range []string{"accept", ""} {
		s := start(t, strings.Replace(sharedSite, "accept", accept, 1), "APP", app.address)
		s.visitor().handshake("$TLS/")
		for name, reply := range leaks {
			for _, scheme := range schemes {
				t.Run(scheme.name+" "+name+" "+accept, func(t *testing.T) {
					app.answers(strings.ReplaceAll(reply, "$", `{"user":"leaked"}`))
					seen := answerFields(t, s, scheme.site)
					for _, f := range seen {
						if strings.HasPrefix(folded(f.name), "session-") || strings.Contains(f.value, "leaked") || strings.Contains(folded(f.value), "session-set") {
							t.Errorf("the client is sent %s: %s", f.name, f.value)
						}
					}
					if strings.Contains(reply, "X-Sum: 1") && !slices.Contains(seen, field{"X-Sum", "1"}) {
						t.Errorf("the application's own trailer is lost: %q", seen)
					}
				})
			}
		}
	}
}

// answerFields returns all lines of all headers and trailers of the answer to a GET.
func answerFields(t *testing.T, s *server, site string) (seen []field) {
	t.Helper()
	v := s.visitor().withoutJar()
	r := v.request(http.MethodGet, site+"/")
	add := func(header map[string][]string) {
		for name, values := range header {
			for _, value := range values {
				seen = append(seen, field{name, value})
			}
		}
	}
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(_ int, header textproto.MIMEHeader) error {
			add(header)
			return nil
		},
	}))
	res, err := v.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	add(res.Header)
	add(res.Trailer)
	for name := range res.Trailer {
		seen = append(seen, field{"Trailer", name})
	}
	return seen
}
