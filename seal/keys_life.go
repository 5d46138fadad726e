package seal

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A Phase says how the life of a data key stands.
//
//	init ─▶ ready ⇄ refreshing        a fresh answer comes in time
//	          ▲ ▲─▶ degraded ─┐       the last answer was a failure; sealing goes on
//	          │               ▼
//	          └──────────── paused    no data key; sealing waits
type Phase uint8

const (
	Init       Phase = 0 // no data key yet, none refused
	Ready      Phase = 1 // a data key, proven alive by the newest answer
	Refreshing Phase = 2 // as Ready, and a call is under way
	Degraded   Phase = 3 // a data key within its bounds, but the newest answer was a failure
	Paused     Phase = 4 // no data key, and the newest answer was a failure
)

// String returns the word for p that logs, status and metrics use.
func (p Phase) String() string {
	switch p {
	case Init:
		return "init"
	case Ready:
		return "ready"
	case Refreshing:
		return "refreshing"
	case Degraded:
		return "degraded"
	case Paused:
		return "paused"
	}
	return fmt.Sprintf("phase %d", uint8(p))
}

// A verdict is what an answer means once it is weighed against those before.
type verdict uint8

const (
	alive     verdict = 0 // a data key came
	outage    verdict = 1
	throttled verdict = 2
	misfit    verdict = 3
	suspected verdict = 4 // revoked, said once
	revoked   verdict = 5 // said again, Confirm later
)

// A rule is what follows from a verdict.
type rule struct {
	grace bool // the data key may live on beyond HardAge
	wipe  bool // the data key goes at once
	retry func(l *life) time.Duration
}

// rules is the whole table. What has no line here does not depend on the
// verdict: a data key dies at HardAge (with grace: plus Grace) and at its
// bounds of use, and a data key that came resumes whatever was paused.
var rules = [...]rule{
	alive:     {grace: true, retry: func(l *life) time.Duration { return l.around(l.o.Refresh) }},
	outage:    {grace: true, retry: func(l *life) time.Duration { return l.backoff(500*time.Millisecond, l.o.RetryMax) }},
	throttled: {grace: true, retry: func(l *life) time.Duration { return l.backoff(2*time.Second, 2*l.o.RetryMax) }},
	misfit:    {retry: func(l *life) time.Duration { return l.around(l.o.RetryRevoked) }},
	suspected: {retry: func(l *life) time.Duration { return l.o.Confirm }},
	revoked:   {wipe: true, retry: func(l *life) time.Duration { return l.around(l.o.RetryRevoked) }},
}

// life is the state machine of one data key: no clock, no lock, no goroutine.
// What happens is a method that takes the time. The phase is not stored; it
// follows from key, fails and calling.
type life struct {
	o      KeyOptions
	random func() float64 // in [0, 1)

	key     *dataKey  // nil = none
	calling bool      // a call is under way
	due     time.Time // of the next call
	rotate  bool      // the next data key replaces this one, whatever its age

	// What was answered since the last data key came.
	fails     int       // failures
	last      *KMSError // the newest failure; nil when fails = 0
	verdict   verdict   // of the newest answer
	noGrace   bool      // a failure was no outage
	refused   time.Time // first Credentials; zero = none
	suspected time.Time // first Revoked; zero = none
}

// phase returns how l stands, and for Degraded and Paused why.
func (l *life) phase() (Phase, Class) {
	switch {
	case l.key == nil && l.fails == 0:
		return Init, Unknown
	case l.key == nil:
		return Paused, l.reason()
	case l.fails > 0:
		return Degraded, l.reason()
	case l.calling:
		return Refreshing, Unknown
	}
	return Ready, Unknown
}

// reason is the class of the newest failure, for people: an unknown one is
// handled as an outage and called so.
func (l *life) reason() Class {
	if l.last.Class == Unknown {
		return Outage
	}
	return l.last.Class
}

// expire ends a data key that has become too old.
func (l *life) expire(now time.Time) {
	if l.key != nil && l.age(now) >= l.limit() {
		l.drop(now)
	}
}

// ready reports that a call is to be made now.
func (l *life) ready(now time.Time) bool { return !l.calling && !now.Before(l.due) }

// wake returns when there is something to do next: a call, or a data key to
// end. It is zero when there is only an answer to wait for.
func (l *life) wake() (at time.Time) {
	if !l.calling {
		at = l.due
	}
	if l.key != nil {
		if dies := l.key.born.Add(l.limit()); at.IsZero() || dies.Before(at) {
			at = dies
		}
	}
	return at
}

