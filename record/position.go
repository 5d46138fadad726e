package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// A Position says how far one file is taken and how the file is known again.
// Dev and Path are hints: they change by reboot, remount and rename.
//
// A hole is a position of its own: the bytes [Offset, Until) of a file whose
// entry was lost in damage of the spool, from where Sources stand on. They are
// read once more and the hole is forgotten. Of a source stream that Ends names
// it has the records that begin before its skip there, of any other those that
// begin before Size.
//
// A pause is a position of its own, too, of no file: Path is its reason. It is
// forgotten with the entry that tells it, so that a restart does not hide it.
//
// A loss is a position of its own, of no file, under an ID of its own and with
// Forget set: Path is its reason, Closed when it was told, 0 if nobody knows. It
// goes with the entry that tells it, and is summed up; see [Positions.Losses].
type Position struct {
	ID       uint64 // names the file among its stream's positions; never used again
	Path     string // last seen
	Dev, Ino uint64
	Offset   int64  // bytes taken
	From     int64  // where this advance began: what lies in [From, Offset) is in this entry; 0 for one that is new, wherever it begins
	Size     int64  // last seen; under one ID it becomes less only when it is closed
	Head     Print  // of the first min(Offset, 1024) bytes
	Marker   Print  // of the last min(Offset, 1024) bytes before Offset
	Deleted  bool   // no name is left in the file system
	Closed   int64  // unix s since when it is no longer followed; 0 = followed
	Encoding uint8  // 0 = bytes as they are
	Next     uint64 // ID of the successor that continues the open record; 0 = none known, or as it was
	Until    int64  // 0 but for a hole
	Paused   int64  // unix ns when it began; 0 but for a pause
	Lost     Lost   // zero but for a loss
	Sources  []Source
	Was      []Source // Sources as of From
	Trail    Trail    // as the entries told so far, which leave it out; nil: as they did
	Ends     []Source // of a hole; with PartID: the record is cut there, and goes on
	Forget   bool     // take the file off the positions
	Look     int64    // which of its tailer's looks it is of, later ones higher; not stored
}

// Since returns p as it is to be committed behind known, the same file's: what
// a later look told of it, past an entry on its way, stays.
func (p Position) Since(known Position) Position {
	if p.Forget || known.Look <= p.Look {
		return p
	}
	p.Path, p.Dev, p.Ino, p.Next = known.Path, known.Dev, known.Ino, known.Next
	p.Size, p.Deleted, p.Closed = max(p.Size, known.Size), known.Deleted, known.Closed
	p.Look = known.Look
	return p
}

// A Source is a position inside the open or cut record of one source stream
// (stdout, stderr; "" where a file has just one).
type Source struct {
	Name     string
	Skip     int64  // records that begin before it are taken already
	PartID   uint64 // of the record being cut; 0 = none
	PartNext uint32 // index of its next piece
}

// Lost is how much was lost.
type Lost struct {
	Ranges, Bytes int64
}

// A Print is a keyed fingerprint of Len bytes: HMAC-SHA-256 under
// identity.key, cut to 16 bytes. An unkeyed hash of a short line would let a
// reader of the disk confirm guesses.
type Print struct {
	Len uint16
	Sum [16]byte
}

// Positions are the files of a stream by [Position.ID]. The zero value is
// empty; it is not safe for concurrent use.
type Positions struct {
	files map[uint64]Position
	lost  Losses
}

// ErrPositions reports an encoding that this version cannot have written.
var ErrPositions = errors.New("malformed positions")

