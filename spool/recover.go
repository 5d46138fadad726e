package spool

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"syscall"
	"time"

	"sealtail/internal/durable"
)

// A tail is the valid frames of the last segment that may not be durable.
type tail struct {
	seg      *segment
	from, to int64
	lastEnv  int64 // end of the last of its frames with an envelope
	envs     int64
	envBytes int64
	oldest   time.Time
}

func (t *tail) len() int64 { return t.to - t.from }

// Recover builds a fresh segment for what will be appended: a first frame as of
// what is known to be durable, and copies of the valid frames behind that. It
// waits for room, until ctx ends; then it can be called again. Once it returns
// nil, everything the State was told of by Open is durable.
func (s *Spool) Recover(ctx context.Context) error {
	if err := s.appending.lock(ctx); err != nil {
		return err
	}
	defer s.appending.unlock()
	s.mu.Lock()
	done, err := s.recovered, s.err
	s.mu.Unlock()
	if done || err != nil {
		return err
	}
	err = s.untilRoom(ctx, true, func() (string, error) {
		return s.begin(nil, s.base, &s.tail, 0)
	})
	if err != nil {
		return err
	}
	s.base, s.tail = nil, tail{}
	if err := s.syncHint(); err != nil && !durable.NoRoom(err) {
		return s.fail(err)
	}
	s.housekeep(true)
	return nil
}

// begin builds the segment behind the last one and makes it the active one. Its
// first frame holds env and snapshot; copies of t follow. It leaves reserve
// spares alone. It returns either why there is no room for it, or the final
// error; in both cases the segment does not exist.
func (s *Spool) begin(env, snapshot []byte, t *tail, reserve int) (why string, err error) {
	s.mu.Lock()
	id := s.newest // none gets the number of one that was lost
	var prev uint32
	var prevEnd int64
	var passed []*segment // without an envelope: all they say is in the snapshot
	for i := len(s.segs) - 1; i >= 0; i-- {
		seg := s.segs[i]
		id = max(id, seg.id)
		if seg.lastEnv > 0 {
			prev, prevEnd = seg.id, seg.end
			break
		}
		passed = append(passed, seg)
	}
	for len(s.ledger) > 0 && len(s.segs) > 0 && s.ledger[0].id < s.segs[0].id && s.ledger[0].id != s.segs[0].prev {
		s.ledger = s.ledger[1:] // nobody will meet it again
	}
	rest := appendLedger(nil, s.ledger)
	s.mu.Unlock()
	rest = append(rest, snapshot...)
	if id == math.MaxUint32 || len(rest) > maxPart {
		return "", s.fail(fmt.Errorf("no segment can follow %d with a snapshot of %d bytes", id, len(snapshot)))
	}

	h := newHeader(id+1, prev, prevEnd)
	first := h.newFrame(kindFirst, framesFrom, env, rest)
	first.time = time.Now().UnixNano()
	first.syncSeg, first.syncOff = prev, prevEnd
	h.copied = t.len()
	h.born = first.end + h.copied

	// Nothing of this file counts before it has its final name, and it gets that
	// only when all of it is durable.
	f, size, err := s.newFile(h.id, h.born, reserve)
	if err != nil {
		return s.short(err)
	}
	_, err = f.WritevAt(0, first.append(h.append(nil), &h), env, rest)
	if err == nil && t.len() > 0 {
		err = s.copyTail(f, &h, first.end, t)
	}
	if err != nil {
		f.Close()
		if durable.NoRoom(err) {
			if gerr := s.giveUp(f.Name(), size); gerr != nil {
				err = gerr
			}
		}
		return s.short(err)
	}
	name := segName(s.dir, h.id, segSuffix)
	if err := f.SyncData(); err != nil {
		f.Close()
		return "", s.fail(err)
	}
	if err := s.fs.Rename(f.Name(), name); err != nil {
		f.Close()
		return s.short(err)
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		f.Close()
		return "", s.fail(fmt.Errorf("sync directory %s: %w", s.dir, err))
	}

	seg := &segment{header: h, readable: true, first: true, size: max(size, h.born), end: h.born}
	if len(env) > 0 {
		seg.lastEnv = first.end
	}
	if t.lastEnv > 0 {
		seg.lastEnv = t.lastEnv - t.from + first.end
	}
	old := s.active
	s.active, s.activeAt = f, size
	s.mu.Lock()
	s.segs = append(s.segs, seg)
	for _, old := range passed {
		old.passed = true
	}
	s.recovered, s.fresh = true, false
	s.used += seg.end
	s.limit = max(s.o.SegmentBytes, snapshotShare*int64(len(rest)))
	s.overhead = framesFrom + int64(len(rest))
	s.stats.Rolls++
	s.stats.Written += uint64(seg.end)
	if s.cur.seg == nil {
		s.cur.place = place{seg, framesFrom}
	}
	switch {
	case t.envs > 0:
		s.stats.Unrecovered = 0
		s.enqueued(t.envs, t.envBytes, t.oldest)
	case len(env) > 0:
		s.enqueued(1, int64(len(env)), time.Unix(0, first.time))
	}
	s.data.raise()
	s.mu.Unlock()
	if old != nil {
		if err := old.Close(); err != nil {
			return "", s.fail(err)
		}
	}
	return "", nil
}

