package caddysession_test

import (
	"net/http"
	"testing"
)

func TestEdit_operations(t *testing.T) {
	s := start(t, `
$SITE {
	session
	handle /put {
		in_go $CODE
	}
	handle /one-line {
		session_edit put user {query.user}
	}
	handle /json {
		session_edit put_json who `+"`"+`{"name":"{query.name}","tags":["{query.tag}",1,true,null],"exact":9223372036854775807}`+"`"+`
	}
	handle /json-text {
		session_edit put_json who "\"{query.name}\""
	}
	handle /increment {
		session_edit increment n
	}
	handle /decrement {
		session_edit increment n -3
	}
	handle /remove {
		session_edit remove a b never
	}
	handle /dots {
		session_edit {
			remove a.b
			put who.name {http.session.data.a.b}
			increment a.n
		}
	}
	handle /clear {
		session_edit {
			clear
			put user again
		}
	}
	handle /order {
		session_edit {
			put a 1
			put b {http.session.data.a}2
			remove a
			increment n 2
			increment n 3
		}
	}
	handle {
		respond "{http.session.data.user}|{http.session.data.who}|{http.session.data.n}|{http.session.data.a}|{http.session.data.b}"
	}
}`, "CODE", puts(t))
	for name, test := range map[string]struct{ before, path, want string }{
		"one line":              {``, "/one-line?user=alice", "alice||||"},
		"a placeholder is text": {``, "/one-line?user=" + escape(`{"a":1} {http.request.host}`), `{"a":1} {http.request.host}||||`},
		"absent is empty":       {``, "/one-line", "||||"},
		"json":                  {``, "/json?name=alice&tag=x", `|{"exact":9223372036854775807,"name":"alice","tags":["x",1,true,null]}|||`},
		"json cannot break out": {``, "/json?name=" + escape(`","admin":"yes`) + "&tag=" + escape(`"],[`), `|{"exact":9223372036854775807,"name":"\",\"admin\":\"yes","tags":["\"],[",1,true,null]}|||`},
		"json text":             {``, "/json-text?name=alice", `|alice|||`},
		"increment from none":   {``, "/increment", "||1||"},
		"increment":             {`{"n":41}`, "/increment", "||42||"},
		"increment exactly":     {`{"n":9007199254740993}`, "/increment", "||9007199254740994||"},
		"increment no number":   {`{"n":"x"}`, "/increment", "||1||"},
		"decrement":             {`{"n":1}`, "/decrement", "||-2||"},
		"remove":                {`{"user":"u","a":1,"b":2}`, "/remove", "u||||"},
		"dots are of the key":   {`{"a":{"b":"in","n":4},"who":{"name":"x"}}`, "/dots", `|{"name":"x"}||{"b":"in","n":4}|`},
		"clear":                 {`{"user":"u","a":1,"b":2}`, "/clear", "again||||"},
		"in order":              {`{"n":1}`, "/order", "||6||12"},
	} {
		t.Run(name, func(t *testing.T) {
			v := s.visitorWith(t)
			if test.before != "" {
				v.put(test.before)
			}
			v.get(test.path).want(t, http.StatusOK, "")
			v.get("/").want(t, http.StatusOK, test.want)
		})
	}
}

func TestEdit_loginRenewsAndLogoutEnds(t *testing.T) {
	s := start(t, `
$SITE {
	session
	redir /old /new
	handle /cart {
		session_edit put cart book
		respond {http.session.id}
	}
	handle /login {
		session_edit {
			renew
			put user {query.user}
			redir /hello/{http.session.data.user}
		}
	}
	handle /logout {
		session_edit {
			destroy
			redir / permanent
		}
	}
	handle /moved {
		session_edit {
			put moved yes
			redir https://example.com/{query.to} 307
		}
	}
	respond "{http.session.id}|{http.session.data.user}|{http.session.data.cart}"
}`)
	v, old := s.visitor(), s.visitor().withoutJar()
	cart := v.get("/cart")
	guest, id := cart.cookie(t).Value, cart.body

	login := v.get("/login?user=alice")
	login.want(t, http.StatusSeeOther, "")
	if to := login.Header.Get("Location"); to != "/hello/alice" {
		t.Errorf("the login leads to %q", to)
	}
	if login.cookie(t).Value == guest {
		t.Error("the login left the token as it was")
	}
	v.get("/").want(t, http.StatusOK, id+"|alice|book")
	old.get("/", "Cookie", "session="+guest).want(t, http.StatusOK, id+"||book")

	if to := v.get("/moved?to=x").Header.Get("Location"); to != "https://example.com/x" {
		t.Errorf("redir leads to %q", to)
	}
	token := v.get("/login?user=bob").cookie(t).Value
	logout := v.get("/logout")
	logout.want(t, http.StatusMovedPermanently, "")
	if c := logout.cookie(t); c.Value != "" || c.MaxAge >= 0 {
		t.Errorf("the logout sets %v", c)
	}
	s.table().wantRows(0)
	old.get("/", "Cookie", "session="+token).want(t, http.StatusOK, "||")
	v.get("/").want(t, http.StatusOK, "||")
}

func TestEdit_rememberOutlivesTheBrowser(t *testing.T) {
	s := start(t, `
$SITE {
	session {
		persist off
		lifetime 1h
		remember_lifetime 30d
	}
	handle /login {
		session_edit {
			put user alice
			remember off
		}
	}
	handle /remember {
		session_edit remember on
	}
	handle /forget {
		session_edit remember off
	}
}`)
	v := s.visitor()
	if c := v.get("/login").cookie(t); c.MaxAge != 0 || !c.Expires.IsZero() {
		t.Errorf("without remember the cookie is %v", c)
	}
	if c := v.get("/remember").cookie(t); c.MaxAge < 29*86400 {
		t.Errorf("with remember the cookie is %v", c)
	}
	if c := v.get("/forget").cookie(t); c.MaxAge != 0 {
		t.Errorf("when forgotten the cookie is %v", c)
	}
}

// A session that nothing is kept of has no id, as it has no row.
func TestEdit_ofNothingNamesNoSession(t *testing.T) {
	s := start(t, `
$SITE {
	session
	session_edit /remove remove cart
	session_edit /remember remember on
	session_edit /cleared {
		put user alice
		clear
	}
	session_edit /ended {
		put user alice
		destroy
	}
	session_edit /begun {
		remove cart
		put user alice
	}
	respond "{http.session.id}"
}`)
	for _, path := range []string{"/remove", "/remember", "/cleared", "/ended"} {
		if id := s.visitor().get(path).body; id != "" {
			t.Errorf("%s: a guest's session has the id %q", path, id)
		}
	}
	if id := s.visitor().get("/begun").body; id != s.table().only().id {
		t.Errorf("a new session says its id is %q", id)
	}
}
