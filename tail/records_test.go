package tail_test

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"

	"sealtail/record"
	"sealtail/tail"
)

// A GB18030 sequence across two reads, a cut or a restart is kept whole.
func TestH48_GB18030(t *testing.T) {
	text := strings.Repeat("日志𠀀é", 300)
	raw, err := simplifiedchinese.GB18030.NewEncoder().String(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 2, 3, 5, 997} {
		b := newBench(t)
		b.o.Encoding, b.o.MaxRecord, b.loose = "gb18030", 500, true
		for i := 0; i < len(raw); i += size {
			b.write("a.log", raw[i:min(len(raw), i+size)])
			if i%7 == 0 || size > 5 {
				b.step(second)
			}
			if i%31 == 0 {
				b.start()
			}
		}
		b.write("a.log", "\n")
		b.step(second)
		b.want(text)
	}
}

// A malformed line at the edge of a chunk is counted once.
func TestMalformedCounted(t *testing.T) {
	b := newBench(t)
	b.o.Format = "cri"
	const n = 2*record.MaxChunkRecords + 1
	b.write("a.log", numbered("malformed", 0, n))
	b.step(0)
	b.want(lines(numbered("malformed", 0, n))...)
	if got := b.tail.Stats().Malformed; got != n {
		t.Errorf("malformed: got %d, want %d", got, n)
	}
}

// A CRLF across two reads, a piece or a restart is one line end.
func TestH49_CRLFAcrossReads(t *testing.T) {
	b := newBench(t)
	b.o.TrimCR, b.o.MaxRecord, b.loose = true, 8, true
	b.write("a.log", "1234567\r")
	b.step(second)
	b.step(10 * second) // sealed as a piece, without the CR
	b.start()
	b.write("a.log", "\n12345678\r")
	b.step(second)
	b.write("a.log", "\n\r\r\n")
	b.step(second)
	b.want("1234567", "12345678", "\r")
}

// UTF-16 by its mark, resumed in the middle.
func TestH50_UTF16Resumed(t *testing.T) {
	for name, order := range map[string]unicode.Endianness{"le": unicode.LittleEndian, "be": unicode.BigEndian} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.o.Encoding, b.loose = "utf-16", true
			enc := unicode.UTF16(order, unicode.ExpectBOM).NewEncoder()
			raw, err := enc.String("first ਊ\nsecond ਊ line\nthird\n") // U+0A0A is no line end
			if err != nil {
				t.Fatal(err)
			}
			for i := range len(raw) {
				b.write("a.log", raw[i:i+1])
				b.step(second / 10)
				if i%5 == 0 {
					b.start()
				}
				if p := b.position("a.log"); p.Offset%2 != 0 {
					t.Fatalf("offset %d", p.Offset)
				}
			}
			b.want("first ਊ", "second ਊ line", "third")
			if p := b.position("a.log"); p.Encoding == 0 {
				t.Error("the byte order is not kept")
			}
		})
	}
}

// A line that stays unfinished is sealed, and is one record with what ends it,
// over restarts too.
func TestH51_UnfinishedLineFlushed(t *testing.T) {
	b := newBench(t)
	b.write("a.log", "whole\nunfin")
	b.step(0)
	b.step(4 * second)
	if b.want("whole"); len(b.parts) != 0 {
		t.Fatal("flushed too early")
	}
	b.step(2 * second)
	if got := fmt.Sprint(b.parts); !strings.Contains(got, "[unfin]") {
		t.Fatalf("not flushed: %s", got)
	}
	if p := b.position("a.log"); p.Offset != 11 {
		t.Errorf("offset %d, want 11", p.Offset)
	}
	b.start()
	b.write("a.log", "ish")
	b.step(0)
	b.step(6 * second)
	b.write("a.log", "ed\nnext\n")
	b.step(second)
	b.want("unfinished", "next")
	if len(b.parts) != 1 {
		t.Errorf("ids: got %d, want 1", len(b.parts))
	}
	// The new line begins a wait of its own.
	b.write("a.log", "a")
	b.step(second)
	b.step(4 * second)
	b.write("a.log", "\nb")
	b.step(2 * second)
	b.step(4 * second)
	if b.want("a"); len(b.parts) != 1 {
		t.Error("flushed too early")
	}
}

