package seal

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding"
	"encoding/base64"
	"fmt"

	"sealtail/seal/internal/sm"
)

// An Identity is a host's signing keys, one for each suite. It is safe for
// concurrent use, but for Machine. Use [NewIdentity].
//
// It prints as "[redacted]". Its one encoding holds the private keys in clear:
//
//	off  len  field
//	  0    4  magic 89 53 49 44
//	  4    1  version 1
//	  5    3  zero
//	  8   32  Ed25519 seed
//	 40   32  SM2 scalar
//	 72   32  machine
//	104   32  SHA-256 of all before
type Identity struct {
	// Machine is a keyed hash of the machine that the keys were made on. Its
	// user sets and compares it: elsewhere, they are a copy and must go.
	Machine [32]byte

	ed25519 ed25519.PrivateKey
	sm2     *sm.PrivateKey
}

const (
	identityMagic   = "\x89SID"
	identityVersion = 1
	identitySize    = 136
)

var (
	_ encoding.BinaryMarshaler   = (*Identity)(nil)
	_ encoding.BinaryUnmarshaler = (*Identity)(nil)
	_ fmt.Formatter              = (*Identity)(nil)
)

// NewIdentity returns fresh random keys.
func NewIdentity() (*Identity, error) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make Ed25519 key: %w", err)
	}
	k, err := sm.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("make SM2 key: %w", err)
	}
	return &Identity{ed25519: ed, sm2: k}, nil
}

// MarshalBinary returns the encoding of id, which is secret.
func (id *Identity) MarshalBinary() ([]byte, error) {
	b := make([]byte, 0, identitySize)
	b = append(b, identityMagic...)
	b = append(b, identityVersion, 0, 0, 0)
	b = append(b, id.ed25519.Seed()...)
	b = append(b, id.sm2.Bytes()...)
	b = append(b, id.Machine[:]...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...), nil
}

// UnmarshalBinary sets id to what [Identity.MarshalBinary] wrote. The error is
// an [ErrNewer] or an [ErrMalformed]; id is then as it was.
func (id *Identity) UnmarshalBinary(b []byte) error {
	if len(b) < 8 || string(b[:4]) != identityMagic {
		return malformed("not an identity")
	}
	if b[4] > identityVersion {
		return fmt.Errorf("identity of version %d: %w", b[4], ErrNewer)
	}
	if len(b) != identitySize || b[4] != identityVersion || b[5]|b[6]|b[7] != 0 {
		return malformed("identity")
	}
	if sha256.Sum256(b[:104]) != [32]byte(b[104:]) {
		return malformed("identity does not match its checksum")
	}
	k, err := sm.NewPrivateKey(b[40:72])
	if err != nil {
		return malformed("identity: %v", err)
	}
	*id = Identity{
		Machine: [32]byte(b[72:104]),
		ed25519: ed25519.NewKeyFromSeed(b[8:40]),
		sm2:     k,
	}
	return nil
}

// Public returns a fresh copy of the public key that verifies what id signs in
// suite s.
func (id *Identity) Public(s Suite) []byte {
	if s == SM4GCM {
		return id.sm2.Public().Bytes()
	}
	return append([]byte(nil), id.ed25519.Public().(ed25519.PublicKey)...)
}

// Signer returns what headers of suite s name id by: the hash of the public
// key.
func (id *Identity) Signer(s Suite) [32]byte { return s.sum(id.Public(s)) }

// SignerLine returns the line, without its end, by which a reader comes to
// trust id for suite s: "host ed25519|sm2 base64". [ParseSigners] reads it.
func (id *Identity) SignerLine(host string, s Suite) string {
	return host + " " + s.signature() + " " + base64.StdEncoding.EncodeToString(id.Public(s))
}

// sign returns the signature of suite s over message.
func (id *Identity) sign(s Suite, message []byte) ([]byte, error) {
	if s == SM4GCM {
		return id.sm2.Sign(message)
	}
	return ed25519.Sign(id.ed25519, message), nil
}

// Format writes "[redacted]" for every verb.
func (*Identity) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }
