package codec_test

import (
	"encoding/json"
	"errors"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/codec"
)

const canary = "c4nary-value"

type account struct{ Secret string }

type named string

func nestedSlices(depth int) any {
	var v any = 1
	for range depth {
		v = []any{v}
	}
	return v
}

func nestedMaps(key string, depth int, v any) any {
	for range depth {
		v = map[string]any{key: v}
	}
	return v
}

func TestEncode_refusesWhatWouldNotComeBack(t *testing.T) {
	t.Parallel()
	within := map[string]any{}
	within["self"] = within
	wide := any(strings.Repeat("x", 1<<20))
	for range 5 {
		wide = []any{wide, wide} // 32 MiB once written
	}
	endless := any(1)
	for range 99 {
		endless = []any{endless, endless}
	}
	for _, c := range []struct {
		name    string
		value   any
		instead string
	}{
		{"struct", account{canary}, "map[string]any"},
		{"pointer to a struct", &account{canary}, "what it points to"},
		{"nil pointer", (*int)(nil), "what it points to"},
		{"channel", make(chan int), "plain values"},
		{"function", func() {}, "plain values"},
		{"error", errors.New(canary), "what it points to"},
		{"complex", complex(1, 2), "float64"},
		{"array", [2]string{canary}, "[]any"},
		{"other slice", []account{{canary}}, "[]any"},
		{"other map", map[int]string{1: canary}, "map[string]any"},
		{"named string", named(canary), "a string"},
		{"duration", time.Second, "int64"},
		{"raw JSON", json.RawMessage(`"` + canary + `"`), "[]byte"},
		{"array of bytes", [16]byte{1}, "[]byte"}, // as ids are
		{"NaN", math.NaN(), "string"},
		{"infinity", math.Inf(-1), "string"},
		{"float32 infinity", float32(math.Inf(1)), "string"},
		{"invalid UTF-8", canary + "\xff", "[]byte"},
		{"invalid UTF-8 in a slice", []string{canary + "\xff"}, "[]byte"},
		{"invalid UTF-8 in a key", map[string]any{"\xed\xa0\x80": 1}, "[]byte"},
		{"json.Number of text", json.Number(canary), "string"},
		{"empty json.Number", json.Number(""), "string"},
		{"json.Number with space", json.Number(" 1"), "string"},
		{"json.Number too large", json.Number("1e999"), "string"},
		{"json.Number of 65 bits", json.Number("18446744073709551616"), "string"},
		{"json.Number in hex", json.Number("0x10"), "string"},
		{"year 10000", deadline.AddDate(9000, 0, 0), "text"},
		{"year -1", deadline.AddDate(-2027, 0, 0), "text"},
		{"offset of a day", deadline.In(time.FixedZone("", 24*60*60)), "text"},
		{"offset of a day west", deadline.In(time.FixedZone("", -24*60*60)), "text"},
		{"offset of days", deadline.In(time.FixedZone("", 90000)), "text"},
		{"101 slices", nestedSlices(101), "flatter"},
		{"101 maps", nestedMaps("a", 101, 1), "flatter"},
		{"strings at depth 101", nestedMaps("a", 100, []string{canary}), "flatter"},
		{"map within itself", within, "flatter"},
		{"32 MiB in small pieces", wide, "less"},
		{"2^99 numbers", endless, "less"},
		{"17 MiB of bytes", make([]byte, 17<<20), "less"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := codec.JSON{}.Encode(deadline, map[string]any{"other": 1, "my key": c.value})
			if !errors.Is(err, codec.ErrUnstorable) {
				t.Fatalf("error %v", err)
			}
			if msg := err.Error(); !strings.Contains(msg, `"my key"`) || !strings.Contains(msg, "store ") ||
				!strings.Contains(msg, c.instead) || strings.Contains(msg, canary) {
				t.Errorf("error does not name the key and what to store instead, or shows the value: %s", msg)
			}
			if _, err := codec.EncodeValue(c.value); !errors.Is(err, codec.ErrUnstorable) || strings.Contains(err.Error(), canary) {
				t.Errorf("EncodeValue: %v", err)
			}
		})
	}
}

