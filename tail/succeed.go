package tail

import (
	"cmp"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sealtail/record"
)

// A file whose path another takes may have ended inside of a record: its
// successor is read only when it is known what goes on there. Such a record is
// one of the file where it began, and both positions move in one entry.

// lateWait is how long a successor waits for the last of a file that ends with
// no open record. containerd tears the line at which it is told to reopen its
// log, and may write the first half to the old file after the second to the new.
const lateWait = 200 * time.Millisecond

// vacate notes that f leaves its path, or was last seen there.
func (t *Tailer) vacate(f *file) {
	if t.join == nil || t.o.Once {
		return
	}
	if f.pos.Closed == 0 {
		t.vacant[f.pos.Path] = append(t.vacant[f.pos.Path], f)
	}
	if f.pos.Next != 0 {
		t.awaited[f.pos.Next] = f
	}
}

// vacated notes what a position of an earlier run tells of that: its file may
// have been renamed already, and its successor not have been seen.
func (t *Tailer) vacated(f *file) {
	t.vacate(f)
	if t.join == nil || f.pos.Next != 0 || !f.unfinished() {
		return
	}
	dir, name := filepath.Split(f.pos.Path)
	for _, from := range unrotated(name) {
		t.vacant[dir+from] = append(t.vacant[dir+from], f)
	}
}

// succeed is called when f got path: if it is new there, it may go on what
// another ended with.
func (t *Tailer) succeed(f *file, path string) {
	for _, old := range t.vacant[path] {
		if old.pos.Next == 0 {
			t.link(old, f)
		}
	}
	delete(t.vacant, path)
}

// emptied is called when f began anew and old has its position so far: if its
// copy is found, what is open there may go on in f.
func (t *Tailer) emptied(f, old *file) {
	if t.join == nil || t.o.Once {
		return
	}
	if f.prev != nil {
		t.unlink(f)
	}
	if old.unfinished() {
		t.link(old, f)
	}
}

// passOn has what goes on in old's successor go on in it from n, which has its
// position now.
func (old *file) passOn(n *file) {
	if f := old.next; f != nil && f != n {
		old.next, n.next, f.prev = nil, f, n
	}
}

// chain links logs of a container that were rotated before they were seen, the
// oldest first, and the last with the one that is written to. What that goes
// on by its path alone goes on in the oldest of them.
func (t *Tailer) chain() {
	if len(t.unseen) == 0 {
		return
	}
	logs := map[string][]*file{}
	for _, f := range t.unseen {
		if f.index >= 0 && f.fd >= 0 && f.name.at != nil && f.pos.Offset == 0 {
			p := unrotate(f.pos.Path)
			logs[p] = append(logs[p], f)
		}
	}
	clear(t.unseen)
	t.unseen = t.unseen[:0]
	for p, fs := range logs {
		if len(fs) < 2 {
			continue
		}
		written := make(map[*file]int64, len(fs))
		for _, f := range fs {
			var st unix.Stat_t
			if t.fstat(f, &st) == nil {
				written[f] = st.Mtim.Nano()
			}
			if f.pos.Path == p {
				written[f] = math.MaxInt64
			}
		}
		slices.SortFunc(fs, func(a, b *file) int { return cmp.Compare(written[a], written[b]) })
		last := fs[len(fs)-1]
		if last.pos.Path != p {
			continue
		}
		if old := last.prev; old != nil {
			t.unlink(last)
			t.link(old, fs[0])
		}
		for i, f := range fs[1:] {
			t.link(fs[i], f)
		}
	}
}

// resume is called when f has its file: an earlier run may have known what it
// goes on.
func (t *Tailer) resume(f *file) {
	if old := t.awaited[f.pos.ID]; old != nil {
		delete(t.awaited, f.pos.ID)
		t.link(old, f)
	}
}

func (t *Tailer) link(old, f *file) {
	if old == f || old.next != nil || f.prev != nil || old.pos.Closed != 0 || old.pos.Forget || f.pos.Offset > 0 || len(f.pos.Sources) > 0 {
		return
	}
	for p := old.prev; p != nil; p = p.prev {
		if p == f { // their names went round: each would wait for the others
			old.pos.Next = 0
			return
		}
	}
	old.next, f.prev, f.linked = f, old, t.now
	t.linked = append(t.linked, f)
	if old.pos.Next != f.pos.ID {
		old.pos.Next = f.pos.ID
		t.tell(old)
	}
	if old.fd >= 0 {
		t.look(old)
	}
}

// successors has those asked that wait for what was before them.
func (t *Tailer) successors() {
	all := t.linked[:0]
	for _, f := range t.linked {
		if f.prev == nil {
			continue
		}
		if f.index < 0 {
			t.unlink(f)
			continue
		}
		t.enqueue(f)
		all = append(all, f)
	}
	clear(t.linked[len(all):])
	t.linked = all
}

// forsake forgets the files that nothing can go on any more.
func (t *Tailer) forsake() {
	over := func(f *file) bool { return f.pos.Closed != 0 || f.pos.Forget || f.next != nil }
	for path, fs := range t.vacant {
		if fs = slices.DeleteFunc(fs, over); len(fs) == 0 {
			delete(t.vacant, path)
		} else {
			t.vacant[path] = fs
		}
	}
	maps.DeleteFunc(t.awaited, func(_ uint64, f *file) bool { return over(f) })
}

// unlink has f read on its own.
func (t *Tailer) unlink(f *file) {
	old := f.prev
	f.prev, old.next = nil, nil
	if old.pos.Next == f.pos.ID {
		old.pos.Next = 0
		t.tell(old)
	}
}

