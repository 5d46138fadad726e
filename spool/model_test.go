package spool_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"sealtail/internal/durable"
	"sealtail/spool"
)

// once is a context that has ended: what waits returns after one try.
var once = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

const dir = "/state/streams/s"

// An entry is what Append is given.
type entry struct{ env, delta []byte }

// A sum is a state that tells whether exactly the right entries made it: their
// number, and a hash over all of them in order.
type sum struct {
	n    uint64
	hash [32]byte
}

func (s sum) plus(env, delta []byte) sum {
	h := sha256.New()
	h.Write(s.hash[:])
	binary.Write(h, binary.BigEndian, uint32(len(env)))
	h.Write(env)
	h.Write(delta)
	return sum{s.n + 1, [32]byte(h.Sum(nil))}
}

func (s sum) bytes() []byte {
	return append(binary.BigEndian.AppendUint64(nil, s.n), s.hash[:]...)
}

// A state is a [spool.State] over sums.
type state struct {
	sum
	pad   int // bytes that a snapshot is longer
	loads int
	gaps  []string
}

func (s *state) Load(b []byte) error {
	if len(b) < 40 {
		return fmt.Errorf("snapshot of %d bytes", len(b))
	}
	s.sum = sum{binary.BigEndian.Uint64(b), [32]byte(b[8:])}
	s.loads++
	return nil
}

func (s *state) Apply(env, delta []byte) error {
	s.sum = s.plus(env, delta)
	return nil
}

func (s *state) Gap(lost string)  { s.gaps = append(s.gaps, lost) }
func (s *state) Snapshot() []byte { return append(s.bytes(), make([]byte, s.pad)...) }

// A model is what a spool must hold.
type model struct {
	entries   []entry // appended, the last perhaps in vain
	committed int     // entries whose Append returned nil
	trimmed   int     // envelopes whose Trim was called, since the first entry
}

func (m *model) clone() *model {
	c := *m
	c.entries = slices.Clone(m.entries)
	return &c
}

// sums returns the state after n entries.
func (m *model) sum(n int) (s sum) {
	for _, e := range m.entries[:n] {
		s = s.plus(e.env, e.delta)
	}
	return s
}

func (m *model) envs(n int) (envs [][]byte) {
	for _, e := range m.entries[:n] {
		if e.env != nil {
			envs = append(envs, e.env)
		}
	}
	return envs
}

// A rig is an open spool and what it must hold.
type rig struct {
	*model
	*spool.Spool
	st    *state
	base  int // envelopes that had been shipped, as the spool knows, when it opened
	taken int // handed out since
	upto  uint64
	buf   []byte // what the newest envelopes lie in
}

// open opens the spool on fsys and holds the state against the model: all that
// was committed, nothing twice, nothing that was not appended.
func open(fsys durable.FS, o spool.Options, m *model, pad int) (*rig, error) {
	o.FS = fsys
	r := &rig{model: m, st: &state{pad: pad}}
	var err error
	if r.Spool, err = spool.Open(dir, o, r.st); err != nil {
		return nil, err
	}
	if len(r.st.gaps) > 0 || len(r.Damages()) > 0 {
		return nil, fmt.Errorf("damage where there is none: %q", r.st.gaps)
	}
	n := int(r.st.n)
	if n < m.committed || n > len(m.entries) {
		return nil, fmt.Errorf("state of %d entries; %d were committed, %d appended", n, m.committed, len(m.entries))
	}
	if want := m.sum(n); r.st.sum != want {
		return nil, fmt.Errorf("state of %d entries is not that of the first %d", n, n)
	}
	m.entries = m.entries[:n] // the others never were
	return r, nil
}

// recovered calls Recover; then all that the state counts is committed.
func (r *rig) recover() error {
	if err := r.Recover(once); err != nil {
		return err
	}
	r.committed = len(r.entries)
	r.base = len(r.envs(r.committed)) - int(r.Stats().Pending)
	if r.base > r.trimmed {
		return fmt.Errorf("%d envelopes count as shipped, of which %d were trimmed", r.base, r.trimmed)
	}
	return nil
}

func (r *rig) append(e entry) error {
	if len(r.entries) != r.committed {
		return errors.New("append after one that failed")
	}
	r.entries = append(r.entries, e)
	before := r.st.sum
	after := before.plus(e.env, e.delta)
	err := r.Append(once, e.env, e.delta, func() []byte { return append(after.bytes(), make([]byte, r.st.pad)...) })
	if errors.Is(err, context.Canceled) {
		r.entries = r.entries[:r.committed] // there was no room; nothing happened
		return err
	}
	if err == nil {
		r.committed++
		r.st.sum = after
	}
	return err
}

// take takes up to max bytes and holds them against the model.
func (r *rig) take(max int) (int, error) {
	envs, upto, err := r.Next(once, r.buf, max)
	if err != nil {
		return 0, err
	}
	if len(envs) == 0 {
		return 0, errors.New("Next returned nothing")
	}
	r.buf = envs[0][:0]
	want := r.envs(r.committed)[r.base+r.taken:]
	size := 0
	for i, env := range envs {
		if i >= len(want) || !bytes.Equal(env, want[i]) {
			return 0, fmt.Errorf("envelope %d is not the one that was appended", r.base+r.taken+i)
		}
		size += len(env)
	}
	if size > max && len(envs) > 1 {
		return 0, fmt.Errorf("%d envelopes of %d bytes with a bound of %d", len(envs), size, max)
	}
	if len(want) > len(envs) && size+len(want[len(envs)]) <= max {
		return 0, fmt.Errorf("another envelope would have fit")
	}
	r.taken += len(envs)
	if r.upto = upto; upto != uint64(r.taken) {
		return 0, fmt.Errorf("ordinal %d of the %dth envelope", upto, r.taken)
	}
	return len(envs), nil
}

// trim trims all that was taken.
func (r *rig) trim() {
	r.trimmed = max(r.trimmed, r.base+r.taken) // even if the power goes off in the middle of it
	r.Trim(r.upto)
}

// drain takes all there is.
func (r *rig) drain(max int, trim bool) error {
	for {
		if _, err := r.take(max); errors.Is(err, context.Canceled) || err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		if trim {
			r.trim()
		}
	}
	if want := len(r.envs(r.committed)); r.base+r.taken != want {
		return fmt.Errorf("drained %d envelopes of %d", r.base+r.taken, want)
	}
	return nil
}

var serial atomic.Uint64

// newEntry makes an entry that no other is equal to, in envelope and delta. A
// size below 0 makes it one without an envelope.
func newEntry(size, delta int) entry {
	rng := rand.New(rand.NewPCG(serial.Add(1), 7))
	fill := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	e := entry{delta: fill(delta)}
	if size >= 0 {
		e.env = fill(size)
	}
	if size == 0 {
		e.env = nil
	}
	return e
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
