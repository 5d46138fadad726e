package sls

import (
	"sync"

	"github.com/klauspost/compress/zstd"
)

// A body is a LogGroup as it is sent.
type body struct {
	raw, packed []byte // reused
}

// bodies keeps the memory of bodies between requests.
type bodies struct {
	pool    sync.Pool
	encoder *zstd.Encoder
}

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
	return &bodies{encoder: enc}
}

func (p *bodies) get() *body {
	if b, ok := p.pool.Get().(*body); ok {
		return b
	}
	return &body{}
}

func (p *bodies) put(b *body) { p.pool.Put(b) }

// pack compresses b.raw.
func (p *bodies) pack(b *body) []byte {
	b.packed = p.encoder.EncodeAll(b.raw, b.packed[:0])
	return b.packed
}
