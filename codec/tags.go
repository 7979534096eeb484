package codec

import (
	"encoding/base64"
	"strconv"
	"time"
)

// The tags of the types that JSON does not have. In a stored session a key that
// begins with "$" is one of these, alone in its object.
const (
	tagMap       = "$" // a map[string]any whose keys are no tags
	tagTime      = "$time"
	tagBytes     = "$bytes"
	tagInt64     = "$int64"
	tagInt32     = "$int32"
	tagInt16     = "$int16"
	tagInt8      = "$int8"
	tagUint      = "$uint"
	tagUint64    = "$uint64"
	tagUint32    = "$uint32"
	tagUint16    = "$uint16"
	tagUint8     = "$uint8"
	tagFloat32   = "$float32"
	tagStrings   = "$[]string"
	tagInts      = "$[]int"
	tagStringMap = "$map[string]string"
)

func isTag(key string) bool { return len(key) > 0 && key[0] == '$' }

func hasTag(m map[string]any) bool {
	for k := range m {
		if isTag(k) {
			return true
		}
	}
	return false
}

// tagOf returns the tag for the type of v, or "" if it has none.
func tagOf(v any) string {
	switch v.(type) {
	case time.Time:
		return tagTime
	case []byte:
		return tagBytes
	case int64:
		return tagInt64
	case int32:
		return tagInt32
	case int16:
		return tagInt16
	case int8:
		return tagInt8
	case uint:
		return tagUint
	case uint64:
		return tagUint64
	case uint32:
		return tagUint32
	case uint16:
		return tagUint16
	case uint8:
		return tagUint8
	case float32:
		return tagFloat32
	case []string:
		return tagStrings
	case []int:
		return tagInts
	case map[string]string:
		return tagStringMap
	}
	return ""
}

// typed appends a value of a type that has a tag.
func (e *encoder) typed(v any, left int) error {
	tag := tagOf(v)
	if tag == "" {
		return unknownType(v)
	}
	if e.plain {
		return e.untagged(v, left)
	}
	e.raw(`{"`)
	e.raw(tag)
	e.raw(`":`)
	if err := e.untagged(v, left); err != nil {
		return err
	}
	e.raw("}")
	return nil
}

// untagged appends what stands behind the tag.
func (e *encoder) untagged(v any, left int) error {
	switch v := v.(type) {
	case time.Time:
		return e.time(v)
	case []byte:
		e.raw(`"`)
		e.buf = base64.StdEncoding.AppendEncode(e.buf, v)
		e.raw(`"`)
	case int64:
		e.buf = strconv.AppendInt(e.buf, v, 10)
	case int32:
		e.buf = strconv.AppendInt(e.buf, int64(v), 10)
	case int16:
		e.buf = strconv.AppendInt(e.buf, int64(v), 10)
	case int8:
		e.buf = strconv.AppendInt(e.buf, int64(v), 10)
	case uint:
		e.buf = strconv.AppendUint(e.buf, uint64(v), 10)
	case uint64:
		e.buf = strconv.AppendUint(e.buf, v, 10)
	case uint32:
		e.buf = strconv.AppendUint(e.buf, uint64(v), 10)
	case uint16:
		e.buf = strconv.AppendUint(e.buf, uint64(v), 10)
	case uint8:
		e.buf = strconv.AppendUint(e.buf, uint64(v), 10)
	case float32:
		return e.float(float64(v), 32)
	case []string:
		return encodeSlice(e, v, left, (*encoder).string)
	case []int:
		return encodeSlice(e, v, left, (*encoder).int)
	case map[string]string:
		_, err := encodeMap(e, v, left, (*encoder).string)
		return err
	}
	return nil
}

// tagAhead reports whether a type tag follows.
func (d *decoder) tagAhead() bool {
	return d.next() == '"' && d.pos+1 < len(d.data) && d.data[d.pos+1] == '$'
}

// tagged reads a tag, the value behind it and the bracket that closes its object.
func (d *decoder) tagged(left int) (any, error) {
	tag, err := d.key()
	if err != nil {
		return nil, err
	}
	v, err := d.typed(tag, left)
	if err != nil {
		return nil, err
	}
	return v, d.take('}')
}

func (d *decoder) typed(tag string, left int) (any, error) {
	switch tag {
	case tagMap:
		return d.members(left)
	case tagTime:
		return d.time()
	case tagBytes:
		return d.bytes()
	case tagInt64:
		return d.signed(64)
	case tagInt32:
		n, err := d.signed(32)
		return int32(n), err
	case tagInt16:
		n, err := d.signed(16)
		return int16(n), err
	case tagInt8:
		n, err := d.signed(8)
		return int8(n), err
	case tagUint:
		n, err := d.unsigned(strconv.IntSize)
		return uint(n), err
	case tagUint64:
		return d.unsigned(64)
	case tagUint32:
		n, err := d.unsigned(32)
		return uint32(n), err
	case tagUint16:
		n, err := d.unsigned(16)
		return uint16(n), err
	case tagUint8:
		n, err := d.unsigned(8)
		return uint8(n), err
	case tagFloat32:
		return d.float32()
	case tagStrings:
		return typedSlice[string](d, left)
	case tagInts:
		return typedSlice[int](d, left)
	case tagStringMap:
		return d.stringMap(left)
	}
	return nil, d.fail("a type tag that is unknown")
}

func (d *decoder) time() (time.Time, error) {
	s, err := d.string()
	if err != nil {
		return time.Time{}, err
	}
	t, err := parseTime(s)
	if err != nil {
		return time.Time{}, d.fail("no RFC 3339 time")
	}
	return t, nil
}

func (d *decoder) bytes() ([]byte, error) {
	s, err := d.string()
	if err != nil {
		return nil, err
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, d.fail("no base64")
	}
	return b, nil
}

func typedSlice[T any](d *decoder, left int) ([]T, error) {
	a, err := d.array(left)
	if err != nil {
		return nil, err
	}
	typed := make([]T, len(a))
	for i, v := range a {
		var ok bool
		if typed[i], ok = v.(T); !ok {
			return nil, d.fail("an element of another type")
		}
	}
	return typed, nil
}

func (d *decoder) stringMap(left int) (map[string]string, error) {
	m, err := d.members(left)
	if err != nil {
		return nil, err
	}
	typed := make(map[string]string, len(m))
	for k, v := range m {
		var ok bool
		if typed[k], ok = v.(string); !ok {
			return nil, d.fail("an element of another type")
		}
	}
	return typed, nil
}
