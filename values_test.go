package caddysession_test

import (
	"bufio"
	"encoding/json"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	caddysession "github.com/caddy-session/caddy-session"
)

// What it takes to fill a new session grows with its keys, not with their square,
// and a path is not looked for among all of them.
func TestValues_ofManyKeys(t *testing.T) {
	allocated := func(do func()) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		do()
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	const few, many = 500, 4000
	put, looked := make(map[int]uint64), make(map[int]uint64)
	run := inGo(t, func(_ http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
		session, keys := caddysession.FromContext(r.Context()), few
		if r.URL.Path == "/many" {
			keys = many
		}
		put[keys] = allocated(func() {
			for i := range keys {
				if err := session.Put("key"+strconv.Itoa(i), map[string]any{"n": i}); err != nil {
					t.Error(err)
				}
			}
		})
		looked[keys] = allocated(func() {
			for range 100 {
				if n, _ := session.Lookup("key7.n"); n != 7 {
					t.Errorf("a path leads to %v", n)
				}
			}
		})
		return nil
	})
	s := start(t, "$SITE {\n\tsession {\n\t\tmax_size 1MiB\n\t}\n\tin_go "+run+"\n}")
	for _, path := range []string{"/few", "/many"} {
		a := s.visitor().get(path)
		a.want(t, http.StatusOK, "")
		a.cookie(t)
	}
	if per := float64(put[many]) / float64(put[few]); per > 3*many/few {
		t.Errorf("%d keys take %.0f times as much memory as %d", many, per, few)
	}
	if per := float64(looked[many]) / float64(looked[few]); per > 3 {
		t.Errorf("to look for a path among %d keys takes %.0f times as much memory as among %d", many, per, few)
	}
}

func TestValues_unchangedOnesAreNotWritten(t *testing.T) {
	s := start(t, `
$SITE {
	session
	handle /put {
		session_edit {
			put user {query.user}
			put_json roles ["admin",{"of":{"n":9007199254740993}}]
			remember off
		}
		respond "put"
	}
	handle /same {
		session_edit {
			put user {query.user}
			put_json roles ["admin",{"of":{"n":9007199254740993}}]
		}
		respond "same"
	}
	handle /there-and-back {
		session_edit {
			put user someone
			put user {query.user}
			remove nothing
		}
		respond "back"
	}
	handle /read {
		respond "{http.session.data.user} {http.session.data.roles} {http.session.id} {http.session.is_new}"
	}
}`)
	v := s.visitor()
	v.get("/put?user=alice")
	table := s.table()
	before := table.only()
	for _, path := range []string{"/same?user=alice", "/there-and-back?user=alice", "/read"} {
		a := v.get(path)
		if a.StatusCode != http.StatusOK || a.Header["Set-Cookie"] != nil {
			t.Errorf("%s: %d %v", path, a.StatusCode, a.Header["Set-Cookie"])
		}
		if now := table.only(); now != before {
			t.Errorf("%s wrote the row: %+v, before %+v", path, now, before)
		}
	}
	v.get("/read").want(t, http.StatusOK, `alice ["admin",{"of":{"n":9007199254740993}}] `+before.id+" false")
	a := v.get("/same?user=bob")
	if a.Header["Set-Cookie"] != nil {
		t.Errorf("a changed value gives out the cookie anew: %v", a.Header["Set-Cookie"])
	}
	if now := table.only(); now.version != before.version+1 || now.token != before.token || now.id != before.id {
		t.Errorf("a changed value: %+v, before %+v", now, before)
	}
}

