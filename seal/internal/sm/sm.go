// Package sm is the ShangMi primitives that sealing needs: SM4-GCM, SM3, and
// SM2 signatures and encryption.
//
// Two implementations stand behind it. emmansun/gmsm does the work: it is
// fast, constant in time, and checks points. tjfoc/gmsm is the independent
// second (file tjfoc.go): it can seal in place of the first, it must agree
// with it at start-up, and it encrypts to SM2 public keys. It has traps, so
// tjfoc.go is its only importer and a test holds what may be called of it:
//
//   - sm4.Sm4GCM computes wrong tags, repeats keystream, writes past its nonce
//     and does not check tags.
//   - Its Block keeps scratch space: two goroutines on one Block corrupt each
//     other's output without a word.
//   - sm2.Decrypt does not check that a point lies on the curve.
//   - Its SM3's Sum(b) hashes b too, so it does not serve as a hash.Hash.
//   - sm4.SetIV is global.
//
// Points are 65 bytes, 04 ‖ x ‖ y; scalars 32 bytes; signatures 64 bytes,
// r ‖ s; all big-endian. SM2 signs and verifies with the standard's default
// id, "1234567812345678". The sources are GB/T 32905 (SM3), 32907 (SM4),
// 32918 (SM2) and RFC 8998 (SM4-GCM).
package sm

import (
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"hash"
	"math/big"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/sm3"
	"github.com/emmansun/gmsm/sm4"

	"sealtail/seal/internal/schedule"
)

const (
	KeySize       = 16 // of an SM4 key
	HashSize      = 32 // of an SM3 hash
	PointSize     = 65 // of an SM2 public key
	ScalarSize    = 32 // of an SM2 private key
	SignatureSize = 64 // of an SM2 signature
)

var (
	errPoint  = errors.New("not a point of the SM2 curve")
	errScalar = errors.New("not a private key of the SM2 curve")
)

// NewGCM returns SM4-GCM with nonces of 12 bytes and tags of 16 under a key of
// [KeySize]. It is safe for concurrent use, until it is wiped.
func NewGCM(key []byte) (*schedule.AEAD, error) {
	b, err := sm4.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return schedule.GCM(b)
}

// Encrypt encrypts one block of 16 bytes: SM4 without a mode, for self-tests.
func Encrypt(key, block []byte) ([]byte, error) {
	b, err := sm4.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return encrypt(b, block)
}

func encrypt(b cipher.Block, block []byte) ([]byte, error) {
	if len(block) != b.BlockSize() {
		return nil, errors.New("not one block")
	}
	out := make([]byte, b.BlockSize())
	b.Encrypt(out, block)
	return out, nil
}

// New returns a new SM3 hash.
func New() hash.Hash { return sm3.New() }

// Sum returns the SM3 hash of b.
func Sum(b []byte) [HashSize]byte { return sm3.Sum(b) }

// A PrivateKey signs and decrypts. It is safe for concurrent use.
type PrivateKey struct {
	key    *sm2.PrivateKey
	public *PublicKey
}

// GenerateKey returns a new random key.
func GenerateKey() (*PrivateKey, error) {
	k, err := sm2.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return newPrivateKey(k)
}

// NewPrivateKey returns the key of a scalar of [ScalarSize] bytes, from 1 to
// the curve's order less 2.
func NewPrivateKey(scalar []byte) (*PrivateKey, error) {
	k, err := sm2.NewPrivateKey(scalar)
	if err != nil {
		return nil, errScalar
	}
	return newPrivateKey(k)
}

func newPrivateKey(k *sm2.PrivateKey) (*PrivateKey, error) {
	point, err := sm2.PublicKeyToECDH(&k.PublicKey)
	if err != nil {
		return nil, err
	}
	p, err := newPublicKey(&k.PublicKey, point.Bytes())
	if err != nil {
		return nil, err
	}
	return &PrivateKey{k, p}, nil
}

