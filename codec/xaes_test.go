package codec_test

import (
	"bytes"
	"crypto/sha3"
	"encoding/hex"
	"testing"

	"github.com/caddy-session/caddy-session/codec"
)

// The vectors are those of the specification, https://c2sp.org/XAES-256-GCM.
func TestXAES256GCM_givesThePublishedVectors(t *testing.T) {
	t.Parallel()
	for _, v := range []struct{ key, aad, sealed string }{
		{"01", "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{"03", "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		key, _ := hex.DecodeString(v.key)
		aead, err := codec.XAES256GCM(bytes.Repeat(key, 32))
		if err != nil {
			t.Fatal(err)
		}
		nonce := []byte("ABCDEFGHIJKLMNOPQRSTUVWX")
		sealed := aead.Seal(nil, nonce, []byte("XAES-256-GCM"), []byte(v.aad))
		if got := hex.EncodeToString(sealed); got != v.sealed {
			t.Errorf("key %s…: sealed %s, want %s", v.key, got, v.sealed)
		}
		if opened, err := aead.Open(nil, nonce, sealed, []byte(v.aad)); err != nil || string(opened) != "XAES-256-GCM" {
			t.Errorf("key %s…: opened %q, %v", v.key, opened, err)
		}
	}
}

func TestXAES256GCM_givesThePublishedAccumulation(t *testing.T) {
	t.Parallel()
	const iterations, want = 10_000, "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"
	source, digest := sha3.NewSHAKE128(), sha3.NewSHAKE128()
	read := func(n int) []byte {
		b := make([]byte, n)
		_, _ = source.Read(b) // it does not fail
		return b
	}
	for range iterations {
		key, nonce := read(32), read(24)
		plaintext := read(int(read(1)[0]))
		aad := read(int(read(1)[0]))
		aead, err := codec.XAES256GCM(key)
		if err != nil {
			t.Fatal(err)
		}
		sealed := aead.Seal(nil, nonce, plaintext, aad)
		if opened, err := aead.Open(nil, nonce, sealed, aad); err != nil || !bytes.Equal(opened, plaintext) {
			t.Fatalf("opened %x, %v", opened, err)
		}
		_, _ = digest.Write(sealed) // it does not fail
	}
	sum := make([]byte, 32)
	_, _ = digest.Read(sum) // it does not fail
	if got := hex.EncodeToString(sum); got != want {
		t.Errorf("after %d messages %s, want %s", iterations, got, want)
	}
}

func TestXAES256GCM_refusesWhatWasChanged(t *testing.T) {
	t.Parallel()
	aead, err := codec.XAES256GCM(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, aead.NonceSize())
	sealed := aead.Seal(nil, nonce, []byte("content"), []byte("row"))
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := aead.Open(nil, nonce, changed, []byte("row")); err == nil {
			t.Errorf("byte %d changed: opened", i)
		}
	}
	if _, err := aead.Open(nil, nonce, sealed, []byte("other")); err == nil {
		t.Error("other additional data: opened")
	}
	if _, err := aead.Open(nil, nonce[:12], sealed, []byte("row")); err == nil {
		t.Error("short nonce: opened")
	}
	if _, err := codec.XAES256GCM(make([]byte, 16)); err == nil {
		t.Error("a key of 16 bytes was accepted")
	}
}
