package main

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sealtail/internal/loop"
	"sealtail/record"
	"sealtail/seal"
	"sealtail/spool"
)

// A committer is the way into the spool: an entry is an envelope and the
// positions that moved with it.
type committer struct {
	spool     *spool.Spool
	committed func(moved []record.Position) // nil = nobody is told
	pending   *discoveries                  // nil = none
	turned    loop.Turn
	lost      atomic.Pointer[record.Losses] // as of the newest entry; nil = as at the start

	mu    sync.Mutex // held while an entry is tried
	state *state     // as of the newest entry; guarded by mu once the line runs
}

// Append is for the pipeline.
func (c *committer) Append(ctx context.Context, env []byte, moved []record.Position) error {
	return c.commit(ctx, env, func() []record.Position {
		for i, p := range moved {
			known, _ := c.state.positions.Get(p.ID)
			moved[i] = p.Since(known)
		}
		return moved
	})
}

// found commits what the tailer knows of files past the pipeline, which may be
// waiting for a key or for room for hours: a restart meanwhile must know them,
// and how much of them there is to lose. How far a file is taken is the
// pipeline's to say; found never moves that.
func (c *committer) found(ctx context.Context) error {
	var tried int
	err := c.commit(ctx, nil, func() []record.Position {
		files := c.pending.all()
		tried = len(files)
		moved := make([]record.Position, 0, len(files))
		at := make(map[uint64]int, len(files)) // of each file in moved, which has it once
		for _, p := range files {
			if p.Forget {
				continue
			}
			known, ok := c.state.positions.Get(p.ID)
			if !ok {
				known = p
			}
			if !ok && p.Offset > 0 {
				continue // a chunk on its way has it
			}
			if known.Offset == 0 {
				p.Sources, p.Encoding = known.Sources, known.Encoding
				known = p
			}
			known.From, known.Was = known.Offset, known.Sources
			known = known.Since(p) // its copy has another inode; it may have been opened again
			if i, ok := at[p.ID]; ok {
				moved[i] = known
				continue
			}
			at[p.ID] = len(moved)
			moved = append(moved, known)
		}
		return moved
	})
	if err == nil {
		c.pending.done(tried)
	}
	return err
}

// turn is how long an entry that waits for room keeps others from being tried,
// and a wait for a key.
const turn = time.Second

// commit appends an entry, with the positions as they are when it is tried. The
// state takes it over once it is committed.
func (c *committer) commit(ctx context.Context, env []byte, moved func() []record.Position) error {
	return c.turned.Wait(ctx, func() error { return c.try(ctx, env, moved) })
}

func (c *committer) try(ctx context.Context, env []byte, moved func() []record.Position) error {
	ps, err := c.append(ctx, env, moved)
	if err == nil && c.committed != nil {
		c.committed(ps) // may wait for the service manager: others go on
	}
	return err
}

func (c *committer) append(ctx context.Context, env []byte, moved func() []record.Position) ([]record.Position, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, turn)
	defer cancel()
	ps := moved()
	if env == nil && len(ps) == 0 {
		return nil, nil
	}
	snapshot := func() []byte { return c.state.after(env, ps).Snapshot() }
	if err := c.spool.Append(ctx, env, c.state.positions.EncodeDelta(nil, ps), snapshot); err != nil {
		return nil, err
	}
	c.state.advance(env, ps)
	if slices.ContainsFunc(ps, func(p record.Position) bool { return p.Lost != record.Lost{} }) {
		lost := c.state.positions.Losses()
		c.lost.Store(&lost)
	}
	c.pending.forget(ps)
	if e, err := seal.Parse(env); err == nil { // positions alone are none
		c.state.named.add(e)
	}
	return ps, nil
}

// discoveries are what the tailer found and nobody committed yet.
type discoveries struct {
	mu    sync.Mutex
	files []record.Position
	wake  chan struct{} // holds one
}

// add is called by the tailer; it does not block.
func (d *discoveries) add(files []record.Position) {
	d.mu.Lock()
	d.files = append(d.files, files...)
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *discoveries) all() []record.Position {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.files)
}

// done takes the first n off: they are committed.
func (d *discoveries) done(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files = slices.Delete(d.files, 0, n)
}

// forget marks what was found of files that were forgotten with an entry since:
// it would bring them back.
func (d *discoveries) forget(moved []record.Position) {
	if d == nil || !slices.ContainsFunc(moved, func(p record.Position) bool { return p.Forget }) {
		return
	}
	forgotten := make(map[uint64]bool)
	for _, p := range moved {
		forgotten[p.ID] = p.Forget
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.files {
		d.files[i].Forget = d.files[i].Forget || forgotten[d.files[i].ID]
	}
}

// discoveries commits what is found until the tailer is done.
func (c *committer) discoveries(ctx context.Context, done <-chan struct{}) error {
	for ended := false; !ended; {
		select {
		case <-c.pending.wake:
		case <-done:
			ended = true
		}
		if err := c.found(ctx); err != nil {
			return err
		}
	}
	return nil
}
