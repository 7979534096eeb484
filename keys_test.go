package caddysession_test

import (
	"database/sql"
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	caddysession "github.com/caddy-session/caddy-session"
)

const (
	firstSecret  = "a secret of 32 characters, least" // it may have no fewer
	secondSecret = "another secret of more than thirty-two characters"
)

// keysConfig is a site whose sessions have a principal, with what is given for keys.
func keysConfig(keys string) string {
	return `
$SITE {
	session {
		principal user
		` + keys + `
	}
	handle /login {
		session_edit put user {query.user}
	}
	handle /visit {
		session_edit increment visits
		respond "{http.session.data.visits}"
	}
	handle /others {
		session_edit destroy_others
	}
	handle {
		respond "user={http.session.data.user} visits={http.session.data.visits}"
	}
}`
}

func TestKeys_signTheCookieAndSealTheRow(t *testing.T) {
	withSecrets(t)
	s := start(t, keysConfig("keys {env.SESSION_TEST_FIRST}"))
	v := s.visitor()
	cookie := v.get("/login?user=alice").cookie(t)
	if len(cookie.Value) != 70 {
		t.Errorf("the cookie's value has %d characters, want 70", len(cookie.Value))
	}
	v.get("/visit").want(t, http.StatusOK, "1")
	v.get("/").want(t, http.StatusOK, "user=alice visits=1")
	r := s.table().only()
	if strings.Contains(r.data, "alice") || strings.Contains(r.data, "{") && strings.Contains(r.data, "visits") {
		t.Errorf("the row shows values: %q", r.data)
	}
	raw, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	if err != nil {
		t.Fatal(err)
	}
	if token := base64.RawURLEncoding.EncodeToString(raw[4:36]); r.token == hashOf(token) {
		t.Error("the token's hash needs no key")
	}
	var principal string
	if err := s.table().db.QueryRow("SELECT principal FROM sessions").Scan(&principal); err != nil || principal == "alice" {
		t.Errorf("the row's principal is %q (%v)", principal, err)
	}

	other := s.visitor()
	other.get("/login?user=alice")
	v.get("/others").want(t, http.StatusOK, "")
	other.get("/").want(t, http.StatusOK, "user= visits=")
	v.get("/").want(t, http.StatusOK, "user=alice visits=1")

	// From a file it is the same secret, however the line ends.
	file := filepath.Join(s.names["DIR"], "secret")
	if err := os.WriteFile(file, []byte(firstSecret+" \r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.reload(keysConfig("keys {file." + file + "}"))
	v.get("/").want(t, http.StatusOK, "user=alice visits=1")
	if log := s.readLog(); strings.Contains(log, firstSecret) || strings.Contains(log, cookie.Value) {
		t.Error("the log shows a secret")
	}
}

// withSecrets puts the secrets where the Caddyfiles look for them.
func withSecrets(t *testing.T) {
	t.Helper()
	t.Setenv("SESSION_TEST_FIRST", firstSecret)
	t.Setenv("SESSION_TEST_SECOND", secondSecret)
}

func TestKeys_rotate(t *testing.T) {
	withSecrets(t)
	s := start(t, keysConfig("keys {env.SESSION_TEST_FIRST}"))
	v, late := s.visitor(), s.visitor()
	v.get("/login?user=alice")
	old := late.get("/login?user=bob").cookie(t).Value

	s.reload(keysConfig("keys {env.SESSION_TEST_SECOND} {env.SESSION_TEST_FIRST}"))
	if a := v.get("/"); a.body != "user=alice visits=" || a.Header["Set-Cookie"] != nil {
		t.Errorf("read under the old key: %q, cookies %q", a.body, a.Header["Set-Cookie"])
	}
	v.get("/visit").cookie(t) // given out anew with the first save
	v.get("/").want(t, http.StatusOK, "user=alice visits=1")
	late.get("/").want(t, http.StatusOK, "user=bob visits=")

	s.reload(keysConfig("keys {env.SESSION_TEST_SECOND}"))
	v.get("/").want(t, http.StatusOK, "user=alice visits=1")
	if a := late.get("/", "Cookie", "session="+old); a.body != "user= visits=" || a.Header["Set-Cookie"] != nil {
		t.Errorf("a cookie under a dropped key: %q, cookies %q", a.body, a.Header["Set-Cookie"])
	}
	s.logged("issued under a key which is not configured")

	s.reload(keysConfig("")) // a sealed row is nobody's where there are no keys any more
	v.get("/").want(t, http.StatusOK, "user= visits=")
}

// One site says who the user is, another one on the same sessions does not.
const twoKeySites = `
{
	session {
		keys $KEYS
	}
}
$SITE {
	session {
		principal account.name
	}
	handle /login {
		session_edit put_json account "{\"name\": \"{query.user}\", \"seats\": [1, 2]}"
		respond {http.session.id}
	}
	handle /others {
		session_edit destroy_others
	}
	handle {
		respond {http.session.data.account.name}
	}
}
$SITE2 {
	session
	handle /visit {
		session_edit increment visits
	}
	handle /renew {
		session_edit renew
	}
	handle {
		respond {http.session.data.account.name}
	}
}`

func TestKeys_thePrincipalMovesAlongWithoutThatOption(t *testing.T) {
	withSecrets(t)
	for name, c := range map[string]struct{ before, during, path string }{
		"a save":      {"keys {env.SESSION_TEST_FIRST}", "keys {env.SESSION_TEST_SECOND} {env.SESSION_TEST_FIRST}", "$SITE2/visit"},
		"a renewal":   {"keys {env.SESSION_TEST_FIRST}", "keys {env.SESSION_TEST_SECOND} {env.SESSION_TEST_FIRST}", "$SITE2/renew"},
		"from no key": {"", "keys {env.SESSION_TEST_SECOND} {\n plain_until 2099-01-01\n}", "$SITE2/"},
	} {
		t.Run(name, func(t *testing.T) {
			with := func(keys string) string { return strings.Replace(twoKeySites, "keys $KEYS", keys, 1) }
			s := startWithAdmin(t, with(c.before))
			v, id := s.signIn("alice")
			second, _ := s.signIn("alice")
			s.signIn("bob")
			s.reload(with(c.during))
			for _, v := range []*visitor{v, second} {
				v.get(c.path).cookie(t)
			}

			s.reload(with("keys {env.SESSION_TEST_SECOND}"))
			v.get("/").want(t, http.StatusOK, "alice")
			list := adminInto[caddysession.ListResult](s, http.MethodGet, "/session/sessions?principal=alice").Sessions
			if len(list) != 2 || list[0].ID != id && list[1].ID != id || list[0].Principal != "alice" {
				t.Errorf("the sessions of alice are %+v", list)
			}
			v.get("/others").want(t, http.StatusOK, "")
			second.get("/").want(t, http.StatusOK, "")
			if n := adminInto[caddysession.RevokeResult](s, http.MethodDelete, "/session/sessions?principal=alice").Revoked; n != 1 {
				t.Errorf("%d sessions of alice are revoked, want 1", n)
			}
			v.get("$SITE2/").want(t, http.StatusOK, "")
		})
	}
}

func TestKeys_takeOverPlainSessions(t *testing.T) {
	withSecrets(t)
	s := start(t, keysConfig(""))
	v, second := s.visitor(), s.visitor()
	plain := v.get("/login?user=alice").cookie(t)
	second.get("/login?user=bob")
	stolen := s.visitor().withoutJar()

	until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	s.reload(keysConfig("keys {env.SESSION_TEST_FIRST} {\n plain_until " + until + "\n}"))
	a := v.get("/")
	a.want(t, http.StatusOK, "user=alice visits=")
	if sealed := a.cookie(t); len(sealed.Value) != 70 {
		t.Errorf("the new cookie is %q", sealed.Value)
	}
	v.get("/visit").want(t, http.StatusOK, "1")
	stolen.get("/", "Cookie", "session="+plain.Value).want(t, http.StatusOK, "user=alice visits=1") // in its grace
	s.logged("sessions from before keys are accepted for now")

	s.reload(keysConfig("keys {env.SESSION_TEST_FIRST}"))
	v.get("/").want(t, http.StatusOK, "user=alice visits=1")
	if a := second.get("/"); a.body != "user= visits=" || a.Header["Set-Cookie"] != nil {
		t.Errorf("a plain cookie without plain_until: %q, cookies %q", a.body, a.Header["Set-Cookie"])
	}
}

// Keys that end everybody's session say so: once, with how many requests it was
// about, and with nothing of their cookies.
func TestKeys_tellOfPlainCookies(t *testing.T) {
	withSecrets(t)
	s := start(t, keysConfig(""))
	v := s.visitor()
	cookie := v.get("/login?user=alice").cookie(t).Value

	s.reload(keysConfig("keys {env.SESSION_TEST_FIRST}"))
	for range 3 {
		v.get("/").want(t, http.StatusOK, "user= visits=")
	}
	s.logged("session cookies from before there were keys arrive")
	s.logged(`"cookie":"session","requests":1}`)
	log := s.readLog()
	if n := strings.Count(log, "from before there were keys arrive"); n != 1 {
		t.Errorf("it is logged %d times", n)
	}
	if strings.Contains(log, cookie) {
		t.Error("the log shows a cookie")
	}
}

// Whoever can write to the database can move no row to another session.
func TestKeys_refuseRowsThatWereMoved(t *testing.T) {
	withSecrets(t)
	config := keysConfig("keys {env.SESSION_TEST_FIRST}")
	for name, change := range map[string]string{
		"data swapped":         `CREATE TEMP TABLE o AS SELECT * FROM sessions; UPDATE sessions SET data=(SELECT o.data FROM o WHERE o.id<>sessions.id)`,
		"ids swapped":          `CREATE TEMP TABLE o AS SELECT * FROM sessions; UPDATE sessions SET id=(SELECT o.id FROM o WHERE o.id<>sessions.id)`,
		"version":              `UPDATE sessions SET version=version+1`,
		"made plain":           `UPDATE sessions SET data=CAST('{"deadline":"2099-01-01T00:00:00Z","values":{"user":"root"}}' AS BLOB)`,
		"truncated":            `UPDATE sessions SET data=substr(data,1,30)`,
		"alias":                `UPDATE sessions SET superseded=expiry-1,data=x'',alias=(SELECT o.token FROM sessions o WHERE o.id<>sessions.id) WHERE id=(SELECT min(id) FROM sessions)`,
		"alias without a time": `UPDATE sessions SET data=x'',alias=(SELECT o.token FROM sessions o WHERE o.id<>sessions.id) WHERE id=(SELECT min(id) FROM sessions)`,
		"alias of the year 1":  `UPDATE sessions SET superseded=1721425.5,data=x'',alias=(SELECT o.token FROM sessions o WHERE o.id<>sessions.id) WHERE id=(SELECT min(id) FROM sessions)`,
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, config)
			a, b := s.visitor(), s.visitor()
			a.get("/login?user=alice")
			b.get("/login?user=bob")
			if err := caddy.Stop(); err != nil {
				t.Fatal(err)
			}
			db, err := sql.Open("sqlite", s.file())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec(change); err != nil {
				t.Fatal(err)
			}
			db.Close()
			s.reload(config)
			for who, v := range map[string]*visitor{"alice": a, "bob": b} {
				switch body := v.get("/").body; {
				case body == "user= visits=":
				case strings.HasPrefix(name, "alias") && body == "user="+who+" visits=": // one of them is whole
				default:
					t.Errorf("%s sees %s", who, body)
				}
			}
		})
	}
}

