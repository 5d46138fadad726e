package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"syscall"

	"sealtail/internal/durable"
)

// Layout of a frame; docs/SPOOL.md draws it.
const (
	frameLen  = 48 // of its head; envelope and rest follow
	markerLen = 4

	kindEntry = 1 // rest = delta
	kindFirst = 2 // rest = ledger ‖ snapshot

	// maxPart bounds envelope and rest each.
	maxPart = 1 << 30
)

// A frame is the head of one frame.
type frame struct {
	kind     byte
	env      int   // bytes
	rest     int   // bytes
	time     int64 // of the append, unix ns
	syncSeg  uint32
	syncOff  int64 // syncSeg is durable up to here, and all before it
	envCRC   uint32
	restCRC  uint32
	off, end int64 // where it lies; not stored
}

// seedAt is what the checksums of a frame at off begin with: they hold in this
// file and at this place only.
func (h *header) seedAt(off int64) uint32 {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(off))
	return crc32.Update(h.seed, castagnoli, b[:])
}

// newFrame makes the head of a frame at off.
func (h *header) newFrame(kind byte, off int64, env, rest []byte) frame {
	seed := h.seedAt(off)
	return frame{
		kind: kind, env: len(env), rest: len(rest),
		envCRC:  crc32.Update(seed, castagnoli, env),
		restCRC: crc32.Update(seed, castagnoli, rest),
		off:     off,
		end:     off + frameSize(len(env), len(rest)),
	}
}

func frameSize(env, rest int) int64 { return frameLen + int64(env) + int64(rest) }

// append appends the encoded head.
func (f *frame) append(b []byte, h *header) []byte {
	start := len(b)
	b = append(b, h.salt[:markerLen]...)
	b = append(b, f.kind, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(f.env))
	b = binary.BigEndian.AppendUint32(b, uint32(f.rest))
	b = binary.BigEndian.AppendUint64(b, uint64(f.time))
	b = binary.BigEndian.AppendUint32(b, f.syncSeg)
	b = binary.BigEndian.AppendUint64(b, uint64(f.syncOff))
	b = binary.BigEndian.AppendUint32(b, f.envCRC)
	b = binary.BigEndian.AppendUint32(b, f.restCRC)
	return binary.BigEndian.AppendUint32(b, crc32.Update(h.seedAt(f.off), castagnoli, b[start:]))
}

// parseFrame decodes the head at off of a frame that must end at limit at the
// latest. A head that verifies says how long the frame is, whatever became of
// its body.
func (h *header) parseFrame(b []byte, off, limit int64) (frame, bool) {
	if len(b) < frameLen || !bytes.Equal(b[:markerLen], h.salt[:markerLen]) ||
		binary.BigEndian.Uint32(b[frameLen-4:]) != crc32.Update(h.seedAt(off), castagnoli, b[:frameLen-4]) {
		return frame{}, false
	}
	env, rest := binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])
	f := frame{
		kind: b[4], env: int(env), rest: int(rest),
		time:    int64(binary.BigEndian.Uint64(b[16:])),
		syncSeg: binary.BigEndian.Uint32(b[24:]),
		syncOff: int64(binary.BigEndian.Uint64(b[28:])),
		envCRC:  binary.BigEndian.Uint32(b[36:]),
		restCRC: binary.BigEndian.Uint32(b[40:]),
		off:     off,
	}
	kind := byte(kindEntry)
	if off == framesFrom {
		kind = kindFirst
	}
	if f.kind != kind || b[5]|b[6]|b[7] != 0 || env > maxPart || rest > maxPart {
		return frame{}, false
	}
	f.end = off + frameSize(f.env, f.rest)
	// What a frame calls durable lies before it, in this segment or the one before.
	mine := f.syncSeg == h.id && f.syncOff >= 0 && f.syncOff <= off
	before := f.syncSeg == h.prev && f.syncOff == h.prevEnd
	if f.end > limit || !mine && !before {
		return frame{}, false
	}
	return f, true
}

// verify checks the body of f.
func (h *header) verify(f *frame, env, rest []byte) bool {
	return h.verifyEnv(f, env) && crc32.Update(h.seedAt(f.off), castagnoli, rest) == f.restCRC
}

// verifyEnv checks the envelope of f alone.
func (h *header) verifyEnv(f *frame, env []byte) bool {
	return crc32.Update(h.seedAt(f.off), castagnoli, env) == f.envCRC
}

// A scanner walks the frames of one segment in order, across damage.
type scanner struct {
	h   *header
	w   window
	off int64
}

func newScanner(h *header, f durable.File, from, limit int64) *scanner {
	return &scanner{h: h, w: window{f: f, limit: limit}, off: from}
}

// An item is one frame, or bytes where none verifies.
type item struct {
	frame     // of a bad item with a good head, that head; else only off and end
	bad       bool
	head      bool   // the head verifies
	env, body []byte // body = rest; valid as long as the window says
}

// next returns the next item. At the limit ok is false.
func (s *scanner) next() (it item, ok bool, err error) {
	if s.off >= s.w.limit {
		return item{}, false, nil
	}
	it, err = s.read()
	s.off = it.end
	return it, err == nil, err
}

func (s *scanner) read() (item, error) {
	off, limit := s.off, s.w.limit
	if limit-off >= frameLen {
		b, err := s.w.at(off, frameLen)
		if err != nil {
			return item{}, err
		}
		if f, ok := s.h.parseFrame(b, off, limit); ok {
			b, err := s.w.at(off, int(f.end-off))
			if err != nil {
				return item{}, err
			}
			it := item{frame: f, head: true, env: b[frameLen : frameLen+f.env], body: b[frameLen+f.env:]}
			it.bad = !s.h.verify(&f, it.env, it.body)
			return it, nil
		}
	}
	end, err := s.find(off + 1)
	return item{frame: frame{off: off, end: end}, bad: true}, err
}

// find returns the offset of the first frame head at or behind from, or the limit.
func (s *scanner) find(from int64) (int64, error) {
	limit := s.w.limit
	for limit-from >= frameLen {
		b, err := s.w.from(from, frameLen)
		if err != nil {
			return 0, err
		}
		i := bytes.Index(b, s.h.salt[:markerLen])
		if i < 0 {
			from += int64(len(b)) - markerLen + 1
			continue
		}
		from += int64(i)
		if limit-from < frameLen {
			break
		}
		if b, err = s.w.at(from, frameLen); err != nil {
			return 0, err
		}
		if _, ok := s.h.parseFrame(b, from, limit); ok {
			return from, nil
		}
		from++
	}
	return limit, nil
}

// mediaError reports whether err says that the disk has lost these bytes, as
// against being out of reach.
func mediaError(err error) bool {
	return errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EUCLEAN) || errors.Is(err, syscall.EBADMSG)
}
