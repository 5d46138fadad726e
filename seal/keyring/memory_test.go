package keyring_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"sealtail/seal/keyring"
)

// hidden is a pattern to look for in memory, kept inverted so as not to be
// found itself.
type hidden []byte

func hide(b []byte) hidden {
	h := make(hidden, len(b))
	for i := range b {
		h[i] = ^b[i]
	}
	return h
}

func (h hidden) at(b []byte) bool {
	for i, c := range h {
		if b[i] != ^c {
			return false
		}
	}
	return true
}

// inMemory reports whether this process has the pattern in memory that it can
// write to.
func (h hidden) inMemory(t *testing.T) bool {
	t.Helper()
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		t.Skip(err)
	}
	defer maps.Close()
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Skip(err)
	}
	defer mem.Close()
	found := false
	chunk := make([]byte, 1<<20)
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to uint64
		var rights string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &rights); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(rights, "rw") || to-from > 1<<28 { // larger ones are shadows of the race detector
			continue
		}
		for ; from < to; from += uint64(len(chunk) - len(h)) {
			n, _ := mem.ReadAt(chunk[:min(uint64(len(chunk)), to-from)], int64(from)) // some mappings cannot be read
			for b := chunk[:n]; !found && len(b) >= len(h); b = b[1:] {
				i := bytes.IndexByte(b, ^h[0])
				if i < 0 || i+len(h) > len(b) {
					break
				}
				b = b[i:]
				found = h.at(b)
			}
			clear(chunk)
		}
	}
	return found
}

// What is read of a file does not stay in memory, whatever is done with it: not
// its text, and not the keys.
func TestNothingStaysInMemory(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // else a piece of memory may be used again, and prove nothing
	secret := make([]byte, 32)
	rand.Read(secret)
	text := make([]byte, base64.StdEncoding.EncodedLen(len(secret)))
	base64.StdEncoding.Encode(text, secret)
	raw, base := hide(secret), hide(text)
	if !raw.inMemory(t) || !base.inMemory(t) {
		t.Fatal("what is in memory is not found there")
	}

	path := filepath.Join(t.TempDir(), "keyring.json")
	write := func(after string) {
		t.Helper()
		file := make([]byte, 0, 4096)
		file = append(file, `{"keyring":1,"primary":"a","keys":[{"id":"a","kind":"aes256-gcm","created":"2026-11-23T00:00:00Z","state":"enabled","key":"`...)
		file = append(file, text...)
		file = append(append(file, `"}`...), after...)
		file = append(append(file, "]}"...), strings.Repeat(" ", 600)...)
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		clear(file)
	}
	others := []string{`,{"id":"b","kind":"sm4-gcm"}`, `,{"id":"b","key":"AQID*"}`, `,{`, `,{"id":"a","kind":"sm4-gcm","created":"2026-11-23T00:00:00Z","state":"destroyed"}`}
	for i, bad := range append(others, "") {
		path = filepath.Join(filepath.Dir(path), fmt.Sprint(i))
		write(bad)
	}
	clear(secret)
	clear(text)
	if raw.inMemory(t) || base.inMemory(t) {
		t.Skip("the test itself leaves copies here")
	}

	for i := range others {
		if _, err := keyring.Open(filepath.Join(filepath.Dir(path), fmt.Sprint(i))).List(); err == nil {
			t.Errorf("file %d: no error", i)
		}
		if raw.inMemory(t) || base.inMemory(t) {
			t.Errorf("file %d: the key %v, its text %v in memory behind an error", i, raw.inMemory(t), base.inMemory(t))
		}
	}
	r := keyring.Open(path)
	if _, err := r.List(); err != nil {
		t.Fatal(err)
	}
	if opens, err := r.Opens(); !opens || err != nil {
		t.Fatal(opens, err)
	}
	if err := keyring.Disable(path, "a"); err != nil {
		t.Fatal(err)
	}
	if err := keyring.Enable(path, "a"); err != nil {
		t.Fatal(err)
	}
	if raw.inMemory(t) || base.inMemory(t) {
		t.Errorf("the key %v, its text %v in memory", raw.inMemory(t), base.inMemory(t))
	}
	d, err := r.Generate(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Unwrap(t.Context(), d.Recipients[0], where); err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.Rotate(path, ""); err != nil {
		t.Fatal(err)
	}
	if raw.inMemory(t) || base.inMemory(t) {
		t.Errorf("after use: the key %v, its text %v in memory", raw.inMemory(t), base.inMemory(t))
	}
}
