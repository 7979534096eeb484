package caddysession

import (
	"encoding/json"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore"
)

// principalIn returns whose session it is by its values, which nobody can
// change without the key where rows are sealed.
func (l *lease) principalIn(values map[string]any) string {
	for _, key := range l.principalKeys {
		value, _ := lookup(values, key)
		if name := nameIn(value); name != "" {
			return name
		}
	}
	return ""
}

// SessionStatus is a session as the admin API shows it.
type SessionStatus struct {
	// The public id, the same through renewals.
	ID string `json:"id"`

	// Whose session it is, by the option principal.
	Principal string `json:"principal,omitempty"`

	// Where it is good: the host on which it was begun, the cookie's domain with
	// a dot in front, or what the option audience says.
	Audience string `json:"audience,omitempty"`

	// When it was first stored.
	Created *time.Time `json:"created,omitempty"`

	// When it was last used, from what address and with what User-Agent; known
	// where track is on.
	Used      *time.Time `json:"used,omitempty"`
	Address   string     `json:"address,omitempty"`
	UserAgent string     `json:"user_agent,omitempty"`

	// When it ends unless it is used before.
	Expires time.Time `json:"expires"`

	// When it ends however busy it is.
	Deadline *time.Time `json:"deadline,omitempty"`

	// Whether it was marked to be remembered.
	Remembered bool `json:"remembered"`

	// How large it is, in bytes as stored.
	Size int `json:"size"`

	// How often it was stored.
	Saves int64 `json:"saves"`

	// Whether the row cannot be read: it is damaged, or sealed by a key that is
	// not configured.
	Unreadable bool `json:"unreadable,omitempty"`

	// What the application keeps in it. Only shown when asked for.
	Values json.RawMessage `json:"values,omitempty"`
}

// describe tells what a row is, and its values apart from that; none where it
// cannot be read.
func (l *lease) describe(rec rqlitestore.Record) (s SessionStatus, kept map[string]any) {
	s = SessionStatus{ID: rec.ID, Expires: writable(rec.Expiry), Size: len(rec.Data), Saves: rec.Version}
	deadline, kept, err := l.keys.values(rec)
	if err != nil {
		s.Unreadable = true
		return s, nil
	}
	s.Deadline = new(writable(deadline))
	s.Principal = l.principalIn(kept)
	s.Created, s.Used = unixTime(kept[createdKey]), unixTime(kept[usedKey])
	s.Audience, _ = kept[audienceKey].(string)
	s.Address, _ = kept[addressKey].(string)
	s.UserAgent, _ = kept[agentKey].(string)
	s.Remembered, _ = kept[rememberKey].(bool)
	return s, kept
}

func unixTime(value any) *time.Time {
	seconds, ok := value.(int)
	if !ok {
		return nil
	}
	return new(writable(time.Unix(int64(seconds), 0)))
}

// writable is a time as RFC 3339 has it. One that has too many digits there, as
// no session has by itself, becomes the first or the last that can be written: a
// single row would keep all others from being listed.
func writable(t time.Time) time.Time {
	t = t.UTC().Round(time.Millisecond)
	switch {
	case t.Year() < 0:
		return time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	case t.Year() > 9999:
		return time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	}
	return t
}
