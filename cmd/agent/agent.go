package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"sealtail/conf"
	"sealtail/internal/command"
	"sealtail/seal"
	"sealtail/spool"
	"sealtail/status"
)

// An agent is the lines that a configuration names, the data keys that they
// share, and what outlives a change of it.
type agent struct {
	id      *identity
	held    *heldFiles
	systemd *status.Systemd
	log     *zap.Logger
	began   time.Time
	final   chan error // holds the first error that ends all
	board   status.Board
	untold  atomic.Bool   // the service manager could not be told
	changed chan struct{} // holds one: there is more to see than time brings

	mu     sync.Mutex   // guards what follows: run changes it, watch looks
	cfg    *conf.Config // in effect; at first, to be
	keys   map[keyUse]*runningKeys
	lines  map[string]*runningLine
	phase  string
	reload reloading
}

type runningKeys struct {
	*seal.Keys
	ring    *ring         // nil = they are not a keyring's
	trouble accessTrouble // of the access key; nil = there is none
	task
}

type runningLine struct {
	*line
	task
	trend status.Trend // for watch alone
}

// A task is a goroutine that can be ended by itself.
type task struct {
	end  context.CancelCauseFunc
	done chan struct{}
}

// start runs f. Its error ends the agent.
func (a *agent) start(ctx context.Context, name string, f func(context.Context) error) task {
	ctx, end := context.WithCancelCause(ctx)
	t := task{end, make(chan struct{})}
	go func() {
		defer close(t.done)
		if err := f(ctx); err != nil {
			a.fail(fmt.Errorf("%s: %w", name, err))
		}
	}()
	return t
}

func (a *agent) fail(err error) {
	select {
	case a.final <- err:
	default:
	}
}

// run keeps the lines until ctx ends or one fails for good. A value on again
// has the configuration read again.
func (a *agent) run(ctx context.Context, again <-chan os.Signal) error {
	// Data keys outlive the lines: a stop still seals what was read.
	alive, wipe := context.WithCancel(context.WithoutCancel(ctx))
	defer wipe()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	watched, endWatch := context.WithCancel(alive)
	var outside sync.WaitGroup
	w := new(watching)
	a.look(w) // before anybody asks: there is always a snapshot
	outside.Go(func() { a.watch(watched, w) })
	outside.Go(func() { a.listen(watched) })
	defer outside.Wait()
	defer endWatch()

	err := a.change(ctx, alive, a.cfg)
	if err == nil {
		a.setPhase("running")
		a.log.Info("started", zap.String("version", version()), zap.String("config", a.cfg.Digest),
			zap.String("host", a.cfg.Agent.Host), zap.Int("streams", len(a.lines)))
		a.tell(a.systemd.Notify("READY=1"))
	}
	for ctx.Err() == nil && err == nil {
		select {
		case <-again:
			a.readAgain(ctx, alive)
		case err = <-a.final:
		case <-ctx.Done():
		}
	}

	a.setPhase("stopping")
	limits := a.cfg.Agent.Stop
	a.log.Info("stopping", zap.Duration("seal_timeout", limits.SealTimeout), zap.Duration("ship_timeout", limits.ShipTimeout))
	a.tell(a.systemd.Notify("STOPPING=1"))
	stop()
	leave(slices.Collect(maps.Values(a.lines)))
	wipe()
	for _, k := range a.keys {
		<-k.done
	}
	a.log.Info("stopped", zap.Duration("after", time.Since(a.began).Round(time.Second)))
	if err == nil {
		select {
		case err = <-a.final:
		default:
		}
	}
	return err
}

