package spool_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sealtail/internal/durable"
	"sealtail/internal/durable/crashfs"
	"sealtail/spool"
)

// A diary is a state that writes down what it is told.
type diary struct {
	told []string
	last string // the newest entry, as a snapshot tells it
	envs [][]byte
}

func (d *diary) Load(b []byte) error {
	d.last = string(b)
	d.told = append(d.told, "load "+d.last)
	return nil
}

func (d *diary) Apply(env, delta []byte) error {
	d.last = string(delta)
	d.envs = append(d.envs, env) // which is allowed
	d.told = append(d.told, d.last)
	return nil
}

func (d *diary) Gap(lost string)  { d.told = append(d.told, "gap") }
func (d *diary) Snapshot() []byte { return []byte(d.last) }

// openDiary opens the spool, and returns what the state was told.
func openDiary(t *testing.T, fsys durable.FS) (*spool.Spool, *diary) {
	t.Helper()
	d := &diary{last: "-"}
	s, err := spool.Open(dir, spool.Options{FS: fsys, SegmentBytes: 24 << 10}, d)
	must(t, err)
	return s, d
}

// put appends an entry whose delta is its name, and whose envelope begins with it.
func put(t *testing.T, s *spool.Spool, name string, size int) {
	t.Helper()
	env := append([]byte(name+":"), bytes.Repeat([]byte{'x'}, size)...)
	must(t, s.Append(once, env, []byte(name), func() []byte { return []byte(name) }))
}

// served takes all there is and returns the names of the entries.
func served(t *testing.T, s *spool.Spool) (names string) {
	t.Helper()
	var list []string
	for {
		envs, _, err := s.Next(once, nil, 1)
		if errors.Is(err, context.Canceled) {
			return strings.Join(list, " ")
		}
		must(t, err)
		for _, env := range envs {
			name, _, _ := strings.Cut(string(env), ":")
			list = append(list, name)
		}
	}
}

