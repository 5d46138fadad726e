package reader_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"sealtail/reader"
	"sealtail/record"
	"sealtail/seal"
)

// sealedLogs returns a file of n envelopes of 2 MiB of access log each, and
// the bytes of all lines.
func sealedLogs(b *testing.B, h *host, suite seal.Suite, n int) (file []byte, raw int64) {
	b.Helper()
	chain := h.chain(suite, nil, 1)
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range n {
		batch := record.NewBatch("nginx", "host-1", nil)
		for range 4 {
			c := &record.Chunk{Path: "/var/log/nginx/access.log", Inode: 7, Time: base.UnixNano()}
			for range 1000 {
				l := fmt.Appendf(nil, `10.%d.%d.%d - - [25/Nov/2025:20:00:%02d +0000] "GET /api/v1/items/%d?page=%d HTTP/1.1" %d %d "-" "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)" rt=0.%03d`,
					rng.IntN(256), rng.IntN(256), rng.IntN(256), rng.IntN(60), rng.IntN(1e6), rng.IntN(100), 200+rng.IntN(5)*100, rng.IntN(1e5), rng.IntN(1000))
				c.Records = append(c.Records, record.Record{Content: l, Offset: c.End})
				c.End += int64(len(l)) + 1
			}
			raw += c.End
			batch.Add(c)
		}
		env, err := chain.Seal(b.Context(), nil, 0, base.UnixNano(), base.Add(time.Second).UnixNano(), seal.CodecZstd, enc.EncodeAll(batch.Encoded(), nil))
		if err != nil {
			b.Fatal(err)
		}
		file = append(file, env...)
	}
	return file, raw
}

// BenchmarkVerify gives sealed bytes a second; raw/s are those of the lines.
func BenchmarkVerify(b *testing.B) {
	for _, suite := range suites {
		b.Run(suite.String(), func(b *testing.B) {
			file, raw := sealedLogs(b, newHost(b), suite, 32)
			b.SetBytes(int64(len(file)))
			for b.Loop() {
				if code := read(b, reader.Options{}, file).Verify().ExitCode(false); code != 0 {
					b.Fatal(code)
				}
			}
			b.ReportMetric(float64(raw)*float64(b.N)/b.Elapsed().Seconds()/1e6, "raw-MB/s")
		})
	}
}

// BenchmarkOpen verifies and opens; it gives bytes of lines a second.
func BenchmarkOpen(b *testing.B) {
	for _, suite := range suites {
		b.Run(suite.String(), func(b *testing.B) {
			h := newHost(b)
			file, raw := sealedLogs(b, h, suite, 32)
			b.SetBytes(raw)
			b.ReportAllocs()
			for b.Loop() {
				r, n := read(b, reader.Options{}, file), 0
				r.Verify()
				err := r.Open(b.Context(), []seal.Unwrapper{h.keyring}, func(rec *reader.Record) error {
					n += len(rec.Content) + 1
					return nil
				})
				if err != nil || int64(n) != raw {
					b.Fatal(n, err)
				}
			}
		})
	}
}

// BenchmarkScanDamage goes through bytes that are no envelopes.
func BenchmarkScanDamage(b *testing.B) {
	junk := bytes.Repeat([]byte("\x89S no envelope "), 1<<20)
	b.SetBytes(int64(len(junk)))
	for b.Loop() {
		if err := reader.Scan(bytes.NewReader(junk), func(reader.Item) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
