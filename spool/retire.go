package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"go.uber.org/zap"

	"sealtail/internal/durable"
)

// maxSpares is how many preallocated files are kept: one that only Recover may
// take, and one that goes round, from a segment that was shipped to the next
// one, because to write over a file costs half the fsync of writing a new one.
const maxSpares = 2

func (s *Spool) spareName(i int) string {
	return filepath.Join(s.dir, fmt.Sprintf("%d.spare", i))
}

// freeSlot returns the number of a spare that there is not, or -1. s.mu is held.
func (s *Spool) freeSlot() int {
	for i, is := range s.spares {
		if !is {
			return i
		}
	}
	return -1
}

// takeSpare gives a spare the name name, if there are more than reserve.
func (s *Spool) takeSpare(name string, reserve int) error {
	s.retiring.Lock() // nobody may make a spare of that number before this one has lost its name
	defer s.retiring.Unlock()
	s.mu.Lock()
	slot, n := -1, 0
	for i, is := range s.spares {
		if is {
			slot = i
			n++
		}
	}
	if n <= reserve {
		s.mu.Unlock()
		return nil
	}
	s.spares[slot] = false
	s.mu.Unlock()
	err := s.fs.Rename(s.spareName(slot), name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // somebody took the room; there may be other
	}
	return err
}

// giveUp makes a spare of a file that did not become a segment, or removes it.
func (s *Spool) giveUp(name string, size int64) error {
	s.retiring.Lock()
	defer s.retiring.Unlock()
	s.mu.Lock()
	slot := s.freeSlot()
	s.mu.Unlock()
	if slot < 0 || size != s.o.SegmentBytes {
		return s.remove(name)
	}
	if err := s.fs.Rename(name, s.spareName(slot)); err != nil {
		return s.remove(name)
	}
	s.mu.Lock()
	s.spares[slot] = true
	s.mu.Unlock()
	return nil
}

// remove unlinks name, unless there is no room even for that; then it stays.
func (s *Spool) remove(name string) error {
	err := s.fs.Remove(name)
	if errors.Is(err, fs.ErrNotExist) || durable.NoRoom(err) {
		return nil
	}
	return err
}

// housekeep removes segments that nobody needs, oldest first. With spare, or
// when it removed one, it sees to it that there is a spare. An error is final
// and shows in the next call.
func (s *Spool) housekeep(spare bool) {
	s.retiring.Lock()
	defer s.retiring.Unlock()
	for {
		s.mu.Lock()
		seg := s.retirable()
		s.mu.Unlock()
		if seg == nil {
			break
		}
		if err := s.retire(seg); durable.NoRoom(err) {
			s.log.Warn("segment stays", zap.String("dir", s.dir), zap.Uint32("segment", seg.id), zap.Error(err))
			break
		} else if err != nil {
			_ = s.fail(fmt.Errorf("remove segment %d: %w", seg.id, err))
			return
		}
		spare = true
	}
	if !spare || s.Stats().Spares > 0 {
		return
	}
	if err := s.makeSpare(); err != nil {
		_ = s.fail(fmt.Errorf("make spare: %w", err))
	}
}

// retirable returns a segment that may go, the oldest first: one that a later
// one passes over, or the oldest of all, if all its envelopes are acknowledged
// and a later segment holds a snapshot. s.mu is held.
func (s *Spool) retirable() *segment {
	if s.fresh || s.err != nil {
		return nil
	}
	for i, seg := range s.segs[:max(0, len(s.segs)-1)] {
		done := i == 0 && (seg.lastEnv == 0 || s.shipped.covers(seg.id, seg.lastEnv)) &&
			slices.ContainsFunc(s.segs[1:], func(later *segment) bool { return later.first })
		if !done && !seg.passed || s.cur.seg == seg && s.cur.reading {
			continue // the reader will come by again when it has left
		}
		if s.cur.seg == seg {
			s.cur.moveTo(s.segs[i+1])
		}
		return seg
	}
	return nil
}

// retire takes the name away from a segment, durably.
func (s *Spool) retire(seg *segment) error {
	name := segName(s.dir, seg.id, segSuffix)
	s.mu.Lock()
	slot, passed := s.freeSlot(), seg.passed
	seg.passed = true // for the hint
	s.mu.Unlock()
	var err error
	if !passed { // else none names it
		if err = s.syncHint(); err != nil {
			s.mu.Lock()
			seg.passed = false
			s.mu.Unlock()
			return err
		}
	}
	switch {
	case seg.loose:
		kept := segName(s.dir, seg.id, damagedSuffix)
		if err = s.fs.Rename(name, kept); err == nil {
			s.mu.Lock()
			for i, d := range s.damages {
				if d.Segment == seg.id && d.File == "" {
					s.damages[i].File = kept
				}
			}
			s.mu.Unlock()
		}
		slot = -1
	case slot >= 0 && seg.size == s.o.SegmentBytes:
		err = s.fs.Rename(name, s.spareName(slot))
	default:
		err = s.fs.Remove(name)
		slot = -1
	}
	if errors.Is(err, fs.ErrNotExist) {
		err, slot = nil, -1
	}
	if err != nil {
		return err
	}
	// The next may go only when this one is gone: a hole would look like loss. And
	// a spare may be written over only when it has lost its old name.
	if err := s.fs.SyncDir(s.dir); err != nil {
		return s.fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if slot >= 0 {
		s.spares[slot] = true
	}
	i := slices.Index(s.segs, seg)
	s.segs = slices.Delete(slices.Clone(s.segs), i, i+1)
	s.used -= seg.end
	s.room.raise()
	return nil
}

// makeSpare makes a preallocated file. Without room for it there is none.
func (s *Spool) makeSpare() error {
	name := s.spareName(0)
	f, err := s.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err == nil {
		err = f.Allocate(s.o.SegmentBytes)
		if err == nil {
			if err := f.Sync(); err != nil {
				f.Close()
				return s.fail(err)
			}
		}
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			if rerr := s.remove(name); rerr != nil {
				return rerr
			}
		}
	}
	if durable.NoRoom(err) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return s.fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spares[0] = true
	return nil
}
