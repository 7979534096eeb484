package embedded

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// reference reads a request as rqlite does: with encoding/json, value by value.
func reference(body []byte) ([]statement, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	t, err := dec.Token()
	if err != nil {
		return nil, errInvalidJSON
	}
	if t != json.Delim('[') {
		return nil, errInvalidRequest
	}
	var list []statement
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, errInvalidJSON
		}
		s := statement{}
		switch sql, ok := t.(string); {
		case ok:
			s.sql = sql
		case t == json.Delim('['):
			if s, err = referenceItems(dec); err != nil {
				return nil, err
			}
		default:
			return nil, errInvalidRequest
		}
		list = append(list, s)
	}
	if _, err := dec.Token(); err != nil {
		return nil, errInvalidJSON
	}
	if len(list) == 0 {
		return nil, errNoStatements
	}
	return list, nil
}

func referenceItems(dec *json.Decoder) (s statement, err error) {
	var items []json.RawMessage
	for dec.More() {
		var item json.RawMessage
		if err := dec.Decode(&item); err != nil {
			return s, errInvalidJSON
		}
		items = append(items, item)
	}
	if _, err := dec.Token(); err != nil {
		return s, errInvalidJSON
	}
	if len(items) == 0 || items[0][0] != '"' {
		return s, errInvalidRequest
	}
	s.sql = referenceValue(items[0]).(string)
	for _, item := range items[1:] {
		if item[0] != '{' {
			a, err := referenceArgument("", referenceValue(item))
			if err != nil {
				return s, err
			}
			s.args = append(s.args, a)
			continue
		}
		// Member by member, as a map has no order.
		members := json.NewDecoder(bytes.NewReader(item))
		members.UseNumber()
		_, _ = members.Token()
		for members.More() {
			name, _ := members.Token()
			var v any
			if err := members.Decode(&v); err != nil {
				return s, errInvalidJSON
			}
			a, err := referenceArgument(name.(string), v)
			if err != nil {
				return s, err
			}
			s.args = append(s.args, a)
		}
	}
	return s, nil
}

func referenceValue(raw json.RawMessage) (v any) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		panic(err)
	}
	return v
}

func referenceArgument(name string, v any) (argument, error) {
	a := argument{name: name}
	switch v := v.(type) {
	case nil:
	case bool:
		a.kind = integer
		if v {
			a.int = 1
		}
	case string:
		a = textOrBlob([]byte(v))
		a.name = name
	case json.Number:
		n, err := number(v.String())
		n.name = name
		return n, err
	case []any:
		a.kind = blob
		for _, e := range v {
			n, ok := e.(json.Number)
			if !ok {
				return a, fmt.Errorf("unsupported type %T", e)
			}
			i, err := n.Int64()
			if err != nil || uint64(i) > 255 {
				return a, fmt.Errorf("unsupported type %s", n)
			}
			a.text += string([]byte{byte(i)})
		}
	default:
		return a, fmt.Errorf("unsupported type %T", v)
	}
	return a, nil
}

// FuzzRequest compares the parser with encoding/json.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		``, `[]`, `[[]]`, `null`, `"a"`, `[1]`, `[{}]`, `{`, `[`, `["a`, `["a"`, `["a"}`, `["a",]`, `[,"a"]`, `["a" "b"]`, `["a"] x`,
		`["SELECT 1", ["SELECT ?, ?", 1, "b"], ["SELECT :a", {"a": null, "b": [1, 2]}]]`,
		`[["a", 1.5, -0, 1e400, 9223372036854775808, 0.1E-5, 01]]`, `[["a", true, false, null, nul]]`,
		`[["a", "x'41'", "X''", " x'4' "]]`, `[["a", [256], [-1], [1.5], ["a"], [null], [[1]], [{}], [true]]]`,
		`[["a", {"a": {"b": 1}, "c": "d"}, {"a": 1, "a": 2}]]`, `[[1], [`, `[[1, "a"]]`, `[["a", {"a" 1}]]`, `[["a", {1: 1}]]`,
		`["\u0041\ud83d\ude00\ud83d\u0000\ud800\"\\\/\b\f\n\r\t"]`, `["\x"]`, `["\u12"]`, "[\"a\nb\"]", "[\"a\xff\xc3\xa9\u2028\"]",
		` [ [ "a" , [ ] , { } ] , "b" ] `, "\ufeff[]", `[["a", "\ud83d\uD83D\uDE00"]]`, `["a"`, "[\"\\",
		`[["a", 0, 1e+2, 1E3, [0, 255, -0]]]`, "[\"\\n\n\"]", `["\u00fF\udc00"]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, gotErr := parseRequest(body)
		want, wantErr := reference(body)
		if fmt.Sprint(gotErr) != fmt.Sprint(wantErr) {
			t.Fatalf("%q: error %v, want %v", body, gotErr, wantErr)
		}
		if gotErr == nil && !reflect.DeepEqual(got, want) {
			t.Fatalf("%q:\n got %+v\nwant %+v", body, got, want)
		}
	})
}

func TestParseRequest_boundsNesting(t *testing.T) {
	t.Parallel()
	for _, open := range []string{"[", `{"a":`} {
		for depth, want := range map[int]error{
			maxDepth:      nil,
			maxDepth + 1:  errInvalidJSON,
			20 * maxDepth: errInvalidJSON,
		} {
			end := map[string]string{"[": "]", `{"a":`: "}"}[open]
			body := `[["a", ` + strings.Repeat(open, depth) + "1" + strings.Repeat(end, depth) + "]]"
			_, err := parseRequest([]byte(body))
			if errors.Is(err, errInvalidJSON) != (want != nil) {
				t.Errorf("%s nested %d deep: %v", open, depth, err)
			}
		}
	}
}

// FuzzAppendString compares the writing of strings with encoding/json.
func FuzzAppendString(f *testing.F) {
	for _, seed := range []string{"", "a", "\"\\\n\r\t\x00\x1f\x7f", "<>&\u2028é€😀", "\xff", "a\xc3", "\xed\xa0\x80", "\xf0\x9f\x98"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var got, want string
		out := appendString(nil, []byte(s))
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%q is written as %s: %v", s, out, err)
		}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Fatalf("%q comes back as %q, want %q", s, got, want)
		}
	})
}

// FuzzAppendFloat compares the writing of numbers with encoding/json.
func FuzzAppendFloat(f *testing.F) {
	for _, seed := range []float64{0, 1, -1.5, 1e20, 1e21, 1e-6, 1e-7, 9.9e-7, 1e-10, 1.7976931348623157e308, 5e-324} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, v float64) {
		want, wantErr := json.Marshal(v)
		got, err := appendFloat(nil, v)
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("%v: error %v, want %v", v, err, wantErr)
		}
		if err == nil && string(got) != string(want) {
			t.Fatalf("%v is written as %s, want %s", v, got, want)
		}
	})
}
