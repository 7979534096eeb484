package embedded

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
)

// The errors of a body that is not a list of statements, in rqlite's words.
var (
	errNoStatements   = errors.New("no statements")
	errInvalidJSON    = errors.New("invalid JSON body")
	errInvalidRequest = errors.New("invalid request")
)

// maxDepth is how deep arrays and objects may nest, as in encoding/json.
const maxDepth = 10000

// parseRequest reads a body: an array of statements, each a string or an array of a string and arguments.
//
// It is written by hand because it stands in front of every call and a batch is a megabyte of JSON in one
// string: encoding/json takes several times as long. It accepts and refuses what rqlite's decoder does;
// FuzzRequest compares the two. Like there, what follows the closing bracket is not looked at.
func parseRequest(body []byte) ([]statement, error) {
	p := parser{in: body}
	if !p.take('[') {
		return nil, p.unexpected()
	}
	var list []statement
	for p.peek() != ']' {
		if len(list) > 0 && !p.take(',') {
			return nil, errInvalidJSON
		}
		s, err := p.statement()
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	if len(list) == 0 {
		return nil, errNoStatements
	}
	return list, nil
}

// statement reads "sql" or ["sql", argument...].
func (p *parser) statement() (statement, error) {
	switch p.peek() {
	case '"':
		sql, err := p.string()
		return statement{sql: sql}, err
	case '[':
		p.pos++
		return p.parameterized()
	default:
		return statement{}, p.unexpected()
	}
}

// unexpected is the error for a value that stands where it makes no sense, or is broken.
func (p *parser) unexpected() error {
	if p.peek() != '{' { // which rqlite does not look into
		if err := p.skip(0); err != nil {
			return err
		}
	}
	return errInvalidRequest
}

// parameterized reads what follows the bracket of a statement with arguments. Broken JSON anywhere in
// it counts before an argument that makes no sense.
func (p *parser) parameterized() (s statement, err error) {
	var wrong error
	n := 0
	for ; p.peek() != ']'; n++ {
		if n > 0 && !p.take(',') {
			return s, errInvalidJSON
		}
		var e error
		switch {
		case n > 0:
			e, err = p.argument(&s)
		case p.peek() == '"':
			s.sql, err = p.string()
		default:
			e, err = errInvalidRequest, p.skip(0)
		}
		if err != nil {
			return s, err
		}
		wrong = cmp.Or(wrong, e)
	}
	p.pos++
	if n == 0 {
		return s, errInvalidRequest
	}
	return s, wrong
}

// argument reads one element after the SQL text: a value, or an object of named values.
// The first error is about its meaning, the second about its syntax.
func (p *parser) argument(s *statement) (wrong, broken error) {
	if p.peek() != '{' {
		a, wrong, broken := p.value(0)
		s.args = append(s.args, a)
		return wrong, broken
	}
	p.pos++
	for n := 0; p.peek() != '}'; n++ {
		if n > 0 && !p.take(',') {
			return nil, errInvalidJSON
		}
		name, err := p.key()
		if err != nil {
			return nil, err
		}
		a, e, err := p.value(1)
		if err != nil {
			return nil, err
		}
		wrong = cmp.Or(wrong, e)
		a.name = name
		s.args = append(s.args, a) // of a name that comes twice the last is bound last and stays
	}
	p.pos++
	return wrong, nil
}

// value reads one JSON value as an argument.
func (p *parser) value(depth int) (a argument, wrong, broken error) {
	switch c := p.peek(); {
	case c == '"':
		s, err := p.stringBytes()
		return textOrBlob(s), nil, err
	case c == '[':
		p.pos++
		return p.bytes(depth + 1)
	case c == '{':
		return a, unsupported("map[string]interface {}"), p.skip(depth)
	case c == '-' || c >= '0' && c <= '9':
		literal, err := p.number()
		if err != nil {
			return a, nil, err
		}
		a, wrong = number(literal)
		return a, wrong, nil
	case c == 't':
		return argument{kind: integer, int: 1}, nil, p.word("true")
	case c == 'f':
		return argument{kind: integer}, nil, p.word("false")
	default:
		return a, nil, p.word("null")
	}
}

// bytes reads an array of numbers from 0 to 255, which is a blob.
func (p *parser) bytes(depth int) (a argument, wrong, broken error) {
	var b []byte
	for n := 0; p.peek() != ']'; n++ {
		if n > 0 && !p.take(',') {
			return a, nil, errInvalidJSON
		}
		v, e, err := p.byte(depth)
		if err != nil {
			return a, nil, err
		}
		wrong = cmp.Or(wrong, e)
		b = append(b, v)
	}
	p.pos++
	return argument{kind: blob, text: string(b)}, wrong, nil
}

func (p *parser) byte(depth int) (v byte, wrong, broken error) {
	c := p.peek()
	if c == '-' || c >= '0' && c <= '9' {
		literal, err := p.number()
		if err != nil {
			return 0, nil, err
		}
		i, err := strconv.ParseUint(literal, 10, 8)
		if err != nil && literal != "-0" {
			return 0, unsupported(literal), nil
		}
		return byte(i), nil, nil
	}
	if err := p.skip(depth); err != nil {
		return 0, nil, err
	}
	return 0, unsupported(goType(c)), nil
}

// goType is the name that rqlite's message gives the value that begins with c.
func goType(c byte) string {
	switch c {
	case '"':
		return "string"
	case '[':
		return "[]interface {}"
	case '{':
		return "map[string]interface {}"
	case 'n':
		return "<nil>"
	default:
		return "bool"
	}
}

func unsupported(what string) error { return fmt.Errorf("unsupported type %s", what) }
