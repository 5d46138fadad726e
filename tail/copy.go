package tail

import (
	"bytes"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// suspect marks a new file that agrees with a followed one as far as it goes:
// the copy of copytruncate, or a backup. It is not read yet.
func (t *Tailer) suspect(n *file, st *unix.Stat_t) {
	if n.fd < 0 || st.Size < printBytes || t.o.Once {
		return
	}
	head, ok := t.printAt(n.fd, printBytes, 0)
	if !ok {
		return
	}
	i := 0
	for f := t.heads[headKey(head)]; f != nil && i < maxTwins; f, i = f.twin, i+1 {
		if f != n && t.agreesSoFar(n, st.Size, f) {
			n.copy.of, n.copy.id = f, f.pos.ID
			n.pos.Size = st.Size
			n.copy.until = t.now + copyWait
			return
		}
	}
}

// agreesSoFar compares n, a file of that size, with f where the shorter ends.
func (t *Tailer) agreesSoFar(n *file, size int64, f *file) bool {
	if size >= f.pos.Offset {
		m, ok := t.printAt(n.fd, int(f.pos.Marker.Len), f.pos.Offset-int64(f.pos.Marker.Len))
		return ok && m == f.pos.Marker
	}
	if f.fd < 0 || size < printBytes {
		return false
	}
	a, b := t.scratch[:printBytes], t.scratch[printBytes:2*printBytes]
	i, err := pread(n.fd, a, size-printBytes)
	j, err2 := pread(f.fd, b, size-printBytes)
	return err == nil && err2 == nil && i == printBytes && j == printBytes && bytes.Equal(a, b)
}

// copied settles what a suspected copy is, and reports whether it is read now:
// from the original's offset if the original was replaced or is not there,
// else from 0 once it no longer grows like the original.
func (t *Tailer) copied(n *file, st *unix.Stat_t) bool {
	f := n.copy.of
	switch {
	case f.pos.ID != n.copy.id || f.index < 0 && f.end.sought:
		n.copy.of = nil
		t.claim(n, st)
	case st.Size != n.pos.Size:
		n.pos.Size = st.Size
		n.copy.until = t.now + copyWait
		if !t.agreesSoFar(n, st.Size, f) {
			n.copy.of = nil
		}
	case t.now >= n.copy.until:
		n.copy.of = nil
	}
	if n.copy.of == nil {
		n.pos.Size = 0
	}
	return n.copy.of == nil
}

// claim gives n, not read yet, the position of the content that it is a copy of.
func (t *Tailer) claim(n *file, st *unix.Stat_t) {
	old := t.copyOfWanted(n.fd, st)
	if old == nil {
		return
	}
	t.takeUnbound(old)
	t.dropHead(old)
	path, dev, ino := n.pos.Path, n.pos.Dev, n.pos.Ino
	if n.told {
		own := &file{pos: n.pos, told: true, fd: -1, index: -1}
		own.pos.Forget = true
		t.tell(own)
	}
	n.pos, n.part, n.told = old.pos, old.part, old.told
	n.pos.Path, n.pos.Dev, n.pos.Ino = path, dev, ino
	n.pos.Closed, n.pos.Deleted = 0, false
	n.look.size = max(n.look.size, n.pos.Offset)
	t.hasHead(n)
	t.tell(n)
	t.log.Info("file is the copy of one that was replaced", zap.String("path", path), zap.Int64("offset", n.pos.Offset))
}

// copyOfWanted returns a file that is looked for and whose content the open
// one has: a copy, or a restored file. Short prints prove too little.
func (t *Tailer) copyOfWanted(fd int, st *unix.Stat_t) *file {
	if st.Size < printBytes || len(t.unbound) == 0 {
		return nil
	}
	head, ok := t.printAt(fd, printBytes, 0)
	if !ok {
		return nil
	}
	for f := t.heads[headKey(head)]; f != nil; f = f.twin {
		if f.index < 0 && f.pos.Offset <= st.Size && t.agrees(fd, f.pos.Path, &f.pos) {
			t.n.Copies++
			return f
		}
	}
	return nil
}
