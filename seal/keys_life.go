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

// A cause is what moves a data key's life from one phase to another. Answers
// are weighed against those before: see [life.weigh].
type cause uint8

const (
	asked     cause = 0 // a call begins
	alive     cause = 1 // a data key came
	outage    cause = 2
	throttled cause = 3
	misfit    cause = 4
	suspected cause = 5 // revoked, said once
	revoked   cause = 6 // said again, Confirm later
	aged      cause = 7 // the data key has reached its age
	spent     cause = 8 // the data key has reached its bounds of use
)

// An action is what is done to the data key in a step.
type action uint8

const (
	keep  action = 0 // nothing
	take  action = 1 // the new one seals from now on
	prove action = 2 // the new one is wiped, unless the one at hand is due for replacement by it, or is wrapped under another key
	wipe  action = 3 // the one at hand goes at once
)

// A step is what follows from a cause in a phase.
type step struct {
	next Phase
	do   action
}

// table is the whole state machine; docs/KEYS.md shows it. Where there is no
// step the cause cannot come: an answer follows a call, Ready and Refreshing
// have seen no failure, a call that is late is one, Init and Paused have no data
// key.
var table = map[Phase]map[cause]step{
	Init: {
		asked: {Init, keep}, alive: {Ready, take},
		outage: {Paused, keep}, throttled: {Paused, keep}, misfit: {Paused, keep}, suspected: {Paused, keep},
	},
	Ready: {
		asked: {Refreshing, keep},
		aged:  {Init, wipe}, spent: {Init, wipe},
	},
	Refreshing: {
		alive:  {Ready, prove},
		outage: {Degraded, keep}, throttled: {Degraded, keep}, misfit: {Degraded, keep}, suspected: {Degraded, keep},
		spent: {Init, wipe},
	},
	Degraded: {
		asked: {Degraded, keep}, alive: {Ready, prove},
		outage: {Degraded, keep}, throttled: {Degraded, keep}, misfit: {Degraded, keep}, suspected: {Degraded, keep},
		revoked: {Paused, wipe},
		aged:    {Paused, wipe}, spent: {Paused, wipe},
	},
	Paused: {
		asked: {Paused, keep}, alive: {Ready, take},
		outage: {Paused, keep}, throttled: {Paused, keep}, misfit: {Paused, keep}, suspected: {Paused, keep},
		revoked: {Paused, keep},
	},
}

// A rule is what follows from an answer in every phase.
type rule struct {
	grace bool // of a failure: the data key may live on beyond HardAge
	retry func(l *life) time.Duration
}

var rules = map[cause]rule{
	alive:     {retry: func(l *life) time.Duration { return l.around(l.o.Refresh) }},
	outage:    {grace: true, retry: (*life).backoff},
	throttled: {grace: true, retry: (*life).spread},
	misfit:    {retry: func(l *life) time.Duration { return l.around(l.o.RetryRevoked) }},
	suspected: {retry: func(l *life) time.Duration { return l.o.Confirm }},
	revoked:   {retry: func(l *life) time.Duration { return l.around(l.o.RetryRevoked) }},
}

// life is the state machine of one data key: no clock, no lock, no goroutine.
// What happens is a method that takes the time.
type life struct {
	o      KeyOptions
	random func() float64                // in [0, 1)
	wall   func(now time.Time) time.Time // now without its monotonic reading; tests put it wrong

	phase   Phase
	key     *dataKey  // nil = none
	calling bool      // a call is under way
	asked   moment    // when the newest call began
	due     time.Time // of the next call
	rotate  bool      // the next data key replaces this one, whatever its age

	// What was answered since the last data key came.
	fails     int       // failures
	last      *KMSError // the newest failure; nil when fails = 0
	noGrace   bool      // a failure was no outage
	refused   time.Time // first Credentials; zero = none
	suspected bool      // Revoked was said
}

// on takes the step that follows from c.
func (l *life) on(now time.Time, c cause) action {
	s, ok := table[l.phase][c]
	if !ok {
		panic(fmt.Sprintf("seal: no step from %s by cause %d", l.phase, c))
	}
	l.phase = s.next
	if s.do == wipe {
		l.drop(now)
	}
	return s.do
}

// reason is the class of the newest failure, for people: an unknown one is
// handled as an outage and called so. Without a failure it is Unknown.
func (l *life) reason() Class {
	switch {
	case l.last == nil:
		return Unknown
	case l.last.Class == Unknown:
		return Outage
	}
	return l.last.Class
}

