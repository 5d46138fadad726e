package tail

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"sealtail/record"
)

// suspect marks a new file that agrees with a followed one as far as it goes:
// the copy of copytruncate, or a backup. It is not read yet.
func (t *Tailer) suspect(n *file, fd int, st *unix.Stat_t) {
	if fd < 0 || n.gz != nil || t.o.Once {
		return
	}
	if t.taken(n, fd, st) || t.compressed(n, fd, st) {
		return
	}
	f := t.original(n, fd, st)
	if f == nil {
		return
	}
	n.copy.of, n.copy.id = f, f.pos.ID
	n.pos.Size = st.Size
	n.copy.same = t.sameNow(fd, st.Size, f)
	n.copy.until = t.now + copyWait
}

// sameNow returns size if f, which was not replaced, begins with the open file
// of that size, else 0.
func (t *Tailer) sameNow(fd int, size int64, f *file) int64 {
	if f.fd >= 0 && t.sameBefore(fd, f, size) && t.agrees(f.fd, f.pos.Path, &f.pos) {
		return size
	}
	return 0
}

// original returns the file that n may be the copy of. Where they have less in
// common than a full print, the name must be one that rotation makes of the
// other's.
func (t *Tailer) original(n *file, fd int, st *unix.Stat_t) *file {
	if head, ok := t.printAt(fd, printBytes, 0); ok {
		i := 0
		for f := t.heads[headKey(head)]; f != nil && i < maxTwins; f, i = f.twin, i+1 {
			if f != n && f.gz == nil && (f.told || f.index < 0 || rotated(f.pos.Path, n.pos.Path)) && t.agreesSoFar(fd, st.Size, f) {
				return f
			}
		}
	}
	dir, name := filepath.Split(n.pos.Path)
	for _, from := range unrotated(name) {
		if d := t.dirs[filepath.Clean(dir)]; d != nil {
			if e := d.names[from]; e != nil && e.file != nil && e.file != n && (t.shortAgrees(n, fd, st, e.file) || t.begun(fd, st, e.file)) {
				return e.file
			}
		}
		for _, f := range t.wantedAt[dir+from] {
			if t.shortAgrees(n, fd, st, f) {
				return f
			}
		}
	}
	return nil
}

// shortAgrees reports whether n may be the copy of f, of which less than a full
// print is known.
func (t *Tailer) shortAgrees(n *file, fd int, st *unix.Stat_t, f *file) bool {
	h := f.pos.Head.Len
	return 0 < h && h < printBytes && !f.undecided() && st.Size >= f.pos.Offset &&
		st.Mtim.Nano() >= f.look.mtime && t.agrees(fd, n.pos.Path, &f.pos) &&
		(f.pos.Offset > 0 || t.sameSoFar(fd, st.Size, f))
}

// begun reports whether the open file may be the copy of f of which less than a
// print is written, or known, yet.
func (t *Tailer) begun(fd int, st *unix.Stat_t, f *file) bool {
	return min(st.Size, int64(f.pos.Head.Len)) < printBytes && f.fd >= 0 && f.gz == nil && t.sameBefore(fd, f, st.Size)
}

// unrotated returns the names that rotation may have made name of.
func unrotated(name string) (from []string) {
	ext := filepath.Ext(name)
	for i := 1; i < len(name); i++ {
		if strings.IndexByte("-._", name[i]) < 0 {
			continue
		}
		from = append(from, name[:i])
		if d := name[i+1:]; d != "" && '0' <= d[0] && d[0] <= '9' && ext != name[i:] {
			from = append(from, name[:i]+ext)
		}
	}
	return from
}

// agreesSoFar compares an open file of that size with f where the shorter ends.
func (t *Tailer) agreesSoFar(fd int, size int64, f *file) bool {
	if f.pos.Offset == 0 {
		return t.sameSoFar(fd, size, f)
	}
	if size >= f.pos.Offset {
		m, ok := t.printAt(fd, int(f.pos.Marker.Len), f.pos.Offset-int64(f.pos.Marker.Len))
		return ok && m == f.pos.Marker
	}
	// A replaced one is found out soon.
	return f.fd >= 0 && (t.sameBefore(fd, f, size) || !t.agrees(f.fd, f.pos.Path, &f.pos))
}

