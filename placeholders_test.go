package caddysession_test

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func TestPlaceholders_whereCaddyReplacesThem(t *testing.T) {
	app := newApplication(t, nil)
	s := start(t, `
$SITE {
	log {
		output file $DIR/access.log
	}
	session
	handle /put {
		in_go $CODE
	}
	vars user {http.session.data.user}
	map {http.session.data.role} {may} {
		editor write
		default read
	}
	log_append role {http.session.data.role}
	redir /redir /of/{http.session.data.user}
	handle /respond {
		respond {http.session.data.user}
	}
	handle /vars {
		respond {vars.user}
	}
	handle /map {
		respond {may}
	}
	handle /proxy {
		reverse_proxy $APP {
			header_up X-User {http.session.data.user}
			header_up X-Cart {http.session.data.cart}
		}
	}
	handle /header {
		header X-User {http.session.data.user}
		respond ok
	}
	handle /templates {
		templates {
			mime text/plain
		}
		header Content-Type text/plain
		respond "{{placeholder \"http.session.data.user\"}} and {{placeholder \"http.session.data.address.city\"}}."
	}
	handle /kinds {
		respond "{http.session.data.n} {http.session.data.f} {http.session.data.on} {http.session.data.cart} {http.session.data.address} {http.session.data.address.city} [{http.session.data.none}] [{http.session.data.nothing}] [{http.session.data.__created}]"
	}
	handle /others {
		in_go $PROVIDES
		respond "{session.theirs} {http.session.theirs}"
	}
	handle /misspelt {
		respond {http.session.user}
	}
	handle /about {
		respond "{http.session.id} {http.session.is_new} {http.session.created} {http.session.expires}"
	}
	handle /file/* {
		root $DIR/{http.session.data.user}
		file_server
	}
}
$SITE2 {
	vars user {http.session.data.user}
	map {http.session.data.user} {may} {
		"" nothing
		default something
	}
	handle /proxy {
		reverse_proxy $APP {
			header_up X-User {http.session.data.user}
		}
	}
	handle {
		templates {
			mime text/plain
		}
		header Content-Type text/plain
		respond "{vars.user}, {may}, {{placeholder \"http.session.data.user\"}}"
	}
}`, "APP", app.address(), "CODE", puts(t), "PROVIDES", inGo(t, func(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
		r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Map(func(name string) (any, bool) {
			return "of another module", strings.HasSuffix(name, "session.theirs")
		})
		return next.ServeHTTP(w, r)
	}))
	if err := os.MkdirAll(filepath.Join(s.names["DIR"], "alice", "file"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.names["DIR"], "alice", "file", "a.txt"), []byte("of alice"), 0o600); err != nil {
		t.Fatal(err)
	}
	v := s.visitor()
	v.get("/respond").want(t, http.StatusOK, "")
	v.get("/map").want(t, http.StatusOK, "read")
	v.get("/about").want(t, http.StatusOK, " true  ")
	s.table().wantRows(0)

	before := time.Now().Add(-time.Second)
	v.put(`{"user":"alice","role":"editor","n":9007199254740993,"f":0.5,"on":false,"cart":["a",{"b":"c"}],"address":{"city":"Köln"},"nothing":null}`)
	v.get("/respond").want(t, http.StatusOK, "alice")
	v.get("/vars").want(t, http.StatusOK, "alice")
	v.get("/map").want(t, http.StatusOK, "write")
	v.get("/templates").want(t, http.StatusOK, "alice and Köln.")
	v.get("/file/a.txt").want(t, http.StatusOK, "of alice")
	v.get("/kinds").want(t, http.StatusOK, `9007199254740993 0.5 false ["a",{"b":"c"}] {"city":"Köln"} Köln [] [] []`)
	if to := v.get("/redir").Header.Get("Location"); to != "/of/alice" {
		t.Errorf("redir leads to %q", to)
	}
	if user := v.get("/header").Header.Get("X-User"); user != "alice" {
		t.Errorf("the header is %q", user)
	}
	v.get("/proxy").want(t, http.StatusOK, "app")
	if h := app.last(t).Header; h.Get("X-User") != "alice" || h.Get("X-Cart") != `["a",{"b":"c"}]` {
		t.Errorf("the application is sent %v", h)
	}

	v.get("$SITE2/").want(t, http.StatusOK, ", nothing, ") // where no session encloses them
	v.get("$SITE2/proxy").want(t, http.StatusOK, "app")
	if user := app.last(t).Header.Get("X-User"); user != "{http.session.data.user}" {
		t.Errorf("without a session the application is sent %q", user)
	}

	v.get("/others").want(t, http.StatusOK, "of another module of another module")
	if strings.Contains(s.readLog(), "there is no such placeholder") {
		t.Error("a placeholder of another module is called misspelt")
	}
	v.get("/misspelt").want(t, http.StatusOK, "{http.session.user}")
	s.logged(`there is no such placeholder`)
	s.logged(`"placeholder":"{http.session.user}"`)

	about := strings.Fields(v.get("/about").body)
	if len(about) != 4 || about[0] != s.table().only().id || about[1] != "false" {
		t.Fatalf("the session is %q", about)
	}
	created, err1 := time.Parse(time.RFC3339, about[2])
	expires, err2 := time.Parse(time.RFC3339, about[3])
	if err1 != nil || err2 != nil || created.Before(before) || expires.Sub(created).Round(time.Minute) != 24*time.Hour {
		t.Errorf("created %s, expires %s", about[2], about[3])
	}

	eventually(t, "the access log", func() bool {
		log, err := os.ReadFile(filepath.Join(s.names["DIR"], "access.log"))
		return err == nil && strings.Contains(string(log), `"session_id":"`+about[0]+`"`) && strings.Contains(string(log), `"role":"editor"`)
	})
}

