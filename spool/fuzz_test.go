package spool_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"sealtail/internal/durable/crashfs"
	"sealtail/spool"
)

var salt = [16]byte{1, 2, 3, 4, 5, 6, 7, 8}

// FuzzHeader decodes headers: what parses is what Append writes.
func FuzzHeader(f *testing.F) {
	b := spool.NewHeader(7, 9000, salt).Append(nil)
	f.Add(b, uint32(7))
	f.Add(b[:spool.HeaderLen], uint32(7))
	f.Add(b[spool.BlockLen:], uint32(7))
	f.Add([]byte{}, uint32(0))
	f.Fuzz(func(t *testing.T, b []byte, id uint32) {
		h, err := spool.ParseHeader(b, id)
		if err != nil {
			return
		}
		again := h.Append(nil)[:spool.HeaderLen]
		if !bytes.HasPrefix(b, again) && (len(b) < spool.BlockLen || !bytes.HasPrefix(b[spool.BlockLen:], again)) {
			t.Errorf("parsed, but written as %x", again)
		}
	})
}

// FuzzFrame decodes heads of frames: what parses is written as the same bytes, at
// that place, in that segment and at no other.
//
// Checksums are put right first, so that the rest of a head comes under test.
func FuzzFrame(f *testing.F) {
	h := spool.NewHeader(7, 9000, salt)
	f.Add(h.AppendFrame(nil, false, 10000, 9000, []byte("envelope"), []byte("delta")), int64(10000))
	f.Add(h.AppendFrame(nil, true, spool.FramesFrom, 0, nil, []byte("snapshot")), int64(spool.FramesFrom))
	f.Add(make([]byte, spool.FrameLen), int64(0))
	other := spool.NewHeader(7, 9000, [16]byte{1, 2, 3, 4, 9})
	f.Fuzz(func(t *testing.T, b []byte, off int64) {
		off &= 1<<40 - 1
		b = h.FixFrame(b, off)
		again, ok := h.ReparseFrame(b, off, 1<<40)
		if !ok {
			return
		}
		if !bytes.HasPrefix(b, again) {
			t.Errorf("parsed, but written as %x", again)
		}
		if _, ok := h.ReparseFrame(b, off+1, 1<<40); ok {
			t.Error("also parsed one byte further on")
		}
		if _, ok := other.ReparseFrame(b, off, 1<<40); ok {
			t.Error("also parsed under another salt")
		}
	})
}

// FuzzLedger decodes what a first frame holds.
func FuzzLedger(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 0, 's'})
	f.Add(append([]byte{0, 0, 0, 1}, make([]byte, 25)...))
	f.Add([]byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		if again, ok := spool.Reledger(b); ok && !bytes.Equal(b, again) {
			t.Errorf("parsed, but written as %x", again)
		}
	})
}

// FuzzHint decodes hints: one of another length, segment or salt is none.
func FuzzHint(f *testing.F) {
	h := spool.NewHeader(7, 9000, salt)
	f.Add(h.Hint(9000), int64(1<<20))
	f.Add(h.Hint(9000), int64(8999))
	f.Add(h.Hint(1), int64(1<<20))
	f.Add([]byte{}, int64(0))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		again, ok := h.Rehint(b, size)
		if !ok {
			return
		}
		if !bytes.Equal(b, again) {
			t.Errorf("parsed, but written as %x", again)
		}
		if off := int64(binary.BigEndian.Uint64(b[4:])); off < spool.FramesFrom {
			t.Errorf("offset %d", off)
		}
	})
}

