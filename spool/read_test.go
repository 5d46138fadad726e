package spool_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"sealtail/internal/durable"
	"sealtail/internal/durable/crashfs"
	"sealtail/spool"
)

// readAll returns the names of the envelopes that Read finds.
func readAll(t *testing.T, fsys durable.FS) string {
	t.Helper()
	var names []string
	must(t, spool.Read(fsys, dir, func(env []byte) error {
		name, _, _ := strings.Cut(string(env), ":")
		names = append(names, name)
		return nil
	}))
	return strings.Join(names, " ")
}

// unshipped returns the names of the envelopes that Unshipped finds.
func unshipped(t *testing.T, fsys durable.FS) string {
	t.Helper()
	var names []string
	must(t, spool.Unshipped(fsys, dir, func(env []byte) error {
		name, _, _ := strings.Cut(string(env), ":")
		names = append(names, name)
		return nil
	}))
	return strings.Join(names, " ")
}

// Unshipped goes by the hint; without one all may wait.
func TestUnshipped(t *testing.T) {
	fsys := threeSegments(t)
	if got := unshipped(t, fsys); got != "a b c d e f g h" {
		t.Errorf("got %s", got)
	}
	for n, want := range map[uint64]string{3: "d e f g h", 6: "g h", 8: ""} {
		fsys := threeSegments(t)
		s, _ := openDiary(t, fsys)
		must(t, s.Recover(once))
		served(t, s)
		s.Trim(n)
		must(t, s.Close())
		before := fsys.Ops()
		if got := unshipped(t, fsys); got != want {
			t.Errorf("with %d shipped: got %q, want %q", n, got, want)
		}
		if n := fsys.Ops() - before; n != 0 {
			t.Errorf("Unshipped did %d operations that change something", n)
		}
		if n < 8 {
			must(t, fsys.Remove(filepath.Join(dir, "shipped")))
			if got := unshipped(t, fsys); !strings.HasSuffix(got, want) || len(got) <= len(want) {
				t.Errorf("without a hint: got %q", got)
			}
		}
	}
	if err := spool.Unshipped(fsys, "/none", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

// What Open found and Recover has to make durable is counted apart.
func TestUnrecovered(t *testing.T) {
	fsys := crashfs.New()
	s, _ := openDiary(t, fsys)
	must(t, s.Recover(once))
	for _, name := range []string{"a", "b", "c"} {
		put(t, s, name, 100)
	}
	fsys.Restart()
	s, d := openDiary(t, fsys)
	before := s.Stats()
	if before.Unrecovered == 0 || before.Pending+before.Unrecovered != int64(len(d.envs)) {
		t.Errorf("got %d and %d, want %d in all", before.Pending, before.Unrecovered, len(d.envs))
	}
	must(t, s.Recover(once))
	if st := s.Stats(); st.Unrecovered != 0 || st.Pending != before.Pending+before.Unrecovered {
		t.Errorf("recovered: got %d and %d, want %d and 0", st.Pending, st.Unrecovered, len(d.envs))
	}
}

func TestRead(t *testing.T) {
	fsys := threeSegments(t)
	if got := readAll(t, fsys); got != "a b c d e f g h" {
		t.Errorf("got %s", got)
	}
	// Shipped or not, while it is there.
	s, _ := openDiary(t, fsys)
	served(t, s)
	s.Trim(3)
	must(t, s.Recover(once))
	if got := readAll(t, fsys); got != "a b c d e f g h" {
		t.Errorf("with 3 shipped: got %s", got)
	}
	s.Trim(7)
	if got := readAll(t, fsys); got != "h" {
		t.Errorf("with 7 shipped: got %s", got)
	}
	before := fsys.Ops()
	readAll(t, fsys)
	if n := fsys.Ops() - before; n != 0 {
		t.Errorf("Read did %d operations that change something", n)
	}
	enough := errors.New("enough")
	if err := spool.Read(fsys, dir, func([]byte) error { return enough }); err != enough {
		t.Errorf("got %v, want what yield returned", err)
	}
	if err := spool.Read(fsys, "/none", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

// TestReadTornTail stops at a frame that is not whole, and reads no copy twice.
func TestReadTornTail(t *testing.T) {
	fsys := crashfs.New()
	s, _ := openDiary(t, fsys)
	must(t, s.Recover(once))
	put(t, s, "a", 100)
	put(t, s, "b", 100)
	frames, err := spool.Frames(fsys, dir, 1)
	must(t, err)
	end := frames[2].End
	off, err := spool.WriteFrame(fsys, dir, 1, end, frames[2].Off, []byte("c:"), []byte("c"))
	must(t, err)
	_, err = spool.WriteFrame(fsys, dir, 1, off, frames[2].Off, []byte("d:"), []byte("d"))
	must(t, err)
	flip(t, fsys, 1, off-1)
	if got := readAll(t, fsys); got != "a b" {
		t.Errorf("torn tail: got %s", got)
	}
	fsys.Restart()
	s, _ = openDiary(t, fsys)
	must(t, s.Recover(once)) // copies b
	put(t, s, "e", 100)
	if got := readAll(t, fsys); got != "a b e" {
		t.Errorf("recovered: got %s", got)
	}
}

// TestReadDamaged passes over what does not verify.
func TestReadDamaged(t *testing.T) {
	fsys := threeSegments(t)
	frames, err := spool.Frames(fsys, dir, 1)
	must(t, err)
	flip(t, fsys, 1, frames[2].Off)
	flip(t, fsys, 2, 0)
	flip(t, fsys, 2, spool.BlockLen)
	if got := readAll(t, fsys); got != "a c d h" {
		t.Errorf("got %s", got)
	}
}

// TestReadWhileWritten reads a spool that is appended to, shipped and rolled, its
// files written over, on the real file system: what comes is whole, in order,
// and without a hole between the oldest and what was there when Read began.
func TestReadWhileWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s, err := spool.Open(dir, spool.Options{SegmentBytes: 64 << 10}, &state{})
	must(t, err)
	must(t, s.Recover(t.Context()))
	const entries = 600
	env := func(i int) []byte {
		return bytes.Repeat(binary.BigEndian.AppendUint32(nil, uint32(i)), 100+i%1000)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range entries {
			if err := s.Append(t.Context(), env(i), nil, func() []byte { return make([]byte, 40) }); err != nil {
				t.Error(err)
				return
			}
		}
		s.CloseInput()
	})
	wg.Go(func() {
		for {
			_, upto, err := s.Next(t.Context(), nil, 20000)
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			if upto > 40 {
				s.Trim(upto - 40) // the sink lags
			}
		}
	})
	reads, seen := 0, 0
	for s.Stats().Appended < entries {
		before := s.Stats()
		last := -1
		err := spool.Read(durable.OS, dir, func(b []byte) error {
			i := int(binary.BigEndian.Uint32(b))
			if !bytes.Equal(b, env(i)) {
				return fmt.Errorf("envelope %d is garbled", i)
			}
			if last >= 0 && i != last+1 && i > last && uint64(last) > s.Stats().Trimmed {
				return fmt.Errorf("envelope %d follows %d", i, last)
			}
			if i <= last {
				return fmt.Errorf("envelope %d follows %d", i, last)
			}
			last = i
			seen++
			return nil
		})
		must(t, err)
		if uint64(last+1) < before.Appended {
			t.Errorf("read up to %d, though %d were there before", last, before.Appended)
		}
		reads++
	}
	wg.Wait()
	must(t, s.Close())
	t.Logf("%d reads of %d envelopes while %d were appended in %d segments", reads, seen, entries, s.Stats().Rolls)
}

// TestDrainers has several goroutines take and trim while one appends.
func TestDrainers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s, err := spool.Open(dir, spool.Options{SegmentBytes: 32 << 10, MaxBytes: 256 << 10, MinFree: 0.0001}, &state{})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var (
		mu    sync.Mutex
		got   []int
		done  = map[uint64]bool{}
		upto_ uint64
		wg    sync.WaitGroup
	)
	for range 3 {
		wg.Go(func() {
			var buf []byte
			for {
				envs, upto, err := s.Next(ctx, buf, 3000)
				if err == io.EOF {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				buf = envs[0][:0]
				mu.Lock()
				for i, env := range envs {
					got = append(got, int(binary.BigEndian.Uint32(env)))
					done[upto-uint64(len(envs)-1-i)] = true
				}
				for done[upto_+1] { // what is contiguous
					upto_++
				}
				s.Trim(upto_)
				mu.Unlock()
				s.Stats()
				s.Damages()
			}
		})
	}
	must(t, s.Recover(ctx))
	const entries = 1500
	for i := range entries {
		env := make([]byte, 4+i%2000)
		binary.BigEndian.PutUint32(env, uint32(i))
		must(t, s.Append(ctx, env, env[:4], func() []byte { return make([]byte, 40) }))
	}
	s.CloseInput()
	wg.Wait()
	cancel()
	slices.Sort(got)
	for i := range entries {
		if i >= len(got) || got[i] != i {
			t.Fatalf("envelope %d is missing or there twice", i)
		}
	}
	if st := s.Stats(); st.Pending != 0 || st.Segments != 1 || st.Trimmed != entries {
		t.Errorf("%+v", st)
	}
	must(t, s.Close())
}

// TestTrimWhileNextReads trims the last envelope of a segment in which Next is
// still reading: the segment goes later, and Next is not disturbed.
func TestTrimWhileNextReads(t *testing.T) {
	fsys := crashfs.New()
	r := started(t, spool.Options{FS: fsys, SegmentBytes: 24 << 10})
	must(t, r.append(newEntry(100, 10)))
	_, err := r.take(1)
	must(t, err)
	for r.Stats().Segments == 1 {
		must(t, r.append(newEntry(-1, 1000)))
	}
	must(t, r.append(newEntry(100, 10)))
	reading, trimmed := make(chan bool), make(chan bool)
	var once sync.Once
	fsys.Inject(func(op crashfs.Op) error {
		if op.Kind == crashfs.Read && op.Name == spool.SegName(dir, 1) {
			once.Do(func() {
				close(reading)
				<-trimmed
			})
		}
		return nil
	})
	done := make(chan error)
	go func() {
		_, err := r.take(1)
		done <- err
	}()
	<-reading
	r.Trim(1)
	if n := r.Stats().Segments; n != 2 {
		t.Errorf("%d segments while Next reads the first of 2", n)
	}
	close(trimmed)
	must(t, <-done)
	r.Trim(2)
	if n := r.Stats().Segments; n != 1 {
		t.Errorf("%d segments when all is shipped", n)
	}
}

// What is parked takes no more of the disk than what waits.
func TestParkIsBounded(t *testing.T) {
	fsys := crashfs.New()
	r := started(t, spool.Options{FS: fsys, MaxBytes: 64 << 10})
	if _, err := r.Park(make([]byte, 40<<10), "first"); err != nil {
		t.Fatal(err)
	}
	name, err := r.Park(make([]byte, 30<<10), "second")
	if !durable.NoRoom(err) || !strings.Contains(err.Error(), "rejected holds 40966 bytes of max_bytes = 65536, move out what is there") {
		t.Fatalf("got %q, %v; want no room", name, err)
	}
	list, err := fsys.ReadDir(filepath.Join(dir, "rejected"))
	must(t, err)
	for _, e := range list {
		must(t, fsys.Remove(filepath.Join(dir, "rejected", e.Name())))
	}
	_, err = r.Park(make([]byte, 30<<10), "second")
	must(t, err)

	fsys = crashfs.New()
	r = started(t, spool.Options{FS: fsys, MinFree: 0.5})
	must(t, r.append(newEntry(10, 10)))
	fill(fsys)
	if _, err := r.Park([]byte("x"), "low"); !durable.NoRoom(err) || !strings.Contains(err.Error(), "min_free") {
		t.Errorf("got %v, want no room below min_free", err)
	}
}

func TestH74_Park(t *testing.T) {
	fsys := crashfs.New()
	r := started(t, spool.Options{FS: fsys})
	var names []string
	for _, env := range []string{"one", "two", "one"} {
		name, err := r.Park([]byte(env), "too "+env)
		must(t, err)
		names = append(names, name)
		for i := range uint64(5) {
			s := fsys.Survivor(newRand(i))
			if got, err := durable.ReadFile(s, name, 100); err != nil || string(got) != env {
				t.Errorf("parked %q, holds %q, %v", env, got, err)
			}
			if got, err := durable.ReadFile(s, strings.TrimSuffix(name, ".se1")+".why", 100); err != nil || string(got) != "too "+env+"\n" {
				t.Errorf("parked %q for %q, %v", env, got, err)
			}
		}
	}
	if names[0] != names[2] || names[0] == names[1] {
		t.Errorf("names %v", names)
	}
	if filepath.Dir(names[0]) != filepath.Join(dir, "rejected") || r.Stats().Parked != 3 {
		t.Errorf("name %s, %d parked", names[0], r.Stats().Parked)
	}
	fill(fsys)
	if _, err := r.Park(make([]byte, 10000), "no room"); !durable.NoRoom(err) {
		t.Errorf("got %v, want no room", err)
	}
	must(t, r.append(newEntry(10, 10)))
}
