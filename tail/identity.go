package tail

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"sealtail/record"
)

const (
	printBytes = 1024 // bytes behind a full fingerprint
	maxTwins   = 16   // files of one head that a new one is compared with
)

// Reasons of a loss event.
const (
	reasonDeleted   = "deleted unread"
	reasonTruncated = "truncated unread"
	reasonRewritten = "rewritten unread"
	reasonHeld      = "held-bytes limit"
	reasonSpool     = "spool damaged"
)

// print returns the fingerprint of b.
func (t *Tailer) print(b []byte) (p record.Print) {
	var sum [32]byte
	t.mac.Reset()
	t.mac.Write(b)
	p.Len = uint16(len(b))
	copy(p.Sum[:], t.mac.Sum(sum[:0]))
	return p
}

// printAt returns the fingerprint of n bytes at off, and whether they are there.
func (t *Tailer) printAt(fd int, n int, off int64) (record.Print, bool) {
	b := t.scratch[:n]
	if m, err := pread(fd, b, off); err != nil || m < n {
		return record.Print{}, false
	}
	return t.print(b), true
}

// agrees reports whether the open file, found at path, is what the position
// says as far as the position goes. A position that says nothing, of a file
// that was empty, agrees by the name: an inode alone may be anyone's.
func (t *Tailer) agrees(fd int, path string, p *record.Position) bool {
	if p.Head.Len == 0 && p.Marker.Len == 0 {
		return rotated(p.Path, path)
	}
	if p.Head.Len > printBytes || int64(p.Marker.Len) > min(p.Offset, printBytes) {
		return false
	}
	head, ok := t.printAt(fd, int(p.Head.Len), 0)
	if !ok || p.Head.Len > 0 && head != p.Head {
		return false
	}
	mark, ok := t.printAt(fd, int(p.Marker.Len), p.Offset-int64(p.Marker.Len))
	return ok && (p.Marker.Len == 0 || mark == p.Marker)
}

// rotated reports whether the file at one path may have got the other by
// rotation: it begins with the whole name, or with all but the extension and
// a date or number.
func rotated(from, to string) bool {
	dir, base := filepath.Split(from)
	dir2, name := filepath.Split(to)
	if dir != dir2 {
		return false
	}
	if strings.HasPrefix(name, base) {
		return true
	}
	rest, ok := strings.CutPrefix(name, strings.TrimSuffix(base, filepath.Ext(base)))
	return ok && len(rest) > 1 && strings.ContainsRune("-._", rune(rest[0])) && '0' <= rest[1] && rest[1] <= '9'
}

// load takes a position of an earlier run.
func (t *Tailer) load(p record.Position) {
	f := &file{pos: p, fd: -1, told: true, seen: max(p.Size, p.Offset), reason: reasonDeleted, part: cutAt(p.Sources)}
	t.unbind(f)
	t.hasHead(f)
}

// identify returns the file that was just opened as fd: one that is known, or
// a new one. It takes over the descriptor.
func (t *Tailer) identify(path string, fd int, st *unix.Stat_t) *file {
	k := inode{st.Dev, st.Ino}
	if f := t.bound[k]; f != nil {
		if f.fd >= 0 || t.o.Once {
			unix.Close(fd)
		} else {
			same := t.same(f, fd)
			t.opened(f, fd)
			if !same {
				t.startOver(f, reasonRewritten)
			}
		}
		return f
	}
	f := t.among(t.unbound[st.Ino], fd, path)
	if f == nil {
		if !t.started {
			t.replaced(path, st)
		} else {
			f = t.copyOfWanted(fd, st)
		}
	}
	if f != nil {
		t.bind(f, fd, st)
		return f
	}
	t.forgetClosed(st)
	f = &file{pos: record.Position{ID: newID(), Path: path}, fd: -1}
	f.pos.Head, _ = t.printAt(fd, int(min(st.Size, printBytes)), 0)
	t.bind(f, fd, st)
	if t.o.Once {
		return f
	}
	t.tell(f)
	t.suspect(f, st)
	return f
}

