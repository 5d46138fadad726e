// Package spool is a durable first-in first-out queue of sealed batches, and
// the one place that says how far files are taken.
//
//	entry   = envelope (may be absent) + delta
//	segment = header ‖ first frame (a snapshot) ‖ frame ‖ frame ‖ …
//	frame   = head (length, checksums, what was durable) ‖ envelope ‖ delta
//
//	Append ──▶ 00000007.seg, fsync ──▶ Next ──▶ … ──▶ Trim ──▶ unlinked
//
// Envelopes, deltas and snapshots are opaque. What the entries add up to is a
// [State], which the spool folds while it opens and never afterwards.
//
// Append is the commit: once it has returned nil the entry outlives the
// process and the power, is handed out by Next, in order, and is part of the
// State of every later Open. An entry whose Append has not returned may or may
// not be there after a crash; no later one is there without it. After an
// unclean end some envelopes are handed out again that were trimmed.
//
// Integers are big-endian, offsets and lengths bytes, times unix nanoseconds.
// The layout, what it assumes of the file system and the argument for each
// crash are in docs/SPOOL.md.
//
// Lack of room (disk, quota, descriptors, Options.MaxBytes, Options.MinFree) is
// waited for and is no error. Every error of a write, an fsync or a read of the
// spool itself is final: it is returned by every later call too, because after
// a failed fsync nothing read back proves anything. [ErrNewer] says that the
// directory belongs to a newer program, [ErrClosed] that Close or CloseInput
// was called.
package spool

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"sealtail/internal/durable"
)

// ErrNewer is returned by [Open] and [Read] for a directory in a newer format.
// Nothing in it was changed.
var ErrNewer = errors.New("spool: written by a newer version")

// ErrClosed is returned by calls after [Spool.Close], and by Append of an
// envelope after [Spool.CloseInput].
var ErrClosed = errors.New("spool: closed")

// A State is what the entries of a spool add up to. The spool calls it only
// inside [Open], from that one goroutine. It may keep the slices it is given, and
// must not write to them. An error from it ends Open.
type State interface {
	// Load replaces everything by a snapshot. It is called for the first frame
	// of each segment in order, so more than once.
	Load(snapshot []byte) error
	// Apply adds one entry. env is nil if the entry has no envelope.
	Apply(env, delta []byte) error
	// Gap says that entries are lost between the last call and the next, and
	// which bytes they were. It is told once: a later Open does not repeat it,
	// because the snapshot that Recover writes accounts for it.
	Gap(lost string)
	// Snapshot returns the state as of what was applied. The spool keeps the slice.
	Snapshot() []byte
}

// Options are the limits of a spool. The zero value of each field is useful.
type Options struct {
	FS           durable.FS    // nil = durable.OS
	MaxBytes     int64         // of all segments; at it Append waits; 0 = 2 GiB
	MinFree      float64       // fraction of the disk; below it Append waits; 0 = no floor
	SegmentBytes int64         // a segment is rolled at this, or at 128 times its snapshot; 0 = 16 MiB
	Retry        time.Duration // between looks for room; 0 = 1 s
	Log          *zap.Logger   // of waiting; nil = none
}

// Defaults of [Options].
const (
	DefaultMaxBytes     = 2 << 30
	DefaultSegmentBytes = 16 << 20
	DefaultRetry        = time.Second
)

// snapshotShare bounds what snapshots cost: a segment is at least so many times
// as long as its own.
const snapshotShare = 128

