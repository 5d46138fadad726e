package seal

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"sealtail/seal/internal/schedule"
)

const (
	// MaxEnvelope is the length of the longest envelope.
	MaxEnvelope = 737280
	// MaxContent is the length of the longest content that always fits.
	MaxContent = 704508

	commitmentSize = 32
)

// An Envelope is one sealed batch, parsed. Its fields are for reading; its
// slices alias the bytes that were parsed. It is not safe for concurrent use.
type Envelope struct {
	Header
	Commitment [32]byte
	Recipients []Recipient
	Payload    []byte // ciphertext and tag
	PublicKey  []byte // of the host, as the envelope says
	Signature  []byte

	header  []byte // its encoding
	stub    *Stub  // once the payload is hashed
	genuine bool   // Verify succeeded
}

// Parse reads b, which is exactly one envelope. It checks every length and
// every value that the format fixes, and nothing that needs a key: call
// [Envelope.Verify] next. The error is an [ErrMalformed].
func Parse(b []byte) (*Envelope, error) {
	e, n, err := ParsePrefix(b)
	if err != nil {
		return nil, err
	}
	if n != len(b) {
		return nil, malformed("%d bytes follow the envelope", len(b)-n)
	}
	return e, nil
}

// ParsePrefix reads the envelope that b begins with and returns its length.
// The error is [ErrTorn] where b ends too early and is well formed up to
// there, which also is an [ErrMalformed] like any other.
func ParsePrefix(b []byte) (e *Envelope, n int, err error) {
	h, n, err := parseHeader(b)
	if err != nil {
		return nil, 0, err
	}
	e = &Envelope{Header: h, header: b[:n:n]}
	if len(b) < n+commitmentSize {
		return nil, 0, ErrTorn
	}
	n += copy(e.Commitment[:], b[n:])
	rs, m, err := parseRecipients(b[n:])
	if err != nil {
		return nil, 0, err
	}
	e.Recipients = rs
	n += m
	end := n + int(h.PayloadLen)
	if total := end + h.Suite.signatureSection(); total > MaxEnvelope {
		return nil, 0, malformed("envelope of %d bytes", total)
	}
	if len(b) < end {
		return nil, 0, ErrTorn
	}
	e.Payload = b[n:end:end]
	n = end
	if e.PublicKey, e.Signature, m, err = h.Suite.parseSignature(b[n:]); err != nil {
		return nil, 0, err
	}
	return e, n + m, nil
}

// Digest returns what the stream's next envelope calls the one before. The
// first call of Digest, Verify or Stub hashes the payload.
func (e *Envelope) Digest() [32]byte { return e.asStub().Digest() }

// Verify checks that the public key is the signer's and that the signature is
// that key's. It needs no secret. Whether the signer is to be trusted is for
// the caller to know. The error is [ErrForged].
func (e *Envelope) Verify() error {
	if err := e.asStub().Verify(); err != nil {
		return err
	}
	e.genuine = true
	return nil
}

// Stub returns what stands in for the envelope in its chain where it can never
// be delivered.
func (e *Envelope) Stub() []byte { return e.asStub().Marshal() }

func (e *Envelope) asStub() *Stub {
	if e.stub == nil {
		e.stub = &Stub{
			Header:      e.Header,
			Commitment:  e.Commitment,
			PayloadHash: e.Suite.sum(e.Payload),
			PublicKey:   e.PublicKey,
			Signature:   e.Signature,
			header:      e.header,
		}
	}
	return e.stub
}

// Open decrypts the payload under dek and returns the content, which the
// caller owns, still in the header's codec: see [Decompress]. It first
// verifies the envelope where [Envelope.Verify] has not succeeded yet, and
// checks that dek is the data key that the header names.
// The error is [ErrForged], [ErrUnwrap], [ErrCommitment], [ErrDecrypt] or
// [ErrPadding].
func (e *Envelope) Open(dek []byte) (content []byte, err error) {
	if !e.genuine {
		if err := e.Verify(); err != nil {
			return nil, err
		}
	}
	if !e.Names(dek) {
		return nil, ErrUnwrap
	}
	var frame []byte
	schedule.Do(func() { frame, err = e.decrypt(dek) })
	if err != nil {
		return nil, err
	}
	return e.unframe(frame)
}

