package caddysession_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// A stream and a socket stay open while their session lasts, and no longer.
func TestRevalidate_closesWhatGoesOnWhenTheSessionHasEnded(t *testing.T) {
	app := newApplication(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "websocket" {
			conn, both, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(err)
			}
			defer conn.Close()
			_, _ = io.WriteString(both, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
			_ = both.Flush()
			_, _ = io.Copy(conn, both) // an echo
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: hello\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	direct := inGo(t, func(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
		c := http.NewResponseController(w)
		if r.ProtoMajor == 1 {
			if err := c.EnableFullDuplex(); err != nil {
				return err
			}
		}
		_, _ = io.WriteString(w, "data: hello\n\n")
		if err := c.Flush(); err != nil {
			return err
		}
		if r.Method == http.MethodPost { // it looks at nothing but what the client sends
			_, err := io.Copy(io.Discard, r.Body)
			return err
		}
		<-r.Context().Done()
		return nil
	})
	s := start(t, `
$SITE, $TLS {
	session {
		principal user
		revalidate 20ms
	}
	handle /login {
		session_edit put user {query.user}
	}
	handle /logout {
		session_edit destroy
	}
	handle /proxied {
		@member session user
		reverse_proxy @member $APP
	}
	handle /direct {
		@member session user
		in_go @member `+direct+`
	}
}`, "APP", app.address())
	streams := map[string]struct {
		site string
		open func(v *visitor) io.ReadCloser
	}{
		"proxied":              {"$SITE", func(v *visitor) io.ReadCloser { return openStream(t, v, "$SITE/proxied") }},
		"in Caddy":             {"$SITE", func(v *visitor) io.ReadCloser { return openStream(t, v, "$SITE/direct") }},
		"read in Caddy":        {"$SITE", func(v *visitor) io.ReadCloser { return openUpload(t, v, "$SITE/direct") }},
		"proxied, HTTP2":       {"$TLS", func(v *visitor) io.ReadCloser { return openStream(t, v, "$TLS/proxied") }},
		"in Caddy, HTTP2":      {"$TLS", func(v *visitor) io.ReadCloser { return openStream(t, v, "$TLS/direct") }},
		"read in Caddy, HTTP2": {"$TLS", func(v *visitor) io.ReadCloser { return openUpload(t, v, "$TLS/direct") }},
		"proxied, HTTP3":       {"$TLS", func(v *visitor) io.ReadCloser { return openStream(t, v.overHTTP3(), "$TLS/proxied") }},
		"in Caddy, HTTP3":      {"$TLS", func(v *visitor) io.ReadCloser { return openStream(t, v.overHTTP3(), "$TLS/direct") }},
		"read in Caddy, HTTP3": {"$TLS", func(v *visitor) io.ReadCloser { return openUpload(t, v.overHTTP3(), "$TLS/direct") }},
		"websocket":            {"$SITE", func(v *visitor) io.ReadCloser { return openSocket(t, v) }},
	}
	for name, kind := range streams {
		for how, end := range map[string]string{"logout": "/logout", "another user": "/login?user=bob", "its time": ""} {
			t.Run(name+"/"+how, func(t *testing.T) {
				v := s.visitor()
				v.handshake(kind.site + "/")
				v.get(kind.site + "/login?user=alice")
				stream := kind.open(v)
				defer stream.Close()
				still := s.visitor() // whose stream goes on
				still.get("/login?user=carol")
				other := openStream(t, still, "/proxied")
				defer other.Close()

				if end != "" {
					v.get(kind.site + end)
				} else {
					s.alter("UPDATE sessions SET expiry=? WHERE CAST(data AS TEXT) LIKE '%alice%'", julian(time.Now()))
				}
				ended := make(chan struct{})
				go func() {
					_, _ = io.Copy(io.Discard, stream)
					close(ended)
				}()
				eventually(t, "the stream to end", func() bool { return closed(ended) })
			})
		}
	}
	s.logged("the session has ended")
}

// A download is cut short, and does not look whole.
func TestRevalidate_cutsDownloadsShort(t *testing.T) {
	const size = 1 << 40 // so much that none comes to its end
	app := newApplication(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		_, _ = io.Copy(w, endless{})
	})
	s := start(t, `
$SITE, $TLS {
	session {
		revalidate 20ms
	}
	handle /login {
		session_edit put user alice
	}
	handle /logout {
		session_edit destroy
	}
	handle {
		session_auth user
		reverse_proxy /proxied $APP
		in_go /direct $DIRECT
		root $DIR
		file_server
	}
}`, "APP", app.address(), "DIRECT", inGo(t, func(w http.ResponseWriter, _ *http.Request, _ caddyhttp.Handler) error {
		_, _ = io.CopyN(w, endless{}, size) // it looks at no error
		return nil
	}))
	file := filepath.Join(s.names["DIR"], "file")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, size)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/file", "/direct", "/proxied"} {
		s.overEachHTTP(t, path, func(t *testing.T, v *visitor, body io.Reader, site string) {
			ended := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, body)
				ended <- err
			}()
			v.get(site + "/logout")
			select {
			case err := <-ended:
				if err == nil {
					t.Error("what the client got looks whole")
				}
			case <-time.After(10 * time.Second):
				t.Error("the download goes on")
			}
		})
	}
}

