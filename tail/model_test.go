package tail_test

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sealtail/record"
	"sealtail/tail"
)

var (
	modelSeed  = flag.Uint64("model.seed", 1, "seed of TestModel; 0 = a new one")
	modelSteps = flag.Int("model.steps", 1000, "steps of TestModel")
)

// A content is what a writer means by one file, whatever it is called.
type content struct {
	id      int
	name    string // "" = deleted
	lines   int    // whole
	size    int    // bytes, an unfinished line included
	partial string
	next    int // line that must be committed next
	off     int // bytes committed
}

// A taken chunk, not committed yet.
type taken struct {
	recs   []record.Record
	moved  []record.Position
	losses []string
}

// A model writes, rotates, compresses, truncates, deletes and restarts at
// random, and holds every line that is committed, and every loss that is told,
// against what was written.
type model struct {
	*bench
	r        *rand.Rand
	contents []*content
	live     []*content // with a name and a writer
	idle     []*content // rotated: nobody writes to them any more
	pending  []taken
	rotated  int
	all      bool              // rotated names match the patterns
	loose    map[string]string // ends of deleted files that may come as they are, or be told as lost
	losses   []string          // committed and not accounted for
	log      []string
	lossy    int
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
		if m.r.IntN(2) == 0 || m.there(name) {
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

// pick returns one of cs, nil if there is none.
func (m *model) pick(cs []*content) *content {
	if len(cs) == 0 {
		return nil
	}
	return cs[m.r.IntN(len(cs))]
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

func without(cs []*content, c *content) []*content {
	return slices.DeleteFunc(cs, func(o *content) bool { return o == c })
}

// die drops a content that no name or file has any more.
func (m *model) die(c *content) {
	if c.partial != "" {
		m.loose[c.partial] = fmt.Sprintf("%d-%d deleted unread", c.size-len(c.partial), c.size)
	}
	c.name = ""
	m.live, m.idle = without(m.live, c), without(m.idle, c)
}

// receive takes up to n chunks.
func (m *model) receive(n int) {
	for range n {
		c := m.tail.Next()
		if c == nil {
			break
		}
		var t taken
		for _, r := range c.Records {
			r.Content = bytes.Clone(r.Content)
			t.recs = append(t.recs, r)
		}
		t.moved = append(t.moved, c.Moved...)
		for _, e := range c.Events {
			loss := fmt.Sprintf("%s-%s %s", e.Fields[2].Value, e.Fields[3].Value, e.Fields[4].Value)
			m.logf("%s is told of %s", loss, filepath.Base(e.Fields[0].Value))
			t.losses = append(t.losses, loss)
		}
		c.Release()
		m.pending = append(m.pending, t)
	}
	m.ledger()
}

func (m *model) commit(n int) {
	for _, t := range m.pending[:n] {
		if _, err := m.pos.Apply(m.enc.AppendDelta(nil, m.since(t.moved))); err != nil {
			m.failf("%v", err)
		}
		for _, r := range t.recs {
			l, whole := m.joined(r)
			var id, end int
			if _, err := fmt.Sscanf(l, "%d-", &id); err != nil || id >= len(m.contents) {
				m.failf("committed %q", l)
			}
			if whole {
				m.check(l)
				end = 1
			}
			m.contents[id].off += len(r.Content) + end
		}
		m.losses = append(m.losses, t.losses...)
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
	if _, ok := m.loose[l]; ok {
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

// drain takes and commits all there is. Nothing is lost then.
func (m *model) drain() {
	m.settle()
	m.account(nil, "")
	for _, c := range m.contents {
		if c.next != c.lines {
			m.failf("content %d (%s): committed %d lines, want %d", c.id, c.name, c.next, c.lines)
		}
	}
}

// account wants just the rest of c, if any, to be told as lost, and what was
// left unfinished of others.
func (m *model) account(c *content, reason string) {
	var want []string
	if c != nil && c.off < c.size {
		want = append(want, fmt.Sprintf("%d-%d %s", c.off, c.size, reason))
		m.lossy++
	}
	m.losses = slices.DeleteFunc(m.losses, func(l string) bool {
		for end, loss := range m.loose {
			// After a restart another file with the inode looks like a rewrite.
			if strings.Fields(l)[0] == strings.Fields(loss)[0] && !slices.Contains(want, l) {
				delete(m.loose, end)
				return true
			}
		}
		return false
	})
	if !slices.Equal(m.losses, want) {
		m.failf("losses: got %q, want %q", m.losses, want)
	}
	m.losses = nil
	if c != nil {
		c.next, c.lines = 0, 0 // what of it was taken was right
	}
}

func (m *model) restart() {
	n := m.r.IntN(len(m.pending) + 1)
	m.logf("restart, %d of %d chunks committed", n, len(m.pending))
	m.commit(n)
	m.pending = nil
	m.stop()
	m.o.Positions = m.pos.All()
	clear(m.told)
	t, err := tail.New(m.o)
	m.do(err)
	m.tail = t
}

func (m *model) step() {
	c := m.pick(m.live)
	switch k := m.r.IntN(100); {
	case k < 8 || c == nil:
		m.create()
	case k < 42:
		m.append(c)
	case k < 52:
		m.rotate(c)
	case k < 56: // swap names
		if d := m.pick(m.live); d != c {
			n := c.name
			m.mv(c, "swap")
			m.mv(d, n)
			m.mv(c, m.free())
		}
	case k < 59: // truncate in place, and go on
		if m.r.IntN(2) == 0 {
			m.drain()
		}
		m.lose(c, "truncated unread", func() { m.truncate(c.name, 0) })
	case k < 64:
		m.copytruncate(c)
	case k < 67: // written anew
		if m.r.IntN(2) == 0 {
			m.drain()
		}
		m.overwrite(c)
	case k < 71: // delete
		m.drain()
		m.logf("delete %d %s", c.id, c.name)
		m.remove(c.name)
		m.die(c)
	case k < 74: // delete what is unread, and kill the agent, which holds it
		if !m.all {
			m.deleteUnread(c)
		}
	case k < 79:
		m.compress()
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
	m.ledger()
}

// rotate renames a file, as logrotate does with numbers or dates, or to a name
// under which it is followed and written to.
func (m *model) rotate(c *content) {
	if !strings.HasSuffix(c.name, ".log") {
		return
	}
	base := c.name
	m.rotated++
	switch m.r.IntN(3) {
	case 0:
		m.mv(c, fmt.Sprintf("%s%d.log", strings.TrimSuffix(base, ".log"), m.rotated))
		if m.r.IntN(2) == 0 {
			m.append(c)
		}
		return
	case 1:
		m.tail.Round(time.Second)
		for i := 20; i > 0; i-- {
			for _, ext := range []string{"", ".gz"} {
				for _, o := range m.idle {
					if o.name == fmt.Sprintf("%s.%d%s", base, i, ext) {
						m.mv(o, fmt.Sprintf("%s.%d%s", base, i+1, ext))
					}
				}
			}
		}
		m.mv(c, base+".1")
	case 2:
		m.tail.Round(time.Second)
		m.mv(c, fmt.Sprintf("%s-%d", base, 20260000+m.rotated))
	}
	if m.r.IntN(2) == 0 {
		m.append(c)
	}
	m.retire(c)
}

// retire says that nobody writes to c any more.
func (m *model) retire(c *content) {
	if c.partial != "" {
		m.append(c) // its last line is finished
		if c.partial != "" {
			m.write(c.name, "\n")
			c.size++
			c.lines++
			c.partial = ""
		}
	}
	m.live = without(m.live, c)
	m.idle = append(m.idle, c)
}

// compress has a rotated file replaced by its .gz.
func (m *model) compress() {
	if len(m.idle) > 40 {
		m.drain()
		for _, c := range slices.Clone(m.idle[:20]) {
			m.logf("delete %d %s", c.id, c.name)
			m.remove(c.name)
			m.die(c)
		}
	}
	c := m.pick(m.idle)
	if c == nil || strings.HasSuffix(c.name, ".gz") || !m.there(c.name) {
		return
	}
	m.tail.Round(time.Second)
	m.logf("gzip %d %s", c.id, c.name)
	m.gzip(c.name)
	c.name += ".gz"
}

// copytruncate has what was written go on in the copy.
func (m *model) copytruncate(c *content) {
	if c.size == 0 {
		return
	}
	base := c.name
	m.rotated++
	to := fmt.Sprintf("%s.%d", base, 1000+m.rotated)
	if m.r.IntN(3) == 0 {
		to = fmt.Sprintf("%s.%d.log", strings.TrimSuffix(base, ".log"), 1000+m.rotated)
	}
	m.tail.Round(time.Second)
	m.append(c)
	if m.o.MaxOpen == 1000 && m.r.IntN(2) == 0 && m.copyReadOn(c, to) {
		return
	}
	m.retire(c)
	if m.r.IntN(2) == 0 {
		m.tail.Round(time.Second)
	}
	m.logf("copy %d %s to %s and truncate", c.id, base, to)
	m.copy(base, to)
	if m.r.IntN(2) == 0 {
		m.tail.Round(time.Second)
	}
	m.truncate(base, 0)
	m.anew(base)
	c.name = to
	m.settle()
	m.account(nil, "")
}

// copyReadOn has what is written between the copy and the truncation read before
// the truncation, with the agent killed here or there, and reports whether so
// much is known of c that the copy can be told by it.
func (m *model) copyReadOn(c *content, to string) bool {
	take := func() {
		m.tail.Round(time.Second)
		m.receive(1 << 30)
		m.commit(len(m.pending))
	}
	for c.size < 1500 {
		m.append(c)
	}
	take()
	if c.off < 1024 { // its last line is unfinished
		return false
	}
	base := c.name
	m.logf("copy %d %s to %s", c.id, base, to)
	m.copy(base, to)
	m.retire(c)
	take()
	if c.off != c.size {
		m.failf("content %d: %d bytes committed, want %d", c.id, c.off, c.size)
	}
	kill := m.r.IntN(4)
	if kill == 1 {
		m.restart()
	}
	m.logf("truncate %s", base)
	m.truncate(base, 0)
	m.anew(base)
	if kill == 2 {
		m.restart()
	}
	c.name = to
	m.settle()
	m.account(nil, "")
	return true
}

// lose takes away what is unread of c, which is told to the byte.
func (m *model) lose(c *content, reason string, do func()) {
	m.tail.Round(time.Second)
	m.logf("%s: %d %s", reason, c.id, c.name)
	name := c.name
	if c.size == 0 {
		return
	}
	do()
	m.die(c)
	m.anew(name)
	m.settle()
	m.account(c, reason)
}

func (m *model) overwrite(c *content) {
	m.tail.Round(time.Second)
	if c.size == 0 {
		return
	}
	name, size := c.name, c.size
	m.die(c)
	d := m.anew(name)
	m.logf("overwrite %d %s", c.id, name)
	m.do(os.WriteFile(m.path(name), nil, 0o644))
	for m.append(d); m.r.IntN(2) == 0; {
		m.append(d)
	}
	reason := "rewritten unread"
	if d.size < size {
		reason = "truncated unread"
	}
	m.settle()
	m.account(c, reason)
}

func (m *model) deleteUnread(c *content) {
	m.tail.Round(6 * time.Second) // how much it has is told
	m.logf("delete %d %s unread, and restart", c.id, c.name)
	m.remove(c.name)
	m.die(c)
	m.tail.Round(time.Second)
	m.restart()
	m.settle()
	delete(m.loose, c.partial) // it does not come as it is
	m.account(c, "deleted unread")
}

// anew says that a file has new content from now on.
func (m *model) anew(name string) *content {
	d := &content{id: len(m.contents), name: name}
	m.contents = append(m.contents, d)
	m.live = append(m.live, d)
	m.logf("%s has content %d", name, d.id)
	return d
}

// settle gives a copy the time to be told from a file of its own, files that
// were renamed and closed for others, which are asked each 10 s, that to be
// found, and takes and commits all there is.
func (m *model) settle() {
	for i := range 10 {
		m.tail.Round([]time.Duration{1, 10}[i/9] * time.Second)
		m.receive(1 << 30)
	}
	m.tail.Round(time.Second)
	m.receive(1 << 30)
	m.commit(len(m.pending))
}

// free returns a name that no file has.
func (m *model) free() string {
	m.rotated++
	return fmt.Sprintf("free%d.log", m.rotated)
}

// Whatever happens to files, every whole line is committed once, in order, or
// told as lost to the byte, and the ledger adds up at every step.
func TestModel(t *testing.T) {
	seed := *modelSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-model.seed=%d -model.steps=%d", seed, *modelSteps)
	r := rand.New(rand.NewPCG(seed, 0))
	all := r.IntN(2) == 0
	m := &model{bench: newBench(t, map[bool]string{false: "**/*.log", true: "**/*.log*"}[all]), all: all, r: r, loose: map[string]string{}}
	m.o.MaxOpen = []int{3, 8, 1000}[m.r.IntN(3)]
	t.Logf("rotated names match: %t; open files: %d", all, m.o.MaxOpen)
	m.o.Found = func(ps []record.Position) {
		for _, p := range ps {
			m.logf("found %s of %d bytes, deleted %t", filepath.Base(p.Path), p.Size, p.Deleted)
		}
		m.found(ps)
	}
	m.do(os.Mkdir(filepath.Join(m.dir, "sub"), 0o755))
	m.start()
	for range *modelSteps {
		m.step()
	}
	m.drain()
	t.Logf("%d contents, %d of them partly lost, %d rotated", len(m.contents), m.lossy, m.rotated)
}
