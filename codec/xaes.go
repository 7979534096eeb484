package codec

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"errors"
	"fmt"
)

const (
	xaesKeySize   = 32
	xaesNonceSize = 24
	gcmNonceSize  = 12
)

// XAES256GCM returns the AEAD XAES-256-GCM with a key of 32 bytes, as C2SP
// specifies it (https://c2sp.org/XAES-256-GCM). Its nonces have 24 bytes: they
// can be random for any number of messages, where those of AES-GCM wear out
// after some billions.
func XAES256GCM(key []byte) (cipher.AEAD, error) {
	if len(key) != xaesKeySize {
		return nil, fmt.Errorf("a key of XAES-256-GCM has %d bytes, not %d", xaesKeySize, len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	x := &xaes{block: block}
	block.Encrypt(x.k1[:], x.k1[:])
	double(&x.k1)
	return x, nil
}

// xaes derives a key of AES-256-GCM for every nonce, by CMAC (NIST SP 800-108)
// over its first half; the second half is GCM's own nonce.
type xaes struct {
	block cipher.Block
	k1    [aes.BlockSize]byte // CMAC's subkey for whole blocks
}

// double multiplies by x in GF(2^128), as CMAC (RFC 4493) makes its subkeys.
func double(b *[aes.BlockSize]byte) {
	carry := byte(0)
	for i := len(b) - 1; i >= 0; i-- {
		carry, b[i] = b[i]>>7, b[i]<<1|carry
	}
	b[len(b)-1] ^= 0x87 & -carry
}

func (x *xaes) derive(nonce []byte) cipher.AEAD {
	var key [xaesKeySize]byte
	for i := range 2 {
		half := key[i*aes.BlockSize:][:aes.BlockSize]
		copy(half, []byte{0, byte(i + 1), 'X', 0})
		copy(half[4:], nonce[:gcmNonceSize])
		subtle.XORBytes(half, half, x.k1[:])
		x.block.Encrypt(half, half)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has the right size
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // the block has the right size
	}
	return gcm
}

func (*xaes) NonceSize() int { return xaesNonceSize }

func (*xaes) Overhead() int { return aes.BlockSize }

func (x *xaes) Seal(dst, nonce, plaintext, additionalData []byte) []byte {
	if len(nonce) != xaesNonceSize {
		panic("XAES-256-GCM: the nonce has the wrong size")
	}
	return x.derive(nonce).Seal(dst, nonce[gcmNonceSize:], plaintext, additionalData)
}

func (x *xaes) Open(dst, nonce, ciphertext, additionalData []byte) ([]byte, error) {
	if len(nonce) != xaesNonceSize {
		return nil, errNonce
	}
	return x.derive(nonce).Open(dst, nonce[gcmNonceSize:], ciphertext, additionalData)
}

var errNonce = errors.New("XAES-256-GCM: the nonce has the wrong size")

var _ cipher.AEAD = (*xaes)(nil)