func TestEncode_namesAKeyThatIsNoText(t *testing.T) {
	t.Parallel()
	_, err := codec.JSON{}.Encode(deadline, map[string]any{"\xff\n" + strings.Repeat("k", 1000): 1})
	if !errors.Is(err, codec.ErrUnstorable) || !strings.Contains(err.Error(), `"\xff\nkkk`) || len(err.Error()) > 200 {
		t.Errorf("error %v", err)
	}
}

func TestEncode_takes100Levels(t *testing.T) {
	t.Parallel()
	for _, v := range []any{
		nestedSlices(100), nestedMaps("a", 100, 1), nestedMaps("$", 100, 1), nestedMaps("$time", 100, 1),
		nestedMaps("a", 99, map[string]string{"a": "b"}), nestedMaps("a", 99, []int{1}), nestedMaps("a", 100, int64(1)),
	} {
		b := mustEncode(t, map[string]any{"v": v})
		if got := mustDecode(t, b)["v"]; !codec.Equal(got, v) {
			t.Errorf("came back different: %s", b)
		}
		plain, err := codec.EncodeValue(v)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := codec.DecodeValue(plain); err != nil {
			t.Errorf("%v: %s", err, plain)
		}
	}
}

// What is encoded can be decoded, to the last byte that there is room for.
func TestEncode_takesWhatDecodeTakes(t *testing.T) {
	t.Parallel()
	room := codec.MaxSize - len(mustEncode(t, map[string]any{"v": ""}))
	for n := room - 1; n <= room+3; n++ {
		values := map[string]any{"v": strings.Repeat("x", n)}
		b, err := codec.JSON{}.Encode(deadline, values)
		if (err == nil) != (n <= room) || err != nil && !errors.Is(err, codec.ErrUnstorable) {
			t.Errorf("%d bytes more than there is room for: %v", n-room, err)
		}
		if err != nil {
			continue
		}
		if _, got, err := (codec.JSON{}).Decode(b); err != nil || !codec.Equal(got, values) {
			t.Errorf("%d bytes more than there is room for came back different: %v", n-room, err)
		}
	}
}

// session puts a value that need not be valid into an otherwise valid session.
func session(value string) string {
	return `{"deadline":"2026-05-04T12:00:00.123456789Z","values":{"v":` + value + `}}`
}

var invalidValues = map[string]string{
	"nothing":                     ``,
	"word":                        `nul`,
	"words run together":          `truefalse`,
	"capital":                     `True`,
	"NaN":                         `NaN`,
	"leading zero":                `01`,
	"leading plus":                `+1`,
	"leading point":               `.5`,
	"trailing point":              `1.`,
	"no exponent":                 `1e`,
	"no exponent after sign":      `1e+`,
	"only minus":                  `-`,
	"hex":                         `0x1`,
	"integer of 65 bits":          `18446744073709551616`,
	"negative integer of 65 bits": `-9223372036854775809`,
	"float too large":             `1e309`,
	"single quotes":               `'a'`,
	"no end of string":            `"a`,
	"end within an escape":        `"\`,
	"bad escape":                  `"\x41"`,
	"short escape":                `"\u00"`,
	"bad hex":                     `"\u00g0"`,
	"below the digits":            `"\u00/0"`,
	"above the digits":            `"\u00:0"`,
	"below the capitals":          `"\u00@0"`,
	"above the capitals":          `"\u00G0"`,
	"below the small letters":     "\"\\u00`0\"",
	"lone high surrogate":         `"\ud800"`,
	"high surrogate and text":     `"\ud800aaaaaa"`,
	"two high surrogates":         `"\ud800\ud800"`,
	"high surrogate and newline":  `"\ud800\ndc00"`,
	"high surrogate and a u":      `"\ud800/udc00"`,
	"lone low surrogate":          `"\udc00"`,
	"newline in a string":         "\"a\nb\"",
	"NUL in a string":             "\"a\x00b\"",
	"control after an escape":     "\"\\n\x01\"",
	"invalid UTF-8":               "\"\xff\"",
	"overlong UTF-8":              "\"\xc0\xaf\"",
	"surrogate in UTF-8":          "\"\xed\xa0\x80\"",
	"invalid UTF-8, escaped":      "\"\\n\xff\"",
	"cut UTF-8":                   "\"\xe2\x82\"",
	"no end of array":             `[1`,
	"trailing comma in array":     `[1,]`,
	"only a comma":                `[,]`,
	"no comma in array":           `[1 2]`,
	"wrong bracket":               `[1}`,
	"no end of object":            `{"a":1`,
	"trailing comma in object":    `{"a":1,}`,
	"no colon":                    `{"a" 1}`,
	"no value":                    `{"a":}`,
	"key without quotes":          `{a:1}`,
	"number as key":               `{1:1}`,
	"duplicate key":               `{"a":1,"b":2,"a":1}`,
	"duplicate key, escaped":      `{"a":1,"\u0061":1}`,
	"comment":                     `/* */1`,
	"other white space":           "\u00a01",
	"vertical tab":                "\v1",
	"byte order mark":             "\ufeff1",
	"NUL":                         "\x00",
	"something behind":            `1 1`,
	"101 arrays":                  strings.Repeat("[", 101) + strings.Repeat("]", 101),
	"101 objects":                 strings.Repeat(`{"a":`, 101) + "1" + strings.Repeat("}", 101),
	"a million arrays":            strings.Repeat("[", 1e6),
	"a million objects":           strings.Repeat(`{"a":`, 1e6),
}

