package tail

import (
	"sync"

	"sealtail/record"
)

const (
	chunkBytes = 256 << 10 // content of one chunk, unless one record is longer
	smallChunk = 4 << 10
)

// A buffer is a chunk with the memory that its records alias.
type buffer struct {
	chunk record.Chunk
	mem   []byte
	recs  []record.Record
	moved []record.Position
	parts bool   // some record is a part
	own   []byte // content that does not lie in mem as it is
	room  []byte // for the next of it
	home  *sync.Pool
}

// A pool keeps buffers by size, so that a short line does not hold the memory
// of a long read. It is safe for concurrent use: receivers release chunks from
// their own goroutines. What is not used is left to the garbage collector.
type pool struct {
	sizes [5]int
	free  [5]sync.Pool
}

func newPool(maxRecord int) *pool {
	longest := max(maxRecord, chunkBytes) + printBytes + 2
	return &pool{sizes: [5]int{smallChunk, 16 << 10, 64 << 10, chunkBytes + printBytes, longest}}
}

// take returns a buffer of at least n bytes, at most the longest there is.
func (p *pool) take(n int) *buffer {
	i := 0
	for i < len(p.sizes)-1 && p.sizes[i] < n {
		i++
	}
	if b, ok := p.free[i].Get().(*buffer); ok {
		return b
	}
	b := &buffer{
		mem:   make([]byte, p.sizes[i]),
		recs:  make([]record.Record, 0, min(p.sizes[i]/256, record.MaxChunkRecords)),
		moved: make([]record.Position, 0, 1),
		home:  &p.free[i],
	}
	b.chunk.Recycle = b.recycle
	return b
}

// recycle takes the buffer back; it is its chunk's Recycle.
func (b *buffer) recycle(*record.Chunk) {
	if b.parts {
		clear(b.recs[:cap(b.recs)])
		b.parts = false
	}
	b.chunk = record.Chunk{Recycle: b.chunk.Recycle}
	b.recs, b.moved, b.own = b.recs[:0], b.moved[:0], b.own[:0]
	b.home.Put(b)
}

// copy returns a with sep and text behind it, in memory of the buffer's own. It
// is in place if a was the last to be returned.
func (b *buffer) copy(a, sep, text []byte) []byte {
	n := len(a) + len(sep) + len(text)
	k := len(b.own)
	if last := k - len(a); len(a) > 0 && last >= 0 && &b.own[last:k][0] == &a[0] && cap(b.own)-last >= n {
		b.own = append(append(b.own, sep...), text...)
		return b.own[last : last+n : last+n]
	}
	if cap(b.own)-k < n {
		b.own, k = make([]byte, 0, max(2*n, cap(b.mem))), 0 // what was returned keeps the old one
	}
	b.own = append(append(append(b.own, a...), sep...), text...)
	return b.own[k : k+n : k+n]
}
