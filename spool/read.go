package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"sealtail/internal/durable"
)

// Read calls yield for each whole envelope of the spool in dir, oldest first,
// shipped or not, until yield returns an error, which Read returns. It changes
// nothing and may run beside a process that uses the spool: segments that are
// removed meanwhile are passed over, and it ends where the spool ended when it
// came there. Damaged bytes are passed over too. While the spool is opened, an
// envelope may come twice. yield owns the slice.
func Read(fsys durable.FS, dir string, yield func(env []byte) error) error {
	return (&reader{fs: fsys, dir: dir, yield: yield}).read()
}

// Unshipped is [Read] without the envelopes that the hint says were shipped,
// which beside a process that ships is as of a second ago.
func Unshipped(fsys durable.FS, dir string, yield func(env []byte) error) error {
	r := &reader{fs: fsys, dir: dir, yield: yield}
	ids, err := listSegments(fsys, dir)
	if err != nil {
		return err
	}
	var segs []*segment
	for _, id := range ids {
		h, f, err := r.open(id)
		if err != nil {
			return err
		}
		if h != nil {
			f.Close()
			segs = append(segs, &segment{header: *h, readable: true})
		}
	}
	r.shipped = readHint(fsys, dir, segs).shipped.place
	return r.read()
}

func (r *reader) read() error {
	for {
		ids, err := listSegments(r.fs, r.dir)
		if err != nil {
			return err
		}
		if len(ids) == 0 || ids[len(ids)-1] <= r.id {
			return nil
		}
		// The last one of the round before may have grown before another was
		// begun: it is taken up where it was left.
		for i, id := range ids {
			if id < r.id {
				continue
			}
			var next uint32
			if i+1 < len(ids) {
				next = ids[i+1]
			}
			if err := r.segment(id, next); err != nil {
				return err
			}
		}
	}
}

// A reader has read segment id up to off.
type reader struct {
	fs      durable.FS
	dir     string
	shipped place // envelopes up to there are passed over
	yield   func(env []byte) error
	id      uint32
	off     int64
}

// segment reads on in segment id, whose end the segment next tells, if there is one.
func (r *reader) segment(id, next uint32) error {
	if id != r.id {
		r.id, r.off = id, framesFrom
	}
	h, f, err := r.open(id)
	if err != nil || h == nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	end := int64(-1)
	if next > 0 {
		n, g, err := r.open(next)
		if err != nil {
			return err
		}
		if n != nil {
			g.Close()
			if n.prev < id {
				return nil // passed over
			}
			if n.prev == id {
				end = min(n.prevEnd, info.Size())
			}
		}
	}
	if end < 0 {
		if end, err = syncedIn(h, f, info.Size()); err != nil {
			return err
		}
		if end, err = cutAt(h, f, min(end, info.Size()), info.Size()); err != nil {
			return err
		}
	}
	for sc := newScanner(h, f, r.off, end); ; {
		it, ok, err := sc.next()
		if err != nil || !ok {
			return err
		}
		r.off = sc.off
		if it.bad || it.frame.env == 0 || r.shipped.covers(id, it.end) {
			continue
		}
		if err := r.yield(bytes.Clone(it.env)); err != nil {
			return err
		}
	}
}

// open opens a segment and reads its header; without error and header it is gone
// or damaged.
func (r *reader) open(id uint32) (*header, durable.File, error) {
	f, err := r.fs.OpenFile(segName(r.dir, id, segSuffix), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	h, err := readHeader(f, id)
	switch err {
	case nil:
		return &h, f, nil
	case errDamaged:
		err = nil
	case ErrNewer:
		err = fmt.Errorf("%w: segment %s", ErrNewer, f.Name())
	}
	f.Close()
	return nil, nil, err
}
