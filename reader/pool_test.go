package reader_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"sealtail/reader"
	"sealtail/seal"
)

// failing is an Unwrapper that fails for the first calls.
type failing struct {
	seal.Unwrapper
	n    int
	with error
}

func (f *failing) Unwrap(ctx context.Context, r seal.Recipient, c []byte) (seal.Secret, error) {
	if f.n--; f.n >= 0 {
		return seal.Secret{}, f.with
	}
	return f.Unwrapper.Unwrap(ctx, r, c)
}

// TestOutages has a key service fail before it opens.
func TestOutages(t *testing.T) {
	h := newHost(t)
	e, _ := h.run(seal.AES256GCM, nil, 1, 2, false)
	throttled := &seal.KMSError{Class: seal.Outage, Throttled: true}
	for _, c := range []struct {
		name  string
		n     int
		with  error
		lines int
		most  time.Duration
	}{
		{"one throttled", 1, throttled, 2, time.Second},
		{"an outage", 8, &seal.KMSError{Class: seal.Outage}, 2, time.Minute},
		{"what nobody has classed", 8, &seal.KMSError{Code: "New"}, 2, time.Minute},
		{"an outage for good", 1000, &seal.KMSError{Class: seal.Outage}, 0, time.Minute},
		{"revoked", 1, &seal.KMSError{Class: seal.Revoked}, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := read(t, reader.Options{}, join(e))
				r.Verify()
				began := time.Now()
				got, _ := open(t, r, &failing{h.keyring, c.n, c.with})
				if took := time.Since(began); len(got) != c.lines || took > c.most {
					t.Errorf("got %d lines after %v", len(got), took)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		r := read(t, reader.Options{}, join(e))
		r.Verify()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := r.Open(ctx, []seal.Unwrapper{&failing{h.keyring, 1000, throttled}}, func(*reader.Record) error { return nil })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}
