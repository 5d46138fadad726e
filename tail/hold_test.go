package tail_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
)

// However many files are lost while nobody takes chunks, each is told once,
// many in one chunk.
func TestH28_ManyLosses(t *testing.T) {
	b := newBench(t)
	b.o.HoldMaxBytes = 1
	b.start()
	b.tail.Round(0)
	const files = 2000
	for i := range files / 100 {
		for j := range 100 {
			b.write(fmt.Sprintf("%d.log", 100*i+j), "0123456789\n")
		}
		b.tail.Round(second)
		for j := range 100 {
			b.remove(fmt.Sprintf("%d.log", 100*i+j))
		}
		b.tail.Round(second)
	}
	chunks := b.tail.Step(second)
	if len(chunks) > files/32 {
		t.Errorf("chunks: got %d, want at most %d", len(chunks), files/32)
	}
	for _, c := range chunks {
		b.take(c)
	}
	lost := b.losses()
	slices.Sort(lost)
	if lost = slices.Compact(lost); len(lost) != files {
		t.Errorf("losses: got %d, want %d", len(lost), files)
	}
	b.want()
}

// A deleted file's descriptor is let go by time.
func TestH29_DeletedLetGo(t *testing.T) {
	b := newBench(t)
	b.write("a.log", "one\ntw")
	w, err := os.OpenFile(b.path("a.log"), os.O_WRONLY|os.O_APPEND, 0)
	b.do(err)
	defer w.Close()
	b.step(0)
	b.remove("a.log")
	b.step(second)
	if s := b.tail.Stats(); s.Open != 1 || s.Files != 0 {
		t.Errorf("open %d, files %d", s.Open, s.Files)
	}
	_, err = w.WriteString("o\nthree\nfou")
	b.do(err)
	b.step(second)
	b.want("one", "two", "three")
	b.step(29 * second)
	b.want()
	b.step(second) // quiet for 30 s: its last line is as it is
	b.step(second)
	b.want("fou")
	b.step(second)
	if n := b.tail.Stats().Open; n != 0 {
		t.Errorf("open: got %d, want 0", n)
	}
	for _, p := range b.pos.All() {
		if !p.Deleted || p.Closed == 0 || p.Size != p.Offset {
			t.Errorf("position: %+v", p)
		}
	}
	b.start()
	b.step(0)
	b.step(6 * second)
	b.wantLosses()
}

// Gone at start with unread bytes that are known: one loss event.
func TestDeletedWhileDown(t *testing.T) {
	b := newBench(t)
	logs := b.logged()
	b.write("a.log", "one\ntw")
	b.write("b.log", "all\n")
	b.step(0)
	b.step(second)
	b.stop()
	b.remove("a.log")
	b.remove("b.log")
	b.step(0)
	b.wantLosses()
	b.step(6 * second)
	b.wantLosses("a.log 4-6 deleted unread")
	b.start()
	b.step(0)
	b.step(6 * second)
	b.wantLosses()
	all := logs.FilterLevelExact(zap.ErrorLevel).All()
	if len(all) != 1 {
		t.Fatalf("%d errors in the log, want 1", len(all))
	}
	got := all[0].ContextMap()
	if got["path"] != b.path("a.log") || got["from"] != int64(4) || got["to"] != int64(6) || got["reason"] != "deleted unread" {
		t.Errorf("logged: %v", got)
	}
}

// Deleted files are held while they are unread, within bounds.
func TestH28_HoldBounds(t *testing.T) {
	for _, tt := range []struct {
		name string
		free float64
		max  int64
		want []string
	}{
		{"all fits", 0.5, 1 << 20, nil},
		{"too many bytes", 0.5, 50 << 10, []string{"0.log 0-20000 held-bytes limit"}},
		{"disk full", 0.01, 1 << 20, []string{"0.log 0-20000 held-bytes limit", "1.log 0-20000 held-bytes limit", "2.log 0-20000 held-bytes limit"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			logs := b.logged()
			b.o.HoldMaxBytes = tt.max
			b.start()
			b.tail.SetFree(tt.free)
			b.tail.Round(0)
			var want []string
			for i := range 3 {
				name := fmt.Sprintf("%d.log", i)
				b.write(name, strings.Repeat(fmt.Sprintf("%d------------------\n", i), 1000))
				b.tail.Round(second)
				b.remove(name)
				b.tail.Round(second)
				if tt.want == nil || i >= len(tt.want) {
					want = append(want, slicesRepeat(fmt.Sprintf("%d------------------", i), 1000)...)
				}
			}
			if held := b.tail.Stats().HeldBytes; held > tt.max {
				t.Errorf("held: %d bytes, most %d", held, tt.max)
			}
			b.step(second)
			b.wantSet(want...)
			b.wantLosses(tt.want...)
			if n := logs.FilterLevelExact(zap.ErrorLevel).Len(); n != len(tt.want) {
				t.Errorf("%d errors in the log, want %d", n, len(tt.want))
			}
			b.step(31 * second)
			b.step(second)
			if s := b.tail.Stats(); s.HeldBytes != 0 || s.Open != 0 {
				t.Errorf("held %d, open %d", s.HeldBytes, s.Open)
			}
		})
	}
}

func slicesRepeat(s string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}
