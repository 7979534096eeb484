package caddysession_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	caddysession "github.com/caddy-session/caddy-session"
	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
)

// adminSite is a site whose sessions the admin API looks at.
const adminSite = `
{
	session {
		principal account.name
		$STORE
	}
}
$SITE {
	session
	handle /login {
		session_edit {
			renew
			put_json account "{\"name\": \"{query.user}\"}"
			put cart book
		}
		respond {http.session.id}
	}
	handle /remember {
		session_edit remember on
	}
	handle /renew {
		@known session account
		session_edit @known renew
	}
	handle {
		respond {http.session.data.account.name}
	}
}`

// startWithAdmin runs Caddy with its admin endpoint; the config of a site is
// that of start.
func startWithAdmin(t testing.TB, config string, names ...string) *server {
	t.Helper()
	return start(t, config, append(names, "ADMIN", freeAddress(t))...)
}

// admin makes a request of the admin API.
func (s *server) admin(method, path, body string, headers ...string) *answer {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.names["ADMIN"]+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Add(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return &answer{Response: res, body: string(text)}
}

// adminInto makes a request that succeeds, and reads its answer.
func adminInto[T any](s *server, method, path string) (result T) {
	s.t.Helper()
	a := s.admin(method, path, "")
	if a.StatusCode != http.StatusOK || a.Header.Get("Content-Type") != "application/json" {
		s.t.Fatalf("%s %s: %d %q", method, path, a.StatusCode, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &result); err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return result
}

// signIn begins a session and returns its public id.
func (s *server) signIn(user string) (*visitor, string) {
	s.t.Helper()
	v := s.visitor()
	return v, v.get("/login?user=" + url.QueryEscape(user)).body
}

type stores struct {
	Stores []caddysession.StoreStatus `json:"stores"`
}

func TestAdmin_showsSessions(t *testing.T) {
	s := startWithAdmin(t, adminSite, "STORE", "")
	v, id := s.signIn("alice")
	v.get("/remember")
	_, other := s.signIn("Zoë & <b>")

	all := adminInto[stores](s, http.MethodGet, "/session/stores").Stores
	if len(all) != 1 || all[0].Name != "sessions.db" || all[0].Kind != "embedded" || all[0].File != s.file() || all[0].Table != "sessions" ||
		!all[0].Reachable || all[0].Latency <= 0 || all[0].Error != "" {
		t.Errorf("the stores are %+v", all)
	}
	if count := adminInto[caddysession.CountResult](s, http.MethodGet, "/session/count"); count.Sessions != 2 || len(count.Keys) != 1 || count.Keys[0] != (caddysession.KeyCount{Key: "none", Sessions: 2, Configured: true, First: true}) {
		t.Errorf("the count is %+v", count)
	}

	list := adminInto[caddysession.ListResult](s, http.MethodGet, "/session/sessions")
	if got := idsOf(list); !slices.Equal(got, sorted(id, other)) || list.Next != "" || list.Store != "sessions.db" {
		t.Errorf("the list is %+v", list)
	}
	list = adminInto[caddysession.ListResult](s, http.MethodGet, "/session/sessions?principal=alice")
	if len(list.Sessions) != 1 {
		t.Fatalf("the sessions of alice are %+v", list)
	}
	one := list.Sessions[0]
	if one.ID != id || one.Principal != "alice" || one.Audience != "127.0.0.1" || time.Since(*one.Created) > time.Minute || !one.Remembered || one.Size < 50 || one.Saves < 1 ||
		time.Until(*one.Deadline) < 29*24*time.Hour || !one.Expires.Equal(*one.Deadline) || one.Values != nil || one.Unreadable {
		t.Errorf("the session of alice is %+v", one)
	}

	one = adminInto[caddysession.SessionStatus](s, http.MethodGet, "/session/sessions/"+id)
	if one.Values != nil {
		t.Errorf("values are shown to somebody who did not ask: %s", one.Values)
	}
	one = adminInto[caddysession.SessionStatus](s, http.MethodGet, "/session/sessions/"+id+"?values=1")
	if string(one.Values) != `{"account":{"name":"alice"},"cart":"book"}` {
		t.Errorf("the values are %s", one.Values)
	}

	token, secret := v.token(), s.table()
	for _, path := range []string{"/session/sessions", "/session/sessions?limit=1", "/session/sessions/" + id + "?values=1"} {
		body := s.admin(http.MethodGet, path, "").body
		rows, err := secret.current()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if strings.Contains(body, r.token) {
				t.Errorf("%s shows the hash of a token", path)
			}
			s.visitor().get("/", "Cookie", "session="+r.token).want(t, http.StatusOK, "") // nobody signs in with it
		}
		if strings.Contains(body, token) || strings.Contains(body, `"__`) {
			t.Errorf("%s shows what it must not: %s", path, body)
		}
	}
}

// One row that somebody made does not hide all others.
func TestAdmin_showsSessionsOfAnyYear(t *testing.T) {
	s := startWithAdmin(t, adminSite, "STORE", "")
	for user, change := range map[string]string{
		"expiry":   `expiry=9e8`,
		"deadline": `data=CAST(json_set(CAST(data AS TEXT),'$.deadline','9999-12-31T23:59:59.9999Z') AS BLOB)`,
		"created":  `data=CAST(json_set(CAST(data AS TEXT),'$.values.__created',9223372036854775807) AS BLOB)`,
		"used":     `data=CAST(json_set(CAST(data AS TEXT),'$.values.__used',-9223372036854775807) AS BLOB)`,
	} {
		_, id := s.signIn(user)
		s.alter("UPDATE sessions SET "+change+" WHERE id=?", id)
		if one := adminInto[caddysession.SessionStatus](s, http.MethodGet, "/session/sessions/"+id); one.ID != id || one.Principal != user {
			t.Errorf("the session is %+v", one)
		}
	}
	if list := adminInto[caddysession.ListResult](s, http.MethodGet, "/session/sessions").Sessions; len(list) != 4 {
		t.Errorf("the list is %+v", list)
	}
}

// token is that of the session cookie.
func (v *visitor) token() string {
	v.t.Helper()
	at, err := url.Parse(v.server.url("/"))
	if err != nil {
		v.t.Fatal(err)
	}
	for _, c := range v.http.Jar.Cookies(at) {
		if isSessionCookie(c.Name) {
			return c.Value
		}
	}
	v.t.Fatal("the visitor has no session cookie")
	return ""
}

func idsOf(list caddysession.ListResult) (ids []string) {
	for _, one := range list.Sessions {
		ids = append(ids, one.ID)
	}
	return sorted(ids...)
}

func sorted(ids ...string) []string {
	slices.Sort(ids)
	return ids
}

func TestAdmin_listsPageByPage(t *testing.T) {
	s := startWithAdmin(t, adminSite, "STORE", "")
	var want []string
	for range 7 {
		_, id := s.signIn("alice")
		want = append(want, id)
		s.signIn("bob")
	}
	for _, limit := range []int{1, 2, 7, 8} {
		var got []string
		for after, pages := "", 0; ; pages++ {
			list := adminInto[caddysession.ListResult](s, http.MethodGet, fmt.Sprintf("/session/sessions?principal=alice&limit=%d&after=%s", limit, after))
			if len(list.Sessions) > limit || pages > 8 {
				t.Fatalf("page %d of at most %d has %d sessions", pages, limit, len(list.Sessions))
			}
			got = append(got, idsOf(list)...)
			if after = list.Next; after == "" {
				break
			}
		}
		if !slices.Equal(sorted(got...), sorted(want...)) {
			t.Errorf("pages of %d have the sessions %v, want %v", limit, got, want)
		}
	}
	for from, other := range map[string]string{"": "principal=alice&", "principal=alice&": "", "principal=bob&": "principal=alice&"} {
		next := adminInto[caddysession.ListResult](s, http.MethodGet, "/session/sessions?limit=1&"+from).Next
		if a := s.admin(http.MethodGet, "/session/sessions?"+other+"after="+next, ""); a.StatusCode != http.StatusBadRequest {
			t.Errorf("what a page of %q ends with begins one of %q: %d", from, other, a.StatusCode)
		}
	}

	rows := filepath.Join(t.TempDir(), "rows")
	writeRows(t, rows, 101)
	content, err := os.ReadFile(rows)
	if err != nil {
		t.Fatal(err)
	}
	s.admin(http.MethodPost, "/session/import", string(content))
	if list := adminInto[caddysession.ListResult](s, http.MethodGet, "/session/sessions"); len(list.Sessions) != 100 || list.Next == "" {
		t.Errorf("unless told otherwise a page has %d sessions, want 100", len(list.Sessions))
	}
}

func TestAdmin_endsSessions(t *testing.T) {
	s := startWithAdmin(t, adminSite, "STORE", "")
	revoked := func(path string, n int) {
		t.Helper()
		if got := adminInto[caddysession.RevokeResult](s, http.MethodDelete, path); got.Revoked != n || got.Store != "sessions.db" {
			t.Fatalf("DELETE %s: %+v, want %d", path, got, n)
		}
	}
	one, id := s.signIn("alice")
	two, _ := s.signIn("alice")
	three, _ := s.signIn("alice")
	bob, bobs := s.signIn("bob")

	// Each has just been read, so this Caddy's cache has it.
	for _, v := range []*visitor{one, two, three} {
		v.get("/").want(t, http.StatusOK, "alice")
	}
	revoked("/session/sessions/"+id, 1)
	one.get("/").want(t, http.StatusOK, "")
	two.get("/").want(t, http.StatusOK, "alice")
	if a := s.admin(http.MethodDelete, "/session/sessions/"+id, ""); a.StatusCode != http.StatusNotFound {
		t.Errorf("ending it again is answered %d", a.StatusCode)
	}
	revoked("/session/sessions?principal=alice", 2)
	two.get("/").want(t, http.StatusOK, "")
	three.get("/").want(t, http.StatusOK, "")
	revoked("/session/sessions?principal=alice", 0)

	for _, query := range []string{"", "?all=0", "?all=yes-please", "?all=1&principal=bob", "?principal="} {
		if a := s.admin(http.MethodDelete, "/session/sessions"+query, ""); a.StatusCode != http.StatusBadRequest {
			t.Errorf("DELETE %s is answered %d %q", query, a.StatusCode, a.body)
		}
	}
	bob.get("/").want(t, http.StatusOK, "bob")
	if adminInto[caddysession.SessionStatus](s, http.MethodGet, "/session/sessions/"+bobs).ID != bobs {
		t.Error("the session of bob is gone")
	}
	guest := s.visitor()
	guest.get("/remember")
	revoked("/session/sessions?all=1", 1)
	bob.get("/").want(t, http.StatusOK, "")
	s.table().wantRows(0)

	again, _ := s.signIn("bob")
	again.get("/").want(t, http.StatusOK, "bob")
	revoked("/session/sessions?all=true", 1)
	again.get("/").want(t, http.StatusOK, "")
}

// Whoever ends the sessions of a user must not be told that there were none
// where none could have been found.
func TestAdmin_saysThatNobodyIsKnown(t *testing.T) {
	s := startWithAdmin(t, `
$SITE {
	session
	session_edit put user alice
	respond {http.session.id}
}`)
	s.visitor().get("/")
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		a := s.admin(method, "/session/sessions?principal=alice", "")
		if a.StatusCode != http.StatusBadRequest || !strings.Contains(a.body, "set the option principal") {
			t.Errorf("%s is answered %d %q", method, a.StatusCode, a.body)
		}
	}
	s.table().wantRows(1)
}

