package codec_test

import (
	"encoding/binary"
	"encoding/json"
	"maps"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddy-session/caddy-session/codec"
)

// FuzzDecode: whatever can be decoded is stored and comes back as it was.
func FuzzDecode(f *testing.F) {
	for _, value := range invalidValues {
		if len(value) < 1000 {
			f.Add([]byte(session(value)))
		}
	}
	for _, value := range invalidTags {
		if len(value) < 1000 {
			f.Add([]byte(session(value)))
		}
	}
	for _, v := range distinct() {
		f.Add(mustEncode(f, map[string]any{"v": v, "$": v}))
	}
	f.Add([]byte(session(strings.Repeat(`{"a":`, codec.MaxDepth) + "1" + strings.Repeat("}", codec.MaxDepth))))
	f.Fuzz(func(t *testing.T, b []byte) {
		at, values, err := codec.JSON{}.Decode(b)
		if err != nil {
			return
		}
		if !json.Valid(b) {
			t.Fatalf("decoded what is not JSON: %q", b)
		}
		first, err := codec.JSON{}.Encode(at, values)
		if err != nil {
			t.Fatalf("decoded what cannot be encoded: %v: %q", err, b)
		}
		at2, values2, err := codec.JSON{}.Decode(first)
		if err != nil {
			t.Fatalf("encoded what cannot be decoded: %v: %q", err, first)
		}
		same := func(a, b any) bool { return codec.Equal(a, b) && codec.Equal(codec.Clone(b), b) }
		if !at2.Equal(at) || !maps.EqualFunc(values2, values, same) {
			t.Fatalf("%q came back as %q", b, first)
		}
		second, err := codec.JSON{}.Encode(at2, values2)
		if err != nil || string(second) != string(first) {
			t.Fatalf("%q became %q, error %v", first, second, err)
		}
	})
}

// FuzzDecodeValue: a user's JSON is taken only where encoding/json takes it, and
// means the same.
func FuzzDecodeValue(f *testing.F) {
	for _, value := range invalidValues {
		if len(value) < 1000 {
			f.Add([]byte(value))
		}
	}
	f.Add([]byte(`{"$int64":5,"a":[1.5,-0.0,9007199254740993,"\ud83d\ude00",null,true,false]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := codec.DecodeValue(b)
		if err != nil {
			return
		}
		var want any
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatalf("decoded %q, which is not JSON: %v", b, err)
		}
		plain, err := codec.EncodeValue(v)
		if err != nil {
			t.Fatalf("decoded what cannot be encoded: %v: %q", err, b)
		}
		var got any
		if err := json.Unmarshal(plain, &got); err != nil || !reflect.DeepEqual(got, want) { // to which -0 is 0
			t.Fatalf("%q became %q, error %v", b, plain, err)
		}
		if again, err := codec.DecodeValue(plain); err != nil || !codec.Equal(again, v) {
			t.Fatalf("%q became %q, error %v", plain, again, err)
		}
	})
}

// FuzzRoundTrip: any value of the types that are promised comes back as it was.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte{})
	for kind := range byte(kinds) {
		f.Add([]byte{1, kind, 3, kind, 1, 'a', 200, 255, 254, 253, 252, 251, 250, 249, kind, 2, '$', 'b', 7, 6, 5, 4, 3, 2, 1, 0})
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		g := generator(b)
		values := map[string]any{}
		for len(g) > 0 {
			values[g.text()] = g.value(20)
		}
		first, err := codec.JSON{}.Encode(deadline, values)
		if err != nil {
			t.Fatalf("%v: %v", err, values)
		}
		got := mustDecode(t, first)
		if !codec.Equal(got, values) || !codec.Equal(values, got) {
			t.Fatalf("%v came back as %v", values, got)
		}
		if second := mustEncode(t, got); string(second) != string(first) {
			t.Fatalf("%q became %q", first, second)
		}
		if plain, err := codec.EncodeValue(values); err != nil || !json.Valid(plain) {
			t.Fatalf("as plain JSON %q, error %v", plain, err)
		}
	})
}

// generator makes values out of fuzzed bytes.
type generator []byte

func (g *generator) byte() byte {
	if len(*g) == 0 {
		return 0
	}
	b := (*g)[0]
	*g = (*g)[1:]
	return b
}

func (g *generator) uint64() uint64 {
	var b [8]byte
	*g = (*g)[copy(b[:], *g):]
	return binary.LittleEndian.Uint64(b[:])
}

func (g *generator) bytes() []byte {
	n := min(int(g.byte())%32, len(*g))
	b := (*g)[:n]
	*g = (*g)[n:]
	return append([]byte{}, b...)
}

func (g *generator) text() string { return strings.ToValidUTF8(string(g.bytes()), "\ufffd") }

func (g *generator) float() float64 {
	f := math.Float64frombits(g.uint64())
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return 0
	}
	return f
}

func (g *generator) time() time.Time {
	seconds := int64(g.uint64()%(9998*365*86400)) - 1970*365*86400
	offset := int(g.uint64()%(2*86399+1)) - 86399
	return time.Unix(seconds, int64(g.uint64()%1e9)).In(time.FixedZone("", offset))
}

const kinds = 21

func (g *generator) value(left int) any {
	kind := g.byte() % kinds
	if left == 0 && kind >= kinds-5 {
		return nil
	}
	switch kind {
	case 1:
		return g.byte()%2 == 0
	case 2:
		return g.text()
	case 3:
		return int(g.uint64())
	case 4:
		return g.float()
	case 5:
		return int64(g.uint64())
	case 6:
		return int32(g.uint64())
	case 7:
		return int16(g.uint64())
	case 8:
		return int8(g.uint64())
	case 9:
		return uint(g.uint64())
	case 10:
		return g.uint64()
	case 11:
		return uint32(g.uint64())
	case 12:
		return uint16(g.uint64())
	case 13:
		return g.byte()
	case 14:
		return float32(int32(g.uint64())) / 7
	case 15:
		return g.time()
	case 16:
		return g.bytes()
	case 17:
		return []string{g.text(), g.text()}
	case 18:
		return []int{int(g.uint64())}
	case 19:
		return map[string]string{g.text(): g.text(), g.text(): g.text()}
	case 20:
		if g.byte()%2 == 0 {
			return []any{g.value(left - 1), g.value(left - 1)}
		}
		return map[string]any{g.text(): g.value(left - 1), g.text(): g.value(left - 1)}
	}
	return nil
}
