package seal

import (
	"context"
	"time"
)

// A Pause is a time without a data key, with a key service that gives none.
// To wait for a key service that answers is no pause.
type Pause struct {
	From time.Time // once it has begun

	keys         *Keys
	began, ended chan struct{} // closed
	next         *Pause        // once it has begun
	to           time.Time     // once it has ended
	reason       Class         // guarded by keys.mu until it has ended
}

func newPause(ks *Keys) *Pause {
	return &Pause{keys: ks, began: make(chan struct{}), ended: make(chan struct{})}
}

// Pauses returns where the pauses from now on begin: the one that lasts, or a
// Pause that has not begun.
func (ks *Keys) Pauses() *Pause {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	return ks.pause
}

// Begun reports whether p has begun.
func (p *Pause) Begun() bool {
	select {
	case <-p.began:
		return true
	default:
		return false
	}
}

// Begin waits until p has begun. It returns why it did, and the pause after it.
// It fails only when ctx ends before.
func (p *Pause) Begin(ctx context.Context) (reason string, next *Pause, err error) {
	select {
	case <-p.began:
	case <-ctx.Done():
		if !p.Begun() {
			return "", nil, ctx.Err()
		}
	}
	p.keys.mu.Lock()
	defer p.keys.mu.Unlock()
	return p.reason.String(), p.next, nil
}

// Ended reports whether p has ended, and if so, when, the reason that held
// last, and the pause after it. It ends before any chain gets a data key.
func (p *Pause) Ended() (to time.Time, reason string, next *Pause, ok bool) {
	select {
	case <-p.ended:
		return p.to, p.reason.String(), p.next, true
	default:
		return time.Time{}, "", nil, false
	}
}

// settlePause notes that a pause begins, as of from, goes on for another reason,
// or ends.
//
// A Keys that is stopped begins and ends none: what waits is then for the next
// process to tell. ks.mu is held.
func (ks *Keys) settlePause(from, now time.Time) {
	p := ks.pause
	lasts := p.next != nil
	switch {
	case ks.phase == Paused && !lasts:
		p.From, p.reason, p.next = from, ks.reason, newPause(ks)
		close(p.began)
	case ks.phase == Paused:
		p.reason = ks.reason
	case lasts:
		p.to, ks.pause = now, p.next
		close(p.ended)
	}
}