// Sessions from before the option principal was set, or when it was another, are
// shown with a name, so ending those of this name has to end them.
func TestAdmin_endsSessionsFromBeforeTheyHadAPrincipal(t *testing.T) {
	const keys = "keys 0123456789abcdefghijklmnopqrstuv"
	for name, c := range map[string]struct{ before, options string }{
		"plain": {"", ""}, "sealed": {"", keys},
		"plain, another": {"principal mail", ""}, "sealed, another": {"principal mail", keys},
	} {
		t.Run(name, func(t *testing.T) {
			const site = `
{
	session {
		$PRINCIPAL
		$OPTIONS
		cache 1m
	}
}
$SITE {
	session
	session_edit /login {
		put user {query.user}
		put mail {query.user}@example.com
	}
	respond "{http.session.data.user}"
}`
			s := startWithAdmin(t, site, "PRINCIPAL", c.before, "OPTIONS", c.options)
			alice, bob := s.visitor(), s.visitor()
			alice.get("/login?user=alice")
			bob.get("/login?user=bob")
			s.names["PRINCIPAL"] = "principal user"
			s.reload(site)
			for _, v := range []*visitor{alice, bob} {
				eventually(t, "the session to be in the cache", func() bool {
					_, err := v.try(http.MethodGet, "/")
					return err == nil // the first may have waited in the listener that was closed
				})
			}
			s.visitor().get("/login?user=alice")
			got := adminInto[caddysession.RevokeResult](s, http.MethodDelete, "/session/sessions?principal=alice")
			if got.Revoked != 2 {
				t.Errorf("%d sessions were ended", got.Revoked)
			}
			alice.get("/").want(t, http.StatusOK, "")
			bob.get("/").want(t, http.StatusOK, "bob")
			s.table().wantRows(1)
		})
	}
}

