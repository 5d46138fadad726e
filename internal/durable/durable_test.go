package durable_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

// owned returns mode, owner and group.
func owned(t *testing.T, name string) string {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%04o %d:%d", info.Mode(), st.Uid, st.Gid)
}

// A file that others depend on stays theirs when its content changes.
func TestReplace(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if err := durable.Replace(name, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: got %v, want not exist", err)
	}
	if err := os.WriteFile(name, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(name, 12345, 23456); err != nil {
			t.Fatal(err)
		}
	}
	for _, mode := range []fs.FileMode{0o600, 0o640, 0o400, 0o666} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		want := owned(t, name)
		if err := durable.Replace(name, []byte("after")); err != nil {
			t.Fatal(err)
		}
		if got := owned(t, name); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got, err := os.ReadFile(name); string(got) != "after" {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

// Who may not give a file away does not take it.
func TestReplaceOfAnother(t *testing.T) {
	const nobody = 65534
	if dir := os.Getenv("REPLACE_IN"); dir != "" {
		name := filepath.Join(dir, "f")
		want := owned(t, name)
		if err := durable.Replace(name, []byte("after")); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "keep owner 0:") {
			t.Errorf("got %v, want that the owner cannot be kept", err)
		}
		if got, _ := os.ReadFile(name); string(got) != "before" || owned(t, name) != want {
			t.Errorf("got %q of %s, want the file as it was", got, owned(t, name))
		}
		if _, err := os.Stat(name + ".tmp"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("left a temporary file: %v", err)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("it takes root to become another user")
	}
	dir, err := os.MkdirTemp("", "replace")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := errors.Join(os.Chmod(dir, 0o777), os.WriteFile(filepath.Join(dir, "f"), []byte("before"), 0o600),
		os.Chmod(filepath.Join(dir, "f"), 0o640), os.Chown(filepath.Join(dir, "f"), 0, nobody)); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	cmd := exec.Command("/proc/self/fd/3", "-test.run=^"+t.Name()+"$")
	cmd.ExtraFiles = []*os.File{exe}
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "REPLACE_IN="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("as another user: %v\n%s", err, out)
	}
}

// Create never takes the place of anything, not even of a link to nowhere.
func TestCreate(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	if err := os.WriteFile(name+".tmp", []byte("left"), 0o400); err != nil {
		t.Fatal(err)
	}
	if err := durable.Create(name, []byte("one"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, base := range []string{"f", "link", "dir"} {
		if err := durable.Create(filepath.Join(dir, base), []byte("two"), 0o600); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: got %v, want exist", base, err)
		}
	}
	if got, err := os.ReadFile(name); string(got) != "one" {
		t.Errorf("got %q, %v, want one", got, err)
	}
	var names []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{"dir", "f", "link"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
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

// A lock whose file goes with it keeps others out while it is held, however
// many come and go.
func TestLockOnce(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	var held atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for taken := 0; taken < 50; {
				l, err := durable.LockOnce(name)
				if errors.Is(err, durable.ErrLocked) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if n := held.Add(1); n != 1 {
					t.Errorf("%d hold the lock", n)
				}
				taken++
				held.Add(-1)
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file: got %v, want not exist", err)
	}
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
	// It lies in one buffer, which whoever clears it has wiped; io.ReadAll would leave those that it outgrew.
	long := filepath.Join(dir, "longer")
	if err := os.WriteFile(long, make([]byte, 10000), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := durable.ReadPrivate(long, 10000); len(got) != 10000 || cap(got) != 10001 {
		t.Errorf("got %d bytes, %v, in a buffer of %d", len(got), err, cap(got))
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
