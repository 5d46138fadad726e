package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"sealtail/record"
	"sealtail/seal"
	"sealtail/spool"
)

// A state is what a stream's spool adds up to: how far each file is taken and
// the head of the chain. It is folded from the spool's entries at start and
// carried on by [committer].
//
// Its snapshot, in the first frame of a segment:
//
//	u8 version = 2 ‖ u8 flags ‖ machine(32)
//	‖ head ‖ signer(32)   with stateHead
//	‖ stream_id(16)       with stateLost; zeros = of no chain that is known
//	‖ positions
//
// Version 1 is the same without losses among the positions, and without
// [record.Position.Was] and Ends.
type state struct {
	identity  *seal.Identity
	positions record.Positions
	loaded    bool              // there was a segment
	begun     bool              // an entry was committed: start_at has had its say
	head      *seal.Head        // of the chain as of the newest snapshot; nil = none
	last      []byte            // the newest envelope behind head; nil = none
	own       []byte            // memory of last, where advance made it
	lost      *[16]byte         // stream_id of a chain whose head was lost in damage
	unknown   bool              // segments are lost with nothing known before them, and no event told it
	gap       *gap              // the damage being crossed; nil = none
	owed      []record.Position // what damage lost, which no later snapshot knows
	moved     []record.Position // with the entry that this is the state after; see after
	named     *namedKeys        // by the envelopes of the spool; nil = nobody asks
}

const (
	stateVersion = 2

	stateBegun = 0x01
	stateHead  = 0x02
	stateLost  = 0x04
)

// A gap is damage between two entries.
type gap struct {
	before record.Positions // as of the entry before it
	seen   map[uint64]bool  // files that an entry behind it named
}

var (
	_ spool.State = (*state)(nil)

	errStateVersion = errors.New("state of a newer version")
	errStateShort   = errors.New("snapshot cut short")
)

// Load takes over a snapshot.
func (s *state) Load(snapshot []byte) error {
	rest := snapshot
	take := func(n int) (b []byte) {
		if rest == nil || len(rest) < n {
			rest = nil
			return make([]byte, n)
		}
		b, rest = rest[:n], rest[n:]
		return b
	}
	if version := take(1)[0]; rest != nil && (version < 1 || version > stateVersion) {
		return fmt.Errorf("%w: %d", errStateVersion, version)
	}
	flags, machine := take(1)[0], [32]byte(take(32))
	s.loaded, s.begun = true, flags&stateBegun != 0
	s.head, s.last = nil, nil
	if flags&stateHead != 0 {
		head := new(seal.Head)
		if b := take(seal.HeadSize); rest != nil {
			if err := head.Unmarshal(b); err != nil {
				return err
			}
		}
		signer := [32]byte(take(32))
		// Another machine's chain, or one under a key that was replaced, is not
		// gone on with.
		if machine == s.identity.Machine && signer == s.identity.Signer(head.Suite) {
			s.head, s.lost = head, nil
		}
	}
	if flags&stateLost != 0 {
		s.lost = (*[16]byte)(take(16))
	}
	if rest == nil {
		return errStateShort
	}
	if flags&^(stateBegun|stateHead|stateLost) != 0 {
		return errors.New("snapshot with unknown flags")
	}
	s.positions = record.Positions{}
	moved, err := s.positions.Apply(rest)
	if err != nil {
		return err
	}
	// But for what its own entry moved, a snapshot's positions begin where they
	// end: what was taken since the entry before a gap lies in it.
	s.cross(moved)
	if s.gap != nil {
		for _, p := range s.gap.before.All() {
			if !s.gap.seen[p.ID] { // it was forgotten in the gap
				s.owe(p)
			}
		}
	}
	s.gap = nil
	s.positions.Put(s.owed)
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
	s.named.add(e)
	s.head, s.last = nil, nil
	if s.identity.Signer(e.Suite) == e.Signer {
		s.last, s.lost = env, nil
	}
	return nil
}

