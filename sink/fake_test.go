package sink_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	"sealtail/sink"
)

// queue is a sink.Queue of envelopes named by number, handed out in the memory
// that it is given. It fails the test when it is trimmed backwards or beyond
// what it handed out.
type queue struct {
	t    *testing.T
	park func(env []byte, why string) (string, error) // default: remembers
	open bool                                         // waits at its end instead of io.EOF

	mu      sync.Mutex
	envs    [][]byte
	next    int
	trimmed int
	parked  []string
}

var _ sink.Queue = (*queue)(nil)

func newQueue(t *testing.T, n int) *queue {
	q := &queue{t: t}
	for i := range n {
		q.envs = append(q.envs, fmt.Appendf(nil, "env%04d", i))
	}
	return q
}

func (q *queue) Next(ctx context.Context, buf []byte, most int) ([][]byte, uint64, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.next == len(q.envs) {
		if !q.open {
			return nil, 0, io.EOF
		}
		q.mu.Unlock()
		<-ctx.Done()
		q.mu.Lock()
		return nil, 0, ctx.Err()
	}
	from, size := q.next, 0
	for q.next < len(q.envs) && (q.next == from || size+len(q.envs[q.next]) <= most) {
		size += len(q.envs[q.next])
		q.next++
	}
	run := append(buf[:0], bytes.Join(q.envs[from:q.next], nil)...)
	envs := make([][]byte, 0, q.next-from)
	for _, env := range q.envs[from:q.next] {
		envs = append(envs, run[:len(env)])
		run = run[len(env):]
	}
	return envs, uint64(q.next), nil
}

func (q *queue) Trim(upto uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if int(upto) < q.trimmed || int(upto) > q.next {
		q.t.Errorf("trim to %d: trimmed to %d already, handed out %d", upto, q.trimmed, q.next)
	}
	q.trimmed = int(upto)
}

func (q *queue) Park(env []byte, why string) (string, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.park != nil {
		if name, err := q.park(env, why); err != nil {
			return name, err
		}
	}
	q.parked = append(q.parked, string(env))
	return "rejected/" + string(env), nil
}

// store is a sink.Store. It fails the test when an envelope comes again after
// it was acknowledged, or out of order where ordered is set.
type store struct {
	t       *testing.T
	ordered bool
	put     func(ctx context.Context, envs [][]byte) error // before storing; default: nil
	stub    func(stub []byte) error

	mu     sync.Mutex
	got    []string // acknowledged, in order of acknowledgement
	acked  map[string]bool
	inPut  int
	most   int // requests at a time
	puts   int
	stubs  []string
	before func() // called in each Put, unlocked
}

var _ sink.Store = (*store)(nil)

func (s *store) Put(ctx context.Context, envs [][]byte) error {
	s.mu.Lock()
	s.puts++
	s.inPut++
	s.most = max(s.most, s.inPut)
	for _, env := range envs {
		if s.acked[string(env)] {
			s.t.Errorf("%s put again after it was acknowledged", env)
		}
	}
	s.mu.Unlock()
	if s.before != nil {
		s.before()
	}
	var err error
	if s.put != nil {
		err = s.put(ctx, envs)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inPut--
	if err != nil {
		return err
	}
	if s.acked == nil {
		s.acked = map[string]bool{}
	}
	for _, env := range envs {
		if n := len(s.got); s.ordered && n > 0 && s.got[n-1] > string(env) {
			s.t.Errorf("%s put after %s", env, s.got[n-1])
		}
		s.acked[string(env)] = true
		s.got = append(s.got, string(env))
	}
	return nil
}

func (s *store) PutStub(_ context.Context, stub []byte, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stub != nil {
		if err := s.stub(stub); err != nil {
			return err
		}
	}
	s.stubs = append(s.stubs, string(stub))
	return nil
}

var errDown = errors.New("out of reach")

// rejecting returns a put that can never accept the named envelopes.
func rejecting(bad ...string) func(context.Context, [][]byte) error {
	return func(_ context.Context, envs [][]byte) error {
		for _, env := range envs {
			if slices.Contains(bad, string(env)) {
				return fmt.Errorf("put: %w", &sink.RejectedError{Why: "TooBad", Err: errors.New("no")})
			}
		}
		return nil
	}
}

func stubOf(env []byte) ([]byte, error) {
	if bytes.HasSuffix(env, []byte("3")) {
		return nil, errors.New("no envelope")
	}
	return append([]byte("stub of "), env...), nil
}
