package tail_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"sealtail/record"
)

func inoOf(t *testing.T, path string) uint64 {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Sys().(*syscall.Stat_t).Ino
}

// A new file gets the inode of one that was deleted while nobody looked.
func TestH01_InodeReuse(t *testing.T) {
	for _, size := range []int{1, 3, 100} {
		b := newBench(t)
		old := numbered("old", 0, size)
		b.write("a.log", old)
		b.step(0)
		b.want(lines(old)...)
		b.stop()
		// What reuse looks like: the same inode, other content, longer.
		fresh := numbered("new", 0, 2*size)
		b.do(os.WriteFile(b.path("a.log"), []byte(fresh), 0o644))
		b.rename("a.log", "b.log")
		b.step(0)
		b.want(lines(fresh)...)
		b.step(6 * second)
		b.wantLosses()
	}
}

// A file that is shorter than its position is read once, not at every start.
func TestH02_ShorterAtEveryStart(t *testing.T) {
	for _, left := range []string{"", "x\n", numbered("new", 0, 30)} {
		b := newBench(t)
		b.write("a.log", numbered("old", 0, 100))
		b.step(0)
		b.lines = nil
		b.stop()
		b.do(os.WriteFile(b.path("a.log"), []byte(left), 0o644))
		b.step(0)
		b.step(second)
		if left == "" {
			b.want()
		} else {
			b.want(lines(left)...)
		}
		if n := b.tail.Stats().Truncated; n != 1 {
			t.Errorf("truncated: got %d, want 1", n)
		}
		for range 2 {
			b.start()
			b.step(0)
			b.want()
			if n := b.tail.Stats().Truncated; n != 0 {
				t.Errorf("truncated again: %d", n)
			}
		}
		b.step(6 * second)
		b.wantLosses()
	}
}

func TestH19_DeviceChanges(t *testing.T) {
	b := newBench(t)
	b.write("a.log", "one\n")
	b.step(0)
	b.stop()
	b.write("a.log", "two\n")
	p := b.position("a.log")
	p.Dev++
	b.pos.Apply(b.enc.AppendDelta(nil, []record.Position{p}))
	b.step(0)
	b.want("one", "two")
}

func TestH20_SameHead(t *testing.T) {
	banner := strings.Repeat("# the same banner in every file of this program\n", 40)
	for _, text := range []string{"x\n", banner} {
		b := newBench(t)
		var want []string
		for i := range 20 {
			tail := fmt.Sprintf("%d\n", i)
			b.write(fmt.Sprintf("%02d.log", i), text+tail)
			want = append(want, lines(text+tail)...)
			if i%5 == 0 {
				b.step(second)
			}
		}
		b.step(second)
		b.wantSet(want...)
		// And of just the banner: delayed where it could be a copy, never lost.
		b.write("same.log", text)
		b.step(second)
		b.step(6 * second)
		b.want(lines(text)...)
	}
}

func TestH21_FewBytes(t *testing.T) {
	b := newBench(t)
	b.write("a.log", "x\n")
	b.write("b.log", "\n")
	b.write("c.log", "x\n")
	b.step(0)
	b.wantSet("", "x", "x")
	b.start()
	b.step(0)
	b.want()
}

// Positions end 24 h after a file is gone and taken.
func TestH25_PositionsPruned(t *testing.T) {
	b := newBench(t)
	b.write("keep.log", "x\n")
	b.each(10, "line")
	b.step(second)
	for i := range 10 {
		b.remove(fmt.Sprintf("%03d.log", i))
		b.step(second)
	}
	for range 3 {
		b.step(31 * second)
	}
	if n := b.pos.Len(); n != 11 {
		t.Errorf("positions before: got %d, want 11", n)
	}
	b.step(24 * time.Hour)
	b.step(11 * second)
	if n := b.pos.Len(); n != 1 {
		t.Errorf("positions after: got %d, want 1", n)
	}
	b.position("keep.log")
	b.wantLosses()
}

// A position ends when its file is done with and another has its inode.
func TestH25_InodeReused(t *testing.T) {
	b := newBench(t)
	most := 0
	inodes := map[uint64]bool{}
	for i := range 20 {
		b.write("a.log", fmt.Sprintf("%d\n", i))
		inodes[inoOf(t, b.path("a.log"))] = true
		b.step(second)
		b.want(fmt.Sprint(i))
		b.remove("a.log")
		b.step(31 * second)
		b.step(31 * second)
		most = max(most, b.pos.Len())
	}
	if most > len(inodes) {
		t.Errorf("positions: got %d, want at most %d, one an inode", most, len(inodes))
	}
	b.wantLosses()
}

