package spool

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"sealtail/internal/durable"
)

// Version is the version of the format that this package writes.
const Version = 1

// Names in a spool's directory. N is a segment's number in decimal, padded to
// eight digits.
const (
	segSuffix     = ".seg"     // a segment, whole since it has this name
	newSuffix     = ".new"     // one that is being built
	damagedSuffix = ".damaged" // one with damaged bytes that could not be copied
	shippedName   = "shipped"  // the hint
	damagedDir    = "damaged"  // copies of damaged bytes
	rejectedDir   = "rejected" // parked envelopes
)

// Layout of a segment; docs/SPOOL.md draws it.
const (
	headerLen  = 68
	blockLen   = 4096         // of the two blocks that begin with a copy of the header
	framesFrom = 2 * blockLen // offset of the first frame
	stableLen  = 16           // bytes of the header that no version may change
	saltLen    = 16
)

const magic = "\x89STSPOOL"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A header is what is known of a segment from its birth on.
type header struct {
	id      uint32
	prev    uint32 // the segment before; 0 = none. Those between the two do not count any more
	prevEnd int64  // end of that one: bytes of it beyond do not exist
	born    int64  // bytes that were durable when the segment got its name
	copied  int64  // of these, the last so many are copies from the segment before
	salt    [saltLen]byte
	seed    uint32 // CRC of the salt; not stored
}

// newHeader draws a salt. Its first byte is not zero, so that bytes never
// written do not look like the begin of a frame.
func newHeader(id, prev uint32, prevEnd int64) header {
	h := header{id: id, prev: prev, prevEnd: prevEnd}
	for h.salt[0] == 0 {
		rand.Read(h.salt[:]) // never fails
	}
	h.seed = crc32.Checksum(h.salt[:], castagnoli)
	return h
}

// append appends the two blocks that a segment begins with.
func (h *header) append(b []byte) []byte {
	start := len(b)
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint32(b, Version)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
	b = binary.BigEndian.AppendUint32(b, h.id)
	b = binary.BigEndian.AppendUint32(b, h.prev)
	b = binary.BigEndian.AppendUint64(b, uint64(h.prevEnd))
	b = binary.BigEndian.AppendUint64(b, uint64(h.born))
	b = binary.BigEndian.AppendUint64(b, uint64(h.copied))
	b = append(b, h.salt[:]...)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
	one := b[start:]
	b = append(b, make([]byte, blockLen-headerLen)...)
	b = append(b, one...)
	return append(b, make([]byte, blockLen-headerLen)...)
}

// errDamaged is met inside the package only: bytes that do not verify.
var errDamaged = errors.New("damaged")

// parseHeader reads the two blocks that a segment begins with, or what there is
// of them. Its errors are [ErrNewer] and errDamaged.
func parseHeader(b []byte, id uint32) (header, error) {
	newer := false
	for ; len(b) >= headerLen; b = b[min(len(b), blockLen):] {
		c := b[:headerLen]
		if string(c[:len(magic)]) != magic ||
			binary.BigEndian.Uint32(c[stableLen-4:]) != crc32.Checksum(c[:stableLen-4], castagnoli) {
			continue
		}
		if v := binary.BigEndian.Uint32(c[8:]); v != Version {
			newer = newer || v > Version
			continue
		}
		h := header{
			id:      binary.BigEndian.Uint32(c[16:]),
			prev:    binary.BigEndian.Uint32(c[20:]),
			prevEnd: int64(binary.BigEndian.Uint64(c[24:])),
			born:    int64(binary.BigEndian.Uint64(c[32:])),
			copied:  int64(binary.BigEndian.Uint64(c[40:])),
			salt:    [saltLen]byte(c[48:]),
		}
		if binary.BigEndian.Uint32(c[headerLen-4:]) != crc32.Checksum(c[:headerLen-4], castagnoli) ||
			h.id != id || h.prev >= id || h.prevEnd < 0 || h.copied < 0 || h.born < framesFrom+frameLen || h.copied > h.born-framesFrom-frameLen {
			continue
		}
		h.seed = crc32.Checksum(h.salt[:], castagnoli)
		return h, nil
	}
	if newer {
		return header{}, ErrNewer
	}
	return header{}, errDamaged
}

