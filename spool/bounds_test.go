package spool_test

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"sealtail/internal/durable/crashfs"
	"sealtail/spool"
)

// started opens and recovers a spool.
func started(t *testing.T, o spool.Options) *rig {
	t.Helper()
	r, err := open(o.FS, o, &model{}, 30)
	must(t, err)
	must(t, r.recover())
	return r
}

// later runs fn in a goroutine of the bubble; the channel tells when it is done.
func later(fn func() error) chan error {
	done := make(chan error, 1)
	go func() { done <- fn() }()
	synctest.Wait()
	return done
}

func waits(t *testing.T, done chan error, what string) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-done:
		t.Fatalf("%s: returned %v, should wait", what, err)
	default:
	}
}

// soon wants done at once.
func soon(t *testing.T, done chan error, what string) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-done:
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	default:
		t.Fatalf("%s: still waits", what)
	}
}

func (r *rig) later(e entry) chan error {
	return later(func() error {
		return r.Append(context.Background(), e.env, e.delta, func() []byte { return make([]byte, 100) })
	})
}

// Positions let in past an envelope that waits end no wait.
func TestPositionsPastAnEnvelope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logged := observer.New(zap.InfoLevel)
		r := started(t, spool.Options{FS: crashfs.New(), SegmentBytes: 32 << 10, MaxBytes: 64 << 10, Log: zap.New(log)})
		for {
			if err := r.append(newEntry(5000, 10)); errors.Is(err, context.Canceled) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		logged.TakeAll()
		must(t, r.append(newEntry(-1, 10)))
		if st := r.Stats(); st.Waiting == "" || logged.Len() != 0 {
			t.Errorf("got %+v and %v, want it to wait on, and nothing logged", st, logged.All())
		}
	})
}

// TestH67_MaxBytes fills a spool to its limit: Append waits, and goes on when what
// was shipped has made room.
func TestH67_MaxBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logged := observer.New(zap.InfoLevel)
		fsys := crashfs.New()
		r := started(t, spool.Options{FS: fsys, SegmentBytes: 32 << 10, MaxBytes: 64 << 10, Log: zap.New(log)})
		for {
			err := r.append(newEntry(5000, 10))
			if errors.Is(err, context.Canceled) {
				break
			}
			must(t, err)
		}
		if n := len(logged.TakeAll()); n != 1 {
			t.Errorf("%d lines logged, want 1", n)
		}
		done := r.later(newEntry(5000, 10))
		waits(t, done, "Append at the limit")
		if st := r.Stats(); st.Waiting != "max_bytes reached" || st.Since.IsZero() || st.Segments != 2 || st.Bytes > 64<<10 {
			t.Errorf("%+v", st)
		}
		// Some are shipped, but no segment can go yet.
		_, err := r.take(1)
		must(t, err)
		r.trim()
		time.Sleep(10 * time.Second)
		waits(t, done, "Append with one shipped")
		for range 4 { // the first segment
			_, err := r.take(1)
			must(t, err)
			r.trim()
		}
		soon(t, done, "Append with a segment shipped")
		if st := r.Stats(); st.Waiting != "" || !st.Since.IsZero() || st.Bytes > 64<<10 {
			t.Errorf("%+v", st)
		}
		if got := logged.FilterMessage("spool waits").Len(); got != 0 {
			t.Errorf("%d warnings, want none: the first Append told it, and it went on", got)
		}
		if got := logged.FilterMessage("spool goes on").Len(); got != 1 {
			t.Errorf("%d notes, want 1", got)
		}
	})
}

// TestMaxBytesInOneSegment has a segment that may be longer than the limit: when
// all of it is shipped, a new one lets it go.
func TestMaxBytesInOneSegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := started(t, spool.Options{FS: crashfs.New(), SegmentBytes: 1 << 20, MaxBytes: 40 << 10})
		for r.Stats().Bytes+5100 < 40<<10 {
			must(t, r.append(newEntry(5000, 10)))
		}
		e := newEntry(5000, 10)
		done := r.later(e)
		waits(t, done, "Append at the limit")
		must(t, r.drain(1<<20, false))
		waits(t, done, "Append with all handed out")
		r.trim()
		soon(t, done, "Append with all shipped")
		if st := r.Stats(); st.Segments != 1 || st.Bytes > 20<<10 || st.Rolls != 2 {
			t.Errorf("%+v", st)
		}
		envs, _, err := r.Next(once, nil, 1)
		if err != nil || string(envs[0]) != string(e.env) {
			t.Errorf("the entry that waited: %v", err)
		}
	})
}

