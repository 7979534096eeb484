package caddysession

import (
	"bytes"
	"testing"

	"github.com/caddy-session/caddy-session/codec"
)

// FuzzMergePatch holds merge against the pseudocode of RFC 7396, section 2.
func FuzzMergePatch(f *testing.F) {
	for _, pair := range [][2]string{
		{`{"a":"b"}`, `{"a":null}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`},
		{`{"a":"foo"}`, `{"a":{"bb":{"ccc":null,"d":{}}}}`},
		{`{"e":null}`, `{"a":9223372036854775807}`},
	} {
		f.Add([]byte(pair[0]), []byte(pair[1]))
	}
	f.Fuzz(func(t *testing.T, target, patch []byte) {
		values, ok := decodeObject(target)
		if !ok {
			return
		}
		changes, ok := decodeObject(patch)
		if !ok {
			return
		}
		want := encodeObject(t, rfc7396(values, changes))
		before, patchBefore := encodeObject(t, values), encodeObject(t, changes)

		shallow := make(map[string]any, len(values)) // as a session hands its values to an edit
		for key, value := range values {
			shallow[key] = value
		}
		merge(shallow, changes)
		if got := encodeObject(t, shallow); !bytes.Equal(got, want) {
			t.Errorf("%s on %s gives %s, want %s", patch, target, got, want)
		}
		if !bytes.Equal(encodeObject(t, values), before) || !bytes.Equal(encodeObject(t, changes), patchBefore) {
			t.Errorf("%s on %s changes an object that others hold", patch, target)
		}
	})
}

func decodeObject(text []byte) (map[string]any, bool) {
	value, err := codec.DecodeValue(text)
	object, ok := value.(map[string]any)
	return object, ok && err == nil
}

func encodeObject(t *testing.T, value any) []byte {
	t.Helper()
	encoded, err := codec.EncodeValue(value)
	if err != nil {
		t.Fatalf("encoding what was decoded: %v", err)
	}
	return encoded
}

// rfc7396 is the algorithm as the standard writes it down.
func rfc7396(target, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	result := map[string]any{}
	if old, ok := target.(map[string]any); ok {
		for name, value := range old {
			result[name] = value
		}
	}
	for name, value := range changes {
		if value == nil {
			delete(result, name)
		} else {
			result[name] = rfc7396(result[name], value)
		}
	}
	return result
}