func TestAdmin_endsEverySessionWhileTheyAreRenewed(t *testing.T) {
	s := startWithAdmin(t, adminSite, "STORE", "")
	rows := filepath.Join(t.TempDir(), "rows")
	writeRows(t, rows, 2500)
	content, err := os.ReadFile(rows)
	if err != nil {
		t.Fatal(err)
	}
	done := func(method, path, body string) func() bool { // a slow machine takes more than one call
		return func() bool { return s.admin(method, path, body).StatusCode == http.StatusOK }
	}
	eventually(t, "the sessions to be there", done(http.MethodPost, "/session/import", string(content)))
	visitors := make([]*visitor, 40)
	for i := range visitors {
		visitors[i], _ = s.signIn("alice")
	}
	end, renewing := make(chan struct{}), sync.WaitGroup{}
	for worker := range 4 {
		renewing.Go(func() {
			for i := worker; ; i += 4 {
				select {
				case <-end:
					return
				default:
					_, _ = visitors[i%len(visitors)].try(http.MethodGet, "/renew")
				}
			}
		})
	}
	eventually(t, "them to be ended", done(http.MethodDelete, "/session/sessions?all=1", ""))
	close(end)
	renewing.Wait()
	if left := adminInto[caddysession.CountResult](s, http.MethodGet, "/session/count").Sessions; left > 0 {
		t.Errorf("%d sessions are left", left)
	}
	for _, v := range visitors {
		v.get("/").want(t, http.StatusOK, "")
	}
}

