package tail_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/text/encoding/simplifiedchinese"

	"sealtail/record"
	"sealtail/tail"
)

func options(dir string) tail.Options {
	return tail.Options{Include: []string{dir + "/*.log"}, Key: []byte("0123456789abcdef"), Found: func([]record.Position) {}}
}

// nginx returns access log lines of about 200 bytes, at least n bytes.
func nginx(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "192.168.%d.%d - - [23/Nov/2026:12:%02d:%02d +0000] \"GET /api/v1/items/%d?page=%d HTTP/1.1\" 200 %d \"-\" "+
			"\"Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0\" rt=0.%03d\n",
			i%256, i/256%256, i/60%60, i%60, i, i%100, i%5000, i%1000)
	}
	return b.Bytes()
}

// BenchmarkFile is one cached file at full speed, out of the tailer.
func BenchmarkFile(b *testing.B) {
	for _, bb := range []struct {
		name string
		text []byte
	}{
		{"nginx", nginx(64 << 20)},
		{"50B", bytes.Repeat([]byte("a line of fifty bytes, its line feed counted too.\n"), 64<<20/50)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			dir := b.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "a.log"), bb.text, 0o644); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(bb.text)))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				o := options(dir)
				o.Once = true
				t, err := tail.New(o)
				if err != nil {
					b.Fatal(err)
				}
				out := make(chan *record.Chunk, 1)
				go t.Run(context.Background(), context.Background(), out)
				n = 0
				for c := range out {
					n += len(c.Records)
					c.Release()
				}
			}
			if want := bytes.Count(bb.text, []byte("\n")); n != want {
				b.Fatalf("records: got %d, want %d", n, want)
			}
			b.ReportMetric(float64(n), "lines/op")
		})
	}
}

// BenchmarkIdle is one round, scan and looks, over files with no news: at 1 Hz,
// ns/op ÷ 1e9 is the share of a core.
func BenchmarkIdle(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir := b.TempDir()
			for i := range n {
				if err := os.WriteFile(fmt.Sprintf("%s/file-%05d.log", dir, i), []byte("a line\n"), 0o644); err != nil {
					b.Fatal(err)
				}
			}
			t, err := tail.New(options(dir))
			if err != nil {
				b.Fatal(err)
			}
			defer t.Close()
			for range 100 {
				for _, c := range t.Step(time.Second) {
					c.Release()
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				if len(t.Step(time.Second)) > 0 {
					b.Fatal("news of an idle file")
				}
			}
		})
	}
}

// BenchmarkBusy is one round over 1,000 files that got a line each.
func BenchmarkBusy(b *testing.B) {
	dir := b.TempDir()
	var files []*os.File
	for i := range 1000 {
		f, err := os.Create(fmt.Sprintf("%s/file-%05d.log", dir, i))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	t, err := tail.New(options(dir))
	if err != nil {
		b.Fatal(err)
	}
	defer t.Close()
	line := nginx(1)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		for _, f := range files {
			f.Write(line)
		}
		b.StartTimer()
		n := 0
		for _, c := range t.Step(time.Second) {
			n++
			c.Release()
		}
		if n != len(files) {
			b.Fatalf("chunks: got %d, want %d", n, len(files))
		}
	}
}

// BenchmarkRecords is one cached file at full speed where more than cutting
// lines is to be done.
func BenchmarkRecords(b *testing.B) {
	const size = 32 << 20
	lines := bytes.Split(bytes.TrimSuffix(nginx(size), []byte("\n")), []byte("\n"))
	each := func(f func(i int, line []byte) string) []byte {
		var text bytes.Buffer
		for i, l := range lines {
			text.WriteString(f(i, l))
		}
		return text.Bytes()
	}
	trace := each(func(i int, l []byte) string {
		if i%20 < 10 {
			return "\tat com.example.Service.call(Service.java:42)\n"
		}
		return string(l) + "\n"
	})
	cri := each(func(i int, l []byte) string { return criLine([]string{"stdout", "stderr"}[i%2], "F", string(l)) })
	docker := each(func(i int, l []byte) string { return dockerLine("stdout", string(l)+"\n") })
	chinese, err := simplifiedchinese.GB18030.NewEncoder().Bytes(each(func(i int, l []byte) string {
		return "2026-11-23 12:00:00 信息 订单处理完成，用户" + string(l[:40]) + "的付款已经确认\n"
	}))
	if err != nil {
		b.Fatal(err)
	}
	for _, bb := range []struct {
		name string
		text []byte
		o    tail.Options
	}{
		{"java", trace, tail.Options{Multiline: tail.Multiline{Preset: "java"}}},
		{"start", trace, tail.Options{Multiline: tail.Multiline{Start: `^\d`}}},
		{"cri", cri, tail.Options{Format: "cri"}},
		{"cri-java", cri, tail.Options{Format: "cri", Multiline: tail.Multiline{Preset: "java"}}},
		{"docker", docker, tail.Options{Format: "docker"}},
		{"gb18030", chinese, tail.Options{Encoding: "gb18030"}},
		{"drop", nginx(size), tail.Options{Drop: []string{"page=7 "}}},
		{"trim_cr", nginx(size), tail.Options{TrimCR: true}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			dir := b.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "a.log"), bb.text, 0o644); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(bb.text)))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				o := options(dir)
				o.Once, o.Format, o.Encoding, o.TrimCR, o.Multiline, o.Drop = true, bb.o.Format, bb.o.Encoding, bb.o.TrimCR, bb.o.Multiline, bb.o.Drop
				t, err := tail.New(o)
				if err != nil {
					b.Fatal(err)
				}
				out := make(chan *record.Chunk, 1)
				go t.Run(context.Background(), context.Background(), out)
				n = 0
				for c := range out {
					n += len(c.Records)
					c.Release()
				}
			}
			if n == 0 {
				b.Fatal("no records")
			}
			b.ReportMetric(float64(n), "records/op")
		})
	}
}
