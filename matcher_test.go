package caddysession_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestMatcher_matchesValuesOfTheSession(t *testing.T) {
	matchers := map[string]string{
		"key":          `session user`,
		"other":        `session nobody`,
		"null":         `session nothing`,
		"value":        `session role admin editor`,
		"wrong":        `session role admin owner`,
		"number":       `session n 9007199254740993`,
		"float":        `session f 0.5`,
		"switch":       `session on true`,
		"path":         `session address.city Köln`,
		"path wrong":   `session address.city Bonn`,
		"path absent":  `session address.street`,
		"dotted key":   `session a.b c`,
		"list":         `session groups staff`,
		"list wrong":   `session groups guests`,
		"placeholder":  `session user {query.name}`,
		"reserved key": `session created`,
		"two lines": `{
			session user alice
			session role editor
		}`,
		"two lines, one wrong": `{
			session user alice
			session role admin
		}`,
		"not":                   `not session user`,
		"not other":             `not session nobody`,
		"CEL key":               "expression `session('user')`",
		"CEL value":             "expression `session('role', 'admin', 'editor')`",
		"CEL wrong":             "expression `session('role', 'admin')`",
		"CEL not":               "expression `!session('nobody')`",
		"CEL and":               "expression `session('user', 'alice') && {method} == 'GET'`",
		"CEL placeholder":       "expression `{http.session.data.role} == 'editor'`",
		"CEL placeholder wrong": "expression `{http.session.data.role} == 'admin'`",
	}
	members := map[string]bool{
		"key": true, "value": true, "number": true, "float": true, "switch": true, "path": true, "dotted key": true,
		"list": true, "placeholder": true, "two lines": true, "not other": true,
		"CEL key": true, "CEL value": true, "CEL not": true, "CEL and": true, "CEL placeholder": true, "null": true,
	}
	guests := map[string]bool{"not": true, "not other": true, "CEL not": true}

	var site strings.Builder
	site.WriteString("$SITE {\n session\n handle /put {\n in_go $CODE\n }\n")
	path := func(name string) string { return "/" + strings.NewReplacer(" ", "-", ",", "").Replace(name) }
	for name, matcher := range matchers {
		named := "@" + path(name)[1:]
		site.WriteString(named + " " + matcher + "\n handle " + path(name) + " {\n respond " + named + " yes\n respond no\n }\n")
	}
	site.WriteString("}")
	s := start(t, site.String(), "CODE", puts(t))
	guest, member := s.visitor(), s.visitor()
	member.put(`{"user":"alice","role":"editor","n":9007199254740993,"f":0.5,"on":true,"address":{"city":"Köln"},"a.b":"c","groups":["staff","press"],"nothing":null}`)
	answers := map[bool]string{true: "yes", false: "no"}
	for name := range matchers {
		t.Run(name, func(t *testing.T) {
			member.get(path(name)+"?name=alice").want(t, http.StatusOK, answers[members[name]])
			guest.get(path(name)+"?name=").want(t, http.StatusOK, answers[guests[name]])
		})
	}
	s.table().wantRows(1)
}

// What a visitor sends is a text, with braces too: a name that is asked for must
// not be whatever the session or the environment has.
func TestMatcher_takesWhatAVisitorSendsAsItIs(t *testing.T) {
	t.Setenv("SESSION_TEST_STATE", "secret")
	s := start(t, `
$SITE {
	session
	session_edit /put put state secret
	@cel expression session('state', {query.state})
	@joined expression session('state', 'sec' + {query.state})
	@matcher session state {query.state}
	handle /cel {
		respond @cel yes
		respond no
	}
	handle /joined {
		respond @joined yes
		respond no
	}
	handle /matcher {
		respond @matcher yes
		respond no
	}
}`)
	v := s.visitor()
	v.get("/put")
	for path, right := range map[string]string{"/cel": "secret", "/joined": "ret", "/matcher": "secret"} {
		v.get(path+"?state="+right).want(t, http.StatusOK, "yes")
		for _, forged := range []string{"{http.session.data.state}", "{env.SESSION_TEST_STATE}", ""} {
			v.get(path+"?state="+url.QueryEscape(forged)).want(t, http.StatusOK, "no")
		}
	}
}

// noSession is what is wrong with a configuration that asks where there is no session.
func noSession(what string) string {
	return "no `session` encloses this " + what + ": put `session` before it, in handle_errors too"
}

func TestMatcher_withoutASessionIsAMistakeAndNoGuest(t *testing.T) {
	s := start(t, `
$SITE {
	@member session user
	@guest not session user
	handle /match {
		respond @member member
		respond guest
	}
	handle /not {
		respond @guest guest
		respond member
	}
	handle /auth {
		session_auth user
		respond member
	}
	handle /csrf {
		session_csrf
		respond fine
	}
	handle /edit {
		session_edit put user mallory
		respond done
	}
	handle_errors {
		respond "{err.status_code} {err.message}"
	}
}

$SITE2 {
	@cel expression session('user')
	respond @cel member
	respond guest
}`)
	for path, what := range map[string]string{
		"/match": "session matcher", "/not": "session matcher", "/edit": "session_edit", "/csrf": "session_csrf",
	} {
		a := s.visitor().do(http.MethodPost, path)
		a.want(t, http.StatusInternalServerError, "500 "+noSession(what))
	}
	if a := s.visitor().get("/auth"); a.StatusCode != http.StatusInternalServerError || a.body == "member" {
		t.Errorf("session_auth without a session answers %d %q", a.StatusCode, a.body)
	}
	if a := s.visitor().get("$SITE2/"); a.StatusCode != http.StatusInternalServerError || a.body != "" {
		t.Errorf("session() in CEL without a session answers %d %q", a.StatusCode, a.body)
	}
	s.logged(noSession("session_auth"))
}

func TestMatcher_inHandleErrorsNeedsASessionThere(t *testing.T) {
	s := start(t, `
$SITE {
	session
	handle /login {
		session_edit put user alice
		respond hello
	}
	error /fails* 404
	@member session user
	handle_errors {
		session
		handle @member {
			respond "404 for {http.session.data.user}"
		}
		respond "404 for a guest"
	}
}

$SITE2 {
	session
	error 404
	@member session user
	handle_errors {
		respond @member member
		respond guest
	}
}`)
	v := s.visitor()
	v.get("/fails").want(t, http.StatusNotFound, "404 for a guest")
	v.get("/login").want(t, http.StatusOK, "hello")
	v.get("/fails").want(t, http.StatusNotFound, "404 for alice")

	if a := v.get("$SITE2/"); a.StatusCode != http.StatusNotFound || a.body != "" {
		t.Errorf("a matcher in handle_errors without a session there answers %d %q", a.StatusCode, a.body)
	}
	s.logged(noSession("session matcher"))
}

func TestMatcher_ofJSONThatMatchesEverybodyIsRefused(t *testing.T) {
	for _, matcher := range []string{`{}`, `{"values":{}}`, `{"values":null}`} {
		err := validate(t, `{"handler":"subroute","routes":[{"match":[{"session":`+matcher+`}],"handle":[{"handler":"static_response"}]}]}`)
		if err == nil || !strings.Contains(err.Error(), "the session matcher takes a key") {
			t.Errorf("%s: the error is %v", matcher, err)
		}
	}
}
