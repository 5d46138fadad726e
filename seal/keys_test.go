package seal_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"sealtail/seal"
)

// A fakeKMS answers by a script and checks its caller. Its n-th data key
// begins with n as a u32.
type fakeKMS struct {
	t       *testing.T
	script  []act
	context []byte
	start   time.Time

	mu    sync.Mutex
	busy  bool
	calls []time.Duration // when, since start
	serve uint32
}

// An act is how the key service behaves from one moment on.
type act struct {
	from  time.Duration
	err   error
	takes time.Duration
	hang  bool
	data  func(*seal.DataKey) // spoils the answer
}

func newFake(t *testing.T, script ...act) *fakeKMS {
	return &fakeKMS{t: t, script: script, context: []byte("\x00\x00"), start: time.Now()}
}

func (f *fakeKMS) Generate(ctx context.Context, ec []byte) (seal.DataKey, error) {
	f.mu.Lock()
	if f.busy {
		f.t.Error("two calls at a time")
	}
	f.busy = true
	at := time.Since(f.start)
	f.calls = append(f.calls, at)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.busy = false
		f.mu.Unlock()
	}()
	if _, ok := ctx.Deadline(); !ok {
		f.t.Error("a call without a deadline")
	}
	if !bytes.Equal(ec, f.context) {
		f.t.Errorf("context: got %x, want %x", ec, f.context)
	}
	var a act
	for _, s := range f.script {
		if s.from <= at {
			a = s
		}
	}
	if a.hang {
		<-ctx.Done()
		return seal.DataKey{}, ctx.Err()
	}
	select {
	case <-time.After(a.takes):
	case <-ctx.Done():
		return seal.DataKey{}, ctx.Err()
	}
	if a.err != nil {
		return seal.DataKey{}, a.err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.serve++
	plain := bytes.Repeat([]byte{0x5a}, 32)
	binary.BigEndian.PutUint32(plain, f.serve)
	d := seal.DataKey{Plain: seal.MoveSecret(plain), Recipients: []seal.Recipient{{Type: 5, KeyID: []byte("cmk"), Wrapped: []byte("w")}}}
	if a.data != nil {
		a.data(&d)
	}
	return d, nil
}

var (
	errOut        = &seal.KMSError{Class: seal.Outage, Code: "503"}
	errThrottled  = &seal.KMSError{Class: seal.Outage, Code: "429", Throttled: true}
	errRefused    = &seal.KMSError{Class: seal.Credentials, Code: "InvalidAccessKeyId"}
	errRevoked    = fmt.Errorf("generate: %w", &seal.KMSError{Class: seal.Revoked, Code: "Rejected.Disabled"})
	errMisfit     = &seal.KMSError{Class: seal.Misfit, Code: "InvalidParameter"}
	errUnknown    = errors.New("what?")
	middle        = func() float64 { return 0.5 } // jitter: refresh and slow retries exact, backoff at half its ceiling
	ended, endNow = context.WithCancel(context.Background())
)

// run starts ks in a bubble and ends it with the test.
func run(t *testing.T, ks *seal.Keys) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- ks.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
		if k, err := ks.Take(context.Background(), 1); err == nil {
			t.Errorf("take after Run: got key %d, want an error", serial(k))
		}
	})
	synctest.Wait()
}

func serial(k *seal.Taken) uint32 { return binary.BigEndian.Uint32(k.DEK()) }

// atHand returns the number of the data key that seals now, or 0.
func atHand(ks *seal.Keys) uint32 {
	endNow()
	k, err := ks.Take(ended, 1)
	if err != nil {
		return 0
	}
	defer k.Release()
	return serial(k)
}

