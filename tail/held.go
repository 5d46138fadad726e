package tail

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sealtail/record"
)

// What is left of a deleted file is its descriptor. It outlives the Tailer where
// somebody else has a copy of it, from [Options.Hold] until the position is
// committed as closed, and comes back as [Options.Held].

// adoptAll takes over descriptors. A .gz takes the position of a file that is
// gone, so those that are not gone come first.
func (t *Tailer) adoptAll(fds []int) {
	var zips []int
	for _, fd := range fds {
		if strings.HasSuffix(linkOf(fd), ".gz") {
			zips = append(zips, fd)
		} else {
			t.adopt(fd)
		}
	}
	for _, fd := range zips {
		t.adopt(fd)
	}
}

// adopt takes over the descriptor of a deleted file that an earlier Tailer
// followed.
func (t *Tailer) adopt(fd int) {
	var st unix.Stat_t
	if err := fstat(fd, &st); err != nil {
		unix.Close(fd)
		return
	}
	path := linkOf(fd)
	if st.Nlink == 0 && st.Mode&unix.S_IFMT == unix.S_IFREG && zipped(path, fd, &st) {
		f := t.asGz(path)
		f.held, f.gz.back = true, true
		t.bindGz(f, fd, &st) // it is told once it is known what it is
		return
	}
	f := t.heldAs(fd, &st)
	if st.Nlink > 0 || st.Mode&unix.S_IFMT != unix.S_IFREG || f != nil && f.pos.Closed != 0 {
		unix.Close(fd)
		t.o.held(st.Dev, st.Ino, -1)
		return
	}
	if f == nil {
		f = &file{pos: record.Position{ID: newID(), Path: path}, fd: -1}
		f.pos.Head, _ = t.printAt(fd, int(min(st.Size, printBytes)), 0)
	}
	t.bind(f, fd, &st)
	f.held, f.pos.Deleted, f.end.gone = true, true, t.now
	t.tell(f)
}

// heldAs returns the file whose position an open deleted file agrees with: one
// that is not done with, and which is furthest, before others.
func (t *Tailer) heldAs(fd int, st *unix.Stat_t) (best *file) {
	for _, f := range t.unbound[st.Ino] {
		if f.pos.Dev != st.Dev || !t.agrees(fd, f.pos.Path, &f.pos) {
			continue
		}
		if best == nil || best.pos.Closed != 0 || f.pos.Closed == 0 && f.pos.Offset > best.pos.Offset {
			best = f
		}
	}
	return best
}

// linkOf returns the last path of an open deleted file, "" if it is not known.
func linkOf(fd int) string {
	p, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil || !strings.HasPrefix(p, "/") {
		return ""
	}
	return strings.TrimSuffix(p, " (deleted)")
}

// holds tells that a deleted file is held open.
func (t *Tailer) holds(f *file) {
	if !f.held && f.fd >= 0 && f.name.unlinked && f.name.count == 0 {
		f.held = true
		t.o.held(f.pos.Dev, f.pos.Ino, f.fd)
	}
}

// bequeath tells of all files that are open: any may be deleted before the next
// Tailer begins, which drops those that are not. Files with unread bytes come
// first, as whoever holds them may not have room for all.
func (t *Tailer) bequeath() {
	for _, unread := range []bool{true, false} {
		for _, f := range t.files {
			if !f.held && f.fd >= 0 && (f.unread() > 0) == unread {
				f.held = true
				t.o.held(f.pos.Dev, f.pos.Ino, f.fd)
			}
		}
	}
}

// letGo tells that nobody need hold it any more.
func (t *Tailer) letGo(f *file) {
	if f.held {
		f.held = false
		t.o.held(f.pos.Dev, f.pos.Ino, -1)
	}
}

func (o *Options) held(dev, ino uint64, fd int) {
	if o.Hold != nil {
		o.Hold(dev, ino, fd)
	}
}
