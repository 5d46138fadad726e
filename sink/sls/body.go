package sls

import (
	"bytes"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// bodies makes LogGroups as they are sent, in memory that other requests had.
type bodies struct {
	spare chan *bytes.Buffer

	mu      sync.Mutex // held while a body is compressed
	encoder *zstd.Encoder
}

// spareBodies is how many buffers are kept for requests to come.
const spareBodies = 2

func newBodies() *bodies {
	// Matches are not worth looking for in base64: a small window costs
	// nothing and keeps the encoder small.
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithAllLitEntropyCompression(true),
		zstd.WithWindowSize(128<<10), zstd.WithLowerEncoderMem(true),
		zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	if err != nil {
		panic("sls: " + err.Error())
	}
	return &bodies{spare: make(chan *bytes.Buffer, spareBodies), encoder: enc}
}

// plain returns the LogGroup, of size bytes.
func (p *bodies) plain(g *logGroup, size int) *bytes.Buffer {
	b := p.room(size)
	g.write(b)
	return b
}

// packed returns the LogGroup, of size bytes, in zstd. Only that is ever whole
// in memory.
func (p *bodies) packed(g *logGroup, size int) *bytes.Buffer {
	b := p.room(size/4*3 + 16<<10) // base64 does not come out longer
	p.mu.Lock()
	defer p.mu.Unlock()
	p.encoder.ResetContentSize(b, int64(size))
	g.write(p.encoder)
	if err := p.encoder.Close(); err != nil {
		panic("sls: " + err.Error()) // memory takes all, and the size is known
	}
	return b
}

// room returns an empty buffer for size bytes: a spare one, unless it is too
// small, or so large that it is better left to the garbage collector.
func (p *bodies) room(size int) *bytes.Buffer {
	select {
	case b := <-p.spare:
		if n := b.Cap(); size <= n && n <= max(4*size, 1<<20) {
			b.Reset()
			return b
		}
	default:
	}
	return bytes.NewBuffer(make([]byte, 0, size))
}

// done takes back a buffer that nobody reads any more.
func (p *bodies) done(b *bytes.Buffer) {
	select {
	case p.spare <- b:
	default:
	}
}
