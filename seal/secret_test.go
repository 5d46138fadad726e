package seal_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

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
	const inChild = "SEALTAIL_TEST_HIDE"
	if os.Getenv(inChild) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestHideMemory$")
		cmd.Env = append(os.Environ(), inChild+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
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
