package embedded

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// parser goes through JSON text (RFC 8259), without ever building a tree of it.
type parser struct {
	in  []byte
	pos int
}

// peek skips space and returns the next byte, 0 at the end (which is no valid byte of JSON text either).
func (p *parser) peek() byte {
	for p.pos < len(p.in) {
		switch c := p.in[p.pos]; c {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return c
		}
	}
	return 0
}

// take skips space and then c, if c is next.
func (p *parser) take(c byte) bool {
	if p.peek() != c {
		return false
	}
	p.pos++
	return true
}

// word reads true, false or null.
func (p *parser) word(w string) error {
	if !bytes.HasPrefix(p.in[p.pos:], []byte(w)) {
		return errInvalidJSON
	}
	p.pos += len(w)
	return nil
}

// key reads the name of a member and its colon.
func (p *parser) key() (string, error) {
	if p.peek() != '"' {
		return "", errInvalidJSON
	}
	name, err := p.string()
	if err == nil && !p.take(':') {
		err = errInvalidJSON
	}
	return name, err
}

// number reads a number and returns it as it stands there.
func (p *parser) number() (string, error) {
	start := p.pos
	if p.at() == '-' {
		p.pos++
	}
	if p.at() == '0' {
		p.pos++
	} else if !p.digits() {
		return "", errInvalidJSON
	}
	if p.at() == '.' {
		p.pos++
		if !p.digits() {
			return "", errInvalidJSON
		}
	}
	if c := p.at(); c == 'e' || c == 'E' {
		p.pos++
		if c := p.at(); c == '+' || c == '-' {
			p.pos++
		}
		if !p.digits() {
			return "", errInvalidJSON
		}
	}
	return string(p.in[start:p.pos]), nil
}

// at is the byte at the position, 0 at the end.
func (p *parser) at() byte {
	if p.pos < len(p.in) {
		return p.in[p.pos]
	}
	return 0
}

func (p *parser) digits() bool {
	start := p.pos
	for c := p.at(); c >= '0' && c <= '9'; c = p.at() {
		p.pos++
	}
	return p.pos > start
}

// string reads a string.
func (p *parser) string() (string, error) {
	s, err := p.stringBytes()
	return string(s), err
}

// stringBytes reads a string without a copy of it where it stands for itself byte by byte. What is no valid UTF-8 and
// no whole surrogate pair becomes U+FFFD, as in encoding/json.
func (p *parser) stringBytes() ([]byte, error) {
	p.pos++ // the quote
	start := p.pos
	for ; p.pos < len(p.in); p.pos++ {
		switch c := p.in[p.pos]; {
		case c == '"':
			p.pos++
			return p.in[start : p.pos-1], nil
		case c < ' ':
			return nil, errInvalidJSON
		case c == '\\' || c >= utf8.RuneSelf:
			return p.unescape(start)
		}
	}
	return nil, errInvalidJSON
}

// unescape reads the rest of a string that does not stand for itself byte by byte.
func (p *parser) unescape(start int) ([]byte, error) {
	// Escaped text is longer than what it stands for; only broken UTF-8 makes it grow.
	end := bytes.IndexByte(p.in[p.pos:], '"')
	out := append(make([]byte, 0, p.pos-start+max(end, 0)+64), p.in[start:p.pos]...)
	for p.pos < len(p.in) {
		switch c := p.in[p.pos]; {
		case c == '"':
			p.pos++
			return out, nil
		case c < ' ':
			return nil, errInvalidJSON
		case c == '\\':
			var ok bool
			if out, ok = p.escape(out); !ok {
				return nil, errInvalidJSON
			}
		case c < utf8.RuneSelf:
			run := p.pos
			for p.pos < len(p.in) && plain[p.in[p.pos]] {
				p.pos++
			}
			out = append(out, p.in[run:p.pos]...)
		default:
			r, size := utf8.DecodeRune(p.in[p.pos:])
			p.pos += size
			out = utf8.AppendRune(out, r)
		}
	}
	return nil, errInvalidJSON
}

// plain are the ASCII bytes that stand for themselves in a string.
var plain = func() (t [256]bool) {
	for c := byte(' '); c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape reads one escape sequence and appends what it stands for.
func (p *parser) escape(out []byte) ([]byte, bool) {
	p.pos++ // the backslash
	c := p.at()
	p.pos++
	if c != 'u' {
		if escapes[c] == 0 {
			return out, false
		}
		return append(out, escapes[c]), true
	}
	r, ok := p.hex4()
	if !ok {
		return out, false
	}
	if utf16.IsSurrogate(r) {
		low := parser{in: p.in, pos: p.pos + 2}
		if bytes.HasPrefix(p.in[p.pos:], []byte(`\u`)) {
			if r2, ok := low.hex4(); ok {
				if pair := utf16.DecodeRune(r, r2); pair != utf8.RuneError {
					p.pos = low.pos
					return utf8.AppendRune(out, pair), true
				}
			}
		}
	}
	return utf8.AppendRune(out, r), true // U+FFFD in the place of half a pair
}

func (p *parser) hex4() (r rune, ok bool) {
	for range 4 {
		c := p.at()
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
		p.pos++
	}
	return r, true
}

// skip reads a value of any type and checks that it is well formed. depth is how deep it lies.
func (p *parser) skip(depth int) error {
	switch c := p.peek(); {
	case c == '"':
		_, err := p.stringBytes()
		return err
	case c == '-' || c >= '0' && c <= '9':
		_, err := p.number()
		return err
	case c == '[' || c == '{':
		return p.skipContainer(depth+1, c)
	case c == 't':
		return p.word("true")
	case c == 'f':
		return p.word("false")
	default:
		return p.word("null")
	}
}

func (p *parser) skipContainer(depth int, open byte) error {
	if depth > maxDepth {
		return errInvalidJSON
	}
	p.pos++
	end := open + 2 // ']' and '}' are two further than their openers
	for n := 0; p.peek() != end; n++ {
		if n > 0 && !p.take(',') {
			return errInvalidJSON
		}
		if open == '{' {
			if _, err := p.key(); err != nil {
				return err
			}
		}
		if err := p.skip(depth); err != nil {
			return err
		}
	}
	p.pos++
	return nil
}
