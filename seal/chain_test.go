package seal_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sealtail/seal"
)

// A plainKMS "wraps" data keys as they are, so that tests can open what was
// sealed.
type plainKMS struct {
	mu   sync.Mutex
	down error // what it answers instead
	made int
}

func (k *plainKMS) Generate(context.Context, []byte) (seal.DataKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.down != nil {
		return seal.DataKey{}, k.down
	}
	k.made++
	dek := make([]byte, 32)
	rand.Read(dek)
	return seal.DataKey{
		Plain:      seal.MoveSecret(bytes.Clone(dek)),
		Recipients: []seal.Recipient{{Type: seal.TypeKeyring, KeyID: []byte("plain"), Wrapped: bytes.Clone(dek)}},
	}, nil
}

func (k *plainKMS) Unwrap(_ context.Context, r seal.Recipient, _ []byte) (seal.Secret, error) {
	return seal.MoveSecret(bytes.Clone(r.Wrapped)), nil
}

func (k *plainKMS) set(down error) {
	k.mu.Lock()
	k.down = down
	k.mu.Unlock()
}

// count is the number of keys made so far.
func (k *plainKMS) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.made
}

func testContext(t testing.TB) []byte {
	t.Helper()
	b, err := seal.EncodeContext(seal.Context{"project": "proj", "logstore": "audit"})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// runKeys returns data keys that run until the test ends.
func runKeys(t testing.TB, o seal.KeyOptions, kms seal.KMS, s seal.Suite) *seal.Keys {
	t.Helper()
	keys := seal.NewKeys(o, kms, s, testContext(t))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := keys.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return keys
}

func newIdentity(t testing.TB) *seal.Identity {
	t.Helper()
	id, err := seal.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func newChain(t testing.TB, o seal.ChainOptions) *seal.Chain {
	t.Helper()
	if o.Context == nil {
		o.Context = testContext(t)
	}
	c, err := seal.NewChain(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// mustOpen opens an envelope and checks its signature.
func mustOpen(t testing.TB, env []byte, u seal.Unwrapper) (*seal.Envelope, []byte) {
	t.Helper()
	e, err := seal.Parse(env)
	if err != nil {
		t.Fatal(err)
	}
	dek, err := seal.Unwrap(t.Context(), &e.Header, e.Recipients, u)
	if err != nil {
		t.Fatal(err)
	}
	content, err := e.Open(dek.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return e, content
}

func TestChain(t *testing.T) {
	for _, o := range []seal.ChainOptions{
		{Suite: seal.AES256GCM},
		{Suite: seal.SM4GCM},
		{Suite: seal.SM4GCM, SM4Engine: "emmansun"},
		{Suite: seal.SM4GCM, SM4Engine: "tjfoc"},
	} {
		t.Run(o.Suite.String()+" "+o.SM4Engine, func(t *testing.T) {
			kms := new(plainKMS)
			o.Keys, o.Identity = runKeys(t, seal.KeyOptions{}, kms, o.Suite), newIdentity(t)
			began := uint64(time.Now().UnixNano())
			c := newChain(t, o)
			if c.Head() != (seal.Head{}) {
				t.Error("a head before the first envelope")
			}
			var prev [32]byte
			for i, v := range []struct {
				kind        seal.Flags
				first, last int64
				codec       uint8
				content     string
			}{
				{0, 1_999_999_999, 2_000_000_000, seal.CodecNone, "one"},
				{0, -5, 3, seal.CodecZstd, "two"},
				{0, 9e9, 3, seal.CodecZstd, ""},
				{seal.Heartbeat, 1, 2, seal.CodecNone, ""},
				{seal.Final | seal.Heartbeat, 1, 2, seal.CodecNone, ""},
			} {
				now := time.Now().Unix()
				buf := bytes.Repeat([]byte{0xa5}, 1024*(i%2)) // must not show in the padding
				env, err := c.Seal(t.Context(), buf, v.kind, v.first, v.last, v.codec, []byte(v.content))
				if err != nil {
					t.Fatalf("envelope %d: %v", i, err)
				}
				if len(buf) > 0 && &env[0] != &buf[0] {
					t.Errorf("envelope %d of %d bytes is not in the %d that there were", i, len(env), len(buf))
				}
				e, content := mustOpen(t, env, kms)
				if string(content) != v.content || e.Codec != v.codec {
					t.Errorf("envelope %d: got %q in codec %d, want %q in %d", i, content, e.Codec, v.content, v.codec)
				}
				flags := v.kind
				if i == 0 {
					flags |= seal.Genesis
				}
				if e.Flags != flags || e.Seq != uint64(i) || e.Prev != prev || e.StreamID != c.StreamID() {
					t.Errorf("envelope %d: got flags %d, seq %d, prev %x", i, e.Flags, e.Seq, e.Prev)
				}
				if e.Epoch != c.Epoch() || e.Epoch < began || e.Signer != o.Identity.Signer(o.Suite) {
					t.Errorf("envelope %d: got epoch %d, signer %x", i, e.Epoch, e.Signer)
				}
				first, last := max(0, v.first/1e9*1e9), max(0, v.last/1e9*1e9)
				if v.kind&seal.Heartbeat != 0 {
					if e.First != e.Last || e.First < now*1e9 {
						t.Errorf("envelope %d: got times %d and %d", i, e.First, e.Last)
					}
				} else if e.First != first || e.Last != max(first, last) {
					t.Errorf("envelope %d: got times %d to %d, want %d to %d", i, e.First, e.Last, first, last)
				}
				prev = e.Digest()
				head, err := seal.HeadOf(env)
				if err != nil || head != c.Head() || head.Digest != prev || head.Last != e.Last {
					t.Errorf("envelope %d: got head %v, error %v, want %v", i, c.Head(), err, head)
				}
			}
			if _, err := c.Seal(t.Context(), nil, 0, 0, 0, seal.CodecNone, []byte("more")); err == nil {
				t.Error("sealed after FINAL")
			}
		})
	}
}

// A chain goes on from a head, also in another suite.
func TestChainGoesOn(t *testing.T) {
	id := newIdentity(t)
	var head *seal.Head
	var stream [16]byte
	for i, s := range []seal.Suite{seal.AES256GCM, seal.AES256GCM, seal.SM4GCM, seal.AES256GCM} {
		kms := new(plainKMS)
		c := newChain(t, seal.ChainOptions{Identity: id, Keys: runKeys(t, seal.KeyOptions{}, kms, s), Suite: s, Head: head})
		if head != nil && (c.Head() != *head || c.StreamID() != stream) {
			t.Errorf("chain %d: got head %v", i, c.Head())
		}
		env, err := c.Seal(t.Context(), nil, seal.Heartbeat, 0, 0, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		e, _ := mustOpen(t, env, kms)
		if head == nil {
			stream = e.StreamID
		} else if e.StreamID != stream || e.Prev != head.Digest || e.Epoch <= head.Epoch || e.Seq != 0 || e.Flags != seal.Heartbeat {
			t.Errorf("chain %d: got %+v", i, e.Header)
		}
		h := c.Head()
		if err := h.Unmarshal(c.Head().Marshal()); err != nil {
			t.Fatal(err)
		}
		head = &h
	}
}

func TestEpoch(t *testing.T) {
	keys := seal.NewKeys(seal.KeyOptions{}, new(plainKMS), seal.AES256GCM, testContext(t))
	o := seal.ChainOptions{Identity: newIdentity(t), Keys: keys, Suite: seal.AES256GCM, Context: testContext(t)}
	future := uint64(time.Now().Add(time.Hour).UnixNano())
	for name, v := range map[string]struct {
		epoch, last, want uint64 // last 0 = no head; want 0 = refused
	}{
		"given":                  {epoch: 7, want: 7},
		"given beyond the last":  {epoch: 7, last: 6, want: 7},
		"given as the last":      {epoch: 7, last: 7},
		"last is in the future":  {last: future, want: future + 1},
		"last is the last":       {last: math.MaxUint64},
		"last but one":           {last: math.MaxUint64 - 1, want: math.MaxUint64},
		"given below the future": {epoch: 7, last: future},
	} {
		o.Epoch, o.Head = v.epoch, nil
		if v.last != 0 {
			o.Head = &seal.Head{Epoch: v.last, Suite: seal.SM4GCM}
		}
		c, err := seal.NewChain(o)
		if (err == nil) != (v.want != 0) {
			t.Errorf("%s: got %v", name, err)
		} else if err == nil && c.Epoch() != v.want {
			t.Errorf("%s: got %d, want %d", name, c.Epoch(), v.want)
		}
	}
}

func TestNewChainRefuses(t *testing.T) {
	keys := seal.NewKeys(seal.KeyOptions{}, new(plainKMS), seal.SM4GCM, testContext(t))
	other, err := seal.EncodeContext(seal.Context{"project": "other"})
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(o *seal.ChainOptions){
		"suite":         func(o *seal.ChainOptions) { o.Suite = 3 },
		"keys' suite":   func(o *seal.ChainOptions) { o.Suite = seal.AES256GCM },
		"keys' context": func(o *seal.ChainOptions) { o.Context = other },
		"context":       func(o *seal.ChainOptions) { o.Context = o.Context[:9] },
		"engine":        func(o *seal.ChainOptions) { o.SM4Engine = "openssl" },
	} {
		o := seal.ChainOptions{Identity: newIdentity(t), Keys: keys, Suite: seal.SM4GCM, Context: testContext(t)}
		if _, err := seal.NewChain(o); err != nil {
			t.Fatal(err)
		}
		change(&o)
		if _, err := seal.NewChain(o); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// What cannot be sealed leaves the chain as it was.
func TestSealRefuses(t *testing.T) {
	kms := new(plainKMS)
	c := newChain(t, seal.ChainOptions{Identity: newIdentity(t), Keys: runKeys(t, seal.KeyOptions{}, kms, seal.AES256GCM), Suite: seal.AES256GCM})
	for name, v := range map[string]struct {
		kind    seal.Flags
		codec   uint8
		content []byte
	}{
		"genesis":                {seal.Genesis, 0, nil},
		"flag":                   {8, 0, nil},
		"codec":                  {0, 2, nil},
		"heartbeat with content": {seal.Heartbeat, 0, []byte("x")},
		"heartbeat with codec":   {seal.Heartbeat, seal.CodecZstd, nil},
		"too long":               {0, 0, make([]byte, seal.MaxContent+1)},
	} {
		if _, err := c.Seal(t.Context(), nil, v.kind, 0, 0, v.codec, v.content); err == nil {
			t.Errorf("%s: sealed", name)
		}
	}
	env, err := c.Seal(t.Context(), nil, 0, 0, 0, seal.CodecNone, make([]byte, seal.MaxContent))
	if err != nil {
		t.Fatal(err)
	}
	if e, _ := mustOpen(t, env, kms); e.Seq != 0 || e.Flags != seal.Genesis {
		t.Errorf("got seq %d, flags %d, want the first envelope", e.Seq, e.Flags)
	}
}

// Seal waits while the key service is down.
func TestSealWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := &plainKMS{down: &seal.KMSError{Class: seal.Revoked, Code: "Rejected.Disabled"}}
		ctx, cancel := context.WithCancel(t.Context())
		keys := seal.NewKeys(seal.KeyOptions{}, kms, seal.SM4GCM, testContext(t))
		var wg sync.WaitGroup
		wg.Go(func() { keys.Run(ctx) })
		c := newChain(t, seal.ChainOptions{Identity: newIdentity(t), Keys: keys, Suite: seal.SM4GCM})

		short, stop := context.WithTimeout(ctx, time.Minute)
		defer stop()
		if _, err := c.Seal(short, nil, seal.Heartbeat, 0, 0, 0, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
		began := time.Now()
		wg.Go(func() {
			time.Sleep(10 * time.Minute)
			kms.set(nil)
		})
		env, err := c.Seal(ctx, nil, seal.Heartbeat, 0, 0, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		e, _ := mustOpen(t, env, kms)
		if e.Seq != 0 || e.First < began.Add(10*time.Minute).Unix()*1e9 {
			t.Errorf("got seq %d of time %d", e.Seq, e.First)
		}
		cancel()
		wg.Wait()
		ended, end := context.WithCancel(t.Context())
		end()
		if _, err := c.Seal(ended, nil, 0, 0, 0, 0, nil); err == nil {
			t.Error("sealed without data keys")
		}
	})
}

// Salts, keys and nonces never repeat, whatever is sealed.
func TestNothingRepeats(t *testing.T) {
	for _, s := range suites {
		kms := new(plainKMS)
		keys, id := runKeys(t, seal.KeyOptions{}, kms, s), newIdentity(t)
		salts, secrets, streams := map[[24]byte]bool{}, map[string]bool{}, map[[16]byte]bool{}
		const chains, each = 10, 200
		for range chains {
			// The same epoch and content each time: the salt alone must do.
			c := newChain(t, seal.ChainOptions{Identity: id, Keys: keys, Suite: s, Epoch: 1})
			streams[c.StreamID()] = true
			for range each {
				env, err := c.Seal(t.Context(), nil, 0, 0, 0, seal.CodecNone, []byte("same"))
				if err != nil {
					t.Fatal(err)
				}
				e, err := seal.Parse(env)
				if err != nil {
					t.Fatal(err)
				}
				salts[e.Salt] = true
				secrets[e.Key(e.Recipients[0].Wrapped)] = true
			}
		}
		if len(streams) != chains || len(salts) != chains*each || len(secrets) != chains*each {
			t.Errorf("%s: got %d streams, %d salts, %d keys", s, len(streams), len(salts), len(secrets))
		}
		if n := kms.count(); n != 1 {
			t.Errorf("%s: got %d data keys, want 1", s, n)
		}
	}
}

// Chains in parallel share data keys and identity while those are replaced.
func TestChainsShareKeys(t *testing.T) {
	id := newIdentity(t)
	for _, v := range []seal.ChainOptions{
		{Suite: seal.AES256GCM}, {Suite: seal.SM4GCM}, {Suite: seal.SM4GCM, SM4Engine: "tjfoc"},
	} {
		kms := new(plainKMS)
		v.Identity, v.Keys = id, runKeys(t, seal.KeyOptions{MaxBatches: 16}, kms, v.Suite)
		v.Context = testContext(t)
		var wg sync.WaitGroup
		for range 8 {
			c := newChain(t, v)
			wg.Go(func() {
				content := bytes.Repeat([]byte(v.Suite.String()), 100)
				var prev [32]byte
				for range 20 {
					env, err := c.Seal(t.Context(), nil, 0, 0, 0, seal.CodecNone, content)
					if err != nil {
						t.Error(err)
						return
					}
					e, err := seal.Parse(env)
					if err != nil {
						t.Error(err)
						return
					}
					got, err := e.Open(e.Recipients[0].Wrapped)
					if err != nil || !bytes.Equal(got, content) || e.Prev != prev {
						t.Errorf("got %d bytes, prev %x, error %v", len(got), e.Prev, err)
						return
					}
					prev = e.Digest()
				}
			})
		}
		wg.Wait()
		if n := kms.count(); n < 2 {
			t.Errorf("%s: got %d data keys, want several", v.Suite, n)
		}
	}
}