// Fields of an encoded position. Absent ones stay as they were, or zero.
//
//	uvarint ID ‖ uvarint mask ‖ the fields whose bit is set, in bit order
const (
	hasPath     = 0x001 // uvarint length ‖ bytes
	hasDev      = 0x002 // uvarint
	hasIno      = 0x004 // uvarint
	hasOffset   = 0x008 // uvarint Offset ‖ uvarint Offset − From
	hasSize     = 0x010 // uvarint; absent: Size = Offset
	hasHead     = 0x020 // u16 length ‖ 16 bytes
	hasMarker   = 0x040 // u16 length ‖ 16 bytes
	hasDeleted  = 0x080 // flag
	hasClosed   = 0x100 // uvarint
	hasEncoding = 0x200 // u8
	hasNext     = 0x400 // uvarint
	hasSources  = 0x800 // uvarint count ‖ per source: name, uvarint skip, u64 id, uvarint next
	hasForget   = 0x1000
	hasUntil    = 0x2000   // uvarint
	hasPaused   = 0x4000   // uvarint
	hasLost     = 0x8000   // uvarint ranges ‖ uvarint bytes
	hasWas      = 0x1_0000 // as Sources; absent: Was = Sources
	hasEnds     = 0x2_0000
	hasTrail    = 0x4_0000 // uvarint count ‖ per mark, newest first: uvarint distance to the one behind it or Offset, print
	hasAll      = 0x7_ffff
)

// Len is the number of files.
func (ps *Positions) Len() int { return len(ps.files) }

// All returns the positions in the order of their IDs.
func (ps *Positions) All() []Position {
	all := make([]Position, 0, len(ps.files))
	for _, id := range slices.Sorted(maps.Keys(ps.files)) {
		all = append(all, ps.files[id])
	}
	return all
}

// Get returns the position with the ID, and whether there is one.
func (ps *Positions) Get(id uint64) (Position, bool) {
	p, ok := ps.files[id]
	return p, ok
}

// Losses returns the sums of all losses.
func (ps *Positions) Losses() Losses { return ps.lost.clone() }

// AppendDelta encodes the positions that moved, takes them over and returns
// dst with the encoding.
func (ps *Positions) AppendDelta(dst []byte, moved []Position) []byte {
	dst = ps.EncodeDelta(dst, moved)
	ps.Put(moved)
	return dst
}

// EncodeDelta encodes the positions that moved, one a file, and does not take
// them over. Identity, offset and prints are always written, so that a delta
// alone still names its file; path and device only if they changed.
func (ps *Positions) EncodeDelta(dst []byte, moved []Position) []byte {
	for _, p := range moved {
		old, known := ps.files[p.ID]
		mask := p.mask()
		if known && old.Path == p.Path {
			mask &^= hasPath
		}
		if known && old.Dev == p.Dev {
			mask &^= hasDev
		}
		dst = p.append(dst, mask)
	}
	return dst
}

// Put takes over the positions that moved.
func (ps *Positions) Put(moved []Position) {
	for _, p := range moved {
		ps.put(p)
	}
}

// Clone returns a copy that changes apart.
func (ps *Positions) Clone() Positions {
	return Positions{maps.Clone(ps.files), ps.lost.clone()}
}

// AppendSnapshot encodes all positions, and losses as their sums, once those are
// taken over that moved with the entry beside the snapshot. Of these, forgotten
// ones included, it also says where the advance began, and the trail: the others'
// ended before. With nil it is the state that was read at a start, with all
// trails: they are of the newest entries.
func (ps *Positions) AppendSnapshot(dst []byte, moved []Position) []byte {
	now := make(map[uint64]bool, len(moved))
	for _, p := range moved {
		now[p.ID] = true
		if p.Forget && p.Lost == (Lost{}) {
			dst = p.append(dst, p.mask())
		}
	}
	for _, p := range ps.All() {
		if !now[p.ID] {
			p.From, p.Was = p.Offset, p.Sources
		}
		mask := p.mask()
		if (now[p.ID] || moved == nil) && len(p.Trail) > 0 {
			mask |= hasTrail
		}
		dst = p.append(dst, mask)
	}
	for _, p := range ps.lost.positions() {
		dst = p.append(dst, p.mask())
	}
	return dst
}

// Apply takes over an encoded delta or snapshot and returns what it moved.
// Losses move nothing.
func (ps *Positions) Apply(b []byte) (moved []Position, err error) {
	d := decoder{b: b}
	for len(d.b) > 0 && d.err == nil {
		p := ps.decode(&d)
		if d.err != nil {
			break
		}
		ps.put(p)
		if p.Lost == (Lost{}) {
			moved = append(moved, p)
		}
	}
	if d.err != nil {
		return moved, fmt.Errorf("%w: %w", ErrPositions, d.err)
	}
	return moved, nil
}