// Gap notes that entries are lost between what was applied and what comes.
func (s *state) Gap(string) {
	if head := s.Head(); head != nil {
		s.lost = &head.StreamID
	} else if !s.loaded {
		s.unknown = true
	}
	s.head, s.last = nil, nil
	s.gap = &gap{before: s.positions.Clone(), seen: make(map[uint64]bool)}
}

// cross makes a hole, for each file that moved for the first time behind a gap,
// of what lies between where it was before and where this advance began.
func (s *state) cross(moved []record.Position) {
	if s.gap == nil {
		return
	}
	for _, p := range moved {
		if s.gap.seen[p.ID] {
			continue
		}
		s.gap.seen[p.ID] = true
		before, known := s.gap.before.Get(p.ID)
		until := int64(0)
		if before.Offset < p.From {
			until = p.From
		}
		for _, w := range p.Was {
			if w.Skip > reached(before, w.Name) {
				until = max(until, w.Skip)
			}
		}
		if until == 0 || p.From < before.Offset {
			continue
		}
		file := before // as it is known last
		if now, ok := s.positions.Get(p.ID); ok || !known {
			file = now
		}
		s.owe(record.Position{
			ID: rand.Uint64(), Path: file.Path, Dev: file.Dev, Ino: file.Ino, Head: file.Head, Encoding: file.Encoding,
			Offset: before.Offset, From: before.Offset, Marker: before.Marker, Sources: before.Sources, Was: before.Sources,
			Size: p.From, Until: until, Ends: p.Was,
		})
	}
}

// reached is where records of the source stream begin that are not taken.
func reached(p record.Position, source string) int64 {
	for _, s := range p.Sources {
		if s.Name == source {
			return max(p.Offset, s.Skip)
		}
	}
	return p.Offset
}

// owe keeps what damage lost over the snapshots that were written since.
func (s *state) owe(p record.Position) {
	s.owed = append(s.owed, p)
	s.positions.Put([]record.Position{p})
}

// files are the positions of files.
func (s *state) files() []record.Position {
	return slices.DeleteFunc(s.positions.All(), func(p record.Position) bool { return p.Paused != 0 })
}

// pauses are the positions that note a pause which nothing told.
func (s *state) pauses() []record.Position {
	return slices.DeleteFunc(s.positions.All(), func(p record.Position) bool { return p.Paused == 0 })
}

// Head is the head of the chain to go on with; nil = begin a new one.
func (s *state) Head() *seal.Head {
	if s.last == nil {
		return s.head
	}
	head, err := seal.HeadOf(s.last)
	if err != nil {
		panic("state: an envelope that was parsed before: " + err.Error())
	}
	return &head
}

// Snapshot encodes the state as of the newest entry.
func (s *state) Snapshot() []byte {
	b := append([]byte{stateVersion, 0}, s.identity.Machine[:]...)
	if s.begun {
		b[1] |= stateBegun
	}
	if head := s.Head(); head != nil {
		b[1] |= stateHead
		signer := s.identity.Signer(head.Suite)
		b = append(append(b, head.Marshal()...), signer[:]...)
	}
	if lost := s.lost; lost != nil || s.unknown {
		if lost == nil {
			lost = new([16]byte)
		}
		b[1] |= stateLost
		b = append(b, lost[:]...)
	}
	return s.positions.AppendSnapshot(b, s.moved)
}

// advance takes over an entry that is committed.
func (s *state) advance(env []byte, moved []record.Position) {
	if env != nil { // its memory is the pipeline's
		s.own = append(s.own[:0], env...)
		env = s.own
	}
	s.put(env, moved)
}

func (s *state) put(env []byte, moved []record.Position) {
	s.begun = true
	if env != nil {
		s.last, s.lost, s.unknown = env, nil, false
	}
	s.positions.Put(moved)
}

// after is the state as of an entry that is not taken over yet.
func (s *state) after(env []byte, moved []record.Position) *state {
	n := *s
	n.positions = s.positions.Clone()
	n.put(env, moved)
	if n.moved = moved; moved == nil {
		n.moved = []record.Position{}
	}
	return &n
}