// FuzzScan walks frames with bytes changed, removed and put between them: the
// items cover all of it without overlap, and good ones are frames that were
// written, where they were written.
func FuzzScan(f *testing.F) {
	f.Add([]byte("some bytes"), uint16(0), uint16(0), uint16(0))
	f.Add([]byte{0}, uint16(60), uint16(1), uint16(1))
	f.Add([]byte{1, 2, 3, 4}, uint16(100), uint16(0), uint16(30))
	f.Add([]byte{1, 2, 3, 4, 1, 0, 0, 0}, uint16(200), uint16(8), uint16(2))
	h := spool.NewHeader(7, 9000, salt)
	type span struct{ off, end int64 }
	good := h.Append(nil)
	written := map[span]string{}
	for i, env := range []string{"", "", "envelope", "another envelope", "", "x"} {
		off := int64(len(good))
		good = h.AppendFrame(good, i == 0, off, off, []byte(env), []byte("delta"))
		written[span{off, int64(len(good))}] = env
	}
	f.Fuzz(func(t *testing.T, put []byte, at, cut, zeros uint16) {
		i := spool.FramesFrom + int(at)%(len(good)-spool.FramesFrom)
		b := append(bytes.Clone(good[:i]), put...)
		b = append(b, good[min(len(good), i+int(cut)):]...)
		b = append(b, make([]byte, zeros)...)
		fsys := crashfs.New()
		file, err := fsys.OpenFile("f", os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt(b, 0); err != nil {
			t.Fatal(err)
		}
		at_ := int64(spool.FramesFrom)
		err = spool.ScanBytes(h, file, at_, int64(len(b)), func(off, end int64, bad bool, env, rest []byte) {
			if off != at_ || end <= off {
				t.Fatalf("item from %d to %d, the one before ended at %d", off, end, at_)
			}
			at_ = end
			if bad {
				return
			}
			if want, ok := written[span{off, end}]; !ok || string(env) != want || string(rest) != "delta" {
				t.Fatalf("a frame from %d to %d that was never written: %q, %q", off, end, env, rest)
			}
		})
		if err != nil || at_ != int64(len(b)) {
			t.Fatalf("ended at %d of %d: %v", at_, len(b), err)
		}
	})
}

// FuzzOpen opens a spool one file of which was changed: it never panics, serves
// nothing that was not appended, and goes on.
func FuzzOpen(f *testing.F) {
	f.Add(uint8(1), uint32(0), []byte{0}, false)
	f.Add(uint8(2), uint32(spool.FramesFrom), []byte("garbage"), false)
	f.Add(uint8(3), uint32(9000), []byte{}, true)
	f.Add(uint8(0), uint32(3), []byte{9}, false)
	var before *crashfs.FS
	known := map[string]bool{}
	f.Fuzz(func(t *testing.T, which uint8, off uint32, put []byte, truncate bool) {
		if before == nil {
			before = threeSegments(t)
			s, _ := openDiary(t, before)
			envs, _, err := s.Next(once, nil, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			for _, env := range envs {
				known[string(env)] = true
			}
			s.Trim(2)
			must(t, s.Close())
		}
		fsys := before.Clone()
		name := dir + "/shipped"
		if which%4 > 0 {
			name = spool.SegName(dir, uint32(which%4))
		}
		file, err := fsys.OpenFile(name, os.O_RDWR, 0)
		must(t, err)
		off %= 30000
		if truncate {
			must(t, file.Truncate(int64(off)))
		} else if _, err := file.WriteAt(put, int64(off)); err != nil {
			t.Fatal(err)
		}
		d := &diary{}
		s, err := spool.Open(dir, spool.Options{FS: fsys, SegmentBytes: 24 << 10}, d)
		if errors.Is(err, spool.ErrNewer) {
			return
		}
		must(t, err)
		must(t, s.Recover(once))
		put_ := []byte("one more")
		must(t, s.Append(once, put_, []byte("z"), func() []byte { return []byte("z") }))
		for {
			envs, upto, err := s.Next(once, nil, 1)
			if errors.Is(err, context.Canceled) {
				t.Fatal("the newest entry did not come")
			}
			must(t, err)
			if string(envs[0]) == string(put_) {
				break
			}
			if !known[string(envs[0])] {
				t.Fatalf("served what was never appended: %.20q", envs[0])
			}
			s.Trim(upto)
		}
		must(t, s.Close())
		must(t, spool.Read(fsys, dir, func(env []byte) error {
			if !known[string(env)] && string(env) != string(put_) {
				t.Errorf("read what was never appended: %.20q", env)
			}
			return nil
		}))
		d = &diary{}
		_, err = spool.Open(dir, spool.Options{FS: fsys, SegmentBytes: 24 << 10}, d)
		must(t, err)
		if d.last != "z" {
			t.Errorf("state is as of %q, want z", d.last)
		}
	})
}
