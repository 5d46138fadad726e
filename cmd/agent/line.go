package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"sealtail/conf"
	"sealtail/internal/loop"
	"sealtail/pipeline"
	"sealtail/record"
	"sealtail/seal"
	"sealtail/sink"
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
	chain    *chain
	spool    *spool.Spool
	sink     *sink.Sink
	store    store
	commit   *committer
	pauses   *pauses
	lost     record.Losses // before this line
	named    *namedKeys    // by the spool's envelopes
	aside    atomic.Pointer[spool.Aside]
	drained  chan struct{} // closed once all is shipped that is to be
	leave    chan struct{} // closed once the files need nobody to look after them
	fromEnd  bool          // a first start that takes the files from their ends
	log      *zap.Logger

	beginning loop.Turn // while it is not begun
}

// A chain is seal's as the pipeline wants it. It waits for a key a turn at a
// time.
type chain struct {
	*seal.Chain
	turned loop.Turn
}

// Seal is for the pipeline.
func (c *chain) Seal(ctx context.Context, buf []byte, kind uint8, first, last int64, codec uint8, content []byte) ([]byte, error) {
	var env []byte
	err := c.turned.Wait(ctx, func() (err error) {
		env, err = c.try(ctx, buf, seal.Flags(kind), first, last, codec, content)
		return err
	})
	return env, err
}

func (c *chain) try(ctx context.Context, buf []byte, kind seal.Flags, first, last int64, codec uint8, content []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, turn)
	defer cancel()
	return c.Chain.Seal(ctx, buf, kind, first, last, codec, content)
}

// openLine builds a stream's line on the state that its spool holds, and on the
// deleted files that are held.
func openLine(cfg *conf.Config, s conf.Stream, id *identity, keys *seal.Keys, held *heldFiles, log *zap.Logger) (*line, error) {
	log = log.With(zap.String("stream", s.Name))
	end, err := openStore(cfg, s, log)
	if err != nil {
		return nil, startFault(cfg, "sink."+s.Sink, cfg.Sinks[s.Sink].Credentials, err)
	}

	st := &state{identity: id.signing, named: new(namedKeys)}
	where := filepath.Join(cfg.Agent.StateDir, "streams", s.Name)
	sp, err := spool.Open(where, spool.Options{
		MaxBytes: int64(s.Spool.MaxBytes), MinFree: float64(s.Spool.MinFree), Log: log,
	}, st)
	if err != nil {
		return nil, err
	}
	for _, d := range sp.Damages() {
		if !d.Known {
			log.Error("spool damaged", zap.Stringer("damage", d), zap.String("set_aside", d.File))
		}
	}
	_, err = os.Stat(filepath.Join(where, "shipped"))
	gone := !st.loaded && err == nil
	if gone {
		log.Error("all segments of the spool are gone: positions and chain begin anew, lines may be sealed twice", zap.String("spool", where))
	}
	l := &line{stream: s, stop: cfg.Agent.Stop, spool: sp, store: end, log: log,
		commit: &committer{spool: sp, state: st, pending: &discoveries{wake: make(chan struct{}, 1)},
			committed: func(moved []record.Position) { held.committed(s.Name, moved) }},
		drained: make(chan struct{}), leave: make(chan struct{}),
		lost: st.positions.Losses(), named: st.named, fromEnd: s.StartAt == "end" && !st.begun}
	l.lookAside()
	l.sink = sink.New(sink.Options{
		InFlight: end.inFlight, MaxRequest: end.maxRequest, RetryMax: cfg.Sinks[s.Sink].RetryMax, Stub: stub, Log: log.With(zap.String("sink", s.Sink)),
	}, sp, end)

	head := st.Head()
	sealer, err := newChain(cfg, s, id.signing, keys, head)
	if err != nil {
		return nil, err
	}
	l.pauses = newPauses(keys, st.pauses())
	l.chain = &chain{Chain: sealer}
	l.pipeline, err = newPipeline(cfg, s, l.chain, l.commit, pipeline.Options{
		Start: append([]record.Event{startEvent(cfg, head)}, lostHead(st)...),
		News:  l.pauses.news, Stop: "terminated", Log: log,
	})
	if err != nil {
		return nil, err
	}
	since := knownSince(st, where, s.StartAt == "end" || gone)
	l.tail, err = newTailer(s, len(cfg.Streams), tail.Options{
		Since: since, Positions: st.files(), Found: l.commit.pending.add, Key: id.key, Log: log,
		Held: held.of(s.Name), Hold: held.hold(s.Name),
		Waiting: func() bool { return keys.State().Phase == seal.Paused || sp.Stats().Waiting != "" },
	})
	return l, err
}

