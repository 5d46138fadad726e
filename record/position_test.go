package record_test

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"

	"sealtail/record"
)

func print(n byte) record.Print { return record.Print{Len: 1024, Sum: [16]byte{n, 15: n}} }

func positions() []record.Position {
	return []record.Position{
		{ID: 1, Path: "/a", Dev: 2049, Ino: 11, Offset: 300, From: 100, Size: 300, Head: print(1), Marker: print(2)},
		{ID: 2, Path: "/b", Ino: 1 << 40, Offset: 0, Size: 77},
		{ID: 3, Path: "/c", Offset: 5, From: 5, Size: 9, Deleted: true, Closed: 1764072000, Encoding: 2, Next: 1},
		{ID: 1 << 63, Path: "", Offset: 1 << 50, From: 1 << 50, Size: 1 << 50, Sources: []record.Source{
			{Name: "", PartID: 1<<64 - 1, PartNext: 3}, {Name: "stderr", Skip: 9}}},
		{ID: 1<<63 + 1, Path: "/a", Ino: 11, Offset: 100, From: 100, Size: 300, Head: print(1), Until: 400,
			Was: []record.Source{{Name: "stdout", Skip: 150}}, Ends: []record.Source{{Name: "stderr", Skip: 400, PartID: 7, PartNext: 1}}},
		{ID: 1<<63 + 2, Path: "revoked", Paused: 1_700_000_000_000_000_000},
	}
}

func TestPositionsRoundTrip(t *testing.T) {
	var ours, theirs record.Positions
	delta := ours.AppendDelta(nil, positions())
	moved, err := theirs.Apply(delta)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(moved, positions()) {
		t.Errorf("got %v, want %v", moved, positions())
	}
	if !reflect.DeepEqual(theirs.All(), ours.All()) {
		t.Errorf("got %v, want %v", theirs.All(), ours.All())
	}
	var third record.Positions
	if _, err := third.Apply(theirs.AppendSnapshot(nil, nil)); err != nil {
		t.Fatal(err)
	}
	for i, p := range third.All() {
		want := positions()[i]
		want.From, want.Was = want.Offset, want.Sources
		if !reflect.DeepEqual(p, want) {
			t.Errorf("got %v, want %v", p, want)
		}
	}
}

// A file's markers are its trail: deltas add up to it, and the snapshot beside
// an entry has it of the files that moved.
func TestTrail(t *testing.T) {
	var ours, theirs record.Positions
	at := func(id uint64, offset int64) record.Position {
		return record.Position{ID: id, Path: "/a", Offset: offset, Size: offset, Marker: record.Print{Len: 1024, Sum: [16]byte{byte(offset >> 10)}}}
	}
	trail := func(ps *record.Positions, id uint64) (all []int64) {
		p, _ := ps.Get(id)
		for _, m := range p.Trail {
			if m.Print != at(id, m.At).Marker {
				t.Errorf("mark at %d: got %v", m.At, m.Print)
			}
			all = append(all, m.At)
		}
		return all
	}
	var moved []record.Position
	for n := int64(1); n <= 100; n++ {
		moved = []record.Position{at(1, n<<20)}
		if n < 4 {
			moved = append(moved, at(2, n<<20), at(3, n<<9))
		}
		if n == 50 {
			moved = append(moved, at(4, n<<20), record.Position{ID: 3, Forget: true})
		}
		if _, err := theirs.Apply(ours.AppendDelta(nil, moved)); err != nil {
			t.Fatal(err)
		}
	}
	if got := trail(&ours, 1); len(got) != 12 || got[11] != 99<<20 || got[10] != 98<<20 || got[0] > 50<<20 {
		t.Errorf("got marks at %d", got)
	}
	var rolled, started record.Positions
	for ps, b := range map[*record.Positions][]byte{&rolled: theirs.AppendSnapshot(nil, moved), &started: theirs.AppendSnapshot(nil, nil)} {
		if _, err := ps.Apply(b); err != nil {
			t.Fatal(err)
		}
	}
	for id, kept := range map[uint64]bool{1: true, 2: false, 3: false, 4: false} {
		want := trail(&ours, id)
		if got := trail(&started, id); !reflect.DeepEqual(got, want) {
			t.Errorf("%d at a start: got marks at %d, want %d", id, got, want)
		}
		if !kept {
			want = nil
		}
		if got := trail(&rolled, id); !reflect.DeepEqual(got, want) {
			t.Errorf("%d beside an entry: got marks at %d, want %d", id, got, want)
		}
	}
}

