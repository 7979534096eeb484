// Package codec turns session values into bytes and back.
//
// [JSON] is a codec for scs (SessionManager.Codec) whose output can be read and
// queried with any SQL tool:
//
//	{"deadline":"2026-05-04T12:00:00Z","values":{"user":"alice","visits":3}}
//
// What was put into a session comes back with the same Go type, so that the
// typed getters of scs find it. Most values are plain JSON:
//
//	nil, bool, string       null, true, "text"
//	int                     an integer
//	float64                 a number with a point or an exponent
//	[]any, map[string]any   an array, an object
//
// A type that JSON does not have is written as an object with one key that
// begins with "$" and names it: {"$int64":5}, {"$time":"2026-05-04T12:00:00Z"},
// {"$bytes":"aGVsbG8="}. A map that has a key beginning with "$" itself is
// wrapped as {"$":{…}}. These types are known: the other sizes of integers,
// float32, [time.Time], []byte, []string, []int and map[string]string. Any other
// type is an error that says what to store instead. A json.Number is stored as
// the int, uint64 or float64 that it is.
//
// A time keeps its instant to the nanosecond and its offset from UTC; the name
// of its zone and its monotonic clock are dropped. A nil slice or map comes back
// empty. An integer that does not fit into an int comes back as an int64 (on
// 32-bit platforms) or a uint64. Equal values give equal bytes.
//
// Decoding is strict, because a row may have been damaged or tampered with:
// duplicate keys, trailing bytes, invalid UTF-8, unknown fields and unknown
// types are errors, and depth and size are bounded. So are sessions that another
// codec has written, as scs's own: scs answers their visitors with an error. Where
// there are any, change the name of the cookie or of the table with the codec.
package codec

import (
	"fmt"
	"time"
)

const (
	// MaxDepth is how many levels of maps and slices a session value may have.
	MaxDepth = 100
	// MaxSize is the size in bytes beyond which nothing is encoded or decoded.
	MaxSize = 16 << 20
)

// JSON encodes a session as JSON. It implements scs.Codec; its zero value is
// ready for use by any number of goroutines.
type JSON struct{}

// Encode returns the session as JSON, with its keys sorted and its deadline in
// UTC. Its errors name the key of the value that cannot be stored, never the
// value, and wrap [ErrUnstorable].
func (JSON) Encode(deadline time.Time, values map[string]any) ([]byte, error) {
	e := encoder{buf: make([]byte, 0, 512)}
	e.raw(`{"deadline":`)
	if err := e.time(deadline.UTC()); err != nil {
		return nil, fmt.Errorf("encode session deadline: %w", err)
	}
	e.raw(`,"values":`)
	if key, err := e.members(values, MaxDepth+1); err != nil {
		return nil, fmt.Errorf("encode session value %s: %w", quoteKey(key), err)
	}
	e.raw(`}`)
	if len(e.buf) > MaxSize { // by the last brackets
		return nil, fmt.Errorf("encode session: %w", tooLarge())
	}
	return e.buf, nil
}

// Decode returns the deadline, in UTC, and the values of an encoded session.
// The values are never nil without an error. Errors wrap [ErrMalformed].
func (JSON) Decode(b []byte) (time.Time, map[string]any, error) {
	d := decoder{data: b}
	deadline, values, err := d.session()
	if err != nil {
		return time.Time{}, nil, fmt.Errorf("decode session: %w", err)
	}
	return deadline, values, nil
}

// EncodeValue returns a value as plain JSON for people and other programs: a
// time is RFC 3339 text, bytes are base64, and every integer is a number.
// Errors wrap [ErrUnstorable].
func EncodeValue(v any) ([]byte, error) {
	e := encoder{buf: make([]byte, 0, 64), plain: true}
	err := e.value(v, MaxDepth)
	if err == nil && len(e.buf) > MaxSize {
		err = tooLarge()
	}
	if err != nil {
		return nil, fmt.Errorf("encode value: %w", err)
	}
	return e.buf, nil
}

// DecodeValue parses one plain JSON value into the Go types that [JSON] uses:
// map[string]any, []any, string, int, float64, bool and nil. An object is only
// an object, whatever its keys. An integer of more than 64 bits is an error.
// Errors wrap [ErrMalformed].
func DecodeValue(b []byte) (any, error) {
	d := decoder{data: b, plain: true}
	v, err := d.only()
	if err != nil {
		return nil, fmt.Errorf("decode value: %w", err)
	}
	return v, nil
}