// knownSince returns when an agent looked at the stream's files last, or, as long
// as nothing was taken of any, when its directory was made; late says that what
// was before the positions is not meant. Zero: it is not known.
func knownSince(st *state, dir string, late bool) (since time.Time) {
	head := st.Head()
	taken := slices.ContainsFunc(st.files(), func(p record.Position) bool { return p.Offset > 0 })
	switch {
	case !taken && !late:
		since = madeAt(dir)
	case head != nil:
		since = time.Unix(0, head.Last)
	}
	return since
}

// madeAt returns when a directory was made, as far as its file system tells.
func madeAt(dir string) time.Time {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_BTIME, &st); err != nil || st.Mask&unix.STATX_BTIME == 0 {
		return time.Now()
	}
	return time.Unix(st.Btime.Sec, int64(st.Btime.Nsec))
}

// Descriptors that are left to what is not a followed file: for the process, and
// for each stream's spool, sink and watches.
const (
	reserveAll    = 32
	reserveStream = 12
	leastOpen     = 2 // of a stream's files
)

// neededFiles is the least limit of open files that suits so many streams.
func neededFiles(streams int) int { return reserveAll + streams*(reserveStream+leastOpen) }

// openFiles returns the limit of open files, which the runtime has raised to the
// hard one.
func openFiles() (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("get limit of open files: %w", err)
	}
	return int(min(limit.Cur, 1<<20)), nil
}

// fewFiles says what is wrong with the limit of open files; "" = nothing.
func fewFiles(streams int) (problem, fix string) {
	limit, err := openFiles()
	if err != nil || limit >= neededFiles(streams) {
		return "", ""
	}
	return fmt.Sprintf("%d streams need %d open files at least, the limit is %d", streams, neededFiles(streams), limit),
		"raise it: LimitNOFILE= of the unit, ulimit -Hn of the shell"
}

// share returns how many files a stream of so many may have open.
func share(streams int) (int, error) {
	limit, err := openFiles()
	if err != nil {
		return 0, err
	}
	return max(leastOpen, (limit-reserveAll)/max(1, streams)-reserveStream), nil
}

