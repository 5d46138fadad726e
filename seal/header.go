package seal

import (
	"encoding/binary"
	"math"
	"time"
)

// Flags of a header.
type Flags uint8

const (
	Genesis   Flags = 1 // no known predecessor: first of its stream
	Final     Flags = 2 // last of its epoch, after a graceful stop
	Heartbeat Flags = 4 // no records
)

// Codecs of the content.
const (
	CodecNone uint8 = 0
	CodecZstd uint8 = 1
)

// A Header is the first part of an envelope, in clear, authenticated and
// signed.
//
//	off  len  field
//	  0    4  magic 89 53 45 31
//	  4    1  version 1
//	  5    1  suite
//	  6    1  flags
//	  7    1  codec
//	  8    2  length of the header
//	 10    2  zero
//	 12    4  length of the payload, tag included
//	 16   16  stream id
//	 32    8  epoch
//	 40    8  seq
//	 48    8  time of the oldest record
//	 56    8  time of the newest record
//	 64   16  data key id
//	 80   24  salt
//	104   32  digest of the envelope before
//	136   32  signer
//	168    2  length of the context
//	170       context
type Header struct {
	Suite       Suite
	Flags       Flags
	Codec       uint8
	PayloadLen  uint32
	StreamID    [16]byte
	Epoch, Seq  uint64
	First, Last int64 // Unix ns of the oldest and newest record, in whole seconds; of sealing where there are none
	DEKID       [16]byte
	Salt        [24]byte
	Prev        [32]byte // digest of the stream's envelope before, zero with Genesis
	Signer      [32]byte // hash of the host's public key
	Context     []byte   // encoded, see [ParseContext]
}

const (
	magic       = "\x89SE1"
	version     = 1
	fixedHeader = 170
	maxHeader   = 4096
	minPayload  = 4 + tagSize // of an empty frame
)

// append appends the encoding of h, which is well formed, to b.
func (h *Header) append(b []byte) []byte {
	be := binary.BigEndian
	b = append(b, magic...)
	b = append(b, version, byte(h.Suite), byte(h.Flags), h.Codec)
	b = be.AppendUint16(b, uint16(fixedHeader+len(h.Context)))
	b = append(b, 0, 0)
	b = be.AppendUint32(b, h.PayloadLen)
	b = append(b, h.StreamID[:]...)
	b = be.AppendUint64(b, h.Epoch)
	b = be.AppendUint64(b, h.Seq)
	b = be.AppendUint64(b, uint64(h.First))
	b = be.AppendUint64(b, uint64(h.Last))
	b = append(b, h.DEKID[:]...)
	b = append(b, h.Salt[:]...)
	b = append(b, h.Prev[:]...)
	b = append(b, h.Signer[:]...)
	b = be.AppendUint16(b, uint16(len(h.Context)))
	return append(b, h.Context...)
}

// parseHeader reads the header that b begins with. Its Context aliases b.
func parseHeader(b []byte) (h Header, n int, err error) {
	be := binary.BigEndian
	// Of a torn header, what is there must be well formed.
	has := func(end int) bool { return len(b) >= end }
	switch m := min(len(b), len(magic)); {
	case string(b[:m]) != magic[:m]:
		return h, 0, malformed("no envelope begins here")
	case has(5) && b[4] != version:
		return h, 0, malformed("version %d", b[4])
	case has(6) && !Suite(b[5]).valid():
		return h, 0, malformed("suite %d", b[5])
	case has(7) && Flags(b[6])&^(Genesis|Final|Heartbeat) != 0:
		return h, 0, malformed("flags %#02x", b[6])
	case has(8) && b[7] > CodecZstd, has(8) && Flags(b[6])&Heartbeat != 0 && b[7] != CodecNone:
		return h, 0, malformed("codec %d with flags %#02x", b[7], b[6])
	case has(10) && (be.Uint16(b[8:]) < fixedHeader+2 || be.Uint16(b[8:]) > maxHeader):
		return h, 0, malformed("header of %d bytes", be.Uint16(b[8:]))
	case has(12) && be.Uint16(b[10:]) != 0:
		return h, 0, malformed("reserved bytes set")
	case has(16) && (be.Uint32(b[12:]) < minPayload || be.Uint32(b[12:]) > MaxEnvelope):
		return h, 0, malformed("payload of %d bytes", be.Uint32(b[12:]))
	case !has(fixedHeader):
		return h, 0, ErrTorn
	}
	n = int(be.Uint16(b[8:]))
	if c := int(be.Uint16(b[168:])); n != fixedHeader+c {
		return h, 0, malformed("header of %d bytes with a context of %d", n, c)
	}
	first, last := be.Uint64(b[48:]), be.Uint64(b[56:])
	if first > last || last > math.MaxInt64 || first%uint64(time.Second) != 0 || last%uint64(time.Second) != 0 {
		return h, 0, malformed("times %d to %d", first, last)
	}
	h = Header{
		Suite:      Suite(b[5]),
		Flags:      Flags(b[6]),
		Codec:      b[7],
		PayloadLen: be.Uint32(b[12:]),
		StreamID:   [16]byte(b[16:]),
		Epoch:      be.Uint64(b[32:]),
		Seq:        be.Uint64(b[40:]),
		First:      int64(first),
		Last:       int64(last),
		DEKID:      [16]byte(b[64:]),
		Salt:       [24]byte(b[80:]),
		Prev:       [32]byte(b[104:]),
		Signer:     [32]byte(b[136:]),
	}
	if genesis := h.Flags&Genesis != 0; genesis != (h.Prev == [32]byte{}) || genesis && h.Seq != 0 {
		return h, 0, malformed("GENESIS, digest of the envelope before and seq do not agree")
	}
	if !has(n) {
		return h, 0, ErrTorn
	}
	h.Context = b[fixedHeader:n:n]
	if _, err := ParseContext(h.Context); err != nil {
		return h, 0, err
	}
	return h, n, nil
}
