package tail_test

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sealtail/record"
	"sealtail/tail"
)

var (
	modelSeed  = flag.Uint64("model.seed", 0, "seed of TestModel; 0 = a new one")
	modelSteps = flag.Int("model.steps", 3000, "steps of TestModel")
)

// A content is what a writer means by one file, whatever it is called.
type content struct {
	id      int
	name    string // "" = deleted
	lines   int    // whole
	size    int
	partial string
	next    int // line that must be committed next
}

// A taken chunk, not committed yet.
type taken struct {
	recs  []record.Record
	moved []record.Position
}

// A model writes, rotates, truncates, deletes and restarts at random, and
// holds every line that is committed against what was written.
type model struct {
	*bench
	r        *rand.Rand
	contents []*content
	live     []*content
	pending  []taken
	rotated  int
	loose    map[string]bool // ends of deleted files that may come as they are
	log      []string
}

func (m *model) logf(format string, a ...any) {
	m.log = append(m.log, fmt.Sprintf(format, a...))
}

func (m *model) failf(format string, a ...any) {
	m.t.Helper()
	n := len(m.log)
	m.t.Fatalf(format+"\nlast of %d steps:\n%s", append(a, n, strings.Join(m.log[max(0, n-40):], "\n"))...)
}

func (m *model) create() {
	for _, name := range []string{"a.log", "b.log", "sub/c.log", "sub/d.log"} {
		if m.r.IntN(2) == 0 {
			continue
		}
		if _, err := os.Stat(m.path(name)); err == nil {
			continue
		}
		c := &content{id: len(m.contents), name: name}
		m.contents = append(m.contents, c)
		m.live = append(m.live, c)
		m.write(name, "")
		m.logf("create %d %s", c.id, name)
		return
	}
}

// pick returns a content that has a name.
func (m *model) pick() *content {
	if len(m.live) == 0 {
		return nil
	}
	return m.live[m.r.IntN(len(m.live))]
}

func (m *model) append(c *content) {
	var s strings.Builder
	s.WriteString(c.partial)
	had := len(c.partial)
	c.partial = ""
	for range m.r.IntN(60) {
		if s.Len() == 0 {
			fmt.Fprintf(&s, "%d-%d", c.id, c.lines)
		}
		fmt.Fprintf(&s, " %s\n", strings.Repeat("x", m.r.IntN(60)))
		c.lines++
		if m.r.IntN(4) > 0 {
			fmt.Fprintf(&s, "%d-%d", c.id, c.lines)
		} else {
			break
		}
	}
	text := s.String()
	if i := strings.LastIndexByte(text, '\n'); i+1 < len(text) {
		c.partial = text[i+1:]
	}
	text = text[had:]
	c.size += len(text)
	m.write(c.name, text)
	m.logf("append %d %s: %d bytes, %d lines in all, partial %q", c.id, c.name, len(text), c.lines, c.partial)
}

func (m *model) mv(c *content, to string) {
	m.logf("rename %d %s to %s", c.id, c.name, to)
	m.rename(c.name, to)
	c.name = to
}

// die drops a content that no name or file has any more.
func (m *model) die(c *content) {
	if c.partial != "" {
		m.loose[c.partial] = true
	}
	c.name = ""
	for i, l := range m.live {
		if l == c {
			m.live = append(m.live[:i], m.live[i+1:]...)
			break
		}
	}
}

// receive takes up to n chunks.
func (m *model) receive(n int) {
	for range n {
		c := m.tail.Next()
		if c == nil {
			return
		}
		var t taken
		for _, r := range c.Records {
			r.Content = bytes.Clone(r.Content)
			t.recs = append(t.recs, r)
		}
		t.moved = append(t.moved, c.Moved...)
		for _, e := range c.Events {
			m.logf("event %v", e)
		}
		c.Release()
		m.pending = append(m.pending, t)
	}
}

func (m *model) commit(n int) {
	for _, t := range m.pending[:n] {
		if _, err := m.pos.Apply(m.enc.AppendDelta(nil, t.moved)); err != nil {
			m.failf("%v", err)
		}
		for _, r := range t.recs {
			if l, whole := m.joined(r); whole {
				m.check(l)
			}
		}
	}
	m.pending = m.pending[n:]
}

// joined returns the line that a committed record ends.
func (m *model) joined(r record.Record) (line string, whole bool) {
	p := r.Part
	if p == nil {
		return string(r.Content), true
	}
	if m.parts == nil {
		m.parts = map[uint64][]string{}
	}
	if int(p.Index) != len(m.parts[p.ID]) {
		m.failf("part %d of %x, want %d", p.Index, p.ID, len(m.parts[p.ID]))
	}
	m.parts[p.ID] = append(m.parts[p.ID], string(r.Content))
	return strings.Join(m.parts[p.ID], ""), p.Last
}

// check holds a committed line against what was written: each once, in order.
func (m *model) check(l string) {
	if m.loose[l] {
		delete(m.loose, l)
		return
	}
	var id, n int
	if _, err := fmt.Sscanf(l, "%d-%d", &id, &n); err != nil || id >= len(m.contents) {
		m.failf("committed %q", l)
	}
	c := m.contents[id]
	if n != c.next {
		m.failf("content %d: committed line %d, want %d of %d", id, n, c.next, c.lines)
	}
	c.next++
}

