package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sealtail/conf"
	"sealtail/internal/durable"
	"sealtail/record"
	"sealtail/seal"
	"sealtail/seal/keyring"
	"sealtail/spool"
)

// sealer returns an identity and a function that seals the next envelope of a
// chain under it.
func sealer(t testing.TB, suite seal.Suite) (*seal.Identity, func(content []byte) []byte) {
	t.Helper()
	id, err := seal.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	ring := filepath.Join(t.TempDir(), "keyring.json")
	if _, err := keyring.New(ring, keyring.AES256GCM); err != nil {
		t.Fatal(err)
	}
	header, err := envelopeContext(conf.Sink{Type: "dir"})
	if err != nil {
		t.Fatal(err)
	}
	keys := seal.NewKeys(seal.KeyOptions{}, keyring.Open(ring), suite, header)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- keys.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	chain, err := seal.NewChain(seal.ChainOptions{Identity: id, Keys: keys, Suite: suite, Context: header})
	if err != nil {
		t.Fatal(err)
	}
	return id, func(content []byte) []byte {
		t.Helper()
		env, err := chain.Seal(t.Context(), nil, 0, 1e9, 1e9, 0, content)
		if err != nil {
			t.Fatal(err)
		}
		return env
	}
}

func at(id uint64, from, offset int64) record.Position {
	return record.Position{ID: id, Path: fmt.Sprintf("/var/log/app/%d.log", id), Dev: 2049, Ino: 1e6 + id,
		From: from, Offset: offset, Size: offset, Head: record.Print{Len: 1024}, Marker: record.Print{Len: 1024}}
}

func forgotten(p record.Position) record.Position {
	p.Forget = true
	return p
}

// sourced has stderr taken beyond the offset, from was on.
func sourced(p record.Position, skip, was int64) record.Position {
	p.Sources = []record.Source{{Name: "stderr", Skip: skip}}
	if was > 0 {
		p.Was = []record.Source{{Name: "stderr", Skip: was}}
	}
	return p
}

// 10,000 known files, 10 of them growing at 1 MB/s each: in real segments,
// positions cost less than 1 % of what is sealed.
func TestPositionsCost(t *testing.T) {
	const files, growing, batches, content = 10_000, 10, 1000, 300 << 10
	id, sealNext := sealer(t, seal.AES256GCM)
	st := &state{identity: id}
	dir := filepath.Join(t.TempDir(), "spool")
	sp, err := spool.Open(dir, spool.Options{FS: unsynced{durable.OS}}, st)
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	if err := sp.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := &committer{spool: sp, state: st}
	var known []record.Position
	for i := range uint64(files) {
		known = append(known, at(i, 0, 1<<30))
	}
	if err := c.Append(t.Context(), nil, known); err != nil {
		t.Fatal(err)
	}
	env := sealNext(make([]byte, content))
	opened := sp.Stats().Rolls
	var before spool.Stats // as of the first roll
	var sealed, cost int64 // from there to the last
	var rolls uint64
	for n := range int64(batches) {
		var moved []record.Position
		for i := range uint64(growing) {
			moved = append(moved, at(i*997, 1<<30+n<<18, 1<<30+(n+1)<<18))
		}
		if err := c.Append(t.Context(), env, moved); err != nil {
			t.Fatal(err)
		}
		switch now := sp.Stats(); {
		case now.Rolls == opened:
		case before.Rolls == 0:
			before = now
		case now.Rolls > before.Rolls+rolls:
			rolls++
			sealed = int64(now.Pending-before.Pending) * int64(len(env))
			cost = now.Bytes - before.Bytes - sealed
		}
	}
	if rolls == 0 {
		t.Fatal("no whole segment was measured")
	}
	t.Logf("%d segments: %.3f %% of %d MB sealed", rolls, 100*float64(cost)/float64(sealed), sealed>>20)
	if cost*100 >= sealed {
		t.Errorf("positions cost %d bytes of %d sealed", cost, sealed)
	}
}

