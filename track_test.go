package caddysession_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	caddysession "github.com/caddy-session/caddy-session"
)

func TestTrack_keepsWhenAndFromWhereSessionsAreUsed(t *testing.T) {
	backdate := inGo(t, func(_ http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
		ago, err := time.ParseDuration(r.URL.Query().Get("ago"))
		if err != nil {
			return err
		}
		caddysession.FromContext(r.Context()).Manager().Put(r.Context(), "__used", int(time.Now().Add(-ago).Unix()))
		return nil
	})
	s := start(t, `
{
	servers {
		trusted_proxies static 127.0.0.1/32
	}
}
$SITE {
	session {
		principal user
		track on
	}
	handle /login {
		session_edit put user alice
	}
	handle /account/sessions {
		session_devices
	}
	handle /read {
		respond "{http.session.data.user}"
	}
	handle /untouched {
		respond "untouched"
	}
}
$SITE2 {
	session {
		principal user
	}
	in_go `+backdate+`
}`)
	v := s.visitor()
	first := []string{"User-Agent", "first\xff", "X-Forwarded-For", "192.0.2.1"}
	second := []string{"User-Agent", "second", "X-Forwarded-For", "2001:db8::7"}
	v.get("/login", first...)
	shown := v.devices().Sessions[0]
	if shown.UserAgent != "first" || shown.Address != "192.0.2.1" {
		t.Errorf("the login is kept as %q from %s", shown.UserAgent, shown.Address)
	}
	if at, err := time.Parse(time.RFC3339, shown.Used); err != nil || time.Since(at).Abs() > 10*time.Second {
		t.Errorf("the login is kept as of %s", shown.Used)
	}

	used := func(ago time.Duration) time.Time {
		v.get("$SITE2/?ago="+ago.String()).want(t, http.StatusOK, "")
		return time.Now().Add(-ago)
	}
	for name, test := range map[string]struct {
		ago   time.Duration
		by    []string
		path  string
		agent string // that is kept then
		noted bool
	}{
		"long ago":                         {10 * time.Minute, first, "/read", "first", true},
		"a while ago":                      {2 * time.Minute, first, "/read", "first", false},
		"a while ago by another":           {2 * time.Minute, second, "/read", "second", true},
		"just now by another":              {30 * time.Second, second, "/read", "first", false},
		"long ago, and not read":           {10 * time.Minute, second, "/untouched", "first", false},
		"just now, and set to what it was": {30 * time.Second, second, "/login", "first", false},
	} {
		t.Run(name, func(t *testing.T) {
			used(10 * time.Minute)
			noted := s.table().only().version
			v.get("/read", first...)
			eventually(t, "the use to be noted", func() bool { return s.table().only().version > noted })
			want := used(test.ago)
			before := s.table().only().version
			a := v.get(test.path, test.by...)
			if a.StatusCode != http.StatusOK || a.Header["Set-Cookie"] != nil {
				t.Fatalf("%d %v", a.StatusCode, a.Header["Set-Cookie"])
			}
			if test.noted {
				eventually(t, "the use to be noted", func() bool { return s.table().only().version > before })
				want = time.Now()
			}
			if version := s.table().only().version; !test.noted && version != before {
				t.Errorf("the row is written: version %d after %d", version, before)
			}
			var kept struct {
				Values struct {
					Used  int64  `json:"__used"`
					Agent string `json:"__agent"`
				} `json:"values"`
			}
			if err := json.Unmarshal([]byte(s.table().only().data), &kept); err != nil {
				t.Fatal(err)
			}
			if kept.Values.Agent != test.agent {
				t.Errorf("the agent is %q", kept.Values.Agent)
			}
			wantUsed(t, time.Unix(kept.Values.Used, 0), want)
		})
	}
}

func wantUsed(t *testing.T, got, want time.Time) {
	t.Helper()
	if got.Sub(want).Abs() > 10*time.Second {
		t.Errorf("it is kept as used at %v, want %v", got, want)
	}
}