func (ps *Positions) put(p Position) {
	if p.Lost != (Lost{}) {
		ps.lost.add(p)
		return
	}
	if p.Forget {
		delete(ps.files, p.ID)
		return
	}
	if ps.files == nil {
		ps.files = make(map[uint64]Position)
	}
	old := ps.files[p.ID]
	p.Trail = walk(&old, &p)
	if p.Next == 0 {
		// It may be told past what was made before it was known.
		p.Next = old.Next
	}
	if p.Closed == 0 && p.Until == 0 {
		// What tells how far a file is taken may be older than what told how
		// much it has.
		p.Size = max(p.Size, old.Size)
		if p.Offset == 0 && p.Head.Len < old.Head.Len {
			p.Head = old.Head
		}
	}
	ps.files[p.ID] = p
}

func (p Position) mask() uint64 {
	var mask uint64
	optional := func(bit uint64, set bool) {
		if set {
			mask |= bit
		}
	}
	if p.Lost != (Lost{}) {
		optional(hasClosed, p.Closed != 0)
		return mask | hasPath | hasForget | hasLost
	}
	mask = hasPath | hasDev | hasIno | hasOffset | hasHead | hasMarker
	optional(hasWas, !slices.Equal(p.Was, p.Sources))
	if p.Forget { // what else it was is known of it
		return mask&hasWas | hasForget | hasOffset
	}
	optional(hasSize, p.Size != p.Offset)
	optional(hasDeleted, p.Deleted)
	optional(hasClosed, p.Closed != 0)
	optional(hasEncoding, p.Encoding != 0)
	optional(hasNext, p.Next != 0)
	optional(hasSources, len(p.Sources) > 0)
	optional(hasUntil, p.Until != 0)
	optional(hasPaused, p.Paused != 0)
	optional(hasEnds, len(p.Ends) > 0)
	return mask
}

func (p Position) append(b []byte, mask uint64) []byte {
	b = binary.AppendUvarint(b, p.ID)
	b = binary.AppendUvarint(b, mask)
	if mask&hasPath != 0 {
		b = appendString(b, p.Path)
	}
	if mask&hasDev != 0 {
		b = binary.AppendUvarint(b, p.Dev)
	}
	if mask&hasIno != 0 {
		b = binary.AppendUvarint(b, p.Ino)
	}
	if mask&hasOffset != 0 {
		b = binary.AppendUvarint(b, uint64(p.Offset))
		b = binary.AppendUvarint(b, uint64(p.Offset-p.From))
	}
	if mask&hasSize != 0 {
		b = binary.AppendUvarint(b, uint64(p.Size))
	}
	if mask&hasHead != 0 {
		b = p.Head.append(b)
	}
	if mask&hasMarker != 0 {
		b = p.Marker.append(b)
	}
	if mask&hasClosed != 0 {
		b = binary.AppendUvarint(b, uint64(p.Closed))
	}
	if mask&hasEncoding != 0 {
		b = append(b, p.Encoding)
	}
	if mask&hasNext != 0 {
		b = binary.AppendUvarint(b, p.Next)
	}
	if mask&hasSources != 0 {
		b = appendSources(b, p.Sources)
	}
	if mask&hasUntil != 0 {
		b = binary.AppendUvarint(b, uint64(p.Until))
	}
	if mask&hasPaused != 0 {
		b = binary.AppendUvarint(b, uint64(p.Paused))
	}
	if mask&hasLost != 0 {
		b = binary.AppendUvarint(b, uint64(p.Lost.Ranges))
		b = binary.AppendUvarint(b, uint64(p.Lost.Bytes))
	}
	if mask&hasWas != 0 {
		b = appendSources(b, p.Was)
	}
	if mask&hasEnds != 0 {
		b = appendSources(b, p.Ends)
	}
	if mask&hasTrail != 0 {
		b = binary.AppendUvarint(b, uint64(len(p.Trail)))
		at := p.Offset
		for _, m := range slices.Backward(p.Trail) {
			b = binary.AppendUvarint(b, uint64(at-m.At))
			b = m.Print.append(b)
			at = m.At
		}
	}
	return b
}