// readHeader reads the header of the open segment f.
func readHeader(f durable.File, id uint32) (header, error) {
	w := window{f: f, limit: framesFrom}
	b, err := w.at(0, framesFrom)
	if err != nil {
		return header{}, err
	}
	return parseHeader(b, id)
}

// A segment is one file N.seg. Fields that change are guarded by Spool.mu.
type segment struct {
	header
	readable bool  // its header is
	size     int64 // of the file
	end      int64 // bytes that exist, all durable
	lastEnv  int64 // end of its last frame with an envelope; 0 = none
	first    bool  // its first frame verifies
	bad      []span
	loose    bool // holds damage that could not be set aside
	passed   bool // a later segment passes it over: it may go at any time
}

// A span is the bytes [from, to) of a segment; from = to = 0 is a segment that
// is missing.
type span struct{ from, to int64 }

// A place is an offset in a segment.
type place struct {
	seg *segment
	off int64
}

func (p place) covers(id uint32, off int64) bool {
	return p.seg != nil && (id < p.seg.id || id == p.seg.id && off <= p.off)
}

func segName(dir string, id uint32, suffix string) string {
	return filepath.Join(dir, fmt.Sprintf("%08d%s", id, suffix))
}

// parseName returns the number in a name that segName made.
func parseName(name, suffix string) (id uint32, ok bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	return uint32(n), err == nil && n > 0 && fmt.Sprintf("%08d", n) == digits
}

// listSegments returns the numbers of the segments in dir, in order.
func listSegments(fsys durable.FS, dir string) ([]uint32, error) {
	list, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var ids []uint32
	for _, e := range list {
		if id, ok := parseName(e.Name(), segSuffix); ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// A window reads a file from front to back through one buffer. Bytes that the
// disk cannot give read as zeros, so that they fail their checksum like all
// other damage; so do bytes beyond the end of the file.
type window struct {
	f     durable.File
	limit int64 // nothing at or beyond is read
	keep  bool  // what was returned stays valid: no buffer is used twice
	buf   []byte
	off   int64 // of buf[0]
}

// windowLen is how far a window reads ahead.
const windowLen = 512 << 10

// at returns the n bytes from off on, which must lie below the limit. Without
// keep they are valid until the next call.
func (w *window) at(off int64, n int) ([]byte, error) {
	if i := off - w.off; i >= 0 && i+int64(n) <= int64(len(w.buf)) {
		return w.buf[i : i+int64(n)], nil
	}
	ahead := int64(windowLen)
	if n > windowLen/8 { // a large frame: read no more than the head of the next, or much is read twice
		ahead = int64(n) + frameLen
	}
	size := max(n, int(min(ahead, w.limit-off)))
	if w.keep || cap(w.buf) < size {
		w.buf = make([]byte, size)
	}
	w.buf, w.off = w.buf[:size], off
	if err := readSome(w.f, w.buf, off); err != nil {
		w.buf = w.buf[:0]
		return nil, err
	}
	return w.buf[:n], nil
}

// from returns at least n bytes from off on: those that are read already, where
// they are so many.
func (w *window) from(off int64, n int) ([]byte, error) {
	if have := w.off + int64(len(w.buf)) - off; off >= w.off && have >= int64(n) {
		return w.at(off, int(have))
	}
	return w.at(off, int(min(windowLen, w.limit-off)))
}

// readSome fills b from off on, with zeros where there is nothing to be had.
func readSome(f durable.File, b []byte, off int64) error {
	n, err := f.ReadAt(b, off)
	if err == nil || err == io.EOF {
		clear(b[n:])
		return nil
	}
	if !mediaError(err) {
		return err
	}
	if len(b) <= blockLen {
		clear(b)
		return nil
	}
	for len(b) > 0 {
		part := b[:min(len(b), int(blockLen-off%blockLen))]
		if err := readSome(f, part, off); err != nil {
			return err
		}
		b, off = b[len(part):], off+int64(len(part))
	}
	return nil
}
