package reader

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"sealtail/seal"
)

// A pool holds the key sections met, by data key: an envelope that lost its
// own opens with another's.
type pool struct {
	keys  map[[16]byte]*dataKey
	tired bool // a key service was waited for in vain, and has not answered since
}

// A dataKey is what is known of one data key.
type dataKey struct {
	sections []*section  // distinct ones, in the order in which they were met
	dek      seal.Secret // empty: not unwrapped yet
	by       *section    // that it was unwrapped from
}

// A section is a key section. Sections are not signed: anybody may have
// written them.
type section struct {
	recipients []seal.Recipient // nil: one too many to be kept
	from       origin
	tried      bool
	err        error // of unwrapping, once tried
}

type origin uint8

const (
	fromEnvelope origin = 1
	fromKeyFile  origin = 2
)

// maxSections bounds the key sections kept, and so the unwraps tried, of one
// data key. Agents write one.
const maxSections = 16

var errTooManySections = errors.New("too many different key sections of one data key")

// add takes a key section in and returns the kept one that it equals.
func (p *pool) add(id [16]byte, rs []seal.Recipient, from origin) *section {
	k := p.keys[id]
	if k == nil {
		k = new(dataKey)
		p.keys[id] = k
	}
	for _, s := range k.sections {
		if slices.EqualFunc(s.recipients, rs, sameRecipient) {
			return s
		}
	}
	if len(k.sections) >= maxSections {
		return &section{from: from, tried: true, err: errTooManySections}
	}
	s := &section{from: from}
	for _, r := range rs {
		s.recipients = append(s.recipients, seal.Recipient{Type: r.Type, KeyID: bytes.Clone(r.KeyID), Wrapped: bytes.Clone(r.Wrapped)})
	}
	k.sections = append(k.sections, s)
	return s
}

func sameRecipient(a, b seal.Recipient) bool {
	return a.Type == b.Type && bytes.Equal(a.KeyID, b.KeyID) && bytes.Equal(a.Wrapped, b.Wrapped)
}

// unwrap returns the data key that h names, and the section it was unwrapped
// from: the envelope's own if that does, else the first that does. Each
// section is tried once, but for outages, whatever comes of it.
func (p *pool) unwrap(ctx context.Context, us []seal.Unwrapper, h *seal.Header, own *section) (dek seal.Secret, by *section, err error) {
	k := p.keys[h.DEKID]
	if p.try(ctx, us, h, k, own) {
		return k.dek, own, nil
	}
	if k.by != nil {
		return k.dek, k.by, nil
	}
	err = own.err
	for _, s := range k.sections {
		if p.try(ctx, us, h, k, s) {
			return k.dek, s, nil
		}
		if s.from == fromKeyFile && !notMine(s.err) {
			err = s.err // what the user gave just for this says more
		}
	}
	return seal.Secret{}, nil, err
}

func (p *pool) try(ctx context.Context, us []seal.Unwrapper, h *seal.Header, k *dataKey, s *section) bool {
	if !s.tried {
		var dek seal.Secret
		dek, s.err = p.ask(ctx, us, h, s)
		if ctx.Err() != nil {
			return false
		}
		s.tried = true
		if s.err == nil && k.by == nil {
			k.dek, k.by = dek, s
		} else {
			dek.Wipe()
		}
	}
	return s.err == nil
}

const (
	outageFirst = 200 * time.Millisecond
	outageTries = 9 // 51 s of waits
	tiredTries  = 3
)

// ask unwraps a section. An outage of a key service, and its asking for fewer
// calls, are waited for: for most of a minute, and shorter once that was in
// vain.
func (p *pool) ask(ctx context.Context, us []seal.Unwrapper, h *seal.Header, s *section) (dek seal.Secret, err error) {
	tries := outageTries
	if p.tired {
		tries = tiredTries
	}
	for try := 1; ; try++ {
		dek, err = seal.Unwrap(ctx, h, s.recipients, us...)
		if !passes(err) {
			p.tired = p.tired && notMine(err) && err != nil
			return dek, err
		}
		if try == tries {
			p.tired = true
			return seal.Secret{}, err
		}
		select {
		case <-time.After(outageFirst << (try - 1)):
		case <-ctx.Done():
			return seal.Secret{}, ctx.Err()
		}
	}
}

// passes reports whether among what unwrappers said is an outage of a key
// service, or what nobody has classed.
func passes(err error) bool {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return slices.ContainsFunc(joined.Unwrap(), passes)
	}
	var k *seal.KMSError
	return errors.As(err, &k) && (k.Class == seal.Outage || k.Class == seal.Unknown || k.Throttled)
}

// notMine reports whether err of seal.Unwrap says no more than that no key at
// hand is named: it joins what unwrappers said to its own.
func notMine(err error) bool {
	joined, ok := err.(interface{ Unwrap() []error })
	return err == nil || ok && len(joined.Unwrap()) == 1
}
