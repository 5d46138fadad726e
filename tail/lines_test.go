package tail_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"sealtail/record"
	"sealtail/tail"
)

// join puts records together again.
func join(recs []record.Record) []byte {
	var b []byte
	for _, r := range recs {
		b = append(b, r.Content...)
		if r.Part == nil || r.Part.Last {
			b = append(b, '\n')
		}
	}
	return b
}

func TestSplit(t *testing.T) {
	for _, tt := range []struct {
		in    string
		max   int
		limit int
		final bool
		want  string // records, | between; parts as <text>, the last as <text$>
		n     int
		full  bool
	}{
		{"", 8, 100, false, "", 0, false},
		{"\n", 8, 100, false, "", 1, false},
		{"a", 8, 100, false, "", 0, false},
		{"a", 8, 100, true, "a", 1, false},
		{"a\nb", 8, 100, false, "a", 2, false},
		{"a\n\nb\n", 8, 100, false, "a||b", 5, false},
		{"a\r\n", 8, 100, false, "a\r", 3, false},
		{"1234567\n", 8, 100, false, "1234567", 8, false},
		{"12345678\n", 8, 100, false, "12345678", 9, false},
		{"12345678", 8, 100, false, "", 0, false},
		{"123456789", 8, 100, false, "<12345678>", 8, false},
		{"123456789\n", 8, 100, false, "<12345678>|<9$>", 10, false},
		{"123456789", 8, 100, true, "<12345678>|<9$>", 9, false},
		{"12345678901234567\nx\n", 8, 100, false, "<12345678>|<90123456>|<7$>|x", 20, false},
		{"1234567ä\n", 8, 100, false, "<1234567>|<ä$>", 10, false},
		{"123456€x\n", 8, 100, false, "<123456>|<€x$>", 11, false},
		{"12345€xx\n", 8, 100, false, "<12345€>|<xx$>", 11, false},
		{"12345😀\n", 8, 100, false, "<12345>|<😀$>", 10, false},
		{"\x80\x80\x80\x80\x80\x80\x80\x80\x80\n", 8, 100, false, "<\x80\x80\x80\x80\x80\x80\x80\x80>|<\x80$>", 10, false},
		{"1234567\xff\xff\n", 8, 100, false, "<1234567\xff>|<\xff$>", 10, false},
		{"aa\nbb\ncc\n", 8, 5, false, "aa", 3, true},
		{"aa\nbb\ncc\n", 8, 6, false, "aa|bb", 6, true},
		{"aaaaaa\nb\n", 8, 3, false, "aaaaaa", 7, true},
	} {
		recs, n, full := tail.Split([]byte(tt.in), tt.max, tt.limit, tt.final)
		var got []string
		for i, r := range recs {
			s := string(r.Content)
			if r.Part != nil {
				s = "<" + s + map[bool]string{true: "$"}[r.Part.Last] + ">"
			}
			if i > 0 && r.Offset <= recs[i-1].Offset && len(recs[i-1].Content) > 0 {
				t.Errorf("%q: offsets %d, %d", tt.in, recs[i-1].Offset, r.Offset)
			}
			got = append(got, s)
		}
		if s := strings.Join(got, "|"); s != tt.want || n != tt.n || full != tt.full {
			t.Errorf("%q: got %q, %d, %t; want %q, %d, %t", tt.in, s, n, full, tt.want, tt.n, tt.full)
		}
	}
}

func TestSplitRecordLimit(t *testing.T) {
	in := bytes.Repeat([]byte("x\n"), record.MaxChunkRecords+1)
	recs, n, full := tail.Split(in, 8, 1<<20, false)
	if len(recs) != record.MaxChunkRecords || n != 2*record.MaxChunkRecords || !full {
		t.Errorf("got %d records, %d bytes, full %t", len(recs), n, full)
	}
}

// Records and their line ends are the input, whatever it is; no piece of valid
// UTF-8 is cut inside a sequence.
func FuzzSplit(f *testing.F) {
	for _, s := range []string{"", "\n", "a\n", "a\r\n\r\n", "no end", "\x00\x00\n", "äöü€😀\n", "\xff\xfe\n", strings.Repeat("long ", 40) + "\nx\n"} {
		f.Add([]byte(s), 8, 64)
	}
	f.Fuzz(func(t *testing.T, in []byte, max, limit int) {
		if max < 4 || limit < 1 {
			return
		}
		whole := append(bytes.Clone(in), '\n')
		var recs []record.Record
		part := tail.NewPart()
		for at := 0; at < len(whole); {
			rs, n, _ := part.Split(whole[at:], int64(at), max, limit)
			if n == 0 || len(rs) == 0 {
				t.Fatalf("stopped at %d of %d", at, len(whole))
			}
			recs = append(recs, rs...)
			at += n
		}
		if got := join(recs); !bytes.Equal(got, whole) {
			t.Fatalf("got %q, want %q", got, whole)
		}
		off := int64(0)
		for i, r := range recs {
			if len(r.Content) > max {
				t.Fatalf("record of %d bytes, most %d", len(r.Content), max)
			}
			if r.Offset != off {
				t.Fatalf("record %d at %d, want %d", i, r.Offset, off)
			}
			off += int64(len(r.Content))
			if r.Part == nil || r.Part.Last {
				off++
			}
			if utf8.Valid(in) && !utf8.Valid(r.Content) {
				t.Fatalf("a sequence is cut: %q", r.Content)
			}
		}
	})
}

