package e2e_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sealtail/seal"
)

// sealedRig runs an agent until it has sealed n batches of one line each and
// stops it.
func sealedRig(t *testing.T, suite string, n int) *rig {
	t.Helper()
	r := newRig(t, suite, "*.log", quickStream, "")
	r.start()
	for i := range n {
		appendTo(t, r.path("logs", "a.log"), fmt.Sprintf("line %d\n", i))
		r.until("a batch", func() bool { return len(r.open()) == i+1 })
	}
	r.stop()
	return r
}

// envelopes are those that the rig's sink holds, in the order of its files.
func (r *rig) envelopes() (envs [][]byte) {
	r.t.Helper()
	for _, name := range glob(r.t, r.path("sealed", "app", "*.se1")) {
		b, err := os.ReadFile(name)
		if err != nil {
			r.t.Fatal(err)
		}
		for len(b) > 0 {
			_, n, err := seal.ParsePrefix(b)
			if err != nil {
				r.t.Fatal(err)
			}
			envs, b = append(envs, b[:n:n]), b[n:]
		}
	}
	return envs
}

// judge has verify look at envelopes and returns what it says.
func (r *rig) judge(envs [][]byte, args ...string) (out string, code int) {
	r.t.Helper()
	r.write("judged.se1", string(bytes.Join(envs, nil)))
	out, errs, code := r.try("sealtail-reader", append(append([]string{"verify", "--signers", r.path("signers")}, args...), r.path("judged.se1"))...)
	return out + errs, code
}

func TestTamperingIsNamed(t *testing.T) {
	t.Parallel()
	for _, suite := range suites {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			r := sealedRig(t, suite, 6)
			envs := r.envelopes()
			other := sealedRig(t, suite, 1).envelopes()
			without := func(i int) [][]byte { return append(append([][]byte{}, envs[:i]...), envs[i+1:]...) }
			changed := func(i int, env []byte) [][]byte {
				all := append([][]byte{}, envs...)
				all[i] = env
				return all
			}
			flipped := func(env []byte, at int) []byte {
				b := bytes.Clone(env)
				b[at] ^= 1
				return b
			}
			tests := []struct {
				name string
				envs [][]byte
				code int
				say  string
			}{
				{"whole", envs, 0, "anchored"},
				{"one removed", without(2), 4, "gap"},
				{"first removed", without(0), 0, "unanchored-start"},
				{"one repeated", append(envs[:3:3], envs[2:]...), 0, "duplicate"},
				{"one replaced by another", changed(2, envs[3]), 4, "gap"},
				{"a byte of a header flipped", changed(2, flipped(envs[2], 90)), 5, "forged"},
				{"a byte of a payload flipped", changed(2, flipped(envs[2], len(envs[2])-300)), 5, "forged"},
				{"a byte of the magic flipped", changed(2, flipped(envs[2], 0)), 5, "damaged"},
				{"one of another host", append(envs[:3:3], append(other[:1:1], envs[3:]...)...), 5, "unknown-signer"},
				{"cut off inside the last", append(envs[:5:5], envs[5][:100]), 0, "torn"},
			}
			for _, tt := range tests {
				t.Run(tt.name, func(t *testing.T) {
					out, code := r.judge(tt.envs)
					if code != tt.code || !strings.Contains(out, tt.say) {
						t.Errorf("got exit %d, %s\nwant exit %d, %s", code, out, tt.code, tt.say)
					}
				})
			}
			t.Run("tail cut off", func(t *testing.T) {
				state := r.path("heads.json")
				if out, code := r.judge(envs, "--state", state); code != 0 {
					t.Fatalf("got exit %d, %s", code, out)
				}
				if out, code := r.judge(envs[:4], "--state", state); code != 5 || !strings.Contains(out, "rollback") {
					t.Errorf("got exit %d, %s, want exit 5, rollback", code, out)
				}
			})
		})
	}
}

// A state directory put back to an earlier state goes on from an envelope
// that has a successor already.
func TestRolledBackStateIsAFork(t *testing.T) {
	t.Parallel()
	r := sealedRig(t, "aes-256-gcm", 2)
	r.copyState("old")
	r.start()
	appendTo(t, r.path("logs", "a.log"), "once\n")
	r.until("the third line", func() bool { return len(r.open()) == 3 })
	r.stop()
	r.copyState("state", "old")
	r.start()
	r.until("two starts in its log", func() bool { return r.logged("started") >= 3 })
	r.stop()
	out, errs, code := r.try("sealtail-reader", "verify", "--dir", r.path("sealed"), "--signers", r.path("signers"))
	if code != 5 || !strings.Contains(out, "fork") {
		t.Errorf("got exit %d, %s%s, want exit 5, fork", code, out, errs)
	}
}

// A state directory used on another machine begins new streams under a new
// signing key and says so; what was spooled stays what it is.
func TestClonedStateBeginsNewStreams(t *testing.T) {
	t.Parallel()
	r := sealedRig(t, "sm4-gcm", 2)
	first, err := os.ReadFile(r.path("signers"))
	if err != nil {
		t.Fatal(err)
	}
	r.env = []string{"NODE_NAME=another-machine"}
	r.start()
	appendTo(t, r.path("logs", "a.log"), "on the other machine\n")
	r.until("it to say so", func() bool { return r.logged("another machine") > 0 })
	r.until("its start", func() bool { return r.logged("started") >= 2 })
	r.signers()
	second, err := os.ReadFile(r.path("signers"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(first, second) {
		t.Fatal("the signing keys are the same")
	}
	both := r.path("both")
	r.write("both", string(first)+string(second))
	open := []string{"open", "--dir", r.path("sealed"), "--keyring", r.path("offline.json"), "--signers", both}
	r.until("the line to be sealed", func() bool {
		text, _, _ := r.try("sealtail-reader", open...)
		return strings.Contains(text, "other machine")
	})
	r.stop()
	out := r.run("sealtail-reader", "verify", "--dir", r.path("sealed"), "--signers", both)
	if strings.Count(out, "anchored") != 2 {
		t.Errorf("got %s, want two anchored streams", out)
	}
	if got, want := r.run("sealtail-reader", open...), "line 0\nline 1\non the other machine\n"; got != want {
		t.Errorf("opened %q, want %q", got, want)
	}
	// Back home its state is another machine's again; nothing is read twice.
	r.start()
	r.until("its start", func() bool { return r.logged("started") >= 3 })
	r.stop()
}

// copyState copies the state directory, or another, to a name.
func (r *rig) copyState(to string, from ...string) {
	r.t.Helper()
	source := r.path(append(from, "state")[0])
	if err := os.RemoveAll(r.path(to)); err != nil {
		r.t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", source, filepath.Join(r.dir, to)).CombinedOutput(); err != nil {
		r.t.Fatalf("%v: %s", err, out)
	}
}
