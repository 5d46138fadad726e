package spool_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"

	"sealtail/internal/durable/crashfs"
	"sealtail/spool"
)

// failNth has the n-th operation of these kinds fail with err, and the m-1 that
// follow it. hit tells whether there was one.
func failNth(fsys *crashfs.FS, n, m int, err error, kinds ...string) (hit *bool) {
	hit = new(bool)
	seen := 0
	fsys.Inject(func(op crashfs.Op) error {
		if !slices.Contains(kinds, op.Kind) {
			return nil
		}
		if seen++; seen >= n && seen < n+m {
			*hit = true
			return err
		}
		return nil
	})
	return hit
}

// patient makes a step that tries again while there is no room, as Append does
// with a context that lives.
func patient(s step) step {
	return func(r *rig) error {
		for range 20 {
			if err := s(r); !errors.Is(err, context.Canceled) {
				return err
			}
		}
		return errors.New("waits for ever")
	}
}

// TestNoRoomAtEveryOperation has each operation that may need room fail, alone
// and with its successors: the run waits, goes on, and loses nothing.
func TestNoRoomAtEveryOperation(t *testing.T) {
	for name, steps := range runs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, errno := range []error{syscall.ENOSPC, syscall.EMFILE} {
				for _, m := range []int{1, 4} {
					for n := 1; ; n++ {
						fsys, model := crashfs.New(), &model{}
						kinds := []string{crashfs.Create, crashfs.Allocate, crashfs.Write, crashfs.Rename, crashfs.Remove, crashfs.Mkdir}
						if errno == syscall.EMFILE {
							kinds = []string{crashfs.Create}
						}
						where := fmt.Sprintf("%v at operations %d to %d", errno, n, n+m-1)
						hit, err := runPatiently(fsys, model, steps, n, m, errno, kinds)
						if err != nil {
							t.Fatalf("%s: %v", where, err)
						}
						if !*hit {
							break
						}
						for i, f := range after(fsys, 2, uint64(n)) {
							if err := run(f, small, model.clone(), finish); err != nil {
								t.Fatalf("%s, survivor %d: %v", where, i, err)
							}
						}
					}
				}
			}
		})
	}
}

func runPatiently(fsys *crashfs.FS, m *model, steps []step, n, times int, errno error, kinds []string) (*bool, error) {
	hit := failNth(fsys, n, times, errno, kinds...)
	var r *rig
	var err error
	for range 20 { // whether Open may fail for room is not the question here
		if r, err = open(fsys, small, m, 30); !errors.Is(err, errno) {
			break
		}
	}
	if err != nil {
		return hit, err
	}
	if err := patient((*rig).recover)(r); err != nil {
		return hit, err
	}
	for i, s := range steps {
		if err := patient(s)(r); err != nil {
			return hit, fmt.Errorf("step %d: %w", i, err)
		}
	}
	return hit, nil
}

// TestH65_FailedSync fails each sync: the error is final, nothing more is written,
// and what was committed before is there at the next start, whether the cache
// survives or not.
func TestH65_FailedSync(t *testing.T) {
	testFinal(t, crashfs.Sync, syscall.EIO, syscall.ENOSPC)
}

// TestFailedSyncDir does the same to directories.
func TestFailedSyncDir(t *testing.T) {
	testFinal(t, crashfs.SyncDir, syscall.EIO, syscall.ENOSPC)
}

// TestFailedWrite does the same to writes, which fail for good with any error
// but that of no room.
func TestFailedWrite(t *testing.T) {
	testFinal(t, crashfs.Write, syscall.EIO, syscall.EROFS)
}

func testFinal(t *testing.T, kind string, errnos ...syscall.Errno) {
	for name, steps := range runs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for e, errno := range errnos {
				failures := 0
				for n := 1; ; n += stride {
					where := fmt.Sprintf("%v at %s %d", errno, kind, n)
					fsys, m := crashfs.New(), &model{}
					hit := failNth(fsys, n, 1, errno, kind)
					r, err := open(fsys, small, m, 30)
					if err == nil {
						err = r.recover()
						for i := 0; i < len(steps) && err == nil; i++ {
							err = steps[i](r)
						}
					}
					if !*hit {
						break
					}
					if err != nil && !errors.Is(err, errno) && !errors.Is(err, spool.ErrClosed) {
						t.Fatalf("%s: %v", where, err)
					}
					if err != nil && r != nil {
						failures++
						before := fsys.Ops()
						for call, err := range map[string]error{
							"Recover": r.Recover(once),
							"Append":  r.Append(once, []byte("x"), nil, func() []byte { return nil }),
							"Next":    func() error { _, _, err := r.Next(once, nil, 1); return err }(),
							"Park":    func() error { _, err := r.Park([]byte("x"), ""); return err }(),
							"Close":   r.Close(),
						} {
							if !errors.Is(err, errno) {
								t.Fatalf("%s: %s afterwards returns %v", where, call, err)
							}
						}
						if n := fsys.Ops() - before; n > 0 {
							t.Fatalf("%s: went on with %d operations", where, n)
						}
					}
					for i, f := range after(fsys, 3, uint64(n)) {
						where := fmt.Sprintf("%s, survivor %d", where, i)
						if e == 0 {
							again(t, where, f, m)
						} else if err := run(f, small, m.clone(), finish); err != nil {
							t.Fatalf("%s: %v", where, err)
						}
					}
				}
				if failures == 0 {
					t.Errorf("%v: no failure was seen by a caller", errno)
				}
			}
		})
	}
}