// flip changes one byte of a segment, where the disk has it.
func flip(t *testing.T, fsys durable.FS, id uint32, off int64) {
	t.Helper()
	f, err := fsys.OpenFile(spool.SegName(dir, id), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
	must(t, f.Sync())
}

// threeSegments makes a spool of segments 1 (a to d), 2 (e to g; e in the first
// frame) and 3 (h in the first frame), with nothing shipped.
func threeSegments(t *testing.T) *crashfs.FS {
	t.Helper()
	fsys := crashfs.New()
	s, _ := openDiary(t, fsys)
	must(t, s.Recover(once))
	for _, name := range strings.Split("a b c d", " ") {
		put(t, s, name, 3500)
	}
	for _, name := range strings.Split("e f g h", " ") {
		put(t, s, name, 4500)
	}
	must(t, s.Close())
	if st := s.Stats(); st.Segments != 3 || st.Pending != 8 {
		t.Fatalf("%d segments, %d envelopes, want 3 and 8", st.Segments, st.Pending)
	}
	return fsys
}

func TestUndamaged(t *testing.T) {
	fsys := threeSegments(t)
	s, d := openDiary(t, fsys)
	if got, want := strings.Join(d.told, ", "), "load -, a, b, c, d, load e, f, g, load h"; got != want {
		t.Errorf("state was told %s, want %s", got, want)
	}
	for i, name := range strings.Split("a b c d f g", " ") {
		if !strings.HasPrefix(string(d.envs[i]), name+":xxx") {
			t.Errorf("envelope that the state kept: %.10q, want that of %s", d.envs[i], name)
		}
	}
	if got := served(t, s); got != "a b c d e f g h" {
		t.Errorf("served %s", got)
	}
}

// TestH61_Damage flips a byte of each part of a segment.
func TestH61_Damage(t *testing.T) {
	frames := func(fsys durable.FS, id uint32) []spool.Frame {
		list, err := spool.Frames(fsys, dir, id)
		must(t, err)
		return list
	}
	f1, f2, f3 := frames(threeSegments(t), 1), frames(threeSegments(t), 2), frames(threeSegments(t), 3)
	type hit struct {
		id  uint32
		off int64
	}
	for _, tc := range []struct {
		name   string
		hits   []hit
		told   string
		served string
		spans  string
	}{
		{"one header", []hit{{2, 50}}, "load -, a, b, c, d, load e, f, g, load h", "a b c d e f g h", ""},
		{"the other header", []hit{{2, spool.BlockLen + 50}}, "load -, a, b, c, d, load e, f, g, load h", "a b c d e f g h", ""},
		{"version of one header", []hit{{2, 11}}, "load -, a, b, c, d, load e, f, g, load h", "a b c d e f g h", ""},
		{"both headers of the oldest", []hit{{1, 0}, {1, spool.BlockLen}}, "gap, load e, f, g, load h", "e f g h",
			fmt.Sprintf("1:0-%d", f1[4].End)},
		{"both headers of the middle", []hit{{2, 20}, {2, spool.BlockLen + 63}}, "load -, a, b, c, d, gap, load h", "a b c d h",
			fmt.Sprintf("2:0-%d", f2[2].End)},
		{"both headers of the newest", []hit{{3, 20}, {3, spool.BlockLen + 63}}, "load -, a, b, c, d, load e, f, g, gap", "a b c d e f g",
			"3:0-24576"},
		{"head of a frame", []hit{{1, f1[2].Off + 9}}, "load -, a, gap, c, d, load e, f, g, load h", "a c d e f g h",
			fmt.Sprintf("1:%d-%d", f1[2].Off, f1[2].End)},
		{"envelope", []hit{{1, f1[2].Off + spool.FrameLen}}, "load -, a, gap, c, d, load e, f, g, load h", "a c d e f g h",
			fmt.Sprintf("1:%d-%d", f1[2].Off, f1[2].End)},
		{"delta", []hit{{1, f1[2].End - 1}}, "load -, a, gap, c, d, load e, f, g, load h", "a c d e f g h",
			fmt.Sprintf("1:%d-%d", f1[2].Off, f1[2].End)},
		{"two frames, side by side", []hit{{1, f1[2].Off}, {1, f1[3].End - 1}}, "load -, a, gap, d, load e, f, g, load h", "a d e f g h",
			fmt.Sprintf("1:%d-%d", f1[2].Off, f1[3].End)},
		{"two frames, apart", []hit{{1, f1[1].Off}, {1, f1[3].End - 1}}, "load -, gap, b, gap, d, load e, f, g, load h", "b d e f g h",
			fmt.Sprintf("1:%d-%d 1:%d-%d", f1[1].Off, f1[1].End, f1[3].Off, f1[3].End)},
		{"the last frame before a roll", []hit{{1, f1[4].End - 1}}, "load -, a, b, c, gap, load e, f, g, load h", "a b c e f g h",
			fmt.Sprintf("1:%d-%d", f1[4].Off, f1[4].End)},
		{"a first frame", []hit{{2, f2[0].Off + 100}}, "load -, a, b, c, d, gap, f, g, load h", "a b c d f g h",
			fmt.Sprintf("2:%d-%d", f2[0].Off, f2[0].End)},
		{"a first frame without predecessor", []hit{{1, f1[0].Off + 1}}, "gap, a, b, c, d, load e, f, g, load h", "a b c d e f g h",
			fmt.Sprintf("1:%d-%d", f1[0].Off, f1[0].End)},
		{"the newest first frame", []hit{{3, f3[0].Off + 2}}, "load -, a, b, c, d, load e, f, g, gap", "a b c d e f g",
			fmt.Sprintf("3:%d-%d", f3[0].Off, f3[0].End)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fsys := threeSegments(t)
			for _, h := range tc.hits {
				flip(t, fsys, h.id, h.off)
			}
			s, d := openDiary(t, fsys)
			if got := strings.Join(d.told, ", "); got != tc.told {
				t.Errorf("state was told\n%s, want\n%s", got, tc.told)
			}
			if got := served(t, s); got != tc.served {
				t.Errorf("served %s, want %s", got, tc.served)
			}
			var spans []string
			for _, d := range s.Damages() {
				spans = append(spans, fmt.Sprintf("%d:%d-%d", d.Segment, d.From, d.To))
				aside, err := durable.ReadFile(fsys, d.File, 1<<20)
				if err != nil {
					t.Fatal(err)
				}
				seg, err := durable.ReadFile(fsys, spool.SegName(dir, d.Segment), 1<<20)
				must(t, err)
				if !bytes.Equal(aside, seg[d.From:d.To]) {
					t.Errorf("%s does not hold the damaged bytes", d.File)
				}
				if d.Known || d.Shipped {
					t.Errorf("%v: known %v, shipped %v", d, d.Known, d.Shipped)
				}
			}
			if got := strings.Join(spans, " "); got != tc.spans {
				t.Errorf("damages %s, want %s", got, tc.spans)
			}

			// An end before Recover: the state is told again, though what lies behind
			// the damage was shipped.
			if tc.spans != "" {
				s.Trim(100)
				must(t, s.Close())
			}
			fsys.Restart()
			s, d = openDiary(t, fsys)
			if got := strings.Join(d.told, ", "); got != tc.told {
				t.Errorf("after a crash state was told\n%s, want\n%s", got, tc.told)
			}
			last := d.last
			must(t, s.Recover(once))
			put(t, s, "i", 100)

			// From Recover on it is not told again, and its snapshot is what counts.
			fsys.Restart()
			s, d = openDiary(t, fsys)
			if got := strings.Join(d.told, ", "); !strings.HasSuffix(got, ", load "+last+", i") || strings.Contains(got, "gap") {
				t.Errorf("at the next start state was told %s", got)
			}
			for _, d := range s.Damages() {
				if !d.Known {
					t.Errorf("%v is not known", d)
				}
			}
			must(t, s.Recover(once))
			if got := served(t, s); got != tc.served+" i" {
				t.Errorf("at the next start served %s, want %s i", got, tc.served)
			}
			// All of it can go; what was set aside stays.
			s.Trim(100)
			if st := s.Stats(); st.Segments != 1 || st.Pending != 0 {
				t.Errorf("%d segments, %d envelopes are left", st.Segments, st.Pending)
			}
			for _, d := range s.Damages() {
				if _, err := fsys.Stat(d.File); err != nil {
					t.Error(err)
				}
			}
			must(t, s.Close())
		})
	}
}