func TestForget(t *testing.T) {
	var ps, other record.Positions
	other.Apply(ps.AppendDelta(nil, positions()))
	other.Apply(ps.AppendDelta(nil, []record.Position{{ID: 2, Forget: true}}))
	if _, ok := other.Get(2); ok || other.Len() != len(positions())-1 || ps.Len() != other.Len() {
		t.Errorf("got %d and %d files, want %d", other.Len(), ps.Len(), len(positions())-1)
	}
}

// Losses are summed up by reason, in entries and snapshots alike, and are no
// files.
func TestLossesAddUp(t *testing.T) {
	lost := func(id uint64, why string, ranges, bytes int64) record.Position {
		return record.Position{ID: id, Path: why, Lost: record.Lost{Ranges: ranges, Bytes: bytes}, Forget: true}
	}
	var ours, theirs record.Positions
	for _, entry := range [][]record.Position{
		append(positions(), lost(71, "deleted", 1, 9)),
		{lost(72, "deleted", 1, 1<<40), lost(73, "truncated", 1, 0), positions()[0]},
		nil,
	} {
		moved, err := theirs.Apply(ours.AppendDelta(nil, entry))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range moved {
			if p.Lost.Ranges != 0 {
				t.Errorf("moved %v", p)
			}
		}
		before := ours.Clone()
		before.Put([]record.Position{lost(74, "deleted", 1, 1)}) // a copy's is its own
		var again record.Positions
		if _, err := again.Apply(theirs.AppendSnapshot(nil, nil)); err != nil {
			t.Fatal(err)
		}
		theirs = again
	}
	want := map[string]record.Lost{"deleted": {Ranges: 2, Bytes: 1<<40 + 9}, "truncated": {Ranges: 1}}
	for name, ps := range map[string]*record.Positions{"ours": &ours, "theirs": &theirs} {
		if got := ps.Losses().Since(time.Time{}); !reflect.DeepEqual(got, want) || ps.Len() != len(positions()) {
			t.Errorf("%s: got %v and %d files, want %v and %d", name, got, ps.Len(), want, len(positions()))
		}
	}
}

// Losses of the day before the newest are known apart, by the hour, wherever
// they are read from; a clock that was set back makes none last for ever.
func TestRecentLosses(t *testing.T) {
	noon := time.Date(2026, 11, 25, 12, 30, 0, 0, time.UTC)
	at := func(hours int) time.Time { return noon.Add(time.Duration(hours) * time.Hour) }
	for _, tt := range []struct {
		name   string
		hours  []int // after noon, of losses of 1, 2, 4 … bytes
		from   int
		recent int64
		newest int
	}{
		{"one", []int{0}, 0, 1, 0},
		{"of the hour asked for", []int{0, 1}, 1, 2, 1},
		{"a day before the newest", []int{0, 24}, 0, 3, 24},
		{"longer before", []int{0, 24, 25}, 0, 6, 25},
		{"of a clock that was set back", []int{1000, 0, 1}, 0, 6, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var ps, snapshot record.Positions
			var all int64
			for i, h := range tt.hours {
				p := record.Position{ID: uint64(i), Path: "deleted", Lost: record.Lost{Ranges: 1, Bytes: 1 << i}, Closed: at(h).Unix(), Forget: true}
				all += p.Lost.Bytes
				ps.Put([]record.Position{p, {ID: 99, Path: "truncated", Lost: record.Lost{Ranges: 1}, Closed: at(h).Unix(), Forget: true}})
			}
			ps.Put([]record.Position{{ID: 99, Path: "deleted", Lost: record.Lost{Ranges: 1, Bytes: 1 << 40}, Forget: true}}) // nobody knows when
			if _, err := snapshot.Apply(ps.AppendSnapshot(nil, nil)); err != nil {
				t.Fatal(err)
			}
			for name, l := range map[string]record.Losses{"added": ps.Losses(), "read": snapshot.Losses()} {
				if got := l.Since(at(tt.from))["deleted"].Bytes; got != tt.recent {
					t.Errorf("%s: got %d bytes since then, want %d", name, got, tt.recent)
				}
				if got := l.Since(time.Time{})["deleted"].Bytes; got != all+1<<40 {
					t.Errorf("%s: got %d bytes in all, want %d", name, got, all+1<<40)
				}
				if got := l.Newest(); !got.Equal(at(tt.newest)) {
					t.Errorf("%s: newest at %v, want %v", name, got, at(tt.newest))
				}
			}
		})
	}
}