func TestKeysLife(t *testing.T) {
	const s, m, ms = time.Second, time.Minute, time.Millisecond
	type look struct {
		at     time.Duration
		phase  seal.Phase
		reason seal.Class
		key    uint32 // 0 = none to seal under
	}
	for _, tt := range []struct {
		name   string
		o      seal.KeyOptions
		script []act
		looks  []look
	}{
		{name: "an answer proves, and replaces from rotate on",
			looks: []look{
				{0, seal.Ready, 0, 1},
				{29 * m, seal.Ready, 0, 1},
				{31 * m, seal.Ready, 0, 7},
				{59 * m, seal.Ready, 0, 7},
				{61 * m, seal.Ready, 0, 13},
			}},
		{name: "an outage of three hours",
			script: []act{{from: 6 * m, err: errOut}, {from: 186 * m}},
			looks: []look{
				{9 * m, seal.Ready, 0, 1},
				{10 * m, seal.Degraded, seal.Outage, 1},
				{119 * m, seal.Degraded, seal.Outage, 1},
				{120 * m, seal.Paused, seal.Outage, 0},
				{185 * m, seal.Paused, seal.Outage, 0},
				{186*m + 15*s, seal.Ready, 0, 3},
			}},
		{name: "an outage that ends in time",
			script: []act{{from: 6 * m, err: errOut}, {from: 20 * m}, {from: 50 * m, err: errOut}, {from: 119 * m}},
			looks: []look{
				{19 * m, seal.Degraded, seal.Outage, 1},
				{21 * m, seal.Ready, 0, 1},
				{118 * m, seal.Degraded, seal.Outage, 5},
				{119*m + 15*s, seal.Ready, 0, 9},
			}},
		{name: "strict: no grace",
			o:      seal.KeyOptions{Grace: -1},
			script: []act{{from: 6 * m, err: errOut}},
			looks: []look{
				{60*m - 1, seal.Degraded, seal.Outage, 1},
				{60 * m, seal.Paused, seal.Outage, 0},
			}},
		{name: "unknown is an outage",
			script: []act{{from: 6 * m, err: errUnknown}},
			looks: []look{
				{119 * m, seal.Degraded, seal.Outage, 1},
				{120 * m, seal.Paused, seal.Outage, 0},
			}},
		{name: "throttled is an outage",
			script: []act{{from: 6 * m, err: errThrottled}, {from: 121 * m}},
			looks: []look{
				{119 * m, seal.Degraded, seal.Outage, 1},
				{120 * m, seal.Paused, seal.Outage, 0},
				{121*m + 30*s, seal.Ready, 0, 3},
			}},
		{name: "outage from the start",
			script: []act{{err: errOut}, {from: 5 * m}},
			looks: []look{
				{0, seal.Paused, seal.Outage, 0},
				{299 * s, seal.Paused, seal.Outage, 0},
				{5*m + 15*s, seal.Ready, 0, 1},
			}},
		{name: "revoked, confirmed, and back",
			script: []act{{from: 6 * m, err: errRevoked}, {from: 20 * m}},
			looks: []look{
				{10 * m, seal.Degraded, seal.Revoked, 1},
				{10*m + 10*s - 1, seal.Degraded, seal.Revoked, 1},
				{10*m + 10*s, seal.Paused, seal.Revoked, 0},
				{20 * m, seal.Paused, seal.Revoked, 0},
				{21*m + 10*s, seal.Ready, 0, 3},
			}},
		{name: "revoked once is a slip",
			script: []act{{from: 6 * m, err: errRevoked}, {from: 10*m + 1*s}},
			looks: []look{
				{10 * m, seal.Degraded, seal.Revoked, 1},
				{10*m + 10*s, seal.Ready, 0, 1},
				{15 * m, seal.Ready, 0, 1},
			}},
		{name: "flapping: each answer with a key clears the suspicion",
			script: []act{{from: 6 * m, err: errRevoked}, {from: 10*m + 1*s}, {from: 12 * m, err: errRevoked}, {from: 15*m + 15*s}, {from: 18 * m, err: errRevoked}},
			looks: []look{
				{10*m + 10*s, seal.Ready, 0, 1},
				{15*m + 10*s, seal.Degraded, seal.Revoked, 1},
				{15*m + 20*s, seal.Ready, 0, 1},
				{20*m + 20*s, seal.Degraded, seal.Revoked, 1},
				{20*m + 30*s, seal.Paused, seal.Revoked, 0},
			}},
		{name: "an outage between does not clear it",
			script: []act{{from: 6 * m, err: errRevoked}, {from: 10*m + 1*s, err: errOut}, {from: 10*m + 20*s, err: errRevoked}},
			looks: []look{
				{10*m + 10*s, seal.Degraded, seal.Outage, 1},
				{10*m + 40*s, seal.Paused, seal.Revoked, 0},
			}},
		{name: "a slip costs no later outage its grace",
			o:      seal.KeyOptions{Rotate: 59 * m},
			script: []act{{from: 6 * m, err: errRevoked}, {from: 10*m + 1*s}, {from: 20 * m, err: errOut}},
			looks: []look{
				{10*m + 10*s, seal.Ready, 0, 1},
				{60 * m, seal.Degraded, seal.Outage, 1},
				{120*m - 1, seal.Degraded, seal.Outage, 1},
				{120 * m, seal.Paused, seal.Outage, 0},
			}},
		{name: "a data key is as old as its call",
			o:      seal.KeyOptions{Grace: -1},
			script: []act{{takes: 4 * s}, {from: 1, err: errOut}},
			looks: []look{
				{4*s - 1, seal.Init, 0, 0},
				{4 * s, seal.Ready, 0, 1},
				{60*m - 1, seal.Degraded, seal.Outage, 1},
				{60 * m, seal.Paused, seal.Outage, 0},
			}},
		{name: "revoked from the start",
			script: []act{{err: errRevoked}, {from: 5 * m}},
			looks: []look{
				{0, seal.Paused, seal.Revoked, 0},
				{6*m + 10*s, seal.Ready, 0, 1},
			}},
		{name: "revoked while in grace",
			script: []act{{from: 6 * m, err: errOut}, {from: 90 * m, err: errRevoked}},
			looks: []look{
				{89 * m, seal.Degraded, seal.Outage, 1},
				{90*m + 15*s, seal.Paused, seal.Revoked, 0},
			}},
		{name: "a suspicion costs the grace",
			script: []act{{from: 6 * m, err: errRevoked}, {from: 10*m + 1*s, err: errOut}},
			looks: []look{
				{60*m - 1, seal.Degraded, seal.Outage, 1},
				{60 * m, seal.Paused, seal.Outage, 0},
			}},
		{name: "revoked in the middle of a refresh",
			script: []act{{from: 6 * m, err: errRevoked, takes: 3 * s}},
			looks: []look{
				{10*m + 1*s, seal.Refreshing, 0, 1},
				{10*m + 3*s, seal.Degraded, seal.Revoked, 1},
				{10*m + 15*s, seal.Degraded, seal.Revoked, 1},
				{10*m + 16*s, seal.Paused, seal.Revoked, 0},
			}},
		{name: "a slow key service holds nothing up",
			script: []act{{from: 1 * m, takes: 3 * s}},
			looks: []look{
				{5*m + 2*s, seal.Refreshing, 0, 1},
				{5*m + 3*s, seal.Ready, 0, 1},
				{30*m + 17*s, seal.Refreshing, 0, 1},
				{30*m + 18*s, seal.Ready, 0, 7},
			}},
		{name: "a key service that hangs",
			script: []act{{from: 6 * m, hang: true}},
			looks: []look{
				{10*m + 4*s, seal.Refreshing, 0, 1},
				{10*m + 5*s, seal.Degraded, seal.Outage, 1},
				{119 * m, seal.Degraded, seal.Outage, 1},
				{120 * m, seal.Paused, seal.Outage, 0},
			}},
		{name: "a call that is late is an outage",
			o:      seal.KeyOptions{HardAge: 6 * m, Grace: 3 * m, CallTimeout: 10 * m},
			script: []act{{from: 5 * m, hang: true}, {from: 15 * m}},
			looks: []look{
				{6*m - 1, seal.Refreshing, 0, 1},
				{6 * m, seal.Degraded, seal.Outage, 1},
				{9*m - 1, seal.Degraded, seal.Outage, 1},
				{9 * m, seal.Paused, seal.Outage, 0},
				{15*m - 1, seal.Paused, seal.Outage, 0},
				{15*m + 500*ms, seal.Ready, 0, 2},
			}},
		{name: "a call that is late, and answered",
			o:      seal.KeyOptions{Rotate: 3 * m, HardAge: 6 * m, CallTimeout: 10 * m},
			script: []act{{}, {from: 5 * m, takes: 2 * m}},
			looks: []look{
				{6 * m, seal.Degraded, seal.Outage, 1},
				{7*m - 1, seal.Degraded, seal.Outage, 1},
				{7 * m, seal.Ready, 0, 2},
			}},
		{name: "strict: a call that is late",
			o:      seal.KeyOptions{HardAge: 6 * m, Grace: -1, CallTimeout: 10 * m},
			script: []act{{from: 5 * m, takes: 2 * m}},
			looks: []look{
				{6*m - 1, seal.Refreshing, 0, 1},
				{6 * m, seal.Paused, seal.Outage, 0},
				{7 * m, seal.Ready, 0, 2},
			}},
		{name: "credentials: an outage for five minutes, then revoked",
			script: []act{{from: 6 * m, err: errRefused}, {from: 30 * m}},
			looks: []look{
				{10 * m, seal.Degraded, seal.Credentials, 1},
				{15 * m, seal.Degraded, seal.Credentials, 1},
				{15*m + 30*s, seal.Paused, seal.Credentials, 0},
				{31 * m, seal.Ready, 0, 3},
			}},
		{name: "credentials that come back in time",
			script: []act{{from: 6 * m, err: errRefused}, {from: 14 * m}, {from: 16 * m, err: errRefused}},
			looks: []look{
				{13 * m, seal.Degraded, seal.Credentials, 1},
				{14*m + 15*s, seal.Ready, 0, 1},
				{24 * m, seal.Degraded, seal.Credentials, 1},
				{25 * m, seal.Paused, seal.Credentials, 0},
			}},
		{name: "misfit: to hard age and no further",
			script: []act{{from: 6 * m, err: errMisfit}, {from: 70 * m}},
			looks: []look{
				{10 * m, seal.Degraded, seal.Misfit, 1},
				{60*m - 1, seal.Degraded, seal.Misfit, 1},
				{60 * m, seal.Paused, seal.Misfit, 0},
				{71 * m, seal.Ready, 0, 3},
			}},
		{name: "misfit from the start",
			script: []act{{err: errMisfit}, {from: 5*m + 1*s}},
			looks: []look{
				{0, seal.Paused, seal.Misfit, 0},
				{5 * m, seal.Paused, seal.Misfit, 0},
				{6 * m, seal.Ready, 0, 1},
			}},
		{name: "a data key of 31 bytes is a misfit",
			script: []act{{data: func(d *seal.DataKey) { d.Plain = seal.NewSecret(31) }}},
			looks:  []look{{0, seal.Paused, seal.Misfit, 0}}},
		{name: "a data key for nobody is a misfit",
			script: []act{{data: func(d *seal.DataKey) { d.Recipients = nil }}},
			looks:  []look{{0, seal.Paused, seal.Misfit, 0}}},
		{name: "hard age below rotate",
			o: seal.KeyOptions{Refresh: 20 * m, Rotate: 60 * m, HardAge: 30 * m},
			looks: []look{
				{30*m - 1, seal.Ready, 0, 1},
				{30 * m, seal.Ready, 0, 3},
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kms := newFake(t, tt.script...)
				ks := seal.NewKeys(tt.o, kms, seal.AES256GCM, kms.context)
				ks.SetRandom(middle)
				run(t, ks)
				for _, l := range tt.looks {
					time.Sleep(l.at - time.Since(kms.start))
					synctest.Wait()
					key := atHand(ks)
					s := ks.State()
					if s.Phase != l.phase || s.Reason != l.reason || key != l.key {
						t.Fatalf("at %v: got %v(%v) with key %d, want %v(%v) with key %d",
							l.at, s.Phase, s.Reason, key, l.phase, l.reason, l.key)
					}
				}
			})
		})
	}
}