// TestDamageShipped damages what was shipped: nothing is lost, so the state is
// told nothing, unless no later entry carries it on.
func TestDamageShipped(t *testing.T) {
	for _, tc := range []struct {
		name string
		trim uint64
		hit  int // frame of segment 1
		told string
	}{
		{"shipped", 3, 2, "load -, a, c, d, load e, f, g, load h"},
		{"just shipped", 2, 2, "load -, a, c, d, load e, f, g, load h"},
		{"not shipped", 1, 2, "load -, a, gap, c, d, load e, f, g, load h"},
		{"snapshot", 1, 0, "a, b, c, d, load e, f, g, load h"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fsys := threeSegments(t)
			s, _ := openDiary(t, fsys)
			served(t, s)
			s.Trim(tc.trim)
			must(t, s.Close())
			frames, err := spool.Frames(fsys, dir, 1)
			must(t, err)
			flip(t, fsys, 1, frames[tc.hit].Off+spool.FrameLen)
			s, d := openDiary(t, fsys)
			if got := strings.Join(d.told, ", "); got != tc.told {
				t.Errorf("state was told %s, want %s", got, tc.told)
			}
			if d := s.Damages(); len(d) != 1 || d[0].Shipped == strings.Contains(tc.told, "gap") {
				t.Errorf("got %+v", d)
			}
			want := strings.Split("a b c d e f g h", " ")[tc.trim:]
			if tc.name == "not shipped" {
				want = want[1:]
			}
			if got := served(t, s); got != strings.Join(want, " ") {
				t.Errorf("served %s, want %s", got, want)
			}
		})
	}
}