// The end of what was flushed and deleted.
func TestFlushedAndDeleted(t *testing.T) {
	b := newBench(t)
	b.write("a.log", "unfinished")
	b.step(0)
	b.step(6 * second)
	b.remove("a.log")
	b.step(second)
	b.step(31 * second)
	b.step(second)
	b.want("unfinished")
}

// What is unfinished when the agent ends stays in its file.
func TestH52_RecordUnfinishedAtStop(t *testing.T) {
	for _, o := range []tail.Options{{}, {Format: "cri"}, {Multiline: tail.Multiline{Preset: "java"}}} {
		b := newBench(t)
		o.Include, o.Key, o.Found = b.o.Include, b.o.Key, b.o.Found
		b.o, b.loose = o, true
		whole, rest := "whole\n", "rest"
		if o.Format != "" {
			whole, rest = criLine("stdout", "F", "whole"), criLine("stdout", "P", "rest")
		}
		b.write("a.log", whole+rest)
		b.step(0)
		if o.Multiline.Preset != "" {
			b.want()
		} else {
			b.want("whole")
		}
		if p := b.position("a.log"); o.Multiline.Preset == "" && p.Offset != int64(len(whole)) {
			t.Errorf("offset %d, want %d", p.Offset, len(whole))
		}
		b.start()
		if o.Format != "" {
			b.write("a.log", criLine("stdout", "F", " of it"))
		} else {
			b.write("a.log", " of it\n")
		}
		b.step(0)
		b.step(6 * second)
		if o.Multiline.Preset != "" {
			b.want("whole", "rest of it")
		} else {
			b.want("rest of it")
		}
	}
}

// A joined record that is open when the agent ends, crashes or the file is
// rotated is one whole record afterwards.
func TestH53_MultilineOpen(t *testing.T) {
	const trace = "ERROR x\n\tat a\n\tat b\n"
	start := func(t *testing.T) *bench {
		b := newBench(t)
		b.o.Multiline, b.loose = tail.Multiline{Preset: "java"}, true
		b.write("a.log", "INFO 1\n"+trace)
		b.step(0)
		b.want("INFO 1")
		if p := b.position("a.log"); p.Offset != 7 {
			t.Fatalf("offset %d, want 7", p.Offset)
		}
		return b
	}
	t.Run("stop", func(t *testing.T) {
		b := start(t)
		b.start()
		b.write("a.log", "\tat c\nINFO 2\n")
		b.step(0)
		b.want("ERROR x\n\tat a\n\tat b\n\tat c")
		b.step(6 * second)
		b.want("INFO 2")
	})
	t.Run("crash", func(t *testing.T) {
		b := start(t)
		b.write("a.log", "\tat c\nINFO 2\n")
		for _, c := range b.tail.Step(second) {
			c.Release() // not committed
		}
		b.start()
		b.step(0)
		b.want("ERROR x\n\tat a\n\tat b\n\tat c")
	})
	t.Run("copytruncate", func(t *testing.T) {
		for _, to := range []string{"a.log.1", "a.1.log", ""} { // the pattern takes the second
			for _, restart := range []string{"", "before", "after", "found"} {
				t.Run(to+restart, func(t *testing.T) {
					b := start(t)
					if restart == "before" {
						b.stop()
					}
					if to != "" {
						b.copy("a.log", to)
					}
					b.truncate("a.log", 0)
					if restart == "after" {
						b.step(second)
					}
					b.write("a.log", "\tat c\nINFO 2\n")
					if restart == "found" {
						b.tail.Round(second)
					}
					if restart != "" {
						b.start()
					}
					for range 20 {
						b.step(second)
					}
					if to == "" {
						b.wantSet("\tat c", "INFO 2")
						reason := map[string]string{"": "truncated unread", "before": "rewritten unread"}[restart]
						b.wantLosses(fmt.Sprintf("a.log 7-%d %s", 7+len(trace), cmp.Or(reason, "deleted unread")))
					} else {
						b.wantSet("ERROR x\n\tat a\n\tat b\n\tat c", "INFO 2")
						b.wantLosses()
					}
					b.start()
					b.write("a.log", "INFO 3\n")
					b.step(0)
					for range 10 {
						b.step(second)
					}
					b.want("INFO 3")
				})
			}
		}
	})
	t.Run("rotation", func(t *testing.T) {
		for _, to := range []string{"a.log.1", "a.1.log"} {
			for _, restart := range []string{"", "before", "after", "found"} {
				b := start(t)
				if restart == "before" {
					b.stop()
				}
				b.rename("a.log", to)
				if restart == "after" {
					b.step(second)
				}
				b.write("a.log", "\tat c\nINFO 2\n")
				if restart == "found" {
					b.tail.Round(second)
				}
				if restart != "" {
					b.start()
				}
				b.step(second)
				b.step(second)
				if !slices.Equal(b.lines, []string{"ERROR x\n\tat a\n\tat b\n\tat c"}) {
					t.Fatalf("%s, restart %q: got %q", to, restart, b.lines)
				}
				b.lines = nil
				if got := b.position("a.log"); got.Offset != 6 {
					t.Errorf("%s, restart %q: position %+v", to, restart, got)
				}
				if got := b.position(to); got.Offset != 27 || got.Next == 0 {
					t.Errorf("%s, restart %q: position %+v", to, restart, got)
				}
				b.step(6 * second)
				b.want("INFO 2")
				b.ledger()
			}
		}
	})
	t.Run("rotation without more", func(t *testing.T) {
		b := start(t)
		b.rename("a.log", "a.log.1")
		b.write("a.log", "INFO 2\n")
		b.step(second)
		b.step(second)
		b.want("ERROR x\n\tat a\n\tat b")
		b.step(6 * second)
		b.want("INFO 2")
	})
	t.Run("empty successor", func(t *testing.T) {
		b := start(t)
		b.rename("a.log", "a.log.1")
		b.write("a.log", "")
		b.step(second)
		b.step(6 * second)
		b.want("ERROR x\n\tat a\n\tat b")
		b.write("a.log", "\tat c\nINFO 2\n")
		b.step(second)
		b.step(6 * second)
		b.want("\tat c", "INFO 2")
	})
}

