// Package power_test pulls the plug of a virtual machine whose agent is in
// full write, and looks at what is on its disk: not what the host's page cache
// has, but what a disk with a volatile cache would still have.
package power_test

import (
	"bufio"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	cycles   = 5
	moments  = 3
	diskSize = 2 << 30
	product  = "../.."
)

const config = `
[agent]
state_dir = "/data/state"
host = "guest"
[key.main]
provider = "keyring"
file = "/etc/keyring.json"
[sink.main]
type = "dir"
path = "/data/sealed"
[[stream]]
name = "app"
include = ["/data/logs/app.log*"]
suite = "%s"
key = "main"
sink = "main"
batch = { max_age = "200ms" }
`

// A lab is what the host has: the tools, the private key, the disk.
type lab struct {
	machine
	dir, reader string
}

func newLab(t *testing.T, suite string) *lab {
	dir := t.TempDir()
	l := &lab{dir: dir, reader: dir + "/sealtail-reader"}
	build(t, product, "./cmd/agent", dir+"/sealtail")
	build(t, product, "./cmd/reader", l.reader)
	build(t, ".", "./init", dir+"/init")
	command(t, dir+"/sealtail", "keyring", "new", "-f", dir+"/offline.json", "--kind", "hpke-mlkem768-x25519")
	command(t, dir+"/sealtail", "keyring", "export-public", "-f", dir+"/offline.json", "--out", dir+"/keyring.json")
	if err := os.WriteFile(dir+"/sealtail.toml", fmt.Appendf(nil, config, suite), 0o600); err != nil {
		t.Fatal(err)
	}
	l.kernel = unpackKernel(t, dir)
	files := map[string]string{
		"init": dir + "/init", "sealtail": dir + "/sealtail",
		"etc/sealtail.toml": dir + "/sealtail.toml", "etc/keyring.json": dir + "/keyring.json",
	}
	for i, m := range l.kernel.modules {
		files[fmt.Sprintf("modules/%02d-%s", i, filepath.Base(m))] = m
	}
	l.initrd, l.disk, l.log = dir+"/initrd", dir+"/disk", dir+"/requests"
	initramfs(t, l.initrd, files)
	command(t, "truncate", "-s", strconv.Itoa(diskSize), l.disk)
	command(t, "mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0", l.disk)
	return l
}

// read runs the reader and returns its exit code and what it told.
func (l *lab) read(t *testing.T, out *os.File, args ...string) (code int, told string) {
	t.Helper()
	var stderr strings.Builder
	c := exec.Command(l.reader, args...)
	c.Stderr = &stderr
	if out != nil {
		c.Stdout = out
	} else {
		c.Stdout = &stderr
	}
	err := c.Run()
	if err != nil && c.ProcessState == nil {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), stderr.String()
}

// open returns how often each line is opened from what is on the mounted disk.
func (l *lab) open(t *testing.T, root string) map[string]int {
	t.Helper()
	out, err := os.CreateTemp(t.TempDir(), "opened")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(out.Name())
	defer out.Close()
	code, told := l.read(t, out, "open", "--keyring", l.dir+"/offline.json", "--dir", root+"/sealed", "--spool", root+"/state")
	if code != 0 {
		t.Fatalf("open: exit code %d\n%s", code, told)
	}
	return count(t, out.Name())
}

func count(t *testing.T, files ...string) map[string]int {
	t.Helper()
	lines := make(map[string]int)
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(f)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				break // a line that was not finished is none
			}
			lines[strings.TrimSuffix(line, "\n")]++
		}
		f.Close()
	}
	return lines
}

// TestPowerLoss pulls the plug five times in full write, and looks at what the
// disk may hold then, as of three moments each time, the last of which is where
// the next boot begins: the file system is sound, every chain is whole with the
// heads remembered so far, and all that was in spool or sink before is still
// there. In the end every line that was fsynced or committed is opened, once.
func TestPowerLoss(t *testing.T) {
	for _, suite := range []string{"aes-256-gcm", "sm4-gcm"} {
		t.Run(suite, func(t *testing.T) { powerLoss(t, suite) })
	}
}

// A witness is what the guest said: n lines of this boot are fsynced, or n
// envelopes acknowledged, by requests that lie before size in the log.
type witness struct {
	what string
	n    int
	size int64
}

// before returns how many of what were done before size.
func before(said []witness, what string, size int64) (n int) {
	for _, w := range said {
		if w.what == what && w.size <= size {
			n = w.n
		}
	}
	return n
}