// Neither a machine that sleeps, for which the monotonic clock stands still and
// the wall clock goes on, nor a wall clock put back or forward lets a data key
// live longer, or seal after its time; and sealing goes on with the next one.
func TestKeysClocks(t *testing.T) {
	const m, h = time.Minute, time.Hour
	type look struct {
		at   time.Duration
		key  uint32 // to seal under; 0 = none
		held bool   // a data key, whether or not it may seal
	}
	strict := seal.KeyOptions{Grace: -1}
	out := []act{{from: 6 * m, err: errOut}, {from: 90 * m}} // the third call is the first to fail, the fourth data key the next
	for _, tt := range []struct {
		name   string
		o      seal.KeyOptions
		skews  map[time.Duration]time.Duration // by how much the wall clock is off, from when on
		script []act
		looks  []look
	}{
		{"put back", strict, map[time.Duration]time.Duration{20 * m: -3 * h}, out,
			[]look{{60*m - 1, 1, true}, {60 * m, 0, false}, {90*m + 15*time.Second, 3, true}}},
		{"put back, in grace", seal.KeyOptions{}, map[time.Duration]time.Duration{70 * m: -3 * h}, out[:1],
			[]look{{120*m - 1, 1, true}, {120 * m, 0, false}}},
		{"put forward, within its life", strict, map[time.Duration]time.Duration{20 * m: 20 * m}, out,
			[]look{{40*m - 1, 1, true}, {40 * m, 0, false}, {90*m + 15*time.Second, 3, true}}},
		{"asleep beyond its life", strict, map[time.Duration]time.Duration{20 * m: 3 * h}, out,
			[]look{{20*m - 1, 1, true}, {20 * m, 0, false}, {90*m + 15*time.Second, 3, true}}},
		{"asleep beyond its life, with a key service that answers", seal.KeyOptions{}, map[time.Duration]time.Duration{20 * m: 3 * h}, nil,
			[]look{{20*m - 1, 1, true}, {20*m + 1, 5, true}}},
		{"asleep beyond its grace", seal.KeyOptions{}, map[time.Duration]time.Duration{20 * m: 99 * m, 30 * m: 100 * m}, out,
			[]look{{20 * m, 1, true}, {20*m + m - 1, 1, true}, {21 * m, 0, false}, {90*m + 15*time.Second, 3, true}}},
		{"put back, and right again", strict, map[time.Duration]time.Duration{10 * m: -3 * h, 20 * m: 0}, out,
			[]look{{15 * m, 1, true}, {20 * m, 1, true}, {60*m - 1, 1, true}, {60 * m, 0, false}}},
		{"put forward, and right again unseen", strict, map[time.Duration]time.Duration{20*m + 1: 3 * h, 20*m + 2: 0}, out,
			[]look{{21 * m, 1, true}, {60*m - 1, 1, true}, {60 * m, 0, false}}},
		{"put forward, and right again", strict, map[time.Duration]time.Duration{20 * m: 3 * h, 30 * m: 0}, nil,
			[]look{{20*m - 1, 1, true}, {20*m + 1, 5, true}, {30 * m, 5, true}}},
		{"wrong at first, then right", strict, map[time.Duration]time.Duration{0: -3 * h, 20 * m: 0}, nil,
			[]look{{20*m - 1, 1, true}, {20*m + 1, 5, true}}},
		{"far ahead at first, then right", strict, map[time.Duration]time.Duration{0: 3 * h, 20 * m: 0}, out,
			[]look{{60*m - 1, 1, true}, {60 * m, 0, false}}},
		{"asleep in a call", strict, map[time.Duration]time.Duration{5*m + time.Second: 3 * h}, []act{{}, {from: 5 * m, takes: 3 * time.Second}, {from: 5*m + 2*time.Second}},
			[]look{{5*m + time.Second, 0, false}, {5*m + 4*time.Second, 3, true}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kms := newFake(t, tt.script...)
				ks := seal.NewKeys(tt.o, kms, seal.AES256GCM, kms.context)
				ks.SetRandom(middle)
				ks.SetSkew(func() (skew time.Duration) {
					last := time.Duration(-1)
					for from, by := range tt.skews {
						if from <= time.Since(kms.start) && from > last {
							last, skew = from, by
						}
					}
					return skew
				})
				run(t, ks)
				for _, l := range tt.looks {
					time.Sleep(l.at - time.Since(kms.start))
					synctest.Wait()
					key := atHand(ks)
					synctest.Wait()
					if held := ks.State().KeyID != ""; key != l.key || held != l.held {
						t.Fatalf("at %v: got key %d, held %v, want %d, %v", l.at, key, held, l.key, l.held)
					}
				}
			})
		})
	}
}

