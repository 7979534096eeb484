package cluster_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/cluster"
)

// unknownOutcomes are answers after which nobody can tell whether the request
// was applied.
func unknownOutcomes() map[string]http.HandlerFunc {
	answers := map[string]http.HandlerFunc{
		"connection cut":  cutOff,
		"half an answer":  halfAnAnswer,
		"end not marked":  cutWhereItLooksComplete,
		"HTML":            says(http.StatusOK, "<html>It works!</html>"),
		"truncated JSON":  says(http.StatusOK, `{"results":[{"rows_affected":1}`),
		"empty":           says(http.StatusOK, ""),
		"null":            says(http.StatusOK, "null"),
		"array":           says(http.StatusOK, `[]`),
		"no results":      says(http.StatusOK, `{}`),
		"wrong type":      says(http.StatusOK, `{"results":"none"}`),
		"wrong elements":  says(http.StatusOK, `{"results":[1,2]}`),
		"no result":       says(http.StatusOK, `{"results":[]}`),
		"no result, time": says(http.StatusOK, `{"results":[],"time":0.001}`),
		"wrong error":     says(http.StatusOK, `{"error":17}`),
		"status 500":      says(http.StatusInternalServerError, "boom"),
		"status 502":      says(http.StatusBadGateway, "<html>bad gateway</html>"),
		"status 404":      says(http.StatusNotFound, "404 page not found"),
		"status 302":      says(http.StatusFound, ""),
		"leadership lost": says(http.StatusOK, `{"results":[],"error":"leadership lost while committing log"}`),
		"full disk":       says(http.StatusOK, `{"results":[],"error":"unable to store logs within log store, err: \"write raft.db: no space left on device\""}`),
		"error, results":  says(http.StatusOK, `{"results":[{"rows_affected":1}],"error":"leadership lost while committing log"}`),
	}
	for _, text := range []string{
		"not leader", "node is not the leader", "no leader", "raft is already shutdown", "snapshot restored while committing log",
		"dial tcp 10.0.0.2:4002: connect", "connect: connection refused", "read: connection reset by peer", "write: broken pipe",
		"use of closed network connection", "network connection closed", "EOF", "read: i/o timeout", "connect: no route to host",
		"connect: network is unreachable", "read protobuf length", "write protobuf", "write length", "tls: internal error",
		"context canceled", "context deadline exceeded",
	} {
		answers[text] = says(http.StatusOK, `{"results":[],"error":"`+text+`"}`)
	}
	return answers
}

// notApplied are answers that say for certain that the request was not applied.
func notApplied() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"no leader, redirect": says(http.StatusInternalServerError, "leader not found\n"),
		"no leader, forward":  says(http.StatusServiceUnavailable, "leader not found\n"),
		"transfer":            says(http.StatusOK, `{"results":[],"error":"leadership transfer in progress"}`),
		"not ready":           says(http.StatusOK, `{"results":[],"error":"store not ready"}`),
		"not open":            says(http.StatusOK, `{"results":[],"error":"store not open"}`),
		"not enqueued":        says(http.StatusOK, `{"results":[],"error":"timed out enqueuing operation"}`),
		"not applied yet":     says(http.StatusOK, `{"results":[],"error":"timeout waiting for fsm"}`),
		"not verified":        says(http.StatusOK, `{"results":[],"error":"failed to verify leader"}`),
		"leader not found":    says(http.StatusOK, `{"results":[],"error":"leader not found"}`),
		"stale":               says(http.StatusOK, `{"results":[],"error":"stale read"}`),
		"redirect":            follows("http://10.255.255.1:4001"),
	}
}

func halfAnAnswer(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	_, _ = io.WriteString(w, `{"results":[{"rows_affected":1}`)
	panic(http.ErrAbortHandler)
}

// cutWhereItLooksComplete ends after the first of several results.
func cutWhereItLooksComplete(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"+
		`{"results":[{"types":{"n":"integer"},"rows":[{"n":1}],"time":0.001}`)
}