// among returns the file whose position the open one agrees with, that which
// is furthest. One that was deleted does not come back: who has its inode and
// content is another.
func (t *Tailer) among(fs []*file, fd int, path string) (best *file) {
	for _, f := range fs {
		if !f.pos.Deleted && (best == nil || f.pos.Offset > best.pos.Offset) &&
			t.agrees(fd, path, &f.pos) {
			best = f
		}
	}
	return best
}

// replaced counts a file that was truncated or written anew while nobody
// looked. Its position is looked for like that of any lost file.
func (t *Tailer) replaced(path string, st *unix.Stat_t) {
	for _, f := range t.unbound[st.Ino] {
		if f.pos.Path != path || f.pos.Closed != 0 {
			continue
		}
		if st.Size < f.pos.Offset {
			t.n.Truncated++
			f.reason = reasonTruncated
		} else {
			t.n.Rewritten++
			f.reason = reasonRewritten
		}
	}
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

// bind joins a position with its open file.
func (t *Tailer) bind(f *file, fd int, st *unix.Stat_t) {
	t.takeUnbound(f)
	if f.told && (f.pos.Closed != 0 || f.pos.Deleted || f.pos.Ino != st.Ino) {
		t.tell(f)
	}
	f.pos.Dev, f.pos.Ino = st.Dev, st.Ino
	f.pos.Closed, f.pos.Deleted = 0, false
	t.hasHead(f)
	f.ahead, f.every, f.stop = chunkBytes, 4*minLook, st.Size
	f.mtime, f.ctime = 0, 0
	f.final, f.sought, f.gone = false, false, 0
	f.note(st)
	f.index = len(t.files)
	t.files = append(t.files, f)
	t.bound[f.key()] = f
	t.opened(f, fd)
}

// release takes a file off those followed. Its position may live on.
func (t *Tailer) release(f *file) {
	t.shut(f)
	if t.bound[f.key()] == f {
		delete(t.bound, f.key())
	}
	last := t.files[len(t.files)-1]
	t.files[f.index], last.index = last, f.index
	t.files[len(t.files)-1] = nil
	t.files = t.files[:len(t.files)-1]
	f.copyOf = nil
	f.index = -1
}

func (t *Tailer) unbind(f *file) {
	f.index = -1
	t.unbound[f.pos.Ino] = append(t.unbound[f.pos.Ino], f)
}

func (t *Tailer) takeUnbound(f *file) {
	fs := t.unbound[f.pos.Ino]
	if i := slices.Index(fs, f); i >= 0 {
		if fs = slices.Delete(fs, i, i+1); len(fs) == 0 {
			delete(t.unbound, f.pos.Ino)
		} else {
			t.unbound[f.pos.Ino] = fs
		}
	}
	t.unwant(f)
}

func headKey(p record.Print) uint64 { return binary.BigEndian.Uint64(p.Sum[:]) }

// hasHead files f under its head, if that is full and f is not done with.
func (t *Tailer) hasHead(f *file) {
	if f.headed || f.pos.Offset < printBytes || f.pos.Closed != 0 {
		return
	}
	f.headed = true
	k := headKey(f.pos.Head)
	f.twin = t.heads[k]
	t.heads[k] = f
}

func (t *Tailer) dropHead(f *file) {
	if !f.headed {
		return
	}
	f.headed = false
	k := headKey(f.pos.Head)
	at := t.heads[k]
	if at == f {
		if f.twin == nil {
			delete(t.heads, k)
		} else {
			t.heads[k] = f.twin
		}
	}
	for ; at != nil; at = at.twin {
		if at.twin == f {
			at.twin = f.twin
		}
	}
	f.twin = nil
}

// startOver gives an open file whose content was replaced a new position at
// 0. The old one is looked for among copies.
func (t *Tailer) startOver(f *file, reason string) {
	if reason == reasonTruncated {
		t.n.Truncated++
	} else {
		t.n.Rewritten++
	}
	t.log.Info("file begins anew", zap.String("path", f.pos.Path), zap.Uint64("inode", f.pos.Ino),
		zap.Int64("offset", f.pos.Offset), zap.String("why", reason))
	old := &file{pos: f.pos, part: f.part, told: f.told, fd: -1, seen: f.seen, reason: reason}
	t.dropHead(f)
	f.pos = record.Position{ID: newID(), Path: old.pos.Path, Dev: old.pos.Dev, Ino: old.pos.Ino}
	f.part, f.told = cut{}, false
	f.seen, f.shrunk, f.mtime, f.ctime = 0, false, 0, 0
	f.ahead, f.ended, f.final = chunkBytes, false, false
	f.active = t.now
	t.tell(f)
	t.unbind(old)
	t.hasHead(old)
	t.want(old)
}

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
			n.copyOf, n.copyID = f, f.pos.ID
			n.pos.Size = st.Size
			n.copyTo = t.now + copyWait
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
	f := n.copyOf
	switch {
	case f.pos.ID != n.copyID || f.index < 0 && f.sought:
		n.copyOf = nil
		t.claim(n, st)
	case st.Size != n.pos.Size:
		n.pos.Size = st.Size
		n.copyTo = t.now + copyWait
		if !t.agreesSoFar(n, st.Size, f) {
			n.copyOf = nil
		}
	case t.now >= n.copyTo:
		n.copyOf = nil
	}
	if n.copyOf == nil {
		n.pos.Size = 0
	}
	return n.copyOf == nil
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
	n.seen = max(n.seen, n.pos.Offset)
	t.hasHead(n)
	t.tell(n)
	t.log.Info("file is the copy of one that was replaced", zap.String("path", path), zap.Int64("offset", n.pos.Offset))
}

