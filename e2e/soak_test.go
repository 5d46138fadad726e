//go:build torture

package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sealtail/internal/sample"
	"sealtail/reader"
	"sealtail/sink/sls"
)

const (
	soakRate    = 20_000_000 // bytes a second, of all writers
	soakWriters = 4
	soakFile    = 16 << 20 // size at which a file is rotated
	soakKeep    = 2        // rotated files that are kept of a writer
	soakWarm    = 30 * time.Second
	soakMemory  = 100 // MiB that the agent has at most
)

// TestSoak ships 20 MB/s in both suites while both CMKs go off and on at
// random, for as long as the environment's SOAK says (60s), seeded by SEED. Each
// tenth has the same outages, so that they can be compared. Before that it runs
// for half a minute, first with the Logstore's CMK off, so that all buffers were
// in use. Every line is opened once, the chains are whole, memory is bounded,
// and, from 5m up, it does not grow.
func TestSoak(t *testing.T) {
	length, seed := time.Minute, uint64(time.Now().UnixNano())
	if s := os.Getenv("SOAK"); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	if s := os.Getenv("SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SOAK=%v SEED=%d", length, seed)
	data := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	c := newCloud(t, cloudOptions{suite: "sm4-gcm", key: quickCMK + "\nrotate = \"10s\"", flags: []string{"--data", data}})
	if err := os.Mkdir(c.path("logs", "aes"), 0o755); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(c.path("sealtail.toml"))
	if err != nil {
		t.Fatal(err)
	}
	c.write("sealtail.toml", fmt.Sprintf(`%s
[[stream]]
name = "aes"
include = [%q]
suite = "aes-256-gcm"
key = "kms"
sink = "audit"
`, config, c.path("logs", "aes", "*.log*")))
	c.start()
	c.until("the start", func() bool { return c.logged("started") == 1 })

	began := time.Now()
	stop := time.After(soakWarm + length)
	done := make(chan struct{})
	var writing, meddling sync.WaitGroup
	written := make([]map[string]uint64, soakWriters)
	for i := range soakWriters {
		dir := c.path("logs")
		if i%2 == 1 {
			dir = c.path("logs", "aes")
		}
		writing.Go(func() {
			var err error
			if written[i], err = soak(filepath.Join(dir, fmt.Sprintf("w%d.log", i)), uint64(i), done); err != nil {
				t.Error(err)
			}
		})
	}
	outages := make([]int, 2)
	for i, cmk := range []string{"data", "store"} {
		meddling.Go(func() {
			if cmk == "store" {
				c.state(cmk, "Disabled")
			}
			<-time.After(soakWarm / 3)
			c.state(cmk, "Enabled")
			<-time.After(soakWarm - soakWarm/3)
			for range 10 {
				outages[i] += c.offAndOn(cmk, rand.New(rand.NewPCG(seed, uint64(i))), length/10)
			}
		})
	}
	var rss [10]mean // in MiB, by tenths
	var worst float64
	sampled := time.NewTicker(200 * time.Millisecond)
	defer sampled.Stop()
	for running := true; running; {
		select {
		case <-sampled.C:
			now := c.rss("VmRSS")
			worst = max(worst, now)
			if measured := time.Since(began) - soakWarm; measured >= 0 {
				rss[min(int(10*measured/length), 9)].add(now)
			}
		case <-stop:
			running = false
		}
	}
	ended := time.Now()
	close(done)
	writing.Wait()
	meddling.Wait()
	cpu := c.cpu()
	if t.Failed() {
		return
	}

	// What was written last is shipped last.
	missing := func() map[string]uint64 {
		last := make(map[string]uint64)
		for _, files := range written {
			newest := ""
			for name := range files {
				newest = max(newest, name)
			}
			last[newest] = files[newest]
		}
		c.each(sls.Range{From: ended.Add(-time.Second)}, func(r *reader.Record) {
			if name, n, err := numbered(r.Content); err == nil && last[name] == n {
				delete(last, name)
			}
		})
		return last
	}
	c.until("all to be shipped", func() bool { return len(missing()) == 0 })
	c.stop()
	if got := c.logged(`"unshipped_bytes": 0}`); got != 2 {
		t.Errorf("%d streams were shipped whole, want 2", got)
	}

	var lines, size int64
	next := make(map[string]uint64)
	wrong := 0
	c.each(sls.Range{}, func(r *reader.Record) {
		if r.Event != "" {
			return
		}
		lines, size = lines+1, size+int64(len(r.Content))+1
		name, n, err := numbered(r.Content)
		if err != nil || n != next[name]+1 || r.NoStart || r.NoEnd {
			if wrong++; wrong < 10 {
				t.Errorf("line %d of %s comes after line %d: %v", n, name, next[name], err)
			}
		}
		next[name] = n
	})
	files := 0
	for _, w := range written {
		for name, n := range w {
			files++
			if next[name] != n {
				t.Errorf("%s: opened up to line %d of %d", name, next[name], n)
			}
		}
	}
	if files != len(next) {
		t.Errorf("%d files were written, lines of %d opened", files, len(next))
	}
	if code := c.report.ExitCode(false); code != reader.ExitSound {
		for f := range c.report.All {
			t.Log(f)
		}
		t.Errorf("what was pulled ends verify with %d", code)
	}
	if out := c.run("sealtail-reader", "verify", "--signers", c.path("signers"), c.path("pulled.se1")); strings.Count(out, "anchored") != 2 {
		t.Errorf("verify says %q, want two anchored streams", out)
	}
	t.Logf("%d lines of %d files, %.2f GB at %.1f MB/s, opened once; CMKs off %d and %d times; agent %.2f cpu-s/GB; RSS by tenths %v MiB, %.1f at most",
		lines, files, float64(size)/1e9, float64(size)/1e6/ended.Sub(began).Seconds(), outages[0], outages[1],
		cpu.Seconds()/(float64(size)/1e9), rss, worst)
	if worst > soakMemory {
		t.Errorf("RSS reached %.1f MiB, want at most %d", worst, soakMemory)
	}
	// Garbage is collected every 8 s or so: less tells nothing.
	if early, late := rss[1].value(), rss[9].value(); length >= 5*time.Minute && late > 1.1*early {
		t.Errorf("RSS grew from %.1f MiB in the second tenth to %.1f in the last", early, late)
	}
}

