package caddysession_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
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
		"beyond 32 bits":        {`{"n":2147483647}`, "/increment", "||2147483648||"},
		"increment no number":   {`{"n":"x"}`, "/increment", "||1||"},
		"increment a text":      {`{"n":"5"}`, "/increment", "||1||"},
		"decrement":             {`{"n":1}`, "/decrement", "||-2||"},
		"increment the largest": {`{"n":9223372036854775806}`, "/order", "||9223372036854775807||12"},
		"decrement the least":   {`{"n":-9223372036854775807}`, "/decrement", "||-9223372036854775808||"},
		"increment unsigned":    {`{"n":18446744073709551614}`, "/order", "||18446744073709551615||12"},
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
	handle /nobody {
		session_edit put user {http.auth.user.id}
	}
	handle /nowhere {
		session_edit {
			put user al
			redir /of/{http.auth.user.name}
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

	const nothing = "session_edit puts nothing in the place of a placeholder"
	if strings.Contains(s.readLog(), nothing) {
		t.Error("the log does not know what was put")
	}
	v.get("/nobody").cookie(t)
	s.logged(nothing)
	s.logged("{http.auth.user.id}")
	if to := v.get("/nowhere").Header.Get("Location"); to != "/of/" {
		t.Errorf("redir leads to %q", to)
	}
	s.logged("{http.auth.user.name}")
}

// To be remembered must not end a session earlier than it would end otherwise.
func TestEdit_rememberLastsAsLongAsALongLifetime(t *testing.T) {
	s := start(t, `
$SITE {
	session {
		persist off
		lifetime 60d
		idle_timeout 10m
	}
	session_edit {
		put user alice
		remember on
	}
}`)
	if c := s.visitor().get("/").cookie(t); c.MaxAge < 59*86400 {
		t.Errorf("the cookie is %v", c)
	}
	if row := s.table().only(); row.expiry < julian(time.Now().Add(59*24*time.Hour)) {
		t.Error("a session that is remembered from the beginning ends when it is idle")
	}
}

func TestEdit_rememberOutlivesTheBrowser(t *testing.T) {
	s := start(t, `
$SITE {
	session {
		persist off
		lifetime 1h
		idle_timeout 10m
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
	handle /renew {
		session_edit renew
	}
}`)
	v := s.visitor()
	lasts := func(what string, want time.Duration) {
		t.Helper()
		expires := time.Duration((s.table().only().expiry - julian(time.Now())) * float64(24*time.Hour))
		if d := (expires - want).Abs(); d > time.Minute {
			t.Errorf("%s the session lasts for another %v without use, want %v", what, expires, want)
		}
	}
	if c := v.get("/login").cookie(t); c.MaxAge != 0 || !c.Expires.IsZero() {
		t.Errorf("without remember the cookie is %v", c)
	}
	lasts("without remember", 10*time.Minute)
	if c := v.get("/remember").cookie(t); c.MaxAge < 29*86400 {
		t.Errorf("with remember the cookie is %v", c)
	}
	lasts("with remember", 30*24*time.Hour)
	changesNothing := func(path string) {
		t.Helper()
		before, a := s.table().only(), v.get(path)
		if after := s.table().only(); after != before || len(a.Cookies()) > 0 {
			t.Errorf("once more %s makes %+v of %+v, and sets %v", path, after, before, a.Cookies())
		}
	}
	changesNothing("/remember")
	if c := v.get("/renew").cookie(t); c.MaxAge < 29*86400 {
		t.Errorf("renewed with remember the cookie is %v", c)
	}
	lasts("renewed with remember", 30*24*time.Hour)
	if c := v.get("/forget").cookie(t); c.MaxAge != 0 {
		t.Errorf("when forgotten the cookie is %v", c)
	}
	lasts("when forgotten", 10*time.Minute)
	changesNothing("/forget")
}

// That another request stored something first takes nothing of the time away.
func TestEdit_rememberHoldsAfterALostRace(t *testing.T) {
	wait, waiting, goOn := newWait(t)
	s := start(t, `
$SITE {
	session {
		idle_timeout 1h
	}
	handle /put {
		session_edit put user {query.user}
	}
	handle /remember {
		session_edit remember on
		in_go $WAIT
	}
	handle /remembered {
		session_edit remember on
	}
	handle /forgotten {
		session_edit remember off
	}
	handle /renew {
		session_edit renew
		in_go $WAIT
	}
	handle /wait {
		in_go $WAIT
	}
	respond "{http.session.data.user} {http.session.expires}"
}`, "WAIT", wait)
	days := func(v *visitor, want string) int {
		t.Helper()
		user, expires, _ := strings.Cut(v.get("/").body, " ")
		ends, err := time.Parse(time.RFC3339, expires)
		if user != want || err != nil {
			t.Errorf("the session of %s ends %s (%v)", user, expires, err)
		}
		return int(time.Until(ends).Hours() / 24)
	}
	holds := func(v *visitor, want string) {
		t.Helper()
		if left := days(v, want); left < 29 {
			t.Errorf("the session of %s ends in %d days", want, left)
		}
	}
	v := s.visitor()
	v.get("/put?user=alice")
	a := s.whileWaiting(v, "/remember", waiting, goOn, func() { v.get("/put?user=bob") })
	if c := a.cookie(t); c.MaxAge < 29*86400 {
		t.Errorf("the cookie is %v", c)
	}
	holds(v, "bob")

	// Nor does who loses it to the mark take that back.
	other := s.visitor()
	other.get("/put?user=carol")
	s.whileWaiting(other, "/wait", waiting, goOn, func() { other.get("/remembered").cookie(t) })
	var left float64
	err := s.table().db.QueryRow("SELECT min(expiry - julianday('now')) FROM sessions").Scan(&left)
	if err != nil || left < 29 {
		t.Errorf("a row ends in %v days (%v)", left, err)
	}
	holds(other, "carol")

	// Nor who begins its lifetime anew, as a login does, be it marked or not.
	s.whileWaiting(other, "/renew", waiting, goOn, func() { other.get("/forgotten").cookie(t) }).cookie(t)
	if left := days(other, "carol"); left > 1 {
		t.Errorf("forgotten beside a renewal the session ends in %d days", left)
	}
	a = s.whileWaiting(other, "/renew", waiting, goOn, func() { other.get("/remembered").cookie(t) })
	if c := a.cookie(t); c.MaxAge < 29*86400 {
		t.Errorf("remembered beside a renewal the cookie is %v", c)
	}
	holds(other, "carol")
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
