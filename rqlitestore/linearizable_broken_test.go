package rqlitestore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestLinearizable_findsWhatIsBroken breaks the store on its way to the
// database: the check must find each of these.
func TestLinearizable_findsWhatIsBroken(t *testing.T) {
	t.Parallel()
	for _, broken := range []struct {
		name string
		by   breaker
	}{
		{"loads from a stale copy", staleCopies()},
		{"saves that are only said to be done", sayDone("UPDATE")},
		{"destroys that are only said to be done", sayDone("DELETE")},
		{"saves whatever the version", ignoreVersion},
		{"creates that arrive twice", repeatCreates()},
	} {
		t.Run(broken.name, func(t *testing.T) {
			t.Parallel()
			var used atomic.Int64
			a := embeddedArena(t, broken.by.wrap(&used))
			a.updates = arenaSteadyUpdates
			for range 20 {
				a.run(0)
				if a.violation(t) != "" {
					return
				}
				a.forget()
			}
			t.Errorf("the check has found nothing, though %d requests were tampered with", used.Load())
		})
	}
}

// forget begins a new history with other sessions.
func (a *arena) forget() {
	a.ops = nil
	for i := range a.slots {
		a.slots[i].now, a.slots[i].before = nil, nil
	}
}

// request is one that a breaker can read and change before it sends it.
type request struct {
	*http.Request
	statements [][]any // SQL and its arguments
	next       http.RoundTripper
}

func (r request) sql() string { return r.statements[0][0].(string) }

// rows is the JSON of the rows that the request is about.
func (r request) rows() string {
	if len(r.statements[0]) < 2 {
		return ""
	}
	rows, _ := r.statements[0][1].(string)
	return rows
}

func (r request) send() (*http.Response, error) {
	body, err := json.Marshal(r.statements)
	if err != nil {
		return nil, err
	}
	return r.next.RoundTrip(withBody(r.Request, context.WithoutCancel(r.Context()), body))
}

func (r request) answer(body []byte) *http.Response {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(body)), Request: r.Request}
}

// breaker does to a request what must not be done, and says whether it did.
type breaker func(r request) (res *http.Response, done bool, err error)

func (b breaker) wrap(used *atomic.Int64) func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			body, err := readBody(r)
			if err != nil {
				return nil, err
			}
			req := request{Request: r, next: next}
			if err := json.Unmarshal(body, &req.statements); err != nil {
				return nil, err
			}
			res, done, err := b(req)
			if done {
				used.Add(1)
				return res, err
			}
			return next.RoundTrip(withBody(r, r.Context(), body))
		})
	}
}

// staleCopies answers some queries with what was answered to the same one before.
func staleCopies() breaker {
	var mu sync.Mutex
	copies := map[string][]byte{}
	return func(r request) (*http.Response, bool, error) {
		if !isQuery(r.Request) {
			return nil, false, nil
		}
		mu.Lock()
		stale, ok := copies[r.rows()]
		mu.Unlock()
		if ok && rand.IntN(10) == 0 {
			return r.answer(stale), true, nil
		}
		res, err := r.send()
		if err != nil {
			return nil, true, err
		}
		defer res.Body.Close()
		fresh, err := io.ReadAll(res.Body)
		if rand.IntN(5) == 0 {
			mu.Lock()
			copies[r.rows()] = fresh
			mu.Unlock()
		}
		return r.answer(fresh), true, err
	}
}

// sayDone answers some requests as if they had been carried out.
func sayDone(verb string) breaker {
	return func(r request) (*http.Response, bool, error) {
		if isQuery(r.Request) || len(r.statements) > 1 || !strings.HasPrefix(r.sql(), verb) || rand.IntN(3) > 0 {
			return nil, false, nil
		}
		n := 1
		if strings.Contains(r.sql(), "json_each") {
			var list []any
			_ = json.Unmarshal([]byte(r.rows()), &list)
			n = len(list)
		}
		return r.answer(fmt.Appendf(nil, `{"results":[{"rows_affected":%d}]}`, n)), n > 0, nil
	}
}

var versionCondition = regexp.MustCompile(`s\.version=\S+ AND s\.superseded IS NULL`)

// ignoreVersion makes saves that overwrite what others have stored.
func ignoreVersion(r request) (*http.Response, bool, error) {
	if !versionCondition.MatchString(r.sql()) {
		return nil, false, nil
	}
	r.statements[0][0] = versionCondition.ReplaceAllString(r.sql(), "s.superseded IS NULL")
	res, err := r.send()
	return res, true, err
}

// repeatCreates delivers each INSERT of a session twice, the second time behind
// the next destroy of any session.
func repeatCreates() breaker {
	var mu sync.Mutex
	var late []request
	return func(r request) (*http.Response, bool, error) {
		switch {
		case strings.Contains(r.sql(), "ON CONFLICT(token) DO NOTHING"):
			mu.Lock()
			late = append(late, r)
			mu.Unlock()
			res, err := r.send()
			return res, true, err
		case strings.HasPrefix(r.sql(), "DELETE"):
			res, err := r.send()
			mu.Lock()
			defer mu.Unlock()
			for _, create := range late {
				discard(create.send())
			}
			late = nil
			return res, true, err
		}
		return nil, false, nil
	}
}
