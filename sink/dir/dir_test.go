package dir_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sealtail/internal/durable"
	"sealtail/internal/durable/crashfs"
	"sealtail/sink/dir"
)

// env returns an envelope as far as a store can tell: n bytes that begin with
// their number.
func env(i, n int) []byte {
	b := bytes.Repeat([]byte{byte(i) | 1}, n)
	copy(b, fmt.Sprintf("<%06d>", i))
	return b
}

func put(t *testing.T, s *dir.Store, envs ...[]byte) {
	t.Helper()
	if err := s.Put(t.Context(), envs); err != nil {
		t.Fatal(err)
	}
}

// contents returns the stream's files in the order of their names.
func contents(t *testing.T, fsys durable.FS, path string) (names []string, files [][]byte) {
	t.Helper()
	entries, err := fsys.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := durable.ReadFile(fsys, filepath.Join(path, e.Name()), 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		names, files = append(names, e.Name()), append(files, b)
	}
	return names, files
}

func TestFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	s := dir.New(dir.Options{Path: path, Stream: "audit"})
	put(t, s, env(0, 100), env(1, 200))
	put(t, s, env(2, 50))
	names, files := contents(t, durable.OS, filepath.Join(path, "audit"))
	if len(names) != 1 || !regexp.MustCompile(`^\d{8}T\d{6}Z-000000\.se1$`).MatchString(names[0]) {
		t.Fatalf("got files %v", names)
	}
	if want := slices.Concat(env(0, 100), env(1, 200), env(2, 50)); !bytes.Equal(files[0], want) {
		t.Errorf("while written: got %d bytes, want the %d put", len(files[0]), len(want))
	}
	for name, want := range map[string]fs.FileMode{"": 0o700, "..": 0o700, names[0]: 0o600} {
		if info, err := os.Stat(filepath.Join(path, "audit", name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("mode of %q: got %v, %v; want %v", name, info.Mode().Perm(), err, want)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// A later run never appends to a file of an earlier one.
	put(t, dir.New(dir.Options{Path: path, Stream: "audit"}), env(3, 10))
	if names, _ = contents(t, durable.OS, filepath.Join(path, "audit")); len(names) != 2 {
		t.Errorf("got files %v, want 2", names)
	}
}

func TestStub(t *testing.T) {
	path := t.TempDir()
	s := dir.New(dir.Options{Path: path, Stream: "s"})
	put(t, s, env(0, 9))
	if err := s.PutStub(t.Context(), []byte("stub"), "why"); err != nil {
		t.Fatal(err)
	}
	_, files := contents(t, durable.OS, filepath.Join(path, "s"))
	if want := string(env(0, 9)) + "\x89SP1\x00\x00\x00\x04stub"; string(files[0]) != want {
		t.Errorf("got %q, want %q", files[0], want)
	}
}

func TestRotatesBySize(t *testing.T) {
	for _, c := range []struct {
		sizes []int
		want  []int // bytes of each file
	}{
		{[]int{40, 60}, []int{100}},
		{[]int{40, 59, 1}, []int{100}},
		{[]int{40, 61}, []int{40, 61}},
		{[]int{101, 1}, []int{101, 1}},
		{[]int{100, 100, 1, 98, 1, 1}, []int{100, 100, 100, 1}},
	} {
		t.Run(fmt.Sprint(c.sizes), func(t *testing.T) {
			path := t.TempDir()
			s := dir.New(dir.Options{Path: path, Stream: "s", MaxBytes: 100})
			for i, n := range c.sizes {
				put(t, s, env(i, n))
			}
			names, files := contents(t, durable.OS, filepath.Join(path, "s"))
			var got []int
			for _, f := range files {
				got = append(got, len(f))
			}
			if !slices.Equal(got, c.want) || !slices.IsSorted(names) {
				t.Errorf("got files %v of %v bytes, want %v", names, got, c.want)
			}
		})
	}
}

func TestRotatesByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := crashfs.New()
		s := dir.New(dir.Options{FS: fsys, Path: "/d", Stream: "s", MaxAge: time.Hour})
		for i := range 4 { // at 0, 40, 80 and 120 minutes
			put(t, s, env(i, 10))
			time.Sleep(40 * time.Minute)
		}
		names, _ := contents(t, fsys, "/d/s")
		if want := []string{"20000101T000000Z-000000.se1", "20000101T012000Z-000001.se1"}; !slices.Equal(names, want) {
			t.Errorf("got %v, want %v", names, want)
		}
	})
}

// TestFailures has one operation fail: Put says so, puts all again into a file
// of its own, and leaves no file but with whole envelopes and perhaps a torn
// end.
func TestFailures(t *testing.T) {
	for _, kind := range []string{crashfs.Create, crashfs.Write, crashfs.Sync, crashfs.SyncDir, crashfs.Mkdir} {
		for nth := range 3 {
			t.Run(fmt.Sprintf("%s %d", kind, nth), func(t *testing.T) {
				fsys := crashfs.New()
				s := dir.New(dir.Options{FS: fsys, Path: "/d", Stream: "s"})
				seen, failed := 0, false
				fsys.Inject(func(op crashfs.Op) error {
					if op.Kind == kind {
						if seen++; seen == nth+1 {
							failed = true
							return syscall.EIO
						}
					}
					return nil
				})
				acked := 0
				for i := range 5 {
					err := s.Put(t.Context(), [][]byte{env(i, 5000)})
					if err != nil {
						if !errors.Is(err, syscall.EIO) {
							t.Fatalf("got %v, want %v", err, syscall.EIO)
						}
						put(t, s, env(i, 5000))
					}
					acked++
				}
				_, files := contents(t, fsys, "/d/s")
				checkFiles(t, files, acked, 5000)
				if failed && (kind == crashfs.Write || kind == crashfs.Sync) && nth > 0 && len(files) != 2 {
					t.Errorf("got %d files, want a new one after the failure", len(files))
				}
			})
		}
	}
}

