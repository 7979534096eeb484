package caddysession_test

import (
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	caddysession "github.com/caddy-session/caddy-session"
)

func TestNested_sessionOfTheSameCookieJoins(t *testing.T) {
	s := start(t, `
$SITE {
	session
	handle /once {
		session_edit increment n
		respond "{http.session.data.n}"
	}
	handle /twice {
		session_edit increment n
		route {
			session
			session_edit increment n
			respond "{http.session.data.n}"
		}
	}
}`)
	v := s.visitor()
	a := v.get("/twice")
	a.want(t, http.StatusOK, "2")
	a.cookie(t)
	v.get("/once").want(t, http.StatusOK, "3")
	if row := s.table().only(); row.version != 2 {
		t.Errorf("two requests made %d saves", row.version)
	}
}

func TestNested_sessionOfAnotherCookieIsTheCurrentOneWithin(t *testing.T) {
	app := newApplication(t, nil)
	s := start(t, `
$SITE {
	session
	session_edit put who outer
	handle /inner {
		route {
			session {
				cookie shop
				table shop
			}
			session_edit put who inner
			header X-Inner "{http.session.data.who}"
			in_go $WHO
			reverse_proxy $APP
		}
	}
	handle {
		in_go $WHO
		reverse_proxy $APP
	}
}`, "APP", app.address(), "WHO", inGo(t, func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
		w.Header().Set("X-Code", caddysession.FromContext(r.Context()).Get("who").(string))
		return next.ServeHTTP(w, r)
	}))
	v := s.visitor()
	a := v.get("/")
	a.want(t, http.StatusOK, "app")
	if got := a.Header.Get("X-Code"); got != "outer" {
		t.Errorf("outside of it the code sees %q", got)
	}
	a = v.get("/inner")
	a.want(t, http.StatusOK, "app")
	if a.Header.Get("X-Inner") != "inner" || a.Header.Get("X-Code") != "inner" {
		t.Errorf("within it: placeholder %q, code %q", a.Header.Get("X-Inner"), a.Header.Get("X-Code"))
	}
	if names := cookieNames(a); names != "shop" {
		t.Errorf("the response sets %q, want the inner cookie alone", names)
	}
	if names := cookieNames(s.visitor().get("/inner")); names != "session shop" && names != "shop session" {
		t.Errorf("a new visitor gets %q, want both cookies", names)
	}
	v.get("/inner")
	if got := app.last(t).Header["Cookie"]; got != nil {
		t.Errorf("the application sees %q", got)
	}
}

// A session that joins has the settings of the outer one; whoever wrote others is told.
func TestNested_settingsThatAreIgnoredAreNamed(t *testing.T) {
	const options = `
			cookie {
				same_site strict
			}
			lifetime 2h
			idle_timeout 1m
			touch_interval 2s
			renew_interval 1h
			persist off
			remember_lifetime 1d
			max_size 1KiB
			cache 2s
			principal user
			max_per_principal 1
			bind {http.request.header.User-Agent}
			audience staff
			track on
			on_store_error anonymous
			revalidate 1m
			max_new_per_client 1 1m
			cross_origin deny https://example.com`
	const inner = "\nsession {" + options + "\n}\nrespond ok"
	const sentence = "what it sets itself is ignored"
	named := func(s *server) string {
		s.visitor().get("/").want(t, http.StatusOK, "ok")
		s.visitor().get("/").want(t, http.StatusOK, "ok")
		var lines []string
		for line := range strings.SplitSeq(s.readLog(), "\n") {
			if strings.Contains(line, sentence) {
				_, ignored, _ := strings.Cut(line, `"ignored":`)
				lines = append(lines, ignored)
			}
		}
		return strings.Join(lines, "\n")
	}
	t.Run("all", func(t *testing.T) {
		got := named(start(t, "$SITE {\nsession\nroute {"+inner+"\n}\n}"))
		var names []string
		for field := range reflect.TypeFor[caddysession.Handler]().Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			switch name {
			case "", "upstream": // which is added
			case "store", "keys": // which are the same, or else it would not join
			default:
				names = append(names, name)
			}
		}
		if want := `["` + strings.Join(names, `","`) + `"]}`; got != want {
			t.Errorf("the log names\n%s\nwant\n%s", got, want)
		}
	})
	t.Run("none where they are the defaults of both", func(t *testing.T) {
		got := named(start(t, "{\nsession {"+options+"\n}\n}\n$SITE {\nsession\nroute {"+inner+"\n}\n}"))
		if got != "" {
			t.Errorf("the log names %s", got)
		}
	})
	t.Run("in an error page", func(t *testing.T) {
		got := named(start(t, `
$SITE {
	session {
		lifetime 1h
	}
	session_edit put user alice
	error 500
	handle_errors {
		session {
			lifetime 2h
		}
		respond ok 200
	}
}`))
		if got != `["lifetime"]}` {
			t.Errorf("the log names %s", got)
		}
	})
	t.Run("none where they are those that the README names", func(t *testing.T) {
		got := named(start(t, `
$SITE {
	session {
		idle_timeout 100s
	}
	route {
		session {
			cookie {
				path /
				same_site lax
				secure auto
				http_only on
			}
			lifetime 24h
			idle_timeout 100s
			touch_interval 10s
			persist on
			remember_lifetime 30d
			max_size 64KiB
			cache 1s
			track off
			on_store_error fail
			cross_origin deny
		}
		respond ok
	}
}`))
		if got != "" {
			t.Errorf("the log names %s", got)
		}
	})
	t.Run("none", func(t *testing.T) {
		got := named(start(t, `
{
	session {
		revalidate 1m
		cross_origin deny https://example.com
	}
}
$SITE {
	session {
		lifetime 1h
	}
	route {
		session {
			lifetime 1h
			max_size 64KiB
			revalidate 1m
			cross_origin deny https://example.com
			upstream {
				send *
			}
		}
		respond ok
	}
}`))
		if got != "" {
			t.Errorf("the log names %s though all is the same", got)
		}
	})
}