func TestTransport_neverRepeatsWhatMayHaveBeenApplied(t *testing.T) {
	t.Parallel()
	for name, answer := range unknownOutcomes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := newFake(t, answering(answer))
			good := newFake(t, following(bad.URL))
			tr := open(t, cluster.Config{}, bad, good)
			_, _, err := send(t, t.Context(), tr, execute)
			if err == nil || !strings.Contains(err.Error(), "outcome is unknown") || !strings.Contains(err.Error(), bad.URL) {
				t.Errorf("error %v", err)
			}
			if n := len(bad.requests()) + len(good.requests()); n != 1 {
				t.Errorf("the request was sent %d times", n)
			}
			if tr.Nodes()[0].LastError == "" {
				t.Error("the node has no error")
			}
		})
	}
}

func TestTransport_repeatsWhatMayBeRepeated(t *testing.T) {
	t.Parallel()
	answers := unknownOutcomes()
	for name, answer := range notApplied() {
		answers[name] = answer
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := newFake(t, answering(once(answer, ok)))
			good := newFake(t, following(bad.URL))
			tr := open(t, cluster.Config{}, bad, good)
			mustSend(t, repeatable(t), tr, execute)
			bad.behave(answering(once(answer, ok)))
			mustSend(t, t.Context(), tr, query)
		})
	}
}

// Only to no statement at all there is no result.
func TestTransport_passesOnThatNothingWasAsked(t *testing.T) {
	t.Parallel()
	const none = `{"results":[],"time":0.001}`
	tr := open(t, cluster.Config{}, newFake(t, answering(says(http.StatusOK, none))))
	if body := ask(t, tr, http.MethodPost, execute, "[]\n"); body != none {
		t.Errorf("the answer is %q", body)
	}
}

func TestTransport_repeatsWhatWasNotApplied(t *testing.T) {
	t.Parallel()
	for name, answer := range notApplied() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := newFake(t, answering(once(answer, ok)))
			tr := open(t, cluster.Config{}, bad, newFake(t, following(bad.URL)))
			mustSend(t, t.Context(), tr, execute)
		})
	}
}

func TestTransport_repeatsWhatNoConnectionCarried(t *testing.T) {
	t.Parallel()
	a := newFake(t, leading())
	b := newFake(t, following(a.URL))
	tr := open(t, cluster.Config{}, a, b)
	mustSend(t, t.Context(), tr, execute)
	b.behave(leading())
	a.CloseClientConnections()
	a.Close()
	// Else the request might be written to the dead one.
	tr.CloseIdleConnections()
	mustSend(t, t.Context(), tr, execute)
	if n := len(b.requests()); n != 1 {
		t.Errorf("the other node got %d requests", n)
	}
}