// handOver is unlink where all of the file before is taken: pieces of records
// that were cut there are followed by those of f. The chunk, if there are any,
// moves both.
func (t *Tailer) handOver(f *file) *record.Chunk {
	old := f.prev
	cuts := old.pos.Sources
	if len(cuts) == 0 || old.unread() > 0 || f.pos.Offset > 0 || len(f.pos.Sources) > 0 {
		t.unlink(f)
		return nil
	}
	f.prev, old.next = nil, nil
	old.pos.Sources, old.pos.Next, f.pos.Sources = nil, 0, cuts
	c := t.newsOf(&old.pos)
	c.Moved = []record.Position{t.still(old), t.still(f)}
	f.told = true
	t.enqueue(f)
	return c
}

// across settles what f has of the records that are open at the end of the file
// before it. It returns a chunk of these, if they end; f.prev is nil once f may
// be read.
func (t *Tailer) across(f *file) *record.Chunk {
	old := f.prev
	switch {
	case old.pos.Next != f.pos.ID, old.end.broken != nil:
		t.unlink(f)
		return nil
	case old.index < 0 && old.wanted == 0:
		return t.handOver(f)
	case old.index < 0 || old.copy.of != nil || old.prev != nil || old.queued:
		return nil
	case old.fd < 0:
		if old.unread() == 0 {
			return t.handOver(f)
		}
		t.await(old)
		return nil
	case !old.end.read:
		t.enqueue(old)
		return nil
	case len(old.opens) == 0 && t.now < f.linked+lateWait:
		return nil
	case len(old.opens) == 0:
		return t.handOver(f)
	}
	return t.joinTwo(old, f)
}

// joinTwo ends the records that are open at the end of old by what f begins
// with.
func (t *Tailer) joinTwo(old, f *file) *record.Chunk {
	var st, st2 unix.Stat_t
	if t.fstat(old, &st) != nil || t.fstat(f, &st2) != nil || st2.Size == 0 {
		return nil
	}
	size := st.Size
	lead, at := int64(old.pos.Marker.Len), old.pos.Offset
	most := int64(t.join.span) + 2
	head := size - at
	if head < 0 || head > most {
		t.enqueue(old)
		return nil
	}
	more := min(st2.Size, most)
	mem := make([]byte, lead+head+more) // rotations are few
	n, err := t.fetch(old, mem[:lead+head], at-lead)
	m, err2 := t.fetch(f, mem[lead+head:], 0)
	if err != nil || err2 != nil || int64(n) != lead+head || int64(m) != more || lead > 0 && t.print(mem[:lead]) != old.pos.Marker {
		t.enqueue(old) // its own read says what is wrong
		return nil
	}
	b := t.pool.take(0)
	p := &pass{joiner: t.join, conv: t.converter(old), b: b, body: mem[lead : lead+head], at: at, limit: record.MaxChunkBytes, eof: true}
	p.run(old.pos.Sources)
	if p.moved() || p.pos != len(p.body) || p.full {
		b.recycle(nil)
		t.enqueue(old)
		return nil
	}
	p.body, p.held, p.eof = mem[lead:], false, more == st2.Size
	left, ok := p.finish(size)
	if !ok {
		b.recycle(nil)
		return nil
	}
	taken := int(left - size)
	sources := p.beyond(left)
	for i := range sources {
		if sources[i].Skip > 0 {
			sources[i].Skip -= size
		}
	}
	end := mem[lead+head:]
	t.advance(old, mem[:lead+head], int(head), nil)
	old.pos.Next, old.opens = 0, nil
	t.advance(f, end[:taken], taken, sources)
	f.prev, old.next = nil, nil
	t.note(old, &st)
	t.note(f, &st2)
	f.pos.Size, f.look.mtime = max(f.pos.Size, f.pos.Offset), 0
	t.counted(p)
	t.n.Bytes += head + int64(taken)
	t.n.Records += int64(len(p.recs))
	c := t.fill(old, b, p.recs, at, size)
	c.Raw, c.Taken = p.raws, head+int64(taken)
	b.moved = append(b.moved, f.pos)
	c.Moved = b.moved
	f.told = true
	t.enqueue(f)
	return c
}

// finish goes on behind the file's end at size, in its successor, as long as a
// record is open that began before, and reports whether none is left. Other
// lines it passes over; left is where the first of them begins.
func (p *pass) finish(size int64) (left int64, ok bool) {
	left = math.MaxInt64
	for {
		for i := range p.sources[:p.known] {
			if s := &p.sources[i]; s.isOpen() && s.first() >= size {
				left = min(left, s.first())
				s.rec, s.line, p.done = stretch{}, stretch{}, nil
			}
		}
		if p.oldest() == nil {
			return min(left, p.at+int64(p.pos)), true
		}
		if p.done == nil {
			p.fetch()
			if p.line.size > 0 && (p.piece.bare || !p.source(p.piece.source).isOpen()) {
				left = min(left, p.at+int64(p.pos))
				p.take()
				continue
			}
		}
		if !p.step() {
			return 0, false
		}
	}
}

// beyond is where the source streams stand that went on behind left, and those
// that were cut.
func (p *pass) beyond(left int64) (all []record.Source) {
	for i := range p.sources[:p.known] {
		s := p.sources[i].Source
		s.Skip = 0
		if end := p.sources[i].ended; end > left {
			s.Skip = end
		}
		if s.Skip > 0 || s.PartID != 0 {
			all = append(all, s)
		}
	}
	return all
}
