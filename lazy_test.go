package caddysession_test

import (
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSession_isLazy(t *testing.T) {
	store := newStandIn(t)
	app := newApplication(t, nil)
	s := start(t, `
$SITE {
	session {
		rqlite $STORE
	}
	@member session user
	handle /read {
		respond "user={http.session.data.user} id={http.session.id} new={http.session.is_new}"
	}
	handle /match {
		respond @member "member"
		respond "guest"
	}
	handle /cel {
		@admin expression session('role', 'admin')
		respond @admin "admin"
		respond "other"
	}
	handle /remove {
		session_edit remove user
		respond "removed"
	}
	handle /destroy {
		session_edit destroy
		respond "destroyed"
	}
	handle /renew {
		session_edit renew
		respond "renewed"
	}
	handle /static/* {
		root $DIR
		file_server
	}
	handle /app {
		reverse_proxy $APP
	}
	handle /accepted {
		session {
			rqlite $STORE
			upstream {
				accept
			}
		}
		reverse_proxy $APP
	}
	handle {
		respond "untouched"
	}
}`, "STORE", store.URL, "APP", app.address())
	static := filepath.Join(s.names["DIR"], "static")
	if err := os.MkdirAll(static, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(static, "a.txt"), []byte("a file"), 0o644); err != nil {
		t.Fatal(err)
	}
	wellFormed := base64.RawURLEncoding.EncodeToString(make([]byte, 32))

	for _, test := range []struct {
		path, body string
		read       bool // so the response varies by the cookie
	}{
		{"/", "untouched", false},
		{"/app", "app", false},
		{"/static/a.txt", "a file", false},
		{"/read", "user= id= new=true", true},
		{"/match", "guest", true},
		{"/cel", "other", true},
		{"/remove", "removed", true},
		{"/destroy", "destroyed", true},
		{"/renew", "renewed", true},
		{"/accepted", "app", true},
	} {
		t.Run(strings.Trim(test.path, "/"), func(t *testing.T) {
			before := store.calls.Load()
			a := s.visitor().get(test.path)
			a.want(t, http.StatusOK, test.body)
			if c := a.Header["Set-Cookie"]; c != nil {
				t.Errorf("a visitor for whom nothing was stored gets a cookie: %v", c)
			}
			if varies := a.Header.Get("Vary") == "Cookie"; varies != test.read {
				t.Errorf("Vary is %q, and the session was read: %v", a.Header.Get("Vary"), test.read)
			}
			if n := store.calls.Load() - before; n != 0 {
				t.Errorf("a request without a cookie asked the store %d times", n)
			}

			if test.read {
				return
			}
			a = s.visitor().get(test.path, "Cookie", "session="+wellFormed)
			a.want(t, http.StatusOK, test.body)
			a.wantUntouched(t)
			if n := store.calls.Load() - before; n != 0 {
				t.Errorf("a request that needs no session asked the store %d times", n)
			}
		})
	}
}

func TestSession_asksTheStoreForNothingButWellFormedCookies(t *testing.T) {
	store := newStandIn(t)
	s := start(t, `
{
	servers {
		max_header_size 1MB
	}
}
$SITE {
	session {
		rqlite $STORE
	}
	respond "user={http.session.data.user}"
}`, "STORE", store.URL)
	v := s.visitor().withoutJar()
	random := strings.Repeat("Ab3_", 10)
	for name, value := range map[string]string{
		"empty":              "",
		"SQL":                "' OR 1=1 --",
		"a blob literal":     "x'41'",
		"quoted":             `"` + random + `abc0"`,
		"too short":          random + "AA",
		"too long":           random + "AAAA",
		"100 kB":             strings.Repeat("A", 100<<10),
		"not base64url":      random + "+/A",
		"non-canonical":      random + "AAB", // bits beyond the 256
		"padded":             random + "AA=",
		"percent encoded":    "%41" + random,
		"UTF-8":              random + "é",
		"inner space":        random[:20] + " " + random[:22],
		"a hash":             "stored:" + random[:36],
		"another equal sign": "=" + random + "AA",
	} {
		t.Run(name, func(t *testing.T) {
			before := store.calls.Load()
			a := v.get("/", "Cookie", "session="+value)
			a.want(t, http.StatusOK, "user=")
			if n := store.calls.Load() - before; n != 0 {
				t.Errorf("the store was asked %d times", n)
			}
			if a.Header["Set-Cookie"] != nil {
				t.Errorf("a cookie is set: %v", a.Header["Set-Cookie"])
			}
		})
	}
	t.Run("a well-formed one is looked up once, and never cleared", func(t *testing.T) {
		before := store.calls.Load()
		a := v.get("/", "Cookie", "session="+random+"AAA")
		a.want(t, http.StatusOK, "user=")
		if n := store.calls.Load() - before; n == 0 {
			t.Error("the store was not asked")
		}
		if a.Header["Set-Cookie"] != nil {
			t.Errorf("a cookie is set: %v", a.Header["Set-Cookie"])
		}
	})
}

func TestSession_storesNothingUntilThereIsSomethingToStore(t *testing.T) {
	s := start(t, `
$SITE {
	session
	handle /put {
		session_edit put user alice
		respond "hello {http.session.data.user}"
	}
	handle /clear {
		session_edit {
			put user alice
			clear
		}
		respond "cleared"
	}
	handle /undone {
		session_edit {
			put user alice
			destroy
		}
		respond "undone"
	}
	respond "user={http.session.data.user}"
}`)
	table := s.table()
	for _, path := range []string{"/", "/clear", "/undone"} {
		a := s.visitor().get(path)
		if a.Header["Set-Cookie"] != nil {
			t.Errorf("%s sets a cookie: %v", path, a.Header["Set-Cookie"])
		}
		table.wantRows(0)
	}
	v := s.visitor()
	a := v.get("/put")
	a.want(t, http.StatusOK, "hello alice")
	token := a.cookie(t).Value
	table.wantRows(1)
	if row := table.only(); strings.Contains(row.token, token) || strings.Contains(row.data, token) {
		t.Error("the token itself is in the store")
	}
	v.get("/").want(t, http.StatusOK, "user=alice")
}
