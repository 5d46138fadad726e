package tail_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"sealtail/record"
)

// each writes one line to every of n files and returns the lines.
func (b *bench) each(n int, word string) (want []string) {
	b.t.Helper()
	for i := range n {
		l := fmt.Sprintf("%s %03d", word, i)
		b.write(fmt.Sprintf("%03d.log", i), l+"\n")
		want = append(want, l)
	}
	return want
}

// Far more files than descriptors, all of them growing: each is read in each
// round, and descriptors stay within the limit.
func TestH44_AllInTurn(t *testing.T) {
	for _, most := range []int{1, 8} {
		b := newBench(t)
		b.o.MaxOpen = most
		b.start()
		for i := range 3 {
			want := b.each(300, fmt.Sprint(i))
			b.step(second)
			if n := b.tail.Stats().Open; n > int64(most) {
				t.Fatalf("open: got %d, want at most %d", n, most)
			}
			b.wantSet(want...)
		}
		b.start()
		b.step(0)
		b.want()
	}
}

// The same in the running loop: whoever waits is served as soon as others are
// read, not at the next poll.
func TestH44_RunInTurn(t *testing.T) {
	b := newBench(t)
	b.o.MaxOpen = 8
	want := b.each(300, "first")
	r := b.run(0)
	r.until(300)
	want = append(want, b.each(300, "more")...)
	r.until(600)
	b.do(r.stop())
	b.wantSet(want...)
}

// A file that always has more does not keep the others from being opened, and
// they are opened in the order in which they got news.
func TestH44_BusyFilesGiveWay(t *testing.T) {
	b := newBench(t)
	b.o.MaxOpen = 2
	b.write("a.log", "x\n")
	b.start()
	b.step(0)
	b.lines = nil
	want := b.each(20, "first")
	for range 20 {
		b.write("a.log", "busy\n")
	}
	b.tail.Round(second)
	for len(b.lines) < 40 {
		c := b.tail.Next()
		if c == nil {
			b.tail.Round(second)
			continue
		}
		b.take(c)
		b.write("a.log", "busy\n")
		b.tail.Round(second)
	}
	seen := 0
	for _, l := range b.lines[:40] {
		if l != "busy" {
			seen++
		}
	}
	if seen != len(want) {
		t.Errorf("of 20 other files, %d were read beside the busy one", seen)
	}
}

// Files that nobody has a descriptor for are known: renamed to where the
// patterns do not reach they are found, deleted they are a loss of just their
// bytes, and held deleted files count.
func TestH44_BlockedAndRotated(t *testing.T) {
	b := newBench(t)
	b.o.MaxOpen = 4
	b.start()
	want := b.each(20, "first")
	b.tail.Round(0)
	for i := range 20 {
		switch name := fmt.Sprintf("%03d.log", i); {
		case i < 10:
			b.rename(name, name+".1")
		case i < 12:
			b.remove(name)
		}
	}
	for range 10 {
		b.tail.Round(second)
		if n := b.tail.Stats().Open; n > 4 {
			t.Fatalf("open: got %d, want at most 4", n)
		}
	}
	b.step(second)
	lost := map[string]bool{}
	for _, l := range b.losses() {
		lost[l] = true
	}
	for _, n := range []string{"010", "011"} {
		if lost[n+".log 0-10 deleted waiting for a descriptor"] {
			delete(lost, n+".log 0-10 deleted waiting for a descriptor")
			b.lines = append(b.lines, "first "+n)
		}
	}
	if len(lost) > 0 {
		t.Errorf("losses: %v", lost)
	}
	b.wantSet(want...)
	// All descriptors are of deleted files, unread: others wait for them.
	for i := 12; i < 16; i++ {
		b.write(fmt.Sprintf("%03d.log", i), "more\n")
	}
	b.tail.Round(second)
	for i := 12; i < 16; i++ {
		b.remove(fmt.Sprintf("%03d.log", i))
	}
	b.write("new.log", "new\n")
	b.tail.Round(second)
	if s := b.tail.Stats(); s.Open != 4 || s.HeldBytes == 0 {
		t.Errorf("open %d, held %d", s.Open, s.HeldBytes)
	}
	b.step(second)
	b.step(second)
	b.wantSet("more", "more", "more", "more", "new")
	b.wantLosses()
}

