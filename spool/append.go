package spool

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Reasons to wait that are not an error of the system.
const (
	whyMaxBytes = "max_bytes reached"
	whyMinFree  = "free disk below min_free"
)

// Append makes an entry of env and delta durable: once it returns nil, the
// entry is committed. Without room it waits, until ctx ends; ctx bounds the
// waiting alone. Every error but ctx's is final, and the entry may or may not
// be committed then.
//
// env may be nil: such an entry moves the state on and is not handed out.
// snapshot returns the state as of this entry; it is called, inside Append and
// perhaps more than once, when the entry is to begin a segment. Append keeps
// none of the slices.
func (s *Spool) Append(ctx context.Context, env, delta []byte, snapshot func() []byte) error {
	if len(env) > maxPart || len(delta) > maxPart {
		return fmt.Errorf("spool: entry of %d + %d bytes is too long", len(env), len(delta))
	}
	if err := s.appending.lock(ctx); err != nil {
		return err
	}
	defer s.appending.unlock()
	err := s.untilRoom(ctx, len(env) > 0, func() (string, error) {
		return s.commit(env, delta, snapshot)
	})
	if err == nil {
		s.mu.Lock()
		s.stats.Appended++
		s.hintDue = true
		s.mu.Unlock()
		if s.hintIn() == 0 {
			s.writeHint(false)
		}
	}
	return err
}

// commit tries once to make the entry durable. It returns why there is no room,
// or the final error, or neither.
func (s *Spool) commit(env, delta []byte, snapshot func() []byte) (why string, err error) {
	s.mu.Lock()
	switch {
	case s.noInput && len(env) > 0:
		s.mu.Unlock()
		return "", ErrClosed
	case !s.recovered:
		s.mu.Unlock()
		return "", errors.New("spool: Append before Recover")
	}
	seg := s.segs[len(s.segs)-1]
	need := frameSize(len(env), len(delta))
	grown := seg.end > seg.born
	full := grown && seg.end+need > s.limit
	over := s.used+need > s.o.MaxBytes || full && s.used+need+s.overhead > s.o.MaxBytes
	drained := s.stats.Pending == 0
	s.mu.Unlock()
	lowWhy := s.low()
	low := lowWhy != ""

	// Once all is shipped, a fresh segment lets the old ones go. It is how a
	// spool that stands at its limit comes to have room; and where there is
	// nothing left to let go, an entry must not wait for room within max_bytes.
	// Positions alone are let in beyond max_bytes while the segment lasts: files
	// that are found while the spool is full must be known at the next start.
	switch {
	case over && !drained && (len(env) > 0 || full):
		return whyMaxBytes, nil
	case low && !(drained && grown && s.activeAt > s.o.SegmentBytes):
		return lowWhy, nil
	case drained && (over || low) && grown:
		return s.roll(env, snapshot, 0)
	}
	if full {
		reserve := 1 // for Recover
		if drained {
			reserve = 0 // the segment before becomes a spare at once
		}
		if why, err = s.roll(env, snapshot, reserve); why == "" {
			return "", err
		}
		// No room for a new one. What the old one has may be enough.
	}
	why, err = s.write(seg, env, delta)
	if why != "" && drained && grown && !full {
		return s.roll(env, snapshot, 0)
	}
	return why, err
}

// low returns why the disk has no room: it is fuller than it may be, or does not
// tell how full it is. "" = it has room.
func (s *Spool) low() (why string) {
	if s.o.MinFree == 0 {
		return ""
	}
	free, total, err := s.fs.Free(s.dir)
	switch {
	case err != nil:
		return fmt.Sprintf("free disk is not known: %v", err)
	case float64(free) < s.o.MinFree*float64(total):
		return whyMinFree
	}
	return ""
}

// write adds a frame to the active segment.
func (s *Spool) write(seg *segment, env, delta []byte) (why string, err error) {
	f := seg.newFrame(kindEntry, seg.end, env, delta)
	f.time = time.Now().UnixNano()
	f.syncSeg, f.syncOff = seg.id, seg.end
	if s.activeAt, err = s.allocate(s.active, s.activeAt, f.end); err != nil {
		return s.short(err)
	}
	// Where room ends in the middle of it, what was written lies beyond the end
	// of the segment and is written over by the next frame.
	if _, err := s.active.WritevAt(f.off, f.append(make([]byte, 0, frameLen), &seg.header), env, delta); err != nil {
		return s.short(err)
	}
	if err := s.active.SyncData(); err != nil {
		return "", s.fail(fmt.Errorf("sync segment %d: %w", seg.id, err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	seg.end, seg.size = f.end, max(s.activeAt, f.end)
	s.used += f.end - f.off
	s.stats.Written += uint64(f.end - f.off)
	if len(env) > 0 {
		seg.lastEnv = f.end
		s.enqueued(1, int64(len(env)), time.Unix(0, f.time))
		s.data.raise()
	}
	return "", nil
}

// roll begins a segment with the entry as its first frame. All frames of the
// segment before are durable: each was synced before the next was begun.
func (s *Spool) roll(env []byte, snapshot func() []byte, reserve int) (why string, err error) {
	why, err = s.begin(env, snapshot(), &tail{}, reserve)
	if why == "" && err == nil {
		s.housekeep(true)
	}
	return why, err
}