// What a token was good for before a login it is not good for afterwards, even
// if whoever can write to the database has it lead there.
func TestKeys_olderTokensEndWithALogin(t *testing.T) {
	withSecrets(t)
	wait, waiting, goOn := newWait(t)
	config := func(keys string) string {
		slow := "handle /slow {\n\t\troute {\n\t\t\tsession_edit put user {query.user}\n\t\t\tin_go $WAIT\n\t\t}\n\t}\n\thandle /others {"
		return strings.Replace(keysConfig(keys), "handle /others {", slow, 1)
	}
	for name, login := range map[string]func(s *server, v *visitor) *answer{
		"alone": func(_ *server, v *visitor) *answer { return v.get("/login?user=alice") },
		"during another change": func(s *server, v *visitor) *answer {
			return s.whileWaiting(v, "/slow?user=alice", waiting, goOn, func() { v.get("/visit") })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, config("keys {env.SESSION_TEST_FIRST}"), "WAIT", wait)
			v := s.visitor()
			before := v.get("/visit").cookie(t).Value
			s.reload(config("keys {env.SESSION_TEST_SECOND} {env.SESSION_TEST_FIRST}"))
			v.get("/visit").cookie(t) // another token, to which the older one leads
			login(s, v).cookie(t)
			s.alter("UPDATE sessions SET alias=(SELECT token FROM sessions WHERE superseded IS NULL),expiry=9e6 WHERE alias<>''")
			s.visitor().withoutJar().get("/", "Cookie", "session="+before).want(t, http.StatusOK, "user= visits=")
			if body := v.get("/").body; !strings.HasPrefix(body, "user=alice visits=") {
				t.Errorf("whoever has signed in sees %s", body)
			}
		})
	}
}

