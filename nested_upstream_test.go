package caddysession_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// What an edit of the inner session writes into the request says nothing of who
// the outer one belongs to.
func TestNested_upstreamsShareTheirOwnSession(t *testing.T) {
	app := newApplication(t, nil)
	s := start(t, `
$SITE {
	session {
		cookie staff
		upstream {
			send user
			header user X-Staff
		}
	}
	handle /staff {
		session_edit put user root
	}
	handle {
		session {
			cookie shop
			table shop
			upstream {
				header user X-Customer
			}
		}
		session_edit /login put user mallory
		session_edit increment visits
		reverse_proxy $APP
	}
}`, "APP", app.address())
	wantHeaders := func(staff, customer []string) {
		t.Helper()
		header := app.last(t).Header
		if !slices.Equal(header["X-Staff"], staff) || !slices.Equal(header["X-Customer"], customer) || header["Session-Data"] != nil {
			t.Errorf("the application is sent the staff %q, the customer %q, and %q", header["X-Staff"], header["X-Customer"], header["Session-Data"])
		}
	}
	v := s.visitor()
	v.get("/login").want(t, http.StatusOK, "app")
	wantHeaders(nil, []string{"mallory"})
	v.get("/staff").want(t, http.StatusOK, "")
	v.get("/").want(t, http.StatusOK, "app")
	wantHeaders([]string{"root"}, []string{"mallory"})
}

const joinedUpstreams = `
$SITE {
	session {
		upstream {
			send user
			header user X-User
		}
	}
	handle /put {
		in_go $CODE
	}
	handle /accepts* {
		session {
			upstream {
				accept
			}
		}
		reverse_proxy $APP
	}
	handle /sends* {
		session {
			upstream {
				send cart
			}
		}
		session_edit increment visits
		reverse_proxy $APP
	}
}
$SITE2 {
	session {
		upstream {
			accept
		}
	}
	session {
		upstream {
			send cart
		}
	}
	reverse_proxy $APP
}`

// The upstream of a session that joins is added to that of the outer one.
func TestNested_upstreamsOfOneSessionAddUp(t *testing.T) {
	app := newApplication(t, obedient)
	s := start(t, joinedUpstreams, "APP", app.address(), "CODE", puts(t))
	v := s.visitor()
	v.put(`{"user":"alice"}`)
	wantData := func(path, data string) {
		t.Helper()
		v.get(path).want(t, http.StatusOK, "app")
		header := app.last(t).Header
		if header.Get("Session-Data") != data || header.Get("X-User") != "alice" || header.Get("Session-Id") == "" {
			t.Errorf("%s: the application is sent %q", path, header)
		}
	}
	wantData("/accepts", `{"user":"alice"}`)
	wantData("/accepts?Session-Set="+url.QueryEscape(`{"cart":["book"]}`), `{"user":"alice"}`)
	wantData("/sends", `{"cart":["book"],"user":"alice"}`)

	// It may change what the outer one accepts.
	v.get("$SITE2/?Session-Set="+url.QueryEscape(`{"cart":["pen"]}`)).want(t, http.StatusOK, "app")
	wantData("/sends", `{"cart":["pen"],"user":"alice"}`)

	// What would no longer fit the outer one's header is ignored.
	v.get("/accepts?Session-Set="+url.QueryEscape(`{"user":"`+strings.Repeat("a", 5000)+`"}`)).want(t, http.StatusOK, "app")
	s.logged("Session-Set is ignored")
	wantData("/accepts", `{"user":"alice"}`)
}