// sameSoFar compares n with f, of which nothing was taken and whose head n has,
// unless f was replaced meanwhile.
func (t *Tailer) sameSoFar(fd int, size int64, f *file) bool {
	var st unix.Stat_t
	switch {
	case f.index < 0:
		return true
	case f.fd < 0:
		return true
	case t.fstat(f, &st) != nil || st.Size < f.look.sure:
		return true
	}
	return t.sameBefore(fd, f, min(size, f.look.sure))
}

// sameBefore compares the last bytes before end.
func (t *Tailer) sameBefore(fd int, f *file, end int64) bool {
	few := min(end, printBytes)
	a, b := t.scratch[:few], t.scratch[printBytes:printBytes+few]
	i, err := pread(fd, a, end-few)
	j, err2 := t.fetch(f, b, end-few)
	return err == nil && err2 == nil && int64(i) == few && int64(j) == few && bytes.Equal(a, b)
}

// copied settles what a suspected copy is, and reports whether it is read now:
// from the original's offset if the original was replaced or is not there,
// else from 0 once it no longer grows like the original.
func (t *Tailer) copied(n *file, st *unix.Stat_t) bool {
	f := n.copy.of
	switch {
	case f.pos.ID != n.copy.id || f.index < 0 && f.end.sought:
		n.copy.of = nil
		if !t.taken(n, n.fd, st) {
			t.claim(n, st)
		}
	case st.Size != n.pos.Size:
		n.pos.Size = st.Size
		n.copy.until = t.now + copyWait
		n.copy.same = t.sameNow(n.fd, st.Size, f)
		if n.pos.Head.Len < printBytes {
			n.pos.Head, _ = t.printAt(n.fd, int(min(st.Size, printBytes)), 0)
			t.hasHead(n)
		}
		if n.pos.Head.Len == printBytes && f.pos.Head.Len == printBytes && n.pos.Head != f.pos.Head || !t.agreesSoFar(n.fd, st.Size, f) {
			n.copy.of = nil
		}
	case t.now >= n.copy.until:
		n.copy.of = nil
	}
	if n.copy.of != nil {
		return false
	}
	if n.pos.Offset == 0 {
		n.pos.Size = 0
		t.tell(n)
	}
	return true
}

// taken has n, not read yet, begin at its end if it is a copy of which all was
// taken: the original was read on before it was truncated, so that its position
// is none of the copy.
func (t *Tailer) taken(n *file, fd int, st *unix.Stat_t) bool {
	for _, old := range t.wanted {
		if n.pos.Offset > 0 || old.pos.Offset <= st.Size || old.pos.Path == n.pos.Path || !t.passed(old, n, fd, st) {
			continue
		}
		head, mark, ok := t.bothEnds(fd, st.Size)
		if !ok {
			return false
		}
		t.allTaken(n, st, head, mark)
		t.log.Info("file is the copy of one that was replaced", zap.String("path", n.pos.Path), zap.Int64("offset", n.pos.Offset))
		return true
	}
	return false
}

// compressed is taken for what a .gz was made of that is followed already: the
// .gz is read, and went on from where the original was.
func (t *Tailer) compressed(n *file, fd int, st *unix.Stat_t) bool {
	var zst unix.Stat_t
	if st.Size == 0 || n.pos.Offset > 0 || stat(n.pos.Path+".gz", &zst) != nil {
		return false
	}
	z := t.bound[inode{zst.Dev, zst.Ino}]
	if z == nil || z.gz == nil || z.undecided() || z.gz.size != st.Size {
		return false
	}
	head, tail, ok := t.bothEnds(fd, st.Size)
	if !ok || head != z.gz.head || tail != z.gz.tail {
		return false
	}
	t.allTaken(n, st, head, tail)
	return true
}

// bothEnds returns the fingerprints of the first and the last bytes of an open
// file.
func (t *Tailer) bothEnds(fd int, size int64) (head, tail record.Print, ok bool) {
	few := min(size, printBytes)
	head, ok = t.printAt(fd, int(few), 0)
	tail, ok2 := t.printAt(fd, int(few), size-few)
	return head, tail, ok && ok2
}