// TestEntryLargerThanMaxBytes must not wait for ever.
func TestEntryLargerThanMaxBytes(t *testing.T) {
	r := started(t, spool.Options{FS: crashfs.New(), SegmentBytes: 32 << 10, MaxBytes: 20 << 10})
	for range 3 {
		must(t, r.append(newEntry(50000, 10)))
		if err := r.append(newEntry(1, 1)); !errors.Is(err, context.Canceled) {
			t.Errorf("over the limit: got %v, want to wait", err)
		}
		must(t, r.drain(1, true))
		must(t, r.append(newEntry(-1, 10)))
	}
}

// TestMinFree waits while the disk is fuller than it may be, and looks again by
// itself: room on a disk comes without a sign.
func TestMinFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := crashfs.New()
		fsys.SetCapacity(100 * crashfs.PageSize)
		r := started(t, spool.Options{FS: fsys, SegmentBytes: 32 << 10, MinFree: 0.5, Retry: time.Second})
		other, err := fsys.OpenFile("/other", 0o102, 0o600)
		must(t, err)
		free, _, _ := fsys.Free("/")
		must(t, other.Allocate(int64(free)-50*crashfs.PageSize)) // exactly at the floor
		must(t, r.append(newEntry(100, 10)))
		must(t, other.Allocate(int64(free)-49*crashfs.PageSize))
		start := time.Now()
		done := r.later(newEntry(100, 10))
		waits(t, done, "Append below the floor")
		must(t, r.drain(1, true))
		waits(t, done, "Append below the floor, all shipped")
		time.Sleep(4500 * time.Millisecond)
		must(t, other.Truncate(0))
		waits(t, done, "Append before the next look")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("went on after %v, want 5s", d)
		}
	})
}

// TestH66_FullDisk has no room for a new segment and none in the old one.
func TestH66_FullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := crashfs.New()
		r := started(t, spool.Options{FS: fsys, SegmentBytes: 32 << 10})
		fill(fsys)
		for {
			err := r.append(newEntry(5000, 10))
			if errors.Is(err, context.Canceled) {
				break
			}
			must(t, err)
		}
		if st := r.Stats(); st.Spares != 1 || st.Segments != 1 {
			t.Fatalf("%+v: the spare is for Recover", st)
		}
		done := r.later(newEntry(5000, 10))
		waits(t, done, "Append on a full disk")
		time.Sleep(time.Minute)
		waits(t, done, "Append a minute later")
		if why := r.Stats().Waiting; why != syscall.ENOSPC.Error() {
			t.Errorf("waits for %q", why)
		}
		// Shipping all of it is enough: the spare makes the next segment, the old one
		// the next spare.
		must(t, r.drain(1<<20, true))
		soon(t, done, "Append with all shipped")
		if st := r.Stats(); st.Spares != 1 || st.Segments != 1 {
			t.Errorf("%+v", st)
		}
		if free, _, _ := fsys.Free("/"); free != 0 {
			t.Errorf("%d bytes free: the disk was to be full", free)
		}
	})
}

// TestNoDescriptor has Next find no descriptor: it tries again.
func TestNoDescriptor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := crashfs.New()
		r := started(t, spool.Options{FS: fsys})
		must(t, r.append(newEntry(5000, 10)))
		failNth(fsys, 1, 3, syscall.EMFILE, crashfs.Open)
		start := time.Now()
		envs, _, err := r.Next(context.Background(), nil, 1)
		if len(envs) != 1 || err != nil || time.Since(start) != 3*time.Second {
			t.Errorf("%d envelopes, %v, after %v", len(envs), err, time.Since(start))
		}
	})
}

// TestNextWaits wakes drainers for what they wait for, and for nothing else.
func TestNextWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := started(t, spool.Options{FS: crashfs.New()})
		next := func() chan error {
			return later(func() error {
				_, _, err := r.Next(context.Background(), nil, 1)
				return err
			})
		}
		one, two := next(), next()
		waits(t, one, "Next on an empty spool")
		must(t, r.append(newEntry(-1, 10)))
		waits(t, one, "Next with a positions-only entry")
		waits(t, two, "Next with a positions-only entry")
		must(t, r.append(newEntry(1, 10)))
		must(t, r.append(newEntry(1, 10)))
		soon(t, one, "first Next")
		soon(t, two, "second Next")

		one, two = next(), next()
		r.CloseInput()
		for _, done := range []chan error{one, two} {
			if err := <-done; err != io.EOF {
				t.Errorf("after CloseInput: %v, want EOF", err)
			}
		}
		must(t, r.append(newEntry(-1, 10)))
		if err := r.append(newEntry(1, 1)); !errors.Is(err, spool.ErrClosed) {
			t.Errorf("Append after CloseInput: %v, want ErrClosed", err)
		}
		r.Trim(2)
		must(t, r.Close())
		must(t, r.Close())
		if _, _, err := r.Next(context.Background(), nil, 1); !errors.Is(err, spool.ErrClosed) {
			t.Errorf("Next after Close: %v, want ErrClosed", err)
		}
	})
}

