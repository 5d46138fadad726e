package tail_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"sealtail/record"
)

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

// The agent is killed after it read on behind the copy's end and before it knew
// the copy: what was committed of the original tells it.
func TestH07_KilledBeyondTheCopy(t *testing.T) {
	for _, tt := range []struct {
		content string
		read    bool
	}{
		{numbered("a", 0, 200), false},
		{numbered("a", 0, 205), false},                          // ends between two marks
		{numbered("a", 0, 150) + numbered("b", 150, 205), true}, // another's
	} {
		for _, rolled := range []bool{false, true} {
			b := newBench(t, "*.log*")
			for n := 0; n < 220; n += 20 {
				b.write("a.log", numbered("a", n, n+20))
				b.step(second)
			}
			b.want(lines(numbered("a", 0, 220))...)
			if rolled { // the newest entry begins a segment
				var ps record.Positions
				p := b.position("a.log")
				if _, err := ps.Apply(b.pos.AppendSnapshot(nil, []record.Position{p})); err != nil {
					t.Fatal(err)
				}
				b.pos = ps
			}
			b.stop()
			b.write("a.log.1", tt.content)
			b.truncate("a.log", 0)
			b.write("a.log", "fresh\n")
			want := []string{"fresh"}
			if tt.read {
				want = append(want, lines(tt.content)...)
			}
			for range 8 {
				b.step(second)
			}
			b.wantSet(want...)
			b.start()
			b.step(0)
			b.step(6 * second)
			b.want()
			b.wantLosses()
		}
	}
}

// A copy that ends before what was read, under a name that the patterns do not
// match, is not taken later for a file that was rotated before anybody saw it.
func TestH07_CopyIsNoSibling(t *testing.T) {
	b := newBench(t)
	all := numbered("a", 0, 200)
	b.write("a.log", all)
	b.step(0)
	b.write("a.log", "in the window\n")
	b.step(second)
	b.want(append(lines(all), "in the window")...)
	b.write("a.log.3", all)
	b.truncate("a.log", 0)
	for range 8 {
		b.step(second)
	}
	b.write("a.log", "fresh\n")
	b.step(second)
	b.want("fresh")
	at := time.Now().Add(-time.Minute)
	b.stop()
	b.do(os.Chtimes(b.path("a.log"), at, at))
	b.rename("a.log", "a.log.2")
	b.write("a.log", "next\n")
	for range 8 {
		b.step(second)
	}
	b.want("next")
	b.wantLosses()
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

// What was written after the copy is read from the original before it is
// truncated: the copy ends before the position, and is not read again.
func TestH07_ReadBeyondTheCopy(t *testing.T) {
	for _, size := range []int{1, 200} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			b := newBench(t)
			all := numbered("a", 0, size)
			b.write("a.log", all)
			b.step(0)
			b.want(lines(all)...)
			b.copy("a.log", "a.1.log")
			b.step(second)
			b.write("a.log", "in the window\n")
			b.step(second)
			b.want("in the window")
			b.truncate("a.log", 0)
			b.write("a.log", "fresh\n")
			for range 10 {
				b.step(second)
			}
			b.want("fresh")
			b.write("a.1.log", "later\n")
			b.step(second)
			b.want("later")
			b.start()
			b.step(0)
			b.step(6 * second)
			b.want()
			b.wantLosses()
		})
	}
}

// The same of a copy that is seen when the original is truncated already, by
// its name and what was before the position.
func TestH07_ReadBeyondTheCopySeenLate(t *testing.T) {
	for _, tt := range []struct {
		name, content string
		read          bool
	}{
		{"a.log.1", numbered("a", 0, 200), false},
		{"a.log.1", numbered("a", 0, 40), true}, // nothing but its head tells
		{"a.log.1", numbered("a", 0, 150) + numbered("b", 150, 205), true},
		{"b.log", numbered("a", 0, 200), true},
	} {
		b := newBench(t, "*.log*")
		b.write("a.log", numbered("a", 0, 200))
		b.step(0)
		b.write("a.log", numbered("a", 200, 220))
		b.step(second)
		b.want(lines(numbered("a", 0, 220))...)
		b.write(tt.name, tt.content)
		b.truncate("a.log", 0)
		b.write("a.log", "fresh\n")
		for range 10 {
			b.step(second)
		}
		want := []string{"fresh"}
		if tt.read {
			want = append(want, lines(tt.content)...)
		}
		b.wantSet(want...)
		b.start()
		b.step(0)
		b.step(6 * second)
		b.want()
		b.wantLosses()
	}
}

// A copy that was empty when it was found.
func TestH07_CopySeenEmpty(t *testing.T) {
	for _, size := range []int{1, 20, 200} {
		for _, own := range []bool{false, true} {
			b := newBench(t, "*.log*")
			all := numbered("a", 0, size)
			b.write("a.log", all)
			b.step(0)
			b.want(lines(all)...)
			b.write("a.log.1", "")
			b.step(second)
			if own {
				b.write("a.log.1", "its own\n")
				b.step(second)
				b.want("its own")
				continue
			}
			b.write("a.log.1", all)
			b.step(second)
			if size == 200 { // of a shorter one no copy is known that ends before the position
				b.write("a.log", "in the window\n")
				b.step(second)
				b.want("in the window")
			}
			b.truncate("a.log", 0)
			b.write("a.log", "fresh\n")
			for range 10 {
				b.step(second)
			}
			b.want("fresh")
			b.wantLosses()
		}
	}
}

