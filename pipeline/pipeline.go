// Package pipeline gathers chunks into batches, has each sealed and hands it
// to the spool, in order.
//
//	chunks ──▶ collect: Batch ──▶ zstd ──▶ Sealer ──(channel)──▶ append: Spool
//
// A batch is sealed when its encoding reaches MaxBytes, when it holds
// MaxRecords records or when its oldest chunk is MaxAge old. Where the
// compressed batch would be longer than MaxContent it is halved, each half
// compressed again. One goroutine collects, compresses and seals; another
// appends, so that an fsync does not hold up compression. Both wait inside
// themselves for what may pass: a key, room in the spool. Nothing is dropped:
// while they wait the channel of chunks is full and the files are the buffer.
//
// The pipeline also seals what the agent itself has to say: a start event at
// the beginning of each epoch, what News brings, such as a pause event after
// each pause, heartbeats in silence, and a last envelope, FINAL, with a stop
// event.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/zap"

	"sealtail/internal/loop"
	"sealtail/record"
)

// Kinds of an envelope, as a [Sealer] is told them: the flags of its header.
const (
	KindData      = 0x00
	KindFinal     = 0x02 // the last of its epoch, after a graceful stop
	KindHeartbeat = 0x04 // no records
)

// Codecs of an envelope's content.
const (
	CodecNone = 0
	CodecZstd = 1
)

// A Sealer makes envelopes. Seal waits while there is no key to seal with and
// returns an error only when ctx ends or when nothing can be sealed any more.
// first and last are unix nanoseconds. The envelope lies in buf, or in a longer
// array where buf has no room; the caller owns either.
type Sealer interface {
	Seal(ctx context.Context, buf []byte, kind uint8, first, last int64, codec uint8, content []byte) (env []byte, err error)
}

// A Spool commits envelopes with the positions that moved. Append returns
// once both are durable, and waits for room; env is nil where only positions
// moved. It keeps none of the slices. Its errors are final.
type Spool interface {
	Append(ctx context.Context, env []byte, moved []record.Position) error
}

// Options are what a pipeline is told of its stream.
type Options struct {
	Stream, Host string
	Tags         []record.Tag
	MaxBytes     int                    // encoded bytes at which a batch is sealed; 0 = 2 MiB
	MaxRecords   int                    // 0 = no such bound
	MaxAge       time.Duration          // 0 = 1 s
	MaxContent   int                    // longest content that an envelope takes; at least record.MaxChunkEncoded
	Level        string                 // of zstd: "fastest" (also ""), "default", "better"
	Heartbeat    time.Duration          // silence after which a heartbeat is sealed; 0 = none
	Start        []record.Event         // sealed first
	News         func() []*record.Chunk // events that came up since its last call, with what moves in their entry; nil = none
	Stop         string                 // reason that the stop event gives; "" = no FINAL envelope
	Log          *zap.Logger
}

// A Pipeline is one stream's. Use [New].
type Pipeline struct {
	o      Options
	sealer Sealer
	spool  Spool
	zstd   *zstd.Encoder
	buf    []byte // of the last compression
	sealed chan entry
	spare  chan []byte // memory of envelopes that are committed
	count  counters
}

// An entry is what the appending goroutine is handed.
type entry struct {
	env   []byte
	moved []record.Position
}

// Stats counts what went through since the start. Bytes: Taken of the files,
// Raw of these the records', Encoded of LogGroupLists, Content after
// compression, Sealed of envelopes.
type Stats struct {
	Records, Batches, Halved, Heartbeats, Pauses int64
	Taken, Raw, Encoded, Content, Sealed         int64

	// When its two goroutines went on last: at least each second, but for what
	// Sealer and Spool wait for themselves. Zero while Run does not run.
	Collected, Appended time.Time
}

type counters struct {
	records, batches, halved, heartbeats, pauses atomic.Int64
	taken, raw, encoded, content, sealed         atomic.Int64
	collected, appended                          loop.Turn
}

// turn is how long a goroutine waits at a time.
const turn = time.Second

