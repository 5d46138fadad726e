package seal

import (
	"crypto/aes"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"hash"

	"sealtail/seal/internal/schedule"
	"sealtail/seal/internal/sm"
)

// A Suite is a set of primitives: AEAD, hash and host signature. A data key
// serves one suite, and a suite never changes inside an epoch.
type Suite uint8

const (
	AES256GCM Suite = 1 // AES-256-GCM, SHA-256, Ed25519
	SM4GCM    Suite = 2 // SM4-GCM, SM3, SM2 with SM3
)

const (
	dekSize       = 32 // of a data key, in both suites
	hashSize      = 32 // of both suites' hashes
	tagSize       = 16 // of both suites' AEADs
	nonceSize     = 12 // of both suites' AEADs
	signatureSize = 64 // of both suites' signatures
)

// ParseSuite returns the suite that a config calls name.
func ParseSuite(name string) (Suite, error) {
	for _, s := range []Suite{AES256GCM, SM4GCM} {
		if name == s.String() {
			return s, nil
		}
	}
	return 0, fmt.Errorf("no suite is called %q: there are %s and %s", name, AES256GCM, SM4GCM)
}

// String returns the suite's name in a config.
func (s Suite) String() string {
	switch s {
	case AES256GCM:
		return "aes-256-gcm"
	case SM4GCM:
		return "sm4-gcm"
	}
	return fmt.Sprintf("suite %d", uint8(s))
}

// signature returns the name of the suite's host signature.
func (s Suite) signature() string {
	if s == SM4GCM {
		return "sm2"
	}
	return "ed25519"
}

// valid reports whether there is such a suite.
func (s Suite) valid() bool { return s == AES256GCM || s == SM4GCM }

// keySize is that of the suite's AEAD.
func (s Suite) keySize() int {
	if s == SM4GCM {
		return sm.KeySize
	}
	return 32
}

// publicSize is that of the suite's public keys.
func (s Suite) publicSize() int {
	if s == SM4GCM {
		return sm.PointSize
	}
	return ed25519.PublicKeySize
}

// aead returns the suite's AEAD under a key of keySize. The caller wipes it.
func (s Suite) aead(key []byte) (*schedule.AEAD, error) {
	if len(key) != s.keySize() {
		return nil, fmt.Errorf("%s takes no key of %d bytes", s, len(key))
	}
	if s == SM4GCM {
		return sm.NewGCM(key)
	}
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return schedule.GCM(b)
}

func (s Suite) newHash() hash.Hash {
	if s == SM4GCM {
		return sm.New()
	}
	return sha256.New()
}

// sum returns the suite's hash of b.
func (s Suite) sum(b []byte) [hashSize]byte {
	if s == SM4GCM {
		return sm.Sum(b)
	}
	return sha256.Sum256(b)
}

// verify reports whether signature is public's over message.
func (s Suite) verify(public, message, signature []byte) bool {
	if len(public) != s.publicSize() || len(signature) != signatureSize {
		return false
	}
	if s == SM4GCM {
		k, err := sm.NewPublicKey(public)
		return err == nil && k.Verify(message, signature)
	}
	return ed25519.Verify(public, message, signature)
}
