package main

import (
	"slices"
	"strings"
)

// side is one way of having sessions in Caddy, or of having none.
type side struct {
	name, title string
	// routes are the part of the Caddyfile; {UPSTREAM} and {STORE} stand for addresses.
	routes string
	// store says which server it needs: "", rqlited or redis.
	store string
	// peer is the side that it is compared with.
	peer string
	// works are what it takes part in, all of them where there are none.
	works []string
}

func (s side) does(w work) bool { return len(s.works) == 0 || slices.Contains(s.works, w.name) }

const (
	bare     = "bare"
	embedded = "embedded"
	keys     = "keys"
	shared   = "shared"
	memstore = "memstore"
	rqlited  = "rqlited"
	cached   = "cached"
	redis    = "redis"
)

var sides = []side{
	{name: bare, title: "reverse_proxy alone", routes: bareRoutes},
	{name: embedded, title: "session, embedded node", routes: sessionRoutes("embedded {DIR}/sessions.db"), peer: memstore},
	{name: keys, title: "the same with keys", routes: sessionRoutes("embedded {DIR}/sessions.db\n\t\tkeys a-secret-for-this-measurement-and-no-other"), peer: embedded, works: []string{"read", "write"}},
	{name: shared, title: "the same with upstream send *, two placeholders and a matcher", routes: sharedRoutes(), peer: embedded, works: []string{"read"}},
	{name: memstore, title: "scs LoadAndSave, memstore", routes: plainRoutes("")},
	{name: rqlited, title: "session, one rqlited", routes: sessionRoutes("rqlite http://{STORE}"), store: rqlited, peer: redis},
	{name: cached, title: "session, one rqlited, cache 1s", routes: sessionRoutes("rqlite http://{STORE}\n\t\ttable cached\n\t\tcache 1s"), store: rqlited, peer: redis},
	{name: redis, title: "scs LoadAndSave, redisstore, fsync always", routes: plainRoutes("{STORE}"), store: redis},
}

// loginValues are what a session holds: about 250 bytes as stored.
var loginValues = [][2]string{
	{"user", "alice"},
	{"email", "alice.liddell@example.com"},
	{"role", "editor"},
	{"locale", "en-GB"},
	{"csrf", "2f1c7f6c0b6f4e52a9a4c2a1d0f3e8b7"},
	{"cart", "sku-10293:2,sku-88120:1,sku-55501:4"},
}

// bareRoutes are as many as the others have: every route costs a request something.
const bareRoutes = `
	handle /login {
		respond 204
	}
	handle /none {
		reverse_proxy {UPSTREAM} {
			import upstream
		}
	}
	handle /read {
		reverse_proxy {UPSTREAM} {
			import upstream
			header_up X-User alice
		}
	}
	handle /write {
		reverse_proxy {UPSTREAM} {
			import upstream
		}
	}
	handle /count {
		reverse_proxy {UPSTREAM} {
			import upstream
			header_up X-User alice
		}
	}`

func sessionRoutes(store string) string {
	var values strings.Builder
	for _, v := range loginValues {
		values.WriteString("\t\t\tput " + v[0] + " " + v[1] + "\n")
	}
	return `
	session {
		` + store + `
	}
	handle /login {
		session_edit {
` + values.String() + `		}
		respond 204
	}
	handle /none {
		reverse_proxy {UPSTREAM} {
			import upstream
		}
	}
	handle /read {
		reverse_proxy {UPSTREAM} {
			import upstream
			header_up X-User {http.session.data.user}
		}
	}
	handle /write {
		session_edit increment n
		reverse_proxy {UPSTREAM} {
			import upstream
		}
	}
	handle /count {
		reverse_proxy {UPSTREAM} {
			import upstream
			header_up X-User {http.session.data.n}
		}
	}`
}

// sharedRoutes let the application have the session in every way at once.
func sharedRoutes() string {
	return strings.NewReplacer(
		"sessions.db\n", "sessions.db\n\t\tupstream {\n\t\t\tsend *\n\t\t}\n",
		"handle /read {\n\t\treverse_proxy {UPSTREAM} {", "handle /read {\n\t\t@member session user\n\t\treverse_proxy @member {UPSTREAM} {\n\t\t\theader_up X-Role {http.session.data.role}",
	).Replace(sessionRoutes("embedded {DIR}/sessions.db"))
}

func plainRoutes(redis string) string {
	var b strings.Builder
	for _, do := range []string{"none", "read", "write", "count"} {
		b.WriteString(`
	handle /` + do + ` {
		scs_plain ` + do + ` ` + redis + `
		reverse_proxy {UPSTREAM} {
			import upstream
		}
	}`)
	}
	b.WriteString(`
	handle /login {
		scs_plain login ` + redis + ` {
`)
	for _, v := range loginValues {
		b.WriteString("\t\t\t" + v[0] + " " + v[1] + "\n")
	}
	b.WriteString("\t\t}\n\t\trespond 204\n\t}")
	return b.String()
}
