package seal

// batchKeys are the secrets of one envelope.
type batchKeys struct {
	okm                    []byte // what the others are slices of
	key, nonce, commitment []byte
}

// wipe zeroes the secrets.
func (k batchKeys) wipe() { clear(k.okm) }

// derive returns the secrets of the envelope with this header under dek. The
// caller wipes them.
func (s Suite) derive(dek, header []byte) batchKeys {
	h := s.sum(header)
	n := s.keySize()
	okm := s.expand(dek, "SE1-batch\x00"+string(byte(s))+string(h[:]), n+nonceSize+commitmentSize)
	return batchKeys{okm, okm[:n:n], okm[n : n+nonceSize], okm[n+nonceSize:]}
}

// dekID returns the name of dek under suite s: it tells nothing of dek.
func (s Suite) dekID(dek []byte) [16]byte {
	return [16]byte(s.expand(dek, "SE1-dek-id\x00"+string(byte(s)), 16))
}
