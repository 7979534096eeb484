package caddysession_test

import (
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// mergePatchCases are the examples of RFC 7396, appendix A, as one member of the
// session: a session is an object, so what replaces the whole of it is no patch here.
var mergePatchCases = []struct{ original, patch, result string }{
	{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
	{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
	{`{"a":"b"}`, `{"a":null}`, `{}`},
	{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
	{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
	{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
	{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
	{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
	{`["a","b"]`, `["c","d"]`, `["c","d"]`},
	{`{"a":"b"}`, `["c"]`, `["c"]`},
	{`{"a":"foo"}`, `null`, ``},
	{`{"a":"foo"}`, `"bar"`, `"bar"`},
	{`{"e":null}`, `{"a":1}`, `{"a":1,"e":null}`},
	{`[1,2]`, `{"a":"b","c":null}`, `{"a":"b"}`},
	{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
	// Beyond the appendix: numbers stay exact, characters stay what they are.
	{`{"a":1}`, `{"a":9223372036854775807}`, `{"a":9223372036854775807}`},
	{`{"a":1}`, `{"a":1.5e3,"b":-0.25}`, `{"a":1500.0,"b":-0.25}`},
	{`{"a":1}`, `{"a":"\u00e9\ud83d\ude00\r\n"}`, `{"a":"é😀\r\n"}`},
}

// sets is a site whose application answers with the headers that the query names.
const sets = `
$SITE {
	session {
		upstream {
			send *
			accept
		}
	}
	handle /put {
		in_go $CODE
	}
	reverse_proxy $APP
}`

// obedient answers with the headers that the query names.
func obedient(w http.ResponseWriter, r *http.Request) {
	for name, values := range r.URL.Query() {
		w.Header()[name] = values
	}
	_, _ = io.WriteString(w, "app")
}

// obedientOnce is obedient, at /slow once released is closed.
func obedientOnce(released <-chan struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-released
		}
		obedient(w, r)
	}
}

// Only what the proxy's handle_response leaves out does not arrive.
func TestUpstream_isObeyedWhereItsResponseIsReplaced(t *testing.T) {
	app := newApplication(t, obedient)
	s := start(t, `
$SITE {
	session {
		upstream {
			header user X-User
			accept
		}
	}
	handle /user {
		respond "{http.session.data.user}"
	}
	handle /intercept {
		intercept {
			handle_response {
				header -Content-Length
				respond replaced
			}
		}
		reverse_proxy $APP
	}
	handle /headers {
		reverse_proxy $APP {
			handle_response {
				copy_response_headers
				header -Content-Length
				respond replaced
			}
		}
	}
	handle /whole {
		reverse_proxy $APP {
			handle_response {
				copy_response
			}
		}
	}
	handle /error/intercept {
		intercept {
			handle_response {
				error 404
			}
		}
		reverse_proxy $APP
	}
	handle /error/headers {
		reverse_proxy $APP {
			handle_response {
				copy_response_headers
				error 404
			}
		}
	}
	handle_errors {
		header -Content-Length
		respond "page of {http.session.data.user}{http.request.header.X-User}" 200
	}
}`, "APP", app.address())
	for path, body := range map[string][2]string{
		"/intercept": {"replaced", "replaced"}, "/headers": {"replaced", "replaced"}, "/whole": {"app", "app"},
		"/error/intercept": {"page of alicealice", "page of "}, "/error/headers": {"page of alicealice", "page of "},
	} {
		t.Run(path, func(t *testing.T) {
			v := s.visitorWith(t)
			v.get(path+`?Session-Set={"user":"alice"}`).want(t, http.StatusOK, body[0])
			v.get("/user").want(t, http.StatusOK, "alice")
			v.get(path+"?Session-Action=destroy").want(t, http.StatusOK, body[1])
			v.get("/user").want(t, http.StatusOK, "")
		})
	}
}

func TestUpstream_mergePatch(t *testing.T) {
	app := newApplication(t, obedient)
	s := start(t, sets, "APP", app.address(), "CODE", puts(t))
	for _, test := range mergePatchCases {
		t.Run(test.patch+" on "+test.original, func(t *testing.T) {
			v := s.visitorWith(t)
			v.put(`{"keep":[0],"v":` + test.original + `}`)
			v.get("/?Session-Set="+escape(`{"v":`+test.patch+`}`)).want(t, http.StatusOK, "app")
			v.get("/").want(t, http.StatusOK, "app")
			got := decoded(t, app.last(t).Header.Get("Session-Data"))
			want := `{"keep":[0]}`
			if test.result != "" {
				want = `{"keep":[0],"v":` + test.result + `}`
			}
			if !reflect.DeepEqual(got, decoded(t, want)) {
				t.Errorf("the session is %v, want %s", got, want)
			}
		})
	}
}

// The Headers of the Fetch standard make one line of a header that is appended twice.
func TestUpstream_followsPatchesThatAreJoined(t *testing.T) {
	app := newApplication(t, obedient)
	s := start(t, sets, "APP", app.address(), "CODE", puts(t))
	v := s.visitor()
	v.get("/?Session-Set="+escape(`{"user":"bob","n":{"a":1}}, {"user":"alice"},{"n":{"b":2},"x":"1, 2"}`)).want(t, http.StatusOK, "app")
	v.get("/")
	if got := app.last(t).Header.Get("Session-Data"); got != `{"n":{"a":1,"b":2},"user":"alice","x":"1, 2"}` {
		t.Errorf("the session is %s", got)
	}
}

func escape(text string) string {
	var b strings.Builder
	for i := range len(text) {
		fmt.Fprintf(&b, "%%%02X", text[i])
	}
	return b.String()
}

func TestUpstream_whatCannotBeUnderstoodIsDropped(t *testing.T) {
	app := newApplication(t, obedient)
	s := start(t, sets, "APP", app.address(), "CODE", puts(t))
	for name, test := range map[string]struct{ header, log string }{
		"no JSON":        {"Session-Set=" + escape(`{user:"mallory"}`), "Session-Set is ignored"},
		"cut off":        {"Session-Set=" + escape(`{"user":"mallory"`), "Session-Set is ignored"},
		"more behind":    {"Session-Set=" + escape(`{"user":"mallory"} {}`), "Session-Set is ignored"},
		"empty":          {"Session-Set=", "Session-Set is ignored"},
		"a list":         {"Session-Set=" + escape(`["mallory"]`), "it must be a JSON object"},
		"null":           {"Session-Set=null", "it must be a JSON object"},
		"one of two":     {"Session-Set=" + escape(`{"user":"mallory"}, 1`), "it must be a JSON object"},
		"two lists":      {"Session-Set=" + escape(`{"user":"mallory"}], [{}`), "Session-Set is ignored"},
		"a long line":    {"Session-Set=" + escape(`{"user":"mallory"}`+strings.Repeat(",{}", 100)), "one response may ask for 100 changes"},
		"no UTF-8":       {"Session-Set=" + escape("{\"user\":\"\xff\"}"), "Session-Set is ignored"},
		"too deep":       {"Session-Set=" + escape(`{"a":`+strings.Repeat("[", 200)+strings.Repeat("]", 200)+`}`), "Session-Set is ignored"},
		"a big number":   {"Session-Set=" + escape(`{"n":1e999}`), "Session-Set is ignored"},
		"reserved":       {"Session-Set=" + escape(`{"__created":1}`), "keys that begin with __ are the session's own"},
		"too long":       {"Session-Set=" + escape(`{"user":"`+strings.Repeat("m", 5000)+`"}`), "it is longer than the 4096 bytes"},
		"unknown action": {"Session-Action=explode", "it must be renew, destroy or destroy_others"},
		"in trailers":    {"Trailer:Session-Set=" + escape(`{"user":"mallory"}`), "it comes after the response's header"},
		"underscore":     {"Session_Set=" + escape(`{"user":"mallory"}`), ""},
	} {
		t.Run(name, func(t *testing.T) {
			v := s.visitorWith(t)
			v.put(`{"user":"alice"}`)
			a := v.get("/?" + test.header)
			a.want(t, http.StatusOK, "app")
			if test.log != "" {
				s.logged(test.log)
			}
			v.get("/")
			if got := app.last(t).Header.Get("Session-Data"); got != `{"user":"alice"}` {
				t.Errorf("the session is %s", got)
			}
		})
	}
	t.Run("the good one of two", func(t *testing.T) {
		v := s.visitorWith(t)
		v.get("/?Session-Set=oops&Session-Set="+escape(`{"user":"alice"}`)).want(t, http.StatusOK, "app")
		v.get("/")
		if got := app.last(t).Header.Get("Session-Data"); got != `{"user":"alice"}` {
			t.Errorf("the session is %s", got)
		}
	})
	t.Run("no secret in the log", func(t *testing.T) {
		for line := range strings.SplitSeq(s.readLog(), "\n") { // reverse_proxy itself shows headers when debugging
			if strings.Contains(line, `"http.handlers.session"`) && (strings.Contains(line, "mmmmmmmm") || strings.Contains(line, "mallory")) {
				t.Errorf("the log has values of a session: %s", line)
			}
		}
	})
}

// smallSessions is a site whose application may set little.
const smallSessions = `
$SITE {
	session {
		max_size 2KiB
		upstream {
			accept
		}
	}
	handle /show {
		respond "$SHOWN"
	}
	reverse_proxy $APP
}`

func TestUpstream_mayNotOutgrowTheSession(t *testing.T) {
	app := newApplication(t, obedient)
	s := start(t, smallSessions, "SHOWN", "{http.session.data.user}", "APP", app.address())
	v := s.visitor()
	v.get("/?Session-Set="+escape(`{"user":"alice"}`)).want(t, http.StatusOK, "app")
	for _, size := range []int{1700, 1800, 1900, 2000, 2048, 5000} {
		v.get("/?Session-Set="+escape(`{"much":"`+strings.Repeat("m", size)+`"}`)).want(t, http.StatusOK, "app")
	}
	s.logged("the session would grow beyond max_size")
	v.get("/show").want(t, http.StatusOK, "alice")
	longer := strings.TrimSuffix(strings.Repeat(`{"$":0},`, 230), ",") // as stored than as sent
	v.get("/?Session-Set="+escape(`{"much":[`+longer+`]}`)).want(t, http.StatusOK, "app")
	v.get("/show").want(t, http.StatusOK, "alice")
}

// Of answers that each fit, those that are stored fit together.
func TestUpstream_mayNotOutgrowTheSessionByParallelAnswers(t *testing.T) {
	released := make(chan struct{})
	app := newApplication(t, obedientOnce(released))
	s := start(t, smallSessions, "SHOWN", "{http.session.data.user} {http.session.data.late}", "APP", app.address())
	v := s.visitor()
	v.get("/?Session-Set="+escape(`{"user":"alice"}`)).want(t, http.StatusOK, "app")
	fill := func(path, key string) *answer {
		return v.get(path + "?Session-Set=" + escape(`{"`+key+`":"`+strings.Repeat("m", 1600)+`"}`))
	}
	asked := len(app.requests())
	late := make(chan *answer)
	go func() { late <- fill("/slow", "late") }()
	eventually(t, "the slow request", func() bool { return len(app.requests()) > asked })
	fill("/", "early").want(t, http.StatusOK, "app")
	close(released)
	if a := <-late; a.StatusCode != http.StatusInternalServerError {
		t.Errorf("what both together have no room for: %d, want 500", a.StatusCode)
	}
	v.get("/show").want(t, http.StatusOK, "alice ")
	v.get("/?Session-Set="+escape(`{"user":"bob"}`)).want(t, http.StatusOK, "app")
	v.get("/show").want(t, http.StatusOK, "bob ")
}

// What an application answers late is for the session that its request came with.
func TestUpstream_beginsNothingAnewAfterALogout(t *testing.T) {
	released := make(chan struct{})
	app := newApplication(t, obedientOnce(released))
	s := start(t, smallSessions, "SHOWN", "user={http.session.data.user}", "APP", app.address())
	v := s.visitor()
	login := "?Session-Set=" + escape(`{"user":"alice"}`)
	v.get("/"+login).want(t, http.StatusOK, "app")
	asked := len(app.requests())
	late := make(chan *answer)
	go func() { late <- v.get("/slow" + login) }()
	eventually(t, "the slow request", func() bool { return len(app.requests()) > asked })
	v.get("/?Session-Action=destroy").want(t, http.StatusOK, "app")
	close(released)
	if a := <-late; a.StatusCode != http.StatusOK || a.Header["Set-Cookie"] != nil {
		t.Errorf("the late answer is %d, with the cookies %q", a.StatusCode, a.Header["Set-Cookie"])
	}
	v.get("/show").want(t, http.StatusOK, "user=")
	s.table().wantRows(0)
}

func TestUpstream_fillsNoLogWithOneAnswer(t *testing.T) {
	app := newRawApplication(t)
	s := start(t, `
$SITE {
	session {
		upstream {
			send *
			accept
		}
	}
	reverse_proxy $APP
}`, "APP", app.address)
	v := s.visitor()
	for name, test := range map[string]struct {
		header string
		logged int
	}{
		"actions on a line":   {"Session-Action: " + strings.Repeat("x,", 3000), 1},
		"actions on lines":    {strings.Repeat("Session-Action: x\r\n", 3000) + "X: y", 1},
		"bad patches":         {strings.Repeat("Session-Set: x\r\n", 3000) + "X: y", 1},
		"too many patches":    {strings.Repeat(`Session-Set: {"n":1}`+"\r\n", 3000) + "X: y", 1},
		"a list without ends": {"Session-Action: , renew ,,", 0},
	} {
		t.Run(name, func(t *testing.T) {
			before := strings.Count(s.readLog(), " is ignored")
			app.answers("HTTP/1.1 200 OK\r\n" + test.header + "\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
			v.get("/").want(t, http.StatusOK, "ok")
			if n := strings.Count(s.readLog(), " is ignored") - before; n != test.logged {
				t.Errorf("the log has %d lines of it, want %d", n, test.logged)
			}
		})
	}
}

func TestUpstream_sessionAction(t *testing.T) {
	app := newApplication(t, obedient)
	s := start(t, sets, "APP", app.address(), "CODE", puts(t))
	v := s.visitor()
	v.get("/").want(t, http.StatusOK, "app")
	v.get("/?Session-Action=destroy").wantUntouchedCookie(t)
	v.get("/?Session-Action=renew").wantUntouchedCookie(t)
	s.table().wantRows(0)

	guest := v.get("/?Session-Set=" + escape(`{"cart":["book"]}`)).cookie(t).Value
	id := s.table().only().id

	member := v.get("/?Session-Action=renew&Session-Set=" + escape(`{"user":"alice"}`)).cookie(t).Value
	if member == guest {
		t.Error("renew left the token as it was")
	}
	v.get("/")
	if got := app.last(t).Header.Get("Session-Data"); got != `{"cart":["book"],"user":"alice"}` {
		t.Errorf("the session after renew is %s", got)
	}
	if got := app.last(t).Header.Get("Session-Id"); got != id || got != s.table().only().id {
		t.Errorf("the public id was %s and is %s", id, got)
	}
	s.visitor().withoutJar().get("/", "Cookie", "session="+guest)
	if got := app.last(t).Header.Get("Session-Data"); strings.Contains(got, "alice") {
		t.Errorf("the token from before the login gives %s", got)
	}

	gone := v.get("/?Session-Action=destroy").cookie(t)
	if gone.MaxAge >= 0 || gone.Value != "" {
		t.Errorf("destroy sets the cookie %v", gone)
	}
	s.table().wantRows(0)
	for _, old := range []string{guest, member} {
		s.visitor().withoutJar().get("/", "Cookie", "session="+old)
		if got := app.last(t).Header.Get("Session-Data"); got != "" {
			t.Errorf("after destroy a token gives %s", got)
		}
	}

	// What is set with destroy begins a new session.
	v.put(`{"user":"alice"}`)
	old := s.table().only().id
	v.get("/?Session-Action=destroy&Session-Set=" + escape(`{"user":"bob"}`))
	s.table().wantRows(0)
	v.put(`{"user":"bob"}`)
	if fresh := s.table().only().id; fresh == old {
		t.Error("a destroyed session lives on under its id")
	}
}

func (a *answer) wantUntouchedCookie(t testing.TB) {
	t.Helper()
	a.want(t, http.StatusOK, "app")
	if c := a.Header["Set-Cookie"]; len(c) > 0 {
		t.Errorf("the response sets a cookie: %v", c)
	}
}

func TestUpstream_isNotObeyedWithoutAccept(t *testing.T) {
	app := newApplication(t, obedient)
	s := start(t, strings.Replace(sets, "accept", "", 1), "APP", app.address(), "CODE", puts(t))
	v := s.visitor()
	v.put(`{"user":"alice"}`)
	for _, header := range []string{"Session-Set=" + escape(`{"user":"mallory"}`), "Session-Action=destroy", "Session-Action=renew"} {
		v.get("/?" + header).wantUntouchedCookie(t)
	}
	v.get("/")
	if got := app.last(t).Header.Get("Session-Data"); got != `{"user":"alice"}` {
		t.Errorf("the session is %s", got)
	}
	s.logged("the block `upstream` has no `accept`")
}
