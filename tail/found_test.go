package tail_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"sealtail/record"
)

// rotate renames a log as logrotate does, n old ones kept.
func (b *bench) rotate(name string, n int) {
	b.t.Helper()
	for i := n; i > 1; i-- {
		if old := fmt.Sprintf("%s.%d", name, i-1); b.there(old) {
			b.rename(old, fmt.Sprintf("%s.%d", name, i))
		}
	}
	b.rename(name, name+".1")
}

// Found while nobody takes chunks, rotated to where the patterns do not reach,
// and restarted: every line comes once.
func TestH09_RestartWhileBlocked(t *testing.T) {
	for _, tt := range []struct {
		name  string
		first string // what the file has when it is found
		once  bool   // the receiver keeps only what it did not know at all
	}{
		{"with its lines", "%d one\n", false},
		{"with its lines, told once", "%d one\n", true},
		{"empty", "", false},
		{"empty, told once", "", true},
		{"with a beginning", "%d", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, "app.log", "app.log.1")
			if tt.once {
				b.o.Found = func(ps []record.Position) {
					for _, p := range ps {
						if _, known := b.pos.Get(p.ID); !known {
							b.found([]record.Position{p})
						}
					}
				}
			}
			b.start()
			var want []string
			for i := range 6 {
				whole := fmt.Sprintf("%d one\n", i)
				first := tt.first
				if first != "" && first != "%d one\n" {
					first = whole[:1]
				} else if first != "" {
					first = whole
				}
				b.write("app.log", first)
				b.tail.Round(second)
				b.write("app.log", whole[len(first):])
				b.tail.Round(second)
				want = append(want, lines(whole)...)
				b.rotate("app.log", 9)
				b.tail.Round(second)
			}
			b.start()
			b.step(0)
			b.step(6 * second)
			b.wantSet(want...)
			b.wantLosses()
			b.start()
			b.step(0)
			b.want()
		})
	}
}

// Found and gone before the next start: a loss of just its bytes, told once.
func TestH09_RestartAfterDeletion(t *testing.T) {
	b := newBench(t)
	b.start()
	b.write("a.log", "")
	b.tail.Round(second)
	b.write("a.log", "0123456789\n") // from nothing: told again
	b.tail.Round(second)
	b.write("a.log", "0123456789\n") // less than twice: told when its name is gone
	b.tail.Round(second)
	b.remove("a.log")
	b.tail.Round(second)
	b.start()
	b.step(0)
	b.step(6 * second)
	b.wantLosses("a.log 0-22 deleted unread")
	b.start()
	b.step(0)
	b.step(6 * second)
	b.want()
	b.wantLosses()
}

// A copy that was told as a file of its own, and then found to be the rest of
// one that was truncated, leaves no position behind.
func TestH07_CopyTold(t *testing.T) {
	b := newBench(t)
	all := numbered("a", 0, 200)
	b.write("a.log", all)
	b.step(0)
	b.want(lines(all)...)
	b.copy("a.log", "a.1.log")
	b.step(second)
	b.truncate("a.log", 0)
	b.write("a.log", "fresh\n")
	for range 8 {
		b.step(second)
	}
	b.want("fresh")
	if n := b.pos.Len(); n != 2 {
		t.Errorf("positions: got %d, want 2: %+v", n, b.pos.All())
	}
	b.start()
	b.step(0)
	b.step(6 * second)
	b.want()
	b.wantLosses()
}

// Truncated while nobody takes chunks, filled again and rotated to where the
// patterns do not reach: what was lost is told, what is there is read.
func TestH05_TruncatedWhileBlocked(t *testing.T) {
	for _, most := range []int{1, 100} {
		b := newBench(t, "app.log", "other.log")
		b.o.MaxOpen = most
		b.write("app.log", "one\n")
		b.step(0)
		b.want("one")
		b.write("other.log", "other\n")
		b.tail.Round(second)
		b.write("app.log", "two\n")
		b.tail.Round(second)
		b.do(overwrite(b.path("app.log"), "three\n"))
		b.tail.Round(second)
		b.rename("app.log", "app.log.1")
		b.tail.Round(second)
		if restart := most == 1; restart {
			b.start()
			b.step(0)
			b.step(6 * second)
			b.wantLosses("app.log 4-8 deleted unread")
		} else {
			b.step(6 * second)
			b.wantLosses("app.log 4-8 truncated unread")
		}
		b.wantSet("other", "three")
	}
}