// Nor does a change that is made with an older token find its way into what the
// session became, if the database says that the older row is still good.
func TestKeys_olderTokensMergeIntoNothing(t *testing.T) {
	withSecrets(t)
	s := start(t, `
$SITE {
	session {
		keys {env.SESSION_TEST_FIRST}
	}
	handle /visit {
		session_edit increment visits
	}
	handle /login {
		session_edit {
			renew
			put user alice
		}
	}
	handle /renew {
		session_edit renew
	}
	handle {
		respond "user={http.session.data.user} visits={http.session.data.visits}"
	}
}`)
	v, mallory := s.visitor(), s.visitor()
	before := v.get("/visit").cookie(t).Value
	v.get("/login").cookie(t)
	s.alter("UPDATE sessions SET superseded=NULL,rights=0,expiry=9e6")
	s.alter("CREATE TRIGGER stays BEFORE UPDATE ON sessions WHEN NEW.superseded IS NOT NULL AND OLD.version=1 BEGIN SELECT RAISE(IGNORE); END")
	s.alter("CREATE TRIGGER goes AFTER UPDATE ON sessions WHEN NEW.superseded IS NOT NULL AND OLD.version=2 BEGIN DELETE FROM sessions WHERE version=1; END")
	mallory.get("/renew", "Cookie", "session="+before).want(t, http.StatusOK, "")
	mallory.get("/").want(t, http.StatusOK, "user= visits=1") // a session of her own, of what she could read
	v.get("/").want(t, http.StatusOK, "user=alice visits=1")
}

