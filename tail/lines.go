package tail

import (
	"bytes"
	"unicode/utf8"

	"sealtail/record"
)

// A cut is the record that is being cut because it is longer than the limit:
// the id its pieces share and the index of the next one. Zero id = none.
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

// A cutter divides the bytes of a file into records.
type cutter struct {
	max int           // content bytes of the longest record
	id  func() uint64 // makes the id of a cut record
}

// split appends the records that begin b, which lies at offset at of the file,
// and returns how many bytes they take, line ends included. It stops before a
// line that is not finished, after [record.MaxChunkRecords], and before a
// record that would bring the bytes over limit, unless it is the first; full
// says that it stopped for the last two. With final set the end of b ends its
// last line. A line longer than c.max is cut in pieces, none inside a UTF-8
// sequence; one more byte than c.max in b without a line feed is enough to
// know.
func (c cutter) split(recs []record.Record, b []byte, at int64, part *cut, limit int, final bool) (_ []record.Record, n int, full bool) {
	first := len(recs)
	for n < len(b) {
		if len(recs)-first >= record.MaxChunkRecords {
			return recs, n, true
		}
		rest := b[n:]
		size := bytes.IndexByte(rest[:min(len(rest), c.max+1)], '\n')
		last, end := true, 1
		switch {
		case size >= 0:
		case len(rest) > c.max:
			size, last, end = whole(rest, c.max), false, 0
		case final:
			size, end = len(rest), 0
		default:
			return recs, n, false
		}
		if n > 0 && n+size+end > limit {
			return recs, n, true
		}
		r := record.Record{Content: rest[:size:size], Offset: at + int64(n)}
		if part.id != 0 || !last {
			if part.id == 0 {
				part.id = c.id()
			}
			r.Part = &record.Part{ID: part.id, Index: part.next, Last: last}
			part.next++
			if last {
				*part = cut{}
			}
		}
		recs = append(recs, r)
		n += size + end
	}
	return recs, n, false
}

// whole returns the longest length up to n at which b can be cut without
// cutting a UTF-8 sequence. Bytes that are no UTF-8 are cut anywhere.
func whole(b []byte, n int) int {
	for k := 1; k < min(utf8.UTFMax, n); k++ {
		if c := b[n-k]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(b[n-k:n]) {
				return n - k
			}
			return n
		}
	}
	return n
}
