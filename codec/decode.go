package codec

import (
	"bytes"
	"fmt"
	"strconv"
	"time"
)

// decoder reads JSON (RFC 8259). With plain set it knows no type tags. An error
// names a position in the data and shows nothing of it.
type decoder struct {
	data  []byte
	pos   int
	plain bool
}

func (d *decoder) fail(problem string) error {
	return fmt.Errorf("%w: %s at byte %d", ErrMalformed, problem, d.pos)
}

// next skips white space and returns the byte that follows, or 0 at the end.
func (d *decoder) next() byte {
	for ; d.pos < len(d.data); d.pos++ {
		switch c := d.data[d.pos]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// take reads c, behind any white space.
func (d *decoder) take(c byte) error {
	if d.next() != c {
		return d.fail("no " + strconv.QuoteRune(rune(c)))
	}
	d.pos++
	return nil
}

func (d *decoder) end() error {
	if d.next(); d.pos != len(d.data) {
		return d.fail("something behind the end")
	}
	return nil
}

func (d *decoder) fits() error {
	if len(d.data) > MaxSize {
		return fmt.Errorf("%w: more than %d MiB", ErrMalformed, MaxSize>>20)
	}
	return nil
}

// more reports whether an object or array has another member, and reads the
// comma before it or the bracket that closes it.
func (d *decoder) more(first bool, closing byte) (bool, error) {
	switch c := d.next(); {
	case d.pos == len(d.data):
		return false, d.fail("no end")
	case c == closing:
		d.pos++
		return false, nil
	case first:
		return true, nil
	}
	return true, d.take(',')
}

// key reads the name of an object's member and the colon behind it.
func (d *decoder) key() (string, error) {
	s, err := d.string()
	if err != nil {
		return "", err
	}
	return s, d.take(':')
}

// session reads what [JSON.Encode] writes.
func (d *decoder) session() (deadline time.Time, values map[string]any, err error) {
	if err := d.fits(); err != nil {
		return deadline, nil, err
	}
	if err := d.take('{'); err != nil {
		return deadline, nil, err
	}
	seen := false
	for first := true; ; first = false {
		if ok, err := d.more(first, '}'); err != nil {
			return deadline, nil, err
		} else if !ok {
			break
		}
		key, err := d.key()
		switch {
		case err != nil:
		case key == "deadline" && !seen:
			seen = true
			deadline, err = d.time()
		case key == "values" && values == nil:
			values, err = d.members(MaxDepth + 1)
		default:
			err = d.fail("a field that is unknown or there twice")
		}
		if err != nil {
			return deadline, nil, err
		}
	}
	if !seen || values == nil {
		return deadline, nil, d.fail("no deadline or no values")
	}
	return deadline.UTC(), values, d.end()
}

// only reads the data as one value.
func (d *decoder) only() (any, error) {
	if err := d.fits(); err != nil {
		return nil, err
	}
	v, err := d.value(MaxDepth)
	if err != nil {
		return nil, err
	}
	return v, d.end()
}

// value reads any value, which may have as many levels of objects and arrays as
// are left.
func (d *decoder) value(left int) (any, error) {
	switch d.next() {
	case '{':
		return d.object(left, !d.plain)
	case '[':
		return d.array(left)
	case '"':
		return d.string()
	case 't':
		return true, d.word("true")
	case 'f':
		return false, d.word("false")
	case 'n':
		return nil, d.word("null")
	}
	return d.number()
}

func (d *decoder) word(w string) error {
	if !bytes.HasPrefix(d.data[d.pos:], []byte(w)) {
		return d.fail("no value")
	}
	d.pos += len(w)
	return nil
}

// object reads an object: a map[string]any, or with tags whatever its tag says.
func (d *decoder) object(left int, tags bool) (any, error) {
	if err := d.take('{'); err != nil {
		return nil, err
	}
	if tags && d.tagAhead() {
		return d.tagged(left)
	}
	if left == 0 {
		return nil, d.fail("too many levels")
	}
	m := map[string]any{}
	for first := true; ; first = false {
		if ok, err := d.more(first, '}'); err != nil || !ok {
			return m, err
		}
		key, err := d.key()
		if err != nil {
			return nil, err
		}
		if tags && isTag(key) {
			return nil, d.fail("a type tag that is escaped or beside other keys")
		}
		v, err := d.value(left - 1)
		if err != nil {
			return nil, err
		}
		before := len(m)
		if m[key] = v; len(m) == before {
			return nil, d.fail("a key that is there twice")
		}
	}
}

// members reads an object as a map, whatever its keys.
func (d *decoder) members(left int) (map[string]any, error) {
	v, err := d.object(left, false)
	if err != nil {
		return nil, err
	}
	return v.(map[string]any), nil
}

func (d *decoder) array(left int) ([]any, error) {
	if left == 0 {
		return nil, d.fail("too many levels")
	}
	if err := d.take('['); err != nil {
		return nil, err
	}
	a := []any{}
	for first := true; ; first = false {
		if ok, err := d.more(first, ']'); err != nil || !ok {
			return a, err
		}
		v, err := d.value(left - 1)
		if err != nil {
			return nil, err
		}
		a = append(a, v)
	}
}
