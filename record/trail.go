package record

import "slices"

// printBytes are behind a full fingerprint.
const printBytes = 1024

// A Mark is the full fingerprint of what is before an offset.
type Mark struct {
	At    int64
	Print Print
}

// A Trail is the marks that a file's position left behind, oldest first: they
// tell whether another file, which ends before the position, is a copy of this
// one as it was. An entry's Marker is one; see [Positions.AppendSnapshot] for
// what more of it is kept.
type Trail []Mark

// Leave puts a mark on the trail. Of many, few are kept, and the nearer to the
// last the denser. It changes the trail's memory.
func (t Trail) Leave(m Mark) Trail {
	const most = 12
	if m.Print.Len != printBytes || m.At < printBytes {
		return t
	}
	t = append(t, m)
	if len(t) <= most {
		return t
	}
	drop := 0
	for i := 1; i < most; i++ {
		if m.At-t[i-1].At < 2*(m.At-t[i+1].At) {
			drop = i
			break
		}
	}
	return slices.Delete(t, drop, drop+1)
}

// walk is the trail of p, which follows old under one ID.
func walk(old, p *Position) Trail {
	switch {
	case p.Trail != nil, old.ID != p.ID, p.Until != 0, p.Offset < old.Offset:
		return p.Trail
	case p.Offset == old.Offset:
		return old.Trail
	}
	return append(make(Trail, 0, len(old.Trail)+1), old.Trail...).Leave(Mark{old.Offset, old.Marker})
}
