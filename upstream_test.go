package caddysession_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	caddysession "github.com/caddy-session/caddy-session"
	"github.com/caddy-session/caddy-session/codec"
)

// puts returns the name of code that puts the members of the query's json into the session.
func puts(t *testing.T) string {
	return inGo(t, func(_ http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
		values, err := codec.DecodeValue([]byte(r.URL.Query().Get("json")))
		if err != nil {
			return err
		}
		for key, value := range values.(map[string]any) {
			if err := caddysession.FromContext(r.Context()).Put(key, value); err != nil {
				return err
			}
		}
		return nil
	})
}

// put stores values through a route /put that runs the code of puts.
func (v *visitor) put(text string) *answer {
	v.t.Helper()
	a := v.get("/put?json=" + url.QueryEscape(text))
	a.want(v.t, http.StatusOK, "")
	return a
}

// An error route without an upstream of its own has the headers of the request:
// an edit there makes them anew, too.
func TestUpstream_isSentTheSessionAsAnEditInAnErrorRouteLeavesIt(t *testing.T) {
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
	session_edit /grow put cart {http.request.header.X-Cart}
	error /login 404
	error /out* 401
	handle_errors 404 500 {
		session
		session_edit put page {err.status_code}
		reverse_proxy $APP
	}
	handle_errors 401 {
		session /out/also {
			upstream {
				header page X-Page
			}
		}
		session
		session_edit destroy
		reverse_proxy $APP
	}
}`, "APP", app.address())
	wantNobody := func(path string) {
		t.Helper()
		header := app.last(t).Header
		for _, name := range []string{"Session-Data", "Session-Id", "X-User", "X-Page"} {
			if got := header[name]; got != nil {
				t.Errorf("%s: the application is sent %s %q", path, name, got)
			}
		}
	}
	for _, out := range []string{"/out", "/out/also"} {
		v := s.visitor()
		v.get("/login").want(t, http.StatusOK, "app") // the status is the error page's own
		header := app.last(t).Header
		if got := header.Get("Session-Data"); got != `{"page":"404","user":"alice"}` || header.Get("X-User") != "alice" {
			t.Errorf("the application is sent %q and the user %q", got, header["X-User"])
		}
		v.get(out).want(t, http.StatusOK, "app")
		wantNobody(out)
	}
	v := s.visitor()
	v.get("/login")
	v.get("/grow", "X-Cart", strings.Repeat("a", 5000)).want(t, http.StatusOK, "app")
	wantNobody("/grow, which fits no header")
}

func TestUpstream_isSentValuesThatFitHeaders(t *testing.T) {
	app := newApplication(t, nil)
	s := start(t, `
$SITE {
	session {
		upstream {
			send *
			header user X-User
			header deep.er X-Deeper
		}
	}
	handle /put {
		in_go $CODE
	}
	reverse_proxy $APP
}`, "APP", app.address(), "CODE", puts(t))

	for name, test := range map[string]struct {
		values string   // of the session
		user   []string // X-User
		deeper []string // X-Deeper
	}{
		"text":            {`{"user":"alice"}`, []string{"alice"}, nil},
		"empty text":      {`{"user":""}`, []string{""}, nil},
		"number":          {`{"user":9007199254740993}`, []string{"9007199254740993"}, nil},
		"switch":          {`{"user":true}`, []string{"true"}, nil},
		"object":          {`{"user":{"b":[1,null],"a":"x"}}`, []string{`{"a":"x","b":[1,null]}`}, nil},
		"path":            {`{"deep":{"er":"end"}}`, nil, []string{"end"}},
		"not there":       {`{"deep":{}}`, nil, nil},
		"new line":        {`{"user":"a\r\nX-User: mallory"}`, []string{`"a\r\nX-User: mallory"`}, nil},
		"line feed":       {`{"user":"a\nb"}`, []string{`"a\nb"`}, nil},
		"zero":            {`{"user":"a\u0000b"}`, []string{`"a\u0000b"`}, nil},
		"delete":          {`{"user":"a\u007fb"}`, []string{`"a\u007fb"`}, nil},
		"not ASCII":       {`{"user":"Zoë 😀"}`, []string{`"Zo\u00eb \ud83d\ude00"`}, nil},
		"spaces":          {`{"user":" alice "}`, []string{`" alice "`}, nil},
		"looks like JSON": {`{"user":"\"Zo\\u00eb\""}`, []string{`"\"Zo\\u00eb\""`}, nil},
		"many":            {`{"user":"` + strings.Repeat("a", 4000) + `"}`, []string{strings.Repeat("a", 4000)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			v := s.visitorWith(t)
			v.put(test.values)
			v.get("/").want(t, http.StatusOK, "app")
			header := app.last(t).Header
			if got := header["X-User"]; !reflect.DeepEqual(got, test.user) {
				t.Errorf("X-User is %q, want %q", got, test.user)
			}
			if got := header["X-Deeper"]; !reflect.DeepEqual(got, test.deeper) {
				t.Errorf("X-Deeper is %q, want %q", got, test.deeper)
			}
			data := header.Values("Session-Data")
			if len(data) != 1 || strings.ContainsFunc(data[0], func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("Session-Data is %q", data)
			}
			if got, want := decoded(t, data[0]), decoded(t, test.values); !reflect.DeepEqual(got, want) {
				t.Errorf("Session-Data is %v, want %v", got, want)
			}
			if strings.Contains(data[0], "__") {
				t.Errorf("the session's own keys are sent: %s", data[0])
			}
		})
	}

	for name, values := range map[string]string{
		"a header":     `{"user":"` + strings.Repeat("a", 4097) + `"}`,
		"Session-Data": `{"a":"` + strings.Repeat("é", 1000) + `"}`,
	} {
		t.Run(name+" too long to send", func(t *testing.T) {
			v := s.visitorWith(t)
			v.put(values)
			before := len(app.requests())
			if a := v.get("/"); a.StatusCode != http.StatusInternalServerError {
				t.Errorf("the answer is %d, want 500", a.StatusCode)
			}
			if len(app.requests()) != before {
				t.Error("the application was asked as if the visitor were a guest")
			}
		})
	}
	s.logged("it is longer than the 4096 bytes that fit a header")
}

func decoded(t testing.TB, text string) (value any) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return value
}

func TestUpstream_isSentTheSessionAsAnEditLeavesIt(t *testing.T) {
	app := newApplication(t, nil)
	s := start(t, `
