package loop_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"sealtail/internal/loop"
)

func TestWait(t *testing.T) {
	done := errors.New("done")
	for _, tt := range []struct {
		name string
		ends time.Duration // of ctx
		want error
	}{
		{"it ends otherwise", time.Hour, done},
		{"ctx ends", 2500 * time.Millisecond, context.Canceled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer time.AfterFunc(tt.ends, cancel).Stop()
				defer cancel()
				var turn loop.Turn
				if !turn.Time().IsZero() {
					t.Error("it runs before it began")
				}
				tries := 0
				err := turn.Wait(ctx, func() error {
					if tries++; tries == 5 {
						return done
					}
					if got := time.Since(turn.Time()); got != 0 {
						t.Errorf("try %d: it went on %v ago", tries, got)
					}
					<-time.After(time.Second)
					return context.DeadlineExceeded // also where ctx ended meanwhile
				})
				if err != tt.want {
					t.Errorf("got %v, want %v", err, tt.want)
				}
			})
		})
	}
}
