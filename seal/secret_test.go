package seal_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"

	"sealtail/seal"
)

func TestSecretHoldsAndWipes(t *testing.T) {
	for _, n := range []int{0, 1, 32, 4095, 4096, 4097} {
		s := seal.NewSecret(n)
		if got := len(s.Bytes()); got != n || cap(s.Bytes()) != n {
			t.Fatalf("NewSecret(%d): got %d bytes with capacity %d", n, got, cap(s.Bytes()))
		}
		for i := range s.Bytes() {
			s.Bytes()[i] = 0xa5
		}
		same := s
		s.Wipe()
		if same.Bytes() != nil || same.Locked() {
			t.Fatal("a copy outlived Wipe")
		}
		same.Wipe()
	}
	var zero seal.Secret
	zero.Wipe()
	if zero.Bytes() != nil || zero.Locked() {
		t.Fatal("the zero Secret is not empty")
	}
}

// A Secret's pages are locked and left out of core dumps.
func TestSecretIsLockedAndHidden(t *testing.T) {
	for _, n := range []int{1, 32, 4096, 4097} {
		s := seal.NewSecret(n)
		defer s.Wipe()
		for _, at := range []int{0, n - 1} {
			kB, flags := mapped(t, &s.Bytes()[at])
			if !slices.Contains(flags, "dd") {
				t.Errorf("%d bytes, at %d: in core dumps: flags %v", n, at, flags)
			}
			if locked := slices.Contains(flags, "lo") && kB > 0; locked != s.Locked() {
				t.Errorf("%d bytes, at %d: locked %v (%d kB, flags %v), Locked says %v", n, at, locked, kB, flags, s.Locked())
			}
		}
		if !s.Locked() {
			if err := lockable(); err == nil {
				t.Errorf("%d bytes are not locked", n)
			} else {
				t.Skip("no memory can be locked here, see RLIMIT_MEMLOCK:", err)
			}
		}
	}
}

// lockable tries to lock two pages.
func lockable() error {
	b, err := unix.Mmap(-1, 0, 2*unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	defer unix.Munmap(b)
	return unix.Mlock(b)
}

// mapped returns what the kernel says of the mapping that p is in: how many kB
// of it are locked, and its flags.
func mapped(t *testing.T, p *byte) (lockedKB int, flags []string) {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip("the kernel does not tell of mappings:", err)
	}
	at, inside := uint64(uintptr(unsafe.Pointer(p))), false
	for line := range strings.Lines(string(smaps)) {
		var from, to uint64
		if _, err := fmt.Sscanf(line, "%x-%x ", &from, &to); err == nil {
			inside = from <= at && at < to
		}
		if words, ok := strings.CutPrefix(line, "VmFlags:"); ok && inside {
			return lockedKB, strings.Fields(words)
		}
		if inside {
			fmt.Sscanf(line, "Locked: %d kB", &lockedKB)
		}
	}
	t.Fatalf("no mapping at %x", at)
	return 0, nil
}

// Without a page that may be locked a Secret is as good, and says so.
func TestSecretWithoutLock(t *testing.T) {
	if !inChild(t, "SEALTAIL_TEST_UNLOCKED") {
		return
	}
	forbidLocks(t)
	s := seal.NewSecret(32)
	defer s.Wipe()
	copy(s.Bytes(), "key")
	if _, flags := mapped(t, &s.Bytes()[0]); s.Locked() || slices.Contains(flags, "lo") || !slices.Contains(flags, "dd") {
		t.Errorf("Locked says %v, flags %v", s.Locked(), flags)
	}
}

// inChild runs the test again in a process of its own, and reports whether this
// is that.
func inChild(t *testing.T, variable string) bool {
	t.Helper()
	if os.Getenv(variable) != "" {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), variable+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// forbidLocks lets the rest of the test lock no memory, not even as root.
func forbidLocks(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // capabilities are a thread's
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{}); err != nil {
		t.Fatal(err)
	}
	who := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&who, &caps[0]); err != nil {
		t.Fatal(err)
	}
	caps[0].Effective &^= 1 << unix.CAP_IPC_LOCK
	if err := unix.Capset(&who, &caps[0]); err != nil {
		t.Fatal(err)
	}
}

func TestSecretIsRedacted(t *testing.T) {
	s := seal.NewSecret(32)
	defer s.Wipe()
	copy(s.Bytes(), bytes.Repeat([]byte("Z"), 32))
	outer := struct {
		S seal.Secret
		P *seal.Secret
		s seal.Secret
	}{s, &s, s}
	var out strings.Builder
	for _, v := range []any{s, &s, outer, &outer, []seal.Secret{s}, map[string]any{"s": s}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%c"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	for _, encoder := range []zapcore.Encoder{
		zapcore.NewConsoleEncoder(zap.NewProductionEncoderConfig()), zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()),
	} {
		log := zap.New(zapcore.NewCore(encoder, zapcore.AddSync(&out), zap.DebugLevel))
		log.Info("a secret", zap.Any("s", s), zap.Any("p", &s), zap.Any("outer", outer), zap.Stringer("text", s), zap.Reflect("r", outer),
			zap.Error(fmt.Errorf("with %v", s)), zap.Any("all", []seal.Secret{s}))
		log.Sugar().Infow("a secret", "s", s, "outer", outer)
		log.Sugar().Infof("%v %+v %#v %x", s, outer, &outer, s)
	}
	text, _ := s.MarshalText()
	out.Write(text)
	for _, leak := range []string{"ZZ", "5a5a", "5A5A", "90 90", "90, 90", "0x5a", "Wlpa"} {
		if _, after, found := strings.Cut(out.String(), leak); found {
			t.Errorf("a Secret printed as %q before %.40q", leak, after)
		}
	}
	if got, want := fmt.Sprintf("%v %s %#v", s, s.String(), s), "[redacted] [redacted] [redacted]"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestHideMemory(t *testing.T) {
	if !inChild(t, "SEALTAIL_TEST_HIDE") {
		return
	}
	if err := seal.HideMemory(); err != nil {
		t.Fatal(err)
	}
	if d, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || d != 0 {
		t.Errorf("dumpable: got %d, %v", d, err)
	}
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil || core.Cur != 0 || core.Max != 0 {
		t.Errorf("core limit: got %+v, %v", core, err)
	}
	// What the agent itself looks up of its files still works.
	if _, err := os.Readlink("/proc/self/fd/1"); err != nil {
		t.Error(err)
	}
}
