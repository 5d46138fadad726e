package seal_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"testing"

	"sealtail/seal"
)

var suites = []seal.Suite{seal.AES256GCM, seal.SM4GCM}

// Offsets of the parts of the vectors' envelopes.
func parts(t testing.TB, env []byte) (commitment, keys, payload, signature int) {
	t.Helper()
	commitment = int(binary.BigEndian.Uint16(env[8:]))
	keys = commitment + 32
	payload = keys + 2 + int(binary.BigEndian.Uint16(env[keys:]))
	return commitment, keys, payload, payload + int(binary.BigEndian.Uint32(env[12:]))
}

func TestParsePrefix(t *testing.T) {
	f := vectors(t)
	var all []byte
	var want [][]byte
	for _, v := range f.Tests {
		if v.Want == "open" {
			want = append(want, v.Envelope)
			all = append(all, v.Envelope...)
		}
	}
	for rest := all; len(rest) > 0; want = want[1:] {
		e, n, err := seal.ParsePrefix(rest)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(rest[:n], want[0]) {
			t.Fatalf("got %d bytes, want %d", n, len(want[0]))
		}
		if err := e.Verify(); err != nil {
			t.Error(err)
		}
		rest = rest[n:]
	}
	if len(want) != 0 {
		t.Errorf("%d envelopes are missing", len(want))
	}
}

func TestTorn(t *testing.T) {
	f := vectors(t)
	for _, suite := range suites {
		env := f.envelope(t, suite.String()+"/chain-3-two-recipients")
		for n := range env {
			if _, _, err := seal.ParsePrefix(env[:n]); !errors.Is(err, seal.ErrTorn) {
				t.Errorf("%s, %d bytes: got %v, want %v", suite, n, err, seal.ErrTorn)
			}
			if _, err := seal.Parse(env[:n]); !errors.Is(err, seal.ErrMalformed) {
				t.Errorf("%s, %d bytes: got %v, want %v", suite, n, err, seal.ErrMalformed)
			}
		}
	}
	for name, b := range map[string][]byte{
		"magic":  []byte("\x89SE2"),
		"begin":  []byte("\x88"),
		"suite":  []byte("\x89SE1\x01\x03"),
		"length": []byte("\x89SE1\x01\x01\x00\x01\xff\xff"),
		"zeros":  make([]byte, 4096),
	} {
		if _, _, err := seal.ParsePrefix(b); !errors.Is(err, seal.ErrMalformed) || errors.Is(err, seal.ErrTorn) {
			t.Errorf("%s: got %v, want malformed and not torn", name, err)
		}
	}
}

// Every single byte of an envelope that is flipped shows.
func TestFlip(t *testing.T) {
	f := vectors(t)
	for _, suite := range suites {
		env := f.envelope(t, suite.String()+"/chain-5-bytes")
		_, keys, payload, _ := parts(t, env)
		for _, bit := range []byte{0x01, 0x80} {
			for i := range env {
				bad := bytes.Clone(env)
				bad[i] ^= bit
				e, err := seal.Parse(bad)
				if errors.Is(err, seal.ErrMalformed) {
					continue
				} else if err != nil {
					t.Fatalf("%s, byte %d: got %v", suite, i, err)
				}
				if i < keys || i >= payload {
					if err := e.Verify(); err != seal.ErrForged {
						t.Errorf("%s, byte %d: got %v, want %v", suite, i, err, seal.ErrForged)
					}
					if _, err := e.Open(f.DEK); err != seal.ErrForged {
						t.Errorf("%s, byte %d: opening got %v, want %v", suite, i, err, seal.ErrForged)
					}
					continue
				}
				// The key section is not signed.
				if err := e.Verify(); err != nil {
					t.Errorf("%s, byte %d: %v", suite, i, err)
				}
				if _, err := seal.Unwrap(t.Context(), &e.Header, e.Recipients, f); !errors.Is(err, seal.ErrUnwrap) {
					t.Errorf("%s, byte %d: got %v, want %v", suite, i, err, seal.ErrUnwrap)
				}
			}
		}
	}
}

