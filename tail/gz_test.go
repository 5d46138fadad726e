package tail_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"sealtail/record"
	"sealtail/tail"
)

func zip(text string) []byte {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write([]byte(text))
	w.Close()
	return z.Bytes()
}

// gzip compresses a file as gzip does: beside it, with its time, which is
// removed then.
func (b *bench) gzip(name string) {
	b.t.Helper()
	text, err := os.ReadFile(b.path(name))
	b.do(err)
	info, err := os.Stat(b.path(name))
	b.do(err)
	b.do(os.WriteFile(b.path(name+".gz"), zip(string(text)), 0o644))
	b.do(os.Chtimes(b.path(name+".gz"), info.ModTime(), info.ModTime()))
	b.remove(name)
}

// quiet wants nothing more, also after a restart.
func (b *bench) quiet() {
	b.t.Helper()
	b.want()
	for range 8 {
		b.step(second)
	}
	b.step(40 * second)
	b.start()
	for range 8 {
		b.step(second)
	}
	b.want()
	b.wantLosses()
}

// Rotated and compressed while the agent was down, beside the file or where
// rotated files lie.
func TestH10_CompressedWhileDown(t *testing.T) {
	for _, size := range []int{1, 300} {
		for _, to := range []string{"app.log.1", "app.log-20261125", "old/app-2026.log"} {
			t.Run(fmt.Sprintf("%d lines %s", size, to), func(t *testing.T) {
				b := newBench(t, "app.log")
				b.o.Rotated = []string{b.path("old/*")}
				b.do(os.Mkdir(b.path("old"), 0o755))
				b.write("app.log", numbered("a", 0, size))
				b.step(0)
				b.want(lines(numbered("a", 0, size))...)
				b.stop()
				b.write("app.log", numbered("a", size, 2*size))
				b.rename("app.log", to)
				b.gzip(to)
				b.write("app.log", "new\n")
				for range 5 {
					b.step(second)
				}
				b.wantSet(append(lines(numbered("a", size, 2*size)), "new")...)
				b.quiet()
			})
		}
	}
}

// The .gz of a file that was read, and that the patterns match too, is not read
// again, but for what is missing.
func TestH13_CompressedAfterRead(t *testing.T) {
	for _, down := range []bool{false, true} {
		for _, size := range []int{1, 300} {
			t.Run(fmt.Sprintf("%d lines down=%t", size, down), func(t *testing.T) {
				b := newBench(t, "app.log*")
				b.write("app.log", numbered("a", 0, size))
				b.step(0)
				b.rename("app.log", "app.log.1")
				b.write("app.log", "new\n")
				b.step(second)
				b.wantSet(append(lines(numbered("a", 0, size)), "new")...)
				if down {
					b.stop()
					b.write("app.log.1", "missing\n")
				}
				b.gzip("app.log.1")
				for range 5 {
					b.step(second)
				}
				if down {
					b.want("missing")
				}
				b.step(40 * second)
				b.quiet()
				b.rename("app.log.1.gz", "app.log.2.gz")
				b.step(second)
				b.quiet()
			})
		}
	}
}

// A .gz of its own is read once, by inflated offsets, over restarts in its
// middle.
func TestH14_RestartInTheMiddle(t *testing.T) {
	b := newBench(t, "*.gz")
	text := numbered("z", 0, 200_000)
	b.do(os.WriteFile(b.path("old.gz"), zip(text), 0o644))
	for n := 1; len(b.lines) < 200_000; n++ {
		b.start()
		b.tail.Round(0)
		for i := 0; !b.tail.Decided(); i++ {
			b.tail.Round(time.Second)
		}
		for range 20 {
			if c := b.tail.Next(); c != nil {
				b.take(c)
			}
		}
		b.ledger()
		if n > 100 {
			t.Fatalf("%d lines after %d starts", len(b.lines), n)
		}
	}
	b.want(lines(text)...)
	b.quiet()
	// One more member, as gzip >> makes it.
	f, err := os.OpenFile(b.path("old.gz"), os.O_WRONLY|os.O_APPEND, 0)
	b.do(err)
	_, err = f.Write(zip("more\n"))
	b.do(err)
	b.do(f.Close())
	for range 4 {
		b.step(second)
	}
	b.want("more")
	b.quiet()
}

