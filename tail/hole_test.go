package tail_test

import (
	"os"
	"testing"
	"time"
)

// Truncated under a writer without O_APPEND: the hole up to its old offset is
// skipped and counted, however large it is.
func TestH08_HoleOfATruncatedFile(t *testing.T) {
	for _, old := range []int64{1 << 12, 1<<20 + 77, 1 << 40} {
		b := newBench(t)
		b.write("a.log", numbered("old", 0, 100))
		b.step(0)
		b.lines = nil
		f, err := os.OpenFile(b.path("a.log"), os.O_WRONLY, 0)
		b.do(err)
		b.do(f.Truncate(0))
		_, err = f.WriteAt([]byte("\nnew\n"), old)
		b.do(err)
		b.step(second)
		b.want("", "new")
		_, err = f.WriteAt([]byte("more\n"), old+5)
		b.do(err)
		b.do(f.Close())
		b.step(second)
		b.want("more")
		if n := b.tail.Stats().Hole; n != old {
			t.Errorf("hole: got %d, want %d", n, old)
		}
		b.quiet()
	}
}

// A file that is nothing but a hole waits for its first byte.
func TestH08_NothingYet(t *testing.T) {
	b := newBench(t)
	b.write("a.log", "")
	b.truncate("a.log", 1<<30)
	b.step(second)
	b.want()
	b.write("a.log", "one\n")
	b.step(second)
	b.want("one")
	b.quiet()
}

// A network file system shows an old size: nothing is truncated until what is
// there differs, or the size stays.
func TestH35_OldSize(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(b *bench, all string)
		want []string
	}{
		{"comes back", func(b *bench, all string) {
			b.truncate("a.log", 3000)
			b.step(second)
			b.tail.Round(second)
			b.write("a.log", all[3000:]+"more\n")
		}, []string{"more"}},
		{"written anew", func(b *bench, all string) {
			b.do(overwrite(b.path("a.log"), numbered("b", 0, 50)))
		}, lines(numbered("b", 0, 50))},
		{"stays", func(b *bench, all string) {
			b.do(overwrite(b.path("a.log"), "short\n"))
			b.step(second)
			b.want()
			b.step(119 * second)
			b.want()
			b.step(2 * second)
		}, []string{"short"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.start()
			b.tail.SetRemote()
			all := numbered("a", 0, 200)
			b.write("a.log", all)
			b.step(0)
			b.lines = nil
			tt.do(b, all)
			b.step(second)
			b.want(tt.want...)
			b.step(6 * second)
			b.wantLosses()
		})
	}
}

// Files that are old when they are found begin at their end.
func TestIgnoreOlder(t *testing.T) {
	b := newBench(t, "*.log", "*.gz")
	b.o.IgnoreOlder = time.Hour
	b.write("old.log", "one\ntw")
	b.do(os.WriteFile(b.path("old.gz"), zip("one\n"), 0o644))
	b.write("young.log", "young\n")
	b.write("young.gz", string(zip("younger\n")))
	for i, name := range []string{"old.log", "old.gz", "young.log", "young.gz"} {
		at := time.Now().Add(-time.Duration(2-i/2) * 50 * time.Minute)
		b.do(os.Chtimes(b.path(name), at, at))
	}
	b.step(0)
	b.step(second)
	b.wantSet("young", "younger")
	b.write("old.log", "o\nthree\n")
	b.write("old.gz", string(zip("two\n")))
	for range 4 {
		b.step(second)
	}
	b.wantSet("three", "two", "two")
	b.quiet()
}
