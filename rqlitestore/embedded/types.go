package embedded

import (
	"strings"
	"time"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded/internal/sqlite"
)

// valueType is the type that rqlite reports for an expression: that of its value in the first row.
func valueType(t sqlite.Type) string {
	switch t {
	case sqlite.Integer:
		return "integer"
	case sqlite.Float:
		return "real"
	case sqlite.Text, sqlite.Blob:
		return "text"
	default:
		return ""
	}
}

// isText says whether a column of this reported type has its blobs shown as text.
func isText(reported string) bool {
	switch reported {
	case "", "text", "json":
		return true
	}
	for _, prefix := range [...]string{"varchar", "varying character", "nchar", "native character", "nvarchar", "clob"} {
		if strings.HasPrefix(reported, prefix) {
			return true
		}
	}
	return false
}

// isTime says whether values of a column declared so are shown as times.
func isTime(declared string) bool {
	return declared == "date" || declared == "datetime" || declared == "timestamp"
}

// timeOfInt takes an integer for Unix seconds, or milliseconds where it has 13 digits.
func timeOfInt(v int64) time.Time {
	if v > 1e12 || v < -1e12 {
		return time.UnixMilli(v).UTC()
	}
	return time.Unix(v, 0).UTC()
}

// timeForms are the forms of a time in SQLite, see https://sqlite.org/lang_datefunc.html. A fraction of
// a second is understood without being named.
var timeForms = [...]string{
	"2006-01-02 15:04:05-07:00", "2006-01-02T15:04:05-07:00",
	"2006-01-02 15:04:05", "2006-01-02T15:04:05",
	"2006-01-02 15:04", "2006-01-02T15:04",
	time.DateOnly,
}

// timeOfText is the time in a text, the zero time if there is none.
func timeOfText(s string) time.Time {
	s = strings.TrimSuffix(s, "Z")
	for _, form := range timeForms {
		if t, err := time.Parse(form, s); err == nil {
			return t
		}
	}
	return time.Time{}
}

func appendTime(out []byte, t time.Time) []byte {
	out = append(out, '"')
	out = t.AppendFormat(out, time.RFC3339Nano)
	return append(out, '"')
}