// A delta that stands alone, its predecessors lost, still names the file.
func TestDeltaAloneNamesTheFile(t *testing.T) {
	var ps, late record.Positions
	p := positions()[0]
	ps.AppendDelta(nil, []record.Position{p})
	p.Offset, p.From, p.Size = 400, 300, 400
	moved, err := late.Apply(ps.AppendDelta(nil, []record.Position{p}))
	if err != nil || len(moved) != 1 {
		t.Fatal(moved, err)
	}
	got := moved[0]
	if got.Ino != p.Ino || got.Head != p.Head || got.Marker != p.Marker || got.Offset != 400 || got.From != 300 {
		t.Errorf("got %v, want %v but for path and device", got, p)
	}
}

func TestDeltaIsSmall(t *testing.T) {
	var ps record.Positions
	p := positions()[0]
	p.Path = "/var/log/pods/kube-system_coredns-5d78c9869d-xxxxx_2f8e5f0c-0000/coredns/0.log"
	ps.AppendDelta(nil, []record.Position{p})
	p.Offset, p.From, p.Size = 1<<33+1<<18, 1<<33, 1<<33+1<<18
	if n := len(ps.AppendDelta(nil, []record.Position{p})); n > 60 {
		t.Errorf("got %d bytes, want at most 60", n)
	}
}

func FuzzPositions(f *testing.F) {
	var ps record.Positions
	f.Add(ps.AppendDelta(nil, positions()))
	p := positions()[0]
	p.Trail = record.Trail{{At: 1024, Print: print(1)}, {At: 2000, Print: print(2)}}
	p.Offset = 2000
	var one record.Positions
	one.Put([]record.Position{p})
	f.Add(one.AppendSnapshot(nil, nil))
	f.Add(ps.AppendDelta(nil, []record.Position{{ID: 2, Forget: true}, {ID: 9, Path: "deleted", Lost: record.Lost{Ranges: 1, Bytes: 7}, Closed: 1764000000, Forget: true}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var ps, again record.Positions
		if _, err := ps.Apply(b); err != nil {
			return
		}
		snapshot := ps.AppendSnapshot(nil, nil)
		if _, err := again.Apply(snapshot); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.AppendSnapshot(nil, nil), snapshot) {
			t.Error("a snapshot does not come back as it is")
		}
	})
}

func BenchmarkSnapshot(b *testing.B) {
	var ps record.Positions
	for i := range 10_000 {
		ps.AppendDelta(nil, []record.Position{{ID: uint64(i), Path: fmt.Sprintf("/var/log/app/%d.log", i), Ino: uint64(i), Offset: 1 << 20, Size: 1 << 20}})
	}
	var buf []byte
	for b.Loop() {
		buf = ps.AppendSnapshot(buf[:0], nil)
	}
	b.SetBytes(int64(len(buf)))
}
