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
		size, skew, err := s.post(ctx, items, plain)
		if err == nil {
			s.took(items, refusedAs, skew)
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
			return s.alone(ctx, &items[0], e)
		case isolate:
			if !plain {
				plain, refusedAs = true, e.Code
				continue
			}
			if len(items) > 1 {
				return s.halves(ctx, items)
			}
			return s.alone(ctx, &items[0], e)
		default:
			return e
		}
	}
}

// halves sends the halves of items apart. Though the first half holds one that
// is refused for itself, the second is sent: what it holds may be taken.
func (s *Store) halves(ctx context.Context, items []item) error {
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

// A refused tells how an envelope was refused alone.
type refused struct {
	rounds   int       // in a row in which its stub was taken behind it
	asked    time.Time // when the stub was sent last
	last     string    // what that showed, in words
	rejected bool      // a Put was told so; it asks again for each half
}

// refusal returns the record of an envelope that is refused now; s.mu is held.
func (s *Store) refusal(it *item) *refused {
	at := it.place()
	r := s.refusals[at]
	if r == nil {
		if len(s.refusals) >= maxPlaces {
			clear(s.refusals)
		}
		r = &refused{}
		s.refusals[at] = r
	}
	return r
}

// alone judges the refusal of a single item. An outage may answer as if the
// item were at fault. So the envelope's stub is sent behind it, which differs
// from it in what it holds alone and is what takes its place should it be
// rejected: it is, once the service has refused it and taken its stub
// rejectAfter times in a row, at least roundEvery apart. A stub that is not
// taken begins the count anew, and so does the Logstore's CMK where it cannot be
// used. What a proxy may have refused is never rejected.
func (s *Store) alone(ctx context.Context, it *item, e *Error) error {
	if it.version == versionStub || e.Code == "" {
		return e
	}
	now := time.Now()
	s.mu.Lock()
	r := s.refusal(it)
	rejected, ask := r.rejected, r.asked.IsZero() || now.Sub(r.asked) >= s.every
	if ask {
		r.asked = now
	}
	rounds := r.rounds
	s.mu.Unlock()
	if rejected {
		return &sink.RejectedError{Why: e.Code, Err: e}
	}
	if ask {
		no := s.witness(ctx, it, e)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if rounds++; no != "" {
			rounds = 0
		} else {
			no = fmt.Sprintf("its stub was taken behind it: once that was so %d times in a row it is parked, it was %d", rejectAfter, rounds)
		}
		s.mu.Lock()
		r.rounds, r.last, r.rejected = rounds, no, rounds >= rejectAfter
		rejected = r.rejected
		s.mu.Unlock()
	}
	s.mu.Lock()
	e.alone = r.rounds
	e.Hint = strings.TrimPrefix(e.Hint+"; refused alone, "+r.last, "; ")
	s.mu.Unlock()
	if rejected {
		return &sink.RejectedError{Why: e.Code, Err: e}
	}
	return e
}

// witness sends the stub of an envelope that e is about. It returns "" if it is
// taken and the Logstore's CMK may be usable, else in words why that does not
// tell the envelope's fault from the service's.
func (s *Store) witness(ctx context.Context, it *item, e *Error) string {
	stub, err := s.o.Stub(it.sealed)
	if err == nil {
		_, _, err = s.post(ctx, []item{{Carrier: it.Carrier, version: versionStub, why: e.Code, sealed: stub}}, true)
	}
	if refusal, ok := errors.AsType[*Error](err); ok && refusal.Code != "" {
		return "and so was its stub, as " + refusal.Code + ": it is not parked, for the service may be at fault"
	}
	if err != nil {
		return "and its stub was not taken: it is not parked, for the service may be at fault"
	}
	if state := s.key.bad(ctx, keyStateAfresh); state != "" {
		e.unusable(state)
		return "but it is not parked before the CMK is enabled"
	}
	return ""
}
