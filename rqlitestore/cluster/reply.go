package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// verdict is what one attempt at one node means for the request.
type verdict int

const (
	answered verdict = iota // the caller gets this answer
	unsent                  // no connection came about: certainly not applied
	moved                   // certainly not applied: the node does not lead, or not yet, or not any more
	cut                     // the connection broke or the time ran out: outcome unknown
	lost                    // the cluster had no stable leader: outcome unknown
	garbled                 // this is not how rqlite answers: outcome unknown
	emptied                 // certainly not applied: the table that was there is not, see emptied.go
)

// unknown reports whether the request may have been applied.
func (v verdict) unknown() bool { return v == cut || v == lost || v == garbled }

// mode is how a node is asked.
type mode int

const (
	direct  mode = iota // answer yourself, or say who leads
	forward             // pass it on to the leader
	local               // answer from your own data: reads at level none
)

// reply is one answer of a node, completely read.
type reply struct {
	verdict  verdict
	reason   error  // why it is not an answer, or is one that may mean more than it says
	late     bool   // nothing is wrong but the time it takes: with unsent and cut
	leader   string // host and port of the leader, with moved, if the node knows
	denied   bool   // the answer is a refusal (4xx)
	response *http.Response
}

// judgeReply tells what a response to q means. whole says that its end was marked
// as such, and not by a connection that ended.
func judgeReply(q *question, m mode, res *http.Response, body []byte, whole bool) reply {
	r := reply{response: res}
	switch {
	case res.StatusCode == http.StatusOK:
		if isData(res) {
			r.verdict, r.reason = judgeBody(m, body, whole, bytes.Equal(bytes.TrimSpace(q.body), []byte("[]")))
		}
	case res.StatusCode == http.StatusMovedPermanently && m == direct:
		// Only the address is taken from it: nobody follows it.
		r.verdict, r.reason = moved, errors.New("not the leader")
		if u, err := url.Parse(res.Header.Get("Location")); err == nil {
			r.leader = u.Host
		}
	case res.StatusCode == http.StatusUnauthorized, res.StatusCode == http.StatusForbidden:
		r.denied, r.reason = true, errRefused
		if len(bytes.TrimSpace(body)) == 0 {
			// rqlite leaves it at the status, and gorqlite quotes what stands here.
			setBody(res, io.NopCloser(strings.NewReader(errRefused.Error())), len(errRefused.Error()))
		}
	case res.StatusCode == http.StatusBadRequest, res.StatusCode == http.StatusMethodNotAllowed,
		res.StatusCode == http.StatusRequestEntityTooLarge:
		r.denied, r.reason = true, fmt.Errorf("status %d%s", res.StatusCode, excerpt(res, body))
	case res.StatusCode/100 == 5 && isLeaderNotFound(body):
		// rqlite decides this before it sends the request anywhere.
		r.verdict, r.reason = moved, errors.New("leader not found")
	case res.StatusCode == http.StatusTooManyRequests, res.StatusCode == http.StatusBadGateway,
		res.StatusCode == http.StatusServiceUnavailable, res.StatusCode == http.StatusGatewayTimeout:
		// Something in between has no node to offer at the moment.
		r.verdict, r.reason = lost, fmt.Errorf("status %d%s", res.StatusCode, excerpt(res, body))
	default:
		r.verdict, r.reason = garbled, fmt.Errorf("status %d%s", res.StatusCode, excerpt(res, body))
	}
	return r
}

// errRefused says what rqlite answers alike to an unknown user, a wrong password
// and a missing permission.
var errRefused = errors.New("the node refuses this user: check the user name, the password, and the permissions execute and query")

// setBody makes body what the caller reads.
func setBody(res *http.Response, body io.ReadCloser, length int) {
	res.Body, res.ContentLength, res.TransferEncoding = body, int64(length), nil
}

func isLeaderNotFound(body []byte) bool {
	return string(bytes.TrimSpace(body)) == "leader not found"
}