// newTailer gives a stream its share of the descriptors that there are.
func newTailer(s conf.Stream, streams int, o tail.Options) (*tail.Tailer, error) {
	var err error
	if o.MaxOpen, err = share(streams); err != nil {
		return nil, err
	}
	o.Include, o.Exclude, o.Rotated, o.IgnoreOlder = s.Include, s.Exclude, s.Rotated, s.IgnoreOlder
	o.Format, o.Encoding, o.TrimCR, o.FlushAfter = s.Format, s.Encoding, s.TrimCR, s.FlushAfter
	o.Multiline = tail.Multiline{
		Preset: s.Multiline.Preset, Start: s.Multiline.Start, Continuation: s.Multiline.Continuation, End: s.Multiline.End,
		MaxAge: s.Multiline.MaxAge, MaxBytes: int(s.Multiline.MaxBytes),
	}
	o.Keep, o.Drop, o.RateLimit = s.Keep, s.Drop, int64(s.RateLimit)
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

func newChain(cfg *conf.Config, s conf.Stream, signing *seal.Identity, keys *seal.Keys, head *seal.Head) (*seal.Chain, error) {
	suite, err := seal.ParseSuite(s.Suite)
	if err != nil {
		return nil, err
	}
	context, err := envelopeContext(cfg.Sinks[s.Sink])
	if err != nil {
		return nil, err
	}
	return seal.NewChain(seal.ChainOptions{
		Identity: signing, Keys: keys, Suite: suite, Context: context, Head: head, SM4Engine: cfg.Agent.SM4Engine,
	})
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

// lostHead names a chain that could not be gone on with, because its head was
// in damaged bytes of the spool, or says that nobody knows what was lost.
func lostHead(st *state) []record.Event {
	var reason string
	switch {
	case st.lost != nil && *st.lost != [16]byte{}:
		reason = fmt.Sprintf("head of stream %x lost in a damaged spool", *st.lost)
	case st.lost != nil || st.unknown:
		reason = "oldest segments lost in a damaged spool: what they held is not known"
	default:
		return nil
	}
	return []record.Event{{Name: "loss", Time: time.Now(), Fields: []record.Tag{
		{Key: "path", Value: ""}, {Key: "inode", Value: "0"}, {Key: "from", Value: "0"}, {Key: "to", Value: "0"},
		{Key: "reason", Value: reason},
	}}}
}

func stub(env []byte) ([]byte, error) {
	e, err := seal.Parse(env)
	if err != nil {
		return nil, err
	}
	return e.Stub(), nil
}

// changeTime is how long a line that begins anew seals what it has read, and
// ships what it has spooled.
const changeTime = time.Second

// run follows the files until ctx ends, then seals what was read and ships
// what is sealed, each within its time. Until others have done so, too, it looks
// after the files. agent ends with the agent, ctx also for a change. The error
// is final.
func (l *line) run(ctx, agent context.Context) error {
	drained := sync.OnceFunc(func() { close(l.drained) })
	defer drained()
	sealing, stopSealing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSealing()
	shipping, stopShipping := context.WithCancel(context.WithoutCancel(ctx))
	defer stopShipping()
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	looking, stopLooking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLooking()
	finding, stopFinding := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFinding()

	var stages stages
	chunks := make(chan *record.Chunk, 2)
	first := make(chan struct{}) // closed once the positions to begin from are committed
	ready := make(chan struct{}) // closed once the spool can be appended to
	stages.run("sink", stopReading, func() error { return l.sink.Run(shipping) })
	stages.run("tail", stopReading, func() error {
		select {
		case <-first:
			return l.tail.Run(looking, reading, chunks)
		case <-reading.Done():
			close(chunks)
			l.tail.Close()
			return nil
		}
	})
	stages.run("pipeline", stopReading, func() error {
		if err := l.begin(sealing, first); err != nil {
			return unlessEnded(sealing, err)
		}
		close(ready)
		return l.pipeline.Run(sealing, chunks)
	})
	tailed, piped := stages.done["tail"], stages.done["pipeline"]
	stages.run("discoveries", stopReading, func() error {
		select {
		case <-ready:
		case <-piped:
			return nil
		}
		return unlessEnded(finding, l.commit.discoveries(finding, tailed))
	})
	noting, stopNoting := context.WithCancel(sealing)
	defer stopNoting()
	stages.run("pauses", stopReading, func() error {
		select {
		case <-ready:
		case <-piped:
			return nil
		}
		return unlessEnded(noting, l.pauses.note(noting, l.commit))
	})
	stages.run("aside", stopReading, func() error { l.keepAside(noting); return nil })

	<-reading.Done()
	endLimit := limit(ctx, agent, l.stop.SealTimeout, stopSealing)
	stages.wait("pipeline")
	endLimit()
	stopNoting()
	stages.wait("pauses", "aside")
	l.tellUnsealed(sealing)
	l.spool.CloseInput()
	endLimit = limit(ctx, agent, l.stop.ShipTimeout, stopShipping)
	stages.wait("sink")
	endLimit()
	drained()
	if !stages.failed() {
		<-l.leave
	}
	stopLooking()
	stages.wait("tail")
	defer time.AfterFunc(changeTime, stopFinding).Stop()
	stages.wait("discoveries")
	return errors.Join(stages.err, l.store.close(), l.spool.Close())
}

// lookAside looks what the spool has set aside.
func (l *line) lookAside() {
	a := l.spool.Aside()
	l.aside.Store(&a)
}

// keepAside does so every now and then until ctx ends: somebody moves it away.
func (l *line) keepAside(ctx context.Context) {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.lookAside()
		case <-ctx.Done():
			return
		}
	}
}

// tellUnsealed tells if the time to seal ended before all was sealed.
func (l *line) tellUnsealed(sealing context.Context) {
	if sealing.Err() != nil {
		l.log.Warn("stopped before all was sealed: the rest stays in its files; of deleted files it stays only over a reload that keeps the stream, or a restart by systemd",
			zap.Duration("seal_timeout", l.stop.SealTimeout))
	}
}

// limit has stop called once the time is over, which is short if the line goes
// on soon. The agent may end after all, meanwhile.
func limit(ctx, agent context.Context, most time.Duration, stop func()) (done func()) {
	if !errors.Is(context.Cause(ctx), errChanged) {
		t := time.AfterFunc(most, stop)
		return func() { t.Stop() }
	}
	t := time.AfterFunc(min(most, changeTime), stop)
	listening := context.AfterFunc(agent, func() { t.Reset(most) })
	return func() { listening(); t.Stop() }
}

// unlessEnded drops an error that says no more than that ctx has ended: what
// waited then stays in its files.
func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// begin makes the spool ready to append to, and, at a first start that takes
// files from their ends, commits those ends before anything is read.
func (l *line) begin(ctx context.Context, first chan<- struct{}) error {
	l.beginning.Now()
	defer l.beginning.Store(nil)
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
	l.beginning.Store(nil) // the tailer tells of itself
	ends, err := l.tail.Ends(ctx)
	if err != nil {
		return err
	}
	l.beginning.Now()
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

func (s *stages) failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err != nil
}

func (s *stages) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}