// offAndOn disables and enables a CMK for some time, and returns how often.
func (c *cloud) offAndOn(cmk string, random *rand.Rand, length time.Duration) (outages int) {
	end := time.After(length)
	defer c.state(cmk, "Enabled")
	for {
		for _, next := range []struct {
			state string
			most  time.Duration
		}{{"Enabled", min(10*time.Second, length/3)}, {"Disabled", min(6*time.Second, length/5)}} {
			c.state(cmk, next.state)
			if next.state == "Disabled" {
				outages++
			}
			select {
			case <-time.After(time.Duration(random.Int64N(int64(next.most)))):
			case <-end:
				return outages
			}
		}
	}
}

// A mean is one of what was added.
type mean struct {
	sum float64
	n   int
}

func (m *mean) add(v float64) { m.sum, m.n = m.sum+v, m.n+1 }
func (m mean) value() float64 { return m.sum / float64(max(m.n, 1)) }
func (m mean) String() string { return fmt.Sprintf("%.1f", m.value()) }

// soak writes numbered lines to a file that is rotated, until done, and returns
// the number of lines by the name that each line bears: that of its file.
func soak(path string, seed uint64, done <-chan struct{}) (map[string]uint64, error) {
	lines := bytes.SplitAfter(sample.AccessLog(nil, seed, 16<<20), []byte("\n"))
	written := make(map[string]uint64)
	base := strings.TrimSuffix(filepath.Base(path), ".log")
	began, total := time.Now(), int64(0)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var chunk []byte
	for file := 0; ; file++ {
		name := fmt.Sprintf("%s-%05d", base, file)
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, err
		}
		for size := 0; size < soakFile; {
			due := int64(time.Since(began).Seconds()*soakRate/soakWriters) - total
			for chunk = chunk[:0]; int64(len(chunk)) < due; {
				written[name]++
				chunk = fmt.Appendf(chunk, "%s %d %s", name, written[name], lines[written[name]%uint64(len(lines)-1)])
			}
			n, err := f.Write(chunk)
			if err != nil {
				return nil, err
			}
			size, total = size+n, total+int64(n)
			select {
			case <-tick.C:
			case <-done:
				return written, f.Close()
			}
		}
		if err := errors.Join(f.Close(), os.Rename(path, fmt.Sprintf("%s.%d", path, file))); err != nil {
			return nil, err
		}
		if old := fmt.Sprintf("%s.%d", path, file-soakKeep); file >= soakKeep {
			if err := os.Remove(old); err != nil {
				return nil, err
			}
		}
	}
}

// numbered reads the file's name and the number of a line.
func numbered(line []byte) (name string, n uint64, err error) {
	head, rest, _ := bytes.Cut(line, []byte(" "))
	number, _, _ := bytes.Cut(rest, []byte(" "))
	n, err = strconv.ParseUint(string(number), 10, 64)
	return string(head), n, err
}

// A Logstore that is as configured again is shipped to without a restart: it is
// compared again within 40 s of each drift.
func TestDriftPasses(t *testing.T) {
	c := newCloud(t, cloudOptions{stream: quickStream})
	path := "projects/" + project + "/logstores/" + logstore + "/encryption"
	var l ledger
	w := l.writer(t, c.path("logs", "a.log"))
	w.line()
	c.ask("PUT", path, `{"enable":true,"encrypt_type":"default"}`)
	c.start()
	c.until("the drift", func() bool { return c.logged("encrypt_type is") > 0 })
	c.ask("PUT", path, fmt.Sprintf(`{"enable":true,"encrypt_type":"m4","user_cmk_info":{"cmk_key_id":"store","arn":%q,"region_id":%q}}`, c.emulator.Roles["sls"], region))
	fixed := time.Now()
	for len(c.open()) < l.total() {
		if time.Since(fixed) > 2*time.Minute {
			t.Fatal("nothing was shipped in two minutes")
		}
		<-time.After(time.Second)
	}
	c.stop()
	l.check(t, c.whole())
	t.Logf("went on %v after the Logstore was as configured", time.Since(fixed).Round(time.Second))
}
