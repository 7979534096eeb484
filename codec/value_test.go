package codec_test

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/codec"
)

func TestEncodeValue_isPlainJSON(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		value any
		want  string
	}{
		{nil, `null`},
		{"a\"b", `"a\"b"`},
		{7, `7`},
		{int64(math.MaxInt64), `9223372036854775807`},
		{uint64(math.MaxUint64), `18446744073709551615`},
		{int8(-1), `-1`},
		{uint8(1), `1`},
		{2.0, `2.0`},
		{float32(0.1), `0.1`},
		{json.Number("12"), `12`},
		{deadline, `"2026-05-04T12:00:00.123456789Z"`},
		{[]byte("hello"), `"aGVsbG8="`},
		{[]string{"a"}, `["a"]`},
		{[]int{1}, `[1]`},
		{map[string]string{"$b": "1", "a": "2"}, `{"$b":"1","a":"2"}`},
		{map[string]any{"$int64": int64(5), "t": []any{deadline}}, `{"$int64":5,"t":["2026-05-04T12:00:00.123456789Z"]}`},
	} {
		got, err := codec.EncodeValue(c.value)
		if err != nil || string(got) != c.want {
			t.Errorf("%T: %s %v, want %s", c.value, got, err, c.want)
		}
		if !json.Valid(got) {
			t.Errorf("not JSON: %s", got)
		}
	}
}

func TestDecodeValue_givesTheTypesOfTheCodec(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]any{
		`null`: nil, ` true `: true, `"a"`: "a", `0`: 0, `-0`: 0, `9007199254740993`: integer(1<<53 + 1),
		`9223372036854775807`: integer(math.MaxInt64), `9223372036854775808`: uint64(math.MaxInt64) + 1,
		`1.0`: 1.0, `1e2`: 100.0, `1E-2`: 0.01, `1e-999`: 0.0, `[]`: []any{}, `{}`: map[string]any{},
		`{"a":{"b":[1,2.5]}}`:         map[string]any{"a": map[string]any{"b": []any{1, 2.5}}},
		`{"$int64":5}`:                map[string]any{"$int64": 5},
		`{"$":{"$time":"x"},"a":"b"}`: map[string]any{"$": map[string]any{"$time": "x"}, "a": "b"},
	} {
		got, err := codec.DecodeValue([]byte(in))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %T %v %v, want %T %v", in, got, got, err, want, want)
		}
		stored := mustDecode(t, mustEncode(t, map[string]any{"v": got}))["v"]
		if !reflect.DeepEqual(stored, want) {
			t.Errorf("%s: came back from the session as %v", in, stored)
		}
	}
	for name, in := range invalidValues {
		if v, err := codec.DecodeValue([]byte(in)); !errors.Is(err, codec.ErrMalformed) || v != nil {
			t.Errorf("%s: decoded to %v, error %v", name, v, err)
		}
	}
	if _, err := codec.DecodeValue([]byte(`"` + strings.Repeat("a", codec.MaxSize) + `"`)); !errors.Is(err, codec.ErrMalformed) {
		t.Errorf("too large: error %v", err)
	}
}

// distinct are values of which no two are equal.
func distinct() []any {
	return []any{
		nil, true, false, "", "a", "3", 3, 4, int64(3), int32(3), int16(3), int8(3), uint(3), uint64(3), uint32(3), uint16(3),
		uint8(3), 3.0, float32(3), 0.0, math.Copysign(0, -1), float32(0), float32(math.Copysign(0, -1)),
		[]any{},
		[]any{3},
		[]any{int64(3)},
		[]any{3, 3},
		[]any{nil},
		[]byte{},
		[]byte("a"),
		[]string{},
		[]string{"a"},
		[]int{},
		[]int{3},
		map[string]any{},
		map[string]any{"a": 3},
		map[string]any{"a": 3, "b": 3},
		map[string]any{"b": 3},
		map[string]any{"a": nil},
		map[string]any{"a": map[string]any{"a": 3}},
		map[string]string{},
		map[string]string{"a": "3"},
		time.Time{},
		deadline, deadline.Add(1), deadline.In(time.FixedZone("", 3600)), deadline.In(time.FixedZone("", 1172)),
	}
}

