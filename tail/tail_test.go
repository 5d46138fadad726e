package tail_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sealtail/record"
	"sealtail/status"
	"sealtail/tail"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A bench is a directory with a tailer that is driven by steps, and what it
// sent: committed as soon as it is received.
type bench struct {
	t     *testing.T
	dir   string
	o     tail.Options
	tail  *tail.Tailer
	mu    sync.Mutex // guards pos and enc in run: Found is called by the tailer
	pos   record.Positions
	enc   record.Positions
	told  map[uint64]record.Position // as found told them since the start
	lines []string                   // as received
	files []string                   // path of each line, relative
	event []record.Event
	taken int64 // of the chunks since start
	parts map[uint64][]string

	noPoll bool            // in run
	loose  bool            // records do not lie one behind the other
	stamps []record.Record // as received, without content
}

func newBench(t *testing.T, include ...string) *bench {
	b := &bench{t: t, dir: t.TempDir(), told: make(map[uint64]record.Position)}
	if len(include) == 0 {
		include = []string{"*.log"}
	}
	for _, g := range include {
		b.o.Include = append(b.o.Include, filepath.Join(b.dir, g))
	}
	b.o.Key = []byte("0123456789abcdef")
	b.o.Found = b.found
	t.Cleanup(func() { b.stop() })
	return b
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) do(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) write(name, text string) {
	b.t.Helper()
	b.do(os.MkdirAll(filepath.Dir(b.path(name)), 0o755))
	f, err := os.OpenFile(b.path(name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	b.do(err)
	_, err = f.WriteString(text)
	b.do(err)
	b.do(f.Close())
}

func (b *bench) truncate(name string, size int64) {
	b.t.Helper()
	b.do(os.Truncate(b.path(name), size))
}
func (b *bench) there(name string) bool {
	_, err := os.Stat(b.path(name))
	return err == nil
}
func (b *bench) remove(name string)     { b.t.Helper(); b.do(os.Remove(b.path(name))) }
func (b *bench) rename(from, to string) { b.t.Helper(); b.do(os.Rename(b.path(from), b.path(to))) }
func (b *bench) copy(from, to string) {
	b.t.Helper()
	c, err := os.ReadFile(b.path(from))
	b.do(err)
	b.do(os.WriteFile(b.path(to), c, 0o644))
}

// start makes a tailer that goes on from what was committed.
func (b *bench) start() {
	b.t.Helper()
	b.stop()
	b.o.Positions = b.pos.All()
	clear(b.told)
	t, err := tail.New(b.o)
	b.do(err)
	b.tail, b.taken = t, 0
}

func (b *bench) stop() {
	if b.tail != nil {
		b.tail.Close()
		b.tail = nil
	}
}

// step takes what there is to send after d more, and commits it.
func (b *bench) step(d time.Duration) {
	b.t.Helper()
	if b.tail == nil {
		b.start()
	}
	for _, c := range b.tail.Step(d) {
		b.take(c)
	}
	b.ledger()
	if s := b.tail.Ledger(); b.taken != s.Bytes+s.Again {
		b.t.Fatalf("chunks took %d bytes, want %d: %+v", b.taken, s.Bytes+s.Again, s)
	}
}

func (b *bench) take(c *record.Chunk) {
	b.t.Helper()
	at := c.Offset
	for _, r := range c.Records {
		if r.Offset != at && !b.loose {
			b.t.Fatalf("%s: record at %d, want %d", c.Path, r.Offset, at)
		}
		at += int64(len(r.Content))
		if r.Part == nil || r.Part.Last {
			at++
		}
		name, _ := filepath.Rel(b.dir, c.Path)
		b.stamps = append(b.stamps, record.Record{Offset: r.Offset, Time: r.Time, Source: r.Source})
		if p := r.Part; p != nil {
			if b.parts == nil {
				b.parts = map[uint64][]string{}
			}
			if int(p.Index) != len(b.parts[p.ID]) {
				b.t.Fatalf("%s: part %d of %d, want %d", c.Path, p.Index, p.ID, len(b.parts[p.ID]))
			}
			b.parts[p.ID] = append(b.parts[p.ID], string(r.Content))
			if p.Last {
				b.lines = append(b.lines, strings.Join(b.parts[p.ID], ""))
				b.files = append(b.files, name)
			}
			continue
		}
		b.lines = append(b.lines, string(r.Content))
		b.files = append(b.files, name)
	}
	b.event = append(b.event, c.Events...)
	b.taken += c.Taken
	b.commit(c)
	c.Release()
}

// commit takes the positions as the spool does: encoded and decoded again.
func (b *bench) commit(c *record.Chunk) {
	b.t.Helper()
	for _, p := range c.Moved {
		if p.From > p.Offset || p.Size < p.Offset && !p.Forget && p.Until == 0 {
			b.t.Fatalf("%s: From %d, Offset %d, Size %d", p.Path, p.From, p.Offset, p.Size)
		}
	}
	told, summed := make(map[string]record.Lost), make(map[string]record.Lost)
	add := func(sums map[string]record.Lost, reason string, ranges, bytes int64) {
		sums[reason] = record.Lost{Ranges: sums[reason].Ranges + ranges, Bytes: sums[reason].Bytes + bytes}
	}
	for _, e := range c.Events {
		from, _ := strconv.ParseInt(e.Fields[2].Value, 10, 64)
		to, _ := strconv.ParseInt(e.Fields[3].Value, 10, 64)
		add(told, e.Fields[4].Value, 1, to-from)
	}
	for _, p := range c.Moved {
		if p.Lost != (record.Lost{}) {
			add(summed, p.Path, p.Lost.Ranges, p.Lost.Bytes)
		}
	}
	if !maps.Equal(told, summed) {
		b.t.Fatalf("events tell of %v lost, positions of %v", told, summed)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, err := b.pos.Apply(b.enc.AppendDelta(nil, b.since(c.Moved))); err != nil {
		b.t.Fatal(err)
	}
}

// since has positions that come behind what found told as the agent commits them.
func (b *bench) since(moved []record.Position) []record.Position {
	moved = slices.Clone(moved)
	for i, p := range moved {
		moved[i] = p.Since(b.told[p.ID])
	}
	return moved
}

// found commits at once what is news, as the agent does.
func (b *bench) found(ps []record.Position) {
	for _, p := range ps {
		if p.Closed != 0 || p.Forget {
			b.t.Errorf("found: %+v", p)
		}
		b.mu.Lock()
		old, known := b.pos.Get(p.ID)
		b.mu.Unlock()
		if !known {
			old = p
		}
		if !known && p.Offset > 0 {
			continue
		}
		if old.Offset == 0 {
			p.Sources, p.Encoding = old.Sources, old.Encoding
			old = p
		}
		old.From, old.Was = old.Offset, old.Sources
		old = old.Since(p)
		b.mu.Lock()
		b.told[p.ID] = old
		b.mu.Unlock()
		b.commit(&record.Chunk{Moved: []record.Position{old}})
	}
}

// ledger fails unless every byte that was seen is accounted for.
func (b *bench) ledger() {
	b.t.Helper()
	if b.tail == nil {
		return
	}
	s := b.tail.Ledger()
	if sum := s.Bytes + s.Hole + s.LostBytes + s.Lag; s.Seen != sum {
		b.t.Fatalf("ledger: seen %d, want %d: %+v", s.Seen, sum, s)
	}
	var sum status.Loss
	for reason, l := range s.Lost {
		if sum.Add(reason, l.Ranges, l.Bytes); sum.By[reason] > 0 {
			b.t.Fatalf("package status does not know the reason %q", reason)
		}
	}
	if sum.Lost != s.LostBytes {
		b.t.Fatalf("lost: %+v, want %d in all", s.Lost, s.LostBytes)
	}
}

// want fails unless just these lines came since the last call.
func (b *bench) want(lines ...string) {
	b.t.Helper()
	if !slices.Equal(b.lines, lines) {
		b.t.Fatalf("got %s, want %s", brief(b.lines), brief(lines))
	}
	b.lines, b.files = nil, nil
}

// wantSet is want where files are read in any order.
func (b *bench) wantSet(lines ...string) {
	b.t.Helper()
	slices.Sort(b.lines)
	slices.Sort(lines)
	b.want(lines...)
}

func brief(lines []string) string {
	s := fmt.Sprintf("%d lines %.60q", len(lines), lines)
	return s[:min(len(s), 600)]
}

// losses returns the loss events since the last call as "name from-to reason".
func (b *bench) losses() []string {
	var ls []string
	for _, e := range b.event {
		var keys []string
		for _, f := range e.Fields {
			keys = append(keys, f.Key)
		}
		if e.Name != "loss" || !slices.Equal(keys, []string{"path", "inode", "from", "to", "reason"}) {
			b.t.Fatalf("event %q with %q", e.Name, keys)
		}
		ls = append(ls, fmt.Sprintf("%s %s-%s %s", filepath.Base(e.Fields[0].Value), e.Fields[2].Value, e.Fields[3].Value, e.Fields[4].Value))
	}
	b.event = nil
	return ls
}

func (b *bench) wantLosses(want ...string) {
	b.t.Helper()
	if got := b.losses(); !slices.Equal(got, want) {
		b.t.Fatalf("losses: got %q, want %q", got, want)
	}
}

// position returns the one committed position with that name that is followed.
func (b *bench) position(name string) record.Position {
	b.t.Helper()
	var found []record.Position
	for _, p := range b.pos.All() {
		if p.Path == b.path(name) && p.Closed == 0 {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		b.t.Fatalf("%d positions of %s, want 1: %+v", len(found), name, b.pos.All())
	}
	return found[0]
}

func overwrite(path, text string) error { return os.WriteFile(path, []byte(text), 0o644) }

// numbered returns lines from..to-1 of a text, long enough for full prints
// when there are forty of them.
func numbered(name string, from, to int) string {
	var s bytes.Buffer
	for i := from; i < to; i++ {
		fmt.Fprintf(&s, "%s line %06d with some text\n", name, i)
	}
	return s.String()
}

func lines(text string) []string { return strings.Split(strings.TrimSuffix(text, "\n"), "\n") }

func TestFollow(t *testing.T) {
	b := newBench(t)
	b.write("a.log", "one\ntwo\nthr")
	b.step(0)
	b.want("one", "two")
	if p := b.position("a.log"); p.Offset != 8 {
		t.Errorf("offset: got %d, want 8", p.Offset)
	}
	b.step(time.Second)
	b.want()
	b.write("a.log", "ee\n\nfive\n")
	b.step(time.Second)
	b.want("three", "", "five")
	b.start()
	b.write("a.log", "six\n")
	b.step(0)
	b.want("six")
	b.wantLosses()
}