// A position of a file that was empty agrees with any content: only a name
// that rotation makes is taken for that file, others are not even read.
func TestH01_EmptyThenOtherName(t *testing.T) {
	for _, tt := range []struct {
		to   string
		read bool
	}{
		{"app.log.1", true}, {"app.log-20261125", true}, {"app-20261125.log", true}, {"app.1.log", true},
		{"app.log", true}, {"secret.txt", false}, {"app.error.log", false}, {"application.log.1", false}, {"other/app.log.1", false},
	} {
		b := newBench(t, "app.log")
		b.write("app.log", "")
		b.write("other/x", "")
		b.step(0)
		b.stop()
		b.rename("app.log", tt.to)
		b.write(tt.to, "line\n")
		b.step(0)
		b.step(6 * second)
		if tt.read {
			b.want("line")
		} else {
			b.want()
		}
		b.wantLosses()
	}
}

// A file with the inode of one that was empty, and that is rotated to the same
// name, is not taken for that one too.
func TestH01_EmptyOnesInodeReused(t *testing.T) {
	b := newBench(t, "app.log")
	for _, text := range []string{"", "line\n"} {
		b.write("app.log", "")
		b.step(0)
		b.rename("app.log", "app.log.1")
		b.write("app.log.1", text)
		for range 6 {
			b.step(20 * second)
		}
		if text == "" {
			b.rename("app.log.1", "app.log") // a new file, as its inode tells
		}
	}
	b.want("line")
	b.wantLosses()
}

// A file that is found under a name which the patterns do not match is
// followed to its end, then only when it has grown and is still the same.
func TestFoundNameIsLimited(t *testing.T) {
	b := newBench(t)
	b.write("a.log", "one\n")
	b.step(0)
	b.stop()
	b.rename("a.log", "a.log.1")
	b.step(0)
	for range 31 {
		b.write("a.log.1", "busy\n")
		b.step(second)
	}
	if s := b.tail.Stats(); s.Open != 0 {
		t.Errorf("open after rotate wait: %d", s.Open)
	}
	b.lines = nil
	b.write("a.log.1", "late\n")
	b.step(10 * second)
	if n := len(b.lines); n == 0 || b.lines[n-1] != "late" {
		t.Errorf("got %q, want what was written late", b.lines)
	}
	b.lines = nil
	b.step(second)
	b.do(overwrite(b.path("a.log.1"), numbered("other", 0, 100)))
	b.step(10 * second)
	b.step(10 * second)
	b.want()
}

// A new file with the inode and the very content of one that was deleted is
// read.
func TestH01_SameContentAgain(t *testing.T) {
	for _, restart := range []bool{false, true} {
		b := newBench(t)
		for range 3 {
			b.write("a.log", "started\n")
			b.step(second)
			b.want("started")
			b.remove("a.log")
			for range 3 {
				b.step(31 * second)
			}
			if restart {
				b.start()
			}
		}
		b.wantLosses()
	}
}

// A position is kept while a file with its identity is there.
func TestH25_KeptWhileThere(t *testing.T) {
	b := newBench(t)
	b.write("a.log", "1\n")
	b.step(0)
	b.rename("a.log", "a.log.1")
	b.step(second)
	b.step(31 * second)
	b.step(25 * time.Hour)
	b.step(11 * second)
	if n := b.pos.Len(); n != 1 {
		t.Errorf("positions: got %d, want 1", n)
	}
	b.write("a.log.1", "2\n")
	b.step(11 * second)
	b.step(second)
	b.want("1", "2")
	b.rename("a.log.1", "b.log")
	b.write("b.log", "3\n")
	b.step(second)
	b.want("3")
}

// A scan that failed says nothing about deletion.
func TestH26_FailedScan(t *testing.T) {
	asUser(t)
	b := newBench(t, "d/*.log")
	b.write("d/a.log", "one\n")
	b.step(0)
	b.do(os.Chmod(b.path("d"), 0))
	defer os.Chmod(b.path("d"), 0o755)
	b.step(second)
	b.step(6 * second)
	b.start()
	b.step(0)
	b.step(6 * second)
	b.step(25 * time.Hour)
	b.step(11 * second)
	b.do(os.Chmod(b.path("d"), 0o755))
	b.write("d/a.log", "two\n")
	b.step(second)
	b.want("one", "two")
	b.wantLosses()
	if b.tail.Stats().ScanErrors == 0 {
		t.Error("no scan failed")
	}
}
