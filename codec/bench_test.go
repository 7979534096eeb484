package codec_test

import (
	"testing"

	"github.com/alexedwards/scs/v2"

	"github.com/caddy-session/caddy-session/codec"
)

// usual is a session of five values as a shop would have it.
func usual() map[string]any {
	return map[string]any{
		"user":   "alice@example.com",
		"role":   "admin",
		"visits": 4711,
		"csrf":   "c3VwZXItc2VjcmV0LWNzcmYtdG9rZW4",
		"cart":   []any{map[string]any{"sku": "A-17", "n": 2}, map[string]any{"sku": "B-4", "n": 1}},
	}
}

func BenchmarkEncode(b *testing.B) {
	values := usual()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (codec.JSON{}).Encode(deadline, values); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	data := mustEncode(b, usual())
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := (codec.JSON{}).Decode(data); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkGob is scs's own codec on values that it can take.
func BenchmarkGob(b *testing.B) {
	values := usual()
	delete(values, "cart")
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			if _, err := (scs.GobCodec{}).Encode(deadline, values); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		data, err := scs.GobCodec{}.Encode(deadline, values)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, _, err := (scs.GobCodec{}).Decode(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkEqual(b *testing.B) {
	x, y := usual(), usual()
	for b.Loop() {
		if !codec.Equal(x, y) {
			b.Fatal("not equal")
		}
	}
}

func BenchmarkClone(b *testing.B) {
	x := usual()
	for b.Loop() {
		codec.Clone(x)
	}
}