// A .gz that is still being written waits for its trailer.
func TestH15_StillBeingWritten(t *testing.T) {
	for _, own := range []bool{true, false} {
		b := newBench(t, "app.log")
		if own {
			b = newBench(t, "*.gz")
		}
		text := numbered("z", 0, 2000)
		z := zip(text)
		if !own {
			b.write("app.log", text[:len(text)/2])
			b.step(0)
			b.lines = nil
			b.stop()
			b.remove("app.log") // and not done yet: the loss waits too
		}
		b.write("app.log.1.gz", "")
		for _, to := range []int{0, 5, 20, len(z) / 2, len(z) - 8, len(z) - 1} {
			b.do(os.WriteFile(b.path("app.log.1.gz"), z[:to], 0o644))
			for range 8 {
				b.step(second)
			}
			b.want()
			b.wantLosses()
		}
		b.do(os.WriteFile(b.path("app.log.1.gz"), z, 0o644))
		for range 3 {
			b.step(second)
		}
		if own {
			b.want(lines(text)...)
		} else {
			b.want(lines(text[len(text)/2:])...)
		}
		b.quiet()
	}
}

// A .gz with a wrong checksum is never read; one that holds nothing is.
func TestH15_Damaged(t *testing.T) {
	b := newBench(t, "*.gz")
	z := zip(numbered("z", 0, 2000))
	z[len(z)-5] ^= 1
	b.do(os.WriteFile(b.path("bad.gz"), z, 0o644))
	b.do(os.WriteFile(b.path("none.gz"), zip(""), 0o644))
	b.do(os.WriteFile(b.path("plain.gz"), []byte("not gzip\n"), 0o644))
	for range 4 {
		b.step(second)
	}
	b.want("not gzip")
	b.quiet()
}

// Born, written and rotated between two looks: read too, oldest first.
func TestH09_BornAndRotatedUnseen(t *testing.T) {
	for _, name := range []string{"app.log", "web-01.log"} { // a number may be part of the name
		for _, down := range []bool{false, true} {
			for _, zipped := range []bool{false, true} {
				for _, gone := range []bool{false, true} {
					if gone && !down {
						continue
					}
					t.Run(fmt.Sprintf("%s down=%t gz=%t gone=%t", name, down, zipped, gone), func(t *testing.T) {
						b := newBench(t, name)
						b.write(name+".1", numbered("history", 0, 100))
						old := time.Now().Add(-time.Hour)
						b.do(os.Chtimes(b.path(name+".1"), old, old))
						b.write(name, numbered("a", 0, 100))
						b.step(0)
						b.want(lines(numbered("a", 0, 100))...)
						if down {
							b.stop()
							b.o.Since = time.Now().Add(-time.Minute)
						}
						b.write(name, "last of a\n")
						for i := range 3 {
							b.rotate(name, 9)
							b.write(name, fmt.Sprintf("%d\n", i)+numbered("b", 0, i*100))
						}
						b.write("web.log.1", "of a file that is not meant\n")
						if zipped {
							for i := 1; i < 5; i++ {
								b.gzip(fmt.Sprintf("%s.%d", name, i))
							}
						}
						want := []string{"0", "1", "2"}
						want = append(want, lines(numbered("b", 0, 100)+numbered("b", 0, 200))...)
						if gone {
							b.remove(name + ".3" + map[bool]string{true: ".gz"}[zipped])
						} else {
							want = append(want, "last of a")
						}
						for range 20 {
							b.step(second)
						}
						b.wantSet(want...)
						b.quiet()
					})
				}
			}
		}
	}
}

// Rotated before the first scan that could show its path, and written to since
// an agent could have known it: read too.
func TestH09_RotatedBeforeFirstSeen(t *testing.T) {
	for _, first := range []bool{true, false} { // start of the stream
		for _, there := range []bool{true, false} { // again
			for _, to := range []string{"app.log.1", "app.log-20261126", "app.log.1.gz", "old/app.log.1", "old/app-20261126.log.gz"} {
				t.Run(fmt.Sprintf("first=%t there=%t %s", first, there, to), func(t *testing.T) {
					b := newBench(t)
					b.o.Rotated = []string{b.path("old/*")}
					if !first {
						b.write("other.log", "known\n")
						b.step(0)
						b.want("known")
						b.stop()
					}
					b.do(os.MkdirAll(b.path("old"), 0o755))
					b.write("app.log.2", "history\n")
					b.write("old/app.log.2", "history\n")
					long := time.Now().Add(-time.Hour)
					b.do(os.Chtimes(b.path("app.log.2"), long, long))
					b.do(os.Chtimes(b.path("old/app.log.2"), long, long))
					b.o.Since = time.Now()
					plain := strings.TrimSuffix(to, ".gz")
					b.write(plain, numbered("a", 0, 80))
					if plain != to {
						b.gzip(plain)
					}
					want := lines(numbered("a", 0, 80))
					if there {
						b.write("app.log", "new\n")
						want = append(want, "new")
					}
					for range 5 {
						b.step(second)
					}
					b.wantSet(want...)
					b.quiet()
				})
			}
		}
	}
}

