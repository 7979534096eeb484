package caddysession_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Whatever goes through the proxy is the same with a session around it as
// without, and as with one that is stored.
func TestPassthrough_isTheSameWithASession(t *testing.T) {
	answers := func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		w.Header().Set("X-Received", fmt.Sprintf("%s %d %s %v %s %v", r.Method, n, hex.EncodeToString(sum.Sum(nil)), err, r.Trailer.Get("X-Trailer"), r.TransferEncoding))
		w.Header().Set("X-Headers", strings.Join([]string{r.Header.Get("X-Custom"), strings.Join(r.Header["Cookie"], "|"), r.Header.Get("Range"), r.Host}, ","))
		switch r.URL.Path {
		case "/large":
			for range 8 {
				_, _ = w.Write(bytes.Repeat([]byte("0123456789abcdef"), 4096))
			}
		case "/untyped":
			w.Header()["Content-Type"] = nil // or net/http would find it here
			w.Header().Set("Content-Length", "13")
			_, _ = io.WriteString(w, "<html></html>")
		case "/empty":
		case "/nocontent":
			w.WriteHeader(http.StatusNoContent)
		case "/notmodified":
			w.Header().Set("ETag", `"1"`)
			w.WriteHeader(http.StatusNotModified)
		case "/redirect":
			http.Redirect(w, r, "/elsewhere?a=b", http.StatusFound)
		case "/teapot":
			w.Header().Add("X-Many", "1")
			w.Header().Add("X-Many", "2")
			http.Error(w, "short and stout", http.StatusTeapot)
		case "/trailers":
			w.Header().Set("Trailer", "X-Sum")
			_, _ = io.WriteString(w, "body")
			w.Header().Set("X-Sum", "42")
			w.Header().Set(http.TrailerPrefix+"X-Unannounced", "43")
		case "/flushes":
			for i := range 5 {
				_, _ = fmt.Fprintf(w, "%d;", i)
				w.(http.Flusher).Flush()
			}
		case "/range":
			http.ServeContent(w, r, "a.txt", time.Unix(1_700_000_000, 0), strings.NewReader(strings.Repeat("0123456789", 100)))
		}
	}
	app := newApplication(t, answers)
	var sites strings.Builder
	for i, upstream := range []string{"$APP", "h2c://$APP"} {
		for j, with := range []string{"", "session", "session\nsession_edit increment n"} {
			fmt.Fprintf(&sites, "$SITE%d, $TLS%[1]d {\n%s\nencode gzip\nreverse_proxy %s\n}\n", 3*i+j, with, upstream)
		}
	}
	s := start(t, sites.String(), "APP", app.address())
	v := s.visitor().withoutJar()
	for i := range 6 {
		v.handshake(fmt.Sprintf("$TLS%d/empty", i))
	}

	for _, scheme := range schemes {
		for upstream, name := range []string{"HTTP1", "H2C"} {
			for path, methods := range map[string][]string{
				"/large": {"GET", "HEAD", "POST"}, "/untyped": {"GET", "HEAD", "POST"}, "/empty": {"GET", "POST", "PROPFIND"}, "/nocontent": {"GET", "DELETE"}, "/notmodified": {"GET"},
				"/redirect": {"GET"}, "/teapot": {"GET", "PUT"}, "/trailers": {"GET", "HEAD"}, "/flushes": {"GET", "OPTIONS"}, "/range": {"GET", "HEAD"},
			} {
				for _, method := range methods {
					t.Run(scheme.name+" to "+name+path+"/"+method, func(t *testing.T) {
						var want string
						for i, with := range []string{"without", "with", "with a stored"} {
							got := v.exchange(t, method, fmt.Sprintf("%s%d%s", scheme.site, 3*upstream+i, path))
							if i == 0 {
								want = got
							} else if got != want {
								t.Errorf("%s session the response is\n%s\nwithout one\n%s", with, got, want)
							}
						}
					})
				}
			}
		}
	}
}

// exchange sends a request with all there is to one, and returns the response
// as text, without what may differ.
func (v *visitor) exchange(t *testing.T, method, path string) string {
	t.Helper()
	r := v.request(method, path, "X-Custom", "a b", "Cookie", "a=1;  b=\"2, 3\" ;c", "Range", "bytes=10-19", "Expect", "100-continue", "Accept-Encoding", "gzip")
	if method == http.MethodPost || method == http.MethodPut {
		r.Body = io.NopCloser(strings.NewReader(strings.Repeat("uploaded ", 50_000)))
		r.ContentLength = -1
		r.Trailer = http.Header{"X-Trailer": {"sent"}}
	}
	res, err := v.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body := io.Reader(res.Body)
	if res.Header.Get("Content-Encoding") == "gzip" && method != http.MethodHead { // how it is compressed depends on the moment
		if body, err = gzip.NewReader(body); err != nil {
			t.Fatal(err)
		}
	}
	sum := sha256.New()
	n, err := io.Copy(sum, body)
	for _, name := range []string{"Date", "Alt-Svc", "Set-Cookie", "Cache-Control", "Vary"} { // the last three are ours to change
		res.Header.Del(name)
	}
	headers := strings.ReplaceAll(fmt.Sprint(res.Header), r.URL.Host, "host")
	return fmt.Sprintf("%d %d %x %v\n%s\n%d %v\n%v", res.StatusCode, n, sum.Sum(nil), err, headers, res.ContentLength, res.TransferEncoding, res.Trailer)
}

// Caddy's placeholders read the request that Caddy began with, and
// {http.request.body} puts back what it has read there: nobody may be working on a copy.
func TestPassthrough_placeholdersAreThoseOfTheRequest(t *testing.T) {
	app := newApplication(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s got %s, announced %s", r.Method, body, r.Header.Get("X-Body"))
	})
	s := start(t, `
$SITE {
	session
	handle /login {
		session_edit put user alice
		respond {http.session.csrf_token}
	}
	handle /body {
		request_header X-Body {http.request.body}
		reverse_proxy $APP
	}
	handle /inner {
		route {
			session {
				cookie inner
				table inner
			}
			session_csrf
			session_edit increment n
			request_header X-Body {http.request.body}
			reverse_proxy $APP
		}
	}
	handle /csrf {
		session_csrf
		request_header X-Body {http.request.body}
		reverse_proxy $APP
	}
	handle /limited {
		request_body {
			max_size 5
		}
		respond "[{http.request.body}]"
	}
	handle /method {
		method PUT
		respond {method}
	}
	handle /error {
		session_edit increment n
		error 418
	}
	handle_errors {
		reverse_proxy $APP
	}
}`, "APP", app.address())
	v := s.visitor()
	v.get("/login")
	token := v.get("/login").body // is stored by now
	form := "csrf_token=" + token
	for path, want := range map[string]string{
		"/body":    "POST got " + form + ", announced " + form,
		"/inner":   "POST got " + form + ", announced " + form,
		"/csrf":    "POST got " + form + ", announced " + form,
		"/limited": "", // of an error of its size the error page reads no more
		"/method":  "PUT",
		"/error":   "POST got " + form + ", announced ",
	} {
		t.Run(path[1:], func(t *testing.T) {
			a := v.postBody(path, "application/x-www-form-urlencoded", []byte(form))
			if a.body != want {
				t.Errorf("the answer is %d %q, want %q", a.StatusCode, a.body, want)
			}
		})
	}
}