// TestDamagedSnapshotShipped damages the newest first frame, all of it shipped: the
// segment before holds the state, and must stay until Recover is done.
func TestDamagedSnapshotShipped(t *testing.T) {
	fsys := threeSegments(t)
	s, _ := openDiary(t, fsys)
	must(t, s.Recover(once)) // h is in segment 3, what follows in 4
	put(t, s, "i", 10)
	put(t, s, "j", 10)
	if got := served(t, s); got != "a b c d e f g h i j" {
		t.Fatalf("served %s", got)
	}
	failNth(fsys, 1, 100, syscall.ENOSPC, crashfs.Remove, crashfs.Rename) // as if it crashed before they go
	s.Trim(9)
	must(t, s.Close())
	fsys.Restart()
	frames, err := spool.Frames(fsys, dir, 4)
	must(t, err)
	flip(t, fsys, 4, frames[0].Off)
	for _, want := range []string{"load -, a, b, c, d, load e, f, g, load h, i, j", "load h, i, j", "load h, i, j"} {
		s, d := openDiary(t, fsys)
		if got := strings.Join(d.told, ", "); got != want {
			t.Errorf("state was told %s, want %s", got, want)
		}
		served(t, s) // and what can go, goes
		fsys.Restart()
	}
}

// TestDamageOfTheLastEntry damages the newest entry, of which no frame tells that
// it was durable. The hint does; without it, b is a torn tail.
func TestDamageOfTheLastEntry(t *testing.T) {
	for _, tc := range []struct {
		shipped, hint bool
		told, served  string
	}{
		{false, false, "load -, a", "a c"},
		{false, true, "load -, a, gap", "a c"},
		{true, true, "load -, a, gap", "c"},
	} {
		fsys := crashfs.New()
		s, _ := openDiary(t, fsys)
		must(t, s.Recover(once))
		put(t, s, "a", 10)
		put(t, s, "b", 10)
		if tc.shipped {
			served(t, s)
			s.Trim(2)
		}
		must(t, s.Close())
		frames, err := spool.Frames(fsys, dir, 1)
		must(t, err)
		flip(t, fsys, 1, frames[2].End-1)
		if !tc.hint {
			must(t, fsys.Remove(dir+"/shipped"))
		}
		s, d := openDiary(t, fsys)
		if got := strings.Join(d.told, ", "); got != tc.told {
			t.Errorf("%+v: state was told %s", tc, got)
		}
		must(t, s.Recover(once))
		put(t, s, "c", 10)
		if got := served(t, s); got != tc.served {
			t.Errorf("%+v: served %s", tc, got)
		}
		must(t, s.Close())
	}
}