// newFile opens the file that becomes segment id, of at least born bytes, with
// room allocated ahead where there is some.
func (s *Spool) newFile(id uint32, born int64, reserve int) (f durable.File, size int64, err error) {
	if id == 1 {
		if err := durable.MkdirAll(s.fs, s.dir, 0o700); err != nil {
			return nil, 0, err
		}
	}
	name := segName(s.dir, id, newSuffix)
	if err := s.takeSpare(name, reserve); err != nil {
		return nil, 0, err
	}
	// Without O_EXCL: an attempt that found no room may have left one, of any content.
	f, err = s.fs.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil {
		size, err = s.allocate(f, info.Size(), born)
	}
	if err != nil {
		f.Close()
		if durable.NoRoom(err) {
			if gerr := s.giveUp(name, size); gerr != nil {
				err = gerr
			}
		}
		return nil, 0, err
	}
	return f, size, nil
}

// allocate sees to it that f, which is size bytes long, has room up to need, and
// a segment's more where there is so much. It returns the size of f.
func (s *Spool) allocate(f durable.File, size, need int64) (int64, error) {
	if need <= size || s.noAlloc {
		return size, nil
	}
	want := (need + s.o.SegmentBytes - 1) / s.o.SegmentBytes * s.o.SegmentBytes
	err := f.Allocate(want)
	if durable.NoRoom(err) {
		want = need
		err = f.Allocate(want)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		s.noAlloc = true
		return size, nil
	}
	if err != nil {
		return size, err
	}
	return want, nil
}

// copyTail writes the frames of t to f from off on. They keep their lengths.
func (s *Spool) copyTail(f durable.File, h *header, off int64, t *tail) error {
	in, err := s.fs.OpenFile(segName(s.dir, t.seg.id, segSuffix), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	for sc := newScanner(&t.seg.header, in, t.from, t.to); ; {
		it, ok, err := sc.next()
		if err != nil || !ok {
			return err
		}
		if it.bad {
			return fmt.Errorf("segment %d, frame at %d: changed since it was opened", t.seg.id, it.off)
		}
		c := h.newFrame(kindEntry, off, it.env, it.body)
		c.time = it.time
		c.syncSeg, c.syncOff = h.prev, h.prevEnd
		if _, err := f.WritevAt(off, c.append(nil, h), it.env, it.body); err != nil {
			return err
		}
		off = c.end
	}
}

// enqueued counts envelopes that became durable. s.mu is held.
func (s *Spool) enqueued(n, bytes int64, oldest time.Time) {
	if s.stats.Pending == int64(len(s.marks)) {
		s.unserved = oldest
	}
	s.stats.Pending += n
	s.stats.PendingBytes += bytes
}

// short sorts an error: lack of room is a reason to wait, all else is final.
func (s *Spool) short(err error) (why string, final error) {
	if !durable.NoRoom(err) {
		return "", s.fail(err)
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error(), nil
	}
	return err.Error(), nil
}
