package seal

import (
	"crypto/subtle"

	"sealtail/seal/internal/schedule"
)

// batchKeys are the secrets of one envelope.
type batchKeys struct {
	okm                    []byte // what the others are slices of
	key, nonce, commitment []byte
}

// wipe zeroes the secrets.
func (k batchKeys) wipe() { clear(k.okm) }

// derive returns the secrets of the envelope with this header under dek. The
// caller wipes them, and calls derive in [schedule.Do].
func (s Suite) derive(dek, header []byte) batchKeys {
	h := s.sum(header)
	n := s.keySize()
	okm := s.expand(dek, "SE1-batch\x00"+string(byte(s))+string(h[:]), n+nonceSize+commitmentSize)
	return batchKeys{okm, okm[:n:n], okm[n : n+nonceSize], okm[n+nonceSize:]}
}

// dekID returns the name of dek under suite s: it tells nothing of dek.
func (s Suite) dekID(dek []byte) (id [16]byte) {
	schedule.Do(func() { id = [16]byte(s.expand(dek, "SE1-dek-id\x00"+string(byte(s)), 16)) })
	return id
}

// expand is HKDF-Expand (RFC 5869, section 2.3), for secrets of at most a block
// of the hash. The caller wipes the answer, and calls it in [schedule.Do]. Unlike
// crypto/hkdf it leaves neither the secret, masked, nor what HMAC makes of it on
// the heap.
func (s Suite) expand(secret []byte, info string, n int) []byte {
	const block = 64 // of both suites' hashes
	if len(secret) > block || n > 255*hashSize {
		panic("seal: expand out of range")
	}
	var inner, outer [block]byte
	for i := range inner {
		inner[i], outer[i] = 0x36, 0x5c
	}
	subtle.XORBytes(inner[:], inner[:], secret)
	subtle.XORBytes(outer[:], outer[:], secret)
	h := s.newHash()
	okm := make([]byte, 0, (n+hashSize-1)/hashSize*hashSize)
	var last []byte
	var mid [hashSize]byte
	for i := byte(1); len(okm) < n; i++ {
		h.Reset()
		h.Write(inner[:])
		h.Write(last)
		h.Write([]byte(info))
		h.Write([]byte{i})
		h.Sum(mid[:0])
		h.Reset()
		h.Write(outer[:])
		h.Write(mid[:])
		okm = h.Sum(okm)
		last = okm[len(okm)-hashSize:]
	}
	clear(inner[:])
	clear(outer[:])
	clear(mid[:])
	clear(okm[n:cap(okm)])
	schedule.Wipe(h)
	return okm[:n:n]
}