// A Spool is an open spool. One goroutine appends, one or more drain; all
// methods are safe for concurrent use.
type Spool struct {
	o   Options
	fs  durable.FS
	dir string
	log *zap.Logger

	appending gate // held by Recover and Append
	draining  gate // held by Next

	// Owned by the holder of appending.
	active   durable.File // the segment that is written, the last of segs
	activeAt int64        // bytes of it that are allocated
	base     []byte       // until Recover is done: the snapshot as of the end of segs
	tail     tail         // until Recover is done: what follows that
	noAlloc  bool         // the file system cannot allocate ahead

	retiring sync.Mutex // held while segments are removed and spares made

	hintMu    sync.Mutex
	hintFile  durable.File // guarded by hintMu
	hintTime  time.Time    // guarded by hintMu; of the last write
	hintShut  bool         // guarded by hintMu; after Close
	hintWhole bool         // guarded by hintMu; there may be one on disk that is whole
	hintNamed bool         // guarded by hintMu; its name is durable
	newest    uint32       // segment that the hint found at Open knows

	mu            sync.Mutex // guards all below
	err           error      // final
	recovered     bool
	noInput       bool // after CloseInput
	segs          []*segment
	ledger        []ledgerEntry // damage that the newest first frame accounts for
	damages       []Damage
	spares        [maxSpares]bool
	used          int64 // sum of segs' ends
	limit         int64 // of the active segment
	overhead      int64 // what a segment costs before its first entry, as the active one shows
	cur           cursor
	marks         []mark // handed out, not trimmed
	marked        int64  // bytes of these
	trimmed       uint64 // ordinal of the last trimmed envelope
	shipped       place  // of the last trimmed envelope's end
	hintDue       bool   // shipped is not in the hint file
	fresh         bool   // there is damage that no durable first frame accounts for
	unserved      time.Time
	stats         Stats
	waitsSince    time.Time // zero = nothing waits for room
	envelopeWaits bool      // an envelope does
	data          signal    // raised when Next may have something
	room          signal    // raised when Append may have room
}

// Stats are counts and sizes of a spool. Those of a kind that only grows are
// since Open.
type Stats struct {
	Segments     int       // files
	Bytes        int64     // in segments, as MaxBytes counts them
	Spares       int       // preallocated files, of SegmentBytes each
	Pending      int64     // envelopes that are not trimmed
	PendingBytes int64     // of these
	Unrecovered  int64     // envelopes behind these, which Recover makes durable
	Oldest       time.Time // when the oldest of these was appended; zero if there is none
	Appended     uint64    // entries
	Written      uint64    // bytes, snapshots and copies included
	Trimmed      uint64    // envelopes
	Rolls        uint64    // segments begun
	Parked       uint64    // envelopes
	Waiting      string    // what they wait for, or waited for when ctx ended; "" = there was room
	Since        time.Time // when they began to wait for it
	Recovered    bool      // Recover is done
	Turned       time.Time // when Append or Recover looked for room last
}

// Stats returns the counts of this moment.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Segments, st.Bytes, st.Recovered, st.Since = len(s.segs), s.used, s.recovered, s.waitsSince
	for _, is := range s.spares {
		if is {
			st.Spares++
		}
	}
	switch {
	case len(s.marks) > 0:
		st.Oldest = s.marks[0].time
	case st.Pending > 0:
		st.Oldest = s.unserved
	}
	return st
}

// Damages returns the damaged bytes that Open found.
func (s *Spool) Damages() []Damage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.damages)
}

// CloseInput says that no more envelopes will be appended: Next returns io.EOF
// once it has handed out everything that is durable.
func (s *Spool) CloseInput() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noInput = true
	s.data.raise()
	s.room.raise()
}

// Close writes the hint of what was trimmed and closes the files. Calls that
// wait return [ErrClosed]. It returns the final error, if there was one.
func (s *Spool) Close() error {
	s.mu.Lock()
	final := s.err
	if final == nil {
		s.err = ErrClosed
	}
	s.data.raise()
	s.room.raise()
	s.mu.Unlock()
	if errors.Is(final, ErrClosed) {
		return nil
	}

	// Whoever is inside a call ends it; nobody comes in after.
	s.appending.take()
	s.draining.take()
	defer s.appending.unlock()
	defer s.draining.unlock()
	if final == nil {
		s.writeHint(true)
	}
	errs := []error{final}
	s.hintMu.Lock()
	s.hintShut = true
	if s.hintFile != nil {
		errs = append(errs, s.hintFile.Close())
		s.hintFile = nil
	}
	s.hintMu.Unlock()
	s.mu.Lock()
	s.cur.close()
	s.mu.Unlock()
	if s.active != nil {
		errs = append(errs, s.active.Close())
		s.active = nil
	}
	return errors.Join(errs...)
}

// fail makes err final.
func (s *Spool) fail(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = fmt.Errorf("spool %s: %w", s.dir, err)
		s.data.raise()
		s.room.raise()
	}
	return s.err
}
