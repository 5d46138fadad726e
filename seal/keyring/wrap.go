package keyring

import (
	"bytes"
	"crypto/aes"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"sealtail/seal"
	"sealtail/seal/internal/schedule"
	"sealtail/seal/internal/sm"
)

// A Kind is what a key wraps by.
type Kind string

const (
	AES256GCM Kind = "aes256-gcm"           // a symmetric key of 32 bytes
	SM4GCM    Kind = "sm4-gcm"              // a symmetric key of 16 bytes
	HPKE      Kind = "hpke-mlkem768-x25519" // a public key, with or without its private half
)

// What a recipient of [seal.TypeKeyring] begins with: version and kind.
const (
	wireVersion = 1
	wireAES     = 1
	wireSM4     = 2
)

const (
	dekSize   = 32
	nonceSize = 12
)

func (k Kind) known() bool { return k == AES256GCM || k == SM4GCM || k == HPKE }

// size is the length of a symmetric key.
func (k Kind) size() int {
	if k == SM4GCM {
		return sm.KeySize
	}
	return 32
}

// wire is the kind's number in a recipient.
func (k Kind) wire() byte {
	if k == SM4GCM {
		return wireSM4
	}
	return wireAES
}

func kem() hpke.KEM { return hpke.MLKEM768X25519() }

// newKey makes a key of this kind, enabled, with an id that ends in its
// fingerprint.
func newKey(kind Kind) (k key, err error) {
	k = key{kind: kind, state: Enabled}
	switch kind {
	case AES256GCM, SM4GCM:
		k.secret = make([]byte, kind.size())
		rand.Read(k.secret)
	case HPKE:
		private, err := kem().GenerateKey()
		if err != nil {
			return k, err
		}
		if k.private, err = private.Bytes(); err != nil {
			return k, err
		}
		k.public = private.PublicKey().Bytes()
	default:
		return k, fmt.Errorf("kind %q: use %s, %s or %s", kind, AES256GCM, SM4GCM, HPKE)
	}
	k.id = k.fingerprint()
	return k, nil
}

// fingerprint returns the id that k's material gives it: the kind and the
// first 8 hex digits of
//
//	SHA-256("sealtail keyring" ‖ 00 ‖ kind ‖ 00 ‖ key or public key)
func (k *key) fingerprint() string {
	h := sha256.New()
	fmt.Fprintf(h, "sealtail keyring\x00%s\x00", k.kind)
	h.Write(k.secret)
	h.Write(k.public)
	return string(k.kind) + "-" + hex.EncodeToString(h.Sum(nil)[:4])
}

// wrap wraps dek, bound to context.
func (k *key) wrap(dek, context []byte) (seal.Recipient, error) {
	if k.kind == HPKE {
		public, err := kem().NewPublicKey(k.public)
		if err != nil {
			return seal.Recipient{}, err
		}
		wrapped, err := hpke.Seal(public, hpke.HKDFSHA256(), hpke.AES256GCM(), hpkeInfo(context), dek)
		return seal.Recipient{Type: seal.TypeHPKE, KeyID: []byte(k.id), Wrapped: wrapped}, err
	}
	aead, err := k.aead()
	if err != nil {
		return seal.Recipient{}, err
	}
	defer aead.Wipe()
	head := k.head()
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	wrapped := append(bytes.Clone(head), nonce...)
	wrapped = aead.Seal(wrapped, nonce, dek, append(head, context...))
	return seal.Recipient{Type: seal.TypeKeyring, KeyID: []byte(k.id), Wrapped: wrapped}, nil
}

// unwrap is the inverse of wrap.
func (k *key) unwrap(wrapped, context []byte) (dek []byte, err error) {
	if k.kind == HPKE {
		if k.private == nil {
			return nil, errors.New("its private half is not in this keyring")
		}
		private, err := kem().NewPrivateKey(k.private)
		if err != nil {
			return nil, err
		}
		if dek, err = hpke.Open(private, hpke.HKDFSHA256(), hpke.AES256GCM(), hpkeInfo(context), wrapped); err != nil {
			return nil, errUnwrap
		}
	} else {
		aead, err := k.aead()
		if err != nil {
			return nil, err
		}
		defer aead.Wipe()
		head := k.head()
		sealed, ok := bytes.CutPrefix(wrapped, head)
		if !ok || len(sealed) < nonceSize {
			return nil, errors.New("the wrapped data key is of another kind or key")
		}
		if dek, err = aead.Open(nil, sealed[:nonceSize], sealed[nonceSize:], append(head, context...)); err != nil {
			return nil, errUnwrap
		}
	}
	if len(dek) != dekSize {
		clear(dek)
		return nil, fmt.Errorf("the data key has %d bytes, want %d", len(dek), dekSize)
	}
	return dek, nil
}

var errUnwrap = errors.New("the wrapped data key was made under another key or context, or is damaged")

// head is what a recipient under a symmetric key begins with, before the nonce.
func (k *key) head() []byte {
	return append([]byte{wireVersion, k.kind.wire(), byte(len(k.id))}, k.id...)
}

// aead returns the AEAD of a symmetric key. The caller wipes it.
func (k *key) aead() (*schedule.AEAD, error) {
	if k.kind == SM4GCM {
		return sm.NewGCM(k.secret)
	}
	block, err := aes.NewCipher(k.secret)
	if err != nil {
		return nil, err
	}
	return schedule.GCM(block)
}

func hpkeInfo(context []byte) []byte { return append([]byte("SE1-dek\x00"), context...) }
