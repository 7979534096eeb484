package rqlitestore

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// Rows travel to the database inside one JSON parameter, and tokens and data
// inside it as hex: a bare text parameter of the form x'41' would become a
// blob, and JSON text cannot hold every byte.

// hexText returns s as hex, for a parameter of its own.
func hexText(s string) string { return hex.EncodeToString([]byte(s)) }

// quotedHex returns s as a JSON string of its hex.
func quotedHex(s string) []byte {
	return appendQuotedHex(make([]byte, 0, 2*len(s)+2), s)
}

func appendQuotedHex[T string | []byte](b []byte, s T) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	for i := range len(s) {
		b = append(b, digits[s[i]>>4], digits[s[i]&15])
	}
	return append(b, '"')
}

// nullableHex is appendQuotedHex, with null for the empty string.
func appendNullableHex(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	return appendQuotedHex(b, s)
}

// joinRows makes the JSON array that a statement reads with json_each.
func joinRows[A any](calls []*call[A]) string {
	n := 2
	for _, c := range calls {
		n += len(c.row) + 1
	}
	var b strings.Builder
	b.Grow(n)
	sep := byte('[')
	for _, c := range calls {
		b.WriteByte(sep)
		b.Write(c.row)
		sep = ','
	}
	b.WriteByte(']')
	return b.String()
}

// recordSQL is the SQL expression that packs a row into text, its columns taken
// with the prefix t:
// numbers and hex, separated by commas. One cell a request instead of a dozen
// a row spares both sides most of the work on JSON. parseRecord reads it.
func recordSQL(t string) string {
	return "hex(" + t + "token)" +
		"||','||" + unixMsSQL(t+"expiry") +
		"||','||hex(" + t + "id)" +
		"||','||coalesce(" + t + "version,'')" +
		"||','||coalesce(" + t + "rights,'')" +
		"||','||hex(" + t + "principal)" +
		"||','||coalesce(" + unixMsSQL(t+"superseded") + ",'')" +
		"||','||coalesce(" + t + "writes,'')" +
		"||','||(typeof(" + t + "data)='text')" +
		"||','||hex(" + t + "data)"
}

const recordFields = 10

// parseRecord reads what recordSQL wrote. readable is false when the data of a
// row of the historical store is not the hex that it should be.
func parseRecord(packed string) (rec Record, writes string, readable bool, err error) {
	var f [recordFields]string
	for i := range recordFields - 1 {
		var ok bool
		if f[i], packed, ok = strings.Cut(packed, ","); !ok {
			return Record{}, "", false, errReply
		}
	}
	f[recordFields-1] = packed
	var p fieldParser
	rec.Token = p.hex(f[0])
	rec.Expiry = p.ms(f[1])
	rec.ID = p.hex(f[2])
	rec.Version = p.int(f[3])
	rec.Rights = p.int(f[4])
	rec.Principal = p.hex(f[5])
	rec.Superseded = p.ms(f[6])
	writes = f[7]
	if rec.Data, err = hex.DecodeString(f[9]); err != nil || p.bad {
		return Record{}, "", false, errReply
	}
	if f[8] == "1" {
		// The historical store wrote the data as hex text.
		n, err := hex.Decode(rec.Data, rec.Data)
		if err != nil {
			return rec, writes, false, nil
		}
		rec.Data = rec.Data[:n]
	}
	return rec, writes, true, nil
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

func (p *fieldParser) ms(s string) time.Time {
	if s == "" {
		return time.Time{}
	}
	return time.UnixMilli(p.int(s))
}

func commitRow(token string, data []byte, expiry time.Time) []byte {
	b := make([]byte, 0, 2*len(token)+2*len(data)+32)
	b = append(b, '[')
	b = appendQuotedHex(b, token)
	b = append(b, ',')
	b = appendJulian(b, expiry)
	b = append(b, ',')
	b = appendQuotedHex(b, data)
	return append(b, ']')
}

func touchRow(id string, expiry time.Time) []byte {
	b := make([]byte, 0, 2*len(id)+32)
	b = append(b, '[')
	b = appendQuotedHex(b, id)
	b = append(b, ',')
	b = appendJulian(b, expiry)
	return append(b, ']')
}

func createRow(rec Record, writeID string) []byte {
	return saveRow(Record{}, rec, writeID)
}

// saveRow has the fields of create, save and renew:
//
//	0 token that is there  1 its version  2 token to store  3 version to store
//	4 expiry  5 id  6 principal or null  7 rights  8 write ids  9 data
//	10 when the old token ends as an alias, or null
func saveRow(old, rec Record, writeIDs string) []byte {
	b := make([]byte, 0, 2*(len(old.Token)+len(rec.Token)+len(rec.ID)+len(rec.Principal)+len(rec.Data))+len(writeIDs)+128)
	b = append(b, '[')
	b = appendQuotedHex(b, old.Token)
	b = append(b, ',')
	b = strconv.AppendInt(b, old.Version, 10)
	b = append(b, ',')
	b = appendQuotedHex(b, rec.Token)
	b = append(b, ',')
	b = strconv.AppendInt(b, rec.Version, 10)
	b = append(b, ',')
	b = appendJulian(b, rec.Expiry)
	b = append(b, ',')
	b = appendQuotedHex(b, rec.ID)
	b = append(b, ',')
	b = appendNullableHex(b, rec.Principal)
	b = append(b, ',')
	b = strconv.AppendInt(b, rec.Rights, 10)
	b = append(b, `,"`...)
	b = append(b, writeIDs...)
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
