package codec

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
)

var (
	// ErrUnstorable says that a value has no form in a session: the program
	// that put it there has to store something else.
	ErrUnstorable = errors.New("cannot be stored")
	// ErrMalformed says that bytes are not an encoded session or value.
	ErrMalformed = errors.New("malformed")
)

// unstorable explains why a value is refused and what to store instead.
func unstorable(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnstorable, fmt.Sprintf(format, args...))
}

// unknownType is the error for a Go type that has no form in JSON.
func unknownType(v any) error {
	instead := "only plain values, without it"
	switch t := reflect.TypeOf(v); t.Kind() {
	case reflect.Struct, reflect.Map:
		instead = "a map[string]any"
	case reflect.Slice, reflect.Array:
		instead = "a []any"
		if t.Elem().Kind() == reflect.Uint8 {
			instead = "a []byte"
		}
	case reflect.Pointer:
		instead = "what it points to, as a map[string]any or another plain value"
	case reflect.String:
		instead = "a string"
	case reflect.Bool:
		instead = "a bool"
	case reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128:
		instead = "a float64"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		instead = "an int or an int64"
	}
	return unstorable("no form for the type %T, store %s", v, instead)
}

// quoteKey makes a key of any length and content fit for a message.
func quoteKey(key string) string {
	const most = 64
	if len(key) > most {
		return strconv.Quote(key[:most]) + "…"
	}
	return strconv.Quote(key)
}
