package caddysession_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	caddysession "github.com/caddy-session/caddy-session"
	"github.com/caddy-session/caddy-session/rqlitestore/embedded"
)

func TestReload_dropsNoSessionAndNoRequest(t *testing.T) {
	config := func(n int) string {
		return fmt.Sprintf(`
$SITE {
	session
	header X-Config %d
	handle /put {
		session_edit put user {query.user}
		respond "put"
	}
	handle /increment {
		session_edit increment n
		respond "{http.session.data.n}"
	}
	respond "{http.session.data.user}"
}`, n)
	}
	s := start(t, config(0))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var users sync.WaitGroup
	var answered, refused atomic.Int64
	for i := range 4 {
		v := s.visitor()
		name := fmt.Sprint("user", i)
		v.get("/put?user=" + name)
		// ask sends a request until it is answered. Whether Caddy takes a new
		// connection at the moment of a reload is not the plugin's to say: one that
		// does not listen to a session refuses some as well.
		ask := func(path string) *answer {
			for ctx.Err() == nil {
				if a, err := v.try(http.MethodGet, path); err == nil {
					answered.Add(1)
					return a
				}
				refused.Add(1)
			}
			return nil
		}
		users.Go(func() {
			for last := 0; ctx.Err() == nil && !t.Failed(); {
				if a := ask("/"); a != nil && (a.StatusCode != http.StatusOK || a.body != name) {
					t.Errorf("%s got %d %q", name, a.StatusCode, a.body)
				}
				a := ask("/increment")
				if a == nil {
					return
				}
				n, err := strconv.Atoi(a.body)
				if a.StatusCode != http.StatusOK || err != nil || n <= last {
					t.Errorf("%s got %d %q after %d", name, a.StatusCode, a.body, last)
				}
				last = n
			}
		})
	}
	for n := 1; n <= 10; n++ {
		before := answered.Load()
		eventually(t, "requests between reloads", func() bool { return answered.Load() > before || t.Failed() })
		if err := s.load(config(n)); err != nil {
			t.Errorf("reload %d: %v", n, err)
		}
		// Linux resets connections that wait in the socket that Caddy closes: that is no answer of the old config.
		eventually(t, "the config of the reload to answer", func() bool {
			a, err := s.visitor().try(http.MethodGet, "/")
			return err == nil && a.Header.Get("X-Config") == fmt.Sprint(n)
		})
	}
	stop()
	users.Wait()
	t.Logf("%d requests were answered, %d connections refused", answered.Load(), refused.Load())
	s.table().wantRows(4)
}

func TestReload_appliesChangedSettings(t *testing.T) {
	site := func(options string) string {
		return "$SITE {\nsession {\n" + options + "\n}\nsession_edit /put put user alice\nrespond \"{http.session.data.user}\"\n}"
	}
	s := start(t, site(""))
	v := s.visitor().withoutJar()
	cookie := v.get("/put").cookie(t)
	with := func(name, value string) string { return v.get("/", "Cookie", name+"="+value).body }

	for name, options := range map[string]string{
		"lifetime":    "lifetime 1h",
		"cleanup":     "cleanup_interval 1s",
		"off":         "cleanup_interval 0",
		"synchronous": "embedded {\nsynchronous normal\n}",
		"persist":     "persist off",
	} {
		t.Run(name, func(t *testing.T) {
			if err := s.load(site(options)); err != nil {
				t.Fatal(err)
			}
			if got := with("session", cookie.Value); got != "alice" {
				t.Errorf("the session is %q", got)
			}
			age := v.get("/put").cookie(t).MaxAge
			if want := map[string]int{"lifetime": 3600, "persist": 0}; name == "lifetime" || name == "persist" {
				if age != want[name] {
					t.Errorf("Max-Age of a new session is %d, want %d", age, want[name])
				}
			} else if age != 86400 {
				t.Errorf("Max-Age of a new session is %d", age)
			}
			synchronous := "2" // as SQLite has full
			if name == "synchronous" {
				synchronous = "1"
			}
			if got := caddysession.AskNode(s.file(), `["DELETE FROM sessions WHERE 0", "PRAGMA synchronous"]`); !strings.Contains(got, `"values":[[`+synchronous+`]]`) {
				t.Errorf("synchronous is %s, want %s", got, synchronous)
			}
		})
	}
	t.Run("cookie name", func(t *testing.T) {
		if err := s.load(site("cookie sid")); err != nil {
			t.Fatal(err)
		}
		if got := with("session", cookie.Value); got != "" {
			t.Errorf("under the old name the session is %q", got)
		}
		if got := with("sid", cookie.Value); got != "" {
			t.Errorf("as a cookie that it was not issued as the session is %q", got)
		}
		issued := v.get("/put").Cookies()
		if len(issued) != 1 || issued[0].Name != "sid" || with("sid", issued[0].Value) != "alice" {
			t.Errorf("under the new name a session begins with %v", issued)
		}
	})
	t.Run("another file and back", func(t *testing.T) {
		if err := s.load(site("embedded $DIR/other.db")); err != nil {
			t.Fatal(err)
		}
		if got := with("session", cookie.Value); got != "" {
			t.Errorf("in another file the session is %q", got)
		}
		eventually(t, "the file of before to be closed", func() bool {
			other := embedded.New(s.file(), embedded.Options{})
			defer other.Close()
			return other.Open() == nil
		})
		if err := s.load(site("")); err != nil {
			t.Fatal(err)
		}
		if got := with("session", cookie.Value); got != "alice" {
			t.Errorf("back in the first file the session is %q", got)
		}
	})
	t.Run("a config that fails", func(t *testing.T) {
		if err := s.load(site("cookie __Host-a {\ndomain example.com\n}")); err == nil {
			t.Fatal("it was taken")
		}
		if got := with("session", cookie.Value); got != "alice" {
			t.Errorf("afterwards the session is %q", got)
		}
	})
}

