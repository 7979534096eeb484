package codec

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// encoder appends JSON to buf. With plain set it writes no type tags.
type encoder struct {
	buf   []byte
	plain bool
}

func (e *encoder) raw(s string) { e.buf = append(e.buf, s...) }

// value appends v, which may have as many levels of maps and slices as are left.
func (e *encoder) value(v any, left int) error {
	switch v := v.(type) {
	case nil:
		e.raw("null")
	case bool:
		e.buf = strconv.AppendBool(e.buf, v)
	case string:
		return e.string(v)
	case int:
		return e.int(v)
	case float64:
		return e.float(v, 64)
	case map[string]any:
		return e.object(v, left)
	case []any:
		return encodeSlice(e, v, left, func(e *encoder, v any) error { return e.value(v, left-1) })
	case json.Number:
		n, err := number(v)
		if err != nil {
			return err
		}
		return e.value(n, left)
	default:
		return e.typed(v, left)
	}
	return nil
}

// object appends a map, wrapped where a key of it would read as a type tag.
func (e *encoder) object(m map[string]any, left int) error {
	wrapped := !e.plain && hasTag(m)
	if wrapped {
		e.raw(`{"` + tagMap + `":`)
	}
	if _, err := e.members(m, left); err != nil {
		return err
	}
	if wrapped {
		e.raw("}")
	}
	return nil
}

func (e *encoder) members(m map[string]any, left int) (string, error) {
	return encodeMap(e, m, left, func(e *encoder, v any) error { return e.value(v, left-1) })
}

// encodeMap appends a map with its keys sorted. With an error it returns the key
// of the member that caused it.
func encodeMap[V any](e *encoder, m map[string]V, left int, write func(*encoder, V) error) (string, error) {
	if left == 0 {
		return "", tooDeep()
	}
	var few [16]string // keeps the keys of a usual session off the heap
	keys := few[:0]
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)

	e.raw("{")
	for i, k := range keys {
		if i > 0 {
			e.raw(",")
		}
		if err := e.string(k); err != nil {
			return k, err
		}
		e.raw(":")
		if err := write(e, m[k]); err != nil {
			return k, err
		}
		// Here and not at the end: one slice may be in a map a million times.
		if len(e.buf) > MaxSize {
			return k, tooLarge()
		}
	}
	e.raw("}")
	return "", nil
}

// encodeSlice appends a slice.
func encodeSlice[V any](e *encoder, a []V, left int, write func(*encoder, V) error) error {
	if left == 0 {
		return tooDeep()
	}
	e.raw("[")
	for i, v := range a {
		if i > 0 {
			e.raw(",")
		}
		if err := write(e, v); err != nil {
			return err
		}
		if len(e.buf) > MaxSize {
			return tooLarge()
		}
	}
	e.raw("]")
	return nil
}

func (e *encoder) int(n int) error {
	e.buf = strconv.AppendInt(e.buf, int64(n), 10)
	return nil
}

// float appends the shortest number that reads back as f, in a form that no
// integer has.
func (e *encoder) float(f float64, bits int) error {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return unstorable("not a finite number, store a string")
	}
	// The bounds and forms of ECMAScript, as encoding/json has them.
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	start := len(e.buf)
	e.buf = strconv.AppendFloat(e.buf, f, format, -1, bits)
	if format == 'f' && !slices.Contains(e.buf[start:], '.') {
		e.raw(".0")
	}
	return nil
}

const hexDigits = "0123456789abcdef"

// string appends s quoted, with nothing escaped that need not be.
func (e *encoder) string(s string) error {
	if !utf8.ValidString(s) {
		return unstorable("text that is not UTF-8, store a []byte")
	}
	e.buf = append(e.buf, '"')
	done := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		e.raw(s[done:i])
		done = i + 1
		switch c {
		case '"', '\\':
			e.buf = append(e.buf, '\\', c)
		case '\n':
			e.raw(`\n`)
		case '\r':
			e.raw(`\r`)
		case '\t':
			e.raw(`\t`)
		default:
			e.buf = append(e.buf, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	e.raw(s[done:])
	e.buf = append(e.buf, '"')
	return nil
}

// number returns the int, int64, uint64 or float64 that a json.Number is.
func number(n json.Number) (any, error) {
	d := decoder{data: []byte(n), plain: true}
	v, err := d.number()
	if err != nil || d.pos != len(n) {
		return nil, unstorable("a json.Number that is no number of 64 bits, store a string")
	}
	return v, nil
}

func tooDeep() error {
	return unstorable("more than %d levels of maps and slices, store it flatter", MaxDepth)
}

func tooLarge() error {
	return unstorable("more than %d MiB, store less", MaxSize>>20)
}
