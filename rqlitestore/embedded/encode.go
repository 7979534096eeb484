package embedded

import (
	"encoding/base64"
	"errors"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/caddy-session/caddy-session/rqlitestore/embedded/internal/sqlite"
)

// errNotFinite is the error for a value that JSON has no form for. rqlite fails the whole answer too.
var errNotFinite = errors.New("json: unsupported value: +Inf or -Inf")

// appendString appends s as a JSON string. What is no valid UTF-8 becomes U+FFFD, as in encoding/json.
func appendString[S []byte | string](out []byte, s S) []byte {
	out = append(out, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if !plain[c] {
				out = appendEscape(append(out, s[start:i]...), c)
				start = i + 1
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
		if r == utf8.RuneError && size == 1 {
			out = append(append(out, s[start:i]...), "\ufffd"...)
			start = i + 1
		}
		i += size
	}
	return append(append(out, s[start:]...), '"')
}

func appendEscape(out []byte, c byte) []byte {
	const hexDigits = "0123456789abcdef"
	switch c {
	case '"', '\\':
		return append(out, '\\', c)
	case '\n':
		return append(out, `\n`...)
	case '\r':
		return append(out, `\r`...)
	case '\t':
		return append(out, `\t`...)
	default:
		return append(out, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
	}
}

// appendFloat appends f in the form that encoding/json gives it.
func appendFloat(out []byte, f float64) ([]byte, error) {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return out, errNotFinite
	}
	if a := math.Abs(f); a == 0 || a >= 1e-6 && a < 1e21 {
		return strconv.AppendFloat(out, f, 'f', -1, 64), nil
	}
	out = strconv.AppendFloat(out, f, 'e', -1, 64)
	if n := len(out); n >= 4 && out[n-4] == 'e' && out[n-2] == '0' { // e-07 becomes e-7
		out[n-2] = out[n-1]
		out = out[:n-1]
	}
	return out, nil
}

// appendBlob appends a blob as base64, or as an array of numbers.
func appendBlob(out, b []byte, asArray bool) []byte {
	if !asArray {
		out = append(out, '"')
		out = base64.StdEncoding.AppendEncode(out, b)
		return append(out, '"')
	}
	out = append(out, '[')
	for i, v := range b {
		if i > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendUint(out, uint64(v), 10)
	}
	return append(out, ']')
}

// appendValue appends the value in column i of the current row as rqlite shows it. declared is the
// declared type of the column, given the type of the result that rqlite would report for it.
func appendValue(out []byte, s *sqlite.Stmt, i int, declared, reported string, blobsAsArrays bool) ([]byte, error) {
	switch s.Type(i) {
	case sqlite.Integer:
		v := s.Int64(i)
		switch {
		case declared == "boolean":
			return strconv.AppendBool(out, v > 0), nil
		case isTime(declared):
			return appendTime(out, timeOfInt(v)), nil
		default:
			return strconv.AppendInt(out, v, 10), nil
		}
	case sqlite.Float:
		return appendFloat(out, s.Float(i))
	case sqlite.Text:
		if isTime(declared) {
			return appendTime(out, timeOfText(string(s.Text(i)))), nil
		}
		return appendString(out, s.Text(i)), nil
	case sqlite.Blob:
		if isText(reported) {
			return appendString(out, s.Blob(i)), nil
		}
		return appendBlob(out, s.Blob(i), blobsAsArrays), nil
	default:
		return append(out, "null"...), nil
	}
}
