package tail_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"sealtail/record"
	"sealtail/tail"
)

func TestPatterns(t *testing.T) {
	tree := []string{"a.log", "b.txt", "d/a.log", "d/e/a.log", "d/e/f/a.log", "x/a.log", "x/e/b.log", "x y/[1].log", ".hidden/a.log"}
	for i, tt := range []struct {
		include, exclude []string
		want             string
	}{
		{[]string{"*.log"}, nil, "a.log"},
		{[]string{"a.log"}, nil, "a.log"},
		{[]string{"*"}, nil, "a.log b.txt"},
		{[]string{"**/*.log"}, nil, ".hidden/a.log a.log d/a.log d/e/a.log d/e/f/a.log x y/[1].log x/a.log x/e/b.log"},
		{[]string{"**"}, []string{"**/*.log"}, "b.txt"},
		{[]string{"d/**"}, nil, "d/a.log d/e/a.log d/e/f/a.log"},
		{[]string{"d/**/a.log"}, nil, "d/a.log d/e/a.log d/e/f/a.log"},
		{[]string{"*/e/*.log"}, nil, "d/e/a.log x/e/b.log"},
		{[]string{"**/e/**/a.log"}, nil, "d/e/a.log d/e/f/a.log"},
		{[]string{"{d/e,x}/*.log"}, nil, "d/e/a.log x/a.log"},
		{[]string{"{a.log,x/{a,e/b}.log}"}, nil, "a.log x/a.log x/e/b.log"},
		{[]string{"[a-c].*"}, nil, "a.log b.txt"},
		{[]string{`x y/\[1\].log`}, nil, "x y/[1].log"},
		{[]string{"d/a.log", "d/*.log", "**/d/a.log"}, nil, "d/a.log"},
		{[]string{"**/*.log"}, []string{"**/d/**", "**/.*/**"}, "a.log x y/[1].log x/a.log x/e/b.log"},
		{[]string{"**/*.log"}, []string{"**/e/*", "**/[[]*"}, ".hidden/a.log a.log d/a.log d/e/f/a.log x/a.log"},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			b := newBench(t, tt.include...)
			b.o.Exclude = tt.exclude
			for _, p := range tree {
				b.write(p, p+"\n")
			}
			b.step(0)
			b.step(second)
			slices.Sort(b.files)
			if got := strings.Join(b.files, " "); got != tt.want {
				t.Errorf("%q but %q: got %s, want %s", tt.include, tt.exclude, got, tt.want)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	good := tail.Options{Include: []string{"/x/*.log"}, Key: []byte("k")}
	if _, err := tail.New(good); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*tail.Options){
		"no include pattern":         func(o *tail.Options) { o.Include = nil },
		"not an absolute path":       func(o *tail.Options) { o.Include = []string{"x/*.log"} },
		"syntax error in pattern":    func(o *tail.Options) { o.Include = []string{"/x/[.log"} },
		"neither with / nor with **": func(o *tail.Options) { o.Exclude = []string{"*.gz"} },
		"no key":                     func(o *tail.Options) { o.Key = nil },
		"max record":                 func(o *tail.Options) { o.MaxRecord = record.MaxChunkBytes + 1 },
		"poll":                       func(o *tail.Options) { o.Poll = 2 * second },
		"max open":                   func(o *tail.Options) { o.MaxOpen = -1 },
	} {
		o := good
		change(&o)
		if _, err := tail.New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// A file that is empty when the stream begins at the end is read from its
// first line; so is one that comes later.
func TestH23_EmptyAtEnds(t *testing.T) {
	b := newBench(t)
	b.write("empty.log", "")
	b.write("old.log", "old\n")
	b.write("long.log", numbered("x", 0, 100))
	b.write("unfinished.log", "old\nbeg")
	b.start()
	ends, err := b.tail.Ends(t.Context())
	b.do(err)
	if len(ends) != 4 {
		t.Fatalf("ends: got %d, want 4", len(ends))
	}
	b.commit(&record.Chunk{Moved: ends})
	write := func() {
		b.write("empty.log", "first\n")
		b.write("old.log", "new\n")
		b.write("long.log", "new\n")
		b.write("unfinished.log", "un\n")
		b.write("later.log", "all\n")
	}
	write()
	b.step(0)
	b.wantSet("all", "begun", "first", "new", "new")
	b.start()
	b.step(0)
	b.want()
	b.wantLosses()
}

// One (dev, ino) is read once, by whatever names; loops of links end.
func TestH36_ManyNames(t *testing.T) {
	b := newBench(t, "**/*.log")
	b.write("a.log", "one\n")
	b.write("d/b.log", "two\n")
	b.do(os.Link(b.path("a.log"), b.path("hard.log")))
	b.do(os.Symlink("a.log", b.path("soft.log")))
	b.do(os.Symlink("..", b.path("d/up")))
	b.do(os.Symlink(".", b.path("d/self")))
	b.do(os.Symlink(b.path("d"), b.path("again")))
	b.do(os.Symlink("loop.log", b.path("loop.log")))
	b.do(os.Symlink("nowhere", b.path("dangling.log")))
	b.step(0)
	b.wantSet("one", "two")
	b.remove("a.log") // not the file: it has another name
	b.write("hard.log", "three\n")
	b.step(second)
	b.want("three")
	b.step(40 * second)
	b.write("hard.log", "four\n")
	b.step(second)
	b.want("four")
	if p := b.position("hard.log"); p.Deleted {
		t.Errorf("position: %+v", p)
	}
}

// The target of a link is another file: the old one is read to its end.
func TestH37_LinkSwapped(t *testing.T) {
	b := newBench(t, "links/*.log")
	b.do(os.Mkdir(b.path("links"), 0o755))
	b.write("pods/0.log", "one\n")
	b.do(os.Symlink("../pods/0.log", b.path("links/c.log")))
	b.step(0)
	b.write("pods/0.log", "two\n")
	b.rename("pods/0.log", "pods/0.log.old")
	b.write("pods/0.log", "three\n")
	b.step(second)
	b.wantSet("one", "three", "two")
	b.write("pods/1.log", "four\n")
	b.do(os.Symlink("../pods/1.log", b.path("links/new")))
	b.rename("links/new", "links/c.log")
	b.write("pods/0.log", "late\n")
	b.step(second)
	b.wantSet("four", "late")
	// Rotated while down, out of the target's directory's pattern.
	b.stop()
	b.write("pods/1.log", "five\n")
	b.rename("pods/1.log", "pods/1.log.old")
	b.write("pods/1.log", "six\n")
	b.step(0)
	b.step(second)
	b.wantSet("five", "six")
}

func TestH38_ReadableLater(t *testing.T) {
	asUser(t)
	core, logs := observer.New(zap.WarnLevel)
	b := newBench(t)
	b.o.Log = zap.New(core)
	b.write("a.log", "one\n")
	b.do(os.Chmod(b.path("a.log"), 0))
	for range 20 {
		b.step(second)
	}
	b.want()
	// It was given its mode late, as logrotate does.
	b.do(os.Chmod(b.path("a.log"), 0o644))
	b.step(second)
	b.want("one")
	b.write("b.log", "two\n")
	b.do(os.Chmod(b.path("b.log"), 0))
	tried := b.tail.Stats().OpenErrors
	for range 30 + 60 {
		b.step(second)
	}
	b.want()
	if logs.Len() != 2 {
		t.Errorf("told %d times, want once for each", logs.Len())
	}
	if n := b.tail.Stats().OpenErrors - tried; n < 30 || n > 40 {
		t.Errorf("tried %d times", n)
	}
	b.do(os.Chmod(b.path("b.log"), 0o644))
	b.step(30 * second)
	b.want("two")
}

// The directory, or those above it, are made later, and removed and made again.
func TestH39_DirectoryLater(t *testing.T) {
	b := newBench(t, "x/y/*.log", "z/**/*.log")
	b.step(0)
	b.write("x/y/a.log", "one\n")
	b.write("z/a/b/c/a.log", "two\n")
	b.step(second)
	b.wantSet("one", "two")
	b.do(os.RemoveAll(b.path("x")))
	b.do(os.RemoveAll(b.path("z/a")))
	b.step(second)
	b.write("x/y/a.log", "three\n")
	b.write("z/a/a.log", "four\n")
	b.step(second)
	b.wantSet("four", "three")
	b.wantLosses()
}

func TestH40_NoRegularFile(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	b := newBench(t)
	b.o.Log = zap.New(core)
	b.do(syscall.Mkfifo(b.path("fifo.log"), 0o644))
	b.do(os.Mkdir(b.path("dir.log"), 0o755))
	b.do(os.Symlink("/dev/zero", b.path("zero.log")))
	b.do(os.Symlink("fifo.log", b.path("link.log")))
	b.write("a.log", "one\n")
	for range 5 {
		b.step(second)
	}
	b.want("one")
	if logs.Len() != 3 {
		t.Errorf("told %d times, want 3: %v", logs.Len(), logs.All())
	}
	// A file that becomes a FIFO, and the other way round.
	b.remove("a.log")
	b.do(syscall.Mkfifo(b.path("a.log"), 0o644))
	b.step(second)
	b.remove("fifo.log")
	b.write("fifo.log", "two\n")
	b.step(40 * second)
	b.want("two")
}

// More files than descriptors: all are read in turn, and only those that are
// read to their end are closed.
func TestH44_MoreFilesThanDescriptors(t *testing.T) {
	b := newBench(t)
	b.o.MaxOpen = 10
	var want []string
	for i := range 100 {
		b.write(fmt.Sprintf("%d.log", i), fmt.Sprintf("%d\n", i))
		want = append(want, fmt.Sprint(i))
	}
	b.start()
	for range 30 {
		b.step(second)
		if n := b.tail.Stats().Open; n > 10 {
			t.Fatalf("open: %d", n)
		}
	}
	b.wantSet(want...)
	// A closed file that grows is opened again, at its position.
	want = nil
	for i := range 100 {
		b.write(fmt.Sprintf("%d.log", i), fmt.Sprintf("more %d\n", i))
		want = append(want, fmt.Sprintf("more %d", i))
	}
	for range 30 {
		b.step(second)
	}
	b.wantSet(want...)
	// One that grows, and is rotated before anyone looks.
	want = nil
	for i := range 100 {
		b.write(fmt.Sprintf("%d.log", i), fmt.Sprintf("last %d\n", i))
		b.rename(fmt.Sprintf("%d.log", i), fmt.Sprintf("%d.log.1", i))
		want = append(want, fmt.Sprintf("last %d", i))
	}
	for range 40 {
		b.step(10 * second)
	}
	b.wantSet(want...)
	b.wantLosses()
}

// A name that the configuration no longer means is not followed, except for
// what was there at the start.
func TestNoLongerMeant(t *testing.T) {
	b := newBench(t)
	b.write("a.log", "one\n")
	b.write("b.log", "one\n")
	b.step(0)
	b.lines = nil
	b.stop()
	b.o.Exclude = []string{"**/b.log"}
	b.write("b.log", "two\n")
	b.step(0)
	b.want("two")
	for range 31 {
		b.write("b.log", "busy\n")
		b.step(second)
	}
	b.lines = nil
	b.write("b.log", "out\n")
	b.step(20 * second)
	b.want()
	b.start()
	b.step(0)
	b.step(90000 * second)
	b.step(20 * second)
	b.want()
	b.o.Exclude = nil
	b.start()
	b.step(0)
	if n := len(b.lines); n == 0 || b.lines[n-1] != "out" {
		t.Errorf("got %q, want what was written meanwhile", b.lines)
	}
	b.wantLosses()
}

// What a hole had is read from wherever the file is now, if it is the same.
func TestHoleOfARotatedFile(t *testing.T) {
	all := numbered("a", 0, 400)
	other := numbered("a", 0, 60) + numbered("b", 60, 400) // with the same head
	n := int64(len(all) / 400)
	for name, rotate := range map[string]func(b *bench) (lost bool){
		"compressed": func(b *bench) bool {
			b.do(os.WriteFile(b.path("a.log-1.gz"), zip(all), 0o644))
			b.remove("a.log")
			return false
		},
		"compressed, beside another": func(b *bench) bool {
			b.do(os.WriteFile(b.path("a.log.1.gz"), zip(other), 0o644))
			b.do(os.WriteFile(b.path("a.log.2.gz"), zip(all), 0o644))
			b.do(os.WriteFile(b.path("a.log.3.gz"), zip(other), 0o644))
			b.remove("a.log")
			return false
		},
		"compressed elsewhere": func(b *bench) bool {
			b.o.Rotated = []string{b.path("old/*")}
			b.write("old/a.log-2.gz", string(zip(all)))
			b.remove("a.log")
			return false
		},
		"moved elsewhere": func(b *bench) bool {
			b.o.Rotated = []string{b.path("old/*")}
			b.do(os.Mkdir(b.path("old"), 0o755))
			b.rename("a.log", "old/a.log-2")
			return false
		},
		"copied": func(b *bench) bool {
			b.copy("a.log", "a.log-2")
			b.truncate("a.log", 0)
			return false
		},
		"replaced by one with its head": func(b *bench) bool {
			b.do(os.WriteFile(b.path("a.log.1.gz"), zip(other), 0o644))
			b.do(os.WriteFile(b.path("a.log-2"), []byte(other), 0o644))
			b.do(os.WriteFile(b.path("a.log"), []byte(other), 0o644))
			return true
		},
		"cut short in a .gz": func(b *bench) bool {
			whole := zip(all)
			b.do(os.WriteFile(b.path("a.log.1.gz"), whole[:len(whole)/3], 0o644))
			b.remove("a.log")
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.write("a.log", all[:200*n])
			b.step(0)
			hole := b.position("a.log")
			b.write("a.log", all[200*n:])
			b.step(second)
			b.lines = nil
			hole.ID, hole.From, hole.Until, hole.Size = 4711, hole.Offset, 300*n, 300*n
			b.commit(&record.Chunk{Moved: []record.Position{hole}})
			b.stop()
			lost := rotate(b)
			b.start()
			for range 70 {
				b.step(second)
			}
			var got []string
			for _, l := range b.lines {
				if !strings.HasPrefix(l, "b ") && !slices.Contains(lines(all[:60*n]), l) {
					got = append(got, l)
				}
			}
			if lost {
				if len(got) > 0 {
					t.Errorf("got %q", got)
				}
				if got, want := b.losses(), fmt.Sprintf("a.log %d-%d spool damaged", 200*n, 300*n); !slices.Contains(got, want) {
					t.Errorf("losses: got %q, want %q", got, want)
				}
			} else {
				if !slices.Equal(got, lines(all[200*n:300*n])) {
					t.Errorf("got %d lines %q", len(got), got)
				}
				b.wantLosses()
			}
			if _, ok := b.pos.Get(4711); ok {
				t.Error("the hole is kept")
			}
			if n := b.tail.Inflaters(); n != 0 {
				t.Errorf("%d inflaters are left", n)
			}
		})
	}
}

// A hole, what damaged sealed bytes had, is read once more and forgotten.
func TestHoles(t *testing.T) {
	b := newBench(t)
	text := numbered("a", 0, 100)
	b.write("a.log", text)
	b.write("gone.log", text)
	b.step(0)
	b.lines = nil
	p, gone := b.position("a.log"), b.position("gone.log")
	b.rename("a.log", "a.log.1")
	b.write("a.log", "new\n")
	b.remove("gone.log")
	b.stop()
	n := int64(len(text) / 100)
	hole := func(id uint64, p record.Position, from, until int64) record.Position {
		p.ID, p.From, p.Offset, p.Until, p.Size, p.Marker = id, from, from, until, until, record.Print{}
		return p
	}
	holes := []record.Position{hole(1, p, 10*n, 20*n), hole(2, gone, 0, n), hole(3, p, 99*n, 110*n)}
	b.commit(&record.Chunk{Moved: holes})
	b.start()
	for range 3 {
		b.step(second)
	}
	b.wantSet(append(lines(numbered("a", 10, 20)), append(lines(numbered("a", 99, 100)), "new")...)...)
	for _, h := range holes {
		if p, ok := b.pos.Get(h.ID); ok {
			t.Errorf("a hole is left: %v", p)
		}
	}
	got := b.losses()
	slices.Sort(got)
	if want := []string{
		fmt.Sprintf("a.log %d-%d spool damaged", 100*n, 110*n), fmt.Sprintf("gone.log 0-%d spool damaged", n),
	}; !slices.Equal(got, want) {
		t.Errorf("losses: got %q, want %q", got, want)
	}
	if s := b.tail.Stats(); s.Again != 11*n {
		t.Errorf("again: got %d, want %d", s.Again, 11*n)
	}
}

// A hole whose file cannot be read now does not keep others waiting.
func TestHolesBesideUnreadable(t *testing.T) {
	b := newBench(t)
	text := numbered("a", 0, 100)
	b.write("bad.log", text)
	b.write("good.log", strings.ToUpper(text))
	b.step(0)
	b.lines = nil
	bad, good := b.position("bad.log"), b.position("good.log")
	for _, p := range []*record.Position{&bad, &good} {
		p.From, p.Until, p.Size, p.Marker, p.Offset = 0, p.Offset, p.Offset, record.Print{}, 0
	}
	bad.ID, good.ID = 1, 2
	b.commit(&record.Chunk{Moved: []record.Position{bad, good}})
	b.start()
	broken := true
	b.tail.SetRead(func(fd int, mem []byte, off int64) (int, error) {
		if name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil && broken && len(mem) > 1024 && filepath.Base(name) == "bad.log" {
			return 0, syscall.EIO
		}
		return syscall.Pread(fd, mem, off)
	})
	for range 4 {
		b.step(second)
	}
	b.want(lines(strings.ToUpper(text))...)
	if s := b.tail.Stats(); s.Closed != 1 || s.ClosedAt != b.path("bad.log") || s.ClosedAs != syscall.EIO {
		t.Errorf("got %d, %s: %v, want bad.log, which cannot be read", s.Closed, s.ClosedAt, s.ClosedAs)
	}
	broken = false
	for range 2 {
		b.step(second)
	}
	b.want(lines(text)...)
	b.wantLosses()
	if s := b.tail.Stats(); s.Closed != 0 || s.ClosedAt != "" || s.ClosedAs != nil {
		t.Errorf("got %d, %s: %v, want none", s.Closed, s.ClosedAt, s.ClosedAs)
	}
}

// A file that cannot be read now is told as long as it is so, and then read.
func TestUnreadableIsTold(t *testing.T) {
	b := newBench(t, "*.log")
	b.write("a.log", "1\n")
	b.write("b.log", "2\n")
	b.step(second)
	broken := true
	b.tail.SetRead(func(fd int, mem []byte, off int64) (int, error) {
		if name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil && broken && filepath.Base(name) == "b.log" {
			return 0, syscall.EIO
		}
		return syscall.Pread(fd, mem, off)
	})
	want := func(n int64, at string, as error) {
		t.Helper()
		b.step(second)
		if s := b.tail.Stats(); s.Closed != n || s.ClosedAt != at || s.ClosedAs != as {
			t.Errorf("got %d, %s: %v, want %d, %s: %v", s.Closed, s.ClosedAt, s.ClosedAs, n, at, as)
		}
	}
	b.write("a.log", "3\n")
	b.write("b.log", "4\n")
	want(1, b.path("b.log"), syscall.EIO)
	want(1, b.path("b.log"), syscall.EIO)
	broken = false
	want(0, "", nil)
	b.wantSet("1", "2", "3", "4")
	broken = true
	b.write("b.log", "5\n")
	want(1, b.path("b.log"), syscall.EIO)
	b.do(os.Remove(b.path("b.log")))
	for range 5 {
		b.step(second)
	}
	broken = false
	want(0, "", nil)
	b.want("5")
}

// A file that was closed to save descriptors and cannot be opened again is told.
func TestNotOpenedAgainIsTold(t *testing.T) {
	asUser(t)
	b := newBench(t, "*.log")
	b.o.MaxOpen = 1
	b.start()
	b.write("a.log", "1\n")
	b.write("b.log", "2\n")
	for range 3 {
		b.step(second)
	}
	b.wantSet("1", "2")
	for _, name := range []string{"a.log", "b.log"} {
		b.write(name, "3 of "+name+"\n")
		b.do(os.Chmod(b.path(name), 0))
	}
	for range 3 {
		b.step(second)
	}
	s := b.tail.Stats()
	if s.Closed != 1 || s.ClosedAs != syscall.EACCES || len(b.lines) != 1 {
		t.Errorf("got %d, %s: %v, and lines %q; want one file", s.Closed, s.ClosedAt, s.ClosedAs, b.lines)
	}
	b.do(os.Chmod(s.ClosedAt, 0o600))
	for range 3 {
		b.step(second)
	}
	b.wantSet("3 of a.log", "3 of b.log")
	if s := b.tail.Stats(); s.Closed != 0 {
		t.Errorf("got %d, %s, want none", s.Closed, s.ClosedAt)
	}
	b.wantLosses()
}

// What the patterns take and the user may not read is told as long as it is so.
func TestClosedIsTold(t *testing.T) {
	asUser(t)
	b := newBench(t, "**/*.log")
	b.write("a.log", "1\n")
	b.write("shut/b.log", "2\n")
	want := func(n int64, as string) {
		t.Helper()
		b.step(second)
		s := b.tail.Stats()
		path, denied := strings.CutSuffix(as, ": permission denied")
		if s.Closed != n || s.ClosedAt != path || denied != errors.Is(s.ClosedAs, syscall.EACCES) {
			t.Errorf("got %d, %q: %v, want %d, %q", s.Closed, s.ClosedAt, s.ClosedAs, n, as)
		}
	}
	b.do(os.Chmod(b.path("a.log"), 0))
	b.do(os.Chmod(b.path("shut"), 0))
	want(2, b.path("a.log")+": permission denied")
	b.do(os.Chmod(b.path("a.log"), 0o600))
	want(1, b.path("shut")+": permission denied")
	b.do(os.Chmod(b.path("shut"), 0o700))
	want(0, "")
	b.do(os.Chmod(b.path("shut"), 0))
	b.write("c.log", "3\n")
	b.do(os.Chmod(b.path("c.log"), 0))
	want(2, b.path("c.log")+": permission denied")
	b.do(os.Remove(b.path("c.log")))
	want(1, b.path("shut")+": permission denied")
	b.do(os.Chmod(b.path("shut"), 0o700))
	b.do(os.RemoveAll(b.path("shut")))
	want(0, "")
	b.write("target", "4\n")
	b.do(os.Chmod(b.path("target"), 0))
	b.do(os.Symlink("target", b.path("link.log")))
	want(1, b.path("link.log")+": permission denied")
	b.do(os.Remove(b.path("target")))
	want(0, "")
	b.write("target", "5\n")
	b.do(os.Chmod(b.path("target"), 0))
	want(1, b.path("link.log")+": permission denied")
	b.do(os.Remove(b.path("target")))
	b.do(os.Mkdir(b.path("target"), 0o700))
	want(0, "")
}