// While nothing is sealed, a data key outlives a sleep for a minute at most.
func TestKeysClockUnseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := newFake(t, act{}, act{from: time.Second, err: errOut})
		var skew atomic.Int64
		ks := seal.NewKeys(seal.KeyOptions{}, kms, seal.AES256GCM, kms.context)
		ks.SetRandom(middle)
		ks.SetSkew(func() time.Duration { return time.Duration(skew.Load()) })
		run(t, ks)
		time.Sleep(90 * time.Second)
		skew.Store(int64(3 * time.Hour))
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := ks.State(); s.KeyID != "" || s.Phase != seal.Paused {
			t.Errorf("got %v with key %q, want paused without", s.Phase, s.KeyID)
		}
	})
}

func TestH80_KeysRetrySlowly(t *testing.T) {
	const hour = time.Hour
	for _, tt := range []struct {
		name        string
		err         error
		first, last [2]time.Duration // bounds of the first wait and of those near the end
	}{
		{"outage", errOut, [2]time.Duration{0, 500 * time.Millisecond}, [2]time.Duration{0, 30 * time.Second}},
		{"throttled", errThrottled, [2]time.Duration{time.Second, 60 * time.Second}, [2]time.Duration{time.Second, 60 * time.Second}},
		{"unknown", errUnknown, [2]time.Duration{0, 500 * time.Millisecond}, [2]time.Duration{0, 30 * time.Second}},
		{"revoked", errRevoked, [2]time.Duration{10 * time.Second, 10 * time.Second}, [2]time.Duration{48 * time.Second, 72 * time.Second}},
		{"misfit", errMisfit, [2]time.Duration{48 * time.Second, 72 * time.Second}, [2]time.Duration{48 * time.Second, 72 * time.Second}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kms := newFake(t, act{err: tt.err})
				ks := seal.NewKeys(seal.KeyOptions{}, kms, seal.AES256GCM, kms.context)
				ks.SetRandom(rand.New(rand.NewPCG(1, 2)).Float64)
				run(t, ks)
				time.Sleep(hour)
				synctest.Wait()
				kms.mu.Lock()
				defer kms.mu.Unlock()
				most, least := time.Duration(0), hour
				for i := 1; i < len(kms.calls); i++ {
					wait, in := kms.calls[i]-kms.calls[i-1], tt.last
					if i == 1 {
						in = tt.first
					}
					if wait < in[0] || wait > in[1] {
						t.Fatalf("wait %d: got %v, want %v to %v", i, wait, in[0], in[1])
					}
					if i > 10 { // backoff has come to its ceiling
						most, least = max(most, wait), min(least, wait)
					}
				}
				if least := int(hour / tt.last[1]); len(kms.calls) < least || len(kms.calls) > 4*least {
					t.Errorf("calls in an hour: got %d, want %d to %d", len(kms.calls), least, 4*least)
				}
				if tenth := (tt.last[1] - tt.last[0]) / 10; most < tt.last[1]-tenth || least > tt.last[0]+tenth {
					t.Errorf("waits: got %v to %v, want near %v to %v", least, most, tt.last[0], tt.last[1])
				}
				if s := ks.State(); s.Calls != int64(len(kms.calls)) || s.Failed[0]+s.Failed[1]+s.Failed[2]+s.Failed[3]+s.Failed[4] != s.Calls {
					t.Errorf("counters: got %d calls, failed %v, want %d", s.Calls, s.Failed, len(kms.calls))
				}
			})
		})
	}
}

func TestKeysRefreshJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := newFake(t)
		ks := seal.NewKeys(seal.KeyOptions{}, kms, seal.AES256GCM, kms.context)
		run(t, ks)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		kms.mu.Lock()
		defer kms.mu.Unlock()
		for i := 1; i < len(kms.calls); i++ {
			if d := kms.calls[i] - kms.calls[i-1]; d < 4*time.Minute || d > 6*time.Minute {
				t.Fatalf("refresh %d: got %v, want 5 min ±20 %%", i, d)
			}
		}
		if s := ks.State(); s.Rotated < 24*60/36 || s.Rotated > 48 {
			t.Errorf("data keys of a day: got %d, want about 44", s.Rotated)
		}
	})
}

// story follows the pauses of ks and returns what they come to, each as
// "reason from-to" since start, "…" where one lasts.
func story(t *testing.T, p *seal.Pause, start time.Time) (told []string) {
	t.Helper()
	for {
		to, reason, next, ended := p.Ended()
		if !ended {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			var err error
			for range 20 { // an ended ctx does not hide a pause that has begun
				if _, _, e := p.Begin(ctx); err != nil && e == nil || p.Begun() && e != nil {
					t.Fatalf("Begin: got %v, then %v", err, e)
				} else {
					err = e
				}
			}
			if reason, _, err := p.Begin(ctx); err == nil {
				told = append(told, fmt.Sprintf("%s %v-…", reason, p.From.Sub(start)))
			}
			return told
		}
		told = append(told, fmt.Sprintf("%s %v-%v", reason, p.From.Sub(start), to.Sub(start)))
		p = next
	}
}

// Every pause is told to whoever follows them, whether or not something waits
// in it, and with the reason that held last. Slowness is none, and nor is the
// end of Run.
func TestKeysPauses(t *testing.T) {
	const s, m = time.Second, time.Minute
	for _, tt := range []struct {
		name   string
		o      seal.KeyOptions
		script []act
		want   []string
	}{
		{"none", seal.KeyOptions{}, nil, nil},
		{"a slow start", seal.KeyOptions{}, []act{{takes: 3 * s}}, nil},
		{"an outage that stays in its grace", seal.KeyOptions{}, []act{{from: 6 * m, err: errOut}, {from: 119 * m}}, nil},
		{"an outage from the start", seal.KeyOptions{}, []act{{err: errOut}, {from: 1 * s}}, []string{"outage 0s-1.75s"}},
		{"a start without an answer", seal.KeyOptions{CallTimeout: m}, []act{{hang: true}, {from: m}}, []string{"outage 0s-1m0.25s"}},
		{"two, and the second lasts", seal.KeyOptions{},
			[]act{{from: 1 * m, err: errRevoked}, {from: 30 * m}, {from: 40 * m, err: errRevoked}},
			[]string{"revoked 5m10s-30m10s", "revoked 40m20s-…"}},
		{"the reason changes", seal.KeyOptions{},
			[]act{{from: 1 * m, err: errOut}, {from: 3 * 60 * m, err: errRevoked}, {from: 4 * 60 * m}},
			[]string{"outage 2h0m0s-…"}},
		{"a used up data key is replaced at once", seal.KeyOptions{MaxBatches: 1}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kms := newFake(t, tt.script...)
				ks := seal.NewKeys(tt.o, kms, seal.SM4GCM, kms.context)
				ks.SetRandom(middle)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error)
				pauses := ks.Pauses()
				go func() { done <- ks.Run(ctx) }()
				time.Sleep(150 * m)
				synctest.Wait()
				got := story(t, pauses, kms.start)
				if tt.name == "the reason changes" {
					time.Sleep(150 * m)
					synctest.Wait()
					if got := story(t, pauses, kms.start); len(got) != 1 || !strings.HasPrefix(got[0], "revoked 2h0m0s-4h") {
						t.Errorf("at its end: got %q", got)
					}
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
				if tt.name != "the reason changes" {
					if after := story(t, pauses, kms.start); fmt.Sprint(after) != fmt.Sprint(got) {
						t.Errorf("at the end: got %q, want %q", after, got)
					}
				}
				if fmt.Sprint(got) != fmt.Sprint(tt.want) {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// A pause that a call without an answer makes began when the data key ended.
func TestKeysPauseBeginsWithoutKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := newFake(t, act{}, act{from: time.Second, hang: true})
		ks := seal.NewKeys(seal.KeyOptions{MaxBatches: 4, CallTimeout: time.Minute}, kms, seal.AES256GCM, kms.context)
		ks.SetRandom(middle)
		pauses := ks.Pauses()
		run(t, ks)
		time.Sleep(10 * time.Second)
		for range 4 { // the third asks for the next data key
			if atHand(ks) != 1 {
				t.Fatal("no data key")
			}
			synctest.Wait()
		}
		time.Sleep(10 * time.Second)
		if atHand(ks) != 0 { // used up
			t.Fatal("the data key is not used up")
		}
		time.Sleep(time.Minute)
		if got := fmt.Sprint(story(t, pauses, kms.start)); got != "[outage 20s-…]" {
			t.Errorf("got %s", got)
		}
	})
}

// A pause ends before what waited in it goes on.
func TestKeysPauseEndsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := newFake(t, act{err: errOut}, act{from: time.Hour})
		ks := seal.NewKeys(seal.KeyOptions{}, kms, seal.AES256GCM, kms.context)
		pauses := ks.Pauses()
		run(t, ks)
		if _, _, err := pauses.Begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		k, err := ks.Take(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		k.Release()
		if _, reason, _, ended := pauses.Ended(); !ended || reason != "outage" {
			t.Errorf("got %q, ended %v", reason, ended)
		}
	})
}

// Who waits for a data key is told when there will be none.
func TestKeysTakeEndsWithRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := newFake(t, act{err: errOut})
		ks := seal.NewKeys(seal.KeyOptions{}, kms, seal.AES256GCM, kms.context)
		ctx, cancel := context.WithCancel(t.Context())
		done, took := make(chan error, 1), make(chan error, 1)
		go func() { done <- ks.Run(ctx) }()
		go func() { _, err := ks.Take(context.Background(), 1); took <- err }()
		time.Sleep(time.Minute)
		cancel()
		if err := <-took; err == nil {
			t.Error("got a data key")
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestKeysTakeEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := newFake(t, act{err: errOut})
		ks := seal.NewKeys(seal.KeyOptions{}, kms, seal.AES256GCM, kms.context)
		run(t, ks)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := ks.Take(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
	})
}