func TestAdmin_removesExpiredSessions(t *testing.T) {
	s := startWithAdmin(t, strings.Replace(adminSite, "$STORE", "lifetime 100ms\n\t\tcleanup_interval 0", 1))
	for range 3 {
		s.signIn("alice")
	}
	eventually(t, "the sessions to expire", func() bool {
		return adminInto[caddysession.CountResult](s, http.MethodGet, "/session/count").Sessions == 0
	})
	s.table().wantRows(3)
	for _, want := range []int64{3, 0} {
		if got := adminInto[caddysession.PurgeResult](s, http.MethodPost, "/session/purge"); got != (caddysession.PurgeResult{Store: "sessions.db", Purged: want}) {
			t.Errorf("the answer is %+v, want %d rows", got, want)
		}
		s.table().wantRows(0)
	}
}

func TestAdmin_refuses(t *testing.T) {
	s := startWithAdmin(t, adminSite, "STORE", "")
	_, id := s.signIn("alice")
	all := []struct{ method, path string }{
		{http.MethodGet, "/session/stores"},
		{http.MethodGet, "/session/count"},
		{http.MethodGet, "/session/sessions"},
		{http.MethodGet, "/session/sessions/" + id},
		{http.MethodDelete, "/session/sessions/" + id},
		{http.MethodDelete, "/session/sessions?all=1"},
		{http.MethodPost, "/session/purge"},
		{http.MethodGet, "/session/export"},
		{http.MethodPost, "/session/import"},
	}
	want := func(a *answer, what string, status int) {
		t.Helper()
		var failure struct {
			Error string `json:"error"`
		}
		if err := json.Unmarshal([]byte(a.body), &failure); err != nil || failure.Error == "" || a.StatusCode != status {
			t.Errorf("%s is answered %d %q, want %d and an error in JSON", what, a.StatusCode, a.body, status)
		}
	}
	for _, r := range all {
		want(s.admin(r.method, r.path, "", "Origin", "https://evil.example"), r.method+" "+r.path+" from another origin", http.StatusForbidden)
		want(s.admin(r.method, r.path, "", "Host", "evil.example"), r.method+" "+r.path+" for another host", http.StatusForbidden)
		want(s.admin(http.MethodPatch, r.path, ""), "PATCH "+r.path, http.StatusMethodNotAllowed)
		path := r.path + "?"
		if strings.Contains(r.path, "?") {
			path = r.path + "&"
		}
		want(s.admin(r.method, path+"store=none", ""), r.method+" "+r.path+" of a store that is not there", http.StatusNotFound)
	}
	for path, status := range map[string]int{
		"/session/":                             http.StatusNotFound,
		"/session/else":                         http.StatusNotFound,
		"/session/sessions/none":                http.StatusNotFound,
		"/session/sessions?limit=0":             http.StatusBadRequest,
		"/session/sessions?limit=1001":          http.StatusBadRequest,
		"/session/sessions?limit=x":             http.StatusBadRequest,
		"/session/sessions?after=x":             http.StatusBadRequest,
		"/session/sessions?after=" + id:         http.StatusBadRequest,
		"/session/sessions/" + id + "?values=x": http.StatusBadRequest,
	} {
		want(s.admin(http.MethodGet, path, ""), path, status)
	}
	if a := s.admin(http.MethodPatch, "/session/sessions", ""); a.Header.Get("Allow") != "DELETE, GET" {
		t.Errorf("Allow is %q", a.Header.Get("Allow"))
	}
	s.table().wantRows(1)
}