// expire ends a data key that has become too old. To a call that is not
// answered by then, that is an outage.
func (l *life) expire(now time.Time) {
	if l.phase == Refreshing && l.age(now) >= l.limit() {
		l.fails, l.last = 1, &KMSError{Class: Outage, Code: "Timeout", Err: errors.New("no answer while the data key lived")}
		l.on(now, outage)
	}
	if l.key != nil && l.age(now) >= l.limit() {
		l.on(now, aged)
	}
}

// ready reports that a call is to be made now.
func (l *life) ready(now time.Time) bool { return !l.calling && !now.Before(l.due) }

// ask notes that a call begins.
func (l *life) ask(now time.Time) {
	l.calling, l.asked = true, l.at(now)
	l.on(now, asked)
}

// look is how long a change of the wall clock may go unseen while nothing is
// sealed.
const look = time.Minute

// wake returns when there is something to do next: a call, or a data key to
// end. It is zero when there is only an answer to wait for.
func (l *life) wake(now time.Time) (at time.Time) {
	if !l.calling {
		at = l.due
	}
	if l.key != nil {
		if dies := now.Add(min(look, l.limit()-l.age(now))); at.IsZero() || dies.Before(at) {
			at = dies
		}
	}
	return at
}

// succeed takes the data key that was asked for, or only learns from it that
// the CMK lives. It reports which; k not taken is the caller's to wipe.
func (l *life) succeed(now time.Time, k *dataKey) (taken bool) {
	taken = l.on(now, alive) == take || l.rotate || l.age(now) >= l.o.Rotate || l.key.keyID() != k.keyID()
	if taken {
		if l.key != nil {
			l.key.release()
		}
		k.born = l.asked
		l.key, l.rotate = k, false
	}
	l.fails, l.last, l.noGrace = 0, nil, false
	l.refused, l.suspected = time.Time{}, false
	l.again(now, alive)
	return taken
}

// fail takes a failed answer.
func (l *life) fail(now time.Time, err *KMSError) {
	l.fails, l.last = l.fails+1, err
	c := l.weigh(now, err)
	l.noGrace = l.noGrace || !rules[c].grace
	l.again(now, c)
	l.on(now, c)
}

// again sets when the key service is asked again.
func (l *life) again(now time.Time, c cause) {
	l.calling = false
	l.due = now.Add(rules[c].retry(l))
}

// weigh turns a failure into a cause.
func (l *life) weigh(now time.Time, err *KMSError) cause {
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
	case !l.suspected:
		l.suspected = true
		return suspected
	}
	return revoked // Confirm later, as no call comes sooner after a suspicion
}

// use counts n bytes to be sealed under the data key and returns it, or nil
// when there is none. At three quarters of its bounds of use the data key is
// due for replacement, at its bounds it is gone.
func (l *life) use(now time.Time, n int64) *dataKey {
	l.expire(now)
	if k := l.key; k != nil && k.batches > 0 && (k.batches >= l.o.MaxBatches || k.bytes+n > l.o.MaxBytes) {
		l.on(now, spent)
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
	if l.fails > 0 && !l.noGrace {
		return l.o.HardAge + max(0, l.o.Grace)
	}
	return l.o.HardAge
}

// A moment is a time by both clocks: the monotonic one stands still while a
// machine sleeps, and the wall clock can be put back.
type moment struct{ time, wall time.Time }

func (l *life) at(now time.Time) moment { return moment{now, l.wall(now)} }

// age is the data key's, by whichever clock says more.
func (l *life) age(now time.Time) time.Duration {
	return max(now.Sub(l.key.born.time), l.wall(now).Sub(l.key.born.wall))
}

// around returns d ±20 %.
func (l *life) around(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*l.random()))
}

// backoff returns a wait with full jitter under a ceiling that doubles from
// half a second with each failure.
func (l *life) backoff() time.Duration {
	ceiling := 500 * time.Millisecond
	for i := 1; i < l.fails && ceiling < l.o.RetryMax; i++ {
		ceiling *= 2
	}
	return time.Duration(float64(min(ceiling, l.o.RetryMax)) * l.random())
}

// spread returns a wait for what was throttled. Whoever is throttled is one of
// many that called at once, and a smaller window would bring them back at once:
// a fleet that makes 20 % of the quota by its refreshes, as docs/KEYS.md allows,
// makes all of it when each of its members calls once in this one. No wait ends
// in the second that is used up.
func (l *life) spread() time.Duration {
	most := 2 * l.o.RetryMax
	least := min(time.Second, most)
	return least + time.Duration(float64(most-least)*l.random())
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
