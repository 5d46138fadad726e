package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"sealtail/conf"
	"sealtail/record"
	"sealtail/seal"
	"sealtail/status"
)

const (
	lookEach   = time.Second
	stallAfter = time.Minute      // every loop goes on each second
	tryAfter   = 15 * time.Minute // a try of a sink is several requests of at most a minute each
	drainAhead = 15 * time.Second // that systemd is asked for at a time
)

// watch looks at all lines each second until ctx ends.
func (a *agent) watch(ctx context.Context, w *watching) {
	tick := time.NewTicker(lookEach)
	defer tick.Stop()
	for {
		a.look(w)
		select {
		case <-tick.C:
		case <-a.changed:
		case <-ctx.Done():
			return
		}
	}
}

// watching is what watch keeps from one look to the next: what the service
// manager was told, and what costs much to count.
type watching struct {
	descriptors int64
	counted     time.Time

	access  map[string]string // [key.NAME] or [sink.NAME] → why its access key cannot be looked up
	line    string
	fed     time.Time
	stalled bool
}

// look shows how all lines stand, and feeds the watchdog while every loop goes
// on.
func (a *agent) look(w *watching) {
	if time.Since(w.counted) >= 10*lookEach {
		w.counted = time.Now()
		w.descriptors = descriptors()
	}
	s := a.snapshot(w.descriptors)
	a.board.Post(s)
	a.tellAccess(w, s)
	var tell []string
	if line := s.Line(); line != w.line {
		w.line = line
		tell = append(tell, "STATUS="+line)
	}
	stalled := len(s.Stalled) > 0
	switch {
	case stalled && !w.stalled:
		a.log.Error("loops do not go on", zap.Strings("loops", s.Stalled))
	case !stalled && w.stalled:
		a.log.Info("all loops go on")
	}
	w.stalled = stalled
	if !stalled {
		if a.systemd != nil && a.systemd.Watchdog > 0 && time.Since(w.fed) >= a.systemd.Watchdog/4 {
			w.fed = time.Now()
			tell = append(tell, "WATCHDOG=1")
		}
		if s.Process.Phase == "stopping" {
			tell = append(tell, "EXTEND_TIMEOUT_USEC="+strconv.FormatInt(drainAhead.Microseconds(), 10))
		}
	}
	if len(tell) > 0 {
		a.tell(a.systemd.Notify(tell...))
	}
}

// tellAccess logs of each access key when it cannot be looked up, and when it
// can be again.
func (a *agent) tellAccess(w *watching, s *status.Snapshot) {
	now := make(map[string]string)
	note := func(of string, x status.Access) {
		if now[of] == "" {
			now[of] = x.Error
		}
	}
	for i := range s.Streams {
		l := &s.Streams[i]
		note("key."+l.KeyRef, l.Key.Access)
		note("sink."+l.To, l.Sink.Access)
	}
	for of, err := range now {
		switch before := w.access[of]; {
		case err != "" && before == "":
			a.log.Warn("access key cannot be looked up, the one found last is used", zap.String("of", of), zap.String("error", err))
		case err == "" && before != "":
			a.log.Info("access key is found again", zap.String("of", of))
		}
	}
	w.access = now
}

// listen answers at the socket and the address until ctx ends. What cannot be
// listened at is tried again: it is no reason to stop sealing.
func (a *agent) listen(ctx context.Context) {
	a.mu.Lock()
	agent, file := a.cfg.Agent, a.cfg.File // which no reload changes
	a.mu.Unlock()
	var all sync.WaitGroup
	serve := func(what, hint string, listen func() (net.Listener, error), whole bool) {
		all.Go(func() {
			for warned := false; ctx.Err() == nil; {
				l, err := listen()
				if err == nil {
					err = status.Serve(ctx, l, a.board.Handler(whole))
				}
				if err != nil && !warned {
					warned = true
					a.log.Warn("status cannot be served, trying again", zap.String("at", what), zap.Error(err), zap.String("hint", hint))
				}
				select {
				case <-time.After(10 * time.Second):
				case <-ctx.Done():
				}
			}
		})
	}
	serve(filepath.Join(agent.StateDir, "status.sock"), "sealtail status asks there: the agent's user has to be able to write to the state directory", func() (net.Listener, error) { return status.Listen(agent.StateDir) }, true)
	if agent.Listen != "" {
		serve(agent.Listen, "agent.listen in "+file+": choose another address, or free this one (ss -ltnp tells who has it); \"\" = no /livez, /readyz and /metrics", func() (net.Listener, error) { return net.Listen("tcp", agent.Listen) }, false)
	}
	all.Wait()
}