func TestKeysBoundsOfUse(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    seal.KeyOptions
		n    int
		want []uint32 // the data key of each take
	}{
		{"batches", seal.KeyOptions{MaxBatches: 4}, 1, []uint32{1, 1, 1, 2, 2, 2, 3}},
		{"bytes", seal.KeyOptions{MaxBytes: 400}, 100, []uint32{1, 1, 1, 2, 2, 2, 3}},
		{"one batch", seal.KeyOptions{MaxBatches: 1}, 1, []uint32{1, 2, 3}},
		{"a batch above the bound", seal.KeyOptions{MaxBytes: 400}, 500, []uint32{1, 2, 3}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kms := newFake(t)
				ks := seal.NewKeys(tt.o, kms, seal.AES256GCM, kms.context)
				run(t, ks)
				for i, want := range tt.want {
					k, err := ks.Take(t.Context(), tt.n)
					if err != nil {
						t.Fatalf("take %d: %v", i, err)
					}
					if got := serial(k); got != want {
						t.Errorf("take %d: got key %d, want %d", i, got, want)
					}
					k.Release()
					synctest.Wait() // the key service answers in no time
				}
			})
		})
	}
}

// At three quarters a new data key is asked for while sealing goes on; at the
// bound sealing waits for it.
func TestKeysBoundsInAnOutage(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    seal.KeyOptions
		n    int
		fit  int // under one data key
		asks int // after so many the next data key is asked for
	}{
		{"batches", seal.KeyOptions{MaxBatches: 4}, 1, 4, 3},
		{"bytes", seal.KeyOptions{MaxBytes: 400}, 100, 4, 3},
		{"bytes that do not come out even", seal.KeyOptions{MaxBytes: 400}, 99, 4, 4},
		{"bytes, one more", seal.KeyOptions{MaxBytes: 399}, 100, 3, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kms := newFake(t, act{from: time.Nanosecond, err: errOut}, act{from: time.Minute})
				ks := seal.NewKeys(tt.o, kms, seal.AES256GCM, kms.context)
				ks.SetRandom(middle)
				run(t, ks)
				time.Sleep(time.Nanosecond)
				for i := range tt.fit + 1 {
					began := time.Now()
					k, err := ks.Take(t.Context(), tt.n)
					if err != nil {
						t.Fatal(err)
					}
					key, waited := serial(k), time.Since(began) > 0
					if wantKey, wantWait := uint32(1+i/tt.fit), i == tt.fit; key != wantKey || waited != wantWait {
						t.Errorf("take %d: got key %d, waited %v, want key %d, waited %v", i, key, waited, wantKey, wantWait)
					}
					k.Release()
					synctest.Wait()
					if asked := ks.State().Calls > 1; asked != (i+1 >= tt.asks) {
						t.Errorf("take %d: asked for the next %v", i, asked)
					}
				}
			})
		})
	}
}

// What a call failed with is counted by its class, and told with its code.
func TestKeysFailures(t *testing.T) {
	for _, tt := range []struct {
		act    act
		class  seal.Class
		code   string
		reason seal.Class
	}{
		{act{err: errOut}, seal.Outage, "503", seal.Outage},
		{act{err: errThrottled}, seal.Outage, "429", seal.Outage},
		{act{err: errUnknown}, seal.Unknown, "", seal.Outage},
		{act{err: errRefused}, seal.Credentials, "InvalidAccessKeyId", seal.Credentials},
		{act{err: errRevoked}, seal.Revoked, "Rejected.Disabled", seal.Revoked},
		{act{err: errMisfit}, seal.Misfit, "InvalidParameter", seal.Misfit},
		{act{err: &seal.KMSError{Class: 5}}, 5, "", 5},
		{act{hang: true}, seal.Outage, "Timeout", seal.Outage},
		{act{data: func(d *seal.DataKey) { d.Recipients = nil }}, seal.Misfit, "Answer", seal.Misfit},
	} {
		synctest.Test(t, func(t *testing.T) {
			kms := newFake(t, tt.act)
			ks := seal.NewKeys(seal.KeyOptions{RetryMax: time.Hour}, kms, seal.AES256GCM, kms.context)
			ks.SetRandom(func() float64 { return 0.999 })
			run(t, ks)
			time.Sleep(5 * time.Second)
			synctest.Wait()
			var want [5]int64
			s := ks.State()
			if int(tt.class) < len(want) {
				want[tt.class] = s.Calls
			}
			if s.Failed != want || s.Code != tt.code || s.Reason != tt.reason || s.Err == nil {
				t.Errorf("%+v: got %v, %v (%s): %v, want %v, %v (%s)", tt.act, s.Failed, s.Reason, s.Code, s.Err, want, tt.reason, tt.code)
			}
		})
	}
}

// A data key in use outlives its revocation until it is released, no longer.
func TestKeysWipeAfterUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := newFake(t, act{from: time.Minute, err: errRevoked})
		ks := seal.NewKeys(seal.KeyOptions{}, kms, seal.AES256GCM, kms.context)
		ks.SetRandom(middle)
		run(t, ks)
		a, _ := ks.Take(t.Context(), 1)
		b, _ := ks.Take(t.Context(), 1)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if s := ks.State(); s.Phase != seal.Paused {
			t.Fatalf("got %v, want paused", s.Phase)
		}
		a.Release()
		if got := serial(b); got != 1 {
			t.Errorf("in use: got key %d, want 1", got)
		}
		b.Release()
		if b.DEK() != nil {
			t.Error("the data key is not wiped at its last release")
		}
		defer func() {
			if recover() == nil {
				t.Error("a data key can be released twice")
			}
		}()
		b.Release()
	})
}

