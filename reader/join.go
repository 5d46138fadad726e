package reader

import (
	"fmt"
	"slices"

	"sealtail/record"
)

// A joiner puts the pieces of cut records together. A record comes out when
// its last piece has come; what is open at the end of the stream comes out
// then.
type joiner struct {
	stream *stream
	yield  func(*Record) error
	open   []*joining // oldest first
	size   int        // bytes of content held
}

// A joining is a record of which pieces are there.
type joining struct {
	rec  Record // Content: of the pieces so far
	id   uint64
	next uint32 // index of the piece that comes next
}

// What a joiner holds at most; beyond, a record comes out in parts.
const (
	maxJoined  = 64 << 20 // bytes of content
	maxJoining = 4096     // records
)

// add takes a record, or a piece of one. It keeps no slice of its content.
func (j *joiner) add(r *Record, p *record.Part) error {
	if p == nil {
		return j.yield(r)
	}
	i := slices.IndexFunc(j.open, func(o *joining) bool { return o.id == p.ID })
	if i >= 0 && p.Index != j.open[i].next {
		// What is between is missing, or this is another branch's copy.
		if err := j.emit(i, true); err != nil {
			return err
		}
		i = -1
	}
	if i < 0 {
		i = len(j.open)
		j.open = append(j.open, j.begin(r, p))
	}
	o := j.open[i]
	o.rec.Content = append(o.rec.Content, r.Content...)
	o.next = p.Index + 1
	j.size += len(r.Content)
	if p.Last {
		return j.emit(i, false)
	}
	return j.bound()
}

// begin returns the record of which p is the first piece to come.
func (j *joiner) begin(r *Record, p *record.Part) *joining {
	o := &joining{rec: *r, id: p.ID}
	o.rec.Content, o.rec.NoStart = nil, p.Index != 0
	// Where the stream's beginning is out of range, the record's may be so too.
	if fs := j.stream.report.Findings; o.rec.NoStart && !slices.ContainsFunc(fs, func(f Finding) bool { return f.Kind == UnanchoredStart }) {
		add(&j.stream.report.Findings, Finding{
			Kind: Incomplete, Stream: j.stream.id, Span: &Span{Epoch: r.Epoch, From: r.Seq, To: r.Seq},
			Detail: fmt.Sprintf("what comes before piece %d of a record is missing", p.Index),
		})
	}
	return o
}

// emit yields the record at i and forgets it.
func (j *joiner) emit(i int, noEnd bool) error {
	o := j.open[i]
	j.open = slices.Delete(j.open, i, i+1)
	j.size -= len(o.rec.Content)
	o.rec.NoEnd = noEnd
	return j.yield(&o.rec)
}

// bound lets the longest record out as far as it is there, or the oldest,
// while too much is held.
func (j *joiner) bound() error {
	if len(j.open) > maxJoining {
		if err := j.emit(0, true); err != nil {
			return err
		}
	}
	if j.size <= maxJoined {
		return nil
	}
	o := slices.MaxFunc(j.open, func(a, b *joining) int { return len(a.rec.Content) - len(b.rec.Content) })
	o.rec.NoEnd = true
	if err := j.yield(&o.rec); err != nil {
		return err
	}
	j.size -= len(o.rec.Content)
	o.rec.Offset += int64(len(o.rec.Content)) // pieces lie one behind the other
	o.rec.Content, o.rec.NoStart, o.rec.NoEnd = nil, true, false
	return nil
}

// flush yields what is open, the stream having ended. A record whose last
// piece is not marked may be whole all the same.
func (j *joiner) flush() error {
	for len(j.open) > 0 {
		if err := j.emit(0, true); err != nil {
			return err
		}
	}
	return nil
}