// A file that is written anew before anything of it was taken is what it is
// now; what it was is lost.
func TestFoundThenRewritten(t *testing.T) {
	for _, few := range []bool{false, true} {
		b := newBench(t)
		if few {
			b.o.MaxOpen = 1
			b.write("0.log", "other\n")
		}
		b.start()
		b.tail.Round(0)
		b.write("a.log", numbered("a", 0, 10))
		b.tail.Round(second)
		b.do(overwrite(b.path("a.log"), numbered("b", 0, 20)))
		b.stop()
		b.step(second)
		b.step(6 * second)
		want := lines(numbered("b", 0, 20))
		if few {
			want = append(want, "other")
		}
		b.wantSet(want...)
		b.wantLosses(fmt.Sprintf("a.log 0-%d rewritten unread", len(numbered("a", 0, 10))))
	}
}

// What was taken and waits for a key is known after a kill, though it fills
// neither batch nor channel.
func TestFoundWhileTakenWaits(t *testing.T) {
	b := newBench(t)
	b.o.Waiting = func() bool { return true }
	b.write("a.log", "one\n")
	b.step(0)
	b.want("one")
	b.write("a.log", "two\n")
	for range 2 {
		for _, c := range b.tail.Step(second) { // taken, and not committed
			c.Release()
		}
	}
	b.stop()
	b.remove("a.log")
	b.start()
	for range 8 {
		b.step(second)
	}
	b.want()
	b.wantLosses("a.log 4-8 deleted unread")
}

// A file that begins at its end, be it old or a copy of what was read, does so
// after a restart too, though nobody took chunks when that was found out.
func TestFoundAtItsEnd(t *testing.T) {
	b := newBench(t, "*.log*")
	b.o.IgnoreOlder = time.Hour
	all := numbered("a", 0, 200)
	b.write("a.log", all)
	b.step(0)
	b.write("a.log", "in the window\n")
	b.step(second)
	b.want(append(lines(all), "in the window")...)
	b.write("a.log.1", all)
	b.truncate("a.log", 0)
	b.write("old.log", "old\n")
	at := time.Now().Add(-2 * time.Hour)
	b.do(os.Chtimes(b.path("old.log"), at, at))
	for range 3 {
		b.tail.Round(second)
	}
	b.step(second)
	b.start()
	for range 8 {
		b.step(second)
	}
	b.want()
	b.wantLosses()
}

// Ends tells nothing before it returns: a stream that begins at the end of its
// files must not begin at 0 when it is killed meanwhile.
func TestH24_EndsTellsNothing(t *testing.T) {
	b := newBench(t)
	b.write("a.log", "old\n")
	b.write("empty.log", "")
	b.start()
	ends, err := b.tail.Ends(t.Context())
	b.do(err)
	if n := b.pos.Len(); n != 0 {
		t.Fatalf("told %d positions", n)
	}
	b.commit(&record.Chunk{Moved: ends})
	b.write("a.log", "new\n")
	b.write("empty.log", "first\n")
	b.step(second)
	b.wantSet("first", "new")
}

// A file that was partly taken grew in a pause, the agent was killed, and the
// file removed before the next start: what it grew by is told.
func TestH09_GrownInAPauseAndRemoved(t *testing.T) {
	b := newBench(t)
	b.write("a.log", "one\n")
	b.step(0)
	b.want("one")
	b.tail.Round(second)
	for range 3 {
		b.write("a.log", "123\n")
		b.tail.Round(second)
	}
	b.stop() // as if killed: nothing more is told
	b.remove("a.log")
	b.step(0)
	b.step(6 * second)
	b.wantLosses("a.log 4-16 deleted unread")
	b.quiet()
}