// TestMissingEnds removes segments at the ends of the row, or the end of the last
// one: the hint tells of them, once, unless they were shipped.
func TestMissingEnds(t *testing.T) {
	cut := func(t *testing.T, fsys *crashfs.FS) {
		frames, err := spool.Frames(fsys, dir, 3)
		must(t, err)
		b, err := durable.ReadFile(fsys, spool.SegName(dir, 3), 1<<20)
		must(t, err)
		f, err := fsys.OpenFile(spool.SegName(dir, 3), os.O_RDWR|os.O_TRUNC, 0)
		must(t, err)
		_, err = f.WriteAt(b[:frames[1].Off+9], 0)
		must(t, err)
		must(t, f.Close())
	}
	remove := func(ids ...uint32) func(*testing.T, *crashfs.FS) {
		return func(t *testing.T, fsys *crashfs.FS) {
			for _, id := range ids {
				must(t, fsys.Remove(spool.SegName(dir, id)))
			}
		}
	}
	for _, tc := range []struct {
		name    string
		trim    uint64
		do      func(*testing.T, *crashfs.FS)
		told    string
		damages string
		served  string
	}{
		{"none", 0, remove(), "load -, a, b, c, d, load e, f, g, load h, i", "[]", "a b c d e f g h i"},
		{"the first", 0, remove(1), "gap, load e, f, g, load h, i", "[segment 1 is missing]", "e f g h i"},
		{"the first two", 0, remove(1, 2), "gap, load h, i", "[segments 1 to 2 are missing]", "h i"},
		{"the first, shipped in part", 3, remove(1), "gap, load e, f, g, load h, i", "[segment 1 is missing]", "e f g h i"},
		{"none, the first being gone", 5, remove(), "load e, f, g, load h, i", "[]", "f g h i"},
		{"the second, the first being gone", 5, remove(2), "gap, load h, i", "[segment 2 is missing]", "h i"},
		{"the last two", 0, remove(2, 3), "load -, a, b, c, d, gap", "[segments 2 to 3 are missing]", "a b c d"},
		{"the last", 0, remove(3), "load -, a, b, c, d, load e, f, g, gap", "[segment 3 is missing]", "a b c d e f g"},
		{"all", 0, remove(1, 2, 3), "gap", "[segments 1 to 3 are missing]", ""},
		{"all, shipped", 9, remove(3), "gap", "[segment 3 is missing]", ""},
		{"the end of the last", 0, cut, "load -, a, b, c, d, load e, f, g, load h, gap", "[segment 3, bytes 12747 to 13398]", "a b c d e f g h"},
		{"the end of the last, shipped", 9, cut, "load h, gap", "[segment 3, bytes 12747 to 13398]", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fsys := crashfs.New()
			s, _ := openDiary(t, fsys)
			must(t, s.Recover(once))
			for _, name := range strings.Split("a b c d", " ") {
				put(t, s, name, 3500)
			}
			for _, name := range strings.Split("e f g h", " ") {
				put(t, s, name, 4500)
			}
			put(t, s, "i", 600)
			if tc.trim > 0 {
				served(t, s)
				s.Trim(tc.trim)
			}
			must(t, s.Close())
			tc.do(t, fsys)
			for range 2 { // a crash before Recover: told again
				fsys.Restart()
				s, d := openDiary(t, fsys)
				if got := strings.Join(d.told, ", "); got != tc.told {
					t.Errorf("state was told %s, want %s", got, tc.told)
				}
				if got := fmt.Sprint(s.Damages()); got != tc.damages {
					t.Errorf("damages %s, want %s", got, tc.damages)
				}
				if got := served(t, s); got != tc.served {
					t.Errorf("served %s, want %s", got, tc.served)
				}
				a := s.Aside()
				want := spool.Aside{}
				switch {
				case strings.Contains(tc.damages, "missing"):
					want.Missing = []string{strings.NewReplacer("[segment ", "", "[segments ", "", " is missing]", "", " are missing]", "").Replace(tc.damages)}
				case tc.damages != "[]":
					want.Damaged = 1
				}
				if !reflect.DeepEqual(a, want) {
					t.Errorf("aside %+v, want %+v", a, want)
				}
			}
			// At any moment of Recover: told until the new segment is there, and then not.
			for n := 1; ; n++ {
				g := fsys.Clone()
				g.CrashAt(n)
				s, err := spool.Open(dir, spool.Options{FS: g, SegmentBytes: 24 << 10}, &diary{last: "-"})
				if err == nil {
					err = s.Recover(once)
				}
				g.Restart()
				s, d := openDiary(t, g)
				for _, damage := range s.Damages() {
					if damage.Known == slices.Contains(d.told, "gap") {
						t.Errorf("crash at %d: %v known: %v, told %v", n, damage, damage.Known, d.told)
					}
				}
				if err != nil {
					must(t, s.Recover(once))
					g.Restart()
					_, d = openDiary(t, g)
				}
				if strings.Contains(strings.Join(d.told, " "), "gap") {
					t.Errorf("told again: %v", d.told)
				}
				if err == nil {
					break
				}
			}
		})
	}
}

// TestAside has what is set aside told until it is moved away, whatever restarts.
func TestAside(t *testing.T) {
	fsys := threeSegments(t)
	list, err := spool.Frames(fsys, dir, 1)
	must(t, err)
	flip(t, fsys, 1, list[1].Off)
	must(t, fsys.Remove(spool.SegName(dir, 2)))
	want := func(s *spool.Spool, damaged, missing, rejected int) {
		t.Helper()
		a := s.Aside()
		if a.Damaged != damaged || len(a.Missing) != missing || a.Rejected != rejected {
			t.Errorf("got %+v, want %d, %d, %d", a, damaged, missing, rejected)
		}
	}
	s, _ := openDiary(t, fsys)
	want(s, 1, 1, 0)
	must(t, s.Recover(once))
	parked, err := s.Park([]byte("never"), "why")
	must(t, err)
	put(t, s, "i", 100)
	served(t, s)
	s.Trim(100)
	must(t, s.Close())
	for range 2 { // the segments around it are gone
		fsys.Restart()
		s, _ = openDiary(t, fsys)
		if d := s.Damages(); len(d) != 0 {
			t.Errorf("damages %v", d)
		}
		want(s, 1, 1, 1)
		must(t, s.Close())
	}
	moved, err := fsys.ReadDir(filepath.Join(dir, "damaged"))
	must(t, err)
	for _, e := range moved {
		must(t, fsys.Remove(filepath.Join(dir, "damaged", e.Name())))
	}
	must(t, fsys.Remove(parked))
	for _, left := range []string{"00000002-00000002.missing.tmp", "00000001-64-128.tmp"} { // by a crash
		must(t, durable.WriteFile(fsys, filepath.Join(dir, "damaged", left), nil, 0o600))
	}
	s, _ = openDiary(t, fsys)
	want(s, 0, 0, 0)
}

