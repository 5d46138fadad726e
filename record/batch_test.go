package record_test

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	sls "github.com/aliyun/aliyun-log-go-sdk"

	"sealtail/record"
)

var at = time.Date(2026, 11, 25, 12, 0, 0, 123456789, time.UTC).UnixNano()

// lines makes a chunk of contiguous lines.
func lines(offset int64, content ...string) *record.Chunk {
	c := &record.Chunk{Path: "/var/log/a.log", Inode: 4711, Offset: offset, Time: at}
	for _, s := range content {
		c.Records = append(c.Records, record.Record{Content: []byte(s), Offset: offset})
		offset += int64(len(s)) + 1
	}
	c.End = offset
	return c
}

func position(id uint64, from, offset int64) record.Position {
	return record.Position{ID: id, Path: "/var/log/a.log", From: from, Offset: offset, Size: offset}
}

func chunks() map[string]*record.Chunk {
	gap := lines(0, "one", "two", "three")
	gap.Records[1].Offset += 7
	gap.Records[2].Offset += 7
	gap.End += 7
	parts := lines(100, "aaaa", "bb", "next")
	parts.Records[0].Part = &record.Part{ID: 0xab, Index: 3}
	parts.Records[1].Part = &record.Part{ID: 0xab, Index: 4, Last: true}
	parts.Records[1].Offset = 104
	parts.Records[2].Offset = 107
	timed := lines(0, "old", "now")
	timed.Records[0].Time = at - 5e9
	event := &record.Chunk{Events: []record.Event{{Name: "loss", Time: time.Unix(0, at),
		Fields: []record.Tag{{"path", "/x"}, {"inode", "1"}, {"from", "0"}, {"to", "9"}, {"reason", "deleted unread"}}}}}
	sources := lines(0, "out", "err", "out again")
	for i, s := range []string{"stdout", "stderr", "stdout"} {
		sources.Records[i].Source = s
	}
	sources.Records[2].Offset = 0
	tagged := lines(0, "x")
	tagged.Tags = []record.Tag{{"__pod_name__", "web-0"}}
	return map[string]*record.Chunk{
		"empty line": lines(0, ""), "lines": lines(5, "first line", "", "你好"), "gap": gap, "parts": parts,
		"own time": timed, "source streams": sources, "event": event, "tags": tagged, "not UTF-8": lines(0, "\xff\xfe\x00"),
		"long": lines(0, strings.Repeat("x", 512<<10)),
	}
}

func TestBatchDecodesToTheSameRecords(t *testing.T) {
	for name, c := range chunks() {
		t.Run(name, func(t *testing.T) {
			b := record.NewBatch("audit", "host-1", []record.Tag{{"cluster", "hz-1"}})
			b.Add(c)
			groups, err := record.Decode(b.Encoded())
			if err != nil {
				t.Fatal(err)
			}
			if len(groups) != 1 {
				t.Fatalf("got %d groups, want 1", len(groups))
			}
			g := groups[0]
			if got := g.Tag("__stream__") + g.Tag("__hostname__") + g.Tag("cluster"); got != "audithost-1hz-1" {
				t.Errorf("got tags %q", g.Tags)
			}
			records, events, err := g.Records()
			if err != nil {
				t.Fatal(err)
			}
			want := c.Records
			for i := range want {
				if want[i].Time == 0 {
					want[i].Time = c.Time
				}
			}
			if !reflect.DeepEqual(records, want) {
				t.Errorf("got records %v, want %v", records, want)
			}
			if len(events) != len(c.Events) {
				t.Fatalf("got %d events, want %d", len(events), len(c.Events))
			}
			for i, e := range events {
				if !e.Time.Equal(c.Events[i].Time) || !reflect.DeepEqual(e.Fields, c.Events[i].Fields) || e.Name != c.Events[i].Name {
					t.Errorf("got event %v, want %v", e, c.Events[i])
				}
			}
			if got := record.AppendGroups(nil, groups); !bytes.Equal(got, b.Encoded()) {
				t.Error("parse and marshal do not give the same bytes")
			}
		})
	}
}

// The SLS SDK's generated types are the second opinion on the encoding.
func TestBatchDecodesWithTheSDK(t *testing.T) {
	for name, c := range chunks() {
		t.Run(name, func(t *testing.T) {
			b := record.NewBatch("audit", "host-1", []record.Tag{{"cluster", "hz-1"}})
			b.Add(c)
			var list sls.LogGroupList
			if err := list.Unmarshal(b.Encoded()); err != nil {
				t.Fatal(err)
			}
			groups, err := record.Decode(b.Encoded())
			if err != nil {
				t.Fatal(err)
			}
			if got := fromSDK(&list); !reflect.DeepEqual(got, groups) {
				t.Errorf("the SDK reads %v, we read %v", got, groups)
			}
			if theirs, err := list.Marshal(); err != nil || len(theirs) != len(b.Encoded()) {
				t.Errorf("the SDK writes %d bytes, we %d (%v)", len(theirs), len(b.Encoded()), err)
			}
		})
	}
}

func fromSDK(list *sls.LogGroupList) (groups []record.Group) {
	for _, lg := range list.LogGroups {
		var g record.Group
		for _, t := range lg.LogTags {
			g.Tags = append(g.Tags, record.Tag{Key: t.GetKey(), Value: t.GetValue()})
		}
		for _, l := range lg.Logs {
			out := record.Log{Time: int64(l.GetTime())*1e9 + int64(l.GetTimeNs())}
			for _, c := range l.Contents {
				out.Fields = append(out.Fields, record.Field{Key: c.GetKey(), Value: []byte(c.GetValue())})
			}
			g.Logs = append(g.Logs, out)
		}
		groups = append(groups, g)
	}
	return groups
}

