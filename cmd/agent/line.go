package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"sealtail/conf"
	"sealtail/pipeline"
	"sealtail/record"
	"sealtail/seal"
	"sealtail/sink"
	"sealtail/sink/dir"
	"sealtail/spool"
	"sealtail/tail"
)

// A line is one stream, from its files to its sink:
//
//	tail ──▶ pipeline ──▶ seal ──▶ spool ──▶ sink
//
// It is built from its end to its beginning and stopped from its beginning to
// its end.
type line struct {
	stream   conf.Stream
	stop     conf.Stop
	tail     *tail.Tailer
	pipeline *pipeline.Pipeline
	spool    *spool.Spool
	sink     *sink.Sink
	store    *dir.Store
	commit   *committer
	fromEnd  bool // a first start that takes the files from their ends
	log      *zap.Logger
}

// A committer is the pipeline's way into the spool: an entry is an envelope
// and the positions that moved with it. Only the appending goroutine uses it.
type committer struct {
	spool *spool.Spool
	state *state
}

func (c *committer) Append(ctx context.Context, env []byte, moved []record.Position) error {
	delta := c.state.positions.AppendDelta(nil, moved)
	if env != nil {
		c.state.last = env
	}
	return c.spool.Append(ctx, env, delta, c.state.Snapshot)
}

// A chain is seal's as the pipeline wants it.
type chain struct{ *seal.Chain }

func (c chain) Seal(ctx context.Context, kind uint8, first, last int64, codec uint8, content []byte) ([]byte, pipeline.Wait, error) {
	env, waited, err := c.Chain.Seal(ctx, seal.Flags(kind), first, last, codec, content)
	return env, pipeline.Wait(waited), err
}

// openLine builds a stream's line on the state that its spool holds.
func openLine(cfg *conf.Config, s conf.Stream, id *identity, keys *seal.Keys, log *zap.Logger) (*line, error) {
	log = log.With(zap.String("stream", s.Name))
	where := cfg.Sinks[s.Sink]
	store := dir.New(dir.Options{
		Path: where.Path, Stream: s.Name, MaxBytes: int64(where.MaxBytes), MaxAge: where.MaxAge,
	})
	st := &state{identity: id.signing}
	sp, err := spool.Open(filepath.Join(cfg.Agent.StateDir, "streams", s.Name), spool.Options{
		MaxBytes: int64(s.Spool.MaxBytes), MinFree: float64(s.Spool.MinFree), Log: log,
	}, st)
	if err != nil {
		return nil, err
	}
	l := &line{stream: s, stop: cfg.Agent.Stop, spool: sp, store: store, log: log,
		commit: &committer{sp, st}, fromEnd: s.StartAt == "end" && !st.begun}
	l.sink = sink.New(sink.Options{InFlight: 1, RetryMax: where.RetryMax, Stub: stub, Log: log}, sp, store)

	head, err := st.Head()
	if err != nil {
		return nil, fmt.Errorf("find the head of the chain: %w", err)
	}
	sealer, err := newChain(s, cfg.Agent, id.signing, keys, head)
	if err != nil {
		return nil, err
	}
	l.pipeline, err = newPipeline(cfg, s, chain{sealer}, l.commit, pipeline.Options{
		Start: append([]record.Event{startEvent(cfg, head)}, lostHeads(st)...),
		Stop:  "terminated", Log: log,
	})
	if err != nil {
		return nil, err
	}
	l.tail, err = newTailer(s, tail.Options{
		Positions: st.positions.All(), Key: id.key, Log: log,
	})
	return l, err
}

func newTailer(s conf.Stream, o tail.Options) (*tail.Tailer, error) {
	o.Include, o.Exclude = s.Include, s.Exclude
	o.HoldMaxBytes = max(1, int64(s.Hold.MaxBytes))
	if o.HoldMinFree = float64(s.Hold.MinFree); o.HoldMinFree == 0 {
		o.HoldMinFree = -1 // no floor
	}
	return tail.New(o)
}

func newPipeline(cfg *conf.Config, s conf.Stream, sealer pipeline.Sealer, sp pipeline.Spool, o pipeline.Options) (*pipeline.Pipeline, error) {
	o.Stream, o.Host = s.Name, cfg.Agent.Host
	for _, key := range slices.Sorted(maps.Keys(s.Tags)) {
		o.Tags = append(o.Tags, record.Tag{Key: key, Value: s.Tags[key]})
	}
	o.MaxBytes, o.MaxRecords = int(s.Batch.MaxBytes), int(s.Batch.MaxRecords)
	o.MaxAge, o.Level = s.Batch.MaxAge, s.Batch.Level
	o.MaxContent, o.Heartbeat = seal.MaxContent, s.Heartbeat
	return pipeline.New(o, sealer, sp)
}

