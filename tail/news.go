package tail

import (
	"slices"
	"strconv"

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
// until then, it is sent once.
func (t *Tailer) tell(f *file) {
	f.dirty = true
	if !f.listed {
		f.listed = true
		t.dirty = append(t.dirty, f)
	}
}

// lose has it told that bytes are lost, and the position with it, so that they
// are not lost again at the next start.
func (t *Tailer) lose(f *file, from, to int64, reason string) {
	if f.fd < 0 {
		f.pos.Size, f.seen = f.pos.Offset, f.pos.Offset
	}
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
		if !f.dirty {
			f.listed = false
			continue
		}
		if c == nil {
			c = t.newsOf(&f.pos)
		} else if len(c.Moved) >= maxNews || len(c.Events)+len(f.lost) > maxLosses {
			break
		}
		f.dirty, f.listed = false, false
		c.Events = t.takeLosses(f, c.Events)
		if f.told || !f.pos.Forget && f.index >= 0 {
			c.Moved = append(c.Moved, f.still())
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

// takeLosses appends the events of what is lost of f.
func (t *Tailer) takeLosses(f *file, events []record.Event) []record.Event {
	for _, l := range f.lost {
		events = append(events, t.lossEvent(&f.pos, l))
	}
	f.lost = nil
	return events
}

func (t *Tailer) lossEvent(p *record.Position, l loss) record.Event {
	t.n.Losses++
	t.n.LostBytes += l.to - l.from
	return record.Event{Name: "loss", Time: t.wall, Fields: []record.Tag{
		{Key: "path", Value: p.Path},
		{Key: "inode", Value: strconv.FormatUint(p.Ino, 10)},
		{Key: "from", Value: strconv.FormatInt(l.from, 10)},
		{Key: "to", Value: strconv.FormatInt(l.to, 10)},
		{Key: "reason", Value: l.reason},
	}}
}

// still returns the position as one that no bytes were taken for.
func (f *file) still() record.Position {
	p := f.pos
	p.From, p.Size = p.Offset, f.seen
	return p
}
