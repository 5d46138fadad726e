package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"go.uber.org/zap"

	"sealtail/internal/durable"
)

// A Damage is bytes of a segment that do not verify, though they were durable
// once.
type Damage struct {
	First    uint32 // of several segments that are missing, else Segment
	Segment  uint32
	From, To int64  // bytes of the segment; both 0: all of it is missing
	File     string // a copy of these bytes, or a note; "" if there is none
	Shipped  bool   // all of it was acknowledged: nothing is lost but the copy here
	Known    bool   // an earlier Open found it and told the State
}

// String says which bytes these are.
func (d Damage) String() string {
	switch {
	case d.First < d.Segment:
		return "segments " + d.segments() + " are missing"
	case d.From == 0 && d.To == 0:
		return "segment " + d.segments() + " is missing"
	}
	return fmt.Sprintf("segment %d, bytes %d to %d", d.Segment, d.From, d.To)
}

func (d Damage) segments() string {
	if d.First < d.Segment {
		return fmt.Sprintf("%d to %d", d.First, d.Segment)
	}
	return fmt.Sprint(d.Segment)
}

// A ledgerEntry is damage that a State was told of. The snapshot beside the
// ledger accounts for it.
type ledgerEntry struct {
	id uint32
	span
}

const ledgerEntryLen = 20

// appendLedger encodes what a first frame holds before its snapshot.
func appendLedger(b []byte, l []ledgerEntry) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(l)))
	for _, e := range l {
		b = binary.BigEndian.AppendUint32(b, e.id)
		b = binary.BigEndian.AppendUint64(b, uint64(e.from))
		b = binary.BigEndian.AppendUint64(b, uint64(e.to))
	}
	return b
}

// parseLedger divides what a first frame holds into ledger and snapshot.
func parseLedger(b []byte) (l []ledgerEntry, snapshot []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := int64(binary.BigEndian.Uint32(b))
	if b = b[4:]; int64(len(b)) < n*ledgerEntryLen {
		return nil, nil, false
	}
	for range n {
		e := ledgerEntry{
			id:   binary.BigEndian.Uint32(b),
			span: span{int64(binary.BigEndian.Uint64(b[4:])), int64(binary.BigEndian.Uint64(b[12:]))},
		}
		l = append(l, e)
		b = b[ledgerEntryLen:]
	}
	return l, b, true
}

// damage notes bad bytes of segment id, read from f, sets them aside, and tells
// the State if it does not know and they matter. Without room they stay.
func (p *opening) damage(f durable.File, id uint32, sp span) error {
	s := p.s
	d := Damage{First: id, Segment: id, From: sp.from, To: sp.to}
	seg := s.find(id)
	seg.bad = append(seg.bad, sp)
	var err error
	if d.File, err = s.setAside(f, id, sp); err != nil {
		if !durable.NoRoom(err) {
			return fmt.Errorf("set damaged bytes aside: %w", err)
		}
		seg.loose = true
		s.log.Warn("damaged bytes stay where they are", zap.String("dir", s.dir), zap.Stringer("damage", d), zap.Error(err))
	}
	p.tell(d)
	return nil
}

// missing is damage for segments that are not there.
func (p *opening) missing(first, last uint32) error {
	d := Damage{First: first, Segment: last}
	if p.knows(d) { // and somebody may have removed the note
		p.tell(d)
		return nil
	}
	name, err := p.s.noteMissing(d)
	if err != nil {
		if !durable.NoRoom(err) {
			return fmt.Errorf("note that %v: %w", d, err)
		}
		p.s.log.Warn("what is missing cannot be noted", zap.String("dir", p.s.dir), zap.Stringer("damage", d), zap.Error(err))
	}
	d.File = name
	p.tell(d)
	return nil
}

func (p *opening) tell(d Damage) {
	s := p.s
	d.Shipped = s.shipped.covers(d.Segment, d.To)
	d.Known = p.knows(d)
	s.damages = append(s.damages, d)
	s.ledger = append(s.ledger, ledgerEntry{d.Segment, span{d.From, d.To}})
	switch {
	case d.Known:
	case d.Shipped:
		p.quiet = d.String()
	default:
		// Until Recover has made it durable that State knows: no segment goes, for
		// the neighbours of what is lost say what that was, and the hint does not
		// move, for it would make what is lost look shipped.
		s.fresh = true
		p.quiet = ""
		p.st.Gap(d.String())
	}
}

// knows reports whether an earlier Open told the State.
func (p *opening) knows(d Damage) bool {
	return slices.ContainsFunc(p.known, func(e ledgerEntry) bool {
		return e.id == d.Segment && e.from <= d.From && d.To <= e.to
	})
}

// find returns the segment id, or nil.
func (s *Spool) find(id uint32) *segment {
	for _, seg := range s.segs {
		if seg.id == id {
			return seg
		}
	}
	return nil
}

// setAside copies damaged bytes to a file of their own, durably, and returns
// its name. Bytes that the disk does not give are zeros there.
func (s *Spool) setAside(f durable.File, id uint32, sp span) (string, error) {
	dir := filepath.Join(s.dir, damagedDir)
	name := filepath.Join(dir, fmt.Sprintf("%08d-%d-%d", id, sp.from, sp.to))
	if _, err := s.fs.Stat(name); err == nil {
		return name, nil // by an earlier Open
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := durable.MkdirAll(s.fs, dir, 0o700); err != nil {
		return "", err
	}
	tmp := name + ".tmp"
	out, err := s.fs.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", err
	}
	info, err := f.Stat()
	w := window{f: f, limit: sp.to}
	if err == nil {
		w.limit = min(sp.to, max(info.Size(), sp.from)) // what a file lost at its end has no bytes to keep
	}
	for off := sp.from; off < w.limit && err == nil; {
		var b []byte
		if b, err = w.from(off, 1); err == nil {
			_, err = out.Write(b)
			off += int64(len(b))
		}
	}
	if err == nil {
		err = out.Sync()
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = s.fs.Rename(tmp, name)
	}
	if err != nil {
		_ = s.fs.Remove(tmp) // the first error counts
		return "", err
	}
	return name, s.fs.SyncDir(dir)
}
