package tail

import (
	"bytes"
	"unicode/utf8"

	"sealtail/record"
)

// A cut is the record that is being cut because it is longer than the limit or
// was not finished for long: the id its pieces share and the index of the next
// one. Zero id = none.
type cut struct {
	id   uint64
	next uint32
}

// sources is where the cut record stands, for a position.
func (c cut) sources() []record.Source {
	if c.id == 0 {
		return nil
	}
	return []record.Source{{PartID: c.id, PartNext: c.next}}
}

// cutAt is the inverse of [cut.sources].
func cutAt(sources []record.Source) (c cut) {
	for _, s := range sources {
		if s.Name == "" {
			c = cut{s.PartID, s.PartNext}
		}
	}
	return c
}

// A cutter divides the bytes of a file into records: the case where that takes
// no more than finding line feeds.
type cutter struct {
	max    int           // content bytes of the longest record
	id     func() uint64 // makes the id of a cut record
	trimCR bool          // a CR before the LF is part of the line end
}

// An edge is what the end of the bytes is to a line that they do not finish.
type edge uint8

const (
	open    edge = iota // more may come
	flushed             // more may come, but it was waited for long enough
	final               // nothing will come
)

// split appends the records that begin b, which lies at offset at of the file,
// and returns how many bytes they take, line ends included. It stops before a
// line that is not finished, after [record.MaxChunkRecords], and before a
// record that would bring the bytes over limit, unless it is the first; full
// says that it stopped for the last two. A line that is not finished is a piece
// where the end is flushed, whole where it is final. A line longer than c.max is
// cut in pieces, none inside a UTF-8 sequence; one more byte than c.max in b
// without a line feed is enough to know.
func (c cutter) split(recs []record.Record, b []byte, at int64, part *cut, limit int, e edge) (_ []record.Record, n int, full bool) {
	first := len(recs)
	for n < len(b) {
		if len(recs)-first >= record.MaxChunkRecords {
			return recs, n, true
		}
		rest := b[n:]
		size := bytes.IndexByte(rest[:min(len(rest), c.max+1)], '\n')
		last, lf := true, 1
		switch {
		case size >= 0:
		case len(rest) > c.max:
			size, last, lf = c.whole(rest, c.max), false, 0
		case e == final:
			size, lf = len(rest), 0
		case e == flushed:
			size, last, lf = c.whole(rest, len(rest)), false, 0
		}
		if size < 0 || size+lf == 0 {
			return recs, n, false
		}
		if n > 0 && n+size+lf > limit {
			return recs, n, true
		}
		r := record.Record{Content: rest[:size:size], Offset: at + int64(n)}
		if c.trimCR && lf == 1 && size > 0 && rest[size-1] == '\r' {
			r.Content = rest[: size-1 : size-1]
		}
		if part.id != 0 || !last {
			r.Part = part.piece(last, c.id)
		}
		recs = append(recs, r)
		n += size + lf
	}
	if e == final && part.id != 0 && len(recs) == first {
		recs = append(recs, record.Record{Content: []byte{}, Offset: at, Part: part.piece(true, nil)})
	}
	return recs, n, false
}

// piece returns the next piece's place in the record.
func (c *cut) piece(last bool, id func() uint64) *record.Part {
	if c.id == 0 {
		c.id = id()
	}
	p := &record.Part{ID: c.id, Index: c.next, Last: last}
	c.next++
	if last {
		*c = cut{}
	}
	return p
}

// whole returns the longest length up to n at which b can be cut without
// cutting a UTF-8 sequence, or a line end. Bytes that are no UTF-8 are cut
// anywhere.
func (c cutter) whole(b []byte, n int) int {
	if c.trimCR && b[n-1] == '\r' {
		return n - 1
	}
	for k := 1; k < utf8.UTFMax && k <= n; k++ {
		if r := b[n-k]; utf8.RuneStart(r) {
			if r >= utf8.RuneSelf && !utf8.FullRune(b[n-k:n]) {
				return n - k
			}
			return n
		}
	}
	return n
}