// TestH64_TornTail has frames behind the highest synced that do and do not verify:
// what follows one that does not never was.
func TestH64_TornTail(t *testing.T) {
	const f = "load -, a, b"
	for _, tc := range []struct {
		name   string
		tail   string // behind b: a letter is a frame, an upper-case one a damaged one
		told   string
		synced int // the tail's last frame says that so many of its frames are durable
	}{
		{"nothing", "", f, 0},
		{"good", "c", f + ", c", 0},
		{"two good", "cd", f + ", c, d", 0},
		{"bad", "C", f, 0},
		{"bad, good", "Cd", f, 0},
		{"good, bad, good", "cDe", f + ", c", 0},
		{"bad, good that tells of it", "Cd", f + ", gap, d", 1},
		{"good, bad, good that tells of the first", "cDe", f + ", c", 1},
		{"good, bad, good that tells of both", "cDe", f + ", c, gap, e", 2},
		{"bad, bad that tells of the first", "CD", f + ", gap", 1},
		{"good, bad, bad that tells of the first", "cDE", f + ", c", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fsys := crashfs.New()
			s, _ := openDiary(t, fsys)
			must(t, s.Recover(once))
			put(t, s, "a", 100)
			put(t, s, "b", 100)
			must(t, s.Close())
			frames, err := spool.Frames(fsys, dir, 1)
			must(t, err)
			off := frames[2].End
			ends := []int64{off}
			for i, name := range tc.tail {
				synced := ends[0]
				if i == len(tc.tail)-1 {
					synced = ends[tc.synced]
				}
				name := strings.ToLower(string(name))
				off, err = spool.WriteFrame(fsys, dir, 1, off, synced, []byte(name+":"), []byte(name))
				must(t, err)
				ends = append(ends, off)
			}
			for i, name := range tc.tail {
				if name < 'a' {
					flip(t, fsys, 1, ends[i+1]-1)
				}
			}
			s, d := openDiary(t, fsys)
			if got := strings.Join(d.told, ", "); got != tc.told {
				t.Errorf("state was told %s, want %s", got, tc.told)
			}
			must(t, s.Recover(once))
			put(t, s, "z", 10)
			want := strings.NewReplacer("load -, ", "", "gap, ", "", ", gap", "", ",", "").Replace(tc.told) + " z"
			if got := served(t, s); got != want {
				t.Errorf("served %s, want %s", got, want)
			}
			must(t, s.Close())
			fsys = fsys.Clone()
			must(t, fsys.Remove(dir+"/shipped")) // which knows that z is durable
			s, d = openDiary(t, fsys)
			if d.last != "z" || slices.Contains(d.told, "gap") {
				t.Errorf("at the next start state was told %s", strings.Join(d.told, ", "))
			}
			if got := served(t, s); got != strings.TrimSuffix(want, " z") { // z is not known to be durable yet
				t.Errorf("at the next start served %s, want %s", got, want)
			}
			must(t, s.Recover(once))
			if got := served(t, s); got != "z" {
				t.Errorf("after Recover served %s, want z", got)
			}
		})
	}
}