// A partial line goes on in the file that follows a rotated one.
func TestH54_CRIAcrossRotation(t *testing.T) {
	for _, tt := range []struct {
		name        string
		wait        time.Duration // between rotation and the rest
		down        bool
		parts, next int
	}{
		{name: "at once"}, {name: "while down", down: true}, {name: "sealed in parts", wait: 6 * second, parts: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, "*/*.log")
			b.o.Format, b.loose = "cri", true
			const log, old = "ns_pod_uid/c/0.log", "ns_pod_uid/c/0.log.20261123-144555"
			b.o.Include = []string{b.path("*/*/*.log")}
			b.write(log, criLine("stdout", "F", "first")+criLine("stdout", "P", "one ")+criLine("stderr", "F", "e1"))
			b.step(0)
			b.want("first", "e1")
			if tt.down {
				b.stop()
			}
			b.rename(log, old)
			b.write(log, "")
			if !tt.down {
				b.step(second)
				b.step(tt.wait)
			}
			b.write(log, criLine("stderr", "F", "e2")+criLine("stdout", "P", "two ")+criLine("stderr", "P", "e3 ")+criLine("stdout", "F", "three")+criLine("stdout", "F", "last"))
			b.step(second)
			b.step(second)
			b.start()
			b.write(log, criLine("stderr", "F", "end"))
			b.step(second)
			b.step(second)
			b.wantSet("one two three", "e2", "e3 end", "last")
			if len(b.parts) != tt.parts {
				t.Errorf("records in parts: %d, want %d", len(b.parts), tt.parts)
			}
			if p := b.position(log); p.Offset != p.Size || len(p.Sources) > 0 {
				t.Errorf("position %+v", p)
			}
		})
	}
}