// The .gz of one file is not taken for what is left of another whose name only
// differs by a number, and that began with the same few lines.
func TestH13_OtherNumber(t *testing.T) {
	for _, names := range [][2]string{{"web.log", "web-01.log"}, {"web-01.log", "web.log"}, {"web-01.log", "web-02.log"}} {
		b := newBench(t)
		b.write(names[0], "start\n")
		b.write(names[1], "start\nmore\n")
		for range 8 { // one may be a copy of the other
			b.step(second)
		}
		b.wantSet("start", "start", "more")
		b.stop()
		b.write(names[0], "more\nlast\n")
		b.rename(names[0], names[0]+".1")
		b.gzip(names[0] + ".1")
		b.remove(names[1])
		for range 8 {
			b.step(second)
		}
		b.want("more", "last")
		b.quiet()
	}
}

// The position of an empty file has the inode of one that is read and done with:
// that is not read again.
func TestH01_EmptyOneAndAKnownOne(t *testing.T) {
	b := newBench(t)
	b.write("a.log", "a\n")
	b.step(0)
	b.want("a")
	b.rename("a.log", "a.log.1")
	b.step(second)
	b.step(40 * second) // and closed
	b.stop()
	p := b.pos.All()[0]
	empty := record.Position{ID: 99, Path: b.path("a.log"), Dev: p.Dev, Ino: p.Ino}
	b.do(func() error { _, err := b.pos.Apply(b.enc.AppendDelta(nil, []record.Position{empty})); return err }())
	b.quiet()
}

// A rotated file that waits for a descriptor is compressed, and its inode is that
// of a copy.
func TestH44_InodeOfAWaitingFileReused(t *testing.T) {
	b := newBench(t)
	b.write("a.log", numbered("a", 0, 80))
	b.write("c.log", "c\n")
	b.step(0)
	b.wantSet(append(lines(numbered("a", 0, 80)), "c")...)
	b.stop()
	b.write("a.log", "rest of a\n")
	b.rename("a.log", "a.log.1")
	b.write("busy.log", "busy\n")
	b.write("c.log", "rest of c\n")
	ino := inodeOf(t, b.path("a.log.1"))
	b.o.MaxOpen = 1
	b.start()
	b.tail.Round(0)
	b.gzip("a.log.1")
	for i := 0; ; i++ {
		if i == 1000 {
			t.Skip("this file system does not reuse inodes")
		}
		name := fmt.Sprintf("other%d", i)
		if b.write(name, ""); inodeOf(t, b.path(name)) == ino {
			b.write(name, "c\nrest of c\n")
			b.rename(name, "c.log.1")
			b.truncate("c.log", 0)
			break
		}
	}
	for range 8 {
		b.tail.Round(second) // nothing is read: busy.log keeps the descriptor
	}
	for range 12 {
		b.step(second)
	}
	b.wantSet("busy", "rest of a", "rest of c")
	b.quiet()
}

func inodeOf(t *testing.T, path string) uint64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

// However many there are, few are inflated at once.
func TestH14_Many(t *testing.T) {
	b := newBench(t, "*.gz")
	var want []string
	for i := range 12 {
		text := numbered(fmt.Sprint(i), 0, 5_000)
		b.do(os.WriteFile(b.path(fmt.Sprintf("%d.gz", i)), zip(text), 0o644))
		want = append(want, lines(text)...)
	}
	for range 30 {
		b.step(second)
		if n := b.tail.Inflaters(); n > 4 {
			t.Fatalf("%d inflaters", n)
		}
	}
	b.wantSet(want...)
	if n := b.tail.Inflaters(); n != 0 {
		t.Errorf("inflaters at the end: %d", n)
	}
}

