package caddysession_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// canarySite has a secret in every option that takes one, named as the docs
// say, and shows as much as Caddy can: debug logs, errors, profiles.
const canarySite = `
{
	admin $ADMIN
	debug
	metrics
	grace_period 1s
	storage file_system $DIR/caddy
	log default {
		output file $DIR/caddy.log {
			roll_disabled
		}
		level DEBUG
	}
	session {
		rqlite $STORE {
			username {env.CANARY_USERNAME}
			password {file.$DIR/password}
			timeout 300ms
		}
		keys {env.CANARY_KEY} {file.$DIR/key}
		principal user
	}
}
$SITE {
	log
	session
	handle /plain {
		respond plain
	}
	handle /put {
		session_edit {
			renew
			put user alice
		}
		respond in
	}
	handle /broken {
		in_nothing
	}
	respond "user {http.session.data.user}"
	handle_errors {
		respond "{err.status_code} {err.message} {err.trace} {err.id}"
	}
}
`

func TestCanary_secretsAreSeenNowhere(t *testing.T) {
	secrets := map[string]string{
		"username":   "canary-username-3f1c",
		"password":   "canary-password-9a2e",
		"first key":  "canary-first-key-5d8b-0123456789abcdef",
		"second key": "canary-second-key-7e4a-0123456789abcdef",
	}
	store := newStandIn(t)
	asked := make(chan bool, 1) // whether a request had the credentials
	store.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, node http.Handler) {
		username, password, _ := r.BasicAuth()
		select {
		case asked <- username == secrets["username"] && password == secrets["password"]:
		default:
		}
		node.ServeHTTP(w, r)
	}))

	d := newDeployment(t, nil)
	p := d.add()
	t.Setenv("CANARY_USERNAME", secrets["username"])
	t.Setenv("CANARY_KEY", secrets["first key"])
	writeFile(t, filepath.Join(p.dir, "password"), secrets["password"]+"\n")
	writeFile(t, filepath.Join(p.dir, "key"), secrets["second key"]+"\n")
	expand := strings.NewReplacer("$SITE", p.site, "$ADMIN", p.admin, "$DIR", p.dir, "$STORE", store.URL).Replace
	writeFile(t, p.config, expand(strings.ReplaceAll(canarySite, "in_nothing", "error 500")))
	p.start()

	// What a site meets: a login, a forged cookie, nodes that refuse the
	// credentials, answer nonsense, or do not answer; a reload.
	seen := map[string]string{}
	cookie := p.post("/put", "").want(t, http.StatusOK).cookie
	if ok := <-asked; !ok {
		t.Fatal("the node was not sent the credentials")
	}
	forged := cookie[:len(cookie)-4] + "AAAA"
	p.get("/", cookie).want(t, http.StatusOK)
	p.get("/", forged).want(t, http.StatusOK)
	seen["an error"] = p.get("/broken", cookie).body
	for name, breakdown := range map[string]func(){
		"fails": store.fails, "is broken": store.isBroken, "hangs": store.hangs,
		"refuses": func() {
			store.mode.Store(serveMode(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
				http.Error(w, "Unauthorized", http.StatusUnauthorized)
			}))
		},
	} {
		breakdown()
		for _, a := range []reply{p.get("/", cookie), p.post("/put", "")} {
			if a.status != http.StatusServiceUnavailable || a.body == "" {
				t.Errorf("while the node %s: %d %q", name, a.status, a.body)
			}
			seen["the answer while the node "+name] += a.body
		}
	}
	store.works()
	p.reload(t)
	p.get("/", cookie)

	// secrets and what the visitor has, who must not be found either
	token, err := base64.RawURLEncoding.DecodeString(cookie)
	if err != nil {
		t.Fatal(err)
	}
	secrets["cookie"] = cookie
	secrets["token"] = base64.RawURLEncoding.EncodeToString(token[len(token)-32-16:])[:40]

	for _, path := range []string{
		"/config/", "/metrics", "/debug/vars", "/debug/pprof/cmdline", "/reverse_proxy/upstreams",
		"/debug/pprof/goroutine?debug=1", "/debug/pprof/goroutine?debug=2",
		"/session/stores", "/session/count", "/session/sessions",
	} {
		seen["GET "+path] = d.do(http.MethodGet, "http://"+p.admin+path, "").body
	}
	for name, file := range map[string]string{
		"the log": p.logFile, "the output": filepath.Join(p.dir, "output.log"), "autosave.json": filepath.Join(p.dir, "caddy", "autosave.json"),
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		seen[name] = string(text)
	}
	adapted, err := p.command("adapt", "--config", p.config).CombinedOutput()
	if err != nil {
		t.Fatalf("caddy adapt: %v: %s", err, adapted)
	}
	seen["caddy adapt"] = string(adapted)

	for _, want := range []string{"GET /config/", "GET /metrics", "GET /debug/pprof/goroutine?debug=2", "the log", "autosave.json"} {
		if len(seen[want]) < 500 {
			t.Errorf("%s has but %d bytes: %q", want, len(seen[want]), seen[want])
		}
	}
	if !strings.Contains(seen["GET /metrics"], "caddy_session_store_up") {
		t.Error("the admin endpoint shows no metrics of ours")
	}
	for where, text := range seen {
		for what, secret := range secrets {
			if strings.Contains(text, secret) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(secret))) {
				t.Errorf("%s has the %s", where, what)
			}
		}
	}
}

