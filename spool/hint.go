package spool

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"time"

	"sealtail/internal/durable"
)

// The hint: what was shipped, what is durable, CRC of both. Each is segment,
// offset, CRC; the latter begins with the salt of the segment it speaks of, so it
// says nothing of any other, whatever became of the directory. The CRC of both
// lets a hint accuse: of segments that are gone.
const (
	claimLen  = 16
	hintLen   = 2*claimLen + 4
	hintEvery = time.Second
)

// A hint is what the file of that name says.
type hint struct {
	whole           bool    // its CRC is right
	shipped, synced claimed // all envelopes before are acknowledged; all bytes before are durable
}

// A claimed place is one of a segment that may not be there: then seg is nil.
type claimed struct {
	place
	id  uint32
	off int64
}

func (p place) appendClaim(b []byte) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint32(b, p.seg.id)
	b = binary.BigEndian.AppendUint64(b, uint64(p.off))
	return binary.BigEndian.AppendUint32(b, crc32.Update(p.seg.seed, castagnoli, b[start:]))
}

func appendHint(b []byte, shipped, synced place) []byte {
	start := len(b)
	b = synced.appendClaim(shipped.appendClaim(b))
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func parseClaim(b []byte, segs []*segment) claimed {
	c := claimed{id: binary.BigEndian.Uint32(b), off: int64(binary.BigEndian.Uint64(b[4:]))}
	for _, seg := range segs {
		if seg.id == c.id && seg.readable && c.off >= framesFrom &&
			binary.BigEndian.Uint32(b[12:]) == crc32.Update(seg.seed, castagnoli, b[:12]) {
			c.place = place{seg, c.off}
		}
	}
	return c
}

func parseHint(b []byte, segs []*segment) hint {
	if len(b) != hintLen || binary.BigEndian.Uint32(b[2*claimLen:]) != crc32.Checksum(b[:2*claimLen], castagnoli) {
		return hint{}
	}
	return hint{true, parseClaim(b[:claimLen], segs), parseClaim(b[claimLen:2*claimLen], segs)}
}

// misses reports whether the hint says that the segment id, which had end bytes
// and is not there, was never shipped whole.
func (h *hint) misses(id uint32, end int64) bool {
	return h.whole && (h.shipped.id < id || h.shipped.id == id && h.shipped.off < end)
}

// readHint reads the hint in dir. Without a whole one nothing is known.
func readHint(fsys durable.FS, dir string, segs []*segment) hint {
	b, err := durable.ReadFile(fsys, filepath.Join(dir, shippedName), hintLen)
	if err != nil {
		return hint{}
	}
	return parseHint(b, segs)
}

// newHint encodes the hint as of now; nil = there is no segment. s.mu is held.
// Segments that may go do not count, so that it never names one as the oldest
// that is going.
func (s *Spool) newHint() []byte {
	for _, first := range s.segs {
		if first.passed {
			continue
		}
		shipped, last := s.shipped, s.segs[len(s.segs)-1]
		if shipped.seg == nil || shipped.seg.id < first.id {
			shipped = place{first, framesFrom}
		}
		return appendHint(nil, shipped, place{last, last.end})
	}
	return nil
}

// hintIn returns in how long the hint is to be written; -1 = nothing is new.
func (s *Spool) hintIn() time.Duration {
	s.mu.Lock()
	due := s.hintDue && !s.fresh
	s.mu.Unlock()
	if !due {
		return -1
	}
	s.hintMu.Lock()
	defer s.hintMu.Unlock()
	return max(0, hintEvery-time.Since(s.hintTime))
}

// writeHint writes the hint, if there is news and it is time or last is set. A
// hint that cannot be written costs a second sending, no more.
func (s *Spool) writeHint(last bool) {
	s.hintMu.Lock()
	defer s.hintMu.Unlock()
	if s.hintShut || !last && time.Since(s.hintTime) < hintEvery {
		return
	}
	s.mu.Lock()
	if !s.hintDue || s.fresh {
		s.mu.Unlock()
		return
	}
	b := s.newHint()
	s.hintDue = false
	s.mu.Unlock()
	_ = s.putHint(b)
}

// putHint writes a hint in place. s.hintMu is held.
func (s *Spool) putHint(b []byte) error {
	s.hintTime = time.Now()
	if b == nil {
		return nil
	}
	if s.hintFile == nil {
		f, err := s.fs.OpenFile(filepath.Join(s.dir, shippedName), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		s.hintFile = f
	}
	s.hintWhole = true // maybe
	_, err := s.hintFile.WriteAt(b, 0)
	return err
}

// syncHint writes the hint durably. Without room for it, and with none on disk
// that could accuse, it does without.
func (s *Spool) syncHint() error {
	s.hintMu.Lock()
	defer s.hintMu.Unlock()
	s.mu.Lock()
	b := s.newHint()
	s.hintDue = false
	s.mu.Unlock()
	if s.hintShut {
		return ErrClosed
	}
	if b == nil {
		return nil
	}
	whole := s.hintWhole
	if err := s.putHint(b); err != nil {
		if durable.NoRoom(err) && s.hintFile == nil && !whole {
			return nil
		}
		return err
	}
	if err := s.hintFile.SyncData(); err != nil {
		return s.fail(err)
	}
	if s.hintNamed {
		return nil
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return s.fail(err)
	}
	s.hintNamed = true
	return nil
}