// Answers that only prove the CMK alive are wiped, and so is a data key that
// another has followed.
func TestKeysWipeAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var plains []seal.Secret
		kms := newFake(t, act{data: func(d *seal.DataKey) { plains = append(plains, d.Plain) }})
		ks := seal.NewKeys(seal.KeyOptions{}, kms, seal.AES256GCM, kms.context)
		run(t, ks)
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(plains) < 10 {
			t.Fatalf("got %d answers, want at least 10", len(plains))
		}
		live := 0
		for _, p := range plains {
			if p.Bytes() != nil {
				live++
			}
		}
		if live != 1 {
			t.Errorf("got %d answers not wiped, want the one in use", live)
		}
	})
}

// Run waits for a call at its end, and wipes what still comes of it.
func TestKeysStopInACall(t *testing.T) {
	for _, tt := range []struct {
		name string
		from time.Duration // of the call
		err  error
	}{
		{"the first", 0, nil},
		{"a refresh", time.Minute, nil},
		{"the first, that fails", 0, errOut},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var plains []seal.Secret
				kms := newFake(t, act{data: func(d *seal.DataKey) { plains = append(plains, d.Plain) }})
				kms.script = append(kms.script, act{from: tt.from, err: tt.err, data: kms.script[0].data})
				hold := make(chan struct{})
				ks := seal.NewKeys(seal.KeyOptions{Refresh: time.Minute}, hangs{kms, tt.from, hold}, seal.AES256GCM, kms.context)
				ks.SetRandom(middle)
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- ks.Run(ctx) }()
				time.Sleep(tt.from + time.Second)
				cancel()
				synctest.Wait()
				if s := ks.State(); s.KeyID != "" || s.Phase != seal.Init || s.Overdue != 0 {
					t.Errorf("stopped, in a call: got %v with key %q, overdue %v", s.Phase, s.KeyID, s.Overdue)
				}
				time.Sleep(time.Minute)
				if s := ks.State(); s.Overdue != 0 {
					t.Errorf("stopped, in a call for a minute: overdue %v", s.Overdue)
				}
				select {
				case <-done:
					t.Error("Run returned with a call under way")
				default:
				}
				close(hold)
				if err := <-done; err != nil {
					t.Error(err)
				}
				for i, p := range plains {
					if p.Bytes() != nil {
						t.Errorf("data key %d is not wiped", i+1)
					}
				}
			})
		})
	}
}

// What is no data key is wiped too.
func TestKeysWipeBadAnswers(t *testing.T) {
	for name, spoil := range map[string]func(*seal.DataKey){
		"31 bytes":   func(d *seal.DataKey) { d.Plain.Wipe(); d.Plain = seal.NewSecret(31) },
		"for nobody": func(d *seal.DataKey) { d.Recipients = nil },
	} {
		synctest.Test(t, func(t *testing.T) {
			var plain seal.Secret
			kms := newFake(t, act{data: func(d *seal.DataKey) { spoil(d); plain = d.Plain }})
			run(t, seal.NewKeys(seal.KeyOptions{}, kms, seal.AES256GCM, kms.context))
			if plain.Bytes() != nil {
				t.Errorf("%s: not wiped", name)
			}
		})
	}
}

// Takers on all sides while data keys rotate as fast as they can.
func TestKeysConcurrentTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := newFake(t, act{takes: time.Millisecond})
		ks := seal.NewKeys(seal.KeyOptions{MaxBatches: 3}, kms, seal.AES256GCM, kms.context)
		run(t, ks)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 200 {
					k, err := ks.Take(t.Context(), 1)
					if err != nil {
						t.Error(err)
						return
					}
					before := serial(k)
					time.Sleep(time.Millisecond)
					if after := serial(k); after != before || before == 0 {
						t.Errorf("the data key changed in use: %d, then %d", before, after)
					}
					k.Release()
				}
			})
		}
		wg.Wait()
	})
}

func TestKeysLog(t *testing.T) {
	for _, tt := range []struct {
		name   string
		o      seal.KeyOptions
		script []act
		want   []string
	}{
		{"revoked, and back", seal.KeyOptions{}, []act{{}, {from: 32 * time.Minute, err: errRevoked}, {from: time.Hour}}, []string{
			"info: data key ready",
			"info: data key rotated",
			"warn: data key not refreshed, sealing goes on",
			"warn: sealing paused, no data key",
			"info: data key ready",
			"info: data key rotated",
		}},
		{"too old before a refresh", seal.KeyOptions{Refresh: time.Hour, HardAge: 59 * time.Minute}, []act{{}, {from: 1, takes: time.Second}}, []string{
			"info: data key ready",
			"info: data key ended, waiting for the next",
			"info: data key ready",
			"info: data key ended, waiting for the next",
			"info: data key ready",
		}},
		{"another reason", seal.KeyOptions{RetryMax: time.Second}, []act{{err: errOut}, {from: time.Minute, err: errUnknown}, {from: 2 * time.Minute, err: errMisfit}}, []string{
			"warn: sealing paused, no data key",
			"warn: sealing paused, no data key",
			"warn: sealing paused, no data key",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				core, logs := observer.New(zap.DebugLevel)
				tt.o.Log = zap.New(core)
				kms := newFake(t, tt.script...)
				ks := seal.NewKeys(tt.o, kms, seal.AES256GCM, kms.context)
				ks.SetRandom(middle)
				run(t, ks)
				time.Sleep(2 * time.Hour)
				synctest.Wait()
				var got []string
				for _, e := range logs.All() {
					got = append(got, e.Level.String()+": "+e.Message)
					if next, ok := e.ContextMap()["next"].(time.Time); e.Message == "sealing paused, no data key" && (!ok || !next.After(e.Time)) {
						t.Errorf("%s: %s, the next call: %v", e.Message, e.Time, e.ContextMap()["next"])
					}
				}
				if fmt.Sprint(got) != fmt.Sprint(tt.want) {
					t.Errorf("got\n%q\nwant\n%q", got, tt.want)
				}
			})
		})
	}
}