// What a session does not set of its store is that of the global option: all of
// where it is, or nothing, and the rest one by one.
func TestAdmin_knowsTheStoresThatDefaultsMake(t *testing.T) {
	s := startWithAdmin(t, `
{
	session {
		rqlite http://127.0.0.1:1
		table one
		cleanup_interval 1h
		max_calls 3
	}
}
$SITE {
	route /a {
		session
	}
	route /b {
		session {
			table two
		}
	}
	route /c {
		session {
			embedded $DIR/c.db
		}
	}
	route /d {
		session {
			rqlite http://127.0.0.1:2
		}
	}
	route /e { # it is that of /b, or this would be an error
		session {
			rqlite http://127.0.0.1:1/
			table two
			cleanup_interval 1h
			max_calls 3
		}
	}
}`)
	var names []string
	for _, one := range adminInto[stores](s, http.MethodGet, "/session/stores").Stores {
		names = append(names, one.Name)
	}
	slices.Sort(names)
	if want := []string{"127.0.0.1:1/one", "127.0.0.1:1/two", "127.0.0.1:2/one", "c.db/one"}; !slices.Equal(names, want) {
		t.Errorf("the stores are %v, want %v", names, want)
	}
}

func TestAdmin_knowsTheStoresOfTheConfigThatRuns(t *testing.T) {
	names := func(s *server) (names []string) {
		for _, one := range adminInto[stores](s, http.MethodGet, "/session/stores").Stores {
			names = append(names, one.Name)
		}
		return names
	}
	s := startWithAdmin(t, `
$SITE {
	respond "no session"
}`)
	if got := names(s); len(got) != 0 {
		t.Errorf("the stores are %v, want none", got)
	}
	if a := s.admin(http.MethodGet, "/session/count", ""); a.StatusCode != http.StatusNotFound {
		t.Errorf("a count of nothing is answered %d %q", a.StatusCode, a.body)
	}

	const several = `
$SITE {
	route /a {
		session {
			embedded $DIR/a/same.db
		}
		session_edit put user alice
		respond {http.session.id}
	}
	route /b {
		session {
			embedded $DIR/b/same.db
		}
	}
	route /c {
		session {
			embedded $DIR/c/other.db
			table carts
		}
	}
	route /d {
		session {
			rqlite http://127.0.0.1:1 http://127.0.0.1:2
		}
	}
}`
	if err := s.load(several); err != nil {
		t.Fatal(err)
	}
	dir := s.names["DIR"]
	want := sorted(filepath.Join(dir, "a", "same.db"), filepath.Join(dir, "b", "same.db"), "other.db/carts", "127.0.0.1:1")
	if got := names(s); !slices.Equal(got, want) {
		t.Errorf("the stores are %v, want %v", got, want)
	}
	if a := s.admin(http.MethodGet, "/session/count", ""); a.StatusCode != http.StatusBadRequest || !strings.Contains(a.body, "other.db/carts") {
		t.Errorf("without a name the answer is %d %q", a.StatusCode, a.body)
	}
	for by, name := range map[string]string{"other.db/carts": "other.db/carts", "127.0.0.1:1,127.0.0.1:2": "127.0.0.1:1"} {
		if all := adminInto[stores](s, http.MethodGet, "/session/stores?store="+url.QueryEscape(by)).Stores; len(all) != 1 || all[0].Name != name {
			t.Errorf("by the name %s there are %+v", by, all)
		}
	}
	id := s.visitor().get("/a").body
	for _, name := range []string{filepath.Join(dir, "a", "same.db")} {
		one := adminInto[caddysession.SessionStatus](s, http.MethodGet, "/session/sessions/"+id+"?store="+url.QueryEscape(name))
		if one.ID != id || one.Principal != "" {
			t.Errorf("the session is %+v", one)
		}
	}
	if a := s.admin(http.MethodGet, "/session/sessions/"+id+"?store=other.db/carts", ""); a.StatusCode != http.StatusNotFound {
		t.Errorf("the other store answers %d", a.StatusCode)
	}
	if a := s.admin(http.MethodGet, "/session/count?store=127.0.0.1:1", ""); a.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a cluster that is down answers %d %q", a.StatusCode, a.body)
	}

	// A config that is refused leaves the stores of the one that runs.
	if err := s.load(strings.Replace(several, "route /a", "not_a_directive", 1)); err == nil {
		t.Fatal("a broken config is taken")
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	busy := "http://" + taken.Addr().String() + " {\n\tsession {\n\t\tembedded $DIR/busy.db\n\t}\n}"
	for range 6 { // Caddy starts its apps in any order: some of these get as far as ours
		if err := s.load(busy); err == nil {
			t.Fatal("a config whose address is taken is taken")
		}
		if got := names(s); !slices.Equal(got, want) {
			t.Errorf("after a config that did not start the stores are %v, want %v", got, want)
		}
	}
	if err := s.load("$SITE {\n\tsession\n}"); err != nil {
		t.Fatal(err)
	}
	if got := names(s); !slices.Equal(got, []string{"sessions.db"}) {
		t.Errorf("after a reload the stores are %v", got)
	}
}

