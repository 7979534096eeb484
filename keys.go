package caddysession

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"sync"
	"time"

	"github.com/caddy-session/caddy-session/codec"
	"github.com/caddy-session/caddy-session/rqlitestore"
)

// keyring holds the keys of a store: the first signs and seals, all open. A nil
// keyring leaves cookies and rows plain.
type keyring struct {
	keys       []*key
	plainUntil time.Time
}

const (
	keyIDSize = 4
	tagSize   = 16
)

// key is what one secret gives: a key for each purpose (HKDF, RFC 5869).
type key struct {
	id        [keyIDSize]byte // public: names the key in cookies and rows
	seal      cipher.AEAD
	cookie    *mac
	token     *mac
	principal *mac
}

func newKey(secret string) *key {
	derive := func(purpose string, size int) []byte {
		b, err := hkdf.Key(sha256.New, []byte(secret), nil, "caddy-session "+purpose, size)
		if err != nil {
			panic(err) // the sizes are within HKDF's bounds
		}
		return b
	}
	aead, err := codec.XAES256GCM(derive("seal", 32))
	if err != nil {
		panic(err) // the key has the size of XAES
	}
	return &key{
		id:        [keyIDSize]byte(derive("id", keyIDSize)),
		seal:      aead,
		cookie:    newMAC(derive("cookie", 32)),
		token:     newMAC(derive("token", 32)),
		principal: newMAC(derive("principal", 32)),
	}
}

// name is how people and logs call the key.
func (k *key) name() string { return hex.EncodeToString(k.id[:]) }

// mac is HMAC-SHA-256 under one key, for many goroutines.
type mac struct{ pool sync.Pool }

func newMAC(key []byte) *mac {
	return &mac{sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}}
}

func (m *mac) sum(message string) (sum [sha256.Size]byte) {
	h := m.pool.Get().(hash.Hash)
	h.Reset()
	h.Write([]byte(message))
	h.Sum(sum[:0])
	m.pool.Put(h)
	return sum
}

