package codec_test

import (
	"encoding/json"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/caddy-session/caddy-session/codec"
)

var _ scs.Codec = codec.JSON{}

var deadline = time.Date(2026, 5, 4, 12, 0, 0, 123456789, time.UTC)

// integer is what an integer in JSON becomes: an int wherever that can hold it.
func integer(n int64) any {
	if n != int64(int(n)) {
		return n
	}
	return int(n)
}

func mustEncode(t testing.TB, values map[string]any) []byte {
	t.Helper()
	b, err := codec.JSON{}.Encode(deadline, values)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustDecode(t testing.TB, b []byte) map[string]any {
	t.Helper()
	got, values, err := codec.JSON{}.Decode(b)
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if !got.Equal(deadline) || got.Location() != time.UTC {
		t.Fatalf("deadline %v, want %v", got, deadline)
	}
	return values
}

// TestJSON_form pins how values are stored: rows written today must be read by
// every later version.
func TestJSON_form(t *testing.T) {
	t.Parallel()
	cet := time.FixedZone("CET", 3600)
	for _, c := range []struct {
		name  string
		value any
		want  string
	}{
		{"nil", nil, `null`},
		{"true", true, `true`},
		{"false", false, `false`},
		{"empty string", "", `""`},
		{"no HTML escapes", "<a href='x'>&\u2028", "\"<a href='x'>&\u2028\""},
		{"string escapes", "\"\\/\b\f\n\r\t\x00\x1f\x7f", `"\"\\/\u0008\u000c\n\r\t\u0000\u001f` + "\x7f\""},
		{"unicode", "Zoë 😀 \ufffd", `"Zoë 😀 ` + "\ufffd\""},
		{"zero", 0, `0`},
		{"largest int", math.MaxInt, strconv.Itoa(math.MaxInt)},
		{"smallest int", math.MinInt, strconv.Itoa(math.MinInt)},
		{"float", 1.5, `1.5`},
		{"whole float", 3.0, `3.0`},
		{"minus zero", math.Copysign(0, -1), `-0.0`},
		{"large float", 1e21, `1e+21`},
		{"long float", 1e20, `100000000000000000000.0`},
		{"small float", 1e-7, `1e-07`},
		{"largest float", math.MaxFloat64, `1.7976931348623157e+308`},
		{"smallest float", math.SmallestNonzeroFloat64, `5e-324`},
		{"array", []any{1, "a", nil, []any{}}, `[1,"a",null,[]]`},
		{"object", map[string]any{"b": 1, "a": map[string]any{}}, `{"a":{},"b":1}`},
		{"empty key", map[string]any{"": 1}, `{"":1}`},

		{"time", deadline, `{"$time":"2026-05-04T12:00:00.123456789Z"}`},
		{"time with offset", deadline.In(cet), `{"$time":"2026-05-04T13:00:00.123456789+01:00"}`},
		{"time with odd offset", deadline.In(time.FixedZone("LMT", 1172)), `{"$time":"2026-05-04T12:19:32.123456789+00:19:32"}`},
		{"time with odd offset west", deadline.In(time.FixedZone("", -18)), `{"$time":"2026-05-04T11:59:42.123456789-00:00:18"}`},
		{"time a second west", deadline.In(time.FixedZone("", -1)), `{"$time":"2026-05-04T11:59:59.123456789-00:00:01"}`},
		{"first time", time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), `{"$time":"0000-01-01T00:00:00Z"}`},
		{"last time", time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", 24*60*60-1)), `{"$time":"9999-12-31T23:59:59+23:59:59"}`},
		{"farthest west", time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", 1-24*60*60)), `{"$time":"9999-12-31T23:59:59-23:59:59"}`},
		{"zero time", time.Time{}, `{"$time":"0001-01-01T00:00:00Z"}`},
		{"bytes", []byte("hello\x00\xff"), `{"$bytes":"aGVsbG8A/w=="}`},
		{"no bytes", []byte{}, `{"$bytes":""}`},
		{"int64", int64(math.MinInt64), `{"$int64":-9223372036854775808}`},
		{"int32", int32(math.MaxInt32), `{"$int32":2147483647}`},
		{"int16", int16(-5), `{"$int16":-5}`},
		{"int8", int8(-128), `{"$int8":-128}`},
		{"uint", uint(5), `{"$uint":5}`},
		{"uint64", uint64(math.MaxUint64), `{"$uint64":18446744073709551615}`},
		{"uint32", uint32(5), `{"$uint32":5}`},
		{"uint16", uint16(5), `{"$uint16":5}`},
		{"uint8", uint8(255), `{"$uint8":255}`},
		{"float32", float32(0.1), `{"$float32":0.1}`},
		{"whole float32", float32(2), `{"$float32":2.0}`},
		{"strings", []string{"b", "a"}, `{"$[]string":["b","a"]}`},
		{"ints", []int{1, -2}, `{"$[]int":[1,-2]}`},
		{"string map", map[string]string{"b": "1", "$a": "2"}, `{"$map[string]string":{"$a":"2","b":"1"}}`},
		{"typed within", []any{map[string]any{"n": int64(1)}}, `[{"n":{"$int64":1}}]`},

		{"key that is a tag", map[string]any{"$int64": 5}, `{"$":{"$int64":5}}`},
		{"key that wraps", map[string]any{"$": map[string]any{"$": 1}}, `{"$":{"$":{"$":{"$":1}}}}`},
		{"key like a tag", map[string]any{"$x": int64(1), "!": 2}, `{"$":{"!":2,"$x":{"$int64":1}}}`},
		{"key with a late sign", map[string]any{"a$": 1}, `{"a$":1}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := mustEncode(t, map[string]any{"v": c.value})
			want := `{"deadline":"2026-05-04T12:00:00.123456789Z","values":{"v":` + c.want + `}}`
			if string(b) != want {
				t.Fatalf("encoded\n%s, want\n%s", b, want)
			}
			if !json.Valid(b) {
				t.Fatalf("not JSON: %s", b)
			}
			for range 3 {
				got := mustDecode(t, b)["v"]
				if reflect.TypeOf(got) != reflect.TypeOf(c.value) || !codec.Equal(got, c.value) {
					t.Fatalf("decoded %T %v, want %T %v", got, got, c.value, c.value)
				}
				if b = mustEncode(t, map[string]any{"v": got}); string(b) != want {
					t.Fatalf("encoded again\n%s, want\n%s", b, want)
				}
			}
		})
	}
}

func TestJSON_keysOfTheSession(t *testing.T) {
	t.Parallel()
	values := map[string]any{"$int64": 5, "": 1, "a.b": "c", "deadline": true}
	b := mustEncode(t, values)
	want := `{"deadline":"2026-05-04T12:00:00.123456789Z","values":{"":1,"$int64":5,"a.b":"c","deadline":true}}`
	if string(b) != want {
		t.Fatalf("encoded %s, want %s", b, want)
	}
	if got := mustDecode(t, b); !reflect.DeepEqual(got, values) {
		t.Fatalf("decoded %v, want %v", got, values)
	}
}

func TestJSON_noValuesDecodeToAMapThatCanBeWritten(t *testing.T) {
	t.Parallel()
	for _, values := range []map[string]any{nil, {}} {
		got := mustDecode(t, mustEncode(t, values))
		if got == nil || len(got) != 0 {
			t.Fatalf("decoded %v", got)
		}
	}
}

func TestJSON_nilMapsAndSlicesComeBackEmpty(t *testing.T) {
	t.Parallel()
	for _, v := range []any{[]byte(nil), []any(nil), []string(nil), []int(nil), map[string]any(nil), map[string]string(nil)} {
		got := mustDecode(t, mustEncode(t, map[string]any{"v": v}))["v"]
		if reflect.TypeOf(got) != reflect.TypeOf(v) || reflect.ValueOf(got).Len() != 0 || !codec.Equal(got, v) {
			t.Errorf("%T came back as %T %v", v, got, got)
		}
	}
}

func TestJSON_timeKeepsInstantAndOffset(t *testing.T) {
	t.Parallel()
	now := time.Now()
	got := mustDecode(t, mustEncode(t, map[string]any{"v": now}))["v"].(time.Time)
	if !got.Equal(now) || got.Format(time.RFC3339Nano) != now.Format(time.RFC3339Nano) {
		t.Errorf("%v came back as %v", now, got)
	}
	if strings.Contains(got.String(), "m=") {
		t.Errorf("monotonic clock in %v", got)
	}
}

func TestJSON_jsonNumberIsTheNumberItIs(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]any{
		"3": 3, "-3": -3, "9007199254740993": integer(1<<53 + 1), "18446744073709551615": uint64(math.MaxUint64),
		"1.50": 1.5, "1e2": 100.0, "-0": 0, "-0.0": math.Copysign(0, -1),
	} {
		got := mustDecode(t, mustEncode(t, map[string]any{"v": json.Number(in)}))["v"]
		if !codec.Equal(got, want) {
			t.Errorf("%s came back as %T %v, want %T %v", in, got, got, want, want)
		}
		if !codec.Equal(json.Number(in), got) {
			t.Errorf("%s is not equal to what it was stored as", in)
		}
	}
}

// Set before anything else runs: the managers of scs read the clock for ever.
func init() { time.Local = time.FixedZone("here", 3600) }

// TestJSON_timeDoesNotBecomeLocal: an offset that is by chance that of this
// machine is no reason to follow its changes to summer time.
func TestJSON_timeDoesNotBecomeLocal(t *testing.T) {
	t.Parallel()
	b := mustEncode(t, map[string]any{"v": deadline.In(time.FixedZone("there", 3600))})
	if got := mustDecode(t, b)["v"].(time.Time); got.Location() == time.Local || !got.Equal(deadline) {
		t.Errorf("came back as %v in %v", got, got.Location())
	}
}

// TestJSON_encodesDeterministically builds the same maps in many orders.
func TestJSON_encodesDeterministically(t *testing.T) {
	t.Parallel()
	build := func(from int) map[string]any {
		m, inner := map[string]any{}, map[string]any{}
		for i := range 40 {
			k := string(rune('A' + (from+i)%40))
			m[k], inner[k] = len(k), map[string]string{k: k, "x": "y"}
		}
		m["inner"] = inner
		return m
	}
	want := mustEncode(t, build(0))
	for from := range 40 {
		if got := mustEncode(t, build(from)); string(got) != string(want) {
			t.Fatalf("got\n%s, want\n%s", got, want)
		}
	}
}

func TestJSON_deadlineIsStoredInUTC(t *testing.T) {
	t.Parallel()
	b, err := codec.JSON{}.Encode(deadline.In(time.FixedZone("", -7*3600)), nil)
	if want := `{"deadline":"2026-05-04T12:00:00.123456789Z","values":{}}`; err != nil || string(b) != want {
		t.Fatalf("%s %v, want %s", b, err, want)
	}
	if _, err := (codec.JSON{}).Encode(deadline.AddDate(9000, 0, 0), nil); err == nil {
		t.Error("a deadline in the year 11026 was encoded")
	}
}