func TestValues_areEditedInPlace(t *testing.T) {
	s := start(t, `
$SITE {
	session
	handle /edit {
		session_edit {
			put a {query.a}
			put_json cart {"items":[{"sku":"{query.a}","n":1}],"total":1.5,"gift":true,"note":null}
			increment visits
			increment points 10
			increment left -3
		}
		respond <<TEXT
			{http.session.data.a}|{http.session.data.cart}|{http.session.data.cart.total}|{http.session.data.cart.gift}|{http.session.data.cart.note}|{http.session.data.visits} {http.session.data.points} {http.session.data.left}
			TEXT
	}
	handle /remove {
		session_edit remove a visits nothing
		respond "{http.session.data.a}|{http.session.data.visits}|{http.session.data.points}"
	}
	handle /clear {
		session_edit clear
		respond "{http.session.data.points}|{http.session.id}"
	}
	handle /times {
		respond "{http.session.created} {http.session.expires}"
	}
}`)
	v := s.visitor()
	v.get("/edit?a=%22%5D%7D").want(t, http.StatusOK, `"]}|{"gift":true,"items":[{"n":1,"sku":"\"]}"}],"note":null,"total":1.5}|1.5|true||1 10 -3`)
	id := s.table().only().id
	v.get("/edit?a=2").want(t, http.StatusOK, `2|{"gift":true,"items":[{"n":1,"sku":"2"}],"note":null,"total":1.5}|1.5|true||2 20 -6`)
	times := strings.Fields(v.get("/times").body)
	if len(times) != 2 {
		t.Fatalf("the times are %q", times)
	}
	created, err := time.Parse(time.RFC3339, times[0])
	if err != nil || time.Since(created).Abs() > time.Minute {
		t.Errorf("created at %s (%v)", times[0], err)
	}
	expires, err := time.Parse(time.RFC3339, times[1])
	if err != nil || expires.Sub(created) < 24*time.Hour-2*time.Second || expires.Sub(created) > 24*time.Hour+2*time.Second {
		t.Errorf("expires at %s (%v), a day after %s is expected", times[1], err, times[0])
	}
	v.get("/remove").want(t, http.StatusOK, "||20")
	v.get("/clear").want(t, http.StatusOK, "|"+id)
	if data := s.table().only().data; strings.Contains(data, "points") {
		t.Errorf("after clear the row holds %s", data)
	}
}

func TestValues_matchersSeeWhatEditsStored(t *testing.T) {
	s := start(t, `
$SITE {
	session
	handle /put {
		session_edit {
			put user alice
			put_json roles ["editor","author"]
			put_json profile {"plan":{"name":"pro"},"age":30}
			put_json admin false
		}
		respond "put"
	}
	@member session user
	@guest not session user
	@alice session user bob alice
	@bob session user bob
	@editor session roles admin editor
	@both {
		session user alice
		session roles admin
	}
	@nested session profile.plan.name pro
	@age session profile.age 30
	@self session user {query.user}
	@flag session admin false
	@cel expression session('user') && session('roles', 'author') && {http.session.data.profile.plan.name} == 'pro'
	@celnot expression session('user', 'bob') || session('nothing')
	header @member X-Matches +member
	header @guest X-Matches +guest
	header @alice +X-Matches alice
	header @bob +X-Matches bob
	header @editor +X-Matches editor
	header @both +X-Matches both
	header @nested +X-Matches nested
	header @age +X-Matches age
	header @self +X-Matches self
	header @flag +X-Matches flag
	header @cel +X-Matches cel
	header @celnot +X-Matches celnot
	respond "ok"
}`)
	matches := func(a *answer) string {
		return strings.ReplaceAll(strings.Join(a.Header["X-Matches"], " "), "+", "")
	}
	v := s.visitor()
	if got := matches(v.get("/")); got != "guest" {
		t.Errorf("a guest matches %q", got)
	}
	v.get("/put")
	if got, want := matches(v.get("/?user=alice")), "member alice editor nested age self flag cel"; got != want {
		t.Errorf("a member matches %q, want %q", got, want)
	}
	if got, want := matches(v.get("/?user=bob")), "member alice editor nested age flag cel"; got != want {
		t.Errorf("a member matches %q, want %q", got, want)
	}
}