// What the inner session stored stays stored when the outer one's store fails: its
// cookie is on the 503 as well, or whoever was renewed would be signed out by that.
func TestNested_failureOfTheOuterKeepsTheCookieOfTheInner(t *testing.T) {
	store := newStandIn(t)
	s := start(t, `
$SITE {
	session {
		rqlite $STORE
	}
	session_edit increment visits
	route /shop/* {
		session {
			cookie shop
		}
		session_edit /shop/cart put cart book
		session_edit /shop/login {
			renew
			put user alice
		}
		session_edit /shop/logout destroy
		respond "{http.session.data.cart} {http.session.data.user}"
	}
	handle_errors {
		respond "sorry: {err.status_code}"
	}
}`, "STORE", store.URL)
	v := s.visitor()
	v.get("/shop/cart").want(t, http.StatusOK, "book ")
	store.failsWrites()
	for _, path := range []string{"/shop/login", "/shop/logout"} {
		a := v.get(path)
		a.want(t, http.StatusServiceUnavailable, "sorry: 503")
		if names := cookieNames(a); names != "shop" {
			t.Errorf("%s sets %q, want the inner cookie alone", path, names)
		}
		if caching := a.Header.Get("Cache-Control"); caching != "private, no-store" {
			t.Errorf("%s may be cached: %q", path, caching)
		}
		if path == "/shop/login" {
			store.works()
			eventually(t, "the old login to be there", func() bool { return v.get("/shop/").body == "book alice" })
			store.failsWrites()
		}
	}
	store.works()
	eventually(t, "the logout to be done", func() bool { return v.get("/shop/").body == " " })
}

// Two stores behind one cookie would take each other's sessions for none.
func TestNested_sessionOfAnotherStoreNeedsAnotherCookie(t *testing.T) {
	s := start(t, `
$SITE {
	session
	handle /shop {
		session {
			table shop
		}
		session_edit increment visits
		respond "{http.session.data.visits}"
	}
	handle_errors {
		respond "{err.message}"
	}
}`)
	if a := s.visitor().get("/shop"); a.StatusCode != http.StatusInternalServerError || !strings.Contains(a.body, "different stores and the same cookie, session") {
		t.Errorf("got %d %q", a.StatusCode, a.body)
	}
}

func cookieNames(a *answer) string {
	var names []string
	for _, c := range a.Cookies() {
		names = append(names, c.Name)
	}
	return strings.Join(names, " ")
}

// A request that a template makes starts from the headers that the template
// sees, and these have no session cookie: it is a guest's. What it includes sees
// the session.
func TestNested_requestsOfTemplatesHaveNoCookie(t *testing.T) {
	s := start(t, `
$SITE {
	session
	session_edit /login put user alice
	respond /login "in"
	respond /part "a part{http.session.data.user}"
	templates
	root $DIR
	file_server
}`)
	part := `{{placeholder "http.session.data.user"}}`
	if err := os.WriteFile(filepath.Join(s.names["DIR"], "part.html"), []byte(part), 0o644); err != nil {
		t.Fatal(err)
	}
	page := `{{httpInclude "/part"}} {{include "/part.html"}} for {{placeholder "http.session.data.user"}} with {{.Cookie "session"}}`
	if err := os.WriteFile(filepath.Join(s.names["DIR"], "page.html"), []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	v := s.visitor()
	v.get("/login").cookie(t)
	a := v.get("/page.html")
	a.want(t, http.StatusOK, "a part alice for alice with ")
	if vary := a.Header["Vary"]; !slices.Contains(vary, "Cookie") {
		t.Errorf("Vary is %q", vary)
	}
	s.table().wantRows(1)
}

func TestLog_namesTheSessionAndNeverItsToken(t *testing.T) {
	app := newApplication(t, nil)
	s := start(t, `
$SITE {
	log
	session
	session_edit /login put user alice
	log_append user {http.session.data.user}
	reverse_proxy $APP {
		header_up X-User {http.session.data.user}
	}
}
$SITE2 {
	log
	session
	log_append user {http.session.data.user}
	reverse_proxy $APP
}`, "APP", app.address())
	v := s.visitor()
	token := v.get("/login").cookie(t).Value
	v.get("/read")
	id := s.table().only().id
	s.logged(`"session_id":"` + id + `"`)
	s.logged(`"user":"alice"`)
	// What was not read before the header was out is not loaded for the log.
	v.get("$SITE2/unread").wantUntouched(t)
	eventually(t, "the request in the log", func() bool { return strings.Contains(s.readLog(), `"uri":"/unread"`) })
	log := s.readLog()
	if strings.Contains(log, token) || strings.Contains(log, hashOf(token)) {
		t.Error("the token or its hash is in the log")
	}
	for line := range strings.SplitSeq(log, "\n") {
		if strings.Contains(line, `"uri":"/unread"`) && strings.Contains(line, `"http.log.access`) && (strings.Contains(line, id) || strings.Contains(line, "alice")) {
			t.Errorf("a request that did not need the session loaded it for the log: %s", line)
		}
	}
}
