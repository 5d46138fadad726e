package seal

import (
	"crypto/cipher"
	"crypto/ed25519"
	"hash"

	"sealtail/seal/internal/sm"
)

func Padme(n int) int { return padme(n) }

func (s Suite) AEAD(key []byte) (cipher.AEAD, error)            { return s.aead(key) }
func (s Suite) Hash() hash.Hash                                 { return s.newHash() }
func (s Suite) Sum(b []byte) [32]byte                           { return s.sum(b) }
func (s Suite) Expand(secret []byte, info string, n int) []byte { return s.expand(secret, info, n) }
func (s Suite) VerifyRaw(public, message, signature []byte) bool {
	return s.verify(public, message, signature)
}

// IdentityOf returns the identity of given keys.
func IdentityOf(seed, scalar []byte) (*Identity, error) {
	k, err := sm.NewPrivateKey(scalar)
	if err != nil {
		return nil, err
	}
	return &Identity{ed25519: ed25519.NewKeyFromSeed(seed), sm2: k}, nil
}

// Reseal seals with nothing left to chance but an SM2 signature.
func Reseal(id *Identity, h Header, dek []byte, rs []Recipient, content []byte) ([]byte, [32]byte, error) {
	section, err := appendRecipients(nil, rs)
	if err != nil {
		return nil, [32]byte{}, err
	}
	s := sealing{
		dek:     dek,
		section: section,
		public:  id.Public(h.Suite),
		aead:    h.Suite.aead,
		sign:    func(m []byte) ([]byte, error) { return id.sign(h.Suite, m) },
	}
	return s.seal(nil, &h, content)
}

// Marshal returns e's encoding, made of its fields alone.
func (e *Envelope) Marshal() ([]byte, error) {
	b := append(e.Header.append(nil), e.Commitment[:]...)
	b, err := appendRecipients(b, e.Recipients)
	return e.Suite.appendSignature(append(b, e.Payload...), e.PublicKey, e.Signature), err
}

// MarshalFields is Marshal, made of the fields alone.
func (s *Stub) MarshalFields() []byte {
	b := append(s.Header.append(nil), s.Commitment[:]...)
	return s.Suite.appendSignature(append(b, s.PayloadHash[:]...), s.PublicKey, s.Signature)
}

// Key returns the key and nonce that e was sealed under.
func (e *Envelope) Key(dek []byte) string {
	k := e.Suite.derive(dek, e.header)
	return string(k.key) + string(k.nonce)
}

// BrokenSelfTests runs the checks of SelfTest on primitives that are wrong.
func BrokenSelfTests() map[string]error {
	flip := func(b []byte) []byte {
		b = append([]byte(nil), b...)
		b[len(b)-70] ^= 1
		return b
	}
	wrong := aesVector
	wrong.aad = wrong.nonce
	return map[string]error{
		"AEAD of another key size": knownAEAD(SM4GCM.aead, aesVector),
		"AEAD of another result":   knownAEAD(AES256GCM.aead, wrong),
		"AEAD without tag check":   knownAEAD(func([]byte) (cipher.AEAD, error) { return blindAEAD{}, nil }, sm4Vector),
		"block":                    knownBlock(func(_, b []byte) ([]byte, error) { return b, nil }),
		"hash":                     knownHash(AES256GCM.sum),
		"expand":                   knownExpand(AES256GCM, "00", "00"),
		"envelope":                 knownEnvelope(flip(selfTestAES)),
		"envelope cut":             knownEnvelope(selfTestSM4[:100]),
	}
}

// A blindAEAD knows the right answers to the SM4 vector and takes any tag.
type blindAEAD struct{ cipher.AEAD }

func (blindAEAD) Seal(_, _, _, _ []byte) []byte          { return unhex(sm4Vector.sealed) }
func (blindAEAD) Open(_, _, _, _ []byte) ([]byte, error) { return unhex(sm4Vector.plain), nil }
