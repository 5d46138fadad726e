// Package loop tells when a loop went on last, so that one that hangs can be
// told from one that waits: a loop waits a turn at a time.
package loop

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// A Turn is when a loop went on last, on the monotonic clock too; nil, as in the
// zero value: it does not run.
type Turn struct{ atomic.Pointer[time.Time] }

// Now says that the loop goes on.
func (t *Turn) Now() {
	now := time.Now()
	t.Store(&now)
}

// Time returns when the loop went on last; zero: it does not run.
func (t *Turn) Time() (at time.Time) {
	if p := t.Load(); p != nil {
		at = *p
	}
	return at
}

// Wait calls try, which bounds itself by a turn, until it ends otherwise than by
// that, or ctx ends.
func (t *Turn) Wait(ctx context.Context, try func() error) error {
	for {
		t.Now()
		err := try()
		if !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}