// A line is torn at a rotation, and its first half comes to the old file when
// its second is in the new one.
func TestH54_TornAtRotation(t *testing.T) {
	b := newBench(t, "*/*.log")
	b.o.Format, b.loose = "cri", true
	const log, old = "ns_pod_uid/c/0.log", "ns_pod_uid/c/0.log.20261123-144555"
	b.o.Include = []string{b.path("*/*/*.log")}
	b.write(log, criLine("stdout", "F", "first"))
	b.step(0)
	b.want("first")
	b.rename(log, old)
	b.write(log, criLine("stdout", "F", "second half")+criLine("stdout", "F", "next"))
	b.step(second)
	b.want()
	b.write(old, criLine("stdout", "P", "first half, "))
	b.step(second)
	b.step(second)
	b.wantSet("first half, second half", "next")
	if p := b.position(log); p.Offset != p.Size || len(p.Sources) > 0 {
		t.Errorf("position %+v", p)
	}
}

// What was rotated before it was seen goes on in the next, too: a container that
// floods, or no agent for a while.
func TestH54_RotatedUnseen(t *testing.T) {
	for _, known := range []bool{false, true} {
		b := newBench(t, "*/*.log")
		b.o.Format, b.loose = "cri", true
		const log = "ns_pod_uid/c/0.log"
		b.o.Include = []string{b.path("*/*/*.log*")}
		b.write(log, criLine("stdout", "F", "first")+criLine("stdout", "P", "a1 "))
		if known {
			b.step(0)
			b.want("first")
			b.stop()
		}
		old := time.Now().Add(-time.Minute)
		for i, text := range []string{
			criLine("stdout", "F", "a2") + criLine("stdout", "P", "b1 "),
			criLine("stdout", "F", "b2") + criLine("stdout", "P", "c1 "),
			criLine("stdout", "F", "c2") + criLine("stdout", "F", "last"),
		} {
			name := fmt.Sprintf("%s.20261123-14455%d", log, 5-i) // names tell no order
			b.rename(log, name)
			b.do(os.Chtimes(b.path(name), old, old.Add(time.Duration(i)*time.Second)))
			b.write(log, text)
		}
		for range 5 {
			b.step(second)
		}
		want := []string{"a1 a2", "b1 b2", "c1 c2", "last"}
		if !known {
			want = append(want, "first")
		}
		b.wantSet(want...)
		if p := b.position(log); p.Offset != p.Size || len(p.Sources) > 0 {
			t.Errorf("position %+v", p)
		}
	}
}

// Pieces of stdout and stderr that lie between one another are joined apart,
// with the time of the first, and the tags of the path.
func TestH55_InterleavedPartials(t *testing.T) {
	b := newBench(t)
	b.o.Format, b.loose = "cri", true
	b.o.Include = []string{b.path("containers/*.log")}
	b.write("pods/ns_pod_uid/app/2.log", strings.Replace(criLine("stdout", "P", "o1 "), "14:45:55", "14:45:54", 1)+criLine("stderr", "P", "e1 ")+criLine("stderr", "F", "e2")+criLine("stderr", "F", "e3"))
	b.do(os.Mkdir(b.path("containers"), 0o755))
	b.do(os.Symlink(b.path("pods/ns_pod_uid/app/2.log"), b.path("containers/pod_ns_app-0123.log")))
	b.step(0)
	b.want("e1 e2", "e3")
	b.start() // stderr lies behind the open record, and does not come again
	b.write("pods/ns_pod_uid/app/2.log", criLine("stderr", "F", "e4"))
	b.step(0)
	b.want("e4")
	b.write("pods/ns_pod_uid/app/2.log", criLine("stdout", "F", "o2"))
	b.stamps = nil
	chunks := b.tail.Step(second)
	if len(chunks) != 1 || len(chunks[0].Tags) != 5 || chunks[0].Tags[1] != (record.Tag{Key: "__pod_name__", Value: "pod"}) {
		t.Errorf("chunks %+v", chunks)
	}
	for _, c := range chunks {
		b.take(c)
	}
	b.want("o1 o2")
	if r := b.stamps[0]; r.Source != "stdout" || r.Time != (stampUnix-1)*1e9+123456789 || r.Offset != 0 {
		t.Errorf("record %+v", r)
	}
	if p := b.position("containers/pod_ns_app-0123.log"); p.Offset != p.Size || len(p.Sources) > 0 {
		t.Errorf("position %+v", p)
	}
}

