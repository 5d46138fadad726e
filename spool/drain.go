package spool

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"sealtail/internal/durable"
)

// A cursor is how far envelopes are handed out. While reading is set it belongs
// to the holder of draining, else to that of Spool.mu.
type cursor struct {
	place
	f       durable.File // open on seg, or nil
	reading bool
}

func (c *cursor) close() {
	if c.f != nil {
		_ = c.f.Close() // it was only read
		c.f = nil
	}
}

// moveTo puts the cursor at the begin of a segment.
func (c *cursor) moveTo(seg *segment) {
	c.close()
	c.place = place{seg, framesFrom}
}

// A mark is an envelope that was handed out.
type mark struct {
	end   place // of its frame
	bytes int64
	time  time.Time
}

// Next hands out the oldest envelopes that were not handed out yet, in order: as
// many as fit in max bytes, at least one, only durable ones. It waits for the
// first. upto is the ordinal of the last, for [Spool.Trim]; envelopes count from
// 1 at each Open. After [Spool.CloseInput], once all are handed out, Next returns
// io.EOF.
//
// The envelopes lie one behind the other in buf, or in a longer array where buf
// has no room; the caller owns either, and envs[0][:0] is all of it.
func (s *Spool) Next(ctx context.Context, buf []byte, max int) (envs [][]byte, upto uint64, err error) {
	if err := s.draining.lock(ctx); err != nil {
		return nil, 0, err
	}
	defer s.draining.unlock()
	for {
		s.mu.Lock()
		wait := s.data.wait()
		s.mu.Unlock()
		envs, upto, short, err := s.take(buf, max)
		if err != nil || len(envs) > 0 {
			return envs, upto, err
		}
		s.housekeep(false) // the cursor may have left a segment that can go
		var timer <-chan time.Time
		if d := s.hintIn(); short {
			timer = time.After(s.o.Retry)
		} else if d >= 0 {
			timer = time.After(d)
		}
		select {
		case <-wait:
		case <-timer:
			s.writeHint(false)
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

// take reads on from the cursor. With short it found too few descriptors.
func (s *Spool) take(buf []byte, max int) (envs [][]byte, upto uint64, short bool, err error) {
	s.mu.Lock()
	if err := s.err; err != nil {
		s.mu.Unlock()
		return nil, 0, false, err
	}
	s.cur.reading = true
	left := s.stats.PendingBytes - s.marked
	s.mu.Unlock()
	var (
		marks []mark
		next  time.Time // of the first envelope that was left
		last  bool      // no envelope follows
	)
	if want := int(min(left, int64(max))); cap(buf) < want {
		buf = make([]byte, 0, want)
	}
	buf = buf[:0]
	for {
		end, more, closed := s.advance()
		if !more {
			last = closed
			break
		}
		if s.cur.f == nil {
			s.cur.f, err = s.fs.OpenFile(segName(s.dir, s.cur.seg.id, segSuffix), os.O_RDONLY, 0)
			if err != nil {
				s.cur.f = nil
				if short = durable.NoRoom(err); short {
					err = nil
				}
				break
			}
		}
		var f frame
		if f, err = s.head(end); err != nil {
			break
		}
		if f.env > 0 {
			from := len(buf)
			if from > 0 && from+f.env > min(max, cap(buf)) {
				next = time.Unix(0, f.time)
				break
			}
			if cap(buf) < f.env {
				buf = make([]byte, 0, f.env)
			}
			buf = buf[:from+f.env]
			if err = s.envelope(&f, buf[from:]); err != nil {
				break
			}
			envs = append(envs, buf[from:])
			marks = append(marks, mark{place{s.cur.seg, f.end}, int64(f.env), time.Unix(0, f.time)})
		}
		s.cur.off = f.end
	}
	if err != nil {
		err = s.fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cur.reading = false
	if err != nil {
		return nil, 0, false, err
	}
	s.marks = append(s.marks, marks...)
	s.marked += int64(len(buf))
	switch {
	case !next.IsZero():
		s.unserved = next
	case s.stats.Pending > int64(len(s.marks)):
		s.unserved = time.Now() // appended while this call was reading
	}
	if len(envs) == 0 && last {
		return nil, 0, false, io.EOF
	}
	return envs, s.trimmed + uint64(len(s.marks)), short, nil
}

// advance moves the cursor over what holds no frames, and returns up to where
// its segment may be read. more is false when it has come to the end; closed says
// that no envelope will follow: what may are positions, which wake nobody.
func (s *Spool) advance() (end int64, more, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.cur.seg != nil {
		for _, sp := range s.cur.seg.bad {
			if sp.from <= s.cur.off && s.cur.off < sp.to {
				s.cur.off = sp.to
			}
		}
		if s.cur.off < s.cur.seg.end {
			return s.cur.seg.end, true, false
		}
		// A segment that is passed over holds no envelope and may be losing its
		// name just now.
		next := slices.Index(s.segs, s.cur.seg) + 1
		for next < len(s.segs) && s.segs[next].passed {
			next++
		}
		if next == len(s.segs) {
			break
		}
		s.cur.moveTo(s.segs[next])
	}
	return 0, false, s.noInput
}

// head reads the head of the frame at the cursor.
func (s *Spool) head(end int64) (frame, error) {
	var b [frameLen]byte
	seg, off := s.cur.seg, s.cur.off
	if err := readSome(s.cur.f, b[:], off); err != nil {
		return frame{}, err
	}
	f, ok := seg.parseFrame(b[:], off, end)
	if !ok {
		return frame{}, errLate(seg, off)
	}
	return f, nil
}

// envelope reads the envelope of the frame at the cursor into env.
func (s *Spool) envelope(f *frame, env []byte) error {
	if err := readSome(s.cur.f, env, f.off+frameLen); err != nil {
		return err
	}
	if !s.cur.seg.verifyEnv(f, env) {
		return errLate(s.cur.seg, f.off)
	}
	return nil
}

// errLate is the error for a frame that was whole when it was opened or
// appended. It is final: the next Open sets the damage aside and tells the
// State, so that what is lost is read again.
func errLate(seg *segment, off int64) error {
	return fmt.Errorf("segment %d, frame at %d: damaged since it was opened", seg.id, off)
}

// Trim says that all envelopes up to the ordinal upto are acknowledged. They are
// not handed out again, and segments that hold no others are removed. What was
// acknowledged shortly before a crash may be handed out again after it.
func (s *Spool) Trim(upto uint64) {
	s.mu.Lock()
	n := 0
	for n < len(s.marks) && s.trimmed < upto && s.err == nil {
		s.shipped = s.marks[n].end
		s.stats.Pending--
		s.stats.PendingBytes -= s.marks[n].bytes
		s.marked -= s.marks[n].bytes
		s.stats.Trimmed++
		s.trimmed++
		n++
	}
	s.marks = s.marks[n:]
	if n > 0 {
		s.hintDue = true
		s.room.raise()
	}
	s.mu.Unlock()
	if n == 0 {
		return
	}
	if s.hintIn() == 0 {
		s.writeHint(false)
	}
	s.housekeep(false)
}