// unsynced is a file system that is not asked to be durable: the test measures
// bytes.
type unsynced struct{ durable.FS }

type unsyncedFile struct{ durable.File }

func (u unsynced) OpenFile(name string, flag int, perm os.FileMode) (durable.File, error) {
	f, err := u.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return unsyncedFile{f}, nil
}

func (unsyncedFile) Sync() error { return nil }

func TestStateFolds(t *testing.T) {
	for _, suite := range []seal.Suite{seal.AES256GCM, seal.SM4GCM} {
		t.Run(suite.String(), func(t *testing.T) {
			id, sealNext := sealer(t, suite)
			id.Machine = [32]byte{1, 2, 3}
			live := &state{identity: id}
			folded := &state{identity: id}
			var ps record.Positions
			for n := range int64(5) {
				env := sealNext([]byte("x"))
				want, err := seal.HeadOf(env)
				if err != nil {
					t.Fatal(err)
				}
				delta := ps.AppendDelta(nil, []record.Position{at(uint64(n%2), n, n+1)})
				if err := live.Apply(env, delta); err != nil {
					t.Fatal(err)
				}
				if n == 2 {
					if err := folded.Load(live.Snapshot()); err != nil {
						t.Fatal(err)
					}
				} else if n > 2 {
					if err := folded.Apply(env, delta); err != nil {
						t.Fatal(err)
					}
				}
				if got := live.Head(); *got != want {
					t.Fatalf("got head %v, want %v", got, want)
				}
			}
			if !reflect.DeepEqual(folded.Snapshot(), live.Snapshot()) || !folded.begun {
				t.Error("snapshot and entries do not add up to the same")
			}
		})
	}
}