func TestOpenRefusesDataKeys(t *testing.T) {
	f := vectors(t)
	other := bytes.Clone(f.DEK)
	other[0] ^= 1
	for _, suite := range suites {
		e, err := seal.Parse(f.envelope(t, suite.String()+"/chain-5-bytes"))
		if err != nil {
			t.Fatal(err)
		}
		for _, dek := range [][]byte{nil, {}, f.DEK[:31], append(bytes.Clone(f.DEK), 0), other} {
			if _, err := e.Open(dek); err != seal.ErrUnwrap {
				t.Errorf("%s: got %v, want %v", suite, err, seal.ErrUnwrap)
			}
		}
	}
}

// altered returns a well-formed header of suite s after change.
func altered(id *seal.Identity, s seal.Suite, change func(h *seal.Header)) seal.Header {
	ec, err := seal.EncodeContext(seal.Context{"project": "p"})
	if err != nil {
		panic(err)
	}
	h := seal.Header{Suite: s, Epoch: 1, Seq: 1, First: 3e9, Last: 4e9, Prev: [32]byte{1}, Signer: id.Signer(s), Context: ec}
	change(&h)
	return h
}

var oneRecipient = []seal.Recipient{{Type: seal.TypeAliKMS, KeyID: []byte("k"), Wrapped: []byte("w")}}