// TestMissingSegment removes a segment by hand.
func TestMissingSegment(t *testing.T) {
	fsys := threeSegments(t)
	must(t, fsys.Remove(spool.SegName(dir, 2)))
	for range 2 { // a crash before Recover: told again, even if what shows the hole could go
		s, d := openDiary(t, fsys)
		if got, want := strings.Join(d.told, ", "), "load -, a, b, c, d, gap, load h"; got != want {
			t.Errorf("state was told %s, want %s", got, want)
		}
		if got := served(t, s); got != "a b c d h" {
			t.Errorf("served %s", got)
		}
		s.Trim(4)
		if d := s.Damages(); len(d) != 1 || d[0].String() != "segment 2 is missing" {
			t.Errorf("damages %v", d)
		}
		fsys.Restart()
	}
	s, _ := openDiary(t, fsys)
	must(t, s.Recover(once))
	fsys.Restart()
	if _, d := openDiary(t, fsys); slices.Contains(d.told, "gap") {
		t.Errorf("told again: %v", d.told)
	}
}

// TestUnreadableSector has the disk refuse a block of a segment.
func TestUnreadableSector(t *testing.T) {
	fsys := threeSegments(t)
	frames, err := spool.Frames(fsys, dir, 1)
	must(t, err)
	bad := &badBlock{FS: fsys, name: spool.SegName(dir, 1), block: frames[3].Off / 4096}
	d := &diary{last: "-"}
	s, err := spool.Open(dir, spool.Options{FS: bad, SegmentBytes: 24 << 10}, d)
	must(t, err)
	// The block holds the end of one frame and most of the next.
	if got, want := strings.Join(d.told, ", "), "load -, a, gap, d, load e, f, g, load h"; got != want {
		t.Errorf("state was told %s, want %s", got, want)
	}
	if got := served(t, s); got != "a d e f g h" {
		t.Errorf("served %s", got)
	}
	if d := s.Damages(); len(d) != 1 || d[0].From != frames[2].Off || d[0].To != frames[3].End || d[0].File == "" {
		t.Errorf("damages %+v", d)
	}
	// An error that says nothing about the bytes says nothing about damage.
	bad.err = syscall.ESTALE
	if _, err := spool.Open(dir, spool.Options{FS: bad, SegmentBytes: 24 << 10}, d); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("got %v, want ESTALE", err)
	}
}

// A badBlock is a file system with a block of one file that cannot be read.
type badBlock struct {
	durable.FS
	name  string
	block int64
	err   error // nil = EIO
}

func (b *badBlock) OpenFile(name string, flag int, perm os.FileMode) (durable.File, error) {
	f, err := b.FS.OpenFile(name, flag, perm)
	if name != b.name || err != nil {
		return f, err
	}
	return badFile{f, b}, nil
}

type badFile struct {
	durable.File
	b *badBlock
}

func (f badFile) ReadAt(b []byte, off int64) (int, error) {
	if from := f.b.block * 4096; off < from+4096 && off+int64(len(b)) > from {
		if f.b.err != nil {
			return 0, f.b.err
		}
		return 0, &os.PathError{Op: "read", Path: f.b.name, Err: syscall.EIO}
	}
	return f.File.ReadAt(b, off)
}

// TestNoRoomToSetAside keeps the whole segment when the bytes cannot be copied.
func TestNoRoomToSetAside(t *testing.T) {
	fsys := threeSegments(t)
	frames, err := spool.Frames(fsys, dir, 1)
	must(t, err)
	flip(t, fsys, 1, frames[2].Off)
	fill(fsys)
	s, d := openDiary(t, fsys)
	if !slices.Contains(d.told, "gap") || len(s.Damages()) != 1 || s.Damages()[0].File != "" {
		t.Fatalf("told %v, damages %+v", d.told, s.Damages())
	}
	if a := s.Aside(); a.Damaged != 1 {
		t.Errorf("aside %+v", a)
	}
	must(t, s.Recover(once)) // from the spare
	served(t, s)
	s.Trim(100)
	if a := s.Aside(); a.Damaged != 1 {
		t.Errorf("aside %+v, once the segment went", a)
	}
	name := s.Damages()[0].File
	if b, err := durable.ReadFile(fsys, name, 1<<20); err != nil || int64(len(b)) != 24<<10 {
		t.Errorf("kept %q: %d bytes, %v", name, len(b), err)
	}
	if s.Stats().Segments != 1 {
		t.Errorf("%d segments are left", s.Stats().Segments)
	}
}

