package tail_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sealtail/record"
)

const second = time.Second

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

// Truncated and filled beyond the old offset between two looks.
func TestH03_RefilledBeyondOffset(t *testing.T) {
	b := newBench(t)
	b.write("a.log", numbered("old", 0, 50))
	b.step(0)
	b.lines = nil
	fresh := numbered("new", 0, 90)
	b.do(os.WriteFile(b.path("a.log"), []byte(fresh), 0o644))
	b.step(second)
	b.want(lines(fresh)...)
	if n := b.tail.Stats().Rewritten; n != 1 {
		t.Errorf("rewritten: got %d, want 1", n)
	}
}

// Truncated and filled to exactly the old size.
func TestH04_RegrownToOldSize(t *testing.T) {
	for _, n := range []int{1, 50} {
		b := newBench(t)
		b.write("a.log", numbered("old", 0, n))
		b.step(0)
		b.lines = nil
		fresh := numbered("new", 0, n)
		b.do(os.WriteFile(b.path("a.log"), []byte(fresh), 0o644))
		b.step(second)
		b.want(lines(fresh)...)
	}
}

func TestH05_Truncated(t *testing.T) {
	for _, to := range []int64{0, 30} {
		b := newBench(t)
		b.write("a.log", numbered("old", 0, 50))
		b.step(0)
		b.lines = nil
		b.truncate("a.log", to)
		b.step(second)
		b.lines = nil
		b.write("a.log", "\nnew\n")
		b.step(second)
		if got := b.lines[len(b.lines)-1]; got != "new" {
			t.Errorf("truncated to %d: got %q, want new", to, got)
		}
		if n := b.tail.Stats().Truncated; n != 1 {
			t.Errorf("truncated: got %d, want 1", n)
		}
	}
}

// What was known of a truncated file and not read is one loss event.
func TestH05_TruncatedUnread(t *testing.T) {
	b := newBench(t)
	b.write("a.log", "one\n")
	b.step(0)
	b.write("a.log", "unfinished")
	b.step(second)
	b.want("one")
	b.truncate("a.log", 0)
	b.write("a.log", "two\n")
	b.step(second)
	b.want("two")
	b.step(6 * second)
	b.wantLosses("a.log 4-14 truncated unread")
	if n := b.tail.Stats().LostBytes; n != 10 {
		t.Errorf("lost bytes: got %d, want 10", n)
	}
	b.start()
	b.step(0)
	b.step(6 * second)
	b.want()
	b.wantLosses()
	if n := b.pos.Len(); n != 1 {
		t.Errorf("positions: got %d, want 1", n)
	}
	// Stopped before the old position is done with.
	b.truncate("a.log", 0)
	b.write("a.log", "3\n")
	b.step(second)
	b.start()
	b.step(0)
	b.step(6 * second)
	b.want("3")
	b.wantLosses()
	if n := b.pos.Len(); n != 1 {
		t.Errorf("positions: got %d, want 1", n)
	}
}

// Truncated behind the offset: the loss is told once, not again at each start.
func TestH05_TruncatedBehindOffset(t *testing.T) {
	b := newBench(t)
	b.write("a.log", "one\n")
	b.step(0)
	b.write("a.log", "unfinished")
	b.step(second)
	b.truncate("a.log", 6)
	b.step(second)
	b.wantLosses("a.log 6-14 truncated unread")
	for range 2 {
		b.start()
		b.step(0)
		b.step(6 * second)
		b.wantLosses()
	}
	b.write("a.log", "\n")
	b.step(second)
	b.want("one", "un")
}

func TestH06_TruncatedWhileDown(t *testing.T) {
	for _, fresh := range []string{"x\n", numbered("new", 0, 99)} {
		b := newBench(t)
		b.write("a.log", numbered("old", 0, 50))
		b.step(0)
		b.lines = nil
		b.stop()
		b.do(os.WriteFile(b.path("a.log"), []byte(fresh), 0o644))
		b.step(0)
		b.want(lines(fresh)...)
		if s := b.tail.Stats(); s.Truncated+s.Rewritten != 1 {
			t.Errorf("truncated %d, rewritten %d, want one in all", s.Truncated, s.Rewritten)
		}
	}
}

// Lines written between the last look and the truncation of copytruncate are
// read from the copy, whether the patterns match its name or not, and the copy
// is not read twice.
func TestH07_CopyTruncate(t *testing.T) {
	for _, tt := range []struct {
		copy string
		down bool
	}{{"a.log.1", false}, {"a.1.log", false}, {"a.log.1", true}, {"a.1.log", true}} {
		t.Run(fmt.Sprintf("%s down=%t", tt.copy, tt.down), func(t *testing.T) {
			b := newBench(t)
			b.write("a.log", numbered("a", 0, 60))
			b.step(0)
			b.write("a.log", numbered("a", 60, 70))
			if tt.down {
				b.stop()
			}
			b.copy("a.log", tt.copy)
			b.truncate("a.log", 0)
			b.write("a.log", "fresh\n")
			for range 10 {
				b.step(second)
			}
			b.wantSet(append(lines(numbered("a", 0, 70)), "fresh")...)
			b.step(40 * second)
			b.start()
			b.step(0)
			b.step(6 * second)
			b.want()
			b.wantLosses()
		})
	}
}

// The copy is there, and grows, before the original is truncated.
func TestH07_CopySeenFirst(t *testing.T) {
	b := newBench(t)
	all := numbered("a", 0, 200)
	b.write("a.log", all)
	b.step(0)
	b.want(lines(all)...)
	b.write("a.1.log", all[:3000])
	b.step(second)
	b.want()
	b.write("a.1.log", all[3000:])
	b.step(4 * second)
	b.want()
	b.truncate("a.log", 0)
	b.write("a.log", "fresh\n")
	b.step(second)
	b.step(second)
	b.step(second)
	b.want("fresh")
	b.write("a.1.log", "later\n")
	b.step(second)
	b.want("later")
}