var invalidTags = map[string]string{
	"unknown":               `{"$int":5}`,
	"unknown case":          `{"$Time":"2026-05-04T12:00:00Z"}`,
	"beside another key":    `{"$int64":5,"a":1}`,
	"behind another key":    `{"a":1,"$int64":5}`,
	"twice":                 `{"$int64":5,"$int64":5}`,
	"no value":              `{"$int64":}`,
	"no end":                `{"$int64":5`,
	"text for an int64":     `{"$int64":"5"}`,
	"float for an int64":    `{"$int64":5.0}`,
	"exponent for an int64": `{"$int64":5e0}`,
	"null for an int64":     `{"$int64":null}`,
	"int64 too large":       `{"$int64":9223372036854775808}`,
	"int32 too large":       `{"$int32":2147483648}`,
	"int16 too small":       `{"$int16":-32769}`,
	"int8 too large":        `{"$int8":128}`,
	"negative uint":         `{"$uint":-1}`,
	"uint64 too large":      `{"$uint64":18446744073709551616}`,
	"uint32 too large":      `{"$uint32":4294967296}`,
	"uint16 too large":      `{"$uint16":65536}`,
	"uint8 too large":       `{"$uint8":256}`,
	"float for a uint64":    `{"$uint64":1.5}`,
	"float32 too large":     `{"$float32":1e39}`,
	"text for a float32":    `{"$float32":"1"}`,
	"number for a time":     `{"$time":5}`,
	"text for a time":       `{"$time":"yesterday"}`,
	"no such day":           `{"$time":"2026-02-30T12:00:00Z"}`,
	"number for bytes":      `{"$bytes":5}`,
	"text for bytes":        `{"$bytes":"a b"}`,
	"bytes without padding": `{"$bytes":"YQ"}`,
	"bytes with stray bits": `{"$bytes":"YR=="}`,
	"object for strings":    `{"$[]string":{}}`,
	"number in strings":     `{"$[]string":["a",1]}`,
	"float in ints":         `{"$[]int":[1.5]}`,
	"array for string map":  `{"$map[string]string":[]}`,
	"null in string map":    `{"$map[string]string":{"a":null}}`,
	"array in a wrapper":    `{"$":[]}`,
	"101 wrappers":          strings.Repeat(`{"$":{"a":`, 101) + "1" + strings.Repeat("}}", 101),
	"a million wrappers":    strings.Repeat(`{"$":`, 1e6),
}