// TestCloseInputDrains hands everything out before io.EOF, also what only Recover
// makes durable.
func TestCloseInputDrains(t *testing.T) {
	fsys := crashfs.New()
	r := started(t, spool.Options{FS: fsys})
	for range 3 {
		must(t, r.append(newEntry(100, 10)))
	}
	m := r.model
	fsys.Restart()
	r, err := open(fsys, spool.Options{}, m, 30)
	must(t, err)
	must(t, r.recover())
	r.CloseInput()
	for want := range 3 {
		if n, err := r.take(1); n != 1 || err != nil {
			t.Fatalf("envelope %d: %v", want, err)
		}
	}
	if _, err := r.take(1); err != io.EOF {
		t.Errorf("got %v, want EOF", err)
	}
}

// Next does not wait for the positions that are appended just when it has come to
// the end after CloseInput.
func TestPositionsAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := started(t, spool.Options{FS: crashfs.New()})
		r.CloseInput()
		added := make(chan error, 1)
		go func() {
			var err error
			for n := 0; n < 20_000 && err == nil; n++ {
				err = r.append(newEntry(-1, 10))
			}
			added <- err
		}()
		for len(added) == 0 {
			began := time.Now()
			if _, _, err := r.Next(t.Context(), nil, 1); err != io.EOF || time.Since(began) != 0 {
				t.Fatalf("got %v after %v, want EOF at once", err, time.Since(began))
			}
		}
		must(t, <-added)
	})
}

// TestCloseWakes ends whoever waits.
func TestCloseWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := crashfs.New()
		r := started(t, spool.Options{FS: fsys, MaxBytes: 9000})
		must(t, r.append(newEntry(1000, 10)))
		_, err := r.take(1)
		must(t, err)
		next := later(func() error { _, _, err := r.Next(context.Background(), nil, 1); return err })
		add := r.later(newEntry(1000, 10))
		waits(t, add, "Append")
		waits(t, next, "Next")
		must(t, r.Close())
		for _, done := range []chan error{next, add} {
			if err := <-done; !errors.Is(err, spool.ErrClosed) {
				t.Errorf("got %v, want ErrClosed", err)
			}
		}
	})
}

// TestContextEnds ends waiting with the context's error, and waiting alone.
func TestContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := crashfs.New()
		fsys.SetCapacity(0)
		r, err := open(fsys, spool.Options{}, &model{}, 30)
		must(t, err)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		start := time.Now()
		if err := r.Recover(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 5*time.Second {
			t.Errorf("Recover: %v after %v", err, time.Since(start))
		}
		if err := r.Append(once, nil, nil, nil); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("Append before Recover: %v", err)
		}
		fsys.SetCapacity(1 << 30)
		must(t, r.recover())
		must(t, r.append(newEntry(10, 10))) // its context has ended, but it need not wait
		if _, err := r.take(1); err != nil {
			t.Error(err)
		}
		if _, _, err := r.Next(once, nil, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("Next: %v", err)
		}
	})
}

// TestHint writes what was shipped at most once a second, without further calls,
// and when the spool is closed.
func TestHint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := crashfs.New()
		var writes []time.Duration
		syncs := 0
		start := time.Now()
		fsys.Inject(func(op crashfs.Op) error {
			if op.Kind == crashfs.Write && strings.HasSuffix(op.Name, "shipped") {
				writes = append(writes, time.Since(start))
			}
			if op.Kind == crashfs.Sync && strings.HasSuffix(op.Name, "shipped") {
				syncs++
			}
			return nil
		})
		r := started(t, spool.Options{FS: fsys})
		for range 10 {
			must(t, r.append(newEntry(10, 10)))
			_, err := r.take(1)
			must(t, err)
			r.trim()
			time.Sleep(300 * time.Millisecond)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		r.Next(ctx, nil, 1) // idle
		must(t, r.append(newEntry(10, 10)))
		_, err := r.take(1)
		must(t, err)
		r.trim()
		must(t, r.append(newEntry(10, 10)))
		_, err = r.take(1)
		must(t, err)
		r.trim()
		must(t, r.Close())
		ms := time.Millisecond
		want := []time.Duration{0, 1200 * ms, 2400 * ms, 3400 * ms, 13000 * ms, 13000 * ms}
		if !slices.Equal(writes, want) {
			t.Errorf("written at %v, want %v", writes, want)
		}
		if syncs != 1 { // by Recover; then only before a segment goes
			t.Errorf("synced %d times, want once", syncs)
		}
		m := r.model
		fsys.Restart()
		if r, err = open(fsys, spool.Options{}, m, 30); err != nil {
			t.Fatal(err)
		}
		if p := r.Stats().Pending; p != 0 {
			t.Errorf("%d envelopes would be sent again", p)
		}
	})
}