func newChain(s conf.Stream, agent conf.Agent, signing *seal.Identity, keys *seal.Keys, head *seal.Head) (*seal.Chain, error) {
	suite, err := seal.ParseSuite(s.Suite)
	if err != nil {
		return nil, err
	}
	context, err := envelopeContext()
	if err != nil {
		return nil, err
	}
	return seal.NewChain(seal.ChainOptions{
		Identity: signing, Keys: keys, Suite: suite, Context: context, Head: head, SM4Engine: agent.SM4Engine,
	})
}

// envelopeContext is what stands in clear in the header of every envelope.
func envelopeContext() ([]byte, error) {
	return seal.EncodeContext(seal.Context{"fmt": "SE1"})
}

// startEvent opens an epoch and names the one before.
func startEvent(cfg *conf.Config, head *seal.Head) record.Event {
	if head == nil {
		head = new(seal.Head)
	}
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	return record.Event{Name: "start", Time: time.Now(), Fields: []record.Tag{
		{Key: "version", Value: version()},
		{Key: "config", Value: cfg.Digest},
		{Key: "epoch", Value: number(head.Epoch)},
		{Key: "seq", Value: number(head.Seq)},
		{Key: "since", Value: number(uint64(head.Last))},
	}}
}

// lostHeads names a chain that could not be gone on with, because its head
// was in damaged bytes of the spool.
func lostHeads(st *state) []record.Event {
	if st.lostHead == nil {
		return nil
	}
	return []record.Event{{Name: "loss", Time: time.Now(), Fields: []record.Tag{
		{Key: "path", Value: ""}, {Key: "inode", Value: "0"}, {Key: "from", Value: "0"}, {Key: "to", Value: "0"},
		{Key: "reason", Value: fmt.Sprintf("head of stream %x lost in a damaged spool", *st.lostHead)},
	}}}
}

func stub(env []byte) ([]byte, error) {
	e, err := seal.Parse(env)
	if err != nil {
		return nil, err
	}
	return e.Stub(), nil
}

// run follows the files until ctx ends, then seals what was read and ships
// what is sealed, each within its time. Its error is final.
func (l *line) run(ctx context.Context) error {
	sealing, stopSealing := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopSealing(nil)
	shipping, stopShipping := context.WithCancel(context.WithoutCancel(ctx))
	defer stopShipping()
	ctx, stopReading := context.WithCancel(ctx)
	defer stopReading()

	var stages stages
	chunks := make(chan *record.Chunk, 2)
	first := make(chan struct{}) // closed once the positions to begin from are committed
	stages.run("sink", stopReading, func() error { return l.sink.Run(shipping) })
	stages.run("tail", stopReading, func() error {
		select {
		case <-first:
			return l.tail.Run(ctx, chunks)
		case <-ctx.Done():
			close(chunks)
			return nil
		}
	})
	stages.run("pipeline", stopReading, func() error {
		defer l.spool.CloseInput()
		stop := context.AfterFunc(ctx, func() {
			time.AfterFunc(l.stop.SealTimeout, func() { stopSealing(errors.New("stop.seal_timeout is over")) })
		})
		defer stop()
		if err := l.begin(sealing, first); err != nil {
			return err
		}
		return l.pipeline.Run(sealing, chunks)
	})
	stages.wait("pipeline")
	patience := time.AfterFunc(l.stop.ShipTimeout, stopShipping)
	defer patience.Stop()
	stages.wait("sink", "tail")
	return errors.Join(stages.err, l.store.Close(), l.spool.Close())
}

// begin makes the spool ready to append to, and, at a first start that takes
// files from their ends, commits those ends before anything is read.
func (l *line) begin(ctx context.Context, first chan<- struct{}) error {
	if !l.fromEnd {
		close(first)
	}
	if err := l.spool.Recover(ctx); err != nil {
		return err
	}
	if !l.fromEnd {
		return nil
	}
	defer close(first)
	ends, err := l.tail.Ends(ctx)
	if err != nil {
		return err
	}
	return l.commit.Append(ctx, nil, ends)
}

// stages are the goroutines of a line. The first error stops the others.
type stages struct {
	mu   sync.Mutex
	err  error
	done map[string]chan struct{}
}

func (s *stages) run(name string, stop func(), f func() error) {
	done := make(chan struct{})
	if s.done == nil {
		s.done = make(map[string]chan struct{})
	}
	s.done[name] = done
	go func() {
		defer close(done)
		if err := f(); err != nil {
			s.fail(fmt.Errorf("%s: %w", name, err))
			stop()
		}
	}()
}

func (s *stages) wait(names ...string) {
	for _, name := range names {
		<-s.done[name]
	}
}

func (s *stages) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}