// overEachHTTP has a visitor sign in and get what does not end, over each version of
// HTTP; its body is what the test is for.
func (s *server) overEachHTTP(t *testing.T, path string, test func(t *testing.T, v *visitor, body io.Reader, site string)) {
	for protocol, site := range map[string]string{"HTTP1": "$SITE", "HTTP2": "$TLS", "HTTP3": "$TLS"} {
		t.Run(strings.Trim(path, "/")+"/"+protocol, func(t *testing.T) {
			v := s.visitorWith(t)
			v.handshake(site + "/login")
			v.get(site + "/login")
			over := *v
			if protocol == "HTTP3" {
				over = *v.overHTTP3()
			}
			over.http.Timeout = 0
			res, err := over.http.Do(over.request(http.MethodGet, site+path))
			if err != nil || res.StatusCode != http.StatusOK {
				t.Fatalf("the response begins with %v %v", res, err)
			}
			defer res.Body.Close()
			test(t, v, res.Body, site)
		})
	}
}

// A client that does not read keeps nothing open: whoever writes to it waits no longer.
func TestRevalidate_endsWhatNobodyReads(t *testing.T) {
	var written atomic.Int64
	returned := make(chan struct{}, 1)
	around := inGo(t, func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
		if strings.HasPrefix(r.URL.Path, "/stream") {
			defer func() { returned <- struct{}{} }()
		}
		return next.ServeHTTP(w, r)
	})
	stream := inGo(t, func(w http.ResponseWriter, _ *http.Request, _ caddyhttp.Handler) error {
		_, err := io.Copy(io.MultiWriter(w, counter{&written}), endless{})
		return err
	})
	app := newApplication(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.Copy(io.MultiWriter(w, counter{&written}), endless{})
	})
	s := start(t, `
{
	order in_go before session
}
$SITE, $TLS {
	in_go $AROUND
	session {
		revalidate 20ms
	}
	handle /login {
		session_edit put user alice
	}
	handle /logout {
		session_edit destroy
	}
	handle {
		session_auth user
		reverse_proxy /stream/proxied $APP
		route {
			in_go $STREAM
		}
	}
}`, "APP", app.address(), "AROUND", around, "STREAM", stream)
	for _, path := range []string{"/stream/proxied", "/stream/made"} {
		s.overEachHTTP(t, path, func(t *testing.T, v *visitor, _ io.Reader, site string) {
			before, same := int64(-1), 0
			eventually(t, "the stream to stall", func() bool {
				if now := written.Load(); now != before {
					before, same = now, 0
				}
				same++
				return same > 30
			})
			v.get(site + "/logout")
			eventually(t, "the stream to end", func() bool { return closed(returned) })
		})
	}
}

// counter counts what is written.
type counter struct{ bytes *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) {
	c.bytes.Add(int64(len(p)))
	return len(p), nil
}

// Of many streams that began together each has its turn soon, though the store has
// room for few of them at a time.
func TestRevalidate_ofManyAtOnce(t *testing.T) {
	const streams = 100
	var begun sync.WaitGroup
	begun.Add(streams)
	store := newStandIn(t)
	s := start(t, `
$SITE {
	session {
		rqlite `+store.URL+`
		max_calls 4
		revalidate 1s
	}
	handle /login {
		session_edit put user alice
	}
	handle /logout {
		session_edit destroy
	}
	handle /stream {
		session_auth user
		in_go $STREAM
	}
}`, "STREAM", inGo(t, func(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
		begun.Done()
		begun.Wait()
		_, _ = io.WriteString(w, "data: hello\n\n")
		err := http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return err
	}))
	v := s.visitor()
	v.get("/login")
	var open atomic.Int64
	var all sync.WaitGroup
	for range streams {
		all.Go(func() {
			for {
				res, err := v.http.Do(v.request(http.MethodGet, "/stream"))
				if err != nil {
					t.Error(err)
					return
				}
				if res.StatusCode == http.StatusServiceUnavailable {
					res.Body.Close()
					continue
				}
				open.Add(1)
				_, _ = io.Copy(io.Discard, res.Body)
				open.Add(-1)
				return
			}
		})
	}
	eventually(t, "the streams to begin", func() bool { return open.Load() == streams })
	store.slows(50 * time.Millisecond)
	v.get("/logout")
	within(t, 25*time.Second, "the streams to end", func() bool { return open.Load() == 0 })
	all.Wait()
}