func TestFilters(t *testing.T) {
	for _, o := range []tail.Options{{}, {Multiline: tail.Multiline{Start: "^[A-Z]"}}} {
		b := newBench(t)
		b.o.Multiline, b.loose = o.Multiline, true
		b.o.Keep, b.o.Drop = []string{"WARN", "INFO"}, []string{"health"}
		text := "DEBUG x\nINFO a\nINFO health\nWARN b\nDEBUG y\nEND\n"
		b.write("a.log", text)
		b.step(0)
		b.step(6 * second)
		b.want("INFO a", "WARN b")
		n := b.tail.Stats()
		if n.Filtered != 4 || n.Dropped != int64(len(text)-len("INFO a\nWARN b\n")) || n.Records != 2 || n.Bytes != int64(len(text)) {
			t.Errorf("stats %+v", n)
		}
		b.write("a.log", "DEBUG 1\nDEBUG 2\nEND\n")
		b.step(second)
		b.step(6 * second)
		b.want()
		if p := b.position("a.log"); p.Offset != p.Size {
			t.Errorf("position %+v", p)
		}
	}
}

// A cri writes a container's log as the kubelet and containerd do.
type criWriter struct {
	*bench
	r       *rand.Rand
	log     string
	open    map[string]string // of a source stream: the record that its last P goes on
	torn    string            // the rest of a line that was not written whole
	want    map[string]bool   // records that must come
	written int
	rotated int
	pending []taken
	log_    []string
}

func (m *criWriter) logf(format string, a ...any) { m.log_ = append(m.log_, fmt.Sprintf(format, a...)) }

func (m *criWriter) failf(format string, a ...any) {
	m.t.Helper()
	n := len(m.log_)
	m.t.Fatalf(format+"\nlast of %d steps:\n%s", append(a, n, strings.Join(m.log_[max(0, n-90):], "\n"))...)
}

func (m *criWriter) append() {
	var s strings.Builder
	s.WriteString(m.torn)
	for range 1 + m.r.IntN(8) {
		source := []string{"stdout", "stderr"}[m.r.IntN(2)]
		text := m.open[source]
		piece := strings.Repeat("x", m.r.IntN(30))
		if text == "" {
			m.written++
			piece = fmt.Sprintf("%s-%d-%s", source, m.written, piece)
		}
		if m.r.IntN(3) == 0 {
			s.WriteString(criLine(source, "P", piece))
			m.open[source] = text + piece
			continue
		}
		s.WriteString(criLine(source, "F", piece))
		m.open[source] = ""
		m.want[text+piece] = true
	}
	all := s.String()
	cut := len(all)
	if m.r.IntN(4) == 0 {
		cut = len(m.torn) + m.r.IntN(len(all)-len(m.torn))
	}
	m.torn = all[cut:]
	m.write(m.log, all[:cut])
	m.logf("append %q", strings.ReplaceAll(all[:cut], stamp, ""))
}

func (m *criWriter) rotate() {
	if m.torn != "" { // a runtime writes whole lines
		m.write(m.log, m.torn)
		m.torn = ""
	}
	m.rotated++
	m.logf("rotate %d", m.rotated)
	m.rename(m.log, fmt.Sprintf("%s.2026112%d", m.log, m.rotated))
	m.write(m.log, "")
}

func (m *criWriter) receive(n int) {
	for range n {
		c := m.tail.Next()
		if c == nil {
			return
		}
		var t taken
		for _, r := range c.Records {
			r.Content = slices.Clone(r.Content)
			t.recs = append(t.recs, r)
		}
		t.moved = append(t.moved, c.Moved...)
		var moved []string
		for _, p := range t.moved {
			moved = append(moved, fmt.Sprintf("%s:%d/%d %v next %d", p.Path[len(m.dir)+15:], p.Offset, p.Size, p.Sources, p.Next%100))
		}
		m.logf("chunk of %s: %q, moved %q", c.Path[len(m.dir):], shown(t.recs), moved)
		c.Release()
		m.pending = append(m.pending, t)
	}
}