// In CEL a value has a type: what is absent is as empty as an absent header, or
// `!= ”` would let guests in, and a number compares whether it is whole or not.
func TestPlaceholders_inExpressions(t *testing.T) {
	s := start(t, `
$SITE {
	session
	handle /put {
		in_go $CODE
	}
	handle /user {
		@member expression `+"`{http.session.data.user} != ''`"+`
		@guest expression `+"`{http.session.data.user} == ''`"+`
		respond @member member
		respond @guest guest
		respond neither
	}
	handle /score {
		@good expression `+"`{http.session.data.score} >= 5`"+`
		@poor expression `+"`{http.session.data.score} < 5.0`"+`
		respond @good good
		respond @poor poor
	}
	handle /short {
		@user expression `+"`{session.data.user} == 'alice'`"+`
		respond @user alice
		respond nobody
	}
	handle /guarded {
		@good expression `+"`session('score') && {http.session.data.score} >= 5`"+`
		respond @good good
		respond other
	}
}
$SITE2 {
	@member expression `+"`{http.session.data.user} != ''`"+`
	respond @member "not even empty"
}`, "CODE", puts(t))
	v := s.visitor()
	v.get("/user").want(t, http.StatusOK, "guest")
	v.get("/score").want(t, http.StatusInternalServerError, "") // the empty text is no number
	v.get("/guarded").want(t, http.StatusOK, "other")
	v.get("$SITE2/").want(t, http.StatusOK, "not even empty")
	for values, want := range map[string][2]string{
		`{"user":"alice","score":6}`:   {"member", "good"},
		`{"user":null,"score":5.5}`:    {"guest", "good"},
		`{"user":"alice","score":4.5}`: {"member", "poor"},
		`{"user":"","score":4}`:        {"guest", "poor"},
	} {
		v.put(values)
		v.get("/user").want(t, http.StatusOK, want[0])
		v.get("/score").want(t, http.StatusOK, want[1])
		v.get("/guarded").want(t, http.StatusOK, strings.Replace(want[1], "poor", "other", 1))
	}
	v.get("/short").want(t, http.StatusOK, "nobody")
	s.logged(`"placeholder":"{session.data.user}"`)
}

// Caddy's templates put values into a page as they are; html escapes them.
func TestPlaceholders_areEscapedInTemplates(t *testing.T) {
	s := start(t, `
$SITE {
	session
	handle /login {
		session_edit put user {query.user}
		respond ok
	}
	templates {
		mime text/plain
	}
	respond `+"`{{placeholder \"http.session.data.user\" | html}}`"+`
}`)
	v := s.visitor()
	v.get("/login?user="+url.QueryEscape(`<i title="x">&'`)).want(t, http.StatusOK, "ok")
	v.get("/").want(t, http.StatusOK, "&lt;i title=&#34;x&#34;&gt;&amp;&#39;")
}