func powerLoss(t *testing.T, suite string) {
	l := newLab(t, suite)
	seed := uint64(time.Now().UnixNano())
	chance := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	synced := make(map[string]int) // by boot
	had := make(map[string]int)    // opened after the last loss
	sealed := 0                    // envelopes in the sink
	heard := 0                     // that were acknowledged
	start, after := l.disk+".before", l.disk+".after"
	for i := range cycles {
		boot := strconv.Itoa(i)
		if err := copySparse(start, l.disk); err != nil {
			t.Fatal(err)
		}
		enough := 20_000 + chance.IntN(80_000) // lines until the plug is pulled
		var said []witness
		began := time.Now()
		console := l.run(t, boot, func(line string) bool {
			var w witness
			if _, err := fmt.Sscan(line, &w.what, &w.n); err != nil || w.what != "synced" && w.what != "acked" {
				return true
			}
			info, err := os.Stat(l.log)
			if err != nil {
				t.Error(err)
				return false
			}
			w.size = info.Size()
			said = append(said, w)
			return w.what != "synced" || w.n < enough
		})
		took := time.Since(began)
		all := before(said, "synced", math.MaxInt64)
		if all < enough {
			t.Fatalf("boot %s: ended before the plug was pulled:\n%s", boot, console)
		}
		log, err := os.Open(l.log)
		if err != nil {
			t.Fatal(err)
		}
		requests, err := readLog(log)
		if err != nil {
			t.Fatal(err)
		}
		var at [moments]int
		for m := range at {
			at[m] = len(requests)/2 + chance.IntN(len(requests)/2)
		}
		slices.Sort(at[:])
		for _, m := range at {
			if err := copySparse(after, start); err != nil {
				t.Fatal(err)
			}
			kept, lost := l.lose(t, after, log, requests[:m], chance)
			end := requests[m].data - sector // of the requests before m
			synced[boot] = before(said, "synced", end)
			acked := before(said, "acked", end)
			var envelopes int
			had, envelopes = l.look(t, after, boot, had)
			if envelopes < sealed+acked {
				t.Errorf("boot %s: %d envelopes are in the sink, which had %d and acknowledged %d", boot, envelopes, sealed, acked)
			}
			if m == at[moments-1] {
				sealed = envelopes
				heard += acked
			}
			t.Logf("boot %s, %d lines in %s, plug pulled after %d of %d requests: %d blocks not flushed were kept, %d lost; %d lines fsynced, %d in spool and sink; %d envelopes acknowledged, %d in the sink",
				boot, all, took.Round(time.Second), m, len(requests), kept, lost, synced[boot], len(had), acked, envelopes)
		}
		log.Close()
		if err := os.Rename(after, l.disk); err != nil {
			t.Fatal(err)
		}
	}

	if heard == 0 {
		t.Error("the agent's status told of no acknowledgement")
	}
	console := l.run(t, "drain", func(string) bool { return true })
	if !strings.Contains(console, "\nshipped\n") {
		t.Fatalf("not drained:\n%s", console)
	}
	command(t, "e2fsck", "-fn", l.disk)
	mount(t, l.disk, func(root string) {
		code, told := l.read(t, nil, "verify", "--dir", root+"/sealed", "--state", l.dir+"/heads.json")
		if code != 0 {
			t.Fatalf("verify: exit code %d\n%s", code, told)
		}
		files, _ := filepath.Glob(root + "/logs/*")
		there, opened := count(t, files...), l.open(t, root)
		missing, twice, foreign := 0, 0, 0
		for line := range there {
			if opened[line] == 0 {
				missing++
			}
		}
		for line, n := range opened {
			if n > 1 {
				twice++
			}
			if !strings.HasPrefix(line, "boot ") {
				foreign++
			}
		}
		for line := range had {
			if opened[line] == 0 {
				missing++
			}
		}
		for boot, n := range synced {
			for i := 1; i <= n; i++ {
				if opened["boot "+boot+" line "+strconv.Itoa(i)+" "+strings.Repeat("x", 60)] == 0 {
					missing++
				}
			}
		}
		t.Logf("%d lines in files, %d opened; %d missing, %d opened twice, %d foreign", len(there), len(opened), missing, twice, foreign)
		if missing > 0 || twice > 0 || foreign > 0 {
			t.Error("lines are missing, repeated or foreign")
		}
	})
}

// lose leaves on the disk what a loss of power after the requests leaves.
func (l *lab) lose(t *testing.T, disk string, log *os.File, requests []request, chance *rand.Rand) (kept, lost int) {
	t.Helper()
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if kept, lost, err = losePower(f, log, requests, chance); err != nil {
		t.Fatal(err)
	}
	return kept, lost
}

// look verifies what is on the disk and returns what is opened of it, which
// must be all that it had, and how many envelopes are in the sink.
func (l *lab) look(t *testing.T, disk, boot string, had map[string]int) (opened map[string]int, envelopes int) {
	t.Helper()
	mount(t, disk, func(root string) {
		code, told := l.read(t, nil, "verify", "--dir", root+"/sealed", "--spool", root+"/state", "--state", l.dir+"/heads.json")
		if code != 0 {
			t.Fatalf("boot %s: verify: exit code %d\n%s", boot, code, told)
		}
		opened = l.open(t, root)
		_, told = l.read(t, nil, "inspect", "--dir", root+"/sealed")
		envelopes = strings.Count(told, ": envelope, ")
	})
	for line := range had {
		if opened[line] == 0 {
			t.Fatalf("boot %s: %q was in spool or sink, and is gone", boot, line)
		}
	}
	return opened, envelopes
}