// Copied and truncated between the look that found what it got and its first
// read: nothing is lost, as the copy has all of it.
func TestH07_CopiedBeforeRead(t *testing.T) {
	for _, include := range []string{"*.log", "*.log*"} {
		for _, size := range []int{1, 300} {
			for _, compressed := range []bool{false, true} {
				for _, new := range []bool{false, true} {
					for _, apart := range []bool{false, true} {
						if new && !apart && include == "*.log*" {
							continue // nobody knew of either when both were there
						}
						t.Run(fmt.Sprintf("%s %d lines compressed=%t new=%t told apart=%t", include, size, compressed, new, apart), func(t *testing.T) {
							b := newBench(t, include)
							if !apart {
								b.o.Found = nil
							}
							b.write("other.log", "")
							if !new {
								b.write("app.log", "")
							}
							b.step(0)
							text := numbered("a", 0, size)
							b.write("app.log", text)
							b.tail.Round(second)
							b.shift("app.log", compressed)
							for range 9 {
								b.step(second)
							}
							b.want(lines(text)...)
							b.wantLosses()
							b.quiet()
						})
					}
				}
			}
		}
	}
}

// Found together by the first scan, or when the file was empty before, and
// truncated then or not: read once, or each on its own.
func TestH07_CopyFoundWithTheFile(t *testing.T) {
	for i, size := range []int{1, 300, 1, 300} {
		for _, truncated := range []bool{false, true} {
			b := newBench(t, "*.log*")
			text := numbered("a", 0, size)
			if empty := i > 1; empty {
				b.write("app.log", "")
				b.step(0)
			}
			b.write("app.log", text)
			b.copy("app.log", "app.log.1")
			want := lines(text)
			b.step(second)
			if truncated {
				b.truncate("app.log", 0)
			} else {
				want = append(want, want...)
			}
			for range 8 {
				b.step(second)
			}
			b.wantSet(want...)
			b.quiet()
		}
	}
}

// A file that agreed with one only as far as it went then is a file of its own.
func TestH07_NoCopyAnyMore(t *testing.T) {
	b := newBench(t)
	all := numbered("a", 0, 200)
	b.write("a.log", all)
	b.step(0)
	b.want(lines(all)...)
	b.write("a.1.log", all[:3000])
	b.step(second)
	b.want()
	b.write("a.1.log", "its own\n")
	b.truncate("a.log", 0)
	b.write("a.log", "fresh\n")
	b.step(second)
	b.step(second)
	b.wantSet(append(lines(all[:3000]+"its own\n"), "fresh")...)
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

// Copied and truncated while nobody takes chunks, before anything of it was
// taken: the copy has the lines, and nothing is lost, also after a kill.
func TestH07_CopiedInAPause(t *testing.T) {
	for _, size := range []int{1, 200} {
		for _, include := range []string{"app.log", "app.log*"} {
			for _, kill := range []int{0, 1, 2, 3} {
				t.Run(fmt.Sprintf("%d lines %s kill after %d", size, include, kill), func(t *testing.T) {
					b := newBench(t, include)
					b.start()
					b.tail.Round(0)
					b.write("app.log", numbered("a", 0, size))
					b.tail.Round(second)
					b.write("app.log", numbered("a", size, 2*size))
					b.tail.Round(second)
					if kill == 1 {
						b.start()
						b.tail.Round(0)
					}
					b.copy("app.log", "app.log.1")
					if kill == 2 {
						b.tail.Round(second)
						b.start()
						b.tail.Round(0)
					}
					b.truncate("app.log", 0)
					b.write("app.log", "fresh\n")
					b.tail.Round(second)
					b.tail.Round(second)
					if kill == 3 {
						b.start()
					}
					for range 10 {
						b.step(second)
					}
					b.wantSet(append(lines(numbered("a", 0, 2*size)), "fresh")...)
					b.wantLosses()
					b.step(40 * second)
					b.start()
					b.step(0)
					b.step(6 * second)
					b.want()
					b.wantLosses()
				})
			}
		}
	}
}

// What a file is found to have once it was refilled says nothing of how much
// was lost of the old content.
func TestH03_NoFalseLoss(t *testing.T) {
	b := newBench(t)
	b.write("a.log", numbered("old", 0, 50))
	b.write("b.log", "one\nunfinished")
	b.step(0)
	b.lines = nil
	for _, name := range []string{"a.log", "b.log"} {
		b.do(os.WriteFile(b.path(name), []byte(numbered("new", 0, 90)), 0o644))
	}
	b.step(second)
	b.wantSet(lines(numbered("new", 0, 90) + numbered("new", 0, 90))...)
	b.step(6 * second)
	b.wantLosses("b.log 4-14 rewritten unread")
}
