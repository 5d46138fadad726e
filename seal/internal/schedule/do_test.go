package schedule_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"sealtail/seal/internal/schedule"
)

// ways are those to run a function: Do, and as Go does it, to see that the tests
// see.
var ways = []struct {
	name   string
	do     func(func())
	leaves bool
}{
	{"Go", func(f func()) {
		var wg sync.WaitGroup
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			f()
		})
		wg.Wait()
	}, true},
	{"Do", schedule.Do, false},
}

// A stack that moves leaves a copy.
func TestStackStays(t *testing.T) {
	for _, w := range ways {
		moved := false
		w.do(func() {
			var b byte
			from := where(&b)
			use10KiB()
			grown := where(&b)
			for range 3 {
				runtime.GC() // shrinks stacks of which little is used
			}
			moved = from != grown || grown != where(&b)
		})
		if moved != w.leaves {
			t.Errorf("%s: moved: %v", w.name, moved)
		}
	}
}

//go:noinline
func where(b *byte) uintptr { return uintptr(unsafe.Pointer(b)) }

//go:noinline
func use10KiB() {
	var b [10 << 10]byte
	where(&b[0])
}

// Neither the stack nor where a signal saves registers holds what a function
// worked on.
func TestNothingIsLeft(t *testing.T) {
	for _, work := range []struct {
		name string
		on   func(secret []byte)
	}{
		{"stack", onStack},
		{"registers", inRegisters},
	} {
		for _, w := range ways {
			t.Run(work.name+" "+w.name, func(t *testing.T) {
				// What looks is on a thread of its own, and the other one idle:
				// a signal that it takes would overwrite what one before has saved.
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				defer debug.SetGCPercent(debug.SetGCPercent(-1))
				s := newSecret(t)
				w.do(func() { work.on(s.page[:64]) })
				clear(s.page)
				if found := s.find(t); (len(found) > 0) != w.leaves {
					t.Errorf("found at %x", found)
				}
			})
		}
	}
}

//go:noinline
func onStack(secret []byte) {
	var b [1 << 10]byte // so deep that what comes next leaves it
	copy(b[:32], secret)
	where(&b[0])
	clear(b[32:])
}

// inRegisters copies the secret, by way of registers, and takes a signal.
//
//go:norace
func inRegisters(secret []byte) {
	pid, thread := uintptr(unix.Getpid()), uintptr(unix.Gettid())
	copy(secret[32:], secret[:32])
	unix.RawSyscall(unix.SYS_TGKILL, pid, thread, uintptr(unix.SIGURG)) // means nothing to Go that it did not send
}

// Threads take signals as before.
func TestSignalsAreTakenAgain(t *testing.T) {
	for range 100 {
		schedule.Do(func() {})
	}
	blocked := regexp.MustCompile(`SigBlk:\t([0-9a-f]+)`)
	for range 1000 { // Go holds signals back for a moment as well, where it makes a thread
		held := 0
		status, err := filepath.Glob("/proc/self/task/*/status")
		if err != nil || len(status) == 0 {
			t.Fatal("no threads:", err)
		}
		for _, name := range status {
			b, err := os.ReadFile(name)
			if err != nil {
				continue // it has ended
			}
			m := blocked.FindSubmatch(b)
			if m == nil {
				t.Fatalf("%s tells no blocked signals", name)
			}
			if set, err := strconv.ParseUint(string(m[1]), 16, 64); err != nil || set&(1<<(unix.SIGURG-1)) != 0 {
				held++
			}
		}
		if held == 0 {
			return
		}
	}
	t.Error("a thread holds signals back")
}

func BenchmarkDo(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		schedule.Do(func() {})
	}
}

// A secret is 32 random bytes, in a page of its own alone.
type secret struct {
	page   []byte
	masked [32]byte // their complements
}

func newSecret(t *testing.T) *secret {
	t.Helper()
	s := &secret{page: newPages(t, 1)}
	rand.Read(s.masked[:])
	for i, c := range s.masked {
		s.page[i] = ^c
	}
	return s
}

func newPages(t *testing.T, n int) []byte {
	t.Helper()
	b, err := unix.Mmap(-1, 0, n*unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(b) })
	return b
}

// find returns where a half of the secret, which is what a register takes, is in
// memory that this process can write to.
func (s *secret) find(t *testing.T) (found []uintptr) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Skip(err)
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Skip(err)
	}
	defer mem.Close()
	chunk := newPages(t, 256)
	for line := range strings.Lines(string(maps)) {
		var from, to uintptr
		var rights string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &rights); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(rights, "rw") || to-from > 1<<28 { // larger ones are shadows of the race detector
			continue
		}
		for ; from < to; from += uintptr(len(chunk)) {
			n, _ := mem.ReadAt(chunk[:min(uintptr(len(chunk)), to-from)], int64(from)) // some mappings cannot be read
			for _, at := range s.in(chunk[:n]) {
				if here := from + uintptr(at); here-where(&chunk[0]) >= uintptr(len(chunk)) {
					found = append(found, here)
				}
			}
			clear(chunk)
		}
	}
	return found
}

// in returns where in b a half of the secret is.
//
//go:norace
func (s *secret) in(b []byte) (found []int) {
	for at := 0; at+16 <= len(b); at += 4 {
		for half := 0; half < 32; half += 16 {
			n := 0
			for n < 16 && b[at+n] == ^s.masked[half+n] {
				n++
			}
			if n == 16 {
				found = append(found, at)
			}
		}
	}
	return found
}
