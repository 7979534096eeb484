package caddysession

import (
	"crypto/hmac"
	"encoding/base64"
)

// ticket is what a cookie carries: a token, and the key that it was issued
// under, nil for none.
type ticket struct {
	token string
	key   *key
}

const (
	tokenBytes  = 32 // as scs makes them, in unpadded base64url
	tokenLength = 43
	// With keys a cookie is the key's id, the token and the tag, all as bytes.
	signedBytes  = keyIDSize + tokenBytes + tagSize
	signedLength = 70
)

// verdict is what a cookie's value is.
type verdict int

const (
	malformed  verdict = iota // not in the form in which cookies are issued
	forged                    // with a tag that does not fit
	genuine                   // issued here
	unknownKey                // issued under a key that is not configured
	plain                     // issued without a key, which is no longer accepted
	verdicts                  // how many there are
)

// write makes the cookie's value for a token.
func (k *key) write(token string) string {
	if k == nil {
		return token
	}
	var raw [signedBytes]byte
	copy(raw[:], k.id[:])
	if n, err := base64.RawURLEncoding.Decode(raw[keyIDSize:], []byte(token)); err != nil || n != tokenBytes {
		return "" // no token that scs made: there is none
	}
	tag := k.cookie.sum(token)
	copy(raw[keyIDSize+tokenBytes:], tag[:tagSize])
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

// read tells what the value of a cookie is. Only what has exactly the form in
// which cookies are issued, and with keys a tag that fits, ever reaches the store.
func (r *keyring) read(value string) (ticket, verdict) {
	switch {
	case len(value) == tokenLength:
		var raw [tokenBytes + 1]byte
		if n, err := base64.RawURLEncoding.Strict().Decode(raw[:], []byte(value)); err != nil || n != tokenBytes {
			return ticket{}, malformed
		}
		if !r.acceptsPlain() {
			return ticket{}, plain
		}
		return ticket{token: value}, genuine
	case len(value) == signedLength:
		return r.readSigned(value)
	}
	return ticket{}, malformed
}

func (r *keyring) readSigned(value string) (ticket, verdict) {
	var raw [signedBytes + 2]byte
	n, err := base64.RawURLEncoding.Strict().Decode(raw[:], []byte(value))
	if err != nil || n != signedBytes {
		return ticket{}, malformed
	}
	k := r.find([keyIDSize]byte(raw[:keyIDSize]))
	if k == nil {
		return ticket{}, unknownKey
	}
	token := base64.RawURLEncoding.EncodeToString(raw[keyIDSize : keyIDSize+tokenBytes])
	tag := k.cookie.sum(token)
	if !hmac.Equal(raw[keyIDSize+tokenBytes:signedBytes], tag[:tagSize]) {
		return ticket{}, forged
	}
	return ticket{token, k}, genuine
}
