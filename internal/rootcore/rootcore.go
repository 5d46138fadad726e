// Package rootcore takes core files of running processes as root takes them,
// with gdb, and looks for secrets in them, for tests.
//
// That a process cannot be traced by others and dumps no core does not keep
// root from it. A core takes more than a gigabyte of disk, most of it address
// space that Go reserves and does not use.
package rootcore

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Pages says which pages a core holds.
type Pages bool

const (
	Usual Pages = false // without those that their process excludes, as gcore does it
	All   Pages = true  // those too, as gcore -a does it
)

// Need skips a test where no core can be taken.
func Need(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it takes a core of another process")
	}
	if _, err := exec.LookPath("gdb"); err != nil {
		t.Skip("needs gdb, of Debian's package gdb: ", err)
	}
}

// Take takes a core of the process, which goes on, and returns its file. The
// caller removes it: [testing.TB.TempDir] does so late.
func Take(t testing.TB, pid int, pages Pages) string {
	t.Helper()
	core := name(t)
	out, err := gdb(pid, append(pages.commands(), "generate-core-file "+core)...).CombinedOutput()
	if err != nil {
		t.Fatalf("gdb: %v\n%s", err, out)
	}
	return core
}

// TakeAtExit has end end the process, takes a core of it when it is about to
// exit, all its own work done, and lets it exit.
func TakeAtExit(t testing.TB, pid int, pages Pages, end func()) string {
	t.Helper()
	core := name(t)
	const ready = "Catchpoint 1 (syscall"
	cmd := gdb(pid, append(pages.commands(), "handle all nostop noprint pass", "catch syscall exit_group",
		"continue", "generate-core-file "+core, "continue")...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fmt.Fprintln(&said, lines.Text())
		if !ended && strings.HasPrefix(lines.Text(), ready) {
			ended = true
			end()
		}
	}
	if err := cmd.Wait(); err != nil || !ended {
		t.Fatalf("gdb: %v\n%s", err, said.String())
	}
	return core
}

func name(t testing.TB) string { return filepath.Join(t.TempDir(), "core") }

func gdb(pid int, commands ...string) *exec.Cmd {
	args := []string{"-nx", "-batch", "-p", fmt.Sprint(pid)}
	for _, c := range commands {
		args = append(args, "-ex", c)
	}
	return exec.Command("gdb", args...)
}

func (p Pages) commands() []string {
	if p == All {
		return []string{"set use-coredump-filter off", "set dump-excluded-mappings on"}
	}
	return []string{"set use-coredump-filter on", "set dump-excluded-mappings off"}
}

// Find returns the names of those patterns that are in a core's file, and
// removes the file. Patterns have at most 1 KiB.
func Find(t testing.TB, core string, patterns map[string][]byte) []string {
	t.Helper()
	f, err := os.Open(core)
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(core)
	defer f.Close()
	found := make(map[string]bool)
	const overlap = 1 << 10
	chunk, zero := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); ; off += int64(len(chunk) - overlap) {
		n, err := f.ReadAt(chunk, off)
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if !bytes.Equal(chunk[:n], zero[:n]) {
			for name, p := range patterns {
				if bytes.Contains(chunk[:n], p) {
					found[name] = true
				}
			}
		}
		if err != nil {
			return slices.Sorted(maps.Keys(found))
		}
	}
}