// succeed takes the data key that was asked for at began, or only learns from
// it that the CMK lives. It reports which; k not taken is the caller's to wipe.
func (l *life) succeed(now, began time.Time, k *dataKey) (taken bool) {
	taken = l.key == nil || l.rotate || l.age(now) >= l.o.Rotate
	if taken {
		if l.key != nil {
			l.key.release()
		}
		k.born = began
		l.key, l.rotate = k, false
	}
	l.fails, l.last, l.noGrace = 0, nil, false
	l.refused, l.suspected = time.Time{}, time.Time{}
	l.answered(now, alive)
	return taken
}

// fail takes a failed answer.
func (l *life) fail(now time.Time, err *KMSError) {
	l.fails, l.last = l.fails+1, err
	v := l.weigh(now, err)
	l.noGrace = l.noGrace || !rules[v].grace
	l.answered(now, v)
	if l.key != nil && rules[v].wipe {
		l.drop(now)
	}
	l.expire(now) // grace may have ended with this answer
}

func (l *life) answered(now time.Time, v verdict) {
	l.calling, l.verdict = false, v
	l.due = now.Add(rules[v].retry(l))
}

// weigh turns a failure into a verdict.
func (l *life) weigh(now time.Time, err *KMSError) verdict {
	class := err.Class
	if class == Credentials {
		if l.refused.IsZero() {
			l.refused = now
		}
		if now.Sub(l.refused) >= l.o.CredentialsGrace {
			class = Revoked
		}
	}
	switch {
	case class == Misfit:
		return misfit
	case class != Revoked && err.Throttled:
		return throttled
	case class != Revoked:
		return outage
	case l.suspected.IsZero():
		l.suspected = now
		return suspected
	case now.Sub(l.suspected) < l.o.Confirm:
		return suspected
	}
	return revoked
}

// use counts n bytes to be sealed under the data key and returns it, or nil
// when there is none. At three quarters of its bounds of use the data key is
// due for replacement, at its bounds it is gone.
func (l *life) use(now time.Time, n int64) *dataKey {
	l.expire(now)
	if k := l.key; k != nil && k.batches > 0 && (k.batches >= l.o.MaxBatches || k.bytes+n > l.o.MaxBytes) {
		l.drop(now)
	}
	k := l.key
	if k == nil {
		return nil
	}
	k.batches++
	k.bytes += n
	if !l.rotate && (k.batches >= l.o.MaxBatches/4*3 || k.bytes >= l.o.MaxBytes/4*3) {
		l.hurry(now)
	}
	return k
}

// drop ends the data key and wants another.
func (l *life) drop(now time.Time) {
	l.key.release()
	l.key = nil
	l.hurry(now)
}

// hurry makes a new data key due now, but never hastens a retry.
func (l *life) hurry(now time.Time) {
	l.rotate = l.key != nil
	if l.fails == 0 {
		l.due = now
	}
}

// limit is the age at which the data key dies, as things stand.
func (l *life) limit() time.Duration {
	if l.fails > 0 && !l.noGrace && l.o.Grace > 0 {
		return l.o.HardAge + l.o.Grace
	}
	return l.o.HardAge
}

// age is the data key's, by whichever clock says more: the monotonic clock
// stands still while a machine sleeps, and the wall clock can be set back.
func (l *life) age(now time.Time) time.Duration {
	return max(now.Sub(l.key.born), now.Round(0).Sub(l.key.born.Round(0)))
}

// around returns d ±20 %.
func (l *life) around(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*l.random()))
}

// backoff returns a wait with full jitter under a ceiling that doubles from
// first with each failure.
func (l *life) backoff(first, most time.Duration) time.Duration {
	ceiling := first
	for i := 1; i < l.fails && ceiling < most; i++ {
		ceiling *= 2
	}
	return time.Duration(float64(min(ceiling, most)) * l.random())
}

// asKMSError returns err as a KMSError. A call that ran into its time limit is
// an outage; what else an adapter did not class is unknown.
func asKMSError(err error) *KMSError {
	if e, ok := errors.AsType[*KMSError](err); ok {
		return e
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &KMSError{Class: Outage, Code: "Timeout", Err: err}
	}
	return &KMSError{Err: err}
}
