package tail

import (
	"path/filepath"
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
	reasonUnopened  = "deleted waiting for a descriptor"
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

// takeHead has the head known of what there is of f, open as fd, as long as
// nothing was taken of it. What was replaced since it had that size keeps the
// head it is found by.
func (t *Tailer) takeHead(f *file, fd int, size int64) {
	n, known := int(min(size, printBytes)), int(f.pos.Head.Len)
	if f.gz != nil || f.pos.Offset > 0 || n <= known {
		return
	}
	b := t.scratch[:n]
	if m, err := pread(fd, b, 0); err != nil || m < n || known > 0 && t.print(b[:known]) != f.pos.Head {
		return
	}
	f.pos.Head = t.print(b)
	f.look.sure = max(f.look.sure, size)
	t.hasHead(f)
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

// identify returns the file that was just opened as fd: one that is known, or
// a new one. It takes over the descriptor.
func (t *Tailer) identify(path string, fd int, st *unix.Stat_t) *file {
	k := inode{st.Dev, st.Ino}
	if f := t.bound[k]; f != nil {
		if f.fd >= 0 || t.o.Once {
			unix.Close(fd)
			return f
		}
		same := t.same(f, fd, path, st)
		if same || path == f.pos.Path {
			t.opened(f, fd)
			if !same {
				t.startOver(f, reasonRewritten)
			}
			return f
		}
		t.lostName(f) // another file has its inode
	}
	if zipped(path, fd, st) {
		return t.newGz(path, fd, st, false, false)
	}
	f := t.among(t.unbound[st.Ino], fd, path)
	if f == nil {
		if !t.started {
			t.replaced(path, st)
		} else {
			f = t.copyOfWanted(fd, path, st)
		}
	}
	if f != nil {
		if f.pos.Head.Len == 0 && !t.started {
			t.sinceLast(f.pos.Path) // what it got may have been truncated again
		}
		if f.pos.Head.Len == 0 && path != f.pos.Path {
			// It was empty: that another file has its inode, and a copy of what is
			// followed, is as likely.
			t.takeUnbound(f)
			f.pos.Path = path
			t.suspect(f, fd, st)
			t.tell(f)
		}
		t.bind(f, fd, st)
		return f
	}
	t.forgetClosed(st)
	f = &file{pos: record.Position{ID: newID(), Path: path}, fd: -1}
	f.pos.Head, _ = t.printAt(fd, int(min(st.Size, printBytes)), 0)
	aged := !t.o.Once && t.old(st)
	if !aged {
		t.suspect(f, fd, st)
	}
	t.bind(f, fd, st)
	if t.o.Once {
		return f
	}
	if aged && t.toEnd(f) {
		f.told = false // only its bytes are
		t.tell(f)
		return f
	}
	if f.copy.of == nil { // else it has no position of its own yet
		t.tell(f)
	}
	return f
}

// old reports whether a file was not written to for as long as files are to be
// ignored.
func (t *Tailer) old(st *unix.Stat_t) bool {
	return t.o.IgnoreOlder > 0 && t.wall.Sub(time.Unix(0, st.Mtim.Nano())) > t.o.IgnoreOlder
}

// among returns the file whose position the open one agrees with, that which
// is furthest, or of which most is known. One that was deleted does not come back: who has its inode and
// content is another.
func (t *Tailer) among(fs []*file, fd int, path string) (best *file) {
	for _, f := range fs {
		if f.pos.Deleted || best != nil && (f.pos.Offset < best.pos.Offset ||
			f.pos.Offset == best.pos.Offset && f.pos.Head.Len <= best.pos.Head.Len) {
			continue
		}
		if t.agrees(fd, path, &f.pos) {
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
			f.end.reason = reasonTruncated
		} else {
			t.n.Rewritten++
			f.end.reason = reasonRewritten
		}
	}
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
	old := &file{pos: f.pos, told: f.told, foreign: f.foreign, first: f.first, fd: -1}
	old.look = looking{size: f.look.size, sure: f.look.sure, mtime: f.look.mtime}
	t.resize(old, max(f.look.sure, f.pos.Offset)) // what it grew by since is of the new content
	old.end.reason = reason
	old.trail, f.trail = f.trail, nil
	t.dropHead(f)
	f.pos = record.Position{ID: newID(), Path: old.pos.Path, Dev: old.pos.Dev, Ino: old.pos.Ino}
	f.told, f.foreign, f.first, f.opens = false, 0, 0, nil
	f.look.size, f.look.sure, f.look.shrunk, f.look.mtime, f.look.ctime = 0, 0, false, 0, 0
	f.ahead, f.end.read, f.end.final = chunkBytes, false, false
	f.look.news = t.now
	t.tell(f)
	t.unbind(old)
	t.hasHead(old)
	t.want(old)
	t.emptied(f, old)
}