// TestNoPileUp starts a spool again and again: segments without an envelope go,
// also behind one whose envelope cannot be shipped.
func TestNoPileUp(t *testing.T) {
	fsys, m := crashfs.New(), &model{}
	for i := range 20 {
		r, err := open(fsys, small, m, 30)
		must(t, err)
		must(t, r.recover())
		if i == 10 {
			must(t, r.append(newEntry(100, 10)))
		}
		for range i % 3 * 10 { // through several segments, at times
			must(t, r.append(newEntry(-1, 2000)))
		}
		must(t, r.append(newEntry(-1, 10)))
		want := 1
		if i >= 10 {
			want = 2
		}
		if st := r.Stats(); st.Segments > want || st.Spares < 1 || st.Spares > spool.MaxSpares {
			t.Errorf("start %d: %+v", i, st)
		}
		if i%2 == 0 {
			must(t, handOut(r))
			r.taken = 0
		}
		fsys.Restart()
	}
	r, err := open(fsys, small, m, 30)
	must(t, err)
	must(t, r.recover())
	must(t, r.drain(1, true))
	if st := r.Stats(); st.Segments != 1 {
		t.Errorf("shipped: %+v", st)
	}
}

// TestOldest tells how old the oldest envelope is that was not acknowledged.
func TestOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := crashfs.New()
		r := started(t, spool.Options{FS: fsys})
		start := time.Now()
		want := func(what string, ages ...time.Duration) {
			t.Helper()
			oldest := r.Stats().Oldest
			if len(ages) == 0 && !oldest.IsZero() || len(ages) == 1 && !oldest.Equal(start.Add(ages[0])) {
				t.Errorf("%s: oldest is of %v, want %v", what, oldest.Sub(start), ages)
			}
		}
		want("empty")
		for range 3 {
			must(t, r.append(newEntry(100, 10)))
			must(t, r.append(newEntry(-1, 10)))
			time.Sleep(time.Second)
		}
		want("three", 0)
		_, err := r.take(1)
		must(t, err)
		want("one handed out", 0)
		r.trim()
		want("one shipped", time.Second)
		m := r.model
		must(t, r.Close())
		fsys.Restart()
		r, err = open(fsys, spool.Options{}, m, 30)
		must(t, err)
		want("opened again", time.Second)
		must(t, r.recover())
		want("recovered", time.Second)
		must(t, r.drain(1<<20, true))
		want("drained")
		must(t, r.append(newEntry(100, 10)))
		want("one more", 3*time.Second)
	})
}

// TestOptions refuses limits that make no sense.
func TestOptions(t *testing.T) {
	for _, o := range []spool.Options{
		{MaxBytes: -1}, {SegmentBytes: 1}, {MinFree: -0.1}, {MinFree: 1}, {MinFree: math.NaN()}, {Retry: -1},
	} {
		o.FS = crashfs.New()
		if _, err := spool.Open(dir, o, &state{}); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}

// Positions alone are committed in a spool that is full, in its last segment.
func TestPositionsInAFullSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := started(t, spool.Options{FS: crashfs.New(), MaxBytes: 1 << 20, SegmentBytes: 1 << 19})
		defer s.Close()
		env := make([]byte, 90<<10)
		for {
			ctx, stop := context.WithTimeout(t.Context(), time.Second)
			err := s.Append(ctx, env, []byte("x"), func() []byte { return []byte("s") })
			stop()
			if err != nil {
				break
			}
		}
		before := s.Stats()
		for range 100 {
			ctx, stop := context.WithTimeout(t.Context(), time.Second)
			if err := s.Append(ctx, nil, []byte("y"), func() []byte { return []byte("s") }); err != nil {
				t.Fatal(err)
			}
			stop()
		}
		if after := s.Stats(); after.Segments != before.Segments {
			t.Errorf("got %d segments, want the %d there were", after.Segments, before.Segments)
		}
	})
}
