package seal_test

import (
	"testing"
	"testing/synctest"
	"time"

	"sealtail/seal"
)

// A data key that is wrapped under another key than the one at hand takes its
// place at once: the one before may be given up for good.
func TestKeysOfAnotherKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := func(d *seal.DataKey) { d.Recipients[0].KeyID = []byte("other") }
		ks := seal.NewKeys(seal.KeyOptions{}, newFake(t, act{}, act{from: 12 * time.Minute, data: other}), seal.AES256GCM, []byte("\x00\x00"))
		start := time.Now()
		run(t, ks)
		for _, tt := range []struct {
			at      time.Duration
			key     string
			rotated int64
		}{{time.Second, "cmk", 1}, {11 * time.Minute, "cmk", 1}, {19 * time.Minute, "other", 2}, {29 * time.Minute, "other", 2}} {
			time.Sleep(tt.at - time.Since(start))
			synctest.Wait()
			if s := ks.State(); s.KeyID != tt.key || s.Rotated != tt.rotated {
				t.Errorf("after %v: got %s, %d rotated, want %s, %d", tt.at, s.KeyID, s.Rotated, tt.key, tt.rotated)
			}
		}
	})
}