func TestTransport_waitsForARefusingNode(t *testing.T) {
	t.Parallel()
	f := newUnstartedFake(t, leading())
	address := f.Listener.Addr().String()
	tr, err := cluster.New(cluster.Config{Nodes: []string{refusing(t), "http://" + address}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	// The kernel accepts for the fake, nobody answers yet: a node that starts.
	done := sending(t, t.Context(), tr, execute)
	eventually(t, "the refusing node is noticed", func() bool { return tr.Nodes()[0].State != cluster.Closed })
	f.Start()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := len(f.requests()); n != 1 {
		t.Errorf("the request arrived %d times", n)
	}
}

func TestTransport_aForwardersErrorIsNotCertain(t *testing.T) {
	t.Parallel()
	// The node may have tried twice: the second error says nothing about the
	// first attempt.
	notLeader := says(http.StatusOK, `{"error":"store not ready"}`)
	f := newFake(t, conduct{request: func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("redirect") {
			follows("http://10.255.255.1:4001")(w, r)
			return
		}
		notLeader(w, r)
	}})
	tr := open(t, cluster.Config{}, f)
	_, _, err := send(t, t.Context(), tr, execute)
	if err == nil || !strings.Contains(err.Error(), "outcome is unknown") {
		t.Errorf("error %v", err)
	}
}

func TestTransport_passesAnswersOn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		body   string
	}{
		"unauthorized": {http.StatusUnauthorized, "go away\n"}, // an empty one gets words, see wrongPasswordIsToldAtOnce
		"forbidden":    {http.StatusForbidden, "go away\n"},
		"bad request":  {http.StatusBadRequest, "invalid JSON body\n"},
		"bad method":   {http.StatusMethodNotAllowed, "\n"},
		"too large":    {http.StatusRequestEntityTooLarge, "<html>too large</html>"}, // says what is before the node
		"SQL error":    {http.StatusOK, `{"results":[{"error":"UNIQUE constraint failed: t.id"}]}`},
		"pragma":       {http.StatusOK, `{"results":[],"error":"pragma not allowed"}`},
		"an error row": {http.StatusOK, `{"results":[{"columns":["error"],"types":["text"],"values":[["not leader"]]}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := says(c.status, c.body)
			f := newFake(t, answering(answer))
			other := newFake(t, conduct{request: answer, probe: follows(f.URL)})
			var hedged counter
			tr := open(t, cluster.Config{Observe: hedged.observe}, f, other)
			for _, path := range []string{execute, query} {
				status, body, err := send(t, repeatable(t), tr, path)
				if err != nil || status != c.status || body != c.body {
					t.Errorf("%s: status %d, body %q, error %v", path, status, body, err)
				}
			}
			if n := len(f.requests()) + len(other.requests()); n < 2 || n > 2+hedged.count() {
				t.Errorf("two requests were sent %d times", n)
			}
		})
	}
}

// What refuses the search for the leader, as something before a node may, leads nothing.
func TestTransport_takesNoRefusalForALeader(t *testing.T) {
	t.Parallel()
	var refused atomic.Int32
	no := says(http.StatusBadRequest, "the plain HTTP request was sent to an HTTPS port\n")
	a := newFake(t, conduct{request: no, alive: no, probe: func(w http.ResponseWriter, r *http.Request) {
		refused.Add(1)
		no(w, r)
	}})
	b := newFake(t, conduct{request: ok, probe: func(w http.ResponseWriter, r *http.Request) {
		until(r.Context(), func() bool { return refused.Load() >= 2 }) // so the first one is known
		ok(w, r)
	}})
	mustSend(t, t.Context(), open(t, cluster.Config{}, a, b), execute)
}

func TestTransport_wrongPasswordIsToldAtOnce(t *testing.T) {
	t.Parallel()
	denied := says(http.StatusUnauthorized, "")
	a, b := newFake(t, conduct{request: denied, alive: denied}), newFake(t, conduct{request: denied, alive: denied})
	tr := open(t, cluster.Config{Username: "u", Password: "wrong"}, a, b)
	status, body, err := send(t, t.Context(), tr, execute)
	if err != nil || status != http.StatusUnauthorized || !strings.Contains(body, "check the user name, the password") {
		t.Fatalf("status %d, body %q, error %v", status, body, err)
	}
	if n := len(a.requests()) + len(b.requests()); n != 1 {
		t.Errorf("the request was sent %d times", n)
	}
}

func TestTransport_wrongPasswordIsANodesLastError(t *testing.T) {
	t.Parallel()
	denied := says(http.StatusUnauthorized, "")
	leader, other := newFake(t, leading()), newFake(t, conduct{request: denied, alive: denied})
	tr := open(t, cluster.Config{Username: "u", Password: "changed on one node"}, leader, other)
	tr.Start()
	eventually(t, "the status says that the node refuses the user", func() bool {
		return strings.Contains(tr.Nodes()[1].LastError, "refuses this user")
	})
	mustSend(t, t.Context(), tr, query)
	if s := tr.Nodes()[0]; s.LastError != "" {
		t.Errorf("the other node has the error %q", s.LastError)
	}
}

// What such a node says while the leader is slow is no answer.
func TestTransport_waitsForALeader_whenAnotherNodeRefusesTheUser(t *testing.T) {
	t.Parallel()
	denied := says(http.StatusUnauthorized, "")
	other := newFake(t, conduct{request: denied, alive: denied})
	var checks atomic.Int32
	leader := newFake(t, conduct{
		probe: ok,
		alive: func(w http.ResponseWriter, r *http.Request) {
			checks.Add(1)
			ok(w, r)
		},
		request: func(w http.ResponseWriter, r *http.Request) {
			until(r.Context(), func() bool { return len(other.requests()) > 0 && checks.Load() >= 2 })
			ok(w, r)
		},
	})
	tr := open(t, cluster.Config{Username: "u", Password: "changed on one node"}, leader, other)
	mustSend(t, t.Context(), tr, query)
}

func TestTransport_asksTheOthers_whenTheLeaderAnswersRubbish(t *testing.T) {
	t.Parallel()
	for name, rubbish := range map[string]http.HandlerFunc{
		"a page":   says(http.StatusOK, "<html>"),
		"an error": says(http.StatusInternalServerError, "boom"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			leader := newFake(t, answering(rubbish))
			other := newFake(t, following(leader.URL))
			tr := open(t, cluster.Config{}, leader, other)
			mustSend(t, t.Context(), tr, query)
			if a, b := len(leader.requests()), len(other.requests()); a != 1 || b != 1 {
				t.Errorf("the leader was asked %d times, the other node %d times", a, b)
			}
			other.behave(conduct{request: rubbish, probe: follows(leader.URL)})
			begun := time.Now()
			if _, _, err := send(t, t.Context(), tr, query); err == nil {
				t.Error("rubbish was taken for an answer")
			}
			if took := time.Since(begun); took > 4*time.Second {
				t.Errorf("it took %s to find that every node answers rubbish", took)
			}
			if a, b := len(leader.requests()), len(other.requests()); a != 2 || b != 2 {
				t.Errorf("the leader was asked %d times, the other node %d times", a, b)
			}
		})
	}
}

// What answers no question as rqlite does gets no more requests, though it may seem to lead.
func TestTransport_leavesANodeThatIsNoneOfRqlite(t *testing.T) {
	t.Parallel()
	page := says(http.StatusOK, "<html>")
	leader := newFake(t, leading())
	tr := open(t, cluster.Config{}, leader, newFake(t, following(leader.URL)))
	mustSend(t, t.Context(), tr, query)
	leader.behave(conduct{request: page, alive: page, probe: ok})
	mustSend(t, t.Context(), tr, query)
	eventually(t, "the breaker opens", func() bool { return tr.Nodes()[0].State != cluster.Closed })
}

func TestTransport_waitsForALoadBalancerWithoutANode(t *testing.T) {
	t.Parallel()
	for _, status := range []int{
		http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
	} {
		unavailable := says(status, "<html>no server is available</html>")
		tr := open(t, cluster.Config{}, newFake(t, conduct{request: once(unavailable, ok)}))
		mustSend(t, t.Context(), tr, query)
	}
}

func TestTransport_errorNamesEveryNode(t *testing.T) {
	t.Parallel()
	a, b := refusing(t), refusing(t)
	c := newFake(t, conduct{request: says(http.StatusInternalServerError, "leader not found\n")})
	tr, err := cluster.New(cluster.Config{Nodes: []string{a, b, c.URL}, Username: "mary", Password: "canary-secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	_, _, err = send(t, t.Context(), tr, query)
	if err == nil {
		t.Fatal("answered")
	}
	for _, part := range []string{a, b, c.URL, "connection refused", "leader"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error lacks %q: %v", part, err)
		}
	}
	if strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "mary") {
		t.Errorf("the error shows the credentials: %v", err)
	}
}