// Public returns the public half.
func (k *PrivateKey) Public() *PublicKey { return k.public }

// Bytes returns a fresh copy of the scalar.
func (k *PrivateKey) Bytes() []byte { return k.key.D.FillBytes(make([]byte, ScalarSize)) }

// Sign returns a signature over message. Its nonce hangs on the key and the
// message as well as on chance, so a weak source of chance reveals no key.
func (k *PrivateKey) Sign(message []byte) ([]byte, error) {
	der, err := sm2.SignASN1(rand.Reader, k.key, k.public.hash(message), nil)
	if err != nil {
		return nil, err
	}
	return flatSignature(der)
}

// Decrypt opens 04 ‖ x1 ‖ y1 ‖ C3 ‖ C2, whose point it checks.
func (k *PrivateKey) Decrypt(ciphertext []byte) ([]byte, error) {
	if len(ciphertext) <= PointSize+HashSize || ciphertext[0] != 4 {
		return nil, sm2.ErrDecryption
	}
	return sm2.Decrypt(k.key, ciphertext)
}

// A PublicKey verifies and encrypts. It is safe for concurrent use.
type PublicKey struct {
	key   *ecdsa.PublicKey
	point [PointSize]byte
	za    []byte // what binds a signed message to id and key
}

// NewPublicKey returns the key of a point of [PointSize] bytes, which it
// checks to lie on the curve.
func NewPublicKey(point []byte) (*PublicKey, error) {
	if len(point) != PointSize || point[0] != 4 {
		return nil, errPoint
	}
	k, err := sm2.NewPublicKey(point)
	if err != nil {
		return nil, errPoint
	}
	return newPublicKey(k, point)
}

func newPublicKey(k *ecdsa.PublicKey, point []byte) (*PublicKey, error) {
	za, err := sm2.CalculateZA(k, nil)
	if err != nil {
		return nil, err
	}
	return &PublicKey{k, [PointSize]byte(point), za}, nil
}

// Bytes returns a fresh copy of the point.
func (k *PublicKey) Bytes() []byte { return append([]byte(nil), k.point[:]...) }

// Verify reports whether signature is the key's over message.
func (k *PublicKey) Verify(message, signature []byte) bool {
	if len(signature) != SignatureSize {
		return false
	}
	return sm2.VerifyASN1(k.key, k.hash(message), derSignature(signature))
}

// hash returns what is signed for message.
func (k *PublicKey) hash(message []byte) []byte {
	h := sm3.New()
	h.Write(k.za)
	h.Write(message)
	return h.Sum(nil)
}

// ASN.1 below is SEQUENCE { INTEGER r, INTEGER s } of less than 128 bytes.

// derSignature returns r ‖ s in DER.
func derSignature(flat []byte) []byte {
	der := make([]byte, 2, 2+2*(2+1+ScalarSize))
	for _, n := range [][]byte{flat[:ScalarSize], flat[ScalarSize:]} {
		for len(n) > 1 && n[0] == 0 {
			n = n[1:]
		}
		if n[0]&0x80 != 0 {
			der = append(der, 0x02, byte(len(n)+1), 0)
		} else {
			der = append(der, 0x02, byte(len(n)))
		}
		der = append(der, n...)
	}
	der[0], der[1] = 0x30, byte(len(der)-2)
	return der
}

// flatSignature returns a DER signature of our own making as r ‖ s.
func flatSignature(der []byte) ([]byte, error) {
	flat := make([]byte, SignatureSize)
	rest := der[2:]
	for i := range 2 {
		n := int(rest[1])
		x := new(big.Int).SetBytes(rest[2 : 2+n])
		if x.BitLen() > 8*ScalarSize {
			return nil, errors.New("signature out of range")
		}
		x.FillBytes(flat[i*ScalarSize : (i+1)*ScalarSize])
		rest = rest[2+n:]
	}
	return flat, nil
}