// drain takes and commits all there is.
func (m *model) drain() {
	// Files that were renamed and closed for others are asked each 10 s.
	for _, s := range []time.Duration{1, 10, 1} {
		m.tail.Round(s * time.Second)
		m.receive(1 << 30)
	}
	m.commit(len(m.pending))
	for _, c := range m.contents {
		if c.next != c.lines {
			m.failf("content %d (%s): committed %d lines, want %d", c.id, c.name, c.next, c.lines)
		}
	}
}

func (m *model) restart() {
	n := m.r.IntN(len(m.pending) + 1)
	m.logf("restart, %d of %d chunks committed", n, len(m.pending))
	m.commit(n)
	m.pending = nil
	m.stop()
	m.o.Positions = m.pos.All()
	t, err := tail.New(m.o)
	m.do(err)
	m.tail = t
}

func (m *model) step() {
	c := m.pick()
	switch k := m.r.IntN(100); {
	case k < 8 || c == nil:
		m.create()
	case k < 45:
		m.append(c)
	case k < 55: // rotate, to a name that the patterns may match
		if strings.HasSuffix(c.name, ".log") {
			m.rotated++
			to := fmt.Sprintf("%s.%d", c.name, m.rotated)
			if m.r.IntN(2) == 0 {
				to = fmt.Sprintf("%s%d.log", strings.TrimSuffix(c.name, ".log"), m.rotated)
			}
			if !strings.HasSuffix(to, ".log") {
				// A position finds it again after a restart.
				if m.tail.Round(time.Second); c.next == 0 && m.o.Found == nil {
					m.drain()
				}
			}
			m.mv(c, to)
			if m.r.IntN(2) == 0 {
				m.append(c)
			}
			if !strings.HasSuffix(to, ".log") {
				m.unfollow(c)
			}
		}
	case k < 60: // swap names
		if d := m.pick(); d != c {
			n := c.name
			m.mv(c, "swap")
			m.mv(d, n)
			m.mv(c, strings.Replace(n, n, m.free(), 1))
		}
	case k < 65: // truncate in place, and go on
		m.drain()
		m.logf("truncate %d %s", c.id, c.name)
		m.truncate(c.name, 0)
		m.again(c)
	case k < 68: // copytruncate
		if c.size > 3000 {
			m.drain()
			m.rotated++
			to := fmt.Sprintf("%s.%d", c.name, m.rotated)
			if m.r.IntN(2) == 0 {
				to = fmt.Sprintf("%s%d.log", strings.TrimSuffix(c.name, ".log"), m.rotated)
			}
			m.append(c)
			m.logf("copy %d %s to %s and truncate", c.id, c.name, to)
			m.copy(c.name, to)
			m.truncate(c.name, 0)
			m.again(c)
			m.settle()
		}
	case k < 72: // written anew
		m.drain()
		m.logf("overwrite %d %s", c.id, c.name)
		m.do(os.WriteFile(m.path(c.name), nil, 0o644))
		m.again(c)
		m.append(m.contents[len(m.contents)-1])
	case k < 78: // delete
		m.drain()
		m.logf("delete %d %s", c.id, c.name)
		m.remove(c.name)
		m.die(c)
	case k < 84: // time goes by
		d := time.Duration(m.r.IntN(40)) * time.Second
		m.logf("wait %s", d)
		m.tail.Round(d)
		m.receive(m.r.IntN(4))
	case k < 94:
		m.tail.Round(time.Second)
		m.receive(m.r.IntN(8))
		m.commit(m.r.IntN(len(m.pending) + 1))
	default:
		m.restart()
	}
}

// again says that the file of c has new content from now on.
func (m *model) again(c *content) {
	name := c.name
	m.die(c)
	d := &content{id: len(m.contents), name: name}
	m.contents = append(m.contents, d)
	m.live = append(m.live, d)
	m.logf("%s has content %d", name, d.id)
}

// unfollow says that nobody writes to c any more.
func (m *model) unfollow(c *content) {
	c.partial = ""
	m.die(c)
}

// settle gives a copy the time to be told from a file of its own.
func (m *model) settle() {
	for range 8 {
		m.tail.Round(time.Second)
		m.receive(1 << 30)
	}
	m.commit(len(m.pending))
}

// free returns a name that no file has.
func (m *model) free() string {
	m.rotated++
	return fmt.Sprintf("free%d.log", m.rotated)
}

// Whatever happens to files, every whole line is committed once, in order.
func TestModel(t *testing.T) {
	seed := *modelSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-model.seed=%d -model.steps=%d", seed, *modelSteps)
	m := &model{bench: newBench(t, "**/*.log"), r: rand.New(rand.NewPCG(seed, 0)), loose: map[string]bool{}}
	m.o.MaxOpen = []int{3, 8, 1000}[m.r.IntN(3)]
	if m.r.IntN(3) == 0 {
		m.o.Found = nil
	}
	m.do(os.Mkdir(filepath.Join(m.dir, "sub"), 0o755))
	m.start()
	for range *modelSteps {
		m.step()
	}
	m.drain()
	total := 0
	for _, c := range m.contents {
		total += c.lines
	}
	if total < *modelSteps {
		t.Fatalf("only %d lines", total)
	}
	t.Logf("%d contents, %d lines", len(m.contents), total)
}
