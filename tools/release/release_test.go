package main

import (
	"bytes"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// copySource copies what git knows of the repository to dir.
func copySource(t *testing.T, dir string) {
	t.Helper()
	list := exec.Command("git", "ls-files", "-z")
	list.Dir = "../.."
	out, err := list.Output()
	if err != nil {
		t.Skip("no git repository here: ", err)
	}
	for name := range strings.SplitSeq(strings.Trim(string(out), "\x00"), "\x00") {
		data, err := os.ReadFile(filepath.Join("../..", name))
		if os.IsNotExist(err) {
			continue // removed and not committed
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSameProgramFromTwoDirectories builds in two directories, the second time
// with a cache of its own: the first's would hand out what is in it.
func TestSameProgramFromTwoDirectories(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the standard library anew")
	}
	var sums [2][sha256.Size]byte
	for i := range sums {
		dir := filepath.Join(t.TempDir(), strings.Repeat("deeper/", 3*i), "src")
		copySource(t, dir)
		program := filepath.Join(dir, "sealtail")
		cache := []string{"", filepath.Join(t.TempDir(), "cache")}[i]
		if err := build(dir, "amd64", "./cmd/agent", "1.2.3", program, cache); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(program)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte(dir)) {
			t.Errorf("the program names %s", dir)
		}
		sums[i] = sha256.Sum256(data)
	}
	if sums[0] != sums[1] {
		t.Errorf("got %x and %x", sums[0], sums[1])
	}
}

// TestRelease makes one twice, and wants the same check sums, of everything,
// signed.
func TestRelease(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "release", "-f", key).CombinedOutput(); err != nil {
		t.Skipf("no ssh-keygen here: %v %s", err, out)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var sums [2]string
	var out string
	for i := range sums {
		out = t.TempDir()
		r := release{arches: []string{"amd64", "arm64"}, root: root, out: out, version: "1.2.3~rc.1", date: time.Unix(1_700_000_000, 0).UTC(),
			maintainer: "A. Maintainer <packages@example.org>"}
		if err := r.run(nil, key); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(out, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = string(b)
	}
	if sums[0] != sums[1] {
		t.Errorf("got\n%s\nand\n%s", sums[0], sums[1])
	}
	if got, want := strings.Count(sums[0], "\n"), 2*4+1+2+3; got != want {
		t.Errorf("got %d files, want %d:\n%s", got, want, sums[0])
	}
	for _, name := range []string{"sealtail", "sealtail-reader"} {
		deb, err := filepath.Glob(filepath.Join(out, name+"_*_amd64.deb"))
		if err != nil || len(deb) != 1 {
			t.Fatalf("debs of %s: %q, %v", name, deb, err)
		}
		if got, err := exec.Command("dpkg-deb", "-f", deb[0], "Maintainer").Output(); err != nil || string(got) != "A. Maintainer <packages@example.org>\n" {
			t.Errorf("maintainer of %s: %q, %v", name, got, err)
		}
	}
	check := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	check.Dir = out
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("sha256sum: %v\n%s", err, out)
	}
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	signers := filepath.Join(out, "signers")
	if err := os.WriteFile(signers, append([]byte("release "), public...), 0o600); err != nil {
		t.Fatal(err)
	}
	verify := exec.Command("ssh-keygen", "-Y", "verify", "-f", signers, "-I", "release", "-n", "sealtail", "-s", filepath.Join(out, "SHA256SUMS.sig"))
	verify.Stdin = strings.NewReader(sums[0])
	if out, err := verify.CombinedOutput(); err != nil {
		t.Errorf("ssh-keygen -Y verify: %v\n%s", err, out)
	}
}

// TestReachable refuses to release what nobody answers for.
func TestReachable(t *testing.T) {
	for _, tt := range []struct {
		maintainer string
		ok         bool
	}{
		{"A. Maintainer <packages@example.org>", true},
		{"Packagers <packages@example.org>", true},
		{"", false},
		{"packages@example.org", false},
		{"Packagers <packages@localhost>", false},
		{nobody, false},
		{"Packagers", false},
		{"Packagers <packages@example.org>\nDepends: x", false},
	} {
		if err := reachable(tt.maintainer); (err == nil) != tt.ok {
			t.Errorf("%q: %v, want accepted: %t", tt.maintainer, err, tt.ok)
		}
	}
	r := release{arches: []string{"amd64"}, out: t.TempDir(), version: "1.2.3"}
	if err := r.run(nil, ""); err == nil || !strings.Contains(err.Error(), "MAINTAINER") {
		t.Errorf("without a maintainer: %v", err)
	}
}