// want has the content of a position without a file looked for.
func (t *Tailer) want(f *file) {
	f.gone = t.now
	f.sought = false
	if f.wanted == 0 {
		t.wanted = append(t.wanted, f)
		f.wanted = len(t.wanted)
	}
}

func (t *Tailer) unwant(f *file) {
	if f.wanted == 0 {
		return
	}
	n := len(t.wanted) - 1
	last := t.wanted[n]
	t.wanted[f.wanted-1], last.wanted = last, f.wanted
	t.wanted[n], f.wanted = nil, 0
	t.wanted = t.wanted[:n]
}

// settleWanted gives up what was looked for long enough: its unread bytes, as
// far as they are known, are lost. A scan that could not see everything says
// nothing.
func (t *Tailer) settleWanted() {
	for i := len(t.wanted) - 1; i >= 0; i-- {
		f := t.wanted[i]
		if t.now < f.gone+copyWait || t.failed || !f.sought {
			continue
		}
		t.unwant(f)
		t.dropHead(f)
		f.pos.Closed = t.wall.Unix()
		lost := f.unread()
		if f.reason != reasonDeleted || t.bound[f.key()] != nil {
			// The content is gone for good, the inode is another's.
			t.takeUnbound(f)
			f.pos.Forget = f.told
		}
		if lost > 0 {
			t.lose(f, f.pos.Offset, f.pos.Offset+lost, f.reason)
		} else {
			t.tell(f)
		}
	}
}

// forget takes positions off whose file was not seen for a day.
func (t *Tailer) forget() {
	for ino, fs := range t.unbound {
		for i := len(fs) - 1; i >= 0; i-- {
			f := fs[i]
			closed := time.Unix(f.pos.Closed, 0)
			if f.pos.Closed == 0 || t.wall.Sub(closed) < forgetWait {
				continue
			}
			var st unix.Stat_t
			err := stat(f.pos.Path, &st)
			there := err == nil && st.Ino == ino && t.bound[inode{st.Dev, st.Ino}] == nil
			if there || err != nil && !gone(err) {
				continue
			}
			t.drop(f)
		}
	}
}

// forgetClosed takes the positions off that were done with and whose inode
// another file has now: there is nothing that they could be found by.
func (t *Tailer) forgetClosed(st *unix.Stat_t) {
	fs := t.unbound[st.Ino]
	for i := len(fs) - 1; i >= 0; i-- {
		if f := fs[i]; f.pos.Closed != 0 && f.pos.Dev == st.Dev {
			t.drop(f)
		}
	}
}

// drop takes a position without a file off.
func (t *Tailer) drop(f *file) {
	t.takeUnbound(f)
	f.pos.Forget = true
	t.tell(f)
}

// gone reports whether an error says that there is nothing at a path, rather
// than that it cannot be seen.
func gone(err error) bool { return err == unix.ENOENT || err == unix.ENOTDIR }