// Of a file that waits for a descriptor it is known what was written to it until
// it was renamed, though it is deleted before anybody looks at it again. That
// files wait is told while they do.
func TestH44_DeletedWaiting(t *testing.T) {
	b := newBench(t)
	b.o.MaxOpen = 1
	b.write("a.log", "first\n")
	b.start()
	b.tail.Round(0)
	if s := b.tail.Stats(); s.Waiting != 0 || !s.Waits.IsZero() {
		t.Errorf("got %d waiting since %v of one file", s.Waiting, s.Waits)
	}
	b.write("b.log", "one\n")
	b.tail.Round(second)
	since := b.tail.Stats().Waits
	b.tail.Round(second)
	if s := b.tail.Stats(); s.Waiting != 1 || since.IsZero() || !s.Waits.Equal(since) {
		t.Errorf("got %d waiting since %v, want 1 since %v", s.Waiting, s.Waits, since)
	}
	b.write("b.log", "two\n")
	b.rename("b.log", "c.log")
	b.tail.List()
	b.remove("c.log")
	b.tail.Round(second)
	for range 10 {
		b.step(second)
	}
	b.want("first")
	b.wantLosses("c.log 0-8 deleted waiting for a descriptor")
	if s := b.tail.Stats(); s.Waiting != 0 || !s.Waits.IsZero() || s.Lost["deleted waiting for a descriptor"].Bytes != 8 {
		t.Errorf("got %d waiting since %v, %+v lost", s.Waiting, s.Waits, s.Lost)
	}
}

// A stream begins at the ends of all its files, however few may be open.
func TestEndsOfMoreFilesThanDescriptors(t *testing.T) {
	b := newBench(t)
	b.o.MaxOpen = 4
	b.each(50, "old")
	b.start()
	ends, err := b.tail.Ends(t.Context())
	b.do(err)
	if len(ends) != 50 {
		t.Fatalf("ends: got %d, want 50", len(ends))
	}
	b.commit(&record.Chunk{Moved: ends})
	want := b.each(50, "new")
	b.step(second)
	b.step(second)
	b.wantSet(want...)
}

// A file that was closed for others while nobody takes chunks is read on from
// its position.
func TestH73_ReopenedAtItsPosition(t *testing.T) {
	b := newBench(t)
	b.o.MaxOpen = 1
	b.write("a.log", numbered("a", 0, 50))
	b.step(0)
	b.want(lines(numbered("a", 0, 50))...)
	for i := range 5 {
		b.write(fmt.Sprintf("%d.log", i), fmt.Sprintf("%d\n", i))
		b.tail.Round(second)
	}
	b.write("a.log", numbered("a", 50, 60))
	b.tail.Round(second)
	b.step(second)
	b.wantSet(append(lines(numbered("a", 50, 60)), "0", "1", "2", "3", "4")...)
	b.quiet()
}

// Files are the user's: whatever happens to them, they are left as they are.
func TestH75_FilesAreLeft(t *testing.T) {
	b := newBench(t, "app.log*")
	b.write("app.log", numbered("a", 0, 50))
	b.do(os.WriteFile(b.path("app.log.1.gz"), zip("z\n"), 0o644))
	for range 3 {
		b.step(second)
	}
	b.rename("app.log", "app.log.2")
	b.write("app.log", "new\n")
	b.step(40 * second)
	b.step(25 * time.Hour)
	b.stop()
	for name, want := range map[string]string{"app.log": "new\n", "app.log.2": numbered("a", 0, 50), "app.log.1.gz": string(zip("z\n"))} {
		if got, err := os.ReadFile(b.path(name)); err != nil || string(got) != want {
			t.Errorf("%s is changed: %v", name, err)
		}
	}
}

// A limit that becomes less holds from the next round on, and all is read.
func TestSetMaxOpen(t *testing.T) {
	b := newBench(t)
	b.o.MaxOpen = 20
	want := b.each(20, "first")
	b.step(second)
	b.wantSet(want...)
	for _, most := range []int{4, 20} {
		b.tail.SetMaxOpen(most)
		b.step(second)
		want := b.each(20, fmt.Sprint("then ", most))
		b.step(second)
		b.wantSet(want...)
		if n := b.tail.Stats().Open; n > int64(most) {
			t.Errorf("open: got %d, want at most %d", n, most)
		}
	}
}
