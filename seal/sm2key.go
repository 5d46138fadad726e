package seal

import (
	"bytes"
	"context"
	"encoding/asn1"
	"errors"

	"sealtail/seal/internal/sm"
)

// A data key is wrapped to an SM2 public key as GB/T 32918.4 has it,
//
//	04 ‖ x1 ‖ y1 ‖ C3(32) ‖ C2(32)
//
// and the key id is SM3(SubjectPublicKeyInfo in DER)[:16].

const sm2WrappedSize = sm.PointSize + hashSize + dekSize

// sm2SPKI is the SubjectPublicKeyInfo of an SM2 key up to its point: the DER
// has no other form.
const sm2SPKI = "\x30\x59\x30\x13" +
	"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01" + // 1.2.840.10045.2.1, EC public key
	"\x06\x08\x2a\x81\x1c\xcf\x55\x01\x82\x2d" + // 1.2.156.10197.1.301, the curve of SM2
	"\x03\x42\x00"

// An SM2PublicKey wraps data keys. It is safe for concurrent use.
type SM2PublicKey struct {
	key *sm.PublicKey
	id  []byte
}

// ParseSM2PublicKey reads a SubjectPublicKeyInfo in DER, or the 65 bytes
// 04 ‖ x ‖ y. It checks that the point lies on the curve.
func ParseSM2PublicKey(b []byte) (*SM2PublicKey, error) {
	b, _ = bytes.CutPrefix(b, []byte(sm2SPKI))
	k, err := sm.NewPublicKey(b)
	if err != nil {
		return nil, malformed("%v", err)
	}
	return newSM2PublicKey(k), nil
}

func newSM2PublicKey(k *sm.PublicKey) *SM2PublicKey {
	p := &SM2PublicKey{key: k}
	id := sm.Sum(p.Marshal())
	p.id = id[:16]
	return p
}

// Marshal returns the key's SubjectPublicKeyInfo in DER.
func (k *SM2PublicKey) Marshal() []byte { return append([]byte(sm2SPKI), k.key.Bytes()...) }

// KeyID returns what recipients name the key by.
func (k *SM2PublicKey) KeyID() []byte { return bytes.Clone(k.id) }

// Wrap returns dek wrapped to k.
func (k *SM2PublicKey) Wrap(dek []byte) (Recipient, error) {
	if len(dek) != dekSize {
		return Recipient{}, errors.New("not a data key")
	}
	w, err := k.key.Encrypt(dek)
	if err != nil {
		return Recipient{}, err
	}
	return Recipient{TypeSM2, k.KeyID(), w}, nil
}

// An SM2PrivateKey unwraps data keys. It is safe for concurrent use.
type SM2PrivateKey struct {
	key    *sm.PrivateKey
	public *SM2PublicKey
}

var _ Unwrapper = (*SM2PrivateKey)(nil)

// ParseSM2PrivateKey reads a PKCS #8 private key in DER, or the 32 bytes of
// the scalar.
func ParseSM2PrivateKey(b []byte) (*SM2PrivateKey, error) {
	scalar := b
	if len(b) != sm.ScalarSize {
		var err error
		if scalar, err = sm2Scalar(b); err != nil {
			return nil, err
		}
	}
	k, err := sm.NewPrivateKey(scalar)
	if err != nil {
		return nil, malformed("%v", err)
	}
	return &SM2PrivateKey{k, newSM2PublicKey(k.Public())}, nil
}

// sm2Scalar returns the scalar of a PKCS #8 private key (RFC 5208, RFC 5915).
func sm2Scalar(der []byte) ([]byte, error) {
	var outer struct {
		Version   int
		Algorithm struct{ Kind, Curve asn1.ObjectIdentifier }
		Key       []byte
	}
	var inner struct {
		Version int
		Scalar  []byte
		Curve   asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
		Point   asn1.BitString        `asn1:"optional,explicit,tag:1"`
	}
	if rest, err := asn1.Unmarshal(der, &outer); err != nil || len(rest) != 0 {
		return nil, malformed("not a PKCS #8 private key")
	}
	if !outer.Algorithm.Kind.Equal(asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}) ||
		!outer.Algorithm.Curve.Equal(asn1.ObjectIdentifier{1, 2, 156, 10197, 1, 301}) {
		return nil, malformed("not an SM2 private key")
	}
	if rest, err := asn1.Unmarshal(outer.Key, &inner); err != nil || len(rest) != 0 || len(inner.Scalar) != sm.ScalarSize {
		return nil, malformed("not an SM2 private key")
	}
	return inner.Scalar, nil
}

// Public returns the public half.
func (k *SM2PrivateKey) Public() *SM2PublicKey { return k.public }

// Unwrap returns the data key that was wrapped to k. The point in it is
// checked to lie on the curve.
func (k *SM2PrivateKey) Unwrap(_ context.Context, r Recipient, _ []byte) (Secret, error) {
	if r.Type != TypeSM2 || !bytes.Equal(r.KeyID, k.public.id) {
		return Secret{}, ErrNotMine
	}
	if len(r.Wrapped) != sm2WrappedSize {
		return Secret{}, errors.New("unwrap by SM2: wrong length")
	}
	dek, err := k.key.Decrypt(r.Wrapped)
	if err != nil {
		return Secret{}, errors.New("unwrap by SM2: does not decrypt") // on purpose not why
	}
	return MoveSecret(dek), nil
}
