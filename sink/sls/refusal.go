package sls

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"sealtail/sink"
)

// send sends items in one request, and does about a refusal what its row in
// the table says.
func (s *Store) send(ctx context.Context, items []item) error {
	s.mu.Lock()
	plain, restamped := time.Now().Before(s.plain), false
	s.mu.Unlock()
	refusedAs := ""
	for {
		size, sent, err := s.post(ctx, items, plain)
		if err == nil {
			s.took(items, refusedAs, sent)
			return nil
		}
		var e *Error
		if !errors.As(err, &e) {
			return err
		}
		s.key.settle(ctx, e)
		if e.Class == Unknown && s.o.Encryption.CMK != "" {
			e.Hint = hintMaybeCMK
		}
		switch e.do {
		case restamp:
			if restamped || e.Skew == 0 && s.skewed() == 0 {
				return e
			}
			restamped = true
			s.setSkew(e.Skew)
		case split:
			if len(items) > 1 {
				s.lower(size / 2)
				return s.halves(ctx, items)
			}
			return s.alone(ctx, &items[0], sent, e)
		case isolate, suspect:
			if !plain {
				plain, refusedAs = true, e.Code
				continue
			}
			if len(items) > 1 {
				return s.halves(ctx, items)
			}
			return s.alone(ctx, &items[0], sent, e)
		default:
			return e
		}
	}
}

// halves sends the halves of items apart. Though the first half holds one that
// is refused for itself, the second is sent: what it holds may be taken.
func (s *Store) halves(ctx context.Context, items []item) error {
	s.together(items)
	half := len(items) / 2
	first := s.send(ctx, items[:half])
	if first != nil && !ownFault(first) {
		return first
	}
	second := s.send(ctx, items[half:])
	if second != nil && !ownFault(second) {
		return second
	}
	return worse(first, second)
}

// worse returns the error that says more: a rejection, or else the first.
func worse(first, second error) error {
	var rejected *sink.RejectedError
	if first == nil || errors.As(second, &rejected) {
		return second
	}
	return first
}

// ownFault reports an error that says nothing about other envelopes.
func ownFault(err error) bool {
	var rejected *sink.RejectedError
	if errors.As(err, &rejected) {
		return true
	}
	var e *Error
	return errors.As(err, &e) && (e.Class == Content || e.Class == TooLarge)
}

// A moment orders what happens to requests; a later one is greater.
type moment uint64

// tick returns the present moment; s.mu is held.
func (s *Store) tick() moment {
	s.clock++
	return s.clock
}

// A sending is what was known when a request was sent, and what its answer told.
type sending struct {
	at    moment
	taken moment // when the newest request that was answered as taken had been sent

	skew time.Duration // as the answer told, if it was taken
}

// A refused tells how an envelope was refused.
type refused struct {
	together moment // first, in a request with others
	alone    moment // first, alone; 0 = not yet
	again    moment // alone, since when nothing else counts as taken
	times    int    // alone
	rounds   int    // times that something else was taken between two of them
	rejected bool   // a Put was told so; it asks again for each half
}

// refusal returns the record of an envelope that is refused now; s.mu is held.
func (s *Store) refusal(it *item) *refused {
	at := it.place()
	r := s.refusals[at]
	if r == nil {
		if len(s.refusals) >= maxPlaces {
			clear(s.refusals)
		}
		r = &refused{together: s.tick()}
		s.refusals[at] = r
	}
	return r
}

// together notes that items were refused in one request.
func (s *Store) together(items []item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range items {
		if items[i].version != versionStub {
			s.refusal(&items[i])
		}
	}
}

// alone judges the refusal of a single item. An outage may answer as if the
// item were at fault, so it is rejected only if the service took something
// else that was sent after it was refused alone, and then refused it again.
// Where the answer may be the request's fault, or all that was taken since was
// refused together with it, it must have been refused several times. While
// the Logstore's CMK may not be usable nothing is rejected. What a proxy may
// have refused never is.
func (s *Store) alone(ctx context.Context, it *item, sent sending, e *Error) error {
	if it.version == versionStub || e.Code == "" {
		return e
	}
	s.mu.Lock()
	r := s.refusal(it)
	if r.rejected {
		s.mu.Unlock()
		return &sink.RejectedError{Why: e.Code, Err: e}
	}
	r.times++
	switch {
	case r.alone == 0:
		r.alone = s.tick()
		r.again = r.alone
	case sent.taken > r.again:
		r.rounds++
		r.again = s.tick()
	}
	often := r.times >= rejectAfter
	reject := r.rounds > 0 && (often || e.do != suspect) || often && sent.taken > r.together
	own := s.o.Encryption.CMK != ""
	if own && s.key.ask == nil {
		reject = often && r.rounds > 1
	}
	e.Hint = strings.TrimPrefix(fmt.Sprintf("%s; refused alone %d times", e.Hint, r.times), "; ")
	s.mu.Unlock()
	if reject && own && s.key.ask != nil {
		state, known := s.key.now(ctx)
		if known && state != keyEnabled {
			e.unusable(state)
		}
		reject = known && state == keyEnabled
	}
	if !reject {
		return e
	}
	s.mu.Lock()
	r.rejected = true
	s.mu.Unlock()
	return &sink.RejectedError{Why: e.Code, Err: e}
}
