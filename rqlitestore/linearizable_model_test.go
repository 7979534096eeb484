package rqlitestore_test

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

// The model: what one session is, if every call happened at one moment between
// its beginning and its end. A history that this cannot explain is a violation.

type action string

const (
	creates     action = "create"
	loads       action = "load"
	updates     action = "update"   // adds its tag to the data; with a token it renews or rotates
	returns     action = "returned" // what an update that was stored gave back
	destroys    action = "destroy"
	isGone      action = "gone"       // an update was told that there is no session
	isRenewed   action = "superseded" // an update was told that its rights are old
	everlasting        = math.MaxInt64
)

// asked is the input of a call.
type asked struct {
	what      action
	id        string
	token     string // to look up, or to store
	rotation  bool
	tag       string
	rights    int64 // of the record that an update began with
	graceOver bool  // so much time has passed that a superseded token may have ended
}

// told is its output.
type told struct {
	unknown bool // an error that leaves open whether it happened
	found   bool
	seen    seen
}

// seen is a record as far as the model knows it.
type seen struct {
	token, data     string
	version, rights int64
	superseded      bool
	alias           bool
}

func see(rec rqlitestore.Record) seen {
	return seen{
		token: rec.Token, data: string(rec.Data), version: rec.Version, rights: rec.Rights,
		superseded: !rec.Superseded.IsZero(), alias: rec.Alias,
	}
}

// session is the state of the model; it is never changed in place.
type session struct {
	born, ended bool
	row         seen
	older       []olderToken
}

// olderToken is what became of a token after a renewal: it shows the row as it
// was, or it is an alias of another token.
type olderToken struct {
	token, leadsTo string
	row            seen
}

func (s session) live() bool { return s.born && !s.ended }

// lookup is what a load of token finds.
func (s session) lookup(token string) (row seen, found bool) {
	if !s.live() {
		return seen{}, false
	}
	if token == s.row.token {
		return s.row, true
	}
	for _, o := range s.older {
		switch {
		case o.token != token:
		case o.leadsTo == "":
			return o.row, true
		default:
			row, found = s.lookup(o.leadsTo)
			row.alias = true
			return row, found
		}
	}
	return seen{}, false
}

// updated is the session after an update.
func (s session) updated(in asked) session {
	old := s.row
	s.row.data += in.tag
	s.row.version++
	if in.token == "" {
		return s
	}
	s.row.token = in.token
	s.older = slices.Clone(s.older)
	if !in.rotation {
		s.row.rights++
		old.superseded = true
		s.older = append(s.older, olderToken{token: old.token, row: old})
		return s
	}
	for i := range s.older {
		if s.older[i].leadsTo == old.token {
			s.older[i].leadsTo = in.token
		}
	}
	s.older = append(s.older, olderToken{token: old.token, leadsTo: in.token})
	return s
}

// step reports whether the call may have had this outcome here, and what the session is then.
func (s session) step(in asked, out told) (bool, session) {
	switch in.what {
	case creates:
		if s.born {
			return false, s
		}
		return true, session{born: true, row: seen{token: in.token, data: in.tag, version: 1}}
	case loads:
		row, found := s.lookup(in.token)
		if !out.found {
			return !found || row.superseded && in.graceOver, s
		}
		return found && row == out.seen, s
	case updates:
		if s.live() && s.row.rights == in.rights {
			return true, s.updated(in)
		}
		return out.unknown, s
	case returns:
		return s.live() && s.row == out.seen, s
	case destroys:
		s.ended = true
		return true, s
	case isGone:
		return !s.live(), s
	case isRenewed:
		return s.row.rights > in.rights, s
	}
	panic("unknown action " + string(in.what))
}

var sessionModel = porcupine.Model{
	Init: func() any { return session{} },
	Step: func(state, in, out any) (bool, any) { return state.(session).step(in.(asked), out.(told)) },
	Equal: func(a, b any) bool {
		x, y := a.(session), b.(session)
		return x.born == y.born && x.ended == y.ended && x.row == y.row && slices.Equal(x.older, y.older)
	},
}

// history is what the clients saw.
type history struct {
	begun time.Time

	mu  sync.Mutex
	ops []porcupine.Operation
}

func (h *history) now() int64 { return time.Since(h.begun).Nanoseconds() }

func (h *history) note(client int, call int64, in asked, out told) {
	end := h.now()
	if out.unknown {
		end = everlasting // it may still happen
	}
	h.add(client, call, end, in, out)
}

func (h *history) add(client int, call, end int64, in asked, out told) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: end})
}

func (h *history) calls() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ops)
}

// decideWithin bounds the search for an order of one session's calls, which may
// take for ever.
const decideWithin = 20 * time.Second

// violation returns the history of a session that no order of its calls
// explains, "" if there is none.
func (h *history) violation(t testing.TB) string {
	t.Helper()
	bySession := map[string][]porcupine.Operation{}
	for _, op := range h.ops {
		id := op.Input.(asked).id
		bySession[id] = append(bySession[id], op)
	}
	undecided := 0
	for _, ops := range bySession {
		switch porcupine.CheckOperationsTimeout(sessionModel, ops, decideWithin) {
		case porcupine.Illegal:
			return describe(ops)
		case porcupine.Unknown:
			undecided++
		}
	}
	t.Logf("the histories of %d sessions hold; %d more could not be decided within %v each",
		len(bySession)-undecided, undecided, decideWithin)
	if undecided > 1+len(bySession)/10 {
		t.Error("too few histories were decided to prove anything")
	}
	return ""
}

func describe(ops []porcupine.Operation) string {
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	var b strings.Builder
	for _, op := range ops {
		end := "..."
		if op.Return != everlasting {
			end = fmt.Sprintf("%.3f", float64(op.Return)/1e6)
		}
		fmt.Fprintf(&b, "client %d, %.3f to %s ms: %+v %+v\n", op.ClientId, float64(op.Call)/1e6, end, op.Input, op.Output)
	}
	return b.String()
}

// counts says what the history has of each kind.
func (h *history) counts() string {
	n := map[string]int{}
	for _, op := range h.ops {
		kind := string(op.Input.(asked).what)
		if op.Output.(told).unknown {
			kind += " unknown"
		}
		n[kind]++
	}
	var kinds []string
	for kind, count := range n {
		kinds = append(kinds, fmt.Sprintf("%d %s", count, kind))
	}
	slices.Sort(kinds)
	return strings.Join(kinds, ", ")
}
