package e2e_test

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"sealtail/internal/sample"
)

// BenchmarkBacklog is the whole agent, as its user runs it, on 256 MB of nginx
// lines in the page cache, to sink/dir with every fsync. cpu-s/GB is user and
// system time of its process a GB of raw log, start and stop included.
func BenchmarkBacklog(b *testing.B) {
	const size = 256 << 20
	for _, suite := range suites {
		b.Run(suite, func(b *testing.B) {
			b.SetBytes(size)
			var cpu, rss float64
			n := 0
			for b.Loop() {
				b.StopTimer()
				r := newRig(b, suite, "*.log", "", "")
				f, err := os.Create(r.path("logs", "access.log"))
				if err != nil {
					b.Fatal(err)
				}
				for seed := range uint64(size >> 20) {
					if _, err := f.Write(sample.AccessLog(nil, seed, 1<<20)); err != nil {
						b.Fatal(err)
					}
				}
				f.Close()
				b.StartTimer()
				r.start()
				r.until("the backlog to be sealed", func() bool { return r.committed() })
				cpu += r.cpu().Seconds()
				rss = max(rss, r.rss("VmHWM"))
				b.StopTimer()
				r.stop()
				os.RemoveAll(r.dir)
				b.StartTimer()
				n++
			}
			b.ReportMetric(cpu/float64(n)/(size/1e9), "cpu-s/GB")
			b.ReportMetric(rss, "MiB-peak")
		})
	}
}

// BenchmarkShip is the whole agent on 256 MB of nginx lines in the page cache,
// to the emulator's encrypted Logstore over TLS, under a CMK. cpu-s/GB is user
// and system time of the agent's process a GB of raw log, cpu-s/sealed-GB a GB
// of envelopes.
func BenchmarkShip(b *testing.B) {
	const size = 256 << 20
	for _, suite := range suites {
		b.Run(suite, func(b *testing.B) {
			b.SetBytes(size)
			var cpu, rss, sealed float64
			n := 0
			for b.Loop() {
				b.StopTimer()
				c := newCloud(b, cloudOptions{suite: suite})
				f, err := os.Create(c.path("logs", "access.log"))
				if err != nil {
					b.Fatal(err)
				}
				for seed := range uint64(size >> 20) {
					if _, err := f.Write(sample.AccessLog(nil, seed, 1<<20)); err != nil {
						b.Fatal(err)
					}
				}
				f.Close()
				b.StartTimer()
				c.start()
				c.until("the backlog to be shipped", func() bool { return c.committed() })
				cpu += c.cpu().Seconds()
				rss = max(rss, c.rss("VmHWM"))
				b.StopTimer()
				c.stop()
				if c.logged(`"unshipped_bytes": 0}`) == 0 {
					b.Error("not all was shipped")
				}
				sealed += c.told("sealed_bytes")
				os.RemoveAll(c.dir)
				b.StartTimer()
				n++
			}
			b.ReportMetric(cpu/float64(n)/(size/1e9), "cpu-s/GB")
			b.ReportMetric(cpu/(sealed/1e9), "cpu-s/sealed-GB")
			b.ReportMetric(rss, "MiB-peak")
		})
	}
}

// BenchmarkSteady is the whole agent on one file that grows by 10 MB/s in
// lines of 512 bytes for 10 s.
func BenchmarkSteady(b *testing.B) {
	for _, suite := range suites {
		b.Run(suite, func(b *testing.B) {
			var busy time.Duration
			var rss float64
			n := 0
			for b.Loop() {
				r := newRig(b, suite, "*.log", "", "")
				f, err := os.Create(r.path("logs", "app.log"))
				if err != nil {
					b.Fatal(err)
				}
				r.start()
				r.until("the start", func() bool { return r.logged("started") == 1 })
				before := r.cpu()
				tick := time.NewTicker(10 * time.Millisecond)
				for i := range 1000 {
					var lines []byte
					for j := range 100_000 / 512 {
						lines = fmt.Appendf(lines, "%-511s\n", fmt.Sprintf("2026-11-25T12:00:00.%06d INFO request=%08x item=%d took=%dms", j, i*7919+j*104729, i*31%5000, j%500))
					}
					f.Write(lines)
					<-tick.C
				}
				busy += r.cpu() - before
				rss = max(rss, r.rss("VmRSS"))
				r.stop()
				f.Close()
				n++
			}
			b.ReportMetric(100*busy.Seconds()/10/float64(n), "%core")
			b.ReportMetric(rss, "MiB")
		})
	}
}