// judgeBody looks for the errors that rqlite reports inside a 200. mayBeEmpty says
// that no statement was asked for, and so no result.
func judgeBody(m mode, body []byte, whole, mayBeEmpty bool) (verdict, error) {
	if bytes.HasPrefix(body, []byte(`{"results":[{`)) && !bytes.Contains(body, []byte(`"error"`)) {
		// To walk all of a large answer once more than gorqlite does takes a
		// tenth of the time of a read.
		if (!whole || !endsAsAnswer(body)) && !json.Valid(body) {
			return garbled, errors.New("the answer is not complete JSON")
		}
		return answered, nil
	}
	var answer struct {
		Results *[]struct {
			Error string `json:"error"`
		} `json:"results"`
		Error string `json:"error"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return garbled, errors.New("the answer is not what rqlite sends")
	}
	if answer.Error == "" {
		if answer.Results == nil || len(*answer.Results) == 0 && !mayBeEmpty {
			return garbled, errors.New("the answer has no results")
		}
		for _, result := range *answer.Results {
			if strings.Contains(result.Error, "no such table") {
				return answered, errNoTable
			}
		}
		return answered, nil // what is wrong with a statement is the caller's
	}
	for _, text := range certain {
		// A node that forwards may have tried twice: then the error of the
		// second time says nothing about the first.
		if m != forward && strings.Contains(answer.Error, text) {
			return moved, errors.New(answer.Error)
		}
	}
	for _, text := range unstable {
		if strings.Contains(answer.Error, text) {
			return lost, errors.New(answer.Error)
		}
	}
	return answered, nil
}

// endsAsAnswer reports whether body ends as only a complete answer with timings
// does: }],"time":0.001}. The results in it end otherwise.
func endsAsAnswer(body []byte) bool {
	const most = 48
	tail := bytes.TrimRight(body[max(len(body)-most, 0):], "\n")
	at := bytes.LastIndex(tail, []byte(`}],"time":`))
	if at < 0 || tail[len(tail)-1] != '}' {
		return false
	}
	_, err := strconv.ParseFloat(string(tail[at+len(`}],"time":`):len(tail)-1]), 64)
	return err == nil
}

// certain are errors of rqlite that come before anything was put into the Raft
// log (store.Execute, Query and Request; raft.ApplyLog and leaderLoop).
var certain = []string{
	"leader not found",
	"leadership transfer in progress",
	"timed out enqueuing operation",
	"store not open",
	"store not ready",
	"stale read",
	"timeout waiting for fsm",
	"failed to verify leader",
}

// unstable are errors that come from the state of the cluster or of its network
// and not from the request.
var unstable = append([]string{
	"not leader", "not the leader", "no leader",
	"unable to store logs", // a full disk: the leader steps down
	"leadership lost", "raft is already shutdown", "snapshot restored while",
	"dial tcp", "connection refused", "connection reset", "broken pipe", "use of closed network connection",
	"network connection closed", "EOF", "i/o timeout", "no route to host", "network is unreachable",
	"read protobuf", "write protobuf", "write length", "tls: ",
	"context canceled", "context deadline exceeded",
}, certain...)

// excerpt quotes the beginning of a short plain text, as rqlite's own errors
// are. What a stranger sends is not quoted: it might echo the credentials.
func excerpt(res *http.Response, body []byte) string {
	const most = 120
	if !strings.HasPrefix(res.Header.Get("Content-Type"), "text/plain") || len(body) == 0 {
		return ""
	}
	_, password, _ := res.Request.BasicAuth()
	_, encoded, _ := strings.Cut(res.Request.Header.Get("Authorization"), " ")
	for _, secret := range []string{password, encoded} {
		if secret != "" && bytes.Contains(body, []byte(secret)) {
			return ""
		}
	}
	return fmt.Sprintf(": %q", bytes.TrimSpace(body[:min(len(body), most)]))
}
