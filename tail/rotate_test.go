package tail_test

import (
	"fmt"
	"os"
	"testing"
	"time"
)

const second = time.Second

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

// Files that are not read yet, and whose records may go on in the next, do not
// wait for each other.
func TestH16_SwapUnread(t *testing.T) {
	for _, files := range [][]string{{"a", "b"}, {"a", "b", "c"}} {
		for _, down := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d files down=%t", len(files), down), func(t *testing.T) {
				b := newBench(t)
				b.o.Multiline.Start = "^#"
				var want []string
				for _, n := range files {
					b.write(n+".log", "# "+n+"\nmore\n")
					want = append(want, "# "+n+"\nmore")
				}
				b.start()
				b.tail.Round(0)
				if down {
					b.stop()
				}
				b.rename("a.log", "t")
				for i, n := range files[1:] {
					b.rename(n+".log", files[i]+".log")
				}
				b.rename("t", files[len(files)-1]+".log")
				if down {
					b.start()
				}
				b.tail.Round(second)
				b.start() // the positions say who goes on where
				for range 20 {
					b.step(second)
				}
				b.wantSet(want...)
				b.wantLosses()
			})
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
