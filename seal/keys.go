package seal

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"
)

// KeyOptions bound the life of a data key. A zero field means its default.
type KeyOptions struct {
	Refresh          time.Duration // between calls that prove the CMK alive, ±20 %; 5 min
	Rotate           time.Duration // age from which such a call's answer replaces the data key; 30 min
	HardAge          time.Duration // age at which a data key dies; 60 min
	Grace            time.Duration // added to HardAge while every answer is an outage; 60 min; negative = none
	MaxBatches       int64         // sealed under one data key; 2^20
	MaxBytes         int64         // of content sealed under one data key; 64 GiB
	Confirm          time.Duration // between two Revoked answers that end a data key; 10 s
	CallTimeout      time.Duration // of one call; 5 s
	RetryMax         time.Duration // longest wait after an outage (throttled: of 1 s to twice that); 30 s
	RetryRevoked     time.Duration // wait after Revoked and Misfit, ±20 %; 60 s
	CredentialsGrace time.Duration // for how long Credentials count as an outage, then as Revoked; 5 min

	Log *zap.Logger // nil = none
}

func (o KeyOptions) withDefaults() KeyOptions {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.Refresh, 5*time.Minute)
	def(&o.Rotate, 30*time.Minute)
	def(&o.HardAge, 60*time.Minute)
	def(&o.Grace, 60*time.Minute)
	def(&o.Confirm, 10*time.Second)
	def(&o.CallTimeout, 5*time.Second)
	def(&o.RetryMax, 30*time.Second)
	def(&o.RetryRevoked, 60*time.Second)
	def(&o.CredentialsGrace, 5*time.Minute)
	if o.MaxBatches == 0 {
		o.MaxBatches = 1 << 20
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 64 << 30
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return o
}

// Keys keeps one data key for sealing: it fetches it, proves every few minutes
// that the CMK behind it still lives, replaces it, and wipes it when it is too
// old, used up, or revoked. Chains of one key, sink and suite share a Keys.
//
// Whatever the key service answers, Keys waits and tries again, and the chains
// wait with it; what follows from which answer is in table.
type Keys struct {
	kms     KMS
	suite   Suite
	context []byte
	log     *zap.Logger
	poke    chan struct{} // tells Run that a call has become due

	mu      sync.Mutex
	life    life
	phase   Phase // as of since, to see that it changed
	reason  Class
	since   time.Time
	changed chan struct{} // closed and replaced when phase or reason change
	pause   *Pause        // that lasts, or the next
	stopped bool          // Run has returned
	proof   time.Time
	calls   int64
	rotated int64
	failed  [5]int64 // by Class
}

// NewKeys returns a Keys that will ask kms, for data keys of suite under
// context (see [EncodeContext]). It has no data key before [Keys.Run].
func NewKeys(o KeyOptions, kms KMS, suite Suite, context []byte) *Keys {
	o = o.withDefaults()
	ks := &Keys{
		kms:     kms,
		suite:   suite,
		context: bytes.Clone(context),
		log:     o.Log,
		poke:    make(chan struct{}, 1),
		life:    life{o: o, random: rand.Float64, wall: func(now time.Time) time.Time { return now.Round(0) }},
		since:   time.Now(),
		changed: make(chan struct{}),
	}
	ks.pause = newPause(ks)
	return ks
}

// Run keeps the data key until ctx ends, then wipes it and returns nil. It is
// to be called once, and to end after the last [Chain] that seals.
func (ks *Keys) Run(ctx context.Context) error {
	answers := make(chan answer, 1)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for was := ks.State(); ; {
		call, wake := ks.step()
		if call {
			go func() { answers <- ks.call(ctx) }()
		}
		is := ks.State()
		ks.report(was, is)
		was = is

		if !wake.IsZero() { // else a wake of before may come: it does no harm
			timer.Reset(time.Until(wake))
		}
		select {
		case <-timer.C:
		case <-ks.poke:
		case a := <-answers:
			ks.answered(a)
		case <-ctx.Done():
			if ks.stop() {
				if a := <-answers; a.key != nil {
					a.key.release()
				}
			}
			return nil
		}
	}
}

// step lets time take its course. It says whether the caller is to make a
// call, and when to step again.
func (ks *Keys) step() (call bool, wake time.Time) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	now := time.Now()
	ks.life.expire(now)
	if call = ks.life.ready(now); call {
		ks.life.ask(now)
		ks.calls++
	}
	ks.settle(now)
	return call, ks.life.wake(now)
}

