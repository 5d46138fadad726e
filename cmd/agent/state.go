package main

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"sealtail/record"
	"sealtail/seal"
	"sealtail/spool"
)

// A state is what a stream's spool adds up to: how far each file is taken and
// the head of the chain. It is folded from the spool's entries at start and
// carried on by [committer].
//
// Its snapshot, the first frame of a segment:
//
//	u8 version = 1 ‖ machine(32) ‖ u8 n ‖ head ‖ signer(32) (n bytes; 0 = none) ‖ positions
type state struct {
	identity  *seal.Identity
	positions record.Positions
	begun     bool       // something was ever committed
	head      *seal.Head // of the chain as of the newest snapshot; nil = none
	last      []byte     // the newest envelope behind head; nil = none
	lostHead  *[16]byte  // stream_id of a chain whose head is lost in damage
	gap       *gap       // the damage being crossed; nil = none
}

// A gap is damage between two entries.
type gap struct {
	before map[uint64]int64 // offsets of the files as of the entry before it
	seen   map[uint64]bool  // files that an entry behind it named
}

const stateVersion = 1

var (
	_ spool.State = (*state)(nil)

	errStateVersion = errors.New("state of a newer version")
)

// Load takes over a snapshot.
func (s *state) Load(snapshot []byte) error {
	s.begun = true
	if len(snapshot) < 34 {
		return errors.New("snapshot cut short")
	}
	if snapshot[0] != stateVersion {
		return fmt.Errorf("%w: %d", errStateVersion, snapshot[0])
	}
	machine, n, rest := snapshot[1:33], int(snapshot[33]), snapshot[34:]
	if n > len(rest) {
		return errors.New("snapshot cut short")
	}
	s.head, s.last = nil, nil
	if n > 0 {
		if n != seal.HeadSize+32 {
			return errors.New("head of a wrong length")
		}
		head := new(seal.Head)
		if err := head.Unmarshal(rest[:seal.HeadSize]); err != nil {
			return err
		}
		signer := [32]byte(rest[seal.HeadSize:n])
		if [32]byte(machine) == s.identity.Machine && signer == s.identity.Signer(head.Suite) {
			s.head, s.lostHead = head, nil
		}
	}
	s.positions = record.Positions{}
	moved, err := s.positions.Apply(rest[n:])
	if err != nil {
		return err
	}
	// All that was taken since the entry before a gap lies in it: a
	// snapshot's positions begin where they end.
	s.cross(moved)
	s.gap = nil
	return nil
}

// Apply takes over one entry.
func (s *state) Apply(env, delta []byte) error {
	s.begun = true
	moved, err := s.positions.Apply(delta)
	if err != nil {
		return err
	}
	s.cross(moved)
	if env == nil {
		return nil
	}
	e, err := seal.Parse(env)
	if err != nil {
		return err
	}
	if s.identity.Signer(e.Suite) != e.Signer {
		s.head, s.last = nil, nil // another machine's chain: ours begins anew
		return nil
	}
	s.last, s.lostHead = env, nil
	return nil
}

// Gap notes that entries are lost between what was applied and what comes.
func (s *state) Gap(string) {
	if head, err := s.Head(); err == nil && head != nil {
		s.lostHead = &head.StreamID
	}
	s.head, s.last = nil, nil
	s.gap = &gap{before: make(map[uint64]int64), seen: make(map[uint64]bool)}
	for _, p := range s.positions.All() {
		s.gap.before[p.ID] = p.Offset
	}
}

// cross makes a hole, for each file that moved for the first time behind a gap,
// of the bytes between where it was before and where this advance began.
func (s *state) cross(moved []record.Position) {
	if s.gap == nil {
		return
	}
	for _, p := range moved {
		if s.gap.seen[p.ID] {
			continue
		}
		s.gap.seen[p.ID] = true
		if from := s.gap.before[p.ID]; from < p.From {
			s.positions.AppendDelta(nil, []record.Position{{
				ID: rand.Uint64(), Path: p.Path, Dev: p.Dev, Ino: p.Ino, Head: p.Head,
				Offset: from, From: from, Size: p.From, Until: p.From,
			}})
		}
	}
}

// Head is the head of the chain to go on with; nil = begin a new one.
func (s *state) Head() (*seal.Head, error) {
	if s.last == nil {
		return s.head, nil
	}
	head, err := seal.HeadOf(s.last)
	if err != nil {
		return nil, err
	}
	return &head, nil
}

// Snapshot encodes the state as of the newest entry.
func (s *state) Snapshot() []byte {
	b := append([]byte{stateVersion}, s.identity.Machine[:]...)
	var enc []byte
	if head, err := s.Head(); err == nil && head != nil {
		signer := s.identity.Signer(head.Suite)
		enc = append(head.Marshal(), signer[:]...)
	}
	b = append(b, byte(len(enc)))
	b = append(b, enc...)
	return s.positions.AppendSnapshot(b)
}