func TestValues_tooLargeAreAnErrorAndStoreNothing(t *testing.T) {
	_, port, _ := net.SplitHostPort(freeAddress(t))
	s := start(t, `
(site) {
	session {
		max_size 1KiB
	}
	session_edit put text {query.text}
	respond "ok"
}
$SITE {
	import site
}
:$PORT {
	import site
}`, "PORT", port)
	v := s.visitor()
	v.get("/?text=small").want(t, http.StatusOK, "ok")
	before := s.table().only()
	a := v.get("/?text=" + strings.Repeat("x", 3000))
	if a.StatusCode != http.StatusInternalServerError || a.Header["Retry-After"] != nil || a.Header["Set-Cookie"] != nil {
		t.Errorf("too much to store: %d %v, want 500", a.StatusCode, a.Header)
	}
	if now := s.table().only(); now != before {
		t.Errorf("the row is %+v, before %+v", now, before)
	}
	s.logged("more than max_size allows")
	if strings.Contains(s.readLog(), `"error":"xxxx`) {
		t.Error("the value is in the log")
	}

	// What the session keeps of its own counts apart, but not without end.
	conn := sendRaw(t, "127.0.0.1:"+port, "GET /?text=small HTTP/1.1\r\nHost: "+strings.Repeat("x", 3000)+"\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusInternalServerError || res.Header["Set-Cookie"] != nil {
		t.Errorf("a host of 3000 characters is answered %d with %q", res.StatusCode, res.Header["Set-Cookie"])
	}
	s.table().only()
}

func TestValues_areJSONThatAnySQLToolReads(t *testing.T) {
	s := start(t, `
$SITE {
	session
	session_edit {
		put user alice
		put_json n 7
	}
	respond "ok"
}`)
	s.visitor().get("/")
	var data map[string]any
	row := s.table().only()
	if err := json.Unmarshal([]byte(row.data), &data); err != nil {
		t.Fatalf("the row holds %q: %v", row.data, err)
	}
	if !strings.Contains(row.data, `"user":"alice"`) || !strings.Contains(row.data, `"n":7`) {
		t.Errorf("the row holds %s", row.data)
	}
}

// What is as it was in the cache may be something else in the store by now.
func TestValues_unchangedOnesAreWrittenWhereOthersMayHaveChangedThem(t *testing.T) {
	store := newStandIn(t)
	s := start(t, `
$SITE {
	session {
		rqlite $STORE
		cache 1m
	}
	session_edit /light put theme light
	session_edit /more {
		put theme light
		increment n
	}
	respond "{http.session.data.theme}"
}`, "STORE", store.URL)
	for _, path := range []string{"/light", "/more"} {
		t.Run(path, func(t *testing.T) {
			v := s.visitor()
			v.get("/light").cookie(t)
			v.get("/").want(t, http.StatusOK, "light")
			store.executes(`UPDATE sessions SET version=version+1,data=CAST(replace(CAST(data AS TEXT),'light','dark') AS BLOB)`)
			v.get(path).want(t, http.StatusOK, "light")
			if row := openTable(t, store.file).only(); !strings.Contains(row.data, "light") {
				t.Errorf("stored is %+v", row)
			}
			store.executes("DELETE FROM sessions")
		})
	}
}

// Lists and objects of the Go types that are stored as such are what lists and
// objects are, wherever the session is used.
func TestValues_ofGoModulesAreListsAndObjects(t *testing.T) {
	s := start(t, `
$SITE {
	session
	handle /show {
		@small session sizes 3
		@large session sizes 35
		@red session labels.color red
		header @small Sizes small
		header @large Sizes large
		header @red Color red
		respond "{http.session.data.labels.color} {http.session.data.labels}"
	}
	in_go $RUN
}`, "RUN", inGo(t, func(_ http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
		session := caddysession.FromContext(r.Context())
		if r.URL.Path == "/patch" {
			return session.MergePatch(map[string]any{"labels": map[string]any{"size": "L"}})
		}
		if err := session.Put("sizes", []int{3, 5}); err != nil {
			return err
		}
		return session.Put("labels", map[string]string{"color": "red"})
	}))
	v := s.visitor()
	v.get("/put").cookie(t)
	shown := v.get("/show")
	shown.want(t, http.StatusOK, `red {"color":"red"}`)
	if sizes, color := shown.Header.Get("Sizes"), shown.Header.Get("Color"); sizes != "small" || color != "red" {
		t.Errorf("the matchers find sizes %q and color %q", sizes, color)
	}
	v.get("/patch")
	v.get("/show").want(t, http.StatusOK, `red {"color":"red","size":"L"}`)
}