// What Caddy itself makes is ended as what it proxies: it does not look whole, and
// the visitor's next request does not come over the connection, whose reading has ended.
func TestRevalidate_leavesTheNextRequestAlone(t *testing.T) {
	stream := inGo(t, func(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
		_, _ = io.WriteString(w, "data: hello\n\n")
		err := http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return err
	})
	app := newApplication(t, nil)
	s := start(t, `
$SITE, $TLS {
	session {
		revalidate 10ms
	}
	handle /login {
		session_edit put user alice
	}
	handle /logout {
		session_edit destroy
	}
	handle /stream {
		session_auth user
		in_go $STREAM
	}
	reverse_proxy $APP
}`, "APP", app.address(), "STREAM", stream)
	for protocol, site := range map[string]string{"HTTP1": "$SITE", "HTTP2": "$TLS", "HTTP3": "$TLS"} {
		t.Run(protocol, func(t *testing.T) {
			for range 20 { // it is a race which of both ends the stream
				v := s.visitorWith(t)
				v.handshake(site + "/login")
				if protocol == "HTTP3" {
					v = v.overHTTP3()
				}
				v.get(site + "/login")
				stream := openStream(t, v, site+"/stream")
				v.get(site + "/logout")
				if _, err := io.Copy(io.Discard, stream); err == nil {
					t.Error("the stream looks whole")
				}
				stream.Close()
				v.get(site+"/").want(t, http.StatusOK, "app")
			}
		})
	}
}

// After what has ended by itself, or by its client, the store is not asked any more,
// even where it was being asked at that moment.
func TestRevalidate_asksNoMoreAfterTheEnd(t *testing.T) {
	leave := make(chan struct{})
	stream := inGo(t, func(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
		_, _ = io.WriteString(w, "data: hello\n\n")
		err := http.NewResponseController(w).Flush()
		until := leave
		if r.URL.Path == "/stream/on" {
			until = nil
		}
		select {
		case <-until:
		case <-r.Context().Done():
		}
		return err
	})
	app := newApplication(t, func(w http.ResponseWriter, _ *http.Request) {
		conn := switchProtocols(t, w, "")
		defer conn.Close()
		go func() { _, _ = io.Copy(conn, conn) }()
		<-leave
	})
	store := newStandIn(t)
	s := start(t, `
$SITE {
	session {
		rqlite $STORE {
			timeout 30s
		}
		revalidate 20ms
	}
	session_edit /login put user alice
	handle /stream* {
		session_auth user
		in_go $STREAM
	}
	handle /proxied {
		session_auth user
		reverse_proxy $APP
	}
	respond "{http.session.id}"
}`, "STORE", store.URL, "APP", app.address(), "STREAM", stream)
	var others, ticks atomic.Int64 // questions after sessions whose response has ended, and after one whose goes on
	asked := make(map[string]*atomic.Int64)
	member := func(times *atomic.Int64) *visitor {
		v := s.visitor()
		v.get("/login").cookie(t)
		asked[hex.EncodeToString([]byte(v.get("/").body))] = times
		return v
	}
	page, ends, left, socketEnds, socketLeft := member(&others), member(&others), member(&others), member(&others), member(&others)
	goesOn := member(&ticks)
	gate := make(chan struct{})
	store.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
		body := bytes.ToLower(bodyOf(r))
		for id, times := range asked {
			if bytes.Contains(body, []byte(id)) {
				times.Add(1)
				select {
				case <-gate:
				case <-store.done:
				}
			}
		}
		node.ServeHTTP(w, r)
	}))
	page.get("/")
	streams := []io.ReadCloser{openStream(t, ends, "/stream"), openSocket(t, socketEnds)}
	for _, open := range []io.Closer{openStream(t, left, "/stream"), openSocket(t, socketLeft)} {
		eventually(t, "the store to be asked", func() bool { return others.Load() > 0 })
		open.Close()
	}
	close(leave)
	for _, stream := range streams {
		_, _ = io.Copy(io.Discard, stream) // a socket may end in an error
		stream.Close()
	}
	close(gate)

	clock := openStream(t, goesOn, "/stream/on")
	defer clock.Close()
	eventually(t, "the questions to end", func() bool {
		before, from := others.Load(), ticks.Load()
		eventually(t, "questions after what goes on", func() bool { return ticks.Load() > from+10 })
		return others.Load() == before
	})
}