// What a secret is wrong with is said without it.
func TestCanary_errorsNameNoSecret(t *testing.T) {
	d := newDeployment(t, nil)
	p := d.add()
	const secret = "canary-5c6d"
	t.Setenv("CANARY", secret)
	t.Setenv("CANARY_ADDRESS", "http://admin:"+secret+"@127.0.0.1:4001")
	for name, options := range map[string]string{
		"short key":              "keys {env.CANARY}",
		"key twice":              "keys {env.CANARY}" + strings.Repeat("x", 32) + " {env.CANARY}" + strings.Repeat("x", 32),
		"password without name":  "rqlite http://127.0.0.1:4001 {\npassword {env.CANARY}\n}",
		"credentials in address": "rqlite {env.CANARY_ADDRESS}",
		"missing file":           "rqlite http://127.0.0.1:4001 {\nusername {env.CANARY}\npassword {file.$DIR/nothing}\n}",
	} {
		t.Run(name, func(t *testing.T) {
			writeFile(t, p.config, strings.NewReplacer("$DIR", p.dir, "$ADMIN", p.admin).Replace(
				"{\nadmin off\nstorage file_system $DIR/caddy\n}\nhttp://127.0.0.1:0 {\nsession {\n"+options+"\n}\n}\n"))
			out, err := p.command("validate", "--adapter", "caddyfile", "--config", p.config).CombinedOutput()
			if err == nil {
				t.Errorf("it is taken: %s", out)
			}
			if strings.Contains(string(out), secret) {
				t.Errorf("the error has the secret: %s", out)
			}
		})
	}
}

func writeFile(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A secret that everybody can read in the config is warned of, without it.
func TestCanary_literalsAreWarnedOf(t *testing.T) {
	const secret = "canary-5c6d-0123456789abcdefghijklmnop"
	t.Setenv("canary", secret)
	const password, key = "the rqlite password stands in the config", "a secret of keys stands in the config"
	for name, test := range map[string]struct{ options, warning string }{
		"password":                    {"rqlite http://127.0.0.1:1 {\nusername me\npassword " + secret + "\n}", password},
		"password with a brace":       {"rqlite http://127.0.0.1:1 {\nusername me\npassword `" + secret + "\\{`\n}", password},
		"password with an open brace": {"rqlite http://127.0.0.1:1 {\nusername me\npassword `" + secret + "{`\n}", password},
		"password of a variable":      {"rqlite http://127.0.0.1:1 {\nusername me\npassword {$canary}\n}", password},
		"password by its name":        {"rqlite http://127.0.0.1:1 {\nusername me\npassword {env.canary}\n}", ""},
		"key":                         {"keys " + secret, key},
		"key with a brace":            {"keys `" + secret + "\\{`", key},
		"key with an open brace":      {"keys `" + secret + "{`", key},
		"second key":                  {"keys {env.canary} another-" + secret, key},
		"key by its name":             {"keys {env.canary}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, "$SITE {\nsession {\n"+test.options+"\n}\nrespond ok\n}")
			if test.warning != "" {
				s.logged(test.warning)
			}
			for line := range strings.SplitSeq(s.readLog(), "\n") { // Caddy itself shows a config in its debug log
				if strings.Contains(line, "stands in the config") && (test.warning == "" || strings.Contains(line, secret)) {
					t.Errorf("the log says %s", line)
				}
			}
		})
	}
}

// So is one that others on the network can read, once for each store.
func TestCanary_passwordsInPlainTextAreWarnedOf(t *testing.T) {
	t.Setenv("CANARY", "canary-5c6d")
	const user = " {\nusername me\npassword {env.CANARY}\n}\n"
	sites := ""
	for _, store := range []string{
		"rqlite http://127.0.0.1:1 http://192.0.2.1:1 https://192.0.2.2:1" + user,
		"rqlite http://127.0.0.1:1 http://192.0.2.1:1 https://192.0.2.2:1" + user,
		"rqlite http://[::1]:1 http://localhost:1 http://127.0.0.2:1" + user,
		"rqlite https://192.0.2.3:1" + user,
		"rqlite http://192.0.2.4:1",
	} {
		sites += fmt.Sprintf("$SITE%d {\nsession {\n%s\n}\nrespond ok\n}\n", len(sites), store)
	}
	s := start(t, sites)
	s.logged("the rqlite password goes over the network unencrypted")
	if log := s.readLog(); strings.Count(log, "unencrypted") != 1 || !strings.Contains(log, `"addresses":["http://192.0.2.1:1"]`) {
		t.Error("that is not said once, of the node that it is true of")
	}
}
