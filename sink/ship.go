package sink

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// firstRetry is the cap of the wait before the second try; each further cap is
// twice the one before.
const firstRetry = 500 * time.Millisecond

// parking is what persist is told of a request that parks.
const parking = "park"

// ship returns nil once each of envs is stored, or parked with its stub.
func (k *Sink) ship(ctx context.Context, envs [][]byte) error {
	if len(envs) == 0 {
		return nil
	}
	err := k.persist(ctx, "put", func() error { return k.s.Put(ctx, envs) }, notRejected)
	if err == nil {
		k.count(func(s *Stats) {
			s.Envelopes += uint64(len(envs))
			for _, env := range envs {
				s.Bytes += uint64(len(env))
			}
		})
		return nil
	}
	var rejected *RejectedError
	if !errors.As(err, &rejected) {
		return err
	}
	if len(envs) == 1 {
		return k.park(ctx, envs[0], rejected)
	}
	half := len(envs) / 2
	if err := k.ship(ctx, envs[:half]); err != nil {
		return err
	}
	return k.ship(ctx, envs[half:])
}

// park sets one rejected envelope aside and puts its stub. A crash between the
// two puts the envelope again, which is rejected and parked again.
func (k *Sink) park(ctx context.Context, env []byte, rejected *RejectedError) error {
	var where string
	err := k.persist(ctx, parking, func() (err error) {
		where, err = k.q.Park(env, rejected.Why)
		return err
	}, diskFull)
	if err != nil {
		return err
	}
	k.count(func(s *Stats) { s.Parked++ })
	k.o.Log.Error("envelope parked: the store can never accept it",
		zap.String("why", rejected.Why), zap.NamedError("answer", rejected.Err),
		zap.String("parked", where), zap.Int("bytes", len(env)))
	if k.o.Stub == nil {
		return nil
	}
	stub, err := k.o.Stub(env)
	if err != nil {
		k.o.Log.Error("no stub for a parked envelope: readers will report a gap", zap.String("parked", where), zap.Error(err))
		return nil
	}
	err = k.persist(ctx, "put stub", func() error { return k.s.PutStub(ctx, stub, rejected.Why) }, notRejected)
	if errors.As(err, &rejected) {
		k.o.Log.Error("stub rejected: readers will report a gap", zap.String("parked", where), zap.Error(err))
		return nil
	}
	if err == nil {
		k.count(func(s *Stats) { s.Stubs++ })
	}
	return err
}

// persist calls op until it returns nil, an error that is not worth repeating,
// or ctx ends.
func (k *Sink) persist(ctx context.Context, what string, op func() error, again func(error) bool) error {
	for try := 0; ; try++ {
		err := k.try(op)
		if err == nil || ctx.Err() != nil || !again(err) {
			k.resumed(try, err)
			return err
		}
		wait := jitter(try, k.o.RetryMax)
		if e, ok := errors.AsType[interface {
			error
			NextTry() time.Time
		}](err); ok {
			if d := time.Until(e.NextTry()); d > 0 {
				wait = d
			}
		}
		k.refused(what, try, wait, err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			k.resumed(try+1, ctx.Err())
			return ctx.Err()
		}
	}
}

func (k *Sink) try(op func() error) error {
	t := &try{began: time.Now()}
	k.mu.Lock()
	k.trying[t] = true
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		delete(k.trying, t)
		k.mu.Unlock()
	}()
	return op()
}

func notRejected(err error) bool {
	var rejected *RejectedError
	return !errors.As(err, &rejected)
}

func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// jitter draws the wait after the given try, the first being 0.
func jitter(try int, most time.Duration) time.Duration {
	limit := min(firstRetry<<min(try, 30), most)
	return rand.N(limit) + 1
}

func (k *Sink) refused(what string, try int, wait time.Duration, err error) {
	tell := false
	k.count(func(s *Stats) {
		s.Retries++
		s.Failing, s.Err, s.Parking = err.Error(), err, what == parking
		if try == 0 {
			if k.failing++; k.failing == 1 {
				s.Since = time.Now()
			}
		}
		tell = k.warn(err)
	})
	if tell {
		k.o.Log.Warn("store refused, will try again",
			zap.String("request", what), zap.Int("try", try+1), zap.Duration("wait", wait), zap.Error(err))
	}
}

// warnEvery is how often the same refusal is told.
const warnEvery = time.Minute

// warn reports whether err is to be told; k.mu is held.
func (k *Sink) warn(err error) bool {
	now := time.Now()
	if k.refusing.IsZero() {
		k.refusing = now
	}
	maps.DeleteFunc(k.warned, func(_ string, at time.Time) bool { return now.Sub(at) >= warnEvery })
	kind := err.Error()
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		kind = e.Op + ": " + e.Err.Error() // a store may name its files by the time
	}
	if e, ok := errors.AsType[interface {
		error
		Kind() string // as the text, less what changes from try to try
	}](err); ok {
		kind = e.Kind()
	}
	if _, known := k.warned[kind]; known {
		return false
	}
	k.warned[kind] = now
	k.complained = true
	return true
}

// resumed ends what refused began, if it did: err is how.
func (k *Sink) resumed(tries int, err error) {
	var refusing time.Time
	k.count(func(s *Stats) {
		if tries > 0 {
			if k.failing--; k.failing == 0 {
				s.Failing, s.Err, s.Parking, s.Since = "", nil, false, time.Time{}
			}
		}
		if err == nil && k.failing == 0 {
			if k.complained {
				refusing = k.refusing
			}
			k.refusing, k.complained = time.Time{}, false
		}
	})
	if !refusing.IsZero() {
		k.o.Log.Info("the store takes again", zap.Duration("refused_for", time.Since(refusing).Round(time.Millisecond)))
	}
}

func (k *Sink) count(change func(*Stats)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change(&k.stats)
}
