package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sealtail/seal"
)

// A new signing key is announced exactly where streams of another one may be
// there.
func TestOpenIdentity(t *testing.T) {
	remove := func(name string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct {
		name     string
		streams  bool
		change   func(t *testing.T, dir string)
		key      bool // identity.key stays
		signing  bool // signing.key stays
		replaced bool
	}{
		{name: "again", streams: true, change: func(*testing.T, string) {}, key: true, signing: true},
		{name: "clone", streams: true, change: func(t *testing.T, _ string) { t.Setenv("NODE_NAME", "b") }, key: true, replaced: true},
		{name: "clone without streams", change: func(t *testing.T, _ string) { t.Setenv("NODE_NAME", "b") }, key: true, replaced: true},
		{name: "signing key lost", streams: true, change: remove(signingFile), key: true, replaced: true},
		{name: "signing key lost before streams", change: remove(signingFile), key: true},
		{name: "identity key lost", change: remove(identityFile), replaced: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("NODE_NAME", "a")
			dir := filepath.Join(t.TempDir(), "x", "state")
			first, err := openIdentity(dir)
			if err != nil {
				t.Fatal(err)
			}
			if first.replaced {
				t.Error("got replaced for a fresh directory")
			}
			if test.streams {
				if err := os.Mkdir(filepath.Join(dir, "streams"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			test.change(t, dir)
			second, err := openIdentity(dir)
			if err != nil {
				t.Fatal(err)
			}
			if got := bytes.Equal(first.key, second.key); got != test.key {
				t.Errorf("got the same identity.key: %v, want %v", got, test.key)
			}
			same := bytes.Equal(first.signing.Public(seal.SM4GCM), second.signing.Public(seal.SM4GCM))
			if same != test.signing {
				t.Errorf("got the same signing.key: %v, want %v", same, test.signing)
			}
			if second.replaced != test.replaced {
				t.Errorf("got replaced %v, want %v", second.replaced, test.replaced)
			}
			third, err := openIdentity(dir)
			if err != nil {
				t.Fatal(err)
			}
			if third.replaced || !bytes.Equal(second.signing.Public(seal.AES256GCM), third.signing.Public(seal.AES256GCM)) {
				t.Error("got another identity at the next start")
			}
		})
	}
}

// Reading never changes anything.
func TestReadIdentity(t *testing.T) {
	t.Setenv("NODE_NAME", "a")
	dir := t.TempDir()
	if _, err := readIdentity(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want not exist", err)
	}
	if _, err := openIdentity(dir); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NODE_NAME", "b")
	if _, err := readIdentity(dir); !errors.Is(err, errOtherMachine) {
		t.Errorf("got %v, want %v", err, errOtherMachine)
	}
	t.Setenv("NODE_NAME", "a")
	if _, err := readIdentity(dir); err != nil {
		t.Errorf("got %v, want none", err)
	}
}

// Only a missing file means that the system has no name for this machine: what
// cannot be read just now must not look like another machine.
func TestMachine(t *testing.T) {
	t.Setenv("NODE_NAME", "")
	dir := t.TempDir()
	file, other := filepath.Join(dir, "id"), filepath.Join(dir, "other")
	for name, text := range map[string]string{file: "abc\n", other: "def\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	seen := make(map[[32]byte]string)
	for _, name := range []string{file, other, filepath.Join(dir, "none")} {
		got, err := machine([]byte("key"), name)
		if err != nil || seen[got] != "" {
			t.Errorf("%s: got %v, the same as %q", name, err, seen[got])
		}
		seen[got] = name
	}
	if got, err := machine([]byte("key"), dir); err == nil {
		t.Errorf("a file that cannot be read: got %x, want an error", got)
	}
	t.Setenv("NODE_NAME", "abc")
	if got, err := machine([]byte("key"), dir); err != nil || seen[got] != file {
		t.Errorf("the node's name: got %v, the same as %q, want %q", err, seen[got], file)
	}
}

// TestStateOfAnotherUser has root leave a directory of the agent's user alone:
// what it made there the agent could not open.
func TestStateOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a directory away")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	_, errRun := lockState(t.Context(), dir)
	_, errIdentity := hostIdentity(dir)
	for what, err := range map[string]error{"run": errRun, "identity": errIdentity} {
		if err == nil || !strings.Contains(err.Error(), "belongs to user") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
		t.Errorf("there is %v, %v", names, err)
	}
}
