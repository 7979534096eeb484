package rqlitestore

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// Rows travel to the database inside one JSON parameter, and tokens and data
// inside it as hex: a bare text parameter of the form x'41' would become a
// blob, and JSON text cannot hold every byte. Those of the three most frequent
// writes travel as such a blob, see blob.go.

// hexText returns s as hex, for a parameter of its own.
func hexText(s string) string { return hex.EncodeToString([]byte(s)) }

// quotedHex returns s as a JSON string of its hex.
func quotedHex(s string) []byte {
	return appendQuotedHex(make([]byte, 0, 2*len(s)+2), s)
}

// jsonOfHex returns a JSON array of the hex of each string.
func jsonOfHex(list []string) string {
	b := []byte{'['}
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendQuotedHex(b, s)
	}
	return string(append(b, ']'))
}

func appendQuotedHex[T string | []byte](b []byte, s T) []byte {
	return append(hex.AppendEncode(append(b, '"'), []byte(s)), '"')
}

// appendPadded appends n with zeros in front of it.
func appendPadded(b []byte, n int64, width int) []byte {
	var room [20]byte
	digits := strconv.AppendInt(room[:0], n, 10)
	for range width - len(digits) {
		b = append(b, '0')
	}
	return append(b, digits...)
}

// appendNullableHex is appendQuotedHex, with null for the empty string.
func appendNullableHex(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	return appendQuotedHex(b, s)
}

// joinRows makes the JSON array that a statement reads with json_each.
func joinRows[A any](calls []*call[A]) string {
	return joinJSON(calls, func(c *call[A]) []byte { return c.row })
}

// joinBare is joinRows without the data.
func joinBare[A any](calls []*call[A]) string {
	return joinJSON(calls, func(c *call[A]) []byte { return c.bare })
}

func joinJSON[A any](calls []*call[A], row func(*call[A]) []byte) string {
	n := 2
	for _, c := range calls {
		n += len(row(c)) + 1
	}
	var b strings.Builder
	b.Grow(n)
	sep := byte('[')
	for _, c := range calls {
		b.WriteByte(sep)
		b.Write(row(c))
		sep = ','
	}
	b.WriteByte(']')
	return b.String()
}

// recordSQL is the SQL that packs a row of {sessions} p into text: arguments of
// concat, which makes ” of NULL. One cell a request instead of a dozen a row
// spares both sides most of the work on JSON. parseRecord reads it.
var recordSQL = "hex(p.token),','," + recordSQLWithoutToken

// recordSQLWithoutToken is shorter where the token is known.
var recordSQLWithoutToken = daysSQL("p.expiry") + ",',',hex(p.id),','," + wholeSQL("p.version") + ",','," + wholeSQL("p.rights") + ",',',hex(p.principal),','," +
	daysSQL("p.superseded") + ",',',p.alias='',hex(p.alias),',',typeof(p.data)='text',',',hex(p.data)"

// wholeSQL is the SQL expression for a column with a whole number or NULL; -1 for
// anything else that somebody put there.
func wholeSQL(column string) string {
	return "iif(typeof(" + column + ") IN ('integer','null')," + column + ",-1)"
}

// packedRow is a row as recordSQL packs it.
type packedRow struct {
	Record
	aliasOf string // the token that an older token leads to
	text    bool   // data is a text, as scs's own rqlitestore wrote it
	data    string // in hex
}

// parseRow reads what recordSQL wrote, and leaves the data as it is.
func parseRow(packed string) (row packedRow, err error) {
	const fields = 10
	f := strings.SplitN(packed, ",", fields+1)
	if len(f) != fields {
		return packedRow{}, errReply
	}
	var p fieldParser
	row.Token = p.hex(f[0])
	row.Expiry = p.time(f[1])
	row.ID = p.hex(f[2])
	row.Version = p.int(f[3])
	row.Rights = p.int(f[4])
	row.Principal = p.hex(f[5])
	row.Superseded = p.time(f[6])
	switch alias := f[7]; {
	case alias == "1":
		row.Aliased = true
	case alias != "":
		row.aliasOf = p.hex(alias[1:])
	}
	row.text, row.data = f[8] == "1", f[9]
	if p.bad {
		return packedRow{}, errReply
	}
	return row, nil
}

// mostVersions bounds the version of a row that can be saved again: it is what
// JSON and a row of a save have room for. No session is stored so often.
const mostVersions = 1 << 53

// parseRecord reads what recordSQL wrote. aliasOf is the token that an older
// token leads to. readable is false when the data of a row of scs's own
// rqlitestore is not the hex that it should be, and where no save can have left
// the row as it is.
func parseRecord(packed string) (rec Record, aliasOf string, readable bool, err error) {
	row, err := parseRow(packed)
	if err != nil {
		return Record{}, "", false, err
	}
	row.Data, readable, err = parseData(row.text, row.data)
	readable = readable && row.Version >= 0 && row.Version < mostVersions
	return row.Record, row.aliasOf, readable, err
}

// parseData reads the data of a row. scs's own rqlitestore wrote it as text, in
// hex once more; readable is false when it is not.
func parseData(text bool, packed string) (data []byte, readable bool, err error) {
	if data, err = hex.DecodeString(packed); err != nil {
		return nil, false, errReply
	}
	if text {
		n, err := hex.Decode(data, data)
		if err != nil {
			return nil, false, nil
		}
		data = data[:n]
	}
	return data, true, nil
}

// fieldParser parses fields and remembers whether one was bad.
type fieldParser struct{ bad bool }

func (p *fieldParser) hex(s string) string {
	b, err := hex.DecodeString(s)
	p.bad = p.bad || err != nil
	return string(b)
}

func (p *fieldParser) int(s string) int64 {
	if s == "" {
		return 0
	}
	n, err := strconv.ParseInt(s, 10, 64)
	p.bad = p.bad || err != nil
	return n
}

func (p *fieldParser) time(s string) time.Time {
	if s == "" {
		return time.Time{}
	}
	t, err := parseDays(s)
	p.bad = p.bad || err != nil
	return t
}

func touchRow(id string, expiry time.Time) []byte {
	b := make([]byte, 0, 2*len(id)+32)
	b = appendQuotedHex(append(b, '['), id)
	b = appendJulian(append(b, ','), expiry)
	return append(b, ']')
}

// fullRow is a row with every field, for renewals:
//
//	0 token that is there  1 its version  2 token to store  3 version to store
//	4 expiry  5 id  6 principal or null  7 rights  8 write id  9 data
//	10 when the old token ends as an alias, or null
func fullRow(old, rec Record, writeID string) []byte {
	b := make([]byte, 0, 2*(len(old.Token)+len(rec.Token)+len(rec.ID)+len(rec.Principal)+len(rec.Data))+len(writeID)+128)
	b = appendQuotedHex(append(b, '['), old.Token)
	b = strconv.AppendInt(append(b, ','), old.Version, 10)
	b = appendQuotedHex(append(b, ','), rec.Token)
	b = strconv.AppendInt(append(b, ','), rec.Version, 10)
	b = appendJulian(append(b, ','), rec.Expiry)
	b = appendQuotedHex(append(b, ','), rec.ID)
	b = appendNullableHex(append(b, ','), rec.Principal)
	b = strconv.AppendInt(append(b, ','), rec.Rights, 10)
	b = append(b, `,"`...)
	b = append(b, writeID...)
	b = append(b, `",`...)
	b = appendQuotedHex(b, rec.Data)
	b = append(b, ',')
	if rec.Alias {
		b = appendJulian(b, rec.AliasUntil)
	} else {
		b = append(b, "null"...)
	}
	return append(b, ']')
}
