package tail_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sealtail/record"
	"sealtail/tail"
)

// A holder keeps copies of the descriptors that a tailer tells it.
type holder struct {
	t     *testing.T
	fds   map[[2]uint64]int
	given int // up
}

func (h *holder) hold(dev, ino uint64, fd int) {
	k := [2]uint64{dev, ino}
	if fd < 0 {
		h.given++
		if old, ok := h.fds[k]; ok {
			unix.Close(old)
			delete(h.fds, k)
		}
		return
	}
	if _, ok := h.fds[k]; ok {
		h.t.Errorf("inode %d is held twice", ino)
	}
	h.fds[k] = h.dup(fd)
}

func (h *holder) dup(fd int) int {
	h.t.Helper()
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	return n
}

func newHolder(b *bench) *holder {
	h := &holder{t: b.t, fds: map[[2]uint64]int{}}
	b.o.Hold = h.hold
	b.t.Cleanup(func() {
		for _, fd := range h.fds {
			unix.Close(fd)
		}
	})
	return h
}

// restart begins a new tailer with what the holder kept.
func (h *holder) restart(b *bench) {
	b.o.Held = nil
	for _, fd := range h.fds {
		b.o.Held = append(b.o.Held, h.dup(fd))
	}
	b.start()
	b.o.Held = nil
}

// A file that is deleted while nobody takes chunks is read by the next tailer,
// from where it was taken.
func TestHeldOverRestart(t *testing.T) {
	b := newBench(t)
	h := newHolder(b)
	b.write("a.log", "one\n")
	b.step(0)
	b.want("one")
	b.write("a.log", "two\nthree\n")
	b.write("new.log", numbered("new", 0, 50))
	b.tail.Round(second)
	b.remove("a.log")
	b.remove("new.log")
	b.tail.Round(second)
	if len(h.fds) != 2 {
		t.Fatalf("held: got %d, want 2", len(h.fds))
	}
	for range 2 { // the second time nothing was read in between
		h.restart(b)
	}
	b.write("a.log", "another\n")
	b.step(0)
	b.wantSet(append(lines(numbered("new", 0, 50)), "two", "three", "another")...)
	h.restart(b) // all is read, and not closed yet
	for range 4 {
		b.step(20 * second)
	}
	b.want()
	b.wantLosses()
	if s := b.tail.Stats(); s.Open != 1 {
		t.Errorf("open: got %d, want 1", s.Open)
	}
	h.restart(b) // the positions are closed: nobody need hold them
	b.step(second)
	b.want()
	if len(h.fds) != 0 {
		t.Errorf("held: got %d, want 0", len(h.fds))
	}
}

// Files that are deleted between one tailer and the next, or too shortly before
// the end to be noticed, are read, also what comes to them meanwhile; the others
// need not be held.
func TestHeldWhileNobodyRuns(t *testing.T) {
	b := newBench(t)
	h := newHolder(b)
	b.write("kept.log", "kept\n")
	b.write("read.log", "read\n")
	b.step(0)
	b.wantSet("kept", "read")
	b.write("new.log", "one\n")
	b.tail.Round(second)
	b.remove("new.log")
	b.tail.Leave()
	b.stop()
	if len(h.fds) != 3 {
		t.Fatalf("held: got %d, want 3", len(h.fds))
	}
	b.write("read.log", "more\n")
	b.remove("read.log")
	h.restart(b)
	b.step(0)
	b.wantSet("one", "more")
	b.wantLosses()
	if len(h.fds) != 2 {
		t.Errorf("held: got %d, want 2", len(h.fds))
	}
}

// More files may be held than descriptors are wanted.
func TestHeldBeyondMaxOpen(t *testing.T) {
	b := newBench(t)
	h := newHolder(b)
	b.write("a.log", "a\n")
	b.write("b.log", "b\n")
	b.start()
	b.tail.Round(0)
	b.remove("a.log")
	b.remove("b.log")
	b.tail.Round(second)
	b.o.MaxOpen = 1
	h.restart(b)
	b.step(0)
	b.wantSet("a", "b")
	b.wantLosses()
}

// What nobody committed a position of is read from its beginning.
func TestHeldUnknown(t *testing.T) {
	b := newBench(t)
	b.o.Found = nil
	h := newHolder(b)
	b.write("a.log", "one\ntwo\n")
	b.start()
	b.tail.Round(0)
	b.remove("a.log")
	b.tail.Round(second)
	h.restart(b)
	b.step(0)
	if len(b.files) != 2 || b.files[0] != "a.log" {
		t.Errorf("files: got %q", b.files)
	}
	b.want("one", "two")
}