// An answer is what came of one call: a data key, or an error.
type answer struct {
	key *dataKey
	err error
}

func (ks *Keys) call(ctx context.Context) answer {
	ctx, cancel := context.WithTimeout(ctx, ks.life.o.CallTimeout)
	defer cancel()
	d, err := ks.kms.Generate(ctx, ks.context)
	if err != nil {
		return answer{err: err}
	}
	key, err := newDataKey(ks.suite, d)
	return answer{key, err}
}

// answered takes an answer; step tells of it, or take if that is sooner.
func (ks *Keys) answered(a answer) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	now := time.Now()
	if a.err != nil {
		e := asKMSError(a.err)
		if int(e.Class) < len(ks.failed) {
			ks.failed[e.Class]++
		}
		ks.life.fail(now, e)
	} else {
		ks.proof = ks.life.asked.time
		if ks.life.succeed(now, a.key) {
			ks.rotated++
		} else {
			a.key.release()
		}
	}
}

// stop wipes the data key for good and reports that a call is under way.
func (ks *Keys) stop() (calling bool) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	now := time.Now()
	ks.stopped = true
	if ks.life.key != nil {
		ks.life.drop(now)
		ks.life.phase = Init
	}
	ks.settle(now)
	close(ks.changed) // for good: nothing changes any more
	return ks.life.calling
}

// settle notes a change of phase and wakes those who wait for one. ks.mu is
// held.
func (ks *Keys) settle(now time.Time) {
	phase, reason := ks.life.phase, ks.life.reason()
	if phase == ks.phase && reason == ks.reason {
		return
	}
	from := now
	if ks.phase == Init {
		from = ks.since // there is no data key since
	}
	ks.phase, ks.reason, ks.since = phase, reason, now
	ks.settlePause(from, now)
	close(ks.changed)
	ks.changed = make(chan struct{})
}

var errStopped = errors.New("data keys are stopped")

// take returns the data key to seal n bytes of content under, once there is
// one. The caller releases it when the envelope is made.
//
// A data key at hand is preferred to ctx's end: with an ended ctx take succeeds
// just if it need not wait. Otherwise it fails only when ctx ends or Run has.
func (ks *Keys) take(ctx context.Context, n int) (*dataKey, error) {
	for {
		ks.mu.Lock()
		now := time.Now()
		k := ks.life.use(now, int64(n))
		if k != nil {
			k.refs.Add(1)
		}
		due := ks.life.ready(now)
		ks.settle(now)
		changed, stopped := ks.changed, ks.stopped
		ks.mu.Unlock()

		if due {
			select {
			case ks.poke <- struct{}{}:
			default:
			}
		}
		switch {
		case k != nil:
			return k, nil
		case stopped:
			return nil, errStopped
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// A dataKey is a data key in use. It is wiped at its last release: Keys holds
// one reference, and each take one more.
type dataKey struct {
	secret     Secret
	id         [16]byte    // dek_id
	recipients []Recipient // read-only
	section    []byte      // recipients as the envelope's key section, read-only
	born       moment      // when it was asked for

	refs           atomic.Int32
	batches, bytes int64 // sealed under it; guarded by Keys.mu
}

// newDataKey takes d over. An answer that is no data key is wiped, and a
// Misfit.
func newDataKey(suite Suite, d DataKey) (*dataKey, error) {
	if n := len(d.Plain.Bytes()); n != 32 {
		d.Plain.Wipe()
		return nil, &KMSError{Class: Misfit, Code: "Answer", Err: fmt.Errorf("a data key of %d bytes, want 32", n)}
	}
	section, err := appendRecipients(nil, d.Recipients)
	if err != nil {
		d.Plain.Wipe()
		return nil, &KMSError{Class: Misfit, Code: "Answer", Err: err}
	}
	k := &dataKey{secret: d.Plain, recipients: d.Recipients, section: section}
	k.id = suite.dekID(k.secret.Bytes())
	k.refs.Store(1)
	return k, nil
}

// dek returns the 32 bytes, valid until release. Not to be kept or changed.
func (k *dataKey) dek() []byte { return k.secret.Bytes() }

// release ends the use that take began.
func (k *dataKey) release() {
	switch n := k.refs.Add(-1); {
	case n == 0:
		k.secret.Wipe()
	case n < 0:
		panic("seal: data key released twice")
	}
}

// keyID returns the first recipient's key id for people.
func (k *dataKey) keyID() string {
	id := k.recipients[0].KeyID
	if utf8.Valid(id) {
		return string(id)
	}
	return hex.EncodeToString(id)
}
