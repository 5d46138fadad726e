package crashfs_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"

	"sealtail/internal/durable"
	"sealtail/internal/durable/crashfs"
)

func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func open(t *testing.T, fsys durable.FS, name string) durable.File {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func write(t *testing.T, f durable.File, s string, off int64) {
	t.Helper()
	if n, err := f.WriteAt([]byte(s), off); n != len(s) || err != nil {
		t.Fatalf("wrote %d, %v", n, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func content(fsys durable.FS, name string) string {
	b, err := durable.ReadFile(fsys, name, 1<<30)
	if errors.Is(err, fs.ErrNotExist) {
		return "(none)"
	}
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// outcomes collects what name may hold after a power cut.
func outcomes(fsys *crashfs.FS, name string) map[string]bool {
	got := map[string]bool{}
	for i := range uint64(200) {
		got[content(fsys.Survivor(rng(i)), name)] = true
	}
	return got
}

func want(t *testing.T, got map[string]bool, want ...string) {
	t.Helper()
	for _, w := range want {
		if !got[w] {
			t.Errorf("never seen: %.40q…", w)
		}
		delete(got, w)
	}
	for g := range got {
		t.Errorf("not possible: %.40q…", g)
	}
}

func TestNames(t *testing.T) {
	fsys := crashfs.New()
	f := open(t, fsys, "a")
	write(t, f, "x", 0)
	must(t, f.Sync())
	want(t, outcomes(fsys, "a"), "(none)", "x")
	must(t, fsys.SyncDir("."))
	want(t, outcomes(fsys, "a"), "x")
	must(t, fsys.Rename("a", "b"))
	for i := range uint64(100) {
		s := fsys.Survivor(rng(i))
		if a, b := content(s, "a"), content(s, "b"); a+b != "x(none)" && a+b != "(none)x" {
			t.Fatalf("a rename half done: a %q, b %q", a, b)
		}
	}
	must(t, fsys.SyncDir("."))
	must(t, fsys.Remove("b"))
	want(t, outcomes(fsys, "b"), "x", "(none)")
	must(t, fsys.SyncDir("."))
	want(t, outcomes(fsys, "b"), "(none)")
}

func TestPages(t *testing.T) {
	fsys := crashfs.New()
	f := open(t, fsys, "a")
	must(t, fsys.SyncDir("."))
	page := func(s string) string { return strings.Repeat(s, crashfs.PageSize) }
	zeros := page("\x00")
	write(t, f, page("a")+page("b"), 0)
	want(t, outcomes(fsys, "a"), "", zeros+zeros, page("a")+zeros, zeros+page("b"), page("a")+page("b"))
	must(t, f.SyncData())
	want(t, outcomes(fsys, "a"), page("a")+page("b"))
	write(t, f, page("c"), 0)
	write(t, f, page("d"), 0)
	want(t, outcomes(fsys, "a"), page("a")+page("b"), page("c")+page("b"), page("d")+page("b"))
	must(t, f.Truncate(3))
	must(t, f.Sync())
	want(t, outcomes(fsys, "a"), "ddd")
	must(t, f.Allocate(5))
	must(t, f.Sync())
	want(t, outcomes(fsys, "a"), "ddd\x00\x00")
}

func TestFailedSync(t *testing.T) {
	fsys := crashfs.New()
	f := open(t, fsys, "a")
	write(t, f, "old", 0)
	must(t, f.Sync())
	must(t, fsys.SyncDir("."))
	write(t, f, "new", 0)
	fsys.Inject(func(op crashfs.Op) error {
		if op.Kind == crashfs.Sync {
			return syscall.EIO
		}
		return nil
	})
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v, want EIO", err)
	}
	fsys.Inject(nil)
	must(t, f.Sync()) // succeeds, and proves nothing
	if got := content(fsys, "a"); got != "new" {
		t.Errorf("reads back %q, want new", got)
	}
	want(t, outcomes(fsys, "a"), "old", "new")
	write(t, f, "NEW", 0)
	must(t, f.Sync())
	want(t, outcomes(fsys, "a"), "NEW")
}

func TestCapacity(t *testing.T) {
	fsys := crashfs.New()
	fsys.SetCapacity(3 * crashfs.PageSize)
	f := open(t, fsys, "a")
	must(t, f.Allocate(crashfs.PageSize))
	n, err := f.WriteAt(make([]byte, 4*crashfs.PageSize), 0)
	if n != 3*crashfs.PageSize || !errors.Is(err, syscall.ENOSPC) || !durable.NoRoom(err) {
		t.Errorf("wrote %d, %v, want 3 pages and ENOSPC", n, err)
	}
	if err := f.Allocate(4 * crashfs.PageSize); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("allocate: %v, want ENOSPC", err)
	}
	if _, err := fsys.OpenFile("b", os.O_CREATE|os.O_RDWR, 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("create: %v, want ENOSPC", err)
	}
	must(t, f.Truncate(1))
	if free, total, _ := fsys.Free("."); free != 2*crashfs.PageSize || total != 3*crashfs.PageSize {
		t.Errorf("free %d of %d", free, total)
	}
	must(t, fsys.Remove("a"))
	if free, _, _ := fsys.Clone().Free("."); free != 3*crashfs.PageSize {
		t.Errorf("free %d", free)
	}
}

func TestPowerCutAndRestart(t *testing.T) {
	fsys := crashfs.New()
	f := open(t, fsys, "a") // 1
	fsys.CrashAt(2)
	write(t, f, "x", 0)
	if _, err := f.WriteAt([]byte("y"), 1); !errors.Is(err, crashfs.ErrPowerCut) {
		t.Errorf("got %v, want ErrPowerCut", err)
	}
	if err := fsys.SyncDir("."); !errors.Is(err, crashfs.ErrPowerCut) {
		t.Errorf("got %v, want ErrPowerCut", err)
	}
	fsys.Restart()
	if got := content(fsys, "a"); got != "xy" {
		t.Errorf("cache after the process ended: %q, want xy", got)
	}
	if err := f.Sync(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("handle of the process that ended: got %v, want ErrClosed", err)
	}
	if fsys.Ops() != 4 {
		t.Errorf("got %d operations, want 4", fsys.Ops())
	}
	want(t, outcomes(fsys, "a"), "(none)", "", "x", "xy", "\x00", "\x00\x00", "x\x00")
}

func TestHandles(t *testing.T) {
	fsys := crashfs.New()
	must(t, durable.MkdirAll(fsys, "/s/t", 0o700))
	f := open(t, fsys, "/s/t/a")
	if _, err := f.Write([]byte("hello ")); err != nil {
		t.Fatal(err)
	}
	if n, err := f.WritevAt(6, []byte("wor"), nil, []byte("ld")); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	g, err := fsys.OpenFile("/s/t/a", os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	if _, err := g.Write([]byte("!")); err != nil {
		t.Fatal(err)
	}
	r, err := fsys.OpenFile("/s/t/a", os.O_RDONLY, 0)
	must(t, err)
	if b, err := io.ReadAll(r); err != nil || string(b) != "hello world!" {
		t.Errorf("read %q, %v", b, err)
	}
	if _, err := r.WriteAt([]byte("x"), 0); !errors.Is(err, syscall.EBADF) {
		t.Errorf("write to a file opened for reading: %v", err)
	}
	if _, err := fsys.OpenFile("/s/t/a", os.O_CREATE|os.O_EXCL|os.O_RDWR, 0); !errors.Is(err, fs.ErrExist) {
		t.Errorf("O_EXCL: %v", err)
	}
	if _, err := fsys.OpenFile("/s/x/a", os.O_CREATE, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such directory: %v", err)
	}
	must(t, fsys.MkdirAll("/s/t/sub", 0o700))
	var names []string
	list, err := fsys.ReadDir("/s/t")
	must(t, err)
	for _, e := range list {
		names = append(names, fmt.Sprint(e.Name(), e.IsDir()))
	}
	if got := strings.Join(names, " "); got != "afalse subtrue" {
		t.Errorf("got %q", got)
	}
	if err := fsys.Remove("/s/t"); err == nil {
		t.Error("removed a directory with names in it")
	}
	c := fsys.Clone()
	must(t, fsys.Remove("/s/t/a"))
	if got := content(c, "/s/t/a"); got != "hello world!" {
		t.Errorf("clone holds %q", got)
	}
	must(t, r.Close())
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read of a closed file: %v", err)
	}
}

// TestWriteFile crashes at every operation of WriteFile: the file holds the old
// or the new content, and the new one once WriteFile returned.
func TestWriteFile(t *testing.T) {
	before := crashfs.New()
	must(t, durable.WriteFile(before, "f", []byte("old"), 0o600))
	long := strings.Repeat("new", 5000)
	for n := 1; ; n++ {
		fsys := before.Clone()
		fsys.CrashAt(n)
		err := durable.WriteFile(fsys, "f", []byte(long), 0o600)
		for i := range uint64(30) {
			s := fsys.Survivor(rng(i))
			got := content(s, "f")
			if got != long && (got != "old" || err == nil) {
				t.Fatalf("crash at operation %d, WriteFile returned %v: file holds %.10q", n, err, got)
			}
			must(t, durable.WriteFile(s, "f", []byte("again"), 0o600))
		}
		if err == nil {
			if n < 5 {
				t.Fatalf("only %d operations", n)
			}
			return
		}
	}
}

// TestMkdirAll crashes at every operation of MkdirAll, by a power cut and by the
// end of the process alone: once a call returned nil, the directory stays.
func TestMkdirAll(t *testing.T) {
	for n := 1; ; n++ {
		fsys := crashfs.New()
		fsys.CrashAt(n)
		err := durable.MkdirAll(fsys, "/a/b/c", 0o700)
		killed := fsys.Clone()
		for i := range uint64(20) {
			s := fsys.Survivor(rng(i))
			if _, serr := s.Stat("/a/b/c"); err == nil && serr != nil {
				t.Fatal(serr)
			}
			must(t, durable.MkdirAll(s, "/a/b/c", 0o700))
			k := killed.Clone()
			must(t, durable.MkdirAll(k, "/a/b/c", 0o700))
			if info, err := k.Survivor(rng(i)).Stat("/a/b/c"); err != nil || !info.IsDir() {
				t.Fatalf("killed at operation %d, made again, then a power cut: %v", n, err)
			}
		}
		if err == nil {
			return
		}
	}
}
