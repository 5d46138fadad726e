package reader_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sealtail/reader"
	"sealtail/record"
	"sealtail/seal"
	"sealtail/seal/keyring"
)

var suites = []seal.Suite{seal.AES256GCM, seal.SM4GCM}

// base is the time of the first record, of which each envelope's are one
// minute later than those of the one before.
var base = time.Date(2025, 11, 25, 20, 0, 0, 0, time.UTC)

// now is the verifier's clock: soon after base.
var now = base.Add(10 * time.Minute)

// A host seals.
type host struct {
	t       testing.TB
	id      *seal.Identity
	keyring *keyring.Keyring
	keys    map[seal.Suite]*seal.Keys
	context []byte
}

func newHost(t testing.TB) *host { return newHostFor(t, nil) }

// newHostFor returns a host that seals for a destination.
func newHostFor(t testing.TB, c seal.Context) *host {
	t.Helper()
	h := &host{t: t, keys: map[seal.Suite]*seal.Keys{}}
	path := filepath.Join(t.TempDir(), "keyring.json")
	if _, err := keyring.New(path, keyring.AES256GCM); err != nil {
		t.Fatal(err)
	}
	h.keyring = keyring.Open(path)
	var err error
	if h.id, err = seal.NewIdentity(); err != nil {
		t.Fatal(err)
	}
	if h.context, err = seal.EncodeContext(c); err != nil {
		t.Fatal(err)
	}
	for _, suite := range suites {
		h.keys[suite] = h.newKeys(suite)
	}
	return h
}

// newKeys returns a source of data keys; one of them is used throughout.
func (h *host) newKeys(suite seal.Suite) *seal.Keys {
	k := seal.NewKeys(seal.KeyOptions{}, h.keyring, suite, h.context)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { k.Run(ctx) })
	h.t.Cleanup(func() { cancel(); running.Wait() })
	return k
}

// chain goes on from head, or begins a stream.
func (h *host) chain(suite seal.Suite, head *seal.Head, epoch uint64) *seal.Chain {
	h.t.Helper()
	c, err := seal.NewChain(seal.ChainOptions{Identity: h.id, Keys: h.keys[suite], Suite: suite, Context: h.context, Head: head, Epoch: epoch})
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

// seal seals a batch.
func (h *host) seal(c *seal.Chain, kind seal.Flags, first, last time.Time, content []byte) []byte {
	h.t.Helper()
	if content == nil {
		kind |= seal.Heartbeat
	}
	env, err := c.Seal(h.t.Context(), nil, kind, first.UnixNano(), last.UnixNano(), seal.CodecNone, content)
	if err != nil {
		h.t.Fatal(err)
	}
	return env
}

// batch returns the encoded lines of one file; each is a record.
func batch(at time.Time, offset int64, lines ...string) []byte {
	b := record.NewBatch("audit", "host-1", []record.Tag{{Key: "cluster", Value: "hz-1"}})
	c := &record.Chunk{Path: "/var/log/a.log", Inode: 42, Offset: offset, Time: at.UnixNano()}
	for _, l := range lines {
		c.Records = append(c.Records, record.Record{Content: []byte(l), Offset: offset})
		offset += int64(len(l)) + 1
	}
	c.End = offset
	b.Add(c)
	return slices.Clone(b.Encoded())
}

// run seals n envelopes of one epoch; the last is FINAL if final is set. It
// returns them with the head.
func (h *host) run(suite seal.Suite, head *seal.Head, epoch uint64, n int, final bool) (envs [][]byte, next *seal.Head) {
	h.t.Helper()
	c := h.chain(suite, head, epoch)
	for i := range n {
		kind := seal.Flags(0)
		if final && i == n-1 {
			kind = seal.Final
		}
		at := base.Add(time.Duration(i) * time.Minute)
		envs = append(envs, h.seal(c, kind, at, at, batch(at, int64(100*i), fmt.Sprintf("epoch %d line %d", epoch, i))))
	}
	last := c.Head()
	return envs, &last
}

// resign changes the header of an AES envelope and signs it again, as a host
// that is taken over may. It then verifies, and does not open.
func (h *host) resign(env []byte, change func(header []byte)) []byte {
	h.t.Helper()
	e, err := seal.Parse(env)
	if err != nil {
		h.t.Fatal(err)
	}
	id, err := h.id.MarshalBinary()
	if err != nil {
		h.t.Fatal(err)
	}
	env = slices.Clone(env)
	header := env[:170+len(e.Context)]
	change(header)
	payload := sha256.Sum256(e.Payload)
	digest := sha256.Sum256(slices.Concat([]byte("SE1-chain\x00"), header, e.Commitment[:], payload[:]))
	key := ed25519.NewKeyFromSeed(id[8:40])
	copy(env[len(env)-64:], ed25519.Sign(key, append([]byte("SE1-sign\x00"), digest[:]...)))
	return env
}

// join puts items one behind the other, as a file does.
func join(items ...any) (file []byte) {
	for _, it := range items {
		switch it := it.(type) {
		case []byte:
			file = append(file, it...)
		case byte:
			file = append(file, it)
		case [][]byte:
			file = append(file, bytes.Join(it, nil)...)
		}
	}
	return file
}

func stub(t testing.TB, env []byte) []byte {
	t.Helper()
	e, err := seal.Parse(env)
	if err != nil {
		t.Fatal(err)
	}
	s := e.Stub()
	return append([]byte{0x89, 0x53, 0x50, 0x31, 0, 0, byte(len(s) >> 8), byte(len(s))}, s...)
}

// mem is an input in memory.
type mem struct{ *bytes.Reader }

func (mem) Close() error { return nil }

// read gives a Reader the files.
func read(t testing.TB, o reader.Options, files ...[]byte) *reader.Reader {
	t.Helper()
	if o.Now.IsZero() {
		o.Now = now
	}
	r := reader.New(o)
	for i, f := range files {
		src := reader.Source{
			Name: fmt.Sprintf("%d.se1", i),
			Open: func() (reader.File, error) { return mem{bytes.NewReader(f)}, nil },
		}
		if err := r.Add(src, io.MultiReader(bytes.NewReader(f))); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// words are the findings in short: kind and span, without the epoch where it
// is 1.
func words(rep *reader.Report) (ws []string) {
	for f := range rep.All {
		w := string(f.Kind)
		if s := f.Span; s != nil {
			w += fmt.Sprintf(" %d:%d", s.Epoch, s.From)
			if s.Open {
				w += ".."
			} else if s.To != s.From {
				w += fmt.Sprintf("-%d", s.To)
			}
		}
		ws = append(ws, w)
	}
	return ws
}

// lines are the records' contents; events in brackets.
func open(t testing.TB, r *reader.Reader, us ...seal.Unwrapper) (ls []string, recs []reader.Record) {
	t.Helper()
	err := r.Open(t.Context(), us, func(rec *reader.Record) error {
		l := string(rec.Content)
		if rec.Event != "" {
			l = "[" + rec.Event + "]"
		}
		if rec.NoStart {
			l = "…" + l
		}
		if rec.NoEnd {
			l += "…"
		}
		own := *rec
		own.Content = bytes.Clone(rec.Content)
		ls, recs = append(ls, l), append(recs, own)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ls, recs
}

func want(t testing.TB, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got\n\t%s\nwant\n\t%s", what, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}