func TestHeaderRules(t *testing.T) {
	id := vectors(t).identity(t)
	for name, v := range map[string]struct {
		change func(h *seal.Header)
		ok     bool
	}{
		"as it should be":            {func(h *seal.Header) {}, true},
		"genesis":                    {func(h *seal.Header) { h.Flags, h.Prev, h.Seq = seal.Genesis, [32]byte{}, 0 }, true},
		"genesis with predecessor":   {func(h *seal.Header) { h.Flags, h.Seq = seal.Genesis, 0 }, false},
		"genesis with seq 1":         {func(h *seal.Header) { h.Flags, h.Prev = seal.Genesis, [32]byte{} }, false},
		"neither genesis nor prev":   {func(h *seal.Header) { h.Prev = [32]byte{} }, false},
		"final":                      {func(h *seal.Header) { h.Flags = seal.Final }, true},
		"heartbeat with codec":       {func(h *seal.Header) { h.Flags, h.Codec = seal.Heartbeat, seal.CodecZstd }, false},
		"codec":                      {func(h *seal.Header) { h.Codec = 2 }, false},
		"times reversed":             {func(h *seal.Header) { h.First = 5e9 }, false},
		"time of part of a second":   {func(h *seal.Header) { h.Last++ }, false},
		"times equal":                {func(h *seal.Header) { h.First = h.Last }, true},
		"time beyond":                {func(h *seal.Header) { h.Last = -1e9 }, false},
		"no context":                 {func(h *seal.Header) { h.Context = nil }, false},
		"context of another format":  {func(h *seal.Header) { h.Context = []byte("\x00\x01\x00\x03fmt\x00\x03SE2") }, false},
		"context without format":     {func(h *seal.Header) { h.Context = []byte("\x00\x00") }, false},
		"context cut":                {func(h *seal.Header) { h.Context = h.Context[:len(h.Context)-1] }, false},
		"longest seq":                {func(h *seal.Header) { h.Seq = 1<<64 - 1 }, true},
		"heartbeat and final":        {func(h *seal.Header) { h.Flags = seal.Heartbeat | seal.Final }, true},
		"genesis, heartbeat, final":  {func(h *seal.Header) { h.Flags, h.Prev, h.Seq = 7, [32]byte{}, 0 }, true},
		"flag of no meaning":         {func(h *seal.Header) { h.Flags = 8 }, false},
		"longest context that fits":  {func(h *seal.Header) { h.Context = longContext(3926) }, true},
		"context longer than header": {func(h *seal.Header) { h.Context = longContext(3927) }, false},
	} {
		for _, s := range suites {
			env, _, err := seal.Reseal(id, altered(id, s, v.change), make([]byte, 32), oneRecipient, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := seal.Parse(env); (err == nil) != v.ok || err != nil && (!errors.Is(err, seal.ErrMalformed) || errors.Is(err, seal.ErrTorn)) {
				t.Errorf("%s, %s: got %v, want it well formed: %v", s, name, err, v.ok)
			}
		}
	}
}

// longContext returns a context that takes n bytes.
func longContext(n int) []byte {
	b := []byte("\x00\x02\x00\x03fmt\x00\x03SE1\x00\x01x")
	b = binary.BigEndian.AppendUint16(b, uint16(n-len(b)-2))
	return append(b, bytes.Repeat([]byte("y"), n-len(b))...)
}

func TestRecipientRules(t *testing.T) {
	id := vectors(t).identity(t)
	long := func(n int) []seal.Recipient { // a key section of n bytes
		return []seal.Recipient{{Type: 1, Wrapped: make([]byte, n-8)}}
	}
	for name, v := range map[string]struct {
		rs []seal.Recipient
		ok bool
	}{
		"none":      {nil, false},
		"8":         {slices.Repeat(oneRecipient, 8), true},
		"9":         {slices.Repeat(oneRecipient, 9), false},
		"type 0":    {[]seal.Recipient{{Type: 0}}, false},
		"type 6":    {[]seal.Recipient{{Type: 6}}, true},
		"type 7":    {[]seal.Recipient{{Type: 7}}, false},
		"16 KiB":    {long(16384), true},
		"16 KiB, 1": {long(16385), false},
	} {
		env, _, err := seal.Reseal(id, altered(id, seal.AES256GCM, func(h *seal.Header) {}), make([]byte, 32), v.rs, nil)
		if (err == nil) != v.ok {
			t.Errorf("%s: got %v, want it sealed: %v", name, err, v.ok)
		}
		if err != nil {
			continue
		}
		if e, err := seal.Parse(env); err != nil || len(e.Recipients) != len(v.rs) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Whatever the header and the recipients, MaxContent fits, and with the
// largest of both no byte more does.
func TestMaxContent(t *testing.T) {
	id := vectors(t).identity(t)
	for _, s := range suites {
		h := altered(id, s, func(h *seal.Header) { h.Context = longContext(3926) })
		rs := []seal.Recipient{{Type: 1, Wrapped: make([]byte, 16384-8)}}
		content := make([]byte, seal.MaxContent+1)
		env, _, err := seal.Reseal(id, h, make([]byte, 32), rs, content[:seal.MaxContent])
		if err != nil || len(env) > seal.MaxEnvelope {
			t.Fatalf("%s: got %d bytes, error %v", s, len(env), err)
		}
		if _, err := seal.Parse(env); err != nil {
			t.Error(err)
		}
		if _, _, err := seal.Reseal(id, h, make([]byte, 32), rs, content); err == nil {
			t.Errorf("%s: one byte more fits", s)
		}
	}
}

// The one allocation of the envelope's size is the envelope.
func TestSealAllocates(t *testing.T) {
	id := vectors(t).identity(t)
	h := altered(id, seal.AES256GCM, func(h *seal.Header) {})
	content := make([]byte, 512<<10)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const n = 8
	for range n {
		if _, _, err := seal.Reseal(id, h, make([]byte, 32), oneRecipient, content); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if got, most := (after.TotalAlloc-before.TotalAlloc)/n, uint64(600<<10); got > most {
		t.Errorf("got %d bytes, want at most %d", got, most)
	}
}

// An unwrapper answers the same to all.
type unwrapper struct {
	dek []byte
	err error
}

func (u unwrapper) Unwrap(context.Context, seal.Recipient, []byte) (seal.Secret, error) {
	return seal.MoveSecret(bytes.Clone(u.dek)), u.err
}

func TestUnwrap(t *testing.T) {
	f := vectors(t)
	e, err := seal.Parse(f.envelope(t, "aes-256-gcm/chain-0-genesis"))
	if err != nil {
		t.Fatal(err)
	}
	outage := &seal.KMSError{Class: seal.Outage, Code: "503"}
	right, wrong := unwrapper{dek: f.DEK}, unwrapper{dek: make([]byte, 32)}
	notMine, down := unwrapper{err: seal.ErrNotMine}, unwrapper{err: outage}
	for name, v := range map[string]struct {
		us   []seal.Unwrapper
		want error
		not  error
	}{
		"nobody":           {nil, seal.ErrUnwrap, outage},
		"right":            {[]seal.Unwrapper{right}, nil, nil},
		"another key":      {[]seal.Unwrapper{notMine}, seal.ErrUnwrap, seal.ErrNotMine},
		"wrong":            {[]seal.Unwrapper{wrong}, seal.ErrUnwrap, nil},
		"short":            {[]seal.Unwrapper{unwrapper{dek: []byte{1}}}, seal.ErrUnwrap, nil},
		"down":             {[]seal.Unwrapper{down, notMine}, outage, seal.ErrNotMine},
		"right in the end": {[]seal.Unwrapper{notMine, down, wrong, right}, nil, nil},
	} {
		dek, err := seal.Unwrap(t.Context(), &e.Header, e.Recipients, v.us...)
		if !errors.Is(err, v.want) || v.not != nil && errors.Is(err, v.not) || v.want != nil && !errors.Is(err, seal.ErrUnwrap) {
			t.Errorf("%s: got %v, want %v", name, err, v.want)
		}
		if (err == nil) != bytes.Equal(dek.Bytes(), f.DEK) {
			t.Errorf("%s: got another data key", name)
		}
	}
}

func TestSM2Keys(t *testing.T) {
	f := vectors(t)
	k, err := seal.ParseSM2PrivateKey(f.SM2Recipient)
	if err != nil {
		t.Fatal(err)
	}
	public, err := seal.ParseSM2PublicKey(k.Public().Marshal())
	if err != nil {
		t.Fatal(err)
	}
	e, err := seal.Parse(f.envelope(t, "sm4-gcm/chain-2b-sm2-recipient"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := public.KeyID(), e.Recipients[0].KeyID; !bytes.Equal(got, want) {
		t.Errorf("key id: got %x, want %x", got, want)
	}
	if _, err := seal.ParseSM2PublicKey(public.Marshal()[26:]); err != nil {
		t.Errorf("point: %v", err)
	}
	r, err := public.Wrap(f.DEK)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.Unwrap(t.Context(), r, nil); err != nil || !bytes.Equal(got.Bytes(), f.DEK) {
		t.Errorf("got another data key, error %v", err)
	}
	if _, err := public.Wrap(f.DEK[1:]); err == nil {
		t.Error("31 bytes are wrapped")
	}
	for name, v := range map[string]struct {
		change  func(r *seal.Recipient)
		notMine bool
	}{
		"type":      {func(r *seal.Recipient) { r.Type = seal.TypeAliKMS }, true},
		"key id":    {func(r *seal.Recipient) { r.KeyID[15] ^= 1 }, true},
		"point":     {func(r *seal.Recipient) { r.Wrapped[64] ^= 1 }, false},
		"text":      {func(r *seal.Recipient) { r.Wrapped[128] ^= 1 }, false},
		"truncated": {func(r *seal.Recipient) { r.Wrapped = r.Wrapped[:128] }, false},
		"empty":     {func(r *seal.Recipient) { r.Wrapped = nil }, false},
	} {
		bad := seal.Recipient{Type: r.Type, KeyID: bytes.Clone(r.KeyID), Wrapped: bytes.Clone(r.Wrapped)}
		v.change(&bad)
		if _, err := k.Unwrap(t.Context(), bad, nil); err == nil || errors.Is(err, seal.ErrNotMine) != v.notMine {
			t.Errorf("%s: got %v, want not mine: %v", name, err, v.notMine)
		}
	}
	for name, b := range map[string][]byte{
		"empty": nil, "zero": make([]byte, 32), "garbage": []byte("garbage"), "public": public.Marshal(),
	} {
		if _, err := seal.ParseSM2PrivateKey(b); !errors.Is(err, seal.ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
