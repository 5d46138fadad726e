package sls

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// A guard lets envelopes go only to a Logstore whose encryption was found to
// be the configured one. It compares when it is asked and the time has come.
type guard struct {
	turn chan struct{} // holds one value while somebody uses what follows

	at    time.Time // of the newest verdict; zero = none yet
	drift *Error    // that verdict; nil = it is the configured one
	fails int       // comparisons since then that could not be made
	fail  error     // the newest of them
	next  time.Time // of the next comparison
}

const (
	verdictHolds = 24 * time.Hour
	checkTimeout = 5 * time.Second
	recheckDrift = 20 * time.Second // after drift, and up to as much more: somebody is mending it
	recheckFirst = time.Minute      // after a comparison that could not be made, and up to half more
	recheckMax   = 5 * time.Minute
	hintDrift    = "nothing is shipped: mend the sink's encryption in the config and reload, or enable that of the Logstore (its algorithm and key cannot be changed)"
)

// check returns nil if envelopes may go.
func (g *guard) check(ctx context.Context, s *Store) error {
	select {
	case g.turn <- struct{}{}:
		defer func() { <-g.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if !time.Now().Before(g.next) {
		l, err := g.look(ctx, s)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			g.failed(err)
		default:
			g.judge(s, l)
		}
	}
	return g.answer()
}

// look asks about the Logstore: where a verdict holds that lets envelopes go,
// not for long.
func (g *guard) look(ctx context.Context, s *Store) (*Logstore, error) {
	if g.at.IsZero() || g.drift != nil || g.stale(time.Now()) {
		return s.c.Logstore(ctx)
	}
	within, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	l, err := s.c.Logstore(within)
	if within.Err() != nil && ctx.Err() == nil && err != nil {
		err = &Error{Class: Network, Op: "get logstore", err: fmt.Errorf("no answer within %v", checkTimeout)}
	}
	return l, err
}

// void forgets the verdict, because the Logstore it was about is gone: one
// that comes in its place is compared before anything is sent.
func (g *guard) void(ctx context.Context) {
	select {
	case g.turn <- struct{}{}:
		*g = guard{turn: g.turn, fail: g.fail, fails: g.fails}
		<-g.turn
	case <-ctx.Done():
	}
}

// judge notes a verdict.
func (g *guard) judge(s *Store, l *Logstore) {
	v := s.o.Encryption.Compare(l)
	now := time.Now()
	g.at, g.fails, g.fail = now, 0, nil
	for _, n := range v.Notes {
		s.tell(n)
	}
	if len(v.Differs) == 0 {
		g.drift = nil
		g.next = now.Add(s.o.CheckEvery/2 + rand.N(s.o.CheckEvery))
		return
	}
	g.drift = &Error{
		Class: Drift, Op: "compare the Logstore's encryption",
		Message: strings.Join(v.Differs, ", "), Hint: hintDrift,
	}
	g.next = now.Add(recheckDrift + rand.N(recheckDrift))
}

// failed notes a comparison that could not be made: no verdict.
func (g *guard) failed(err error) {
	now := time.Now()
	g.fail = err
	g.next = now.Add(recheck(g.fails))
	if e := (*Error)(nil); errors.As(err, &e) && e.Class == Absent {
		g.at, g.drift = time.Time{}, nil // as void
	}
	if g.at.IsZero() || g.stale(now) {
		g.next = now // whoever asks waits before asking again
	}
	g.fails++
}

// recheck draws the wait before the next comparison after n in a row that
// could not be made.
func recheck(n int) time.Duration {
	d := min(recheckFirst<<min(n, 10), recheckMax)
	return d + rand.N(d/2)
}

func (g *guard) stale(now time.Time) bool { return now.Sub(g.at) >= verdictHolds }

// answer tells what the newest verdict means now.
func (g *guard) answer() error {
	now := time.Now()
	switch {
	case g.drift != nil:
		e := *g.drift
		if g.fail != nil {
			e.Hint += "; it could not be compared anew (" + g.fail.Error() + ")"
		}
		if g.next.After(now) {
			e.again = g.next
			e.Hint += "; compared again at " + g.next.UTC().Format(time.RFC3339)
		}
		return &e
	case g.at.IsZero():
		return g.unknown("nothing is shipped before the Logstore's encryption is compared")
	case g.stale(now) && g.fail != nil:
		return g.unknown(fmt.Sprintf("nothing is shipped: the Logstore's encryption was last compared %v ago", now.Sub(g.at).Round(time.Minute)))
	}
	return nil
}

func (g *guard) unknown(hint string) error {
	var e *Error
	if !errors.As(g.fail, &e) {
		return g.fail
	}
	u := *e // others may hold it
	if u.Hint == "" {
		u.Hint = hint
	} else {
		u.Hint += "; " + hint
	}
	return &u
}