func TestReload_refusesOneStoreWithTwoSettings(t *testing.T) {
	s := start(t, "$SITE {\nsession\nrespond \"ok\"\n}")
	link := os.Symlink(s.names["DIR"], filepath.Join(s.names["DIR"], "link"))
	t.Setenv("SESSION_TEST_FILE", filepath.Join(s.names["DIR"], "env.db"))
	t.Setenv("SESSION_TEST_NODE", "http://127.0.0.1:4001")
	for name, test := range map[string]struct{ first, second, want string }{
		"two names":   {"embedded $DIR/a.db", "embedded $DIR/link/a.db", "are one file"},
		"cleanup":     {"cleanup_interval 1m", "cleanup_interval 2m", "is configured twice with different settings"},
		"synchronous": {"embedded", "embedded {\nsynchronous normal\n}", "is configured twice with different settings"},
		"password":    {"rqlite http://127.0.0.1:4001 {\nusername u\npassword secret-a\n}", "rqlite http://127.0.0.1:4001 {\nusername u\npassword secret-b\n}", "is configured twice with different settings"},
		"consistency": {"rqlite http://127.0.0.1:4001", "rqlite http://127.0.0.1:4001 {\nconsistency weak\n}", "is configured twice with different settings"},
		"keys":        {"keys first-secret-of-thirty-two-characters", "keys other-secret-of-thirty-two-characters", "is configured twice with different keys"},
		"no keys":     {"keys first-secret-of-thirty-two-characters", "", "is configured twice with different keys"},
		"plain until": {"keys first-secret-of-thirty-two-characters {\nplain_until 2099-01-01\n}", "keys first-secret-of-thirty-two-characters", "is configured twice with different keys"},
		"file in env": {"embedded $DIR/env.db", "embedded {env.SESSION_TEST_FILE} {\nsynchronous normal\n}", "is configured twice with different settings"},
		"node in env": {"rqlite http://127.0.0.1:4001", "rqlite {env.SESSION_TEST_NODE} {\nconsistency weak\n}", "is configured twice with different settings"},
		"defaults":    {"", "embedded $DIR/caddy/sessions.db {\nsynchronous full\n}\ntable sessions\ncleanup_interval 5m\nmax_calls 1024", ""},
		"of rqlite":   {"rqlite http://127.0.0.1:4001", "rqlite http://127.0.0.1:4001 {\nconsistency linearizable\ntimeout 2s\n}", ""},
		"order":       {"rqlite http://127.0.0.1:4001 http://127.0.0.1:4003", "rqlite http://127.0.0.1:4003 http://127.0.0.1:4001", ""},
		"cookies":     {"cookie a", "cookie b", ""},
		"tables":      {"table one", "table two", ""},
		"one file":    {"table one", "table two\nembedded {\nsynchronous normal\n}", "synchronous is one for the file"},
		"lifetimes":   {"lifetime 1h", "lifetime 2h", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "two names" && link != nil {
				t.Skip(link) // not everybody may make one on Windows
			}
			err := s.load("$SITE {\nsession {\n" + test.first + "\n}\nrespond \"ok\"\n}\n$SITE2 {\nsession {\n" + test.second + "\n}\nrespond \"ok\"\n}")
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("the error is %v, want %s", err, test.want)
			case err != nil && strings.Contains(err.Error(), "secret"):
				t.Errorf("the error has the password: %v", err)
			}
		})
	}
}

// Caddy's validate and the provisioning of a reload do no more than this.
func TestReload_validatesBesideAProcessThatHasTheFileOpen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sessions.db")
	other := embedded.New(file, embedded.Options{})
	if err := other.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	s := start(t, "$SITE {\nrespond \"ok\"\n}")
	for name, store := range map[string]string{
		"locked file":      "embedded " + file,
		"no such node":     "rqlite http://127.0.0.1:1 https://node.invalid:4001",
		"unwritable place": "embedded /proc/nowhere/sessions.db",
	} {
		t.Run(name, func(t *testing.T) {
			adapted, err := s.adapt("$SITE {\nsession {\n" + store + "\n}\nrespond \"ok\"\n}")
			if err != nil {
				t.Fatal(err)
			}
			config := new(caddy.Config)
			if err := json.Unmarshal(adapted, config); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			if err := caddy.Validate(config); err != nil {
				t.Errorf("validate: %v", err)
			}
			if err := s.load("$SITE {\nsession {\n" + store + "\n}\nrespond \"ok\"\n}"); err != nil {
				t.Errorf("reload: %v", err)
			}
			if d := time.Since(begun); d > 10*time.Second {
				t.Errorf("both took %v", d)
			}
			v := s.visitor()
			v.handshake("/") // Linux resets some connections at a reload
			v.get("/").want(t, http.StatusOK, "ok")
		})
	}
}
