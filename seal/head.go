package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// A Head is the newest envelope of a chain: all that must be kept to go on
// with it.
type Head struct {
	StreamID   [16]byte
	Epoch, Seq uint64
	Digest     [32]byte // of the envelope, by its suite's hash
	Suite      Suite
	Last       int64 // the envelope's time of its newest record, Unix ns
}

// HeadSize is the length of a marshalled [Head].
//
//	off  len  field
//	  0    1  version 1
//	  1    1  suite
//	  2   16  stream id
//	 18    8  epoch
//	 26    8  seq
//	 34    8  time of the newest record
//	 42   32  digest
const HeadSize = 74

const headVersion = 1

// ErrNewer is the error for a head or identity that a newer version of this
// program wrote.
var ErrNewer = errors.New("written by a newer version")

// HeadOf returns the head that the envelope env is. It does not verify env.
func HeadOf(env []byte) (Head, error) {
	e, err := Parse(env)
	if err != nil {
		return Head{}, err
	}
	return e.Head(), nil
}

// Head returns the head that e is.
func (e *Envelope) Head() Head {
	return Head{e.StreamID, e.Epoch, e.Seq, e.Digest(), e.Suite, e.Last}
}

// Marshal returns [HeadSize] bytes.
func (h Head) Marshal() []byte {
	b := make([]byte, 0, HeadSize)
	b = append(b, headVersion, byte(h.Suite))
	b = append(b, h.StreamID[:]...)
	b = binary.BigEndian.AppendUint64(b, h.Epoch)
	b = binary.BigEndian.AppendUint64(b, h.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Last))
	return append(b, h.Digest[:]...)
}

// Unmarshal reads what [Head.Marshal] wrote. The error is an [ErrNewer] or an
// [ErrMalformed]; h is then as it was.
func (h *Head) Unmarshal(b []byte) error {
	be := binary.BigEndian
	switch {
	case len(b) > 0 && b[0] > headVersion:
		return fmt.Errorf("head of version %d: %w", b[0], ErrNewer)
	case len(b) != HeadSize || b[0] != headVersion:
		return malformed("head")
	case !Suite(b[1]).valid():
		return malformed("head of suite %d", b[1])
	case be.Uint64(b[34:]) > math.MaxInt64:
		return malformed("head of a time out of range")
	}
	*h = Head{
		Suite:    Suite(b[1]),
		StreamID: [16]byte(b[2:]),
		Epoch:    be.Uint64(b[18:]),
		Seq:      be.Uint64(b[26:]),
		Last:     int64(be.Uint64(b[34:])),
		Digest:   [32]byte(b[42:]),
	}
	return nil
}