func TestTimes(t *testing.T) {
	b := record.NewBatch("s", "h", nil)
	if first, last := b.Times(); first != 0 || last != 0 {
		t.Errorf("empty: got %d, %d", first, last)
	}
	b.Add(&record.Chunk{Moved: []record.Position{position(1, 0, 5)}})
	c := lines(0, "a", "b")
	c.Records[0].Time, c.Records[1].Time = 7e9, 3e9
	b.Add(c)
	b.Add(lines(4, "c"))
	if first, last := b.Times(); first != 3e9 || last != at {
		t.Errorf("got %d, %d, want %d, %d", first, last, int64(3e9), at)
	}
}

func TestHalve(t *testing.T) {
	for n := 2; n <= 9; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			b := record.NewBatch("s", "h", nil)
			var whole []byte
			for i := range n {
				c := lines(int64(10*i), strings.Repeat("z", 8))
				c.Moved = []record.Position{position(uint64(i), 0, int64(i))}
				b.Add(c)
			}
			whole = bytes.Clone(b.Encoded())
			x, y := b.Halve()
			if x.Chunks() == 0 || y.Chunks() == 0 || x.Chunks()+y.Chunks() != n {
				t.Errorf("got %d and %d chunks of %d", x.Chunks(), y.Chunks(), n)
			}
			if x.Records() != x.Chunks() || x.Records()+y.Records() != b.Records() {
				t.Errorf("got %d and %d records of %d", x.Records(), y.Records(), b.Records())
			}
			if got := append(bytes.Clone(x.Encoded()), y.Encoded()...); !bytes.Equal(got, whole) {
				t.Error("the halves are not the whole")
			}
			if got := append(x.Moved(), y.Moved()...); !reflect.DeepEqual(got, b.Moved()) {
				t.Errorf("got positions %v, want %v", got, b.Moved())
			}
			if n > 3 {
				if _, z := y.Halve(); z.Chunks() == 0 {
					t.Error("a half does not halve")
				}
			}
		})
	}
}

func TestMovedMergesAFilesPositions(t *testing.T) {
	b := record.NewBatch("s", "h", nil)
	for _, p := range []record.Position{position(1, 0, 10), position(2, 5, 6), position(1, 10, 30)} {
		b.Add(&record.Chunk{Moved: []record.Position{p}})
	}
	want := []record.Position{position(1, 0, 30), position(2, 5, 6)}
	if got := b.Moved(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	// From 0 again: what lies before is no part of this advance.
	b.Add(&record.Chunk{Moved: []record.Position{position(1, 0, 4)}})
	if got := b.Moved()[0]; !reflect.DeepEqual(got, position(1, 0, 4)) {
		t.Errorf("got %v, want the file begun again", got)
	}
}

// A chunk at its bounds fits in an envelope, whatever the records are.
func TestChunkBounds(t *testing.T) {
	c := &record.Chunk{Path: "/" + strings.Repeat("p", 4095), Offset: 1 << 60, End: 1 << 62, Time: at,
		Tags: []record.Tag{{"__x__", strings.Repeat("v", record.MaxTagBytes-4096-200)}}}
	for i := range record.MaxChunkRecords {
		c.Records = append(c.Records, record.Record{
			Content: make([]byte, record.MaxChunkBytes/record.MaxChunkRecords), Offset: 1<<60 + int64(i)<<20,
			Time: at + int64(i), Part: &record.Part{ID: 1<<64 - 1, Index: 1<<32 - 1, Last: true}})
	}
	b := record.NewBatch("s", "h", nil)
	b.Add(c)
	if b.Size() > record.MaxChunkEncoded {
		t.Errorf("got %d bytes, want at most %d", b.Size(), record.MaxChunkEncoded)
	}
}

func TestParsePart(t *testing.T) {
	for s, ok := range map[string]bool{
		"00000000000000ab.3": true, "00000000000000ab.0$": true, "ffffffffffffffff.4294967295": true,
		"ab.3": false, "00000000000000AB.3": false, "00000000000000ab.03": false, "00000000000000ab": false,
		"00000000000000ab.4294967296": false, "00000000000000ab.-1": false, "": false, "00000000000000ab.$": false,
	} {
		p, err := record.ParsePart(s)
		if (err == nil) != ok {
			t.Errorf("%q: got %v", s, err)
		}
		if err == nil && p.String() != s {
			t.Errorf("%q: got %q back", s, p)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range chunks() {
		b := record.NewBatch("audit", "host-1", nil)
		b.Add(c)
		f.Add(b.Encoded()[:min(b.Size(), 4096)])
		f.Add(b.Encoded())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		groups, err := record.Decode(b)
		if err != nil {
			return
		}
		for i := range groups {
			groups[i].Records()
		}
		once := record.AppendGroups(nil, groups)
		again, err := record.Decode(once)
		if err != nil || !reflect.DeepEqual(again, groups) {
			t.Errorf("got %v (%v), want %v", again, err, groups)
		}
		if !bytes.Equal(record.AppendGroups(nil, again), once) {
			t.Error("marshal is not stable")
		}
	})
}

func BenchmarkBatch(b *testing.B) {
	line := `192.0.2.17 - - [25/Nov/2026:12:00:00 +0000] "GET /index.html?page=4 HTTP/1.1" 200 612 "https://example.org/start" "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"`
	var content []string
	for range record.MaxChunkRecords {
		content = append(content, line)
	}
	c := lines(0, content...)
	batch := record.NewBatch("audit", "host-1", nil)
	b.SetBytes(c.End)
	b.ReportAllocs()
	for b.Loop() {
		if batch.Chunks() == 8 {
			batch.Reset()
		}
		batch.Add(c)
	}
}
