package spool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"sealtail/internal/durable/crashfs"
	"sealtail/spool"
)

// small makes segments of a few entries.
var small = spool.Options{SegmentBytes: 24 << 10}

// A step of a run: what is done to the spool. Its errors end the run.
type step func(r *rig) error

func add(env, delta int) step {
	return func(r *rig) error { return r.append(newEntry(env, delta)) }
}

func ship(max int) step {
	return func(r *rig) error {
		_, err := r.take(max)
		if errors.Is(err, context.Canceled) {
			return nil // nothing there
		}
		if err == nil {
			r.trim()
		}
		return err
	}
}

func hold(max int) step { // takes and does not trim
	return func(r *rig) error {
		_, err := r.take(max)
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	}
}

func shipAll(r *rig) error { return r.drain(1<<20, true) }

func shut(r *rig) error { return r.Close() }

var runs = map[string][]step{
	"sizes": {
		add(100, 0), add(0, 0), add(-1, 10), add(1, 1), add(4000, 48), add(5000, 1), add(0, 300), add(9000, 20),
		add(30000, 10), add(1, 0), add(8000, 0), add(8000, 9), add(16000, 3),
	},
	"drained": {
		add(3000, 20), shipAll, add(5000, 30), add(-1, 20), shipAll, add(9000, 1), add(9000, 1), shipAll,
		add(9000, 1), add(20, 1), shipAll, add(-1, 5), add(9000, 3), shipAll, add(9000, 3), ship(1), shipAll, shut,
	},
	"lagging": {
		add(6000, 20), add(6000, 20), ship(1), add(6000, 20), add(6000, 20), ship(1), add(6000, 20), add(6000, 20),
		ship(12000), hold(1), add(6000, 20), add(6000, 20), ship(1), add(6000, 20), ship(20000), add(6000, 20), shut,
	},
	"behind": { // segments without an envelope, behind one that is not shipped
		add(100, 10), add(-1, 6000), add(-1, 6000), add(-1, 6000), add(-1, 6000), add(-1, 6000), add(100, 10),
		add(-1, 6000), hold(1), add(-1, 6000), add(-1, 6000), add(-1, 6000), ship(1), add(-1, 6000), shipAll, shut,
	},
	"positions": {
		add(-1, 4000), add(-1, 4000), add(-1, 4000), add(-1, 4000), add(-1, 4000), add(10, 4000), add(-1, 4000),
		ship(1), add(-1, 4000), add(-1, 4000), add(-1, 4000), shut,
	},
}

// run opens the spool, recovers it and takes the steps, until an error.
func run(fsys *crashfs.FS, o spool.Options, m *model, steps []step) error {
	r, err := open(fsys, o, m, 30)
	if err != nil {
		return err
	}
	if err := r.recover(); err != nil {
		return err
	}
	for i, s := range steps {
		if err := s(r); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

// cut tells an error that the cut of the power caused from all others.
func cut(err error) bool { return errors.Is(err, crashfs.ErrPowerCut) }

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// after returns the file systems that a process may find after one ended at this
// moment: the cache as it was, and n of what a power cut may leave.
func after(fsys *crashfs.FS, n int, seed uint64) []*crashfs.FS {
	c := fsys.Clone()
	c.Restart()
	list := []*crashfs.FS{c}
	for i := range n {
		list = append(list, fsys.Survivor(newRand(seed<<8+uint64(i))))
	}
	return list
}

// finish is what follows every crash: open, recover, ship what is there, add and
// ship more, open again.
var finish = []step{shipAll, add(7000, 10), add(-1, 10), add(12000, 10), ship(1), shut}

// late is another: what the crash left is shipped only after segments more, with
// and without envelopes.
var late = []step{add(-1, 9000), add(-1, 9000), add(-1, 9000), add(7000, 10), add(-1, 9000), add(-1, 9000), shipAll, shut}

// TestH60_CrashAtEveryOperation ends each run at each operation, by the end of the
// process and by power cuts, and ends the opening that follows at each of its
// operations too.
func TestH60_CrashAtEveryOperation(t *testing.T) {
	for name, steps := range runs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			crashes, opens := 0, 0
			for n := 1; ; n += stride {
				fsys, m := crashfs.New(), &model{}
				fsys.CrashAt(n)
				err := run(fsys, small, m, steps)
				if err != nil && !cut(err) {
					t.Fatalf("before a crash at operation %d: %v", n, err)
				}
				crashes++
				for i, f := range after(fsys, 4, uint64(n)) {
					where := fmt.Sprintf("crash at operation %d, survivor %d", n, i)
					opens += again(t, where, f, m)
				}
				if err == nil {
					break
				}
			}
			t.Logf("%d crashes, %d openings", crashes, opens)
			if crashes < 30/stride {
				t.Error("the run is too short to show anything")
			}
		})
	}
}

// handOut takes what is served before Recover. Being handed out, it may be on
// its way: it must never be gone again.
func handOut(r *rig) error {
	var served [][]byte
	for {
		envs, _, err := r.Next(once, nil, 1<<20)
		if errors.Is(err, context.Canceled) {
			break
		}
		if err != nil {
			return err
		}
		served = append(served, envs...)
	}
	if len(served) == 0 {
		return nil
	}
	n := 0 // entries up to the last one served
	for i, e := range r.entries {
		if e.env != nil && bytes.Equal(e.env, served[len(served)-1]) {
			n = i + 1
		}
	}
	all := r.envs(n)
	for i, env := range served {
		if j := len(all) - len(served) + i; j < 0 || !bytes.Equal(env, all[j]) {
			return fmt.Errorf("envelope %d of %d served before Recover is not the one that was appended", i, len(served))
		}
	}
	r.committed = max(r.committed, n)
	r.taken = len(served)
	return nil
}

// again opens the spool on f with a crash at each operation, and then to the end.
func again(t *testing.T, where string, f *crashfs.FS, m *model) (opens int) {
	t.Helper()
	for n := 1; ; n += stride {
		g, mm := f.Clone(), m.clone()
		g.CrashAt(n)
		r, err := open(g, small, mm, 30)
		if err == nil {
			err = handOut(r)
		}
		if err == nil {
			err = r.recover()
		}
		opens++
		if err != nil && !cut(err) {
			t.Fatalf("%s, second at operation %d: %v", where, n, err)
		}
		for i, h := range after(g, 1, uint64(n)) {
			where := fmt.Sprintf("%s, second at operation %d, survivor %d", where, n, i)
			steps := finish
			if (n+i)%2 == 0 {
				steps = late
			}
			if err := run(h, small, mm.clone(), steps); err != nil {
				t.Fatalf("%s: %v", where, err)
			}
			opens++
		}
		if err == nil {
			return opens
		}
	}
}