func (m *criWriter) commit(n int) {
	for _, t := range m.pending[:n] {
		m.bench.commit(&record.Chunk{Moved: t.moved})
		for _, r := range t.recs {
			text, whole := string(r.Content), true
			if p := r.Part; p != nil {
				if m.parts == nil {
					m.parts = map[uint64][]string{}
				}
				if int(p.Index) != len(m.parts[p.ID]) {
					m.failf("part %d of %x, want %d", p.Index, p.ID, len(m.parts[p.ID]))
				}
				m.parts[p.ID] = append(m.parts[p.ID], text)
				text, whole = strings.Join(m.parts[p.ID], ""), p.Last
			}
			if !whole {
				continue
			}
			if !m.bench.loose || !m.want[text] || !strings.HasPrefix(text, r.Source) {
				m.failf("record %q of %s is not one that was written, or comes again", text, r.Source)
			}
			delete(m.want, text)
		}
	}
	m.pending = m.pending[n:]
}

// Whatever pieces of stdout and stderr lie where, over rotations and crashes at
// any moment, every record comes whole, once.
func TestCRIModel(t *testing.T) {
	seed := *modelSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-model.seed=%d -model.steps=%d", seed, *modelSteps)
	for i := range uint64(4) {
		m := &criWriter{bench: newBench(t), r: rand.New(rand.NewPCG(seed, i)), log: "ns_pod_uid/c/0.log", open: map[string]string{}, want: map[string]bool{}}
		m.o.Include = []string{m.path("*/*/*.log")}
		m.o.Format, m.loose = "cri", true
		m.write(m.log, "")
		m.start()
		m.tail.Round(0)
		for range *modelSteps / 4 {
			m.ledger()
			switch k := m.r.IntN(100); {
			case k < 40:
				m.append()
			case k < 46:
				m.rotate()
				m.tail.Round(second) // twice between two rounds is for others to test
			case k < 52:
				m.logf("wait")
				m.tail.Round(time.Duration(m.r.IntN(9)) * second)
			case k < 90:
				m.tail.Round(second)
				m.receive(m.r.IntN(4))
				m.commit(m.r.IntN(len(m.pending) + 1))
			default:
				n := m.r.IntN(len(m.pending) + 1)
				m.logf("restart, %d of %d committed", n, len(m.pending))
				m.commit(n)
				m.pending = nil
				m.start()
				m.tail.Round(0)
			}
		}
		m.write(m.log, m.torn)
		for range 50 {
			m.tail.Round(second)
			m.receive(1 << 30)
		}
		m.commit(len(m.pending))
		if len(m.want) > 0 {
			t.Fatalf("%d of %d records did not come, such as %v", len(m.want), m.written, m.want)
		}
		m.stop()
	}
}

// Random text, in any pieces, gives the same records.
func TestAnyChunking(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 7))
	words := []string{"a", "\tat x", "# new", "", "x.", "Traceback (most recent call last):", "panic: x", "goroutine 1 [running]:", "中文", "\r", "\xff", strings.Repeat("long ", 20)}
	line := func() string { return words[r.IntN(len(words))] + words[r.IntN(len(words))] }
	for i := range 300 {
		var text strings.Builder
		format := []string{"lines", "cri", "docker"}[r.IntN(3)]
		for range r.IntN(60) {
			source := []string{"stdout", "stderr"}[r.IntN(2)]
			switch {
			case format == "lines":
				text.WriteString(line() + "\n")
			case r.IntN(20) == 0:
				text.WriteString("malformed " + line() + "\n")
			case format == "cri":
				text.WriteString(criLine(source, []string{"P", "F", "F"}[r.IntN(3)], line()))
			default:
				text.WriteString(dockerLine(source, line()+[]string{"", "\n", "\n"}[r.IntN(3)]))
			}
		}
		o := tail.Options{Format: format, TrimCR: r.IntN(2) == 0}
		if r.IntN(2) == 0 {
			o.MaxRecord = 16 + r.IntN(200)
		}
		if format == "lines" {
			o.Encoding = []string{"utf-8", "gb18030", "gbk", "utf-16le", "utf-16be"}[r.IntN(5)]
		}
		o.Multiline = []tail.Multiline{{}, {Preset: "java"}, {Preset: "python"}, {Preset: "go"}, {Preset: "node"}, {Start: "^#"}, {End: "[.]$"}}[r.IntN(7)]
		if r.IntN(3) == 0 && o.Multiline != (tail.Multiline{}) {
			o.Multiline.MaxBytes = 10
		}
		if r.IntN(4) == 0 {
			o.Drop = []string{"^a"}
		}
		anyChunking(t, o, []byte(text.String()), uint64(i))
	}
}

