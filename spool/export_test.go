package spool

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"

	"sealtail/internal/durable"
)

// Sizes that tests aim at.
const (
	FramesFrom = framesFrom
	FrameLen   = frameLen
	BlockLen   = blockLen
	HeaderLen  = headerLen
	HintLen    = hintLen
	MaxSpares  = maxSpares
)

// SegName is the path of a segment.
func SegName(dir string, id uint32) string { return segName(dir, id, segSuffix) }

// A Frame is where a frame lies, and what it holds.
type Frame struct {
	Off, End int64
	Env      int
	First    bool
}

// Frames returns the frames of a segment that verify, and the segment's end as
// far as it can tell.
func Frames(fsys durable.FS, dir string, id uint32) (list []Frame, err error) {
	f, err := fsys.OpenFile(SegName(dir, id), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	h, err := readHeader(f, id)
	if err != nil {
		return nil, err
	}
	for sc := newScanner(&h, f, framesFrom, info.Size()); ; {
		it, ok, err := sc.next()
		if err != nil || !ok {
			return list, err
		}
		if !it.bad {
			list = append(list, Frame{it.off, it.end, it.frame.env, it.kind == kindFirst})
		}
	}
}

// WriteFrame writes a frame at off of a segment that says that the segment is
// durable up to synced. It returns the frame's end.
func WriteFrame(fsys durable.FS, dir string, id uint32, off, synced int64, env, delta []byte) (int64, error) {
	f, err := fsys.OpenFile(SegName(dir, id), os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	h, err := readHeader(f, id)
	if err != nil {
		return 0, err
	}
	fr := h.newFrame(kindEntry, off, env, delta)
	fr.syncSeg, fr.syncOff = id, synced
	_, err = f.WritevAt(off, fr.append(nil, &h), env, delta)
	return fr.end, err
}

// ScanBytes walks a file of these bytes as a segment does, from off on, and
// calls fn for every item.
func ScanBytes(h Header, f durable.File, from, limit int64, fn func(off, end int64, bad bool, env, rest []byte)) error {
	for sc := newScanner(&h.h, f, from, limit); ; {
		it, ok, err := sc.next()
		if err != nil || !ok {
			return err
		}
		fn(it.off, it.end, it.bad, it.env, it.body)
	}
}

// A Header is a segment's header.
type Header struct{ h header }

// NewHeader makes the header of a segment with a fixed salt.
func NewHeader(id uint32, prevEnd int64, salt [16]byte) Header {
	h := newHeader(id, id-1, prevEnd)
	h.salt = salt
	h.born = framesFrom + frameLen
	h, _ = parseHeader(h.append(nil), id)
	return Header{h}
}

// Append appends the encoded header.
func (h Header) Append(b []byte) []byte { return h.h.append(b) }

// ParseHeader is the inverse of Append.
func ParseHeader(b []byte, id uint32) (Header, error) {
	h, err := parseHeader(b, id)
	return Header{h}, err
}

// AppendFrame appends a whole frame as it is at off.
func (h Header) AppendFrame(b []byte, first bool, off, synced int64, env, rest []byte) []byte {
	kind := byte(kindEntry)
	if first {
		kind = kindFirst
	}
	f := h.h.newFrame(kind, off, env, rest)
	f.syncSeg, f.syncOff = h.h.id, synced
	b = f.append(b, &h.h)
	return append(append(b, env...), rest...)
}

// FixFrame puts the checksum of a frame's head right.
func (h Header) FixFrame(b []byte, off int64) []byte {
	if len(b) < frameLen {
		return b
	}
	b = append(bytes.Clone(b[:frameLen-4]), make([]byte, 4)...)
	copy(b, h.h.salt[:markerLen])
	binary.BigEndian.PutUint32(b[frameLen-4:], crc32.Update(h.h.seedAt(off), castagnoli, b[:frameLen-4]))
	return b
}

// ReparseFrame decodes a frame's head and encodes it again.
func (h Header) ReparseFrame(b []byte, off, limit int64) (again []byte, ok bool) {
	f, ok := h.h.parseFrame(b, off, limit)
	if !ok {
		return nil, false
	}
	return f.append(nil, &h.h), true
}

// Reledger decodes what a first frame holds and encodes it again.
func Reledger(b []byte) (again []byte, ok bool) {
	l, snapshot, ok := parseLedger(b)
	return append(appendLedger(nil, l), snapshot...), ok
}

// Rehint decodes a hint about the segment with this header and encodes it again.
func (h Header) Rehint(b []byte, size int64) (again []byte, ok bool) {
	p := parseHint(b, []*segment{{header: h.h, readable: true, size: size}})
	if p.shipped.seg == nil || p.synced.seg == nil {
		return nil, false
	}
	return appendHint(nil, p.shipped.place, p.synced.place), true
}

// Hint encodes a hint.
func (h Header) Hint(off int64) []byte {
	p := place{&segment{header: h.h}, off}
	return appendHint(nil, p, p)
}