func (ps *Positions) decode(d *decoder) Position {
	id, mask := d.uvarint(), d.uvarint()
	if mask&^hasAll != 0 {
		d.fail("unknown field")
	}
	old := ps.files[id]
	p := Position{ID: id, Path: old.Path, Dev: old.Dev}
	p.Forget = mask&hasForget != 0
	p.Deleted = mask&hasDeleted != 0
	if mask&hasPath != 0 {
		p.Path = string(d.bytes())
	}
	if mask&hasDev != 0 {
		p.Dev = d.uvarint()
	}
	if mask&hasIno != 0 {
		p.Ino = d.uvarint()
	}
	if mask&hasOffset != 0 {
		p.Offset = d.size()
		p.From = p.Offset - d.size()
	}
	p.Size = p.Offset
	if mask&hasSize != 0 {
		p.Size = d.size()
	}
	if mask&hasHead != 0 {
		p.Head = d.print()
	}
	if mask&hasMarker != 0 {
		p.Marker = d.print()
	}
	if mask&hasClosed != 0 {
		p.Closed = d.size()
	}
	if mask&hasEncoding != 0 {
		p.Encoding = d.byte()
	}
	if mask&hasNext != 0 {
		p.Next = d.uvarint()
	}
	if mask&hasSources != 0 {
		p.Sources = d.sources()
	}
	if mask&hasUntil != 0 {
		p.Until = d.size()
	}
	if mask&hasPaused != 0 {
		p.Paused = d.size()
	}
	if mask&hasLost != 0 {
		p.Lost = Lost{d.size(), d.size()}
		if p.Lost == (Lost{}) || !p.Forget {
			d.fail("loss of nothing, or of a file")
		}
	}
	p.Was = p.Sources
	if mask&hasWas != 0 {
		p.Was = d.sources()
	}
	if mask&hasEnds != 0 {
		p.Ends = d.sources()
	}
	if mask&hasTrail != 0 {
		p.Trail = d.trail(p.Offset)
	}
	return p
}

func (p Print) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, p.Len)
	return append(b, p.Sum[:]...)
}

func appendSources(b []byte, all []Source) []byte {
	b = binary.AppendUvarint(b, uint64(len(all)))
	for _, s := range all {
		b = appendString(b, s.Name)
		b = binary.AppendUvarint(b, uint64(s.Skip))
		b = binary.BigEndian.AppendUint64(b, s.PartID)
		b = binary.AppendUvarint(b, uint64(s.PartNext))
	}
	return b
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// decoder reads the fields above; after the first error it yields zeros.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(why string) {
	if d.err == nil {
		d.err = errors.New(why)
	}
	d.b = nil
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail("cut short")
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("bad number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) size() int64 {
	v := int64(d.uvarint())
	if v < 0 {
		d.fail("number out of range")
		return 0
	}
	return v
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) bytes() []byte { return d.take(d.uvarint()) }

func (d *decoder) sources() (all []Source) {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.fail("too many sources")
		return nil
	}
	for range n {
		all = append(all, Source{
			Name: string(d.bytes()), Skip: d.size(), PartID: d.uint64(), PartNext: uint32(d.uvarint()),
		})
	}
	return all
}

// trail reads the marks of a position at offset at.
func (d *decoder) trail(at int64) (t Trail) {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.fail("too many marks")
		return nil
	}
	for range n {
		at -= d.size()
		m := Mark{at, d.print()}
		if at < printBytes || m.Print.Len != printBytes {
			d.fail("mark that is none")
			return nil
		}
		t = append(t, m)
	}
	slices.Reverse(t)
	return t
}

func (d *decoder) print() (p Print) {
	if b := d.take(18); b != nil {
		p.Len = binary.BigEndian.Uint16(b)
		copy(p.Sum[:], b[2:])
	}
	return p
}
