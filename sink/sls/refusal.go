package sls

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"sealtail/sink"
)

// send sends items in one request, and does about a refusal what its row in
// the table says.
func (s *Store) send(ctx context.Context, items []item) error {
	s.mu.Lock()
	plain, restamped := s.plain, false
	s.mu.Unlock()
	for {
		size, err := s.post(ctx, items, plain)
		if err == nil {
			s.took(items, plain)
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
			return s.alone(&items[0], e)
		case isolate, suspect:
			if !plain {
				plain = true
				continue
			}
			if len(items) > 1 {
				return s.halves(ctx, items)
			}
			return s.alone(&items[0], e)
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
	// What was refused before anything was taken may be the request's fault
	// still; it is tried again with the evidence of this time.
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

// alone judges the refusal of a single item. It is rejected if it is refused
// for itself: the service has taken others, or, for want of any, it was
// refused several times. What a proxy may have refused is never rejected.
func (s *Store) alone(it *item, e *Error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if it.version == versionStub || e.Code == "" {
		return e
	}
	if len(s.refusals) >= maxPlaces {
		clear(s.refusals)
	}
	at := it.place()
	s.refusals[at]++
	often := s.refusals[at] >= rejectAfter
	if e.do == suspect && !(often && s.accepted) || e.do != suspect && !(often || s.accepted) {
		e.Hint = strings.TrimPrefix(fmt.Sprintf("%s; refused alone %d times", e.Hint, s.refusals[at]), "; ")
		return e
	}
	delete(s.refusals, at)
	return &sink.RejectedError{Why: e.Code, Err: e}
}
