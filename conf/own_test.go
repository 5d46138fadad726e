package conf_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sealtail/conf"
	"sealtail/spool"
)

// A pattern that meets a file of a real spool by the form of its name is
// refused.
func TestOwnFilesAreThoseOfASpool(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "state/streams/audit")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second life rolls, and makes a spare of the first one's segment
		s, err := spool.Open(dir, spool.Options{SegmentBytes: 1 << 16}, state{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		snapshot := func() []byte { return nil }
		if err := s.Append(t.Context(), make([]byte, 100), nil, snapshot); err != nil {
			t.Fatal(err)
		}
		_, upto, err := s.Next(t.Context(), nil, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		s.Trim(upto)
		if _, err := s.Park([]byte("envelope"), "why"); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	kinds := make(map[string]bool)
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		kinds[filepath.Ext(name)] = true
		base := filepath.Base(name)
		for _, form := range []string{
			regexp.MustCompile(`[0-9a-f]`).ReplaceAllString(base, "[0-9a-f]"), // as long
			base[:1] + "*", // that begins so
			"*" + filepath.Ext(base),
		} {
			pattern := filepath.Join(filepath.Dir(name), form)
			_, err := conf.Parse("x", fmt.Appendf(nil, `
agent.state_dir = %q
[key.main]
provider = "keyring"
file = "/k.json"
[sink.a]
type = "dir"
path = "/srv/sealed"
[[stream]]
name = "audit"
include = [%q]
suite = "sm4-gcm"
key = "main"
sink = "a"
`, filepath.Join(root, "state"), pattern), env)
			if form == base[:1]+"*" && strings.Contains(name, "rejected/") {
				continue // a hash begins with anything
			}
			var faults conf.Faults
			if !errors.As(err, &faults) || !strings.Contains(faults[0].Problem, "the agent's own files") {
				t.Errorf("%s, for %s: got %v, want a fault", form, base, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{".seg", ".spare", "", ".se1", ".why"} {
		if !kinds[kind] {
			t.Errorf("no file %q: got %v", kind, kinds)
		}
	}
}

// state is the least that a spool opens with.
type state struct{}

func (state) Load([]byte) error          { return nil }
func (state) Apply([]byte, []byte) error { return nil }
func (state) Gap(string)                 {}
func (state) Snapshot() []byte           { return nil }