// An unfinished first line is followed, for however long.
func TestH22_FirstLineUnfinished(t *testing.T) {
	b := newBench(t)
	for range 20 {
		b.write("a.log", "more ")
		b.step(second)
		b.want()
	}
	b.write("a.log", "\n")
	b.step(second)
	b.want(strings.Repeat("more ", 20))
}

// A huge line is cut; its neighbours are intact, and so are the offsets.
func TestH45_HugeLine(t *testing.T) {
	huge := strings.Repeat("x", 3<<20) + "end"
	b := newBench(t)
	b.write("a.log", "before\n"+huge+"\nafter\n")
	b.step(0)
	b.want("before", huge, "after")
	b.write("a.log", "later\n")
	b.step(second)
	b.want("later")
}

// Offsets count raw bytes, also behind a huge line (the bench checks each).
func TestH46_OffsetAfterHugeLine(t *testing.T) {
	for _, n := range []int{1<<18 - 1, 1 << 18, 1<<18 + 1, 1<<19 - 1, 1 << 19, 1<<19 + 1, 1 << 20} {
		b := newBench(t)
		long := strings.Repeat("y", n)
		b.write("a.log", "before\n"+long+"\nafter\n")
		b.step(0)
		b.want("before", long, "after")
		if p, want := b.position("a.log"), int64(n+14); p.Offset != want {
			t.Errorf("%d: offset %d, want %d", n, p.Offset, want)
		}
	}
}

// A line without end goes on in parts, over a restart too, under one id.
func TestH47_NoNewlineEver(t *testing.T) {
	b := newBench(t)
	b.o.MaxRecord = 1000
	piece := strings.Repeat("0123456789", 75)
	for i := range 20 {
		b.write("a.log", piece)
		b.step(second)
		if i%3 == 0 {
			b.start()
		}
	}
	b.want()
	if len(b.parts) != 1 {
		t.Fatalf("ids: got %d, want 1", len(b.parts))
	}
	if p := b.position("a.log"); p.Offset < 14000 || p.Sources[0].PartNext == 0 {
		t.Errorf("position: %+v", p)
	}
	b.write("a.log", "\nnext\n")
	b.step(second)
	b.want(strings.Repeat(piece, 20), "next")
	if p := b.position("a.log"); len(p.Sources) != 0 {
		t.Errorf("position: %+v", p)
	}
}

// A UTF-8 sequence across two reads or a cut is kept whole.
func TestH48_SequenceKeptWhole(t *testing.T) {
	for shift := range 4 {
		b := newBench(t)
		b.o.MaxRecord = 1000
		text := strings.Repeat("x", shift) + strings.Repeat("😀", 1000)
		for i := range len(text) {
			if i%997 == 0 {
				b.write("a.log", text[i:min(len(text), i+997)])
				b.step(second)
			}
		}
		b.write("a.log", "\n")
		b.step(second)
		for _, ps := range b.parts {
			for _, p := range ps {
				if !utf8.ValidString(p) {
					t.Fatalf("a sequence is cut: %q", p[len(p)-8:])
				}
			}
		}
		b.want(text)
	}
}

// A CR before the LF is part of the line end where that is asked for.
func TestH56_CRLFAndEmptyLines(t *testing.T) {
	for trim, want := range map[bool][]string{
		false: {"a\r", "\r", "", "", "b\r"},
		true:  {"a", "", "", "", "b"},
	} {
		b := newBench(t)
		b.o.TrimCR, b.loose = trim, true
		b.write("a.log", "a\r\n\r\n\n\nb\r")
		b.step(0)
		b.write("a.log", "\n")
		b.step(second)
		b.want(want...)
	}
}

func TestH57_NULsAreData(t *testing.T) {
	b := newBench(t)
	nul := strings.Repeat("\x00", 5000)
	b.write("a.log", "a\n"+nul+"b\n\x00\n")
	b.step(0)
	b.want("a", nul+"b", "\x00")
}

func TestH58_InvalidUTF8(t *testing.T) {
	b := newBench(t)
	var all []byte
	for i := range 256 {
		if i != '\n' {
			all = append(all, byte(i))
		}
	}
	b.write("a.log", string(all)+"\n\xc3\n\xe2\x82\n")
	b.step(0)
	b.want(string(all), "\xc3", "\xe2\x82")
}

func TestShortLines(t *testing.T) {
	b := newBench(t)
	var want []string
	var s strings.Builder
	for i := range 30000 {
		l := fmt.Sprintf("%d", i)
		if i%1000 == 0 {
			l = strings.Repeat("long", i/10)
		}
		want = append(want, l)
		s.WriteString(l + "\n")
	}
	b.write("a.log", s.String())
	b.step(0)
	b.want(want...)
}