// When a session ends at the latest, and whose it is, are sealed with it: whoever
// can write to the database changes neither.
func TestKeys_winOverTheColumns(t *testing.T) {
	withSecrets(t)
	s := start(t, strings.NewReplacer(
		"handle /others {", "handle /sessions {\n\t\tsession_devices\n\t}\n\thandle /others {",
		"session_edit put user {query.user}", "session_edit put user {query.user}\n\t\trespond {http.session.id}",
	).Replace(keysConfig("keys {env.SESSION_TEST_FIRST}\n\t\tlifetime 2s")))
	v, mallory := s.visitor(), s.visitor().withoutJar() // no browser that forgets the cookie
	v.get("/login?user=alice")
	login := mallory.get("/login?user=mallory")
	id, cookie := login.body, login.cookie(t)
	s.alter("UPDATE sessions SET expiry=9e6,principal=(SELECT max(principal) FROM sessions WHERE id<>?) WHERE id=?", id, id)
	if a := v.get("/sessions", "Accept", "application/json"); strings.Contains(a.body, id) || strings.Count(a.body, `"id"`) != 1 {
		t.Errorf("the sessions of alice are %d %s", a.StatusCode, a.body)
	}
	eventually(t, "the lifetime to end", func() bool {
		return mallory.get("/", "Cookie", cookie.Name+"="+cookie.Value).body == "user= visits="
	})
}
