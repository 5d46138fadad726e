package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/zap"

	"sealtail/conf"
	"sealtail/internal/sample"
	"sealtail/record"
	"sealtail/seal/keyring"
)

// BenchmarkLine takes a backlog of nginx lines, in the page cache, through the
// whole line: tail, LogGroups, zstd, seal, spool with fsync, a directory with
// fsync. cpu-s/GB is user and system time of the process a GB of raw log. zstd-%
// is how much of it compressing the same batches takes alone, measured after
// each run, so that both meet the machine in the same mood.
func BenchmarkLine(b *testing.B) {
	raw := sample.AccessLog(nil, 1, 256<<20)
	for _, suite := range []string{"aes-256-gcm", "sm4-gcm"} {
		b.Run(suite, func(b *testing.B) {
			dir := b.TempDir()
			log := filepath.Join(dir, "access.log")
			if err := os.WriteFile(log, raw, 0o600); err != nil {
				b.Fatal(err)
			}
			ring := filepath.Join(dir, "keyring.json")
			if _, err := keyring.New(ring, keyring.HPKE); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(raw)))
			compress := compressor(b, raw)
			var cpu, alone time.Duration
			n := 0
			for b.Loop() {
				state := filepath.Join(dir, fmt.Sprint(n))
				cfg, err := conf.Parse("bench.toml", fmt.Appendf(nil, `
agent = { state_dir = %q, host = "h" }
key.k = { provider = "keyring", file = %q }
sink.s = { type = "dir", path = %q }
stream = [{ name = "s", include = [%q], suite = %q, key = "k", sink = "s", batch = { max_age = "100ms" } }]
`, state, ring, state+".sealed", log, suite), os.LookupEnv)
				if err != nil {
					b.Fatal(err)
				}
				before := cpuTime(b)
				takeAll(b, cfg, int64(len(raw)))
				cpu += cpuTime(b) - before
				b.StopTimer()
				before = cpuTime(b)
				compress()
				alone += cpuTime(b) - before
				b.StartTimer()
				os.RemoveAll(state)
				os.RemoveAll(state + ".sealed")
				n++
			}
			b.ReportMetric(cpu.Seconds()/float64(n)/(float64(len(raw))/1e9), "cpu-s/GB")
			b.ReportMetric(100*alone.Seconds()/cpu.Seconds(), "zstd-%")
		})
	}
}

// takeAll runs the agent's lines until size bytes are committed, then stops
// it, which ships them.
func takeAll(b *testing.B, cfg *conf.Config, size int64) {
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	id, err := openIdentity(cfg.Agent.StateDir)
	if err != nil {
		b.Fatal(err)
	}
	s := cfg.Streams[0]
	keys, err := openKeys(cfg, s, zap.NewNop(), func() neededKeys { return neededKeys{} })
	if err != nil {
		b.Fatal(err)
	}
	l, err := openLine(cfg, s, id, keys.Keys, newHeldFiles(nil, nil, zap.NewNop()), zap.NewNop())
	if err != nil {
		b.Fatal(err)
	}
	alive, wipe := context.WithCancel(context.Background())
	var all stages
	all.run("keys", stop, func() error { return keys.Run(alive) })
	all.run("line", stop, func() error { return l.run(ctx, ctx) })
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for l.pipeline.Stats().Raw < size && ctx.Err() == nil {
		<-tick.C
	}
	stop()
	all.wait("line")
	wipe()
	all.wait("keys")
	if all.err != nil || l.pipeline.Stats().Raw != size {
		b.Fatalf("took %d of %d bytes: %v", l.pipeline.Stats().Raw, size, all.err)
	}
}

// compressor returns what compresses raw in the batches of the pipeline and
// does nothing else.
func compressor(b *testing.B, raw []byte) func() {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { enc.Close() })
	batches := batchesOf(raw)
	var buf []byte
	return func() {
		for _, list := range batches {
			buf = enc.EncodeAll(list, buf[:0])
		}
	}
}

// batchesOf encodes lines as the pipeline does, 2 MiB a batch.
func batchesOf(raw []byte) (lists [][]byte) {
	batch := record.NewBatch("s", "h", nil)
	c := &record.Chunk{Path: "/access.log", Time: time.Now().UnixNano()}
	flush := func() {
		lists = append(lists, append([]byte(nil), batch.Encoded()...))
		batch.Reset()
	}
	start := int64(0)
	for i, x := range raw {
		if x != '\n' {
			continue
		}
		c.Records = append(c.Records, record.Record{Content: raw[start:i], Offset: start})
		start = int64(i) + 1
		if len(c.Records) == record.MaxChunkRecords {
			c.End = start
			batch.Add(c)
			c.Records, c.Offset = c.Records[:0], start
			if batch.Size() >= 2<<20 {
				flush()
			}
		}
	}
	c.End = start
	batch.Add(c)
	flush()
	return lists
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