// openStream reads the beginning of a stream.
func openStream(t *testing.T, v *visitor, path string) io.ReadCloser {
	t.Helper()
	return beginning(t, v, v.request(http.MethodGet, path))
}

// openUpload is openStream with a request that has no end.
func openUpload(t *testing.T, v *visitor, path string) io.ReadCloser {
	t.Helper()
	body, upload := io.Pipe()
	t.Cleanup(func() { upload.Close() })
	r := v.request(http.MethodPost, path)
	r.Body, r.GetBody, r.ContentLength = body, nil, -1
	return beginning(t, v, r)
}

func beginning(t *testing.T, v *visitor, r *http.Request) io.ReadCloser {
	t.Helper()
	res, err := v.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	hello := make([]byte, len("data: hello\n\n"))
	if _, err := io.ReadFull(res.Body, hello); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %q %v", r.URL, res.StatusCode, hello, err)
	}
	return res.Body
}

// openSocket opens a websocket and has something echoed.
func openSocket(t *testing.T, v *visitor) io.ReadCloser {
	t.Helper()
	r := v.request(http.MethodGet, "/proxied", "Connection", "Upgrade", "Upgrade", "websocket", "Origin", v.server.url("$SITE"))
	for _, c := range v.http.Jar.Cookies(r.URL) {
		r.AddCookie(c)
	}
	conn, err := net.Dial("tcp", r.URL.Host)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Write(conn); err != nil {
		t.Fatal(err)
	}
	buffered := bufio.NewReader(conn)
	res, err := http.ReadResponse(buffered, r)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the handshake: %v %v", res, err)
	}
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := buffered.ReadString('\n'); err != nil || line != "hello\n" {
		t.Fatalf("the echo: %q %v", line, err)
	}
	return conn
}

// That the store does not answer is no sign that a session has ended.
func TestRevalidate_closesNothingWhileTheStoreIsDown(t *testing.T) {
	store := newStandIn(t)
	app := newApplication(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "data: hello\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	s := start(t, `
$SITE {
	session {
		rqlite $STORE
		revalidate 20ms
	}
	session_edit /login put user alice
	session_edit /logout destroy
	@member session user
	reverse_proxy @member $APP
}`, "STORE", store.URL, "APP", app.address())
	v := s.visitor()
	stream := openStream(t, v, "/login")
	defer stream.Close()
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, stream)
		close(ended)
	}()
	store.mode.Store(serveMode(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		_, _ = io.WriteString(w, `{"results":[{"error":"out of memory"}]}`)
	}))
	before := store.calls.Load()
	eventually(t, "the store to be asked", func() bool { return store.calls.Load() > before+5 })
	if closed(ended) {
		t.Error("the stream has ended")
	}
	store.works()
	v.get("/logout")
	eventually(t, "the stream to end", func() bool { return closed(ended) })
}

// However many streams ask after their sessions while the store is slow, a request
// finds a place among its calls.
func TestRevalidate_turnsAwayNoRequest(t *testing.T) {
	store, site := newStandIn(t), watchedSite(t)
	s := start(t, site("rqlite "+store.URL+" {\ntimeout 30s\n}\nmax_calls 4")+"\n$METRICS {\nmetrics\n}", "METRICS", "http://"+freeAddress(t))
	var streams []*watched
	for range 8 {
		streams = append(streams, s.watch(t))
	}
	rejected := s.scrape().sum("rejected_total")
	gate := make(chan struct{})
	store.waitsFor(gate)
	eventually(t, "streams to ask after their sessions", func() bool { return s.scrape().sum("store_calls") >= 2 })
	asked := make(chan *answer, 1)
	go func() {
		a, _ := streams[0].visitor.try(http.MethodGet, "/")
		asked <- a
	}()
	eventually(t, "the request to wait for the store", func() bool { return s.scrape().sum("store_calls") >= 3 || len(asked) > 0 })
	close(gate)
	if a := <-asked; a == nil || a.StatusCode != http.StatusOK || a.body != "alice " {
		t.Errorf("a request while the store is slow is answered by %v", a)
	}
	if n := s.scrape().sum("rejected_total") - rejected; n != 0 {
		t.Errorf("%v requests are counted as turned away", n)
	}
	store.works()
	for _, w := range streams {
		w.visitor.get("/logout")
	}
	for _, w := range streams {
		eventually(t, "the stream to end", func() bool { return closed(w.ended) })
	}
	eventually(t, "each call to have ended", func() bool { return s.scrape().sum("store_calls") == 0 })
}
