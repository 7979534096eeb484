package embedded

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// statement is one element of a request: SQL text and what its parameters are bound to.
type statement struct {
	sql  string
	args []argument
}

// argument is the value of a parameter, by position or, with a name, by name.
type argument struct {
	name  string
	kind  kind
	int   int64   // integer; 0 or 1 for a boolean
	float float64 // real
	text  string  // text, or the bytes of a blob
}

type kind uint8

const (
	null kind = iota
	integer
	real
	text
	blob
)

// textOrBlob makes an argument of a JSON string. As in rqlite, a string that looks like SQLite's
// blob literal, x'0aff', is that blob.
func textOrBlob(s []byte) argument {
	if b, ok := blobLiteral(s); ok {
		return argument{kind: blob, text: b}
	}
	return argument{kind: text, text: string(s)}
}

func blobLiteral(s []byte) (string, bool) {
	t := bytes.TrimSpace(s)
	if len(t) < 3 || t[0] != 'x' && t[0] != 'X' || t[1] != '\'' || t[len(t)-1] != '\'' {
		return "", false
	}
	return decodeHex(t[2 : len(t)-1])
}

// decodeHex is hex.DecodeString without a second copy of what may be a megabyte.
func decodeHex(digits []byte) (string, bool) {
	var b strings.Builder
	b.Grow(len(digits) / 2)
	var part [64]byte
	for len(digits) > 0 {
		n := min(2*len(part), len(digits))
		decoded, err := hex.Decode(part[:], digits[:n])
		if err != nil {
			return "", false
		}
		b.Write(part[:decoded])
		digits = digits[n:]
	}
	return b.String(), true
}

// number makes an argument of a JSON number: an integer if it is one of 64 bits, else a real.
func number(literal string) (argument, error) {
	if i, err := strconv.ParseInt(literal, 10, 64); err == nil {
		return argument{kind: integer, int: i}, nil
	}
	f, err := strconv.ParseFloat(literal, 64)
	if err != nil {
		return argument{}, fmt.Errorf("invalid number %s", literal)
	}
	return argument{kind: real, float: f}, nil
}
