package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sealtail/conf"
)

// check warns of swap, and only where there is some.
func TestCheckWarnsOfSwap(t *testing.T) {
	const heading = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
	for text, want := range map[string]int{
		"":      0,
		heading: 0,
		heading + "/dev/sda2 partition 1048572 0 -2\n": 1,
	} {
		swaps := filepath.Join(t.TempDir(), "swaps")
		if err := os.WriteFile(swaps, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c := &checking{cfg: new(conf.Config)}
		c.memory(swaps)
		if len(c.warnings) != want {
			t.Errorf("%q: got %v, want %d warnings", text, c.warnings, want)
		}
	}
}

// check warns where data keys cannot be locked, be it as root without the right
// to lock.
func TestCheckWarnsOfLockLimit(t *testing.T) {
	warnings := func(limit uint64) (told []string) {
		done := make(chan error)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with its capabilities
			done <- func() error {
				var was unix.Rlimit
				if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &was); err != nil {
					return err
				}
				if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: min(limit, was.Max), Max: was.Max}); err != nil {
					return err
				}
				defer unix.Setrlimit(unix.RLIMIT_MEMLOCK, &was)
				who := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
				var caps [2]unix.CapUserData
				if err := unix.Capget(&who, &caps[0]); err != nil {
					return err
				}
				caps[0].Effective &^= 1 << unix.CAP_IPC_LOCK
				if err := unix.Capset(&who, &caps[0]); err != nil {
					return err
				}
				c := &checking{cfg: &conf.Config{Streams: []conf.Stream{
					{Name: "a", Key: "k", Sink: "s", Suite: "sm4-gcm"}, {Name: "b", Key: "k", Sink: "s", Suite: "sm4-gcm"}, {Name: "c", Key: "k", Sink: "s", Suite: "aes-256-gcm"},
				}}}
				c.memory(filepath.Join(t.TempDir(), "none"))
				for _, w := range c.warnings {
					told = append(told, w.Error()+" → "+w.Fix)
				}
				return nil
			}()
		}()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		return told
	}
	const page = 4096
	got := warnings(page)
	if len(got) != 1 || !strings.Contains(got[0], fmt.Sprintf("data keys take %d bytes that this user cannot lock, RLIMIT_MEMLOCK is %d", 2*8*os.Getpagesize(), page)) ||
		!strings.Contains(got[0], "LimitMEMLOCK=") {
		t.Errorf("with a page: got %q", got)
	}
	const enough = 1 << 20
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil || limit.Max < enough {
		t.Skipf("RLIMIT_MEMLOCK is %d: %v", limit.Max, err)
	}
	if got := warnings(enough); len(got) != 0 {
		t.Errorf("with %d bytes: got %q", enough, got)
	}
}
