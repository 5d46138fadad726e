package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"sealtail/internal/durable"
)

// Peek has st load the newest snapshot of the spool in dir and apply the entries
// behind it, and returns when the newest of these was appended; zero if there is
// none. Like [Read] it changes nothing and may run beside a process that uses
// the spool: then it says how things stood a moment ago. What is damaged, and
// what lies behind it, is passed over; only an undamaged first frame counts.
func Peek(fsys durable.FS, dir string, st State) (as time.Time, err error) {
	for range 3 { // the newest may go while it is opened
		ids, err := listSegments(fsys, dir)
		if errors.Is(err, fs.ErrNotExist) {
			return time.Time{}, nil
		}
		if err != nil {
			return time.Time{}, err
		}
		for _, id := range slices.Backward(ids) {
			as, err := peekSegment(fsys, dir, id, st)
			if err != nil || !as.IsZero() {
				return as, err
			}
		}
		if len(ids) == 0 {
			break
		}
	}
	return time.Time{}, nil
}

// peekSegment returns zero if the segment is gone or has no sound first frame.
func peekSegment(fsys durable.FS, dir string, id uint32, st State) (as time.Time, err error) {
	h, f, err := (&reader{fs: fsys, dir: dir}).open(id)
	if err != nil || h == nil {
		return as, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return as, err
	}
	end, err := syncedIn(h, f, info.Size())
	if err == nil {
		end, err = cutAt(h, f, min(end, info.Size()), info.Size())
	}
	if err != nil {
		return as, err
	}
	for sc := newScanner(h, f, framesFrom, end); ; {
		it, ok, err := sc.next()
		if err != nil || !ok || it.bad {
			return as, err
		}
		if it.kind == kindFirst {
			_, snapshot, ok := parseLedger(it.body)
			if !ok {
				return as, nil
			}
			err = st.Load(snapshot)
		} else if as.IsZero() {
			return as, nil
		} else {
			var env []byte
			if len(it.env) > 0 {
				env = bytes.Clone(it.env)
			}
			err = st.Apply(env, it.body)
		}
		if err != nil {
			return as, fmt.Errorf("frame at %d: %w", it.off, err)
		}
		as = time.Unix(0, it.time)
	}
}
