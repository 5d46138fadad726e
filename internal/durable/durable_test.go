package durable_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sealtail/internal/durable"
)

func TestWriteFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	for _, want := range []string{"", "one", strings.Repeat("x", 10000), "two"} {
		if err := durable.WriteFile(durable.OS, name, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := durable.ReadFile(durable.OS, name, 10000)
		if err != nil || string(got) != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
		if info, _ := os.Stat(name); info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, want 0600", info.Mode())
		}
		// What a crash left is replaced, whatever its mode.
		if err := os.WriteFile(name+".tmp", []byte("left"), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := durable.ReadFile(durable.OS, name, 2); err == nil {
		t.Error("ReadFile of 3 bytes with a bound of 2: no error")
	}
	if err := durable.WriteFile(durable.OS, filepath.Join(name, "x"), nil, 0o600); err == nil {
		t.Error("WriteFile below a file: no error")
	}
}

func TestMkdirAll(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"a/b/c", "a/b/c", "a/d", "."} {
		if err := durable.MkdirAll(durable.OS, filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(filepath.Join(dir, d)); err != nil || !info.IsDir() {
			t.Errorf("%s: %v, %v", d, info, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := durable.MkdirAll(durable.OS, filepath.Join(dir, "file"), 0o700); err == nil {
		t.Error("MkdirAll of a file: no error")
	}
}

func TestWritevAt(t *testing.T) {
	for _, tc := range []struct {
		name string
		bufs []string
	}{
		{"nothing", nil},
		{"empty ones", []string{"", ""}},
		{"one", []string{"abc"}},
		{"three, one empty", []string{"abc", "", "defg"}},
		{"large", []string{strings.Repeat("a", 1<<20), strings.Repeat("b", 1<<19), "c"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, err := durable.OS.OpenFile(filepath.Join(t.TempDir(), "f"), os.O_RDWR|os.O_CREATE, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var bufs [][]byte
			for _, b := range tc.bufs {
				bufs = append(bufs, []byte(b))
			}
			want := strings.Join(tc.bufs, "")
			n, err := f.WritevAt(7, bufs...)
			if err != nil || n != int64(len(want)) {
				t.Fatalf("wrote %d, %v, want %d", n, err, len(want))
			}
			if err := f.SyncData(); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(want))
			if _, err := f.ReadAt(got, 7); err != nil || string(got) != want {
				t.Errorf("read back %d bytes, %v: differ", len(got), err)
			}
			for i, b := range tc.bufs {
				if string(bufs[i]) != b {
					t.Errorf("slice %d was changed", i)
				}
			}
		})
	}
}

func TestAllocate(t *testing.T) {
	f, err := durable.OS.OpenFile(filepath.Join(t.TempDir(), "f"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("abc"), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Allocate(1 << 20); errors.Is(err, errors.ErrUnsupported) {
		t.Skip("this file system does not allocate ahead")
	} else if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 1<<20)
	want := append([]byte("abc"), make([]byte, 1<<20-3)...)
	if n, err := f.ReadAt(got, 0); n != 1<<20 || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

func TestFree(t *testing.T) {
	free, total, err := durable.OS.Free(t.TempDir())
	if err != nil || total == 0 || free > total {
		t.Errorf("got %d of %d bytes free, %v", free, total, err)
	}
	if _, _, err := durable.OS.Free("/does/not/exist"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want not exist", err)
	}
}

func TestNoRoom(t *testing.T) {
	for err, want := range map[error]bool{
		nil:           false,
		syscall.EIO:   false,
		os.ErrClosed:  false,
		syscall.EROFS: false,
		fmt.Errorf("write x: %w", &fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}): true,
		&fs.PathError{Op: "sync", Path: "x", Err: syscall.ENOSPC}:                             false,
		&fs.PathError{Op: "fdatasync", Path: "x", Err: syscall.EDQUOT}:                        false,
		syscall.EDQUOT: true,
		syscall.EMFILE: true,
		syscall.ENFILE: true,
	} {
		if got := durable.NoRoom(err); got != want {
			t.Errorf("NoRoom(%v) = %v, want %v", err, got, want)
		}
	}
}

func TestLock(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	l, err := durable.Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := durable.Lock(name); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("second lock: got %v, want ErrLocked", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, err = durable.Lock(name)
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	l.Close()
}

func TestReadPrivate(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, mode fs.FileMode) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for mode, ok := range map[fs.FileMode]bool{
		0o400: true, 0o600: true, 0o640: true, 0o440: true, 0o700: true,
		0o604: false, 0o602: false, 0o601: false, 0o620: false, 0o610: false, 0o660: false, 0o644: false, 0o666: false,
	} {
		got, err := durable.ReadPrivate(file(fmt.Sprintf("mode%o", mode), mode), 6)
		if ok && (err != nil || string(got) != "secret") {
			t.Errorf("mode %o: got %q, %v", mode, got, err)
		}
		if !ok && !errors.Is(err, durable.ErrNotPrivate) {
			t.Errorf("mode %o: got %v, want ErrNotPrivate", mode, err)
		}
	}
	if _, err := durable.ReadPrivate(file("long", 0o600), 5); err == nil || errors.Is(err, durable.ErrNotPrivate) {
		t.Errorf("6 bytes with a bound of 5: %v", err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file("target", 0o644), link); err != nil {
		t.Fatal(err)
	}
	if _, err := durable.ReadPrivate(link, 6); !errors.Is(err, durable.ErrNotPrivate) {
		t.Errorf("link to a public file: got %v, want ErrNotPrivate", err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{fifo, dir} {
		if _, err := durable.ReadPrivate(name, 6); !errors.Is(err, durable.ErrNotPrivate) {
			t.Errorf("%s: got %v, want ErrNotPrivate", name, err)
		}
	}
	if _, err := durable.ReadPrivate(filepath.Join(dir, "none"), 6); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: got %v, want not exist", err)
	}
	if os.Geteuid() == 0 {
		other := file("other", 0o600)
		if err := os.Chown(other, 12345, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := durable.ReadPrivate(other, 6); !errors.Is(err, durable.ErrNotPrivate) {
			t.Errorf("of another user: got %v, want ErrNotPrivate", err)
		}
	}
}
