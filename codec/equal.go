package codec

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"time"
)

// Equal reports whether storing b in place of a would change nothing: both have
// the same type and the same content. Nil and empty slices or maps are the same,
// as they are after a round trip; times are the same at the same instant with
// the same offset; a json.Number is the number that it is. A type that cannot be
// stored equals nothing.
func Equal(a, b any) bool { return equal(a, b, MaxDepth) }

func equal(a, b any, left int) bool {
	if left < 0 {
		return false // too deep to be stored, or a map within itself
	}
	a, b = plainNumber(a), plainNumber(b)
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, b, func(a, b any) bool { return equal(a, b, left-1) })
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, func(a, b any) bool { return equal(a, b, left-1) })
	case []byte:
		b, ok := b.([]byte)
		return ok && bytes.Equal(a, b)
	case []string:
		b, ok := b.([]string)
		return ok && slices.Equal(a, b)
	case []int:
		b, ok := b.([]int)
		return ok && slices.Equal(a, b)
	case map[string]string:
		b, ok := b.(map[string]string)
		return ok && maps.Equal(a, b)
	case time.Time:
		b, ok := b.(time.Time)
		return ok && a.Equal(b) && offset(a) == offset(b)
	case float64: // by bits: -0 is stored as such
		b, ok := b.(float64)
		return ok && math.Float64bits(a) == math.Float64bits(b)
	case float32:
		b, ok := b.(float32)
		return ok && math.Float32bits(a) == math.Float32bits(b)
	case nil, bool, string, int, int64, int32, int16, int8, uint, uint64, uint32, uint16, uint8:
		return a == b
	}
	return false
}

func plainNumber(v any) any {
	if n, ok := v.(json.Number); ok {
		if v, err := number(n); err == nil {
			return v
		}
	}
	return v
}

func offset(t time.Time) int {
	_, seconds := t.Zone()
	return seconds
}

// Clone returns a copy of a value that shares no map, slice or bytes with it. A
// value that cannot be stored is returned as it is.
func Clone(v any) any { return clone(v, MaxDepth) }

func clone(v any, left int) any {
	if left < 0 {
		return v // too deep to be stored, or a map within itself
	}
	switch v := v.(type) {
	case map[string]any:
		if v == nil {
			return v
		}
		m := make(map[string]any, len(v))
		for k, e := range v {
			m[k] = clone(e, left-1)
		}
		return m
	case []any:
		if v == nil {
			return v
		}
		a := make([]any, len(v))
		for i, e := range v {
			a[i] = clone(e, left-1)
		}
		return a
	case []byte:
		return slices.Clone(v)
	case []string:
		return slices.Clone(v)
	case []int:
		return slices.Clone(v)
	case map[string]string:
		return maps.Clone(v)
	}
	return v
}