// checkFiles wants the first n envelopes, in order, each at least once, and
// nothing but envelopes up to the end of each file or its torn one.
func checkFiles(t *testing.T, files [][]byte, n, size int) {
	t.Helper()
	next := 0
	for _, f := range files {
		for len(f) >= size {
			if next < n && bytes.Equal(f[:size], env(next, size)) {
				next++
			} else if next == 0 || !bytes.Equal(f[:size], env(next-1, size)) {
				break // what was never acknowledged may be torn
			}
			f = f[size:]
		}
	}
	if next < n {
		t.Errorf("got the first %d envelopes, want %d", next, n)
	}
}

func TestDiskFull(t *testing.T) {
	fsys := crashfs.New()
	s := dir.New(dir.Options{FS: fsys, Path: "/d", Stream: "s"})
	put(t, s, env(0, 5000))
	fsys.SetCapacity(8 << 10)
	for range 10 {
		if err := s.Put(t.Context(), [][]byte{env(1, 5000)}); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("got %v, want %v", err, syscall.ENOSPC)
		}
	}
	names, files := contents(t, fsys, "/d/s")
	if len(names) != 1 || !bytes.Equal(files[0], env(0, 5000)) {
		t.Errorf("while full: got files %v, want the first as it was", names)
	}
	fsys.SetCapacity(1 << 20)
	put(t, s, env(1, 5000))
	_, files = contents(t, fsys, "/d/s")
	if len(files) != 2 || !bytes.Equal(files[1], env(1, 5000)) {
		t.Errorf("with room again: got %d files, want 2", len(files))
	}
}

// TestCrash cuts the power at every operation. What Put acknowledged is there
// after any of them, whatever pages and names survived.
func TestCrash(t *testing.T) {
	const n, size = 12, 5000
	run := func(fsys *crashfs.FS) (acked int) {
		s := dir.New(dir.Options{FS: fsys, Path: "/srv/sealed", Stream: "s", MaxBytes: 3 * size})
		for acked < n {
			if err := s.Put(context.Background(), [][]byte{env(acked, size)}); err != nil {
				return acked
			}
			acked++
		}
		return acked
	}
	whole := crashfs.New()
	run(whole)
	if whole.Ops() < 2*n {
		t.Fatalf("got %d operations, want at least a write and a sync each", whole.Ops())
	}
	for at := 1; at <= whole.Ops(); at++ {
		for seed := range uint64(20) {
			fsys := crashfs.New()
			fsys.CrashAt(at)
			acked := run(fsys)
			_, files := contents(t, fsys.Survivor(rand.New(rand.NewPCG(uint64(at), seed))), "/srv/sealed/s")
			checkFiles(t, files, acked, size)
			if t.Failed() {
				t.Fatalf("power cut at operation %d, seed %d", at, seed)
			}
		}
	}
}

// TestDirectoryRemoved has somebody remove the stream's directory.
func TestDirectoryRemoved(t *testing.T) {
	path := t.TempDir()
	s := dir.New(dir.Options{Path: path, Stream: "s", MaxBytes: 10})
	put(t, s, env(0, 10))
	if err := os.RemoveAll(filepath.Join(path, "s")); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), [][]byte{env(1, 10)}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want an error to try again after", err)
	}
	put(t, s, env(1, 10))
}

func BenchmarkPut(b *testing.B) {
	s := dir.New(dir.Options{Path: b.TempDir(), Stream: "s"})
	e := [][]byte{env(0, 256<<10)}
	b.SetBytes(256 << 10)
	for b.Loop() {
		if err := s.Put(b.Context(), e); err != nil {
			b.Fatal(err)
		}
	}
}

// An envelope put after the file was removed is not acknowledged there.
func TestRemovedWhileWritten(t *testing.T) {
	path := t.TempDir()
	s := dir.New(dir.Options{Path: path, Stream: "s"})
	defer s.Close()
	put := func(env string) error { return s.Put(t.Context(), [][]byte{[]byte(env)}) }
	if err := put("one"); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(path, "s", "*"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	if err := os.Remove(names[0]); err != nil {
		t.Fatal(err)
	}
	if err := put("two"); err == nil {
		t.Fatal("acknowledged in a file without a name")
	}
	if err := put("two"); err != nil {
		t.Fatal(err)
	}
	names, _ = filepath.Glob(filepath.Join(path, "s", "*"))
	if len(names) != 1 {
		t.Fatal(names)
	}
	if b, err := os.ReadFile(names[0]); err != nil || string(b) != "two" {
		t.Errorf("got %q (%v), want %q", b, err, "two")
	}
}