// A pause that begins in a call tells of no call after it.
func TestKeysLogInACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.WarnLevel)
		kms := newFake(t, act{}, act{from: 1, hang: true})
		ks := seal.NewKeys(seal.KeyOptions{Grace: -1, HardAge: 6 * time.Minute, CallTimeout: time.Hour, Log: zap.New(core)}, kms, seal.AES256GCM, kms.context)
		ks.SetRandom(middle)
		run(t, ks)
		time.Sleep(7 * time.Minute)
		all := logs.All()
		if len(all) != 1 || all[0].Message != "sealing paused, no data key" || all[0].ContextMap()["code"] != "Timeout" {
			t.Fatalf("got %v", all)
		}
		if next, ok := all[0].ContextMap()["next"]; ok {
			t.Errorf("the next call: got %v, want none", next)
		}
	})
}

func TestKeysState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := newFake(t, act{from: 9 * time.Minute, err: errOut})
		ks := seal.NewKeys(seal.KeyOptions{}, kms, seal.AES256GCM, kms.context)
		ks.SetRandom(middle)
		if s := ks.State(); s.Phase != seal.Init || s.DEKID != ([16]byte{}) {
			t.Errorf("before Run: got %+v", s)
		}
		run(t, ks)
		k, err := ks.Take(t.Context(), 1000)
		if err != nil {
			t.Fatal(err)
		}
		defer k.Release()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		one := seal.NewSecret(32)
		defer one.Wipe()
		locked := one.Locked()
		s := ks.State()
		if s.Phase != seal.Degraded || s.Code != "503" || !errors.Is(s.Err, errOut) || s.KeyID != "cmk" || s.DEKID != k.ID() ||
			s.DEKAge != 10*time.Minute || s.DEKEnds.Sub(kms.start) != 2*time.Hour || s.Batches != 1 || s.Bytes != 1000 ||
			s.Proof.Sub(kms.start) != 5*time.Minute || s.Since.Sub(kms.start) != 10*time.Minute ||
			s.Next.Sub(kms.start) != 10*time.Minute+250*time.Millisecond || s.Locked != locked || s.Calls != 3 || s.Rotated != 1 || s.Failed[seal.Outage] != 1 {
			t.Errorf("got %+v", s)
		}
	})
}

// What an answer proves, it proves of the time when it was asked for: by the
// monotonic clock, and by the wall clock apart from it.
func TestKeysProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := newFake(t, act{takes: 3 * time.Second})
		ks := seal.NewKeys(seal.KeyOptions{}, kms, seal.AES256GCM, kms.context)
		run(t, ks)
		time.Sleep(time.Minute)
		if s := ks.State(); !s.Proof.Equal(kms.start) || s.DEKAge != time.Minute || !s.DEKEnds.Equal(kms.start.Add(time.Hour)) ||
			!s.Since.Equal(kms.start.Add(3*time.Second)) {
			t.Errorf("got proof of %v, age %v, ends %v, ready since %v; asked at %v", s.Proof, s.DEKAge, s.DEKEnds, s.Since, kms.start)
		}
	})
	now := time.Now() // outside a bubble it has a monotonic reading
	ks := seal.NewKeys(seal.KeyOptions{}, newFake(t), seal.AES256GCM, nil)
	if wall := ks.Wall(now); wall == now || wall != now.Round(0) {
		t.Errorf("by the wall clock: got %v, of %v", wall, now)
	}
}

// A key id that is no text is shown in hex.
func TestKeysStateOfBinaryKeyID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := newFake(t, act{data: func(d *seal.DataKey) { d.Recipients[0].KeyID = []byte{0xff, 0x00, 0xa5} }})
		ks := seal.NewKeys(seal.KeyOptions{}, kms, seal.AES256GCM, kms.context)
		run(t, ks)
		if got, want := ks.State().KeyID, "ff00a5"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// A call that hangs beyond its time is overdue; waiting for hours is not.
func TestKeysOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := newFake(t, act{err: errOut, takes: 4 * time.Second})
		hold := make(chan struct{})
		ks := seal.NewKeys(seal.KeyOptions{}, hangs{kms, 3 * time.Hour, hold}, seal.AES256GCM, kms.context)
		if o := ks.State().Overdue; o != 0 {
			t.Errorf("before Run: %v", o)
		}
		run(t, ks)
		for range 3 * 60 * 60 {
			time.Sleep(time.Second)
			if o := ks.State().Overdue; o != 0 {
				t.Fatalf("in an outage: %v", o)
			}
		}
		time.Sleep(10 * time.Minute)
		if o := ks.State().Overdue; o < 9*time.Minute {
			t.Errorf("in a call that hangs: %v", o)
		}
		close(hold)
		time.Sleep(time.Minute)
		if o := ks.State().Overdue; o != 0 {
			t.Errorf("at the end of it: %v", o)
		}
	})
}

// hangs does not keep to the deadline of a call, from a moment on.
type hangs struct {
	*fakeKMS
	from time.Duration
	hold chan struct{}
}

func (h hangs) Generate(ctx context.Context, ec []byte) (seal.DataKey, error) {
	if time.Since(h.start) >= h.from {
		<-h.hold
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), time.Hour)
		defer cancel()
	}
	return h.fakeKMS.Generate(ctx, ec)
}

func BenchmarkTake(b *testing.B) {
	kms := &fakeKMS{context: []byte("\x00\x00")}
	for _, bb := range []struct {
		name string
		o    seal.KeyOptions
	}{
		{"steady", seal.KeyOptions{}},
		{"under refresh", seal.KeyOptions{Refresh: 100 * time.Microsecond, Rotate: 200 * time.Microsecond}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			ks := seal.NewKeys(bb.o, kms, seal.AES256GCM, kms.context)
			ctx, cancel := context.WithCancel(b.Context())
			done := make(chan error)
			go func() { done <- ks.Run(ctx) }()
			for b.Loop() {
				k, err := ks.Take(ctx, 1)
				if err != nil {
					b.Fatal(err)
				}
				k.Release()
			}
			b.ReportMetric(float64(ks.State().Rotated), "keys")
			cancel()
			<-done
		})
	}
}
