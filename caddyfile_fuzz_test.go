package caddysession_test

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	caddysession "github.com/caddy-session/caddy-session"
)

// FuzzCaddyfile gives every directive here whatever text there is: it is taken
// or refused, and what is taken can be written as JSON.
func FuzzCaddyfile(f *testing.F) {
	for _, text := range []string{
		"session",
		"session {\n rqlite http://a:4001 {\n username u\n password p\n tls_cert a b\n consistency none\n timeout 1s\n }\n}",
		"session {\n embedded f {\n synchronous normal\n }\n table t\n cleanup_interval 0\n}",
		"session {\n cookie n {\n domain d\n path /p\n same_site none\n secure on\n http_only off\n partitioned\n }\n persist off\n}",
		"session {\n lifetime 1h\n idle_timeout 5m\n touch_interval 1m\n renew_interval 10m\n remember_lifetime 7d\n max_size 1MB\n cache 1s\n principal user\n}",
		"session {\n cross_origin deny https://a.example\n upstream {\n send a b.c\n header user X-User\n accept\n }\n}",
		"session_edit {\n put a b\n put_json c `{\"d\":[1,null]}`\n increment n -2\n remove a b\n clear\n renew\n destroy\n destroy_others\n remember on\n redir / 303\n}",
		"session_edit put_json a \"{\"",
		"session_auth user",
		"session_csrf field",
		"session user alice {$HOME}",
		"session \"__x\" <<END\n a\n END",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "import") || strings.Contains(text, "{$") { // files and the environment are not what is tried
			return
		}
		tokens, err := caddyfile.Tokenize([]byte(text), "Caddyfile")
		if err != nil {
			return
		}
		for _, part := range []caddyfile.Unmarshaler{
			new(caddysession.Handler), new(caddysession.Edit), new(caddysession.Auth), new(caddysession.CSRF), new(caddysession.Match),
		} {
			if err := part.UnmarshalCaddyfile(caddyfile.NewDispenser(tokens)); err != nil {
				if err.Error() == "" {
					t.Errorf("%T refuses %q without a reason", part, text)
				}
				continue
			}
			var warnings []caddyconfig.Warning
			if len(caddyconfig.JSON(part, &warnings)) == 0 || len(warnings) > 0 {
				t.Errorf("%T takes %q and cannot be written: %v", part, text, warnings)
			}
		}
	})
}