$SITE {
	session {
		principal user
		upstream {
			send user
			header user X-User
		}
	}
	session_edit /login put user alice
	session_edit /rename put user bob
	session_edit /logout destroy
	reverse_proxy $APP
}`, "APP", app.address())
	v := s.visitor()
	var id string
	for _, step := range []struct{ path, data, user string }{
		{"/", "", ""},
		{"/login", `{"user":"alice"}`, "alice"},
		{"/", `{"user":"alice"}`, "alice"},
		{"/rename", `{"user":"bob"}`, "bob"},
		{"/logout", "", ""},
		{"/", "", ""},
	} {
		v.get(step.path).want(t, http.StatusOK, "app")
		header := app.last(t).Header
		if got := header.Get("Session-Data"); got != step.data {
			t.Errorf("%s: Session-Data is %q, want %q", step.path, got, step.data)
		}
		if got := header.Get("X-User"); got != step.user {
			t.Errorf("%s: X-User is %q, want %q", step.path, got, step.user)
		}
		switch now := header.Get("Session-Id"); {
		case (now == "") != (step.data == ""):
			t.Errorf("%s: Session-Id is %q", step.path, now)
		case id != "" && now != "" && now != id:
			t.Errorf("%s: Session-Id was %s and is %s", step.path, id, now)
		default:
			id = now
		}
	}
}

func TestUpstream_fastCGIGetsTheSessionInItsEnvironment(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var last http.Header
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = fcgi.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // it ends with its listener
			last = r.Header.Clone()
			if r.URL.RawQuery != "" {
				w.Header().Set("Session-Set", `{"seen":true}`)
			}
			_, _ = io.WriteString(w, "fcgi")
		}))
	}()
	t.Cleanup(func() {
		l.Close()
		<-served
	})
	s := start(t, strings.Replace(sharedSite, "reverse_proxy $APP", `
	root $DIR
	reverse_proxy $APP {
		transport fastcgi
	}`, 1), "APP", l.Addr().String())
	v := s.visitor().withoutJar()
	login := v.get("/login")
	cookie := "session=" + login.cookie(t).Value
	want := map[string]string{
		"Session-Data": `{"role":"editor","user":"alice"}`, "Session-Id": login.body, "X-User-Name": "alice",
		"Session-Set": "", "Session-Action": "",
	}
	for name := range want {
		for _, a := range attacks(name) {
			for _, member := range []bool{false, true} {
				t.Run(name+" "+a.name, func(t *testing.T) {
					if strings.Contains(a.name, "trailer") {
						t.Skip("FastCGI has no trailers")
					}
					if member {
						a.header = append(a.header, field{"Cookie", cookie})
					}
					attackHTTP1(t, s.url("/index.php"), a)
					for name, value := range want {
						if !member {
							value = ""
						}
						if got := last.Get(name); got != value {
							t.Errorf("%s is %q, want %q", name, got, value)
						}
					}
				})
			}
		}
	}
	a := v.get("/index.php?set", "Cookie", cookie)
	a.want(t, http.StatusOK, "fcgi")
	if a.Header.Get("Session-Set") != "" {
		t.Error("the client is sent Session-Set")
	}
	if !strings.Contains(s.table().only().data, `"seen":true`) {
		t.Error("the session was not changed by the answer")
	}
}