func TestDecode_refusesDamagedBytes(t *testing.T) {
	t.Parallel()
	const at = `"2026-05-04T12:00:00Z"`
	cases := map[string]string{
		"empty":             ``,
		"white space":       ` `,
		"null":              `null`,
		"array":             `[]`,
		"no fields":         `{}`,
		"no values":         `{"deadline":` + at + `}`,
		"no deadline":       `{"values":{}}`,
		"null values":       `{"deadline":` + at + `,"values":null}`,
		"array of values":   `{"deadline":` + at + `,"values":[]}`,
		"deadline a number": `{"deadline":5,"values":{}}`,
		"deadline no time":  `{"deadline":"soon","values":{}}`,
		"deadline twice":    `{"deadline":` + at + `,"deadline":` + at + `,"values":{}}`,
		"values twice":      `{"deadline":` + at + `,"values":{},"values":{}}`,
		"no known values":   `{"deadline":` + at + `,"admin":{}}`,
		"unknown field":     `{"deadline":` + at + `,"values":{},"admin":true}`,
		"other case":        `{"Deadline":` + at + `,"values":{}}`,
		"trailing comma":    `{"deadline":` + at + `,"values":{},}`,
		"trailing bytes":    session("1") + "x",
		"trailing NUL":      session("1") + "\x00",
		"two sessions":      session("1") + session("1"),
		"duplicate value":   session(`1,"v":2`),
		"too large":         session("1") + strings.Repeat(" ", codec.MaxSize),
		"hex of a session":  `7b22646561646c696e65223a`,
		"gob":               "\x1f\xff\x81\x03\x01\x02\xff\x82\x00",
	}
	for name, value := range invalidValues {
		cases["value: "+name] = session(value)
	}
	for name, value := range invalidTags {
		cases["tag: "+name] = session(value)
	}
	for name, b := range cases {
		at, values, err := codec.JSON{}.Decode([]byte(b))
		if !errors.Is(err, codec.ErrMalformed) || values != nil || !at.IsZero() {
			t.Errorf("%s: decoded to %v %v, error %v", name, at, values, err)
		}
	}
}

func TestDecode_refusesEveryCut(t *testing.T) {
	t.Parallel()
	b := mustEncode(t, map[string]any{
		"a": []any{1.5e300, "\n\u2028😀", true, nil}, "b": deadline, "c": []byte("xyz"), "d": map[string]any{"$": 1},
	})
	for _, b := range [][]byte{b, []byte(session(`"\ud83d\ude00\u0041"`))} {
		for i := range b {
			if _, _, err := (codec.JSON{}).Decode(b[:i]); !errors.Is(err, codec.ErrMalformed) {
				t.Errorf("decoded %q, error %v", b[:i], err)
			}
		}
	}
}

func TestDecode_errorsDoNotShowTheData(t *testing.T) {
	t.Parallel()
	for _, value := range []string{
		`"` + canary, canary, `{"$` + canary + `":1}`, `{"$time":"` + canary + `"}`, `{"$bytes":"` + canary + `"}`,
		`{"` + canary + `":1,"` + canary + `":1}`, `"` + canary + "\xff\"",
	} {
		if _, _, err := (codec.JSON{}).Decode([]byte(session(value))); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("error %v", err)
		}
	}
}

func TestDecode_readsWhatPeopleEdit(t *testing.T) {
	t.Parallel()
	got := mustDecode(t, []byte("\r\n{ \"values\" : {\t\"n\" : 1 , \"l\" : [ 1 , 2 ] , \"e\" : [ ] , \"o\" : { } ,"+
		" \"t\" : { \"$int64\" : 7 } , \"u\" : { \"$uint8\" : 8 } , \"f\" : { \"$float32\" : 1.5 } ,"+
		" \"h\" : \"\\u09af\\u09AF\", \"s\" : \"\\u005a\\/\\uD83D\\uDE00\\b\\f\" } , \"deadline\" : \"2026-05-04T14:00:00.123456789+02:00\" }\n"))
	want := map[string]any{
		"n": 1, "l": []any{1, 2}, "e": []any{}, "o": map[string]any{}, "t": int64(7), "u": uint8(8), "f": float32(1.5),
		"h": "\u09af\u09af", "s": "Z/😀\b\f",
	}
	if !codec.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestDecode_memoryIsBoundedByTheInput: what a byte can cost is a constant, so
// that a limit on the size of a row is a limit on memory.
func TestDecode_memoryIsBoundedByTheInput(t *testing.T) {
	for name, piece := range map[string]string{
		"objects": `{},`, "arrays": `[],`, "objects with a key": `{"":0},`, "wrappers": `{"$":{}},`,
		"integers": `999,`, "strings": `"a",`, "escapes": `"\n",`, "tags": `{"$int8":1},`,
	} {
		b := []byte(session("[" + strings.Repeat(piece, 30_000/len(piece)) + "1]"))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, _, err := (codec.JSON{}).Decode(b); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if per := (after.TotalAlloc - before.TotalAlloc) / uint64(len(b)); per > 100 {
			t.Errorf("%s: %d bytes of memory per byte", name, per)
		}
	}
}