// New returns a pipeline that seals with sealer and commits to spool.
func New(o Options, sealer Sealer, spool Spool) (*Pipeline, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = 2 << 20
	}
	if o.MaxAge == 0 {
		o.MaxAge = time.Second
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	options, err := encoderOptions(o.Level)
	if err != nil {
		return nil, err
	}
	if o.MaxContent < record.MaxChunkEncoded {
		return nil, fmt.Errorf("an envelope of %d bytes does not take a chunk of %d", o.MaxContent, record.MaxChunkEncoded)
	}
	enc, err := zstd.NewWriter(nil, options...)
	if err != nil {
		return nil, fmt.Errorf("set up zstd: %w", err)
	}
	return &Pipeline{o: o, sealer: sealer, spool: spool, zstd: enc, sealed: make(chan entry, 1), spare: make(chan []byte, 2)}, nil
}

// encoderOptions are zstd's for a level. Its fastest level finds no more in a
// window longer than 256 KiB, which costs memory and cache.
func encoderOptions(level string) ([]zstd.EOption, error) {
	// The AEAD's tag covers what zstd's checksum would.
	o := []zstd.EOption{zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false)}
	switch level {
	case "", "fastest":
		return append(o, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true)), nil
	case "default":
		return append(o, zstd.WithEncoderLevel(zstd.SpeedDefault)), nil
	case "better":
		return append(o, zstd.WithEncoderLevel(zstd.SpeedBetterCompression)), nil
	}
	return nil, fmt.Errorf("compression level %q: use fastest, default or better", level)
}

// Stats may be called at any time.
func (p *Pipeline) Stats() Stats {
	c := &p.count
	return Stats{
		Records: c.records.Load(), Batches: c.batches.Load(), Halved: c.halved.Load(),
		Heartbeats: c.heartbeats.Load(), Pauses: c.pauses.Load(),
		Taken: c.taken.Load(), Raw: c.raw.Load(), Encoded: c.encoded.Load(), Content: c.content.Load(), Sealed: c.sealed.Load(),
		Collected: c.collected.Time(), Appended: c.appended.Time(),
	}
}

// Run seals what comes in until in is closed and everything taken is
// committed, or until ctx ends, which leaves the rest in its files. It returns
// an error only where it is final.
func (p *Pipeline) Run(ctx context.Context, in <-chan *record.Chunk) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	appended := make(chan error, 1)
	go func() {
		err := p.append(ctx)
		if err != nil {
			cancel(err) // the collector may be waiting for a key
		}
		appended <- err
	}()
	err := p.collect(ctx, in)
	p.count.collected.Store(nil)
	close(p.sealed)
	if appendErr := <-appended; appendErr != nil {
		err = appendErr
	}
	p.zstd.Close()
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// append commits sealed batches in the order in which they were sealed.
func (p *Pipeline) append(ctx context.Context) error {
	defer p.count.appended.Store(nil)
	tick := time.NewTicker(turn)
	defer tick.Stop()
	for {
		p.count.appended.Now()
		select {
		case e, ok := <-p.sealed:
			if !ok {
				return nil
			}
			if err := p.spool.Append(ctx, e.env, e.moved); err != nil {
				return fmt.Errorf("append to spool: %w", err)
			}
			if e.env != nil {
				select {
				case p.spare <- e.env:
				default:
				}
			}
		case <-tick.C:
		}
	}
}