func TestAdmin_showsALockedFile(t *testing.T) {
	file := t.TempDir() + "/sessions.db"
	other := embedded.New(file, embedded.Options{})
	if err := other.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	s := startWithAdmin(t, adminSite, "STORE", "embedded "+file)
	one := adminInto[stores](s, http.MethodGet, "/session/stores").Stores[0]
	if one.Reachable || !one.Locked || !strings.Contains(one.Error, embedded.ErrLocked.Error()) {
		t.Errorf("the store is %+v", one)
	}
	for _, path := range []string{"/session/count", "/session/sessions", "/session/sessions/none", "/session/export"} {
		if a := s.admin(http.MethodGet, path, ""); a.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s is answered %d %q", path, a.StatusCode, a.body)
		}
	}
}

func TestAdmin_showsWhatIsTracked(t *testing.T) {
	s := startWithAdmin(t, devicesSite, "TRACK", tracked(t))
	s.visitor().get("/login?user=alice", "User-Agent", "Firefox")
	list := adminInto[caddysession.ListResult](s, http.MethodGet, "/session/sessions?store=sessions.db")
	if one := list.Sessions[0]; one.Used == nil || one.Used.Unix() != 1795566461 || one.Address != "2001:db8::1" || one.UserAgent != "Firefox" {
		t.Errorf("the session is %+v", one)
	}
}

