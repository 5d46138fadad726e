package spool

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"time"

	"sealtail/internal/durable"
)

// The hint of what was shipped: segment, offset, CRC. It is never synced. Its
// checksum begins with the salt of the segment it speaks of, so it says nothing
// about any other, whatever became of the directory.
const (
	hintLen   = 16
	hintEvery = time.Second
)

func (p place) appendHint(b []byte) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint32(b, p.seg.id)
	b = binary.BigEndian.AppendUint64(b, uint64(p.off))
	return binary.BigEndian.AppendUint32(b, crc32.Update(p.seg.seed, castagnoli, b[start:]))
}

// parseHint returns the place that b speaks of, if it is in one of segs.
func parseHint(b []byte, segs []*segment) place {
	if len(b) != hintLen {
		return place{}
	}
	id, off := binary.BigEndian.Uint32(b), int64(binary.BigEndian.Uint64(b[4:]))
	for _, seg := range segs {
		if seg.id == id && seg.readable && off > framesFrom && off <= seg.size &&
			binary.BigEndian.Uint32(b[12:]) == crc32.Update(seg.seed, castagnoli, b[:12]) {
			return place{seg, off}
		}
	}
	return place{}
}

// readHint reads the hint in dir. Without one that fits, nothing was shipped.
func readHint(fsys durable.FS, dir string, segs []*segment) place {
	b, err := durable.ReadFile(fsys, filepath.Join(dir, shippedName), hintLen)
	if err != nil {
		return place{}
	}
	return parseHint(b, segs)
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
	b := s.shipped.appendHint(nil)
	s.hintDue = false
	s.mu.Unlock()
	s.hintTime = time.Now()
	if s.hintFile == nil {
		f, err := s.fs.OpenFile(filepath.Join(s.dir, shippedName), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return
		}
		s.hintFile = f
	}
	_, _ = s.hintFile.WriteAt(b, 0)
}