// A backup whose original is not truncated is a file of its own.
func TestH07_BackupIsRead(t *testing.T) {
	b := newBench(t)
	all := numbered("a", 0, 100)
	b.write("a.log", all)
	b.step(0)
	b.want(lines(all)...)
	b.copy("a.log", "backup.log")
	b.step(second)
	b.want()
	b.step(6 * second)
	b.want(lines(all)...)
}

// Rotated more than once while the line is blocked.
func TestH09_RotatedTwiceWhileBlocked(t *testing.T) {
	b := newBench(t)
	b.write("a.log", "0\n")
	b.start()
	b.tail.Round(0)
	var want []string
	for i := 1; i < 5; i++ {
		b.rename("a.log", fmt.Sprintf("old.%d", i))
		b.write("a.log", fmt.Sprintf("%d\n", i))
		b.tail.Round(second)
		b.remove(fmt.Sprintf("old.%d", i))
		want = append(want, fmt.Sprint(i-1))
	}
	b.step(second)
	b.wantSet(append(want, "4")...)
}

// Rotated while the agent was down: finished from its offset under a name that
// the pattern does not match, and the new file is read from 0.
func TestH10_RotatedWhileDown(t *testing.T) {
	b := newBench(t)
	b.write("a.log", "one\n")
	b.step(0)
	b.stop()
	b.write("a.log", "two\n")
	b.rename("a.log", "a.log.1")
	b.write("a.log", "three\n")
	b.step(0)
	b.wantSet("one", "three", "two")
	b.step(second)
	b.write("a.log.1", "late\n")
	b.step(second)
	b.want("late")
	b.step(31 * second)
	b.step(second)
	b.start()
	b.step(0)
	b.step(6 * second)
	b.want()
	b.wantLosses()
}

func TestH11_MovedOutUnread(t *testing.T) {
	b := newBench(t)
	b.write("a.log", "one\n")
	b.step(0)
	b.write("a.log", "two\n")
	b.do(os.Mkdir(b.path("away"), 0o755))
	b.rename("a.log", "away/x")
	b.step(second)
	b.write("away/x", "three\n")
	b.step(second)
	b.want("one", "two", "three")
	// The position knows where it went.
	b.stop()
	b.write("away/x", "four\n")
	b.step(0)
	b.want("four")
}

func TestH12_RotatedNameMatches(t *testing.T) {
	b := newBench(t, "a.log*")
	b.write("a.log", "one\n")
	b.step(0)
	for i := range 5 {
		b.rename("a.log", fmt.Sprintf("a.log.%d", i))
		b.write("a.log", fmt.Sprintf("new %d\n", i))
		b.write(fmt.Sprintf("a.log.%d", i), "late\n")
		b.step(second)
		b.wantSet(append([]string{fmt.Sprintf("new %d", i), "late"}, map[bool][]string{true: {"one"}}[i == 0]...)...)
		b.start()
		b.step(0)
		b.want()
	}
	b.step(40 * second)
	b.step(second)
	b.write("a.log.2", "very late\n")
	b.step(second)
	b.want("very late")
}

// Names rotate in a ring or swap: the path is a label.
func TestH16_Swap(t *testing.T) {
	for _, down := range []bool{false, true} {
		b := newBench(t)
		for _, n := range []string{"a", "b", "c"} {
			b.write(n+".log", n+"1\n")
		}
		b.step(0)
		b.wantSet("a1", "b1", "c1")
		if down {
			b.stop()
		}
		b.rename("a.log", "t")
		b.rename("b.log", "a.log")
		b.rename("c.log", "b.log")
		b.rename("t", "c.log")
		for _, n := range []string{"a", "b", "c"} {
			b.write(n+".log", "in "+n+"\n")
		}
		b.step(second)
		b.wantSet("in a", "in b", "in c")
		b.step(second)
		for _, n := range []string{"a", "b", "c"} {
			if p := b.position(n + ".log"); p.Ino != inoOf(t, b.path(n+".log")) {
				t.Errorf("%s: position names inode %d", n, p.Ino)
			}
		}
	}
}

func TestH17_RenameOver(t *testing.T) {
	b := newBench(t)
	b.write("a.log", "one\n")
	b.step(0)
	b.write("a.log", "two\n")
	b.write("new", "three\n")
	b.rename("new", "a.log")
	b.step(second)
	b.wantSet("one", "three", "two")
}

// Written anew in place, by the ways of editors and sed.
func TestH18_Rewritten(t *testing.T) {
	b := newBench(t)
	b.write("a.log", "one\ntwo\nthree\n")
	b.step(0)
	b.lines = nil
	b.write("tmp", "ONE\ntwo\nthree\n")
	b.rename("tmp", "a.log") // sed -i
	b.step(second)
	b.want("ONE", "two", "three")
	b.do(os.WriteFile(b.path("a.log"), []byte("one\nTWO\nthree\nfour\n"), 0o644))
	b.step(second)
	b.want("one", "TWO", "three", "four")
	f, err := os.OpenFile(b.path("a.log"), os.O_WRONLY, 0)
	b.do(err)
	_, err = f.WriteAt([]byte("1ne"), 0)
	b.do(err)
	b.do(f.Close())
	b.step(second)
	b.want("1ne", "TWO", "three", "four")
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

func TestH52_UnfinishedAtStop(t *testing.T) {
	b := newBench(t)
	b.write("a.log", "one\ntw")
	b.step(0)
	b.start()
	b.step(0)
	b.want("one")
	b.write("a.log", "o\n")
	b.start()
	b.step(0)
	b.want("two")
}
