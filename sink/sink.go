// Package sink drains sealed batches from a queue into a store.
//
//	Queue (spool) ──Next──▶ requests, InFlight at a time ──Put──▶ Store
//	              ◀──Trim── contiguously acknowledged
//	              ◀──Park── what the store can never accept; a stub goes instead
//
// An envelope leaves the queue only when the store has acknowledged it and
// everything before it, so a crash or a lost answer sends it again and never
// loses it. Whatever a store answers is tried again without limit, at full
// jitter from 0.5 s doubled up to RetryMax. The one exception is a
// [RejectedError]: of several envelopes the rejected one is found by halving;
// a single one is parked in the queue durably and its stub is put in its
// place, so that the chain stays whole for the reader.
//
// The bytes of an envelope are opaque here. Sizes are bytes.
package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"go.uber.org/zap"
)

// A Queue hands out envelopes, oldest first. Its methods are called from
// several goroutines, Next from one at a time.
type Queue interface {
	// Next waits for at least one envelope not handed out yet and returns as
	// many as fit max bytes; one that is longer comes alone. They lie one
	// behind the other in buf, or in a longer array where buf has no room, and
	// are the caller's with all of it: envs[0][:0] is the next call's buf, once
	// they are done with. upto names the last of them for Trim. [io.EOF] says
	// that nothing more will come; any other error is final.
	Next(ctx context.Context, buf []byte, max int) (envs [][]byte, upto uint64, err error)
	// Trim says that everything up to and including upto is acknowledged.
	Trim(upto uint64)
	// Park keeps an envelope that can never be accepted, durably, and returns
	// where. An error is final unless it says that the disk is full.
	Park(env []byte, why string) (string, error)
}

// A Store is where envelopes go. Its methods may be called by as many
// goroutines as requests are in flight, and keep no slice they were given.
type Store interface {
	// Put returns nil once all of envs are stored durably. After an error any
	// of them may be stored: they are put again, unless the error is a
	// [*RejectedError]. An error may have a method NextTry() time.Time: before
	// then it is not tried again.
	Put(ctx context.Context, envs [][]byte) error
	// PutStub stores what keeps the chain whole in the place of a parked
	// envelope.
	PutStub(ctx context.Context, stub []byte, why string) error
}

// A RejectedError is returned by a [Store], as *RejectedError, for what it can
// never accept, however often it is tried. Of a Put with several envelopes it
// means that at least one of them is such.
type RejectedError struct {
	Why string // a short code, kept with the parked envelope and its stub
	Err error  // what the store said; may be nil
}

func (e *RejectedError) Error() string {
	if e.Err == nil {
		return "rejected: " + e.Why
	}
	return fmt.Sprintf("rejected: %s: %v", e.Why, e.Err)
}

// Unwrap returns what the store said.
func (e *RejectedError) Unwrap() error { return e.Err }

// Options say how a [Sink] drains. The zero value of each field is its default.
type Options struct {
	InFlight   int           // requests at a time; default 1, which keeps the order
	MaxRequest int           // bytes of envelopes in one request; default 4 MiB
	RetryMax   time.Duration // longest wait between two tries, unless the store says when; default 30 s

	// Stub makes of an envelope what is put in its place when it is parked.
	// Without it no stub is put.
	Stub func(env []byte) ([]byte, error)

	Log *zap.Logger // default: none
}

// Stats are counters of a [Sink] since it was made.
type Stats struct {
	Envelopes uint64    // acknowledged
	Bytes     uint64    // of them
	Retries   uint64    // tries that failed and are or were repeated
	Parked    uint64    // envelopes that can never be accepted
	Stubs     uint64    // put in the place of parked ones
	InFlight  int       // requests now; one is until the queue is trimmed
	Acked     time.Time // of the newest acknowledgement; zero: none yet
	Failing   string    // what the store answered last, while a request is tried again
	Err       error     // it
	Parking   bool      // it was no answer: there is no room to park an envelope
	Since     time.Time // since when; zero: not failing
	Turned    time.Time // when the loop of Run went on last, which waits a second at a time; zero while Run does not run
	Trying    time.Time // when the oldest try under way began; zero: none
}

// A Sink drains one queue into one store.
type Sink struct {
	o Options
	q Queue
	s Store

	trims sync.Mutex // held while the queue is trimmed, so that trims keep their order

	mu      sync.Mutex // guards what follows; never held over a call of queue or store
	window  []*request // handed out by the queue and not trimmed, oldest first
	spare   [][]byte   // memory of requests that ended, at most one for each that may be in flight
	failing int        // requests that wait for their next try
	stats   Stats
	trying  map[*try]bool // under way

	refusing   time.Time            // when the store began to refuse; zero: it takes
	complained bool                 // that was told
	warned     map[string]time.Time // kinds of refusals that were told, and when
}

