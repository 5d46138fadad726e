package tail

import (
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"sealtail/record"
)

// Most of what one chunk of news holds.
const (
	maxNews   = 256 // positions
	maxLosses = 64  // events
)

// A loss is bytes that cannot be read any more.
type loss struct {
	from, to int64
	reason   string
}

// tell has the position sent with the next news. However often it changes
// until then, it is sent once. As long as nothing was taken of the file, and
// once it has no name, it is also told past the channel, which may be blocked
// for long.
func (t *Tailer) tell(f *file) {
	f.dirty = true
	if !f.listed {
		f.listed = true
		t.dirty = append(t.dirty, f)
	}
	t.find(f)
}

// apart reports whether the position is to be told past the channel.
func (t *Tailer) apart(f *file) bool { return t.blocked || t.waits || f.untraced() }

// find has the position told to [Options.Found] if a restart could lose the
// file without a trace.
func (t *Tailer) find(f *file) {
	if t.o.Found != nil && !f.fresh && t.apart(f) {
		f.fresh = true
		t.fresh = append(t.fresh, f)
	}
}

// untraced reports whether what was sent of the file does not show how much of
// it there is to lose, or where it goes on.
func (f *file) untraced() bool { return f.pos.Offset == 0 || f.name.unlinked || f.next != nil }

// found tells the positions of untraced files.
func (t *Tailer) found() {
	if len(t.fresh) == 0 {
		return
	}
	ps := make([]record.Position, 0, len(t.fresh))
	for _, f := range t.fresh {
		f.fresh = false
		if !t.apart(f) || f.pos.Forget || f.pos.Closed != 0 || f.undecided() {
			continue
		}
		if !f.told && f.pos.Offset > 0 {
			continue // what was taken before it goes through the channel, and so does it
		}
		p := t.still(f)
		p.Offset, p.From, p.Marker, p.Sources, p.Was = f.first, f.first, record.Print{}, nil, nil
		p.Deleted = f.name.unlinked
		ps = append(ps, p)
		f.foundSize, f.foundAt = f.look.size, t.now
		if !f.told || f.pos.Offset == 0 {
			// It is told here alone: through the channel it would come later,
			// and undo what is told here meanwhile.
			f.told, f.dirty = true, len(f.lost) > 0
		}
	}
	clear(t.fresh)
	t.fresh = t.fresh[:0]
	if len(ps) > 0 {
		t.freshWait = min(foundWait, time.Duration(len(ps))*foundEach)
		t.stamp(ps)
		t.o.Found(ps)
	}
}

// grown has the size of a file told again once it doubled, or grew and was not
// told for a while, so that not much is missing of it should it be lost.
func (t *Tailer) grown(f *file) {
	if f.told && f.look.size > f.foundSize && (f.look.size > 2*f.foundSize || t.now >= f.foundAt+t.freshWait) {
		t.find(f)
	}
}

// lastNews tells what files with unread bytes have now, and those without a
// name, which end with this process.
func (t *Tailer) lastNews() {
	for _, f := range t.files {
		if f.name.unlinked || f.unread() > 0 {
			t.find(f)
		}
	}
	t.found()
}

// lose has it told that bytes are lost, and the position with it, so that they
// are not lost again at the next start.
func (t *Tailer) lose(f *file, from, to int64, reason string) {
	f.look.size -= to - from
	f.pos.Size = min(f.pos.Size, f.look.size)
	f.look.sure = min(f.look.sure, f.look.size)
	t.n.lost(reason, to-from, 0)
	f.lost = append(f.lost, loss{from, to, reason})
	t.losing = true
	t.tell(f)
}

// news returns a chunk of the positions and losses that wait to be told, nil if
// there are none.
func (t *Tailer) news() *record.Chunk {
	t.losing = false
	var c *record.Chunk
	n := 0
	for ; n < len(t.dirty); n++ {
		f := t.dirty[n]
		if !f.dirty || f.undecided() { // a copy is told once it is known what it is
			f.dirty, f.listed = false, false
			continue
		}
		if c == nil {
			c = t.newsOf(&f.pos)
		} else if len(c.Moved) >= maxNews || len(c.Events)+len(f.lost) > maxLosses {
			break
		}
		f.dirty, f.listed = false, false
		t.takeLosses(f, c)
		if f.told || !f.pos.Forget && f.index >= 0 {
			c.Moved = append(c.Moved, t.still(f))
			f.told = true
		}
	}
	t.dirty = slices.Delete(t.dirty, 0, n)
	if c != nil && len(c.Moved)+len(c.Events) == 0 {
		return nil
	}
	return c
}

// newsOf returns a chunk without records.
func (t *Tailer) newsOf(p *record.Position) *record.Chunk {
	return &record.Chunk{Path: p.Path, Inode: p.Ino, Offset: p.Offset, End: p.Offset, Time: t.wall.UnixNano()}
}

// takeLosses has the chunk tell what is lost of f.
func (t *Tailer) takeLosses(f *file, c *record.Chunk) {
	for _, l := range f.lost {
		t.tellLoss(&f.pos, l, c)
	}
	f.lost = nil
}

// tellLoss adds a loss to the chunk: the event, and what a restart knows of it.
func (t *Tailer) tellLoss(p *record.Position, l loss, c *record.Chunk) {
	t.n.lost(l.reason, 0, 1)
	t.log.Error("bytes lost", zap.String("path", p.Path), zap.Uint64("inode", p.Ino),
		zap.Int64("from", l.from), zap.Int64("to", l.to), zap.String("reason", l.reason))
	c.Events = append(c.Events, record.Event{Name: "loss", Time: t.wall, Fields: []record.Tag{
		{Key: "path", Value: p.Path},
		{Key: "inode", Value: strconv.FormatUint(p.Ino, 10)},
		{Key: "from", Value: strconv.FormatInt(l.from, 10)},
		{Key: "to", Value: strconv.FormatInt(l.to, 10)},
		{Key: "reason", Value: l.reason},
	}})
	c.Moved = append(c.Moved, record.Position{
		ID: newID(), Path: l.reason, Lost: record.Lost{Ranges: 1, Bytes: l.to - l.from}, Closed: t.wall.Unix(), Forget: true,
	})
}

// still returns the position as one that no bytes were taken for. If none were
// ever, it has the head of what is there now, so that its file is known again.
func (t *Tailer) still(f *file) record.Position {
	if f.pos.Offset == 0 && f.gz != nil {
		f.pos.Head = f.gz.head
	} else if f.fd >= 0 {
		t.takeHead(f, f.fd, f.look.size)
	}
	p := f.pos
	p.From, p.Was, p.Size = p.Offset, p.Sources, f.look.size
	if f.foreign > 0 {
		p.From, p.Was = 0, nil
	}
	return p
}
