package seal

import (
	"encoding/hex"
	"time"

	"go.uber.org/zap"
)

// KeyState is how a [Keys] stood at one moment, for status and metrics.
type KeyState struct {
	Phase  Phase
	Since  time.Time // of Phase and Reason
	Reason Class     // of the newest failure, for Degraded and Paused; an unknown one reads Outage
	Code   string    // the key service's own word for it
	Err    error     // all of it

	// Of the data key; zero without one.
	KeyID   string // that it is first wrapped under
	DEKID   [16]byte
	DEKAge  time.Duration
	DEKEnds time.Time // when it dies if no answer changes that
	Locked  bool      // its memory cannot be swapped
	Batches int64     // sealed under it
	Bytes   int64     // likewise, of content

	Proof   time.Time // when the CMK was last proven alive; zero = never
	Next    time.Time // when the key service is asked next; zero while it is being asked
	Calls   int64     // to the key service
	Rotated int64     // data keys taken into use
	Failed  [5]int64  // failed calls by Class

	Overdue time.Duration // since Run had to go on, or a call to end; 0 = it waits as it should
}

// State returns a snapshot. It may be called at any time.
func (ks *Keys) State() KeyState {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	l, now := &ks.life, time.Now()
	s := KeyState{
		Phase: ks.phase, Since: ks.since, Reason: ks.reason,
		Proof: ks.proof, Calls: ks.calls, Rotated: ks.rotated, Failed: ks.failed,
	}
	if l.last != nil {
		s.Code, s.Err = l.last.Code, l.last
	}
	if !l.calling {
		s.Next = l.due
	}
	next := l.due
	if l.calling {
		next = l.asked.time.Add(l.o.CallTimeout)
	}
	if !next.IsZero() && !ks.stopped {
		s.Overdue = max(0, now.Sub(next))
	}
	if k := l.key; k != nil {
		s.KeyID, s.DEKID, s.Locked = k.keyID(), k.id, k.secret.Locked()
		s.DEKAge, s.DEKEnds = l.age(now), now.Add(l.limit()-l.age(now))
		s.Batches, s.Bytes = k.batches, k.bytes
	}
	return s
}

// report logs what has changed for people: not each refresh, not each retry.
func (ks *Keys) report(was, is KeyState) {
	dek := zap.String("dek_id", hex.EncodeToString(is.DEKID[:]))
	well := func(p Phase) bool { return p == Ready || p == Refreshing }
	switch {
	case well(is.Phase) && !well(was.Phase):
		ks.log.Info("data key ready", zap.String("key_id", is.KeyID), dek,
			zap.Bool("locked", is.Locked), zap.Stringer("was", was.Phase), zap.Duration("for", is.Since.Sub(was.Since)))
	case well(is.Phase) && is.DEKID != was.DEKID:
		ks.log.Info("data key rotated", zap.String("key_id", is.KeyID), dek)
	case is.Phase == Init && was.Phase != Init:
		ks.log.Info("data key ended, waiting for the next")
	case is.Phase == was.Phase && is.Reason == was.Reason && is.Code == was.Code:
	case is.Phase == Degraded:
		ks.log.Warn("data key not refreshed, sealing goes on", zap.Stringer("reason", is.Reason), zap.String("code", is.Code),
			zap.Error(is.Err), dek, zap.Duration("dek_age", is.DEKAge), zap.Time("dek_ends", is.DEKEnds))
	case is.Phase == Paused:
		next := zap.Time("next", is.Next)
		if is.Next.IsZero() { // a call is under way
			next = zap.Skip()
		}
		ks.log.Warn("sealing paused, no data key", zap.Stringer("reason", is.Reason), zap.String("code", is.Code),
			zap.Error(is.Err), next)
	}
}
