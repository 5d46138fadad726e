package cred

import (
	"context"
	"errors"
	"sync"
	"time"
)

// retryAfter is how long a Source that has good credentials leaves a Provider
// alone that failed.
const retryAfter = time.Second

// A Source hands out the credentials that its Provider finds. It is safe for
// concurrent use; however many ask, one at a time fetches, and those who waited
// for it take what it found.
type Source struct {
	p    Provider
	turn chan struct{} // holds one value while somebody fetches

	mu      sync.Mutex
	good    *found    // nil = none yet; what it points to does not change
	err     error     // of the newest fetch
	failing time.Time // when the fetches in vain began
	tried   time.Time
	fetches int64 // finished
	failed  int64 // of these
}

// found is what a fetch that went well brought.
type found struct {
	c     Credentials
	stamp string // taken before it: a change meanwhile shows as a change since
	at    time.Time
}

// New returns a Source of what p finds. It looks nothing up yet.
func New(p Provider) *Source {
	return &Source{p: p, turn: make(chan struct{}, 1)}
}

// Get returns the credentials to use now: the cached ones unless they have
// changed or are about to expire. While looking again fails, it returns the
// last good ones until they expire, and [Source.State] tells the failure.
func (s *Source) Get(ctx context.Context) (Credentials, error) {
	stamp := s.p.Stamp()
	now := time.Now()
	s.mu.Lock()
	good, gen := s.good, s.fetches
	rested := s.err == nil || now.Sub(s.tried) >= retryAfter
	s.mu.Unlock()

	switch {
	case good == nil || good.expired(now):
		return s.fetch(ctx, gen, nil)
	case good.holds(stamp, now) || !rested:
		return good.c, nil
	}
	return s.fetch(ctx, gen, good)
}

// Refresh looks again although nothing seems to have changed, and returns what
// it found: for a service that has refused what Get returned. It fails where
// looking fails; Get goes on with the last good ones.
func (s *Source) Refresh(ctx context.Context) (Credentials, error) {
	s.mu.Lock()
	gen := s.fetches
	s.mu.Unlock()
	return s.fetch(ctx, gen, nil)
}

// A State is how a [Source] stands.
type State struct {
	Fetched time.Time // when the credentials in use were found; zero = none yet
	Expires time.Time // when these end; zero = not known to
	Fetches int64     // how often they were looked up
	Failed  int64     // how often in vain
	Err     error     // of the newest look-up, an [*Error]; nil = it went well
	Failing time.Time // since when look-ups go in vain; zero = the newest did not
}

// State returns how s stands.
func (s *Source) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := State{Fetches: s.fetches, Failed: s.failed, Err: s.err, Failing: s.failing}
	if s.good != nil {
		st.Fetched, st.Expires = s.good.at, s.good.c.Expires
	}
	return st
}

// fetch has the Provider look, or waits for another's look to end: gen is the
// number of fetches that the caller knows of. With a good, which has not
// expired, it neither waits nor fails.
func (s *Source) fetch(ctx context.Context, gen int64, good *found) (Credentials, error) {
	select {
	case s.turn <- struct{}{}:
	default:
		if good != nil {
			return good.c, nil
		}
		select {
		case s.turn <- struct{}{}:
		case <-ctx.Done():
			return Credentials{}, ctx.Err()
		}
	}
	defer func() { <-s.turn }()

	s.mu.Lock()
	done := s.fetches != gen
	s.mu.Unlock()
	if !done {
		stamp := s.p.Stamp()
		c, err := s.p.Fetch(ctx)
		if err == nil || ctx.Err() == nil {
			s.note(c, stamp, err)
		} else if good == nil {
			return Credentials{}, ctx.Err() // says nothing about the Provider: the next in turn looks
		}
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil && good == nil {
		return Credentials{}, s.err
	}
	return s.good.c, nil
}

func (s *Source) note(c Credentials, stamp string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	f := &found{c, stamp, now}
	if err == nil && f.expired(now) {
		err = &Error{Expired, "access key", errors.New("had expired when it came; set the clock right")}
	}
	s.fetches++
	s.tried, s.err = now, err
	if err != nil {
		s.failed++
		if s.failing.IsZero() {
			s.failing = now
		}
		return
	}
	s.good, s.failing = f, time.Time{}
}

func (f *found) expired(now time.Time) bool {
	return !f.c.Expires.IsZero() && !now.Before(f.c.Expires)
}

// holds reports that f need not be fetched again: nothing changed, and its end
// is neither within 10 minutes nor within a fifth of its life, whichever is
// less.
func (f *found) holds(stamp string, now time.Time) bool {
	if stamp == "" || stamp != f.stamp {
		return false
	}
	if f.c.Expires.IsZero() {
		return true
	}
	margin := min(10*time.Minute, f.c.Expires.Sub(f.at)/5)
	return now.Before(f.c.Expires.Add(-margin))
}