// TestNoRoomToNote has what is missing known though there is no room to note it.
func TestNoRoomToNote(t *testing.T) {
	fsys := threeSegments(t)
	must(t, fsys.Remove(spool.SegName(dir, 2)))
	fill(fsys)
	s, d := openDiary(t, fsys)
	if a := s.Aside(); !slices.Contains(d.told, "gap") || !slices.Equal(a.Missing, []string{"2"}) {
		t.Errorf("told %v, aside %+v", d.told, a)
	}
}

// TestFailedAside fails each step of setting damage aside and of noting what is
// missing, for good: Open returns the error, and the next finds what there was.
func TestFailedAside(t *testing.T) {
	for _, kind := range []string{crashfs.Sync, crashfs.SyncDir, crashfs.Write, crashfs.Rename, crashfs.Create} {
		failed := 0
		for n := 1; ; n++ {
			fsys := threeSegments(t)
			list, err := spool.Frames(fsys, dir, 1)
			must(t, err)
			flip(t, fsys, 1, list[1].Off)
			must(t, fsys.Remove(spool.SegName(dir, 2)))
			hit := failNth(fsys, n, 1, syscall.EIO, kind)
			_, err = spool.Open(dir, spool.Options{FS: fsys, SegmentBytes: 24 << 10}, &diary{})
			if !*hit {
				break
			}
			if failed++; !errors.Is(err, syscall.EIO) {
				t.Errorf("%s %d: got %v, want EIO", kind, n, err)
			}
			fsys.Inject(nil)
			fsys.Restart()
			s, d := openDiary(t, fsys)
			if a := s.Aside(); a.Damaged != 1 || len(a.Missing) != 1 || !slices.Contains(d.told, "gap") {
				t.Errorf("%s %d: aside %+v, told %v", kind, n, a, d.told)
			}
		}
		if failed < 2 {
			t.Errorf("%s: %d failures, want one of each at least", kind, failed)
		}
	}
}

// TestLateDamage damages an entry behind the back of an open spool: the error is
// final, and the next start tells the state.
func TestLateDamage(t *testing.T) {
	for _, part := range []int64{0, spool.FrameLen} {
		fsys := threeSegments(t)
		s, _ := openDiary(t, fsys)
		must(t, s.Recover(once))
		frames, err := spool.Frames(fsys, dir, 1)
		must(t, err)
		flip(t, fsys, 1, frames[2].Off+part)
		_, _, err = s.Next(once, nil, 1<<20)
		if err == nil || errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		if again := s.Append(once, nil, nil, nil); again == nil || again.Error() != err.Error() {
			t.Errorf("Append afterwards: %v", again)
		}
		fsys.Restart()
		s, d := openDiary(t, fsys)
		if !slices.Contains(d.told, "gap") {
			t.Errorf("state was told %v", d.told)
		}
		must(t, s.Recover(once))
		if got := served(t, s); got != "a c d e f g h" {
			t.Errorf("served %s", got)
		}
	}
}

// TestNewer refuses a directory in a newer format, and changes nothing in it.
func TestNewer(t *testing.T) {
	fsys := threeSegments(t)
	f, err := fsys.OpenFile(spool.SegName(dir, 3), os.O_RDWR, 0)
	must(t, err)
	stable := []byte("\x89STSPOOL\x00\x00\x00\x02") // with a checksum: what no version changes
	stable = binary.BigEndian.AppendUint32(stable, crc32.Checksum(stable, crc32.MakeTable(crc32.Castagnoli)))
	for _, off := range []int64{0, spool.BlockLen} {
		if _, err := f.WriteAt(stable, off); err != nil {
			t.Fatal(err)
		}
	}
	before := fsys.Ops()
	if _, err := spool.Open(dir, spool.Options{FS: fsys}, &diary{}); !errors.Is(err, spool.ErrNewer) {
		t.Errorf("Open: got %v, want ErrNewer", err)
	}
	if n := fsys.Ops() - before; n > 1 { // the sync of the parent directory
		t.Errorf("Open did %d operations", n)
	}
	if err := spool.Read(fsys, dir, func([]byte) error { return nil }); !errors.Is(err, spool.ErrNewer) {
		t.Errorf("Read: got %v, want ErrNewer", err)
	}
}
