package codec

import (
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// string reads a string. A lone surrogate is an error: it is no Unicode text and
// could not come back as it was.
func (d *decoder) string() (string, error) {
	if err := d.take('"'); err != nil {
		return "", err
	}
	start, ascii := d.pos, true
	for ; d.pos < len(d.data); d.pos++ {
		switch c := d.data[d.pos]; {
		case c == '"':
			raw := d.data[start:d.pos]
			if !ascii && !utf8.Valid(raw) {
				return "", d.fail("text that is not UTF-8")
			}
			d.pos++
			return string(raw), nil
		case c == '\\':
			return d.escaped(start)
		case c < ' ':
			return "", d.fail("a control character")
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return "", d.fail("no end")
}

// escaped reads on from the first escape in a string that began at start.
func (d *decoder) escaped(start int) (string, error) {
	s := append(make([]byte, 0, 2*(d.pos-start)+32), d.data[start:d.pos]...)
	for d.pos < len(d.data) {
		c := d.data[d.pos]
		d.pos++
		switch {
		case c == '"':
			if !utf8.Valid(s) {
				return "", d.fail("text that is not UTF-8")
			}
			return string(s), nil
		case c == '\\':
			r, ok := d.escape()
			if !ok {
				return "", d.fail("no valid escape")
			}
			s = utf8.AppendRune(s, r)
		case c < ' ':
			return "", d.fail("a control character")
		default:
			s = append(s, c)
		}
	}
	return "", d.fail("no end")
}

// escape reads what follows a backslash.
func (d *decoder) escape() (rune, bool) {
	if d.pos == len(d.data) {
		return 0, false
	}
	c := d.data[d.pos]
	d.pos++
	switch c {
	case '"', '\\', '/':
		return rune(c), true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	case 'u':
		r, ok := d.hex4()
		if !ok || !utf16.IsSurrogate(r) {
			return r, ok
		}
		if d.pos+2 > len(d.data) || d.data[d.pos] != '\\' || d.data[d.pos+1] != 'u' {
			return 0, false
		}
		d.pos += 2
		low, ok := d.hex4()
		r = utf16.DecodeRune(r, low)
		return r, ok && r != utf8.RuneError
	}
	return 0, false
}

func (d *decoder) hex4() (rune, bool) {
	if d.pos+4 > len(d.data) {
		return 0, false
	}
	var r rune
	for _, c := range d.data[d.pos : d.pos+4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	d.pos += 4
	return r, true
}

// literal reads the text of a number and reports whether it is an integer.
func (d *decoder) literal() (text []byte, integer bool, err error) {
	start := d.pos
	d.skip('-')
	if !d.skip('0') && !d.digits() {
		return nil, false, d.fail("no value")
	}
	integer = true
	if d.skip('.') {
		integer = false
		if !d.digits() {
			return nil, false, d.fail("no digit")
		}
	}
	if d.skip('e') || d.skip('E') {
		integer = false
		if !d.skip('+') {
			d.skip('-')
		}
		if !d.digits() {
			return nil, false, d.fail("no digit")
		}
	}
	return d.data[start:d.pos], integer, nil
}

func (d *decoder) skip(c byte) bool {
	if d.pos < len(d.data) && d.data[d.pos] == c {
		d.pos++
		return true
	}
	return false
}

func (d *decoder) digits() bool {
	start := d.pos
	for d.pos < len(d.data) && '0' <= d.data[d.pos] && d.data[d.pos] <= '9' {
		d.pos++
	}
	return d.pos > start
}

// number reads an integer as an int, or as an int64 or uint64 where it does not
// fit, and any other number as a float64.
func (d *decoder) number() (any, error) {
	text, integer, err := d.literal()
	if err != nil {
		return nil, err
	}
	if !integer {
		f, err := strconv.ParseFloat(string(text), 64)
		if err != nil {
			return nil, d.fail("a number that is too large")
		}
		return f, nil
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	switch {
	case err == nil && math.MinInt <= n && n <= math.MaxInt:
		return int(n), nil
	case err == nil:
		return n, nil
	}
	u, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return nil, d.fail("an integer of more than 64 bits")
	}
	return u, nil
}

func (d *decoder) signed(bits int) (int64, error) {
	d.next()
	text, _, err := d.literal()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(text), 10, bits)
	if err != nil {
		return 0, d.fail("no integer of its type")
	}
	return n, nil
}

func (d *decoder) unsigned(bits int) (uint64, error) {
	d.next()
	text, _, err := d.literal()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(text), 10, bits)
	if err != nil {
		return 0, d.fail("no integer of its type")
	}
	return n, nil
}

func (d *decoder) float32() (float32, error) {
	d.next()
	text, _, err := d.literal()
	if err != nil {
		return 0, err
	}
	f, err := strconv.ParseFloat(string(text), 32)
	if err != nil {
		return 0, d.fail("a number that is too large")
	}
	return float32(f), nil
}