func TestEqual_tellsApartWhatIsStoredDifferently(t *testing.T) {
	t.Parallel()
	for i, a := range distinct() {
		for j, b := range distinct() {
			if codec.Equal(a, b) != (i == j) {
				t.Errorf("%T %v and %T %v: equal is %v", a, a, b, b, i != j)
			}
			sameBytes := string(mustEncode(t, map[string]any{"v": a})) == string(mustEncode(t, map[string]any{"v": b}))
			if sameBytes != (i == j) {
				t.Errorf("%T %v and %T %v: stored alike is %v", a, a, b, b, sameBytes)
			}
		}
	}
}

func TestEqual_holdsForWhatIsStoredAlike(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, pair := range [][2]any{
		{json.Number("3"), 3},
		{3.5, json.Number("3.5")},
		{json.Number("1e1"), json.Number("10.0")},
		{[]any{json.Number("3")}, []any{3}},
		{now, now.Round(0)},
		{deadline.In(time.FixedZone("A", 3600)), deadline.In(time.FixedZone("B", 3600))},
		{[]byte(nil), []byte{}},
		{[]any(nil), []any{}},
		{map[string]any(nil), map[string]any{}},
		{map[string]string(nil), map[string]string{}},
	} {
		if !codec.Equal(pair[0], pair[1]) || !codec.Equal(pair[1], pair[0]) {
			t.Errorf("%T %v and %T %v are not equal", pair[0], pair[0], pair[1], pair[1])
		}
	}
}

func TestEqual_neverHoldsForWhatCannotBeStored(t *testing.T) {
	t.Parallel()
	within := map[string]any{}
	within["self"] = within
	listed := []any{nil}
	listed[0] = listed
	p := new(int)
	for _, v := range []any{account{"a"}, p, func() {}, []account{}, within, listed, map[any]any{}, json.Number("x")} {
		if codec.Equal(v, v) || codec.Equal(v, nil) || codec.Equal([]any{v}, []any{v}) {
			t.Errorf("a %T equals something", v)
		}
	}
}

func TestClone_sharesNothing(t *testing.T) {
	t.Parallel()
	build := func() map[string]any {
		return map[string]any{
			"any": []any{[]any{1}, map[string]any{"a": 1}}, "bytes": []byte("a"), "strings": []string{"a"}, "ints": []int{1},
			"map": map[string]any{"a": map[string]any{"b": 1}}, "stringMap": map[string]string{"a": "b"}, "time": deadline, "nil": nil,
		}
	}
	v := build()
	c := codec.Clone(v).(map[string]any)
	if !reflect.DeepEqual(c, build()) {
		t.Fatalf("clone %v", c)
	}
	c["any"].([]any)[0].([]any)[0] = 2
	c["any"].([]any)[1].(map[string]any)["a"] = 2
	c["bytes"].([]byte)[0] = 'x'
	c["strings"].([]string)[0] = "x"
	c["ints"].([]int)[0] = 2
	c["map"].(map[string]any)["a"].(map[string]any)["b"] = 2
	c["stringMap"].(map[string]string)["a"] = "x"
	delete(c, "time")
	if !reflect.DeepEqual(v, build()) {
		t.Errorf("the original became %v", v)
	}
}

func TestClone_keepsEverythingElse(t *testing.T) {
	t.Parallel()
	for _, v := range distinct() {
		if c := codec.Clone(v); !codec.Equal(c, v) || reflect.TypeOf(c) != reflect.TypeOf(v) {
			t.Errorf("%T %v became %T %v", v, v, c, c)
		}
	}
	for _, v := range []any{[]byte(nil), []any(nil), map[string]any(nil), map[string]string(nil), new(int)} {
		if c := codec.Clone(v); !reflect.DeepEqual(c, v) {
			t.Errorf("%#v became %#v", v, c)
		}
	}
	within := map[string]any{}
	within["self"] = within
	codec.Clone(within) // ends
	listed := []any{nil}
	listed[0] = listed
	codec.Clone(listed)
}
