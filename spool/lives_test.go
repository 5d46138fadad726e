package spool_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"sealtail/internal/durable/crashfs"
)

// TestH62_ManyLives has one spool live through many processes, each of which does
// something at random and ends somewhere: by itself, killed, by a power cut, at a
// failed sync; on a disk that is full at times.
func TestH62_ManyLives(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := newRand(seed)
			fsys, m := crashfs.New(), &model{}
			for life := range 25 {
				what, err := live(fsys, m, rng)
				if err != nil {
					t.Fatalf("life %d (%s): %v", life, what, err)
				}
				if fsys.SetCapacity(1 << 30); rng.IntN(2) == 0 {
					fsys.Restart()
				} else {
					fsys = fsys.Survivor(rng)
				}
			}
			// At the end all of it is there.
			r, err := open(fsys, small, m, 30)
			must(t, err)
			must(t, r.recover())
			must(t, r.drain(1<<20, true))
			if st := r.Stats(); st.Segments != 1 || st.Pending != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// live is one process. Its error is one that should not be.
func live(fsys *crashfs.FS, m *model, rng *rand.Rand) (what string, err error) {
	o := small
	if rng.IntN(3) == 0 {
		o.MaxBytes = 70 << 10
	}
	if rng.IntN(4) == 0 {
		fsys.CrashAt(1 + rng.IntN(12)) // in Open or Recover
		what = "crashes early"
	} else if rng.IntN(2) == 0 {
		fsys.CrashAt(12 + rng.IntN(80))
		what = "crashes"
	}
	if rng.IntN(3) == 0 {
		failNth(fsys, 1+rng.IntN(40), 1+rng.IntN(6), syscall.ENOSPC, crashfs.Write, crashfs.Create, crashfs.Allocate, crashfs.Rename)
		what += ", no room"
	} else if rng.IntN(5) == 0 {
		failNth(fsys, 1+rng.IntN(30), 1, syscall.EIO, crashfs.Sync, crashfs.SyncDir)
		what += ", fails to sync"
	}
	// may is what may end a life.
	may := func(err error) error {
		if cut(err) || errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ENOSPC) {
			return nil
		}
		return err
	}
	r, err := open(fsys, o, m, rng.IntN(2)*300)
	if err != nil {
		return what, may(err)
	}
	if rng.IntN(2) == 0 {
		if err := handOut(r); err != nil {
			return what, may(err)
		}
	}
	for {
		if err := r.recover(); err == nil {
			break
		} else if !errors.Is(err, context.Canceled) {
			return what, may(err)
		}
	}
	for range rng.IntN(40) {
		var s step
		switch n := rng.IntN(10); {
		case n < 3:
			s = add(rng.IntN(9000), rng.IntN(300))
		case n < 5:
			s = add(-1, rng.IntN(3000))
		case n == 5:
			s = add(rng.IntN(40000), 0)
		case n < 8:
			s = ship(rng.IntN(20000))
		case n == 8:
			s = hold(rng.IntN(9000))
		default:
			s = func(*rig) error {
				if fsys.SetCapacity(1 << 30); rng.IntN(2) == 0 {
					fill(fsys)
				}
				return nil
			}
		}
		if err := s(r); err != nil && !errors.Is(err, context.Canceled) {
			return what, may(err)
		}
	}
	if rng.IntN(3) == 0 {
		return what, may(r.Close())
	}
	return what, nil
}