// A stream that begins at the end of its files begins behind a whole line there.
func TestEndsOfUTF16(t *testing.T) {
	b := newBench(t)
	b.o.Encoding, b.loose = "utf-16", true
	enc := unicode.UTF16(unicode.BigEndian, unicode.UseBOM).NewEncoder()
	raw, err := enc.String("first\nsecond\nunfiniਊ")
	if err != nil {
		t.Fatal(err)
	}
	b.write("a.log", raw)
	b.start()
	ends, err := b.tail.Ends(t.Context())
	if err != nil || len(ends) != 1 || ends[0].Offset != 2+2*13 {
		t.Fatalf("got %+v, %v", ends, err)
	}
	b.commit(&record.Chunk{Moved: ends})
	b.write("a.log", "\x00s\x00\n")
	b.step(second)
	b.want("unfiniਊs")
}

// What a damaged spool lost is made records again as it was.
func TestHoleOfJoinedRecords(t *testing.T) {
	b := newBench(t)
	b.o.Format, b.loose = "cri", true
	text := criLine("stdout", "P", "a") + criLine("stderr", "F", "e") + criLine("stdout", "F", "b") + criLine("stdout", "F", "c")
	b.write("a.log", text)
	b.step(0)
	b.want("e", "ab", "c")
	p := b.position("a.log")
	hole := p
	hole.ID, hole.Offset, hole.From, hole.Until, hole.Size, hole.Marker = 4711, 0, 0, p.Offset, p.Offset, record.Print{}
	b.commit(&record.Chunk{Moved: []record.Position{hole}})
	b.start()
	for range 3 {
		b.step(second) // it takes turns with the files
	}
	b.wantLosses()
	b.want("e", "ab", "c")
	if _, ok := b.pos.Get(4711); ok {
		t.Error("the hole is kept")
	}
}

