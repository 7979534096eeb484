package caddysession_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// meetingPlace is an application that holds requests until all that are to meet
// are there, so that each of them has read its session before any stores it.
//
//	/app/show                       the Session-Data that it was sent
//	/app/set?key=k                  adds the key to the session
//	/app/stream?key=k               the same, with a body that goes on until close(over)
//	...&meet=<name>&of=<n>          waits for n requests of that name
type meetingPlace struct {
	*httptest.Server
	mu       sync.Mutex
	meetings map[string]*meeting
}

// meeting is open once all have come.
type meeting struct {
	left int
	open chan struct{}
	over chan struct{} // ends the streams
}

func newMeetingPlace(t testing.TB) *meetingPlace {
	t.Helper()
	m := &meetingPlace{meetings: map[string]*meeting{}}
	m.Server = httptest.NewServer(m)
	t.Cleanup(m.Close)
	return m
}

func (m *meetingPlace) address() string { return strings.TrimPrefix(m.URL, "http://") }

// meeting returns the one of a name.
func (m *meetingPlace) meeting(name string, of int) *meeting {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.meetings[name] == nil {
		m.meetings[name] = &meeting{left: of, open: make(chan struct{}), over: make(chan struct{})}
	}
	return m.meetings[name]
}

// come counts one more, and opens the meeting with the last.
func (m *meetingPlace) come(name string, of int) *meeting {
	meet := m.meeting(name, of)
	m.mu.Lock()
	defer m.mu.Unlock()
	if meet.left--; meet.left == 0 {
		close(meet.open)
	}
	return meet
}

func (m *meetingPlace) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	var meet *meeting
	if name := query.Get("meet"); name != "" {
		of, _ := strconv.Atoi(query.Get("of"))
		meet = m.come(name, of)
		select {
		case <-meet.open:
		case <-time.After(20 * time.Second):
			http.Error(w, "the others did not come", http.StatusInternalServerError)
			return
		}
	}
	if key := query.Get("key"); key != "" {
		w.Header().Set("Session-Set", `{"`+key+`":true}`)
	}
	if strings.HasSuffix(r.URL.Path, "/stream") && meet != nil {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush() // the client may be gone
		select {
		case <-meet.over:
		case <-r.Context().Done():
		}
	}
	_, _ = io.WriteString(w, r.Header.Get("Session-Data"))
}