// BenchmarkIdle is the whole agent on files that do not grow, for 20 s.
func BenchmarkIdle(b *testing.B) {
	for _, files := range []int{1000, 10_000} {
		b.Run(strconv.Itoa(files), func(b *testing.B) {
			var busy time.Duration
			var rss float64
			n := 0
			for b.Loop() {
				r := newRig(b, "aes-256-gcm", "*.log", "", "")
				for i := range files {
					appendTo(b, r.path("logs", fmt.Sprintf("%d.log", i)), fmt.Sprintf("the only line of file %d\n", i))
				}
				r.start()
				r.until("all lines", func() bool { return len(r.open()) == files })
				<-time.After(2 * time.Second)
				before := r.cpu()
				<-time.After(20 * time.Second)
				busy += r.cpu() - before
				rss = max(rss, r.rss("VmRSS"))
				r.stop()
				n++
			}
			b.ReportMetric(100*busy.Seconds()/20/float64(n), "%core")
			b.ReportMetric(rss, "MiB")
		})
	}
}

// BenchmarkBusy is the whole agent on 1,000 files that get a line of nginx a
// second each, one after the other, for 20 s.
func BenchmarkBusy(b *testing.B) {
	const files, seconds = 1000, 20
	lines := bytes.SplitAfter(sample.AccessLog(nil, 1, 1<<20), []byte("\n"))
	for _, suite := range suites {
		b.Run(suite, func(b *testing.B) {
			var busy time.Duration
			var rss float64
			n := 0
			for b.Loop() {
				r := newRig(b, suite, "*.log", "", "")
				var logs []*os.File
				for i := range files {
					f, err := os.Create(r.path("logs", fmt.Sprintf("%d.log", i)))
					if err != nil {
						b.Fatal(err)
					}
					logs = append(logs, f)
				}
				r.start()
				r.until("the start", func() bool { return r.logged("started") == 1 })
				written := 0
				write := func(seconds int) {
					tick := time.NewTicker(10 * time.Millisecond)
					defer tick.Stop()
					for range 100 * seconds {
						<-tick.C
						for range files / 100 {
							logs[written%files].Write(lines[written%(len(lines)-1)])
							written++
						}
					}
				}
				write(3)
				before := r.cpu()
				write(seconds)
				busy += r.cpu() - before
				rss = max(rss, r.rss("VmRSS"))
				r.until("all lines", func() bool { return len(r.open()) >= written })
				r.stop()
				if got := len(r.open()); got != written {
					b.Errorf("opened %d lines, want %d", got, written)
				}
				for _, f := range logs {
					f.Close()
				}
				n++
			}
			b.ReportMetric(100*busy.Seconds()/seconds/float64(n), "%core")
			b.ReportMetric(rss, "MiB")
		})
	}
}

// committed reports whether the agent has nothing left to do: its processor
// time does not grow any more.
func (r *rig) committed() bool {
	before := r.cpu()
	<-time.After(300 * time.Millisecond)
	return before > 100*time.Millisecond && r.cpu()-before < 10*time.Millisecond
}

// told returns a number that the agent logged.
func (r *rig) told(key string) float64 {
	r.t.Helper()
	b, err := os.ReadFile(r.log)
	if err != nil {
		r.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), strconv.Quote(key)+": ")
	n, err := strconv.ParseFloat(rest[:max(0, strings.IndexAny(rest, ",}"))], 64)
	if err != nil {
		r.t.Fatalf("the log does not tell %s", key)
	}
	return n
}

// cpu is the user and system time of the agent's process.
func (r *rig) cpu() time.Duration {
	r.t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.agent.Process.Pid))
	if err != nil {
		r.t.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var ticks int64
	for _, f := range fields[11:13] { // utime, stime: proc(5)
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			r.t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100
}

// rss reads a size in MiB from the process's status.
func (r *rig) rss(what string) float64 {
	r.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.agent.Process.Pid))
	if err != nil {
		r.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), what+":")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		r.t.Fatal(err)
	}
	return float64(kb) / 1024
}