// TestRecoverOnAFullDisk crashes a run at each operation and opens the spool on
// a disk without room. Where the spare survived, Recover needs no more; without,
// it waits, and goes on when there is room.
func TestRecoverOnAFullDisk(t *testing.T) {
	for name, steps := range runs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spared, waited := 0, 0
			for n := 1; ; n++ {
				fsys, m := crashfs.New(), &model{}
				fsys.CrashAt(n)
				err := run(fsys, small, m, steps)
				for i, f := range after(fsys, 2, uint64(n)) {
					where := fmt.Sprintf("crash at operation %d, survivor %d", n, i)
					m := m.clone()
					fill(f)
					r, err := open(f, small, m, 30)
					if err != nil {
						t.Fatalf("%s: %v", where, err)
					}
					if err := handOut(r); err != nil {
						t.Fatalf("%s: %v", where, err)
					}
					r.taken = 0
					had := r.Stats().Spares
					err = r.Recover(once)
					switch {
					case err == nil:
						spared++
					case !errors.Is(err, context.Canceled):
						t.Fatalf("%s: %v", where, err)
					case had > 0 && len(m.entries[len(m.entries)-1].env) < 10000: // a longer one is more than a spare holds
						t.Fatalf("%s: waits in spite of a spare", where)
					default:
						waited++
						// A crash while it waits changes nothing.
						for j, g := range after(f, 1, uint64(n)) {
							g.SetCapacity(1 << 30)
							if err := run(g, small, m.clone(), finish); err != nil {
								t.Fatalf("%s, second survivor %d: %v", where, j, err)
							}
						}
						f.SetCapacity(1 << 30)
						if err := r.Recover(once); err != nil {
							t.Fatalf("%s: with room: %v", where, err)
						}
					}
					must(t, r.Close())
					f.SetCapacity(1 << 30)
					if err := run(f, small, m, finish); err != nil {
						t.Fatalf("%s: %v", where, err)
					}
				}
				if err == nil {
					break
				}
			}
			if spared == 0 || waited == 0 {
				t.Errorf("recovered from a spare %d times, waited %d times", spared, waited)
			}
		})
	}
}

// fill leaves no room on the disk.
func fill(fsys *crashfs.FS) {
	free, total, _ := fsys.Free("/")
	fsys.SetCapacity(int64(total - free))
}

// TestFullDiskEndsInTheMiddleOfAFrame lets the disk run full a page at a time.
func TestFullDiskEndsInTheMiddleOfAFrame(t *testing.T) {
	for extra := range int64(12) {
		fsys, m := crashfs.New(), &model{}
		// No allocation ahead: then room ends inside a write.
		fsys.Inject(func(op crashfs.Op) error {
			if op.Kind == crashfs.Allocate {
				return syscall.EOPNOTSUPP
			}
			return nil
		})
		r, err := open(fsys, small, m, 30)
		must(t, err)
		must(t, r.recover())
		must(t, r.append(newEntry(5000, 10)))
		free, total, _ := fsys.Free("/")
		fsys.SetCapacity(int64(total-free) + extra*crashfs.PageSize)
		e := newEntry(30000, 10)
		err = r.append(e)
		if want := extra >= 7; want != (err == nil) {
			t.Fatalf("%d pages of room: %v", extra, err)
		}
		for i, f := range after(fsys, 5, uint64(extra)) {
			f.SetCapacity(1 << 30)
			if err := run(f, small, m.clone(), finish); err != nil {
				t.Fatalf("%d pages of room, survivor %d: %v", extra, i, err)
			}
		}
		if err != nil {
			must(t, r.append(newEntry(100, 10))) // a shorter one over the torn one: it fits, or its page is there
			fsys.SetCapacity(1 << 30)
			must(t, r.append(e))
			must(t, r.drain(1, true))
		}
		for i, f := range after(fsys, 5, uint64(extra)) {
			f.SetCapacity(1 << 30)
			if err := run(f, small, m.clone(), finish); err != nil {
				t.Fatalf("%d pages of room, afterwards, survivor %d: %v", extra, i, err)
			}
		}
	}
}
