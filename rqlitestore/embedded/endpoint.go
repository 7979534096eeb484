package embedded

import (
	"context"
	"net/http"
	"strings"
)

// endpoint is a path of rqlite's API.
type endpoint struct {
	get, post bool // which methods it has
	answer    func(n *Node, req *http.Request, p params, body []byte) (reply, error)
}

func (e endpoint) allows(method string) bool {
	return e.get && method == http.MethodGet || e.post && method == http.MethodPost
}

var endpoints = map[string]endpoint{
	"/db/execute": {post: true, answer: withStatements((*Node).execute)},
	"/db/query":   {get: true, post: true, answer: withStatements((*Node).query)},
	"/db/request": {post: true, answer: withStatements((*Node).request)},
	"/status":     {get: true, answer: (*Node).status},
	"/nodes":      {get: true, answer: (*Node).nodes},
	"/leader":     {get: true, answer: (*Node).leader},
	"/readyz":     {get: true, answer: (*Node).ready},
}

// withStatements has the statements of a request answered: those in its body, or the one in the URL of a GET.
func withStatements(answer func(*Node, context.Context, params, []statement) (reply, error)) func(*Node, *http.Request, params, []byte) (reply, error) {
	return func(n *Node, req *http.Request, p params, body []byte) (reply, error) {
		if req.Method == http.MethodGet {
			return answer(n, req.Context(), p, []statement{{sql: p.query}})
		}
		list, err := parseRequest(body)
		if err != nil {
			return badRequest(err), nil
		}
		return answer(n, req.Context(), p, list)
	}
}

// endpointName finds the endpoint of a path. As in rqlite, all but /leader are prefixes.
func endpointName(path string) string {
	if _, ok := endpoints[path]; ok {
		return path
	}
	for name := range endpoints {
		if name != "/leader" && strings.HasPrefix(path, name) {
			return name
		}
	}
	return path
}
