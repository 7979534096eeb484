package rqlitestore

import (
	"encoding/json"
	"time"
	"unicode/utf8"
)

// Row is a row of the table as it is, for moving sessions from one store to
// another: [RqliteStore.Export] gives them and [RqliteStore.Import] takes them.
//
// In JSON a text that is not UTF-8 is an object: {"base64": "…"}. Times are in
// UTC, as RFC 3339 has them, to the millisecond; one after the year 9999 is the
// end of that year.
type Row struct {
	// Token is the key of the row: "token".
	Token string
	// Data is the content of the session: "data", in base64.
	Data []byte
	// Text says that the row is one of scs's own rqlitestore, whose data is a
	// text: the content in hex. Data is that text, as it is: "text".
	Text bool
	// Expiry is when the row ends by itself: "expiry".
	Expiry time.Time
	// ID is the public id of the session: "id". Rows of scs have none, nor
	// anything of what follows.
	ID string
	// Version counts what was stored: "version".
	Version int64
	// Writes has the ids of the last writes: "writes".
	Writes string
	// Principal names whose session it is: "principal".
	Principal string
	// Superseded is when a newer token took over, or zero: "superseded".
	Superseded time.Time
	// Alias is the token that this one leads to after a rotation: "alias".
	Alias string
	// Aliased says that older tokens are ways in to this row: "aliased".
	Aliased bool
	// Rights counts renewals with a change of rights: "rights".
	Rights int64
}

// rowJSON is a Row in JSON.
type rowJSON struct {
	Token      text   `json:"token"`
	Data       []byte `json:"data"`
	Text       bool   `json:"text,omitempty"`
	Expiry     moment `json:"expiry"`
	ID         text   `json:"id,omitempty"`
	Version    int64  `json:"version,omitempty"`
	Writes     text   `json:"writes,omitempty"`
	Principal  text   `json:"principal,omitempty"`
	Superseded moment `json:"superseded,omitzero"`
	Alias      text   `json:"alias,omitempty"`
	Aliased    bool   `json:"aliased,omitempty"`
	Rights     int64  `json:"rights,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (r Row) MarshalJSON() ([]byte, error) {
	if r.Data == nil {
		r.Data = []byte{} // the table has no NULL there
	}
	return json.Marshal(rowJSON{
		Token: text(r.Token), Data: r.Data, Text: r.Text, Expiry: moment{r.Expiry}, ID: text(r.ID), Version: r.Version, Writes: text(r.Writes),
		Principal: text(r.Principal), Superseded: moment{r.Superseded}, Alias: text(r.Alias), Aliased: r.Aliased, Rights: r.Rights,
	})
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *Row) UnmarshalJSON(b []byte) error {
	var j rowJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*r = Row{
		Token: string(j.Token), Data: j.Data, Text: j.Text, Expiry: j.Expiry.Time, ID: string(j.ID), Version: j.Version, Writes: string(j.Writes),
		Principal: string(j.Principal), Superseded: j.Superseded.Time, Alias: string(j.Alias), Aliased: j.Aliased, Rights: j.Rights,
	}
	return nil
}

// text is a string of any bytes; a JSON string would lose some of them.
type text string

type bytesJSON struct {
	Base64 []byte `json:"base64"`
}

func (t text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal(bytesJSON{Base64: []byte(t)})
}

func (t *text) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		var odd bytesJSON
		err := json.Unmarshal(b, &odd)
		*t = text(odd.Base64)
		return err
	}
	return json.Unmarshal(b, (*string)(t))
}

// moment is a time to the millisecond.
type moment struct{ time.Time }

const momentLayout = `"2006-01-02T15:04:05.000Z07:00"`

// What RFC 3339 has years for.
var (
	firstMoment = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	lastMoment  = time.Date(9999, 12, 31, 23, 59, 59, 999_000_000, time.UTC)
)

func (m moment) MarshalJSON() ([]byte, error) {
	t := m.UTC().Round(time.Millisecond)
	switch {
	case t.Before(firstMoment):
		t = firstMoment
	case t.After(lastMoment):
		t = lastMoment
	}
	return t.AppendFormat(nil, momentLayout), nil
}