// change has the agent do as cfg says: lines that it does not change go on,
// others end, and begin anew from the positions that they committed. Lines run
// under ctx, data keys under alive. An error is final.
func (a *agent) change(ctx, alive context.Context, cfg *conf.Config) error {
	var ended []*runningLine
	for name, l := range a.lines {
		if !sameLine(a.cfg, cfg, name) {
			l.end(errChanged)
			ended = append(ended, l)
		}
	}
	leave(ended)
	a.set(func() {
		for _, l := range ended {
			delete(a.lines, l.stream.Name)
		}
	})
	for use, k := range a.keys {
		if !sameKeys(a.cfg, cfg, use) {
			k.end(errChanged)
			<-k.done
			a.set(func() { delete(a.keys, use) })
		}
	}
	if ctx.Err() != nil {
		return nil // stopped meanwhile
	}
	a.held.keep(func(stream string) bool { return streamOf(cfg, stream) != nil })
	open, err := share(len(cfg.Streams))
	if err != nil {
		return err
	}
	for _, l := range a.lines {
		l.tail.SetMaxOpen(open) // those that go on
	}

	var opened []*line
	fresh := make(map[keyUse]*runningKeys)
	for _, s := range cfg.Streams {
		use := keysOf(s)
		keys := a.keys[use]
		if keys == nil {
			keys = fresh[use]
		}
		if keys == nil {
			if keys, err = openKeys(cfg, s, a.log, func() neededKeys { return a.needed(s.Key) }); err != nil {
				return err
			}
			fresh[use] = keys
		}
		if a.lines[s.Name] != nil {
			continue
		}
		l, err := openLine(cfg, s, a.id, keys.Keys, a.held, a.log)
		if err != nil {
			return newer(fmt.Errorf("stream %s: %w", s.Name, err))
		}
		opened = append(opened, l)
	}
	a.set(func() {
		a.cfg = cfg
		for use, k := range fresh { // now that it is known which keys the spools name
			k.task = a.start(alive, use.String(), k.Run)
			a.keys[use] = k
		}
		for _, l := range opened {
			a.lines[l.stream.Name] = &runningLine{line: l, task: a.start(ctx, "stream "+l.stream.Name, func(own context.Context) error { return l.run(own, ctx) })}
		}
	})
	return nil
}

// leave waits for lines that are ending. Each looks after its files until all
// have drained.
func leave(lines []*runningLine) {
	for _, l := range lines {
		<-l.drained
	}
	for _, l := range lines {
		close(l.leave)
	}
	for _, l := range lines {
		<-l.done
		l.tell()
	}
}

var errChanged = errors.New("the configuration changed")

func (a *agent) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

func (a *agent) setPhase(phase string) {
	a.set(func() { a.phase = phase })
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// tell notes, once, that the service manager could not be told.
func (a *agent) tell(err error) {
	if err != nil && !a.untold.Swap(true) {
		a.log.Warn("service manager cannot be told", zap.Error(err))
	}
}

func streamOf(cfg *conf.Config, name string) *conf.Stream {
	i := slices.IndexFunc(cfg.Streams, func(s conf.Stream) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return &cfg.Streams[i]
}

// sameLine reports whether a stream is the same under two configurations, with
// its key and its sink. What holds for the whole agent never changes.
func sameLine(x, y *conf.Config, name string) bool {
	s, t := streamOf(x, name), streamOf(y, name)
	return s != nil && t != nil && reflect.DeepEqual(s, t) && sameKeys(x, y, keysOf(*s))
}

func sameKeys(x, y *conf.Config, use keyUse) bool {
	used := slices.ContainsFunc(y.Streams, func(s conf.Stream) bool { return keysOf(s) == use })
	return used && reflect.DeepEqual(x.Keys[use.key], y.Keys[use.key]) && reflect.DeepEqual(x.Sinks[use.sink], y.Sinks[use.sink])
}

// newer gives an error of a state directory of a newer format the exit code
// that ends a restart loop.
func newer(err error) error {
	for _, format := range []error{spool.ErrNewer, seal.ErrNewer, errStateVersion} {
		if errors.Is(err, format) {
			return command.Fail(command.ExitConfig, err, "run the newer sealtail that wrote this state directory")
		}
	}
	return err
}

// tell logs what went through the line.
func (l *line) tell() {
	p, s := l.pipeline.Stats(), l.spool.Stats()
	l.log.Info("stream stopped", zap.Int64("records", p.Records), zap.Int64("raw_bytes", p.Raw),
		zap.Int64("batches", p.Batches), zap.Int64("sealed_bytes", p.Sealed),
		zap.Int64("unshipped_bytes", s.PendingBytes))
}