// A try is one call of the store or the queue for a request: Put, PutStub, Park
// or Trim.
type try struct{ began time.Time }

// turn is how long Run waits at a time.
const turn = time.Second

// A request is what one call of Next handed out.
type request struct {
	upto uint64
	done bool // guarded by Sink.mu
}

// New returns a Sink; Run starts it.
func New(o Options, q Queue, s Store) *Sink {
	if o.InFlight <= 0 {
		o.InFlight = 1
	}
	if o.MaxRequest <= 0 {
		o.MaxRequest = 4 << 20
	}
	if o.RetryMax <= 0 {
		o.RetryMax = 30 * time.Second
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return &Sink{o: o, q: q, s: s, trying: make(map[*try]bool), warned: make(map[string]time.Time)}
}

// Stats returns the counters as they are now. It may be called at any time.
func (k *Sink) Stats() Stats {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.stats
	for t := range k.trying {
		if s.Trying.IsZero() || t.began.Before(s.Trying) {
			s.Trying = t.began
		}
	}
	return s
}

// Run drains the queue. It returns nil when ctx ends, or when the queue has
// ended and all that it handed out is acknowledged; an error is final and
// comes from the queue. It is called once.
func (k *Sink) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var requests sync.WaitGroup
	slots := make(chan struct{}, k.o.InFlight)
	tick := time.NewTicker(turn)
	defer tick.Stop()
	for slot := false; ; {
		k.count(func(s *Stats) { s.Turned = time.Now() })
		if !slot {
			select {
			case slots <- struct{}{}:
				slot = true
			case <-tick.C:
				continue
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			break
		}
		envs, upto, err := k.next(ctx)
		if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			continue
		}
		if err != nil {
			if err != io.EOF && ctx.Err() == nil {
				stop(final{fmt.Errorf("next envelope: %w", err)})
			}
			break
		}
		slot = false
		r := k.begin(upto)
		requests.Go(func() {
			err := k.ship(ctx, envs)
			k.end(r, err == nil)
			k.keep(envs[0][:0])
			if err != nil && ctx.Err() == nil {
				stop(final{err})
			}
			<-slots
		})
	}
	k.count(func(s *Stats) { s.Turned = time.Time{} })
	requests.Wait()
	var f final
	if errors.As(context.Cause(ctx), &f) {
		return f.error
	}
	return nil
}

// next waits for envelopes, for a turn.
func (k *Sink) next(ctx context.Context) (envs [][]byte, upto uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, turn)
	defer cancel()
	envs, upto, err = k.q.Next(ctx, k.room(), k.o.MaxRequest)
	if err != nil {
		k.drop()
	}
	return envs, upto, err
}

// room returns memory for the envelopes of a request, if there is any.
func (k *Sink) room() (buf []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if n := len(k.spare); n > 0 {
		buf, k.spare = k.spare[n-1], k.spare[:n-1]
	}
	return buf
}

func (k *Sink) keep(buf []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.spare = append(k.spare, buf)
}

// drop leaves the memory of requests to the garbage collector: for a turn there
// was nothing to ship.
func (k *Sink) drop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.spare = nil
}

// final marks the error that ended Run from the inside.
type final struct{ error }

func (k *Sink) begin(upto uint64) *request {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := &request{upto: upto}
	k.window = append(k.window, r)
	k.stats.InFlight++
	return r
}

// end closes a request; if it is acknowledged, the queue is trimmed up to the
// last request before which all are. A trim that hangs shows as a try, and in
// flight its request is until it ends.
func (k *Sink) end(r *request, acknowledged bool) {
	defer k.count(func(s *Stats) { s.InFlight-- })
	if !acknowledged {
		return
	}
	k.trims.Lock()
	defer k.trims.Unlock()
	if upto, ok := k.settle(r); ok {
		_ = k.try(func() error { k.q.Trim(upto); return nil })
	}
}

// settle takes the requests out of the window before which all are
// acknowledged, as r is now, and returns up to where they reach. Without one ok
// is false: an older request is in flight.
func (k *Sink) settle(r *request) (upto uint64, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r.done = true
	k.stats.Acked = time.Now()
	n := 0
	for n < len(k.window) && k.window[n].done {
		n++
	}
	if n == 0 {
		return 0, false
	}
	upto = k.window[n-1].upto
	k.window = append(k.window[:0], k.window[n:]...)
	return upto, true
}