// collect fills batches and seals them.
func (p *Pipeline) collect(ctx context.Context, in <-chan *record.Chunk) error {
	batch := record.NewBatch(p.o.Stream, p.o.Host, p.o.Tags)
	age := newTimer()
	defer age.Stop()
	silence := newTimer()
	defer silence.Stop()
	for _, e := range p.o.Start {
		batch.AddEvent(e)
		age.Reset(p.o.MaxAge)
	}
	quiet := func() {
		if p.o.Heartbeat > 0 {
			silence.Reset(p.o.Heartbeat)
		}
	}
	quiet()
	tick := time.NewTicker(turn)
	defer tick.Stop()
	for {
		p.count.collected.Now()
		sealed := p.count.sealed.Load()
		select {
		case c, ok := <-in:
			if !ok {
				return p.finish(ctx, batch)
			}
			if batch.Empty() {
				age.Reset(p.o.MaxAge)
			}
			batch.Add(c)
			c.Release()
			if batch.Size() < p.o.MaxBytes && (p.o.MaxRecords == 0 || batch.Records() < p.o.MaxRecords) {
				continue
			}
		case <-tick.C:
			if p.news(batch) {
				age.Reset(p.o.MaxAge)
			}
			continue
		case <-age.C:
		case <-silence.C:
			if err := p.heartbeat(ctx, batch); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := p.seal(ctx, batch, KindData); err != nil {
			return err
		}
		if p.count.sealed.Load() != sealed {
			quiet()
		}
		age.Stop()
	}
}

// finish seals what is left, then what is new and a stop event in an envelope
// marked FINAL.
func (p *Pipeline) finish(ctx context.Context, batch *record.Batch) error {
	if err := p.seal(ctx, batch, KindData); err != nil || p.o.Stop == "" {
		return err
	}
	p.news(batch) // a pause that just ended
	batch.AddEvent(record.Event{Name: "stop", Time: time.Now(), Fields: []record.Tag{{Key: "reason", Value: p.o.Stop}}})
	return p.seal(ctx, batch, KindFinal)
}

// news adds what is new and reports whether the batch was empty before.
func (p *Pipeline) news(batch *record.Batch) (first bool) {
	if p.o.News == nil {
		return false
	}
	for _, c := range p.o.News() {
		first = first || batch.Empty()
		batch.Add(c)
		for _, e := range c.Events {
			if e.Name == "pause" {
				p.count.pauses.Add(1)
			}
		}
	}
	return first
}

// seal has the batch sealed, in halves where it is too long, and resets it.
func (p *Pipeline) seal(ctx context.Context, batch *record.Batch, kind uint8) error {
	if err := p.sealBatch(ctx, batch, kind); err != nil {
		return err
	}
	batch.Reset()
	return nil
}

// sealBatch seals the batch or, where the envelope would be too long, its
// halves; the last one is of the kind given.
func (p *Pipeline) sealBatch(ctx context.Context, batch *record.Batch, kind uint8) error {
	if batch.Empty() {
		return nil
	}
	if batch.Size() == 0 {
		p.count.taken.Add(batch.Taken())
		return p.commit(ctx, entry{moved: batch.Moved()})
	}
	content, codec := p.compress(batch.Encoded())
	if len(content) > p.o.MaxContent {
		p.count.halved.Add(1)
		x, y := batch.Halve()
		if err := p.sealBatch(ctx, x, KindData); err != nil {
			return err
		}
		return p.sealBatch(ctx, y, kind)
	}
	first, last := batch.Times()
	env, err := p.sealer.Seal(ctx, p.room(), kind, first, last, codec, content)
	if err != nil {
		return fmt.Errorf("seal batch: %w", err)
	}
	p.count.batches.Add(1)
	p.count.records.Add(int64(batch.Records()))
	p.count.taken.Add(batch.Taken())
	p.count.raw.Add(batch.Raw())
	p.count.encoded.Add(int64(batch.Size()))
	p.count.content.Add(int64(len(content)))
	p.count.sealed.Add(int64(len(env)))
	return p.commit(ctx, entry{env, batch.Moved()})
}

// heartbeat seals an envelope without records, unless there is something to
// seal at once instead.
func (p *Pipeline) heartbeat(ctx context.Context, batch *record.Batch) error {
	if batch.Size() > 0 {
		return nil
	}
	now := time.Now().UnixNano()
	env, err := p.sealer.Seal(ctx, nil, KindHeartbeat, now, now, CodecNone, nil)
	if err != nil {
		return fmt.Errorf("seal heartbeat: %w", err)
	}
	p.count.heartbeats.Add(1)
	p.count.sealed.Add(int64(len(env)))
	return p.commit(ctx, entry{env: env})
}

func (p *Pipeline) commit(ctx context.Context, e entry) error {
	tick := time.NewTicker(turn)
	defer tick.Stop()
	for {
		p.count.collected.Now()
		select {
		case p.sealed <- e:
			return nil
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// room returns memory for an envelope.
func (p *Pipeline) room() []byte {
	select {
	case b := <-p.spare:
		return b
	default:
		return nil
	}
}

// compress returns the content to seal, valid until the next call: the list
// itself where zstd does not make it shorter.
func (p *Pipeline) compress(list []byte) (content []byte, codec uint8) {
	p.buf = p.zstd.EncodeAll(list, p.buf[:0])
	if len(p.buf) >= len(list) {
		return list, CodecNone
	}
	return p.buf, CodecZstd
}

// newTimer returns a timer that is not running.
func newTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}