// snapshot is called by look alone.
func (a *agent) snapshot(descriptors int64) *status.Snapshot {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	s := &status.Snapshot{Time: now, Process: a.process(), Streams: []status.Stream{}, Stalled: []string{}}
	s.Process.Descriptors = descriptors
	for _, c := range a.cfg.Streams {
		l := a.lines[c.Name]
		if l == nil {
			continue // being opened
		}
		keys := a.keys[keysOf(l.stream)]
		x := l.status(c, a.cfg.Sinks[c.Sink], keys.State(), now)
		x.Key.Access, x.Sink.Access = keys.trouble.status(), l.store.trouble.status()
		x.Spool.Keys = l.spooledKeys()
		x.Spool.Destroyed = keys.ring.destroyedOf(x.Spool.Keys)
		l.trend.Add(now, &x)
		s.Streams = append(s.Streams, x)
		s.Stalled = append(s.Stalled, l.stalled(now)...)
	}
	for use, k := range a.keys {
		if k.State().Overdue > stallAfter {
			s.Stalled = append(s.Stalled, use.String())
		}
	}
	slices.Sort(s.Stalled)
	status.Judge(s)
	return s
}

// descriptors counts those of this process; where none is left to count with, it
// is as many as there may be.
func descriptors() int64 {
	d, err := os.Open("/proc/self/fd")
	if errors.Is(err, syscall.EMFILE) {
		limit, _ := openFiles()
		return int64(limit)
	}
	if err != nil {
		return 0
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	return int64(len(names))
}

func (a *agent) process() status.Process {
	p := status.Process{
		PID: os.Getpid(), Version: version(), Host: a.cfg.Agent.Host, ConfigFile: a.cfg.File, Config: a.cfg.Digest,
		StateDir: a.cfg.Agent.StateDir, Phase: a.phase, Started: a.began,
		Reloads: a.reload.done, Reloaded: a.reload.tried, Restart: a.reload.restart,
	}
	if a.reload.err != nil {
		p.ReloadError = a.reload.err.Error()
	}
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		p.MaxOpen = int64(min(limit.Cur, 1<<62))
	}
	var system unix.Sysinfo_t
	if unix.Sysinfo(&system) == nil {
		p.Swap = system.Totalswap > 0
	}
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		if f := bytes.Fields(b); len(f) > 1 {
			pages, _ := strconv.ParseInt(string(f[1]), 10, 64)
			p.Memory = pages * int64(os.Getpagesize())
		}
	}
	return p
}

