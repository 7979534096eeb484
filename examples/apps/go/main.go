// Command go is a shop whose sessions are kept by Caddy.
package main

import (
	"encoding/json"
	"html/template"
	"log"
	"net/http"
	"os"
	"strings"
)

// session is what this application keeps in a session.
type session struct {
	User   string         `json:"user"`
	Visits int            `json:"visits"`
	Cart   map[string]int `json:"cart"`
}

var page = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en">
<title>Shop</title>
{{ if .User }}
<p>Hello <b id="user">{{ .User }}</b>, visit <b id="visits">{{ .Visits }}</b></p>
<form method="post" action="/logout"><button id="logout">Log out</button></form>
{{ else }}
<form method="post" action="/login"><input name="user" aria-label="Name"><button id="login">Log in</button></form>
{{ end }}
<ul id="cart">{{ range $item, $count := .Cart }}<li>{{ $item }}</li>{{ end }}</ul>
<form method="post" action="/cart"><input name="item" aria-label="Item"><button id="add">Add to cart</button></form>
`))

// read takes the session from the request.
func read(r *http.Request) (s session) {
	_ = json.Unmarshal([]byte(r.Header.Get("Session-Data")), &s) // no header: an empty session
	return s
}

// change sends what changes with the response: a JSON merge patch. Headers have
// no control characters, and JSON leaves one as it is.
func change(w http.ResponseWriter, patch map[string]any) {
	text, err := json.Marshal(patch)
	if err != nil {
		panic(err) // strings and numbers: it cannot fail
	}
	w.Header().Set("Session-Set", strings.ReplaceAll(string(text), "\x7f", `\u007f`))
}

func main() {
	http.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		s := read(r)
		if s.User != "" {
			s.Visits++
			change(w, map[string]any{"visits": s.Visits})
		}
		if err := page.Execute(w, s); err != nil {
			log.Print(err)
		}
	})
	http.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		change(w, map[string]any{"user": r.FormValue("user")})
		w.Header().Set("Session-Action", "renew")
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	http.HandleFunc("POST /cart", func(w http.ResponseWriter, r *http.Request) {
		// A key for each item: what two tabs add at a time is merged. Of two lists the last would win.
		change(w, map[string]any{"cart": map[string]int{r.FormValue("item"): 1}})
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	http.HandleFunc("POST /logout", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Session-Action", "destroy")
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	port := os.Getenv("PORT")
	if port == "" {
		port = "3000"
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:"+port, nil))
}
