package caddysession_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	caddysession "github.com/caddy-session/caddy-session"
)

func TestAdmin_tellsOfWhatItEnds(t *testing.T) {
	var h heard
	s := startWithAdmin(t, strings.Replace(adminSite, "\tsession {", `	events {
		on session_destroyed in_go $HEAR
	}
	session {`, 1), "STORE", "", "HEAR", onEvent(t, h.hear))
	label := adminInto[stores](s, http.MethodGet, "/session/stores").Stores[0].Label
	_, id := s.signIn("alice")
	s.signIn("alice")
	s.signIn("bob")
	if got := adminInto[caddysession.CountResult](s, http.MethodGet, "/session/count?store="+url.QueryEscape(label)); got.Sessions != 3 {
		t.Errorf("by its label the store has %+v", got)
	}
	want := ""
	for _, end := range []struct{ what, told string }{
		{"/" + id, fmt.Sprintf("map[principal:alice session_id:%s store:%s]", id, label)},
		{"?principal=alice", fmt.Sprintf("map[principal:alice store:%s]", label)},
		{"?all=1", fmt.Sprintf("map[store:%s]", label)},
	} {
		adminInto[caddysession.RevokeResult](s, http.MethodDelete, "/session/sessions"+end.what)
		want = strings.TrimPrefix(want+"\nsession_destroyed "+end.told, "\n")
		eventually(t, "the event", func() bool { return len(h.said()) >= len(want) })
		if said := h.said(); said != want {
			t.Fatalf("heard\n%s\nwant\n%s", said, want)
		}
	}
}