// allTaken has n, not read yet, begin at its end: what it has was another's.
func (t *Tailer) allTaken(n *file, st *unix.Stat_t, head, mark record.Print) {
	n.pos.Offset, n.pos.Size, n.foreign, n.first = st.Size, st.Size, st.Size, st.Size
	n.pos.Head, n.pos.Marker = head, mark
	t.note(n, st)
	t.n.Seen -= st.Size
	t.n.Copies++
	t.hasHead(n)
	t.tell(n)
}

// passed reports whether old was n, so far as n goes: they were compared then,
// or n has rotation's name and a mark of old.
func (t *Tailer) passed(old, n *file, fd int, st *unix.Stat_t) bool {
	if old.pos.ID == n.copy.id && st.Size == n.copy.same {
		return st.Size > 0
	}
	if !rotated(old.pos.Path, n.pos.Path) || old.pos.Head.Len < printBytes {
		return false
	}
	for _, m := range slices.Backward(old.trail) {
		if m.At <= st.Size {
			head, ok := t.printAt(fd, printBytes, 0)
			p, ok2 := t.printAt(fd, printBytes, m.At-printBytes)
			return ok && ok2 && head == old.pos.Head && p == m.Print
		}
	}
	return false
}

// leave puts a mark where f is now.
func (f *file) leave() {
	if f.gz == nil {
		f.trail = f.trail.Leave(record.Mark{At: f.pos.Offset, Print: f.pos.Marker})
	}
}

// claim gives n, not read yet, the position of the content that it is a copy of.
func (t *Tailer) claim(n *file, st *unix.Stat_t) {
	old := t.copyOfWanted(n.fd, n.pos.Path, st)
	if old == nil {
		return
	}
	t.inherit(n, old)
	t.note(n, st)
	t.log.Info("file is the copy of one that was replaced", zap.String("path", n.pos.Path), zap.Int64("offset", n.pos.Offset))
}

// inherit gives n, not read yet, the position of old, which has no file.
func (t *Tailer) inherit(n, old *file) {
	t.takeUnbound(old)
	t.dropHead(old)
	path, dev, ino := n.pos.Path, n.pos.Dev, n.pos.Ino
	if n.told {
		own := &file{pos: n.pos, told: true, fd: -1, index: -1}
		own.pos.Forget = true
		t.tell(own)
	}
	t.dropHead(n)
	n.pos, n.told, n.foreign, n.first = old.pos, old.told, old.foreign, old.first
	n.pos.Path, n.pos.Dev, n.pos.Ino = path, dev, ino
	old.passOn(n)
	n.pos.Closed, n.pos.Deleted = 0, n.name.unlinked && n.name.count == 0
	t.resize(n, 0) // as its own it was not there
	n.look.size, n.look.sure, n.look.shrunk = old.look.size, old.look.sure, false
	t.hasHead(n)
	t.tell(n)
}

// copyOfWanted returns a file that is looked for and whose content the open
// one, found at path, has: a copy, or a restored file. Short prints prove too
// little but for a copy by its name, made since.
func (t *Tailer) copyOfWanted(fd int, path string, st *unix.Stat_t) *file {
	if len(t.unbound) == 0 {
		return nil
	}
	if head, ok := t.printAt(fd, printBytes, 0); ok {
		for f := t.heads[headKey(head)]; f != nil; f = f.twin {
			if f.index < 0 && f.pos.Offset <= st.Size && t.agrees(fd, f.pos.Path, &f.pos) {
				t.n.Copies++
				return f
			}
		}
	}
	dir, name := filepath.Split(path)
	for _, from := range unrotated(name) {
		for _, f := range t.wantedAt[dir+from] {
			if h := f.pos.Head.Len; 0 < h && h < printBytes && f.pos.Offset <= st.Size &&
				st.Mtim.Nano() >= f.look.mtime && t.agrees(fd, path, &f.pos) {
				t.n.Copies++
				return f
			}
		}
	}
	return nil
}
