package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"

	"sealtail/internal/durable"
)

// Open reads the spool in dir, makes the directory if it is missing, and folds
// the entries into st. What is known to be durable is served by Next from then
// on; the rest, and Append, wait for [Spool.Recover]. Open writes to no
// segment.
//
// The caller sees to it that no other process has the spool open.
func Open(dir string, o Options, st State) (*Spool, error) {
	if o.FS == nil {
		o.FS = durable.OS
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = DefaultSegmentBytes
	}
	if o.Retry == 0 {
		o.Retry = DefaultRetry
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.MaxBytes < 0 || o.SegmentBytes < framesFrom || o.Retry < 0 || !(o.MinFree >= 0 && o.MinFree < 1) {
		return nil, fmt.Errorf("spool: limits out of range: %d bytes, %d a segment, %g free, retry %v",
			o.MaxBytes, o.SegmentBytes, o.MinFree, o.Retry)
	}
	s := &Spool{
		o: o, fs: o.FS, dir: dir, log: o.Log,
		appending: newGate(), draining: newGate(),
	}
	p := opening{s: s, st: st}
	if err := p.run(); err != nil {
		if errors.Is(err, ErrNewer) {
			return nil, err
		}
		return nil, fmt.Errorf("open spool %s: %w", dir, err)
	}
	return s, nil
}

// An opening is the one pass over all segments that Open makes.
type opening struct {
	s     *Spool
	st    State
	hint  hint
	known []ledgerEntry // damage that the newest first frame accounts for
	// quiet is damage whose bytes were all shipped. The entry behind it carries
	// the state on; only if there is none has State lost something.
	quiet string
}

func (p *opening) run() error {
	s := p.s
	// Without room for the directory there is nothing to read; Recover makes it.
	if err := durable.MkdirAll(s.fs, s.dir, 0o700); err != nil && !durable.NoRoom(err) {
		return err
	}
	ids, err := listSegments(s.fs, s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return p.finish()
	}
	if err != nil {
		return err
	}
	for _, id := range ids {
		seg, err := p.load(id)
		if err != nil {
			return err
		}
		s.segs = append(s.segs, seg)
	}
	// Names that a process left without syncing them may not survive a power cut.
	// They must, before anything that stands under them is shipped.
	if err := p.tidy(); err != nil {
		return err
	}
	p.hint = readHint(s.fs, s.dir, s.segs)
	s.shipped, s.hintWhole = p.hint.shipped.place, p.hint.whole
	if err := p.readLedger(); err != nil {
		return err
	}
	s.newest = max(p.hint.shipped.id, p.hint.synced.id) // it never goes
	segs := passOver(s.segs)
	// A segment goes only when a durable hint says that it was shipped.
	if len(segs) > 0 && segs[0].readable && segs[0].prev != 0 && p.hint.misses(segs[0].prev, segs[0].prevEnd) {
		if err := p.missing(max(1, p.hint.shipped.id), segs[0].prev); err != nil {
			return err
		}
	}
	for i, seg := range segs {
		var next *segment
		if i+1 < len(segs) {
			next = segs[i+1]
		}
		if err := p.segment(seg, next); err != nil {
			return fmt.Errorf("segment %d: %w", seg.id, err)
		}
		if next != nil && next.readable && next.prev > seg.id {
			if err := p.missing(seg.id+1, next.prev); err != nil {
				return err
			}
		}
	}
	last := max(1, p.hint.shipped.id) - 1
	if len(s.segs) > 0 {
		last = s.segs[len(s.segs)-1].id
	}
	if last < s.newest {
		if err := p.missing(last+1, s.newest); err != nil {
			return err
		}
	}
	return p.finish()
}

// passOver returns the segments that count, and marks the others: those between
// one and the one that it names as the one before it.
func passOver(segs []*segment) (count []*segment) {
	before := uint32(math.MaxUint32) // the newest that may count
	for _, seg := range slices.Backward(segs) {
		if seg.passed = seg.id > before; seg.passed {
			continue
		}
		count = append(count, seg)
		if before = math.MaxUint32; seg.readable {
			before = seg.prev
		}
	}
	slices.Reverse(count)
	return count
}

// load reads a segment's header.
func (p *opening) load(id uint32) (*segment, error) {
	f, err := p.s.fs.OpenFile(segName(p.s.dir, id, segSuffix), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	h, err := readHeader(f, id)
	seg := &segment{header: h, readable: err == nil, size: info.Size()}
	seg.id = id
	if err == ErrNewer {
		return nil, fmt.Errorf("%w: segment %s", ErrNewer, f.Name())
	}
	if err != nil && err != errDamaged {
		return nil, err
	}
	return seg, nil
}

// tidy makes spares of what was left behind, or removes it, and makes the names
// durable.
func (p *opening) tidy() error {
	s := p.s
	list, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for i := range s.spares {
		info, err := s.fs.Stat(s.spareName(i))
		s.spares[i] = err == nil && info.Size() == s.o.SegmentBytes
		if err == nil && !s.spares[i] {
			if err := s.remove(s.spareName(i)); err != nil {
				return err
			}
		}
	}
	for _, e := range list {
		if _, ok := parseName(e.Name(), newSuffix); !ok {
			continue
		}
		name := filepath.Join(s.dir, e.Name())
		info, err := s.fs.Stat(name)
		if err != nil {
			return err
		}
		// A disk that was full may be full still: keep the room.
		if err := s.giveUp(name, info.Size()); err != nil {
			return err
		}
	}
	return s.fs.SyncDir(s.dir)
}

// readLedger takes the ledger from the newest first frame that verifies.
func (p *opening) readLedger() error {
	for i := len(p.s.segs) - 1; i >= 0; i-- {
		seg := p.s.segs[i]
		if !seg.readable {
			continue
		}
		f, err := p.s.fs.OpenFile(segName(p.s.dir, seg.id, segSuffix), os.O_RDONLY, 0)
		if err != nil {
			return err
		}
		it, ok, err := newScanner(&seg.header, f, framesFrom, seg.size).next()
		f.Close()
		if err != nil {
			return err
		}
		if ok && !it.bad {
			if p.known, _, ok = parseLedger(it.body); ok {
				return nil
			}
		}
	}
	return nil
}

// segment finds the end of seg and folds what lies before it. next is the
// segment behind it, if there is one.
func (p *opening) segment(seg, next *segment) error {
	f, err := p.s.fs.OpenFile(segName(p.s.dir, seg.id, segSuffix), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	told := next != nil && next.readable && next.prev == seg.id // next says where seg ends
	switch {
	case !seg.readable:
		seg.end = seg.size
		if told {
			seg.end = next.prevEnd
		}
		if !told || seg.end > 0 { // else it was given up by an earlier opening
			return p.damage(f, seg.id, span{0, seg.end})
		}
		return nil
	case told:
		seg.end = next.prevEnd
		return p.fold(seg, f, seg.end)
	}
	synced, err := syncedIn(&seg.header, f, seg.size)
	if err != nil {
		return err
	}
	for _, c := range []claimed{p.hint.shipped, p.hint.synced} { // only what is durable is shipped
		if c.seg == seg {
			synced = max(synced, c.off)
		}
	}
	cut, err := cutAt(&seg.header, f, synced, seg.size)
	if err != nil {
		return err
	}
	if next != nil || seg.id < p.s.newest {
		// What names the end is lost. That there is a next one says that all
		// was synced that was ever added to.
		seg.end = cut
		return p.fold(seg, f, cut)
	}
	seg.end = synced
	if err := p.fold(seg, f, synced); err != nil {
		return err
	}
	return p.foldTail(seg, f, cut)
}

// syncedIn returns up to where a segment of size bytes is known to be durable:
// what it was born with, and what its frames say, damaged ones and ones behind
// damage included.
func syncedIn(h *header, f durable.File, size int64) (int64, error) {
	synced := h.born
	for sc := newScanner(h, f, framesFrom, size); ; {
		it, ok, err := sc.next()
		if !ok {
			return synced, err
		}
		if it.head && it.syncSeg == h.id {
			synced = max(synced, it.syncOff)
		}
	}
}

// cutAt returns where the first frame at or behind synced lies that does not
// verify: there the tail is torn.
func cutAt(h *header, f durable.File, synced, size int64) (int64, error) {
	for sc := newScanner(h, f, synced, size); ; {
		at := sc.off
		it, ok, err := sc.next()
		if err != nil || !ok || it.bad {
			return at, err
		}
	}
}

// fold folds the frames of seg before to. All of them are durable, so what does
// not verify is damage.
func (p *opening) fold(seg *segment, f durable.File, to int64) error {
	var bad span
	flush := func() error {
		if bad.to == bad.from {
			return nil
		}
		sp := bad
		bad = span{}
		return p.damage(f, seg.id, sp)
	}
	limit := min(to, max(seg.size, framesFrom))
	sc := newScanner(&seg.header, f, framesFrom, limit)
	sc.w.keep = true // State may keep what it is given
	for {
		it, ok, err := sc.next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if it.bad {
			if bad.to != it.off {
				bad.from = it.off
			}
			bad.to = it.end
			continue
		}
		if err := flush(); err != nil {
			return err
		}
		if err := p.apply(seg, &it); err != nil {
			return err
		}
	}
	if to > limit && to > framesFrom { // the file is shorter than it was
		if bad.to != limit {
			bad.from = limit
		}
		bad.to = to
	}
	return flush()
}

// apply folds one frame of seg.
func (p *opening) apply(seg *segment, it *item) error {
	s := p.s
	p.quiet = ""
	env := it.env
	if len(env) == 0 {
		env = nil
	}
	var err error
	if it.kind == kindFirst {
		_, snapshot, ok := parseLedger(it.body)
		if !ok {
			return errors.New("first frame holds no snapshot, though its checksum is right")
		}
		seg.first = true
		err = p.st.Load(snapshot)
	} else {
		err = p.st.Apply(env, it.body)
	}
	if err != nil {
		return fmt.Errorf("frame at %d: %w", it.off, err)
	}
	if env != nil {
		seg.lastEnv = it.end
		if !s.shipped.covers(seg.id, it.end) {
			if s.stats.Pending == 0 {
				s.unserved = time.Unix(0, it.time)
			}
			s.stats.Pending++
			s.stats.PendingBytes += int64(len(env))
		}
	}
	return nil
}

// foldTail folds the frames behind the highest synced of the last segment. They
// are part of the state, but durable only once Recover has copied them.
func (p *opening) foldTail(seg *segment, f durable.File, to int64) error {
	s := p.s
	if to == seg.end {
		return nil
	}
	p.quiet = ""
	s.base = p.st.Snapshot()
	s.tail = tail{seg: seg, from: seg.end, to: to}
	sc := newScanner(&seg.header, f, seg.end, to)
	sc.w.keep = true
	for {
		it, ok, err := sc.next()
		if err != nil || !ok {
			return err
		}
		if it.bad {
			return fmt.Errorf("frame at %d: changed while it was read", it.off)
		}
		env := it.env
		if len(env) == 0 {
			env = nil
		} else {
			s.tail.envs++
			s.tail.envBytes += int64(len(env))
			s.tail.lastEnv = it.end
			if s.tail.envs == 1 {
				s.tail.oldest = time.Unix(0, it.time)
			}
		}
		if err := p.st.Apply(env, it.body); err != nil {
			return fmt.Errorf("frame at %d: %w", it.off, err)
		}
	}
}

func (p *opening) finish() error {
	s := p.s
	if p.quiet != "" {
		p.st.Gap(p.quiet)
	}
	if s.tail.seg == nil {
		s.base = p.st.Snapshot()
	}
	for _, seg := range s.segs {
		s.used += seg.end
	}
	s.stats.Unrecovered = s.tail.envs
	s.cur.place = s.shipped
	if s.cur.seg == nil && len(s.segs) > 0 {
		s.cur.place = place{s.segs[0], framesFrom}
	}
	return nil
}