// decrypt returns the frame in the payload. The caller calls it in [schedule.Do].
func (e *Envelope) decrypt(dek []byte) (frame []byte, err error) {
	k := e.Suite.derive(dek, e.header)
	defer k.wipe()
	if subtle.ConstantTimeCompare(k.commitment, e.Commitment[:]) != 1 {
		return nil, ErrCommitment
	}
	aead, err := e.Suite.aead(k.key)
	if err != nil {
		return nil, err
	}
	defer aead.Wipe()
	frame, err = aead.Open(nil, k.nonce, e.Payload, e.header)
	if err != nil {
		return nil, ErrDecrypt
	}
	return frame, nil
}

// unframe returns the content of u32 n ‖ content (n bytes) ‖ zeros.
func (e *Envelope) unframe(frame []byte) ([]byte, error) {
	n := uint64(binary.BigEndian.Uint32(frame)) // minPayload saw to its length
	if 4+n > uint64(len(frame)) || padme(int(4+n)) != len(frame) {
		return nil, ErrPadding
	}
	var set byte
	for _, b := range frame[4+n:] {
		set |= b
	}
	if set != 0 || e.Flags&Heartbeat != 0 && n != 0 {
		return nil, ErrPadding
	}
	return frame[4 : 4+n : 4+n], nil
}

// A sealing is how an envelope is to be sealed and signed.
type sealing struct {
	dek     []byte
	section []byte // key section
	public  []byte // of the host
	aead    func(key []byte) (*schedule.AEAD, error)
	sign    func(message []byte) ([]byte, error)
}

// seal returns the envelope of h and content, in buf if there is room, and its
// digest. It sets h's PayloadLen; all else of h is the caller's. The content is
// encrypted where it comes to lie.
func (s *sealing) seal(buf []byte, h *Header, content []byte) (env []byte, digest [32]byte, err error) {
	frame := padme(4 + len(content))
	h.PayloadLen = uint32(frame + tagSize)
	headerLen := fixedHeader + len(h.Context)
	payload := headerLen + commitmentSize + len(s.section) // where it begins
	end := payload + frame + tagSize
	total := end + h.Suite.signatureSection()
	if total > MaxEnvelope {
		return nil, digest, fmt.Errorf("content of %d bytes does not fit an envelope", len(content))
	}
	if cap(buf) < total {
		buf = make([]byte, total)
	}
	env = h.append(buf[:0])
	header := env[:headerLen:headerLen]
	env = env[:end]
	commitment := env[headerLen : headerLen+commitmentSize]
	copy(env[headerLen+commitmentSize:], s.section)
	binary.BigEndian.PutUint32(env[payload:], uint32(len(content)))
	n := copy(env[payload+4:], content)
	clear(env[payload+4+n : payload+frame])
	schedule.Do(func() { err = s.encrypt(h.Suite, header, commitment, env[payload:end]) })
	if err != nil {
		return nil, digest, err
	}

	digest = h.Suite.digest(header, [32]byte(commitment), h.Suite.sum(env[payload:end]))
	sig, err := s.sign(signedMessage(digest))
	if err != nil {
		return nil, digest, fmt.Errorf("sign envelope: %w", err)
	}
	return h.Suite.appendSignature(env, s.public, sig), digest, nil
}

// encrypt fills in the commitment, and turns the frame that payload begins with
// into the payload. The caller calls it in [schedule.Do].
func (s *sealing) encrypt(suite Suite, header, commitment, payload []byte) error {
	k := suite.derive(s.dek, header)
	defer k.wipe()
	copy(commitment, k.commitment)
	aead, err := s.aead(k.key)
	if err != nil {
		return err
	}
	defer aead.Wipe()
	aead.Seal(payload[:0], k.nonce, payload[:len(payload)-tagSize], header)
	return nil
}