func TestAdmin_showsSealedSessions(t *testing.T) {
	const old, newer = "an old secret that is long enough to be one", "a new secret that is long enough to be one"
	s := startWithAdmin(t, strings.Replace(adminSite, "$STORE", "keys `"+old+"`", 1))
	v, id := s.signIn("alice")
	list := func() caddysession.SessionStatus {
		t.Helper()
		sessions := adminInto[caddysession.ListResult](s, http.MethodGet, "/session/sessions").Sessions
		if len(sessions) != 1 || sessions[0].ID != id {
			t.Fatalf("the sessions are %+v", sessions)
		}
		return sessions[0]
	}
	keys := func() []caddysession.KeyCount {
		return adminInto[caddysession.CountResult](s, http.MethodGet, "/session/count").Keys
	}
	if one := list(); one.Principal != "alice" || one.Unreadable {
		t.Errorf("the session is %+v", one)
	}
	if got := adminInto[caddysession.ListResult](s, http.MethodGet, "/session/sessions?principal=alice"); len(got.Sessions) != 1 {
		t.Errorf("the sessions of alice are %+v", got)
	}
	first := keys()
	if len(first) != 1 || first[0].Sessions != 1 || !first[0].Configured || !first[0].First {
		t.Errorf("the keys are %+v", first)
	}

	if err := s.load(strings.Replace(adminSite, "$STORE", "keys `"+newer+"` `"+old+"`", 1)); err != nil {
		t.Fatal(err)
	}
	if got := keys(); len(got) != 2 || got[0].Sessions != 0 || !got[0].First || got[1].Key != first[0].Key || got[1].Sessions != 1 || got[1].First {
		t.Errorf("after the rotation the keys are %+v", got)
	}
	v.get("/remember")
	if got := keys(); got[0].Sessions != 1 || got[1].Sessions != 0 {
		t.Errorf("when the session was stored again the keys are %+v", got)
	}

	if err := s.load(strings.Replace(adminSite, "$STORE", "keys `"+old+"`", 1)); err != nil {
		t.Fatal(err)
	}
	if one := list(); one.Principal != "" || !one.Unreadable || one.Deadline != nil {
		t.Errorf("without its key the session is %+v", one)
	}
	if one := adminInto[caddysession.SessionStatus](s, http.MethodGet, "/session/sessions/"+id+"?values=1"); !one.Unreadable || one.Values != nil {
		t.Errorf("without its key the session is %+v", one)
	}
	if got := keys(); len(got) != 2 || got[1].Configured || got[1].Sessions != 1 {
		t.Errorf("without its key the keys are %+v", got)
	}
	if got := adminInto[caddysession.RevokeResult](s, http.MethodDelete, "/session/sessions/"+id); got.Revoked != 1 {
		t.Errorf("a session that cannot be read is not ended: %+v", got)
	}

	if one := adminInto[stores](s, http.MethodGet, "/session/stores").Stores[0]; one.PlainUntil != nil {
		t.Errorf("without plain_until it is %v", one.PlainUntil)
	}
	if err := s.load(strings.Replace(adminSite, "$STORE", "keys `"+old+"` {\nplain_until 2099-06-01\n}", 1)); err != nil {
		t.Fatal(err)
	}
	until := time.Date(2099, 6, 1, 0, 0, 0, 0, time.UTC)
	if one := adminInto[stores](s, http.MethodGet, "/session/stores").Stores[0]; one.PlainUntil == nil || !one.PlainUntil.Equal(until) {
		t.Errorf("plain_until is %v, want %v", one.PlainUntil, until)
	}
	if out := s.run("stats"); !strings.Contains(out, "sessions that are not sealed are accepted until "+until.Local().Format(time.DateTime)) {
		t.Errorf("stats are %s", out)
	}
}