// A hole has just what its source streams lost, and a record that is cut at its
// end goes on behind it.
func TestHoleWithinRecords(t *testing.T) {
	utf16 := func(s string) string {
		raw, err := unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM).NewEncoder().String(s)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	n := int64(len(criLine("stdout", "P", "a")))
	source := func(name string, skip int64) record.Source { return record.Source{Name: name, Skip: skip} }
	for _, tt := range []struct {
		name, format, encoding string
		text                   string
		hole                   record.Position
		want                   []string
		parts                  []record.Part // if the records are pieces; ID 0 = a new one
	}{
		{"stderr only", "cri", "", criLine("stdout", "P", "a") + criLine("stderr", "F", "b") + criLine("stderr", "F", "c") + criLine("stderr", "F", "d") + criLine("stdout", "F", "e"),
			record.Position{Offset: 0, Sources: []record.Source{source("stderr", 2*n)}, Size: 0, Until: 3 * n, Ends: []record.Source{source("stderr", 3*n)}}, []string{"c"}, nil},
		{"stdout only", "cri", "", criLine("stdout", "P", "a") + criLine("stderr", "F", "b") + criLine("stdout", "F", "c") + criLine("stdout", "F", "d") + criLine("stderr", "F", "e"),
			record.Position{Offset: 0, Sources: []record.Source{source("stderr", 5*n)}, Size: 3 * n, Until: 3 * n, Ends: []record.Source{source("stderr", 5*n)}}, []string{"ac"}, nil},
		{"a cut record that goes on", "cri", "", criLine("stdout", "P", "a") + criLine("stderr", "F", "b") + criLine("stdout", "P", "c") + criLine("stdout", "F", "d"),
			record.Position{Offset: 0, Sources: []record.Source{{Name: "stdout", PartID: 9, PartNext: 4}}, Size: 3 * n, Until: 3 * n, Ends: []record.Source{{Name: "stdout", PartID: 9, PartNext: 5}}},
			[]string{"b", "ac"}, []record.Part{{}, {ID: 9, Index: 4}}},
		{"of lines", "", "", "one\ntwothree\nfour\n",
			record.Position{Offset: 0, Size: 7, Until: 7, Ends: []record.Source{{PartID: 9, PartNext: 1}}}, []string{"one", "two"}, []record.Part{{}, {Index: 0}}},
		{"its last piece", "", "", "one\ntwothree\nfour\n",
			record.Position{Offset: 7, Sources: []record.Source{{PartID: 9, PartNext: 1}}, Size: 13, Until: 13}, []string{"three"}, []record.Part{{ID: 9, Index: 1, Last: true}}},
		{"of UTF-16", "", "utf-16le", utf16("one\ntwothree\nfour\n"),
			record.Position{Offset: 8, Sources: []record.Source{{PartID: 9, PartNext: 1}}, Size: 14, Until: 14, Ends: []record.Source{{PartID: 9, PartNext: 2}}}, []string{"two"}, []record.Part{{ID: 9, Index: 1}}},
		{"too little of a character", "", "", "€uro\n",
			record.Position{Offset: 0, Size: 2, Until: 2, Ends: []record.Source{{PartID: 9, PartNext: 1}}}, []string{"\xe2\x82"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.o.Format, b.o.Encoding, b.o.MaxOpen = tt.format, tt.encoding, 10
			b.write("a.log", tt.text)
			b.start()
			ends, err := b.tail.Ends(t.Context())
			if err != nil || len(ends) != 1 {
				t.Fatal(ends, err)
			}
			h := tt.hole
			h.ID, h.Path, h.Ino, h.Head, h.From = 4711, ends[0].Path, ends[0].Ino, ends[0].Head, h.Offset
			b.commit(&record.Chunk{Moved: append(ends, h)})
			b.start()
			var recs []record.Record
			for range 4 {
				for _, c := range b.tail.Step(second) {
					for _, r := range c.Records {
						r.Content = bytes.Clone(r.Content)
						recs = append(recs, r)
					}
					b.commit(&record.Chunk{Moved: slices.Clone(c.Moved), Events: c.Events})
				}
			}
			var got []string
			for i, r := range recs {
				got = append(got, string(r.Content))
				if i < len(tt.parts) && tt.parts[i] != (record.Part{}) {
					if p := r.Part; p == nil || p.Index != tt.parts[i].Index || p.Last != tt.parts[i].Last || tt.parts[i].ID != 0 && p.ID != tt.parts[i].ID {
						t.Errorf("%q: got part %+v, want %+v", r.Content, p, tt.parts[i])
					}
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if _, ok := b.pos.Get(4711); ok {
				t.Error("the hole is kept")
			}
			b.wantLosses()
		})
	}
}

// A limited stream waits; nothing is dropped.
func TestRateLimit(t *testing.T) {
	b := newBench(t)
	b.write("a.log", numbered("a", 0, 3000))
	b.o.Once, b.o.RateLimit = true, 10_000
	synctest.Test(t, func(t *testing.T) {
		x, err := tail.New(b.o)
		if err != nil {
			t.Fatal(err)
		}
		size, n, start := 0, 0, time.Now()
		out := make(chan *record.Chunk)
		go x.Run(t.Context(), t.Context(), out)
		for c := range out {
			size += int(c.End - c.Offset)
			n += len(c.Records)
			if most := 10_000 * (2 + time.Since(start).Seconds()); float64(size) > most {
				t.Fatalf("%d bytes after %v", size, time.Since(start))
			}
			c.Release()
		}
		if took, want := time.Since(start), time.Duration(size/10_000-2)*time.Second; n != 3000 || took < want || took > want+4*time.Second {
			t.Errorf("%d records, %d bytes in %v, want %v", n, size, took, want)
		}
	})
}

// Paths of containers that are gone are not kept.
func TestVacantPathsAreForgotten(t *testing.T) {
	b := newBench(t)
	b.o.Format, b.loose = "cri", true
	for i := range 20 {
		name := fmt.Sprintf("%d.log", i)
		b.write(name, criLine("stdout", "F", "x"))
		b.step(second)
		b.remove(name)
	}
	for range 5 {
		b.step(20 * second)
	}
	if n := b.tail.Vacant(); n != 0 {
		t.Errorf("%d paths are kept", n)
	}
}
