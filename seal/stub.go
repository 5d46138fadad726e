package seal

// A Stub stands in for an envelope that can never be delivered, so that its
// chain stays whole:
//
//	header ‖ commitment(32) ‖ hash of the payload(32) ‖ signature section
//
// Its slices alias the bytes that were parsed.
type Stub struct {
	Header
	Commitment  [32]byte
	PayloadHash [32]byte
	PublicKey   []byte // of the host, as the stub says
	Signature   []byte

	header []byte // its encoding
}

// ParseStub reads b, which is exactly one stub. The error is an [ErrMalformed].
func ParseStub(b []byte) (*Stub, error) {
	h, n, err := parseHeader(b)
	if err != nil {
		return nil, err
	}
	s := &Stub{Header: h, header: b[:n:n]}
	if len(b) < n+commitmentSize+hashSize {
		return nil, ErrTorn
	}
	n += copy(s.Commitment[:], b[n:])
	n += copy(s.PayloadHash[:], b[n:])
	public, sig, m, err := h.Suite.parseSignature(b[n:])
	if err != nil {
		return nil, err
	}
	if n+m != len(b) {
		return nil, malformed("%d bytes follow the stub", len(b)-n-m)
	}
	s.PublicKey, s.Signature = public, sig
	return s, nil
}

// Marshal returns the bytes of s, which the caller owns.
func (s *Stub) Marshal() []byte {
	b := make([]byte, 0, len(s.header)+commitmentSize+hashSize+s.Suite.signatureSection())
	b = append(b, s.header...)
	b = append(b, s.Commitment[:]...)
	b = append(b, s.PayloadHash[:]...)
	return s.Suite.appendSignature(b, s.PublicKey, s.Signature)
}

// Digest returns the digest of the envelope that s stands for.
func (s *Stub) Digest() [32]byte {
	return s.Suite.digest(s.header, s.Commitment, s.PayloadHash)
}

// Verify is [Envelope.Verify].
func (s *Stub) Verify() error {
	if s.Suite.sum(s.PublicKey) != s.Signer {
		return ErrForged
	}
	if !s.Suite.verify(s.PublicKey, signedMessage(s.Digest()), s.Signature) {
		return ErrForged
	}
	return nil
}

// digest returns what links an envelope to the next one and what is signed.
func (s Suite) digest(header []byte, commitment, payloadHash [32]byte) (d [32]byte) {
	h := s.newHash()
	h.Write([]byte("SE1-chain\x00"))
	h.Write(header)
	h.Write(commitment[:])
	h.Write(payloadHash[:])
	h.Sum(d[:0])
	return d
}

// signedMessage returns what the host signs for digest.
func signedMessage(digest [32]byte) []byte {
	return append([]byte("SE1-sign\x00"), digest[:]...)
}

// The signature section is u8 length of the public key ‖ public key ‖
// signature(64).

// signatureSection returns the section's length.
func (s Suite) signatureSection() int { return 1 + s.publicSize() + signatureSize }

func (s Suite) appendSignature(b, public, signature []byte) []byte {
	b = append(b, uint8(len(public)))
	b = append(b, public...)
	return append(b, signature...)
}

// parseSignature reads the section that b begins with; its answers alias b.
func (s Suite) parseSignature(b []byte) (public, signature []byte, n int, err error) {
	if len(b) > 0 && int(b[0]) != s.publicSize() {
		return nil, nil, 0, malformed("public key of %d bytes", b[0])
	}
	n = s.signatureSection()
	if len(b) < n {
		return nil, nil, 0, ErrTorn
	}
	end := n - signatureSize
	return b[1:end:end], b[end:n:n], n, nil
}