// status is how the line stands; its data key stands as k.
func (l *line) status(c conf.Stream, end conf.Sink, k seal.KeyState, now time.Time) status.Stream {
	t, p, s, to := l.tail.Stats(), l.pipeline.Stats(), l.spool.Stats(), l.sink.Stats()
	x := status.Stream{
		Name: c.Name, Suite: c.Suite, KeyRef: c.Key, To: c.Sink,
		Files: status.Files{
			Followed: t.Files, Open: t.Open, Lag: t.Lag + max(0, t.Bytes+t.Again-p.Taken), Held: t.HeldBytes, Waiting: t.Waiting, Waits: t.Waits, Bytes: t.Bytes, Records: t.Records,
			Truncated: t.Truncated, Rewritten: t.Rewritten, Closed: t.Closed, ClosedAt: t.ClosedAt, ClosedErr: t.ClosedAs, Errors: t.ScanErrors + t.OpenErrors + t.ReadErrors,
		},
		Ledger: status.Ledger{
			Seen: t.Seen, Taken: t.Bytes, Dropped: t.Dropped, Filtered: t.Filtered, Malformed: t.Malformed, Holes: t.Hole,
		},
		Key: status.Key{
			State: k.Phase.String(), Since: k.Since, ID: k.KeyID, Age: k.DEKAge.Seconds(), Ends: k.DEKEnds, Locked: k.Locked,
			Proof: k.Proof, Next: k.Next, Calls: k.Calls, Rotated: k.Rotated,
		},
		Sealed: status.Sealed{
			Records: p.Records, Taken: p.Taken, RawBytes: p.Raw, Batches: p.Batches, Heartbeats: p.Heartbeats, Pauses: p.Pauses, Bytes: p.Sealed,
		},
		Spool: status.Spool{
			Bytes: s.Bytes, MaxBytes: int64(c.Spool.MaxBytes), MinFree: float64(c.Spool.MinFree), Pending: s.Pending, PendingB: s.PendingBytes, Oldest: s.Oldest,
			Waiting: s.Waiting, Since: s.Since, Recovered: s.Recovered,
		},
		Sink: status.Sink{
			InFlight: to.InFlight, Envelopes: to.Envelopes, Bytes: to.Bytes, Acked: to.Acked,
			Dir: end.Path, Error: to.Failing, Err: to.Err, Parking: to.Parking, Failing: to.Since, Retries: to.Retries, Parked: to.Parked,
		},
	}
	if t.ClosedAs != nil {
		x.Files.ClosedAs = t.ClosedAs.Error()
	}
	aside := l.aside.Load()
	x.Spool.Rejected, x.Spool.Damaged, x.Spool.Missing = int64(aside.Rejected), int64(aside.Damaged), aside.Missing
	told := l.lost
	if newer := l.commit.lost.Load(); newer != nil {
		told = *newer
	}
	x.Ledger.Loss, x.Ledger.Untold, x.Ledger.Recent = losses(l.lost, told, t.Lost, now)
	x.Ledger.Newest = told.Newest()
	for _, n := range k.Failed {
		x.Key.Failed += n
	}
	if k.Err != nil {
		x.Key.Reason, x.Key.Code, x.Key.Error = k.Reason.String(), k.Code, k.Err.Error()
	}
	return x
}

// losses adds up what was lost: all, of it what nobody was told yet, and what is
// recent. before is what was told when the line began, told what was since, own
// what the line's tailer lost. What is untold is as if it were lost now.
func losses(before, told record.Losses, own map[string]record.Lost, now time.Time) (all, untold, recent status.Loss) {
	was, known := before.Since(time.Time{}), told.Since(time.Time{})
	for reason, l := range known {
		all.Add(reason, l.Ranges, l.Bytes)
	}
	for reason, l := range told.Since(now.Add(-status.LossTold)) {
		recent.Add(reason, l.Ranges, l.Bytes)
	}
	for reason, l := range own {
		events := max(0, was[reason].Ranges+l.Ranges-known[reason].Ranges) // what is told may be newer than own
		bytes := max(0, was[reason].Bytes+l.Bytes-known[reason].Bytes)
		for _, sum := range []*status.Loss{&all, &untold, &recent} {
			sum.Add(reason, events, bytes)
		}
	}
	return all, untold, recent
}

// stalled names the loops of the line that do not go on. Waiting for a key, for
// room or for the network is going on.
func (l *line) stalled(now time.Time) (loops []string) {
	t, p, to := l.tail.Stats(), l.pipeline.Stats(), l.sink.Stats()
	late := func(loop string, after time.Duration, at, other time.Time) {
		if other.After(at) && !at.IsZero() {
			at = other
		}
		if !at.IsZero() && now.Sub(at) > after {
			loops = append(loops, l.stream.Name+": "+loop)
		}
	}
	late("recover", stallAfter, l.beginning.Time(), l.spool.Stats().Turned)
	late("tail", stallAfter, t.Turned, time.Time{})
	late("seal", stallAfter, p.Collected, l.chain.turned.Time())
	late("append", stallAfter, p.Appended, l.commit.turned.Time())
	late("ship", stallAfter, to.Turned, time.Time{})
	late("request", tryAfter, to.Trying, time.Time{})
	return loops
}