func (m *mac) text(message string) string {
	sum := m.sum(message)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// first is the key that signs and seals; nil where there are none.
func (r *keyring) first() *key {
	if r == nil {
		return nil
	}
	return r.keys[0]
}

// all are the keys; a nil keyring has none.
func (r *keyring) all() []*key {
	if r == nil {
		return nil
	}
	return r.keys
}

func (r *keyring) find(id [keyIDSize]byte) *key {
	for _, k := range r.all() {
		if k.id == id {
			return k
		}
	}
	return nil
}

// acceptsPlain reports whether rows and cookies without a key are good.
func (r *keyring) acceptsPlain() bool {
	return r == nil || time.Now().Before(r.plainUntil)
}

// sameAs reports whether two keyrings are the same.
func (r *keyring) sameAs(other *keyring) bool {
	if r == nil || other == nil {
		return r == other
	}
	return r.plainUntil.Equal(other.plainUntil) &&
		slices.EqualFunc(r.keys, other.keys, func(a, b *key) bool { return a.id == b.id })
}

// tokenHash is what the table holds of a token that was issued under a key, nil
// for none (then as scs's HashTokenInStore has it).
func tokenHash(k *key, token string) string {
	if k != nil {
		return k.token.text(token)
	}
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// tokenHashes are under what a token may stand in the table, whatever it was issued under.
func (r *keyring) tokenHashes(token string) []string {
	var hashes []string
	for _, k := range r.all() {
		hashes = append(hashes, tokenHash(k, token))
	}
	if r.acceptsPlain() {
		hashes = append(hashes, tokenHash(nil, token))
	}
	return hashes
}

// A sealed row is a format byte, the id of its key, a random nonce and the
// ciphertext with its tag. The format byte cannot begin a plain row, which is JSON.
const (
	sealedFormat = 1
	sealedPrefix = 1 + keyIDSize
)

// keyOfRow is the key under which a row that is there is sealed, and its token
// was issued; nil for none. A row moves to another key together with its token,
// or nobody could tell from the rows which keys the cookies still need.
func (r *keyring) keyOfRow(data []byte) *key {
	switch {
	case r == nil, !isSealed(data) && r.acceptsPlain():
		return nil
	case isSealed(data):
		if k := r.find([keyIDSize]byte(data[1:sealedPrefix])); k != nil {
			return k
		}
	}
	return r.first()
}

// sealRow encrypts values for the row with the token hash, id and version of a
// record, and no other; without a key it leaves them plain.
func (k *key) sealRow(rec rqlitestore.Record, values []byte) []byte {
	if k == nil {
		return values
	}
	nonceEnd := sealedPrefix + k.seal.NonceSize()
	sealed := make([]byte, nonceEnd, nonceEnd+len(values)+k.seal.Overhead())
	sealed[0] = sealedFormat
	copy(sealed[1:], k.id[:])
	nonce := sealed[sealedPrefix:]
	rand.Read(nonce)
	return k.seal.Seal(sealed, nonce, values, rowOf(rec))
}

// withValues is a row as it is stored with other values next, under the key that
// it is sealed with.
func (r *keyring) withValues(rec rqlitestore.Record, values []byte) rqlitestore.Record {
	rec.Version++
	rec.Data = r.keyOfRow(rec.Data).sealRow(rec, values)
	return rec
}

// rowOf names a row, as the additional data of its seal.
func rowOf(rec rqlitestore.Record) []byte {
	return fmt.Appendf(nil, "caddy-session row\x00%s\x00%s\x00%d", rec.Token, rec.ID, rec.Version)
}

// openRow decrypts the data of a row.
func (r *keyring) openRow(rec rqlitestore.Record) ([]byte, error) {
	data := rec.Data
	if !isSealed(data) {
		if !r.acceptsPlain() {
			return nil, errPlainRow
		}
		return data, nil
	}
	if r == nil {
		return nil, errNoKeys
	}
	k := r.find([keyIDSize]byte(data[1:sealedPrefix]))
	if k == nil {
		return nil, errUnknownKey
	}
	nonceEnd := sealedPrefix + k.seal.NonceSize()
	if len(data) < nonceEnd {
		return nil, errBrokenSeal
	}
	opened, err := k.seal.Open(nil, data[sealedPrefix:nonceEnd], data[nonceEnd:], rowOf(rec))
	if err != nil {
		return nil, errBrokenSeal
	}
	return opened, nil
}

func isSealed(data []byte) bool { return len(data) >= sealedPrefix && data[0] == sealedFormat }

// keyOf names the key that the data of a row is sealed with, by the beginning
// of that data; "" where it is plain.
func keyOf(prefix []byte) string {
	if !isSealed(prefix) {
		return ""
	}
	return hex.EncodeToString(prefix[1:sealedPrefix])
}

// Why a row is not opened.
var (
	errPlainRow   = refused("it is from before there were keys: set plain_until to accept such rows for a time")
	errNoKeys     = refused("it is sealed, and no keys are configured")
	errUnknownKey = refused("it is sealed with a key that is not configured")
	errBrokenSeal = refused("its seal is broken: it was changed, or moved from another row")
	errAlias      = refused("an older token leads to it that it does not know")
)

type refused string

func (r refused) Error() string { return string(r) }

// open returns the values of a row that a token with this hash led to, encoded.
func (r *keyring) open(rec rqlitestore.Record, hash string) ([]byte, error) {
	data, err := r.openRow(rec)
	if err != nil || rec.Token == hash || !isSealed(rec.Data) {
		return data, err // whether it is an older token, the database does not decide
	}
	_, values, err := codec.JSON{}.Decode(data)
	if err != nil {
		return nil, err
	}
	if !knows(rec, values, hash) {
		return nil, errAlias
	}
	return data, nil
}

// knows reports whether the token of a hash is one of the session in a row, or was
// one before, as its values tell: without a seal the database decides that.
func knows(rec rqlitestore.Record, values map[string]any, hash string) bool {
	before, _ := values[beforeKey].([]string)
	return rec.Token == hash || !isSealed(rec.Data) || slices.Contains(before, hash)
}

// keptBefore is how many older tokens a sealed session knows.
const keptBefore = 8

// putBefore keeps the hash of a token that is being replaced among the values,
// where the seal covers it: otherwise whoever can write to the database could
// make a token of his own a way into somebody's session.
func (r *keyring) putBefore(values map[string]any, hash string) {
	if r == nil {
		return
	}
	before, _ := values[beforeKey].([]string)
	before = slices.DeleteFunc(slices.Clone(before), func(known string) bool { return known == hash })
	before = append(before, hash) // the last ones are kept: those that are in use
	values[beforeKey] = before[max(0, len(before)-keptBefore):]
}

// values opens and decodes a row.
func (r *keyring) values(rec rqlitestore.Record) (deadline time.Time, values map[string]any, err error) {
	data, err := r.openRow(rec)
	if err != nil {
		return time.Time{}, nil, err
	}
	return codec.JSON{}.Decode(data)
}