// A deleted .gz goes on as what it holds, wherever it was taken up to, also
// where nobody committed a position of it.
func TestHeldZipped(t *testing.T) {
	text := numbered("z", 0, 100_000)
	for _, taken := range []int{-1, 0, 1, 5} {
		for _, size := range []int{300, 100_000} {
			t.Run(fmt.Sprintf("%d lines, %d chunks taken", size, taken), func(t *testing.T) {
				b := newBench(t, "*.gz")
				if taken < 0 {
					b.o.Found = nil
				}
				h := newHolder(b)
				want := lines(text)[:size]
				b.do(overwrite(b.path("a.log.1.gz"), string(zip(strings.Join(want, "\n")+"\n"))))
				b.start()
				b.tail.Round(0)
				for !b.tail.Decided() {
					b.tail.Round(second)
				}
				for range taken {
					if c := b.tail.Next(); c != nil {
						b.take(c)
					}
				}
				b.remove("a.log.1.gz")
				b.tail.Round(second)
				if len(h.fds) != 1 {
					t.Fatalf("held: got %d, want 1", len(h.fds))
				}
				for range 2 { // the second time nothing was read in between
					h.restart(b)
				}
				for range 20 {
					b.step(second)
				}
				b.want(want...)
				b.wantLosses()
				h.restart(b) // all is read, and not closed yet
				for range 4 {
					b.step(20 * second)
				}
				h.restart(b) // nobody need hold it
				b.step(second)
				b.want()
				b.wantLosses()
				if s := b.tail.Stats(); s.Open != 0 || len(h.fds) != 0 {
					t.Errorf("open %d, held %d, want none", s.Open, len(h.fds))
				}
			})
		}
	}
}

// A file that has a name again, or still, is found by it.
func TestHeldWithName(t *testing.T) {
	b := newBench(t)
	h := newHolder(b)
	b.write("a.log", "one\n")
	b.start()
	b.tail.Round(0)
	fd, err := unix.Open(b.path("a.log"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	b.do(err)
	b.o.Held = []int{fd}
	b.start()
	b.step(0)
	b.want("one")
	if h.given != 1 {
		t.Errorf("given up: got %d, want 1", h.given)
	}
}

// At the limit of held bytes nobody else need hold them either.
func TestHeldGivenUp(t *testing.T) {
	b := newBench(t)
	b.o.HoldMaxBytes = 1
	h := newHolder(b)
	b.write("a.log", "one\n")
	b.start()
	b.tail.Round(0)
	b.remove("a.log")
	b.tail.Round(second)
	if len(h.fds) != 0 || h.given != 1 {
		t.Errorf("held %d, given up %d, want 0 and 1", len(h.fds), h.given)
	}
	b.step(second)
	b.wantLosses("a.log 0-4 held-bytes limit")
}

// Once reading has ended, a tailer looks after the files until it has to go:
// what is born and deleted meanwhile is held, and read by the next one.
func TestLookAfter(t *testing.T) {
	b := newBench(t)
	h := newHolder(b)
	found, held := make(chan string, 10), make(chan int, 10)
	b.o.Found = func(ps []record.Position) {
		b.found(ps)
		for _, p := range ps {
			found <- filepath.Base(p.Path)
		}
	}
	b.o.Hold = func(dev, ino uint64, fd int) {
		h.hold(dev, ino, fd)
		held <- fd
	}
	b.write("read.log", "read\n")
	b.o.Positions = b.pos.All()
	tailer, err := tail.New(b.o)
	b.do(err)
	ctx, stop := context.WithCancel(t.Context())
	reading, stopReading := context.WithCancel(ctx)
	out, done := make(chan *record.Chunk), make(chan error)
	go func() { done <- tailer.Run(ctx, reading, out) }()
	for len(b.lines) < 1 {
		b.take(<-out)
	}
	stopReading()
	for range out {
	}
	b.write("new.log", "one\n")
	for <-found != "new.log" {
	}
	b.remove("new.log")
	<-held
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	b.remove("read.log")
	h.restart(b)
	b.step(0)
	b.want("read", "one")
	b.wantLosses()
}

// A file and the .gz that was made of it are both held once they are deleted,
// and come back in any order: what was taken is not read again.
func TestHeldWithItsGz(t *testing.T) {
	for _, zipFirst := range []bool{false, true} {
		t.Run(fmt.Sprintf("gz first=%t", zipFirst), func(t *testing.T) {
			b := newBench(t)
			h := newHolder(b)
			all := numbered("a", 0, 200)
			b.write("a.log", all)
			b.step(0)
			b.want(lines(all)...)
			b.rotate("a.log", 9)
			b.write("a.log", "next\n")
			b.gzip("a.log.1")
			b.step(second)
			b.want("next")
			b.remove("a.log.1.gz")
			b.tail.Round(second)
			b.tail.Leave()
			b.stop()
			for _, fd := range h.fds {
				name, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
				if strings.Contains(name, ".gz") == zipFirst {
					b.o.Held = append([]int{h.dup(fd)}, b.o.Held...)
				} else {
					b.o.Held = append(b.o.Held, h.dup(fd))
				}
			}
			if len(b.o.Held) != 3 {
				t.Fatalf("held: got %d, want 3", len(b.o.Held))
			}
			b.start()
			b.o.Held = nil
			for range 20 {
				b.step(second)
			}
			b.want()
			b.wantLosses()
		})
	}
}
