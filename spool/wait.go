package spool

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// A gate is a mutex that can be waited for with a context.
type gate chan struct{}

func newGate() gate { return make(gate, 1) }

// lock takes the gate, or returns ctx's error if it ends first.
func (g gate) lock(ctx context.Context) error {
	select {
	case g <- struct{}{}:
		return nil
	default:
	}
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g gate) take()   { g <- struct{}{} }
func (g gate) unlock() { <-g }

// A signal wakes everybody who waits for it. Its owner guards it.
type signal struct{ ch chan struct{} }

func (g *signal) wait() <-chan struct{} {
	if g.ch == nil {
		g.ch = make(chan struct{})
	}
	return g.ch
}

func (g *signal) raise() {
	if g.ch != nil {
		close(g.ch)
		g.ch = nil
	}
}

// untilRoom calls try until it gives no reason to wait. It tries again when
// something was trimmed, and at least every Options.Retry: room on a disk comes
// without a sign. Where an envelope waits, positions that are let in past it end
// no wait.
func (s *Spool) untilRoom(ctx context.Context, envelope bool, try func() (why string, err error)) error {
	for {
		s.mu.Lock()
		room, err := s.room.wait(), s.err
		s.mu.Unlock()
		if err != nil {
			return err
		}
		why, err := try()
		s.mu.Lock()
		s.stats.Turned = time.Now()
		changed, since := s.stats.Waiting != why, s.waitsSince
		switch {
		case why != "":
			s.stats.Waiting = why
			s.envelopeWaits = s.envelopeWaits || envelope
			if since.IsZero() {
				s.waitsSince = time.Now()
			}
		case envelope || !s.envelopeWaits:
			s.stats.Waiting, s.waitsSince, s.envelopeWaits = "", time.Time{}, false
		default:
			since = time.Time{}
		}
		s.mu.Unlock()
		if err != nil {
			return err
		}
		if why == "" {
			if !since.IsZero() {
				s.log.Info("spool goes on", zap.String("dir", s.dir), zap.Duration("waited", time.Since(since)))
			}
			return nil
		}
		if changed {
			s.log.Warn("spool waits", zap.String("dir", s.dir), zap.String("why", why))
		}
		timer := time.NewTimer(s.o.Retry)
		select {
		case <-room:
		case <-timer.C:
		case <-ctx.Done():
			err = ctx.Err()
		}
		timer.Stop()
		if err != nil {
			return err
		}
	}
}