// What was rotated is meant since the stream's directory was made, until bytes
// are taken, and then since the last envelope.
func TestKnownSince(t *testing.T) {
	dir := t.TempDir()
	id, sealNext := sealer(t, seal.AES256GCM)
	made := knownSince(&state{identity: id}, dir, false)
	if age := time.Since(made); age < -time.Minute || age > time.Minute {
		t.Fatalf("directory made %v ago", age)
	}
	env := sealNext([]byte("x"))
	head, err := seal.HeadOf(env)
	if err != nil {
		t.Fatal(err)
	}
	last := time.Unix(0, head.Last)
	for _, c := range []struct {
		name  string
		env   []byte
		taken int64
		late  bool
		want  time.Time
	}{
		{name: "first start", want: made},
		{name: "first start at the end", late: true},
		{name: "nothing taken", env: env, want: made},
		{name: "nothing taken from the end", env: env, late: true, want: last},
		{name: "taken", env: env, taken: 9, want: last},
		{name: "taken, chain begun anew", taken: 9},
	} {
		st := &state{identity: id}
		var ps record.Positions
		if err := st.Apply(c.env, ps.AppendDelta(nil, []record.Position{at(1, 0, c.taken)})); err != nil {
			t.Fatal(err)
		}
		if got := knownSince(st, dir, c.late); !got.Equal(c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// A state as the version before wrote it loads; one of a version to come is
// refused.
func TestStateVersions(t *testing.T) {
	id, sealNext := sealer(t, seal.AES256GCM)
	st := &state{identity: id}
	var ps record.Positions
	if err := st.Apply(sealNext([]byte("x")), ps.AppendDelta(nil, []record.Position{at(1, 0, 9)})); err != nil {
		t.Fatal(err)
	}
	for version, want := range map[byte]error{0: errStateVersion, 1: nil, stateVersion: nil, stateVersion + 1: errStateVersion} {
		snapshot := st.Snapshot() // without losses, of which version 1 had none
		snapshot[0] = version
		after := &state{identity: id}
		if err := after.Load(snapshot); !errors.Is(err, want) {
			t.Errorf("version %d: got %v, want %v", version, err, want)
		} else if err == nil && (!reflect.DeepEqual(after.Snapshot(), st.Snapshot()) || len(after.positions.Losses().Since(time.Time{})) != 0) {
			t.Errorf("version %d is not taken as it is", version)
		}
	}
}

// What was lost is known after restarts, be it in an entry or a snapshot.
func TestLossesOutliveRestarts(t *testing.T) {
	id, sealNext := sealer(t, seal.AES256GCM)
	dir := filepath.Join(t.TempDir(), "spool")
	for n := range int64(4) {
		st := &state{identity: id}
		sp, err := spool.Open(dir, spool.Options{}, st)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := st.positions.Losses().Since(time.Time{})["deleted unread"], (record.Lost{Ranges: 2 * n, Bytes: 10 * n}); got != want {
			t.Errorf("start %d: got %v lost, want %v", n, got, want)
		}
		if err := sp.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		c := &committer{spool: sp, state: st}
		for _, env := range [][]byte{sealNext([]byte("x")), nil} {
			lost := record.Position{ID: 7, Path: "deleted unread", Lost: record.Lost{Ranges: 1, Bytes: 5}, Forget: true}
			if err := c.Append(t.Context(), env, []record.Position{at(1, n, n+1), lost}); err != nil {
				t.Fatal(err)
			}
		}
		sp.Close()
	}
}

// A loss with nothing known before it is told, also after a restart, until an
// envelope has told it.
func TestLossOfUnknown(t *testing.T) {
	id, sealNext := sealer(t, seal.AES256GCM)
	st := &state{identity: id}
	if lostHead(st) != nil {
		t.Error("told without a gap")
	}
	other := &state{identity: id}
	other.put(sealNext([]byte("x")), []record.Position{at(1, 0, 10)})
	st.Gap("segment 1 is missing")
	if err := st.Load(other.Snapshot()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		told := lostHead(st)
		if len(told) != 1 || told[0].Name != "loss" || !strings.Contains(told[0].Fields[4].Value, "not known") {
			t.Fatalf("told %v", told)
		}
		if st.Head() == nil {
			t.Error("the chain does not go on")
		}
		again := &state{identity: id}
		if err := again.Load(st.Snapshot()); err != nil {
			t.Fatal(err)
		}
		st = again
	}
	st.put(sealNext([]byte("y")), nil)
	if lostHead(st) != nil {
		t.Error("told again")
	}
}

func TestStateOfAnotherMachine(t *testing.T) {
	theirs, sealTheirs := sealer(t, seal.AES256GCM)
	ours, _ := sealer(t, seal.AES256GCM) // the same machine, but its key was lost
	old := &state{identity: theirs}
	env := sealTheirs([]byte("x"))
	var ps record.Positions
	delta := ps.AppendDelta(nil, []record.Position{at(1, 0, 9)})
	if err := old.Apply(env, delta); err != nil {
		t.Fatal(err)
	}
	moved := *theirs
	moved.Machine[0] = 1
	for name, fill := range map[string]func(*state) error{
		"snapshot": func(s *state) error { return s.Load(old.Snapshot()) },
		"snapshot, the key was moved with it": func(s *state) error {
			s.identity = &moved
			return s.Load(old.Snapshot())
		},
		"entry": func(s *state) error { return s.Apply(env, delta) },
	} {
		t.Run(name, func(t *testing.T) {
			st := &state{identity: ours}
			if err := fill(st); err != nil {
				t.Fatal(err)
			}
			if head := st.Head(); head != nil {
				t.Errorf("goes on with the chain of %v", head)
			}
			if p, ok := st.positions.Get(1); !ok || p.Offset != 9 {
				t.Errorf("got %v, want the positions kept", p)
			}
		})
	}
}

func TestGaps(t *testing.T) {
	id, sealNext := sealer(t, seal.AES256GCM)
	type entry []record.Position
	tests := []struct {
		name     string
		before   []entry
		after    []entry
		snapshot []record.Position // the gap ends in a snapshot with these
		rolled   entry             // of the entry beside it
		want     []string
	}{
		{"nothing moved in it", []entry{{at(1, 0, 10)}}, []entry{{at(1, 10, 20)}}, nil, nil, []string{"1 at 20"}},
		{"a file moved in it", []entry{{at(1, 0, 10)}}, []entry{{at(1, 30, 40)}, {at(1, 40, 50)}}, nil, nil, []string{"1 [10, 30)", "1 at 50"}},
		{"a file was born in it", []entry{{at(1, 0, 10)}}, []entry{{at(2, 5, 6)}}, nil, nil, []string{"1 at 10", "2 [0, 5)", "2 at 6"}},
		{"a file was born behind it", []entry{{at(1, 0, 10)}}, []entry{{at(2, 0, 6)}}, nil, nil, []string{"1 at 10", "2 at 6"}},
		{"two files, seen late", []entry{{at(1, 0, 10), at(2, 0, 3)}}, []entry{{at(1, 12, 13)}, {at(2, 4, 5)}}, nil, nil,
			[]string{"1 [10, 12)", "1 at 13", "2 [3, 4)", "2 at 5"}},
		{"rewritten in it", []entry{{at(1, 0, 10)}}, []entry{{at(1, 0, 4)}}, nil, nil, []string{"1 at 4"}},
		{"up to the next segment", []entry{{at(1, 0, 10), at(2, 0, 7)}}, nil, []record.Position{at(1, 25, 25), at(2, 7, 7), at(3, 4, 4)}, nil,
			[]string{"1 [10, 25)", "1 at 25", "2 at 7", "3 [0, 4)", "3 at 4"}},
		{"before the next segment", []entry{{at(1, 0, 10)}}, []entry{{at(1, 30, 40)}}, []record.Position{at(1, 50, 50)}, nil, []string{"1 [10, 30)", "1 at 50"}},
		{"up to the entry beside a snapshot", []entry{{at(1, 0, 10)}}, nil, []record.Position{at(1, 25, 25)}, entry{at(1, 25, 40)}, []string{"1 [10, 25)", "1 at 40"}},
		{"forgotten behind it", []entry{{at(1, 0, 10)}}, []entry{{forgotten(at(1, 30, 40))}}, nil, nil, []string{"1 [10, 30)"}},
		{"forgotten behind it, in an earlier version", []entry{{at(1, 0, 10)}}, []entry{{{ID: 1, Forget: true}}}, nil, nil, nil},
		{"forgotten beside a snapshot", []entry{{at(1, 0, 10)}}, nil, []record.Position{at(1, 25, 25)}, entry{forgotten(at(1, 25, 40))}, []string{"1 [10, 25)"}},
		{"forgotten in it", []entry{{at(1, 0, 10), at(2, 0, 5)}}, []entry{{forgotten(at(2, 5, 5))}}, []record.Position{at(3, 0, 0)}, nil, []string{"1 at 10", "3 at 0"}},
		{"one source stream moved in it", []entry{{sourced(at(1, 0, 10), 20, 0)}}, []entry{{sourced(at(1, 10, 10), 50, 40)}}, nil, nil,
			[]string{"1 [10, 40), stderr from 20 to 40, others to 10", "1 at 10"}},
		{"the other one did", []entry{{sourced(at(1, 0, 10), 50, 0)}}, []entry{{sourced(at(1, 30, 40), 50, 50)}}, nil, nil,
			[]string{"1 [10, 30), stderr from 50 to 50, others to 30", "1 at 40"}},
		{"none did", []entry{{sourced(at(1, 0, 10), 20, 0)}}, []entry{{sourced(at(1, 10, 10), 50, 20)}}, nil, nil, []string{"1 at 10"}},
		{"source streams, up to a snapshot", []entry{{sourced(at(1, 0, 10), 20, 0)}}, nil, []record.Position{sourced(at(1, 10, 10), 40, 40)}, nil,
			[]string{"1 [10, 40), stderr from 20 to 40, others to 10", "1 at 10"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			st := &state{identity: id}
			var ps record.Positions
			apply := func(entries []entry) {
				for _, e := range entries {
					if err := st.Apply(sealNext([]byte("x")), ps.AppendDelta(nil, e)); err != nil {
						t.Fatal(err)
					}
				}
			}
			apply(tt.before)
			st.Gap("bytes 1 to 2")
			if st.lost == nil {
				t.Error("the chain goes on as if nothing was lost")
			}
			apply(tt.after)
			if tt.snapshot != nil {
				other := &state{identity: id}
				var ps record.Positions
				if err := other.Apply(sealNext([]byte("x")), ps.AppendDelta(nil, tt.snapshot)); err != nil {
					t.Fatal(err)
				}
				if err := st.Load(other.after(sealNext([]byte("x")), tt.rolled).Snapshot()); err != nil {
					t.Fatal(err)
				}
			}
			if st.lost != nil {
				t.Error("a chain with a later envelope is taken for lost")
			}
			var got []string
			for _, p := range st.positions.All() {
				switch {
				case p.Until != 0 && len(p.Ends) > 0:
					got = append(got, fmt.Sprintf("%d [%d, %d), stderr from %d to %d, others to %d", p.Ino-1e6, p.Offset, p.Until, p.Sources[0].Skip, p.Ends[0].Skip, p.Size))
				case p.Until != 0:
					got = append(got, fmt.Sprintf("%d [%d, %d)", p.Ino-1e6, p.Offset, p.Until))
				default:
					got = append(got, fmt.Sprintf("%d at %d", p.Ino-1e6, p.Offset))
				}
			}
			slices.Sort(got)
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// After a kill a file's trail is known, whichever entry was the last, and after
// one more.
func TestTrailsOutliveAKill(t *testing.T) {
	id, sealNext := sealer(t, seal.AES256GCM)
	dir := filepath.Join(t.TempDir(), "spool")
	open := func() (*committer, func()) {
		st := &state{identity: id}
		sp, err := spool.Open(dir, spool.Options{SegmentBytes: 24 << 10}, st)
		if err != nil {
			t.Fatal(err)
		}
		if err := sp.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		return &committer{spool: sp, state: st}, func() { sp.Close() }
	}
	c, kill := open()
	rolls, seen := c.spool.Stats().Rolls, 0
	for n := int64(1); n <= 100; n++ {
		if err := c.Append(t.Context(), sealNext(make([]byte, 20<<10)), []record.Position{at(1, n<<20, (n+1)<<20)}); err != nil {
			t.Fatal(err)
		}
		rolled := c.spool.Stats().Rolls > rolls
		if !rolled && n%20 > 0 {
			continue
		}
		if rolled {
			seen++
		}
		want, _ := c.state.positions.Get(1)
		for range 2 {
			kill()
			c, kill = open()
			if got := c.state.files(); len(got) != 1 || len(got[0].Trail) == 0 || !reflect.DeepEqual(got[0].Trail, want.Trail) {
				t.Fatalf("after %d entries, the last of which began a segment: %t; got %v, want the trail %v", n, rolled, got, want.Trail)
			}
		}
		rolls = c.spool.Stats().Rolls
	}
	kill()
	if seen < 2 {
		t.Errorf("%d entries began a segment", seen)
	}
}

// The pipeline seals into an envelope's memory again once it is committed.
func TestStateOutlivesEnvelopes(t *testing.T) {
	id, sealNext := sealer(t, seal.AES256GCM)
	st := &state{identity: id}
	for range 3 {
		env := sealNext([]byte("x"))
		want, err := seal.HeadOf(env)
		if err != nil {
			t.Fatal(err)
		}
		st.advance(env, nil)
		next := st.after(sealNext([]byte("y")), nil)
		clear(env)
		if got := st.Head(); *got != want {
			t.Errorf("got head %v, want %v", got, want)
		}
		if next.Head().Seq != want.Seq+1 {
			t.Errorf("got %v behind it", next.Head())
		}
	}
}

func FuzzState(f *testing.F) {
	id, sealNext := sealer(f, seal.AES256GCM)
	st := &state{identity: id}
	var ps record.Positions
	if err := st.Apply(sealNext([]byte("x")), ps.AppendDelta(nil, []record.Position{at(1, 0, 9)})); err != nil {
		f.Fatal(err)
	}
	f.Add(st.Snapshot())
	f.Add((&state{identity: id}).Snapshot())
	f.Fuzz(func(t *testing.T, b []byte) {
		var one, two = &state{identity: id}, &state{identity: id}
		err := one.Load(b)
		if err != nil {
			if len(b) > 0 && (b[0] < 1 || b[0] > stateVersion) && !errors.Is(err, errStateVersion) {
				t.Errorf("version %d: got %v", b[0], err)
			}
			return
		}
		if err := two.Load(one.Snapshot()); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(one.Snapshot(), two.Snapshot()) {
			t.Error("a snapshot does not come back as it is")
		}
	})
}

// A spool that is full lets positions in, past an envelope that waits, and what
// waits moves no position.
func TestFoundPastAnEnvelopeThatWaits(t *testing.T) {
	id, sealNext := sealer(t, seal.AES256GCM)
	st := &state{identity: id}
	dir := filepath.Join(t.TempDir(), "spool")
	sp, err := spool.Open(dir, spool.Options{MaxBytes: 1 << 20, SegmentBytes: 1 << 19}, st)
	if err != nil {
		t.Fatal(err)
	}
	if err := sp.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := &committer{spool: sp, state: st, pending: &discoveries{}}
	ctx, stop := context.WithCancel(t.Context())
	full, done := make(chan int64), make(chan error)
	go func() {
		for n := int64(1); ; n++ {
			ended, end := context.WithCancel(ctx)
			end()
			env := sealNext(make([]byte, 90<<10))
			if err := c.Append(ended, env, []record.Position{at(1, n-1, n)}); err != nil {
				full <- n - 1
				done <- c.Append(ctx, env, []record.Position{at(1, n-1, n)}) // waits
				return
			}
		}
	}()
	committed := <-full
	c.pending.add([]record.Position{at(2, 0, 0)})
	if err := c.found(ctx); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the end of ctx", err)
	}
	sp.Close()
	after := &state{identity: id}
	if sp, err = spool.Open(dir, spool.Options{}, after); err != nil {
		t.Fatal(err)
	}
	sp.Close()
	if p, _ := after.positions.Get(1); p.Offset != committed {
		t.Errorf("got offset %d, want %d", p.Offset, committed)
	}
	if _, ok := after.positions.Get(2); !ok {
		t.Error("the file that was found is not known")
	}
}

// What was found of a file does not bring it back when it is committed after
// the file was forgotten.
func TestFoundAfterForgotten(t *testing.T) {
	id, _ := sealer(t, seal.AES256GCM)
	st := &state{identity: id}
	sp, err := spool.Open(filepath.Join(t.TempDir(), "spool"), spool.Options{}, st)
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	if err := sp.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := &committer{spool: sp, state: st, pending: &discoveries{}}
	told := 0
	c.committed = func([]record.Position) {
		told++
		if !c.mu.TryLock() {
			t.Error("others wait for who is told")
			return
		}
		c.mu.Unlock()
	}
	c.pending.add([]record.Position{at(1, 0, 0), at(2, 0, 0)})
	forgotten := at(1, 0, 0)
	forgotten.Forget = true
	if err := c.Append(t.Context(), nil, []record.Position{forgotten}); err != nil {
		t.Fatal(err)
	}
	if err := c.found(t.Context()); err != nil {
		t.Fatal(err)
	}
	if told != 2 {
		t.Errorf("told of %d entries, want 2", told)
	}
	if all := st.positions.All(); len(all) != 1 || all[0].ID != 2 || len(c.pending.all()) != 0 {
		t.Errorf("got %v, and %v is pending; want position 2 alone", all, c.pending.all())
	}
}

// A file that was renamed there and back, and opened again, is known as it was
// found last.
func TestFoundTwice(t *testing.T) {
	id, _ := sealer(t, seal.AES256GCM)
	st := &state{identity: id}
	dir := filepath.Join(t.TempDir(), "spool")
	sp, err := spool.Open(dir, spool.Options{}, st)
	if err != nil {
		t.Fatal(err)
	}
	if err := sp.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := &committer{spool: sp, state: st, pending: &discoveries{}}
	home, away := at(1, 0, 9), at(1, 0, 0)
	back := at(1, 0, 0)
	home.Closed, away.Path = 1, "/away"
	away.Look, back.Look = 1, 2
	if err := c.Append(t.Context(), nil, []record.Position{home}); err != nil {
		t.Fatal(err)
	}
	c.pending.add([]record.Position{away, back})
	if err := c.found(t.Context()); err != nil {
		t.Fatal(err)
	}
	sp.Close()
	after := &state{identity: id}
	if sp, err = spool.Open(dir, spool.Options{}, after); err != nil {
		t.Fatal(err)
	}
	sp.Close()
	for name, s := range map[string]*state{"before": st, "after": after} {
		if p, _ := s.positions.Get(1); p.Path != home.Path || p.Closed != 0 || p.Offset != 9 {
			t.Errorf("%s a restart: got %+v", name, p)
		}
	}
}

// Of a file that begins with another's bytes nothing is committed before the
// chunk that has it so: it would be read, or lost, from there after a restart.
func TestFoundBeforeItsChunk(t *testing.T) {
	id, _ := sealer(t, seal.AES256GCM)
	st := &state{identity: id}
	sp, err := spool.Open(filepath.Join(t.TempDir(), "spool"), spool.Options{}, st)
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	if err := sp.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := &committer{spool: sp, state: st, pending: &discoveries{}}
	grown := at(1, 9, 9)
	grown.Size, grown.Look = 12, 1
	for _, want := range []int64{0, 12} { // size known, before and after the chunk
		c.pending.add([]record.Position{grown})
		if err := c.found(t.Context()); err != nil {
			t.Fatal(err)
		}
		if p, _ := st.positions.Get(1); p.Size != want || len(c.pending.all()) != 0 {
			t.Errorf("got %+v, and %v is pending; want size %d", p, c.pending.all(), want)
		}
		if err := c.Append(t.Context(), nil, []record.Position{at(1, 9, 9)}); err != nil {
			t.Fatal(err)
		}
	}
}

// An entry that was on its way while its file was found under another name, and
// longer, moves the offset and leaves what is known since.
func TestFoundSinceTheEntry(t *testing.T) {
	id, _ := sealer(t, seal.AES256GCM)
	st := &state{identity: id}
	dir := filepath.Join(t.TempDir(), "spool")
	sp, err := spool.Open(dir, spool.Options{}, st)
	if err != nil {
		t.Fatal(err)
	}
	if err := sp.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := &committer{spool: sp, state: st, pending: &discoveries{}}
	taken := func(look, offset int64, path string) {
		t.Helper()
		p := at(1, 0, offset)
		p.Look, p.Path = look, path
		if err := c.Append(t.Context(), nil, []record.Position{p}); err != nil {
			t.Fatal(err)
		}
	}
	taken(1, 3, "/first")
	found := at(1, 0, 0)
	found.Look, found.Path, found.Size, found.Deleted = 3, "/second", 20, true
	c.pending.add([]record.Position{found})
	if err := c.found(t.Context()); err != nil {
		t.Fatal(err)
	}
	taken(2, 9, "/first")
	want := func(s *state, offset, size int64, path string, deleted bool) {
		t.Helper()
		if p, _ := s.positions.Get(1); p.Offset != offset || p.Size != size || p.Path != path || p.Deleted != deleted {
			t.Errorf("got %+v, want offset %d of %d, %s, deleted %t", p, offset, size, path, deleted)
		}
	}
	want(st, 9, 20, "/second", true)
	sp.Close()
	after := &state{identity: id}
	if sp, err = spool.Open(dir, spool.Options{}, after); err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	want(after, 9, 20, "/second", true)
	if err := sp.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	c = &committer{spool: sp, state: after, pending: &discoveries{}}
	taken(1, 21, "/third") // looks are counted anew
	want(after, 21, 21, "/third", false)
}
