package main

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"sealtail/record"
	"sealtail/seal"
)

// pauses tell a stream's chain of each pause of its data keys, whether or not
// something waited in it. When a pause begins a note of it is committed, which
// goes with the entry that tells the pause. One that a restart cuts is told by
// the process that gets a data key, as far as to the next pause that was noted,
// or to that process's start.
type pauses struct {
	mu  sync.Mutex
	cut []*record.Chunk // events of pauses that were cut; guarded by mu
	at  *seal.Pause     // the oldest that is not told; guarded by mu
	id  uint64          // of at's note; guarded by mu
}

// newPauses goes on from the notes of a line before, be it of another process
// or of this one, whose data keys may still be in that pause.
func newPauses(keys *seal.Keys, noted []record.Position) *pauses {
	until := time.Now()
	if now := keys.State(); now.Phase == seal.Init {
		until = now.Since // as of when the next pause would begin
	}
	p := &pauses{at: keys.Pauses(), id: rand.Uint64()}
	lasts := p.at.Begun()
	if lasts {
		until = p.at.From
	}
	slices.SortFunc(noted, func(a, b record.Position) int { return cmp.Compare(b.Paused, a.Paused) })
	for _, n := range noted { // the latest first
		from := time.Unix(0, n.Paused)
		if lasts && from.Equal(p.at.From) {
			p.id = n.ID
			continue
		}
		p.cut = append(p.cut, tellPause(n.ID, n.Path, from, until))
		until = from
	}
	slices.Reverse(p.cut)
	return p
}

// news returns events of the pauses that ended since its last call. It is for
// the pipeline.
func (p *pauses) news() (chunks []*record.Chunk) {
	p.mu.Lock()
	defer p.mu.Unlock()
	chunks, p.cut = p.cut, nil
	for {
		to, reason, next, ended := p.at.Ended()
		if !ended {
			return chunks
		}
		chunks = append(chunks, tellPause(p.id, reason, p.at.From, to))
		p.at, p.id = next, rand.Uint64()
	}
}

// tellPause returns the event of a pause, which takes its note off. With a clock
// that was put back meanwhile it ends as it begins.
func tellPause(id uint64, reason string, from, to time.Time) *record.Chunk {
	return &record.Chunk{
		Events: []record.Event{{Name: "pause", Time: time.Now(), Fields: []record.Tag{
			{Key: "reason", Value: reason},
			{Key: "from", Value: strconv.FormatInt(from.UnixNano(), 10)},
			{Key: "to", Value: strconv.FormatInt(max(from.UnixNano(), to.UnixNano()), 10)},
		}}},
		Moved: []record.Position{{ID: id, Forget: true}},
	}
}

// note commits a note of each pause that begins, until ctx ends.
func (p *pauses) note(ctx context.Context, c *committer) error {
	p.mu.Lock()
	at := p.at
	p.mu.Unlock()
	for {
		reason, next, err := at.Begin(ctx)
		if err != nil {
			return err
		}
		err = c.commit(ctx, nil, func() []record.Position {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.at != at {
				return nil // told before there was room for a note
			}
			return []record.Position{{ID: p.id, Path: reason, Paused: at.From.UnixNano()}}
		})
		if err != nil {
			return err
		}
		at = next
	}
}