func TestUnrotate(t *testing.T) {
	for rotated, want := range map[string]string{
		"/d/app.log": "/d/app.log", "/d/app.log.1": "/d/app.log", "/d/app.log.12.gz": "/d/app.log", "/d/app.log.gz": "/d/app.log",
		"/d/app.log-20261125": "/d/app.log", "/d/app.log-20261125.gz": "/d/app.log", "/d/app-20261125.log": "/d/app.log",
		"/d/app.1.log": "/d/app.log", "/d/messages.1": "/d/messages", "/d/messages-20261125": "/d/messages", "/d.1/app": "/d.1/app",
	} {
		if got := tail.Unrotate(rotated); got != want {
			t.Errorf("%s: got %s, want %s", rotated, got, want)
		}
	}
}

// Rotated and compressed where the patterns take each name, with a look or none
// behind every step of it: each line comes once. Paused, nobody takes chunks
// meanwhile, and the agent is killed.
func TestH13_CompressedWhileFollowed(t *testing.T) {
	text := numbered("a", 0, 80)
	for _, way := range []string{"copytruncate", "create"} {
		for _, read := range []int{0, 60, 80} { // lines
			if read == 0 && way == "copytruncate" {
				continue // of an empty file nothing is known that a copy could have
			}
			for looks := range 1 << 6 {
				paused := looks >= 1<<5
				t.Run(fmt.Sprintf("%s read=%d paused=%t looks=%05b", way, read, paused, looks%(1<<5)), func(t *testing.T) {
					b := newBench(t, "app.log*")
					b.write("app.log", "")
					b.step(0)
					b.write("app.log", numbered("a", 0, read))
					b.step(second)
					look := b.step
					if paused {
						look = b.tail.Round
					}
					b.write("app.log", numbered("a", read, 80))
					for i, do := range []func(){
						func() {
							if way == "create" {
								b.rename("app.log", "app.log.1")
							} else {
								b.copy("app.log", "app.log.1")
							}
						},
						func() {
							if way == "create" {
								b.write("app.log", "")
							} else {
								b.truncate("app.log", 0)
							}
						},
						func() { b.write("app.log.1.gz", "") },
						func() { b.do(os.WriteFile(b.path("app.log.1.gz"), zip(text), 0o644)) },
						func() { b.remove("app.log.1") },
					} {
						do()
						if looks&(1<<i) != 0 {
							look(second / 10)
						}
					}
					if paused {
						look(second)
						b.start()
					}
					for range 8 {
						b.step(second)
					}
					b.step(40 * second)
					b.step(second)
					b.want(lines(text)...)
					b.quiet()
				})
			}
		}
	}
}

// A copy is found when its .gz has gone on already from where the original was,
// and the agent may be killed before that is committed.
func TestH13_CopyFoundAfterItsGz(t *testing.T) {
	for i, include := range []string{"app.log*", "app.log", "app.log*", "app.log"} {
		for _, size := range []int{1, 80} {
			b := newBench(t, include)
			text := numbered("a", 0, size)
			b.write("app.log", text)
			b.step(0)
			b.want(lines(text)...)
			b.stop()
			b.o.Since = time.Now()
			b.do(os.WriteFile(b.path("app.log.1.gz"), zip(text), 0o644))
			b.truncate("app.log", 0)
			for range 3 {
				b.step(second)
			}
			b.write("app.log.1", text)
			b.truncate("app.log", 0)
			if killed := i > 1; killed {
				b.tail.Round(second)
				for c := b.tail.Next(); c != nil; c = b.tail.Next() {
					c.Release()
				}
				b.remove("app.log.1")
				b.tail.Round(second)
				b.start()
			} else {
				b.step(second)
				b.remove("app.log.1")
			}
			b.quiet()
		}
	}
}

// The inode of the file that a .gz was made of is another's before the .gz is
// known.
func TestH13_InodeReusedMeanwhile(t *testing.T) {
	b := newBench(t, "app.log*")
	b.write("app.log", numbered("a", 0, 80))
	b.step(0)
	b.want(lines(numbered("a", 0, 80))...)
	ino := b.position("app.log").Ino
	b.do(os.WriteFile(b.path("app.log.1.gz"), zip(numbered("a", 0, 80)), 0o644))
	b.remove("app.log")
	b.step(second)
	b.step(31 * second) // and closed
	for i := range 1000 {
		name := fmt.Sprintf("app.log-new%d", i)
		b.write(name, "")
		if inodeOf(t, b.path(name)) == ino {
			b.step(second)
			b.step(second)
			b.quiet()
			return
		}
	}
	t.Skip("this file system does not reuse inodes")
}
