package tail

import (
	"slices"

	"golang.org/x/sys/unix"
)

// Descriptors are few. A file for which there is none is known all the same:
// it was opened once to be identified, and waits in line to be opened again.
// Whoever is read to its end makes room for the one that waits longest.

// SetMaxOpen changes [Options.MaxOpen], also while Run runs.
func (t *Tailer) SetMaxOpen(n int) { t.mostOpen.Store(int64(n)) }

// limitOpen takes over what SetMaxOpen said, and closes files that are read to
// their end if there are more open now than may be.
func (t *Tailer) limitOpen() {
	n := int(t.mostOpen.Load())
	if n == t.o.MaxOpen {
		return
	}
	t.o.MaxOpen = n
	for _, f := range t.files {
		if t.n.Open > int64(n) && f.idle() && f.name.count > 0 {
			t.shut(f)
		}
	}
}

// opened takes a descriptor that t.open returned, if there is room. That of a
// deleted file is taken: it could not be opened again.
func (t *Tailer) opened(f *file, fd int) {
	if !f.name.unlinked && (!t.waiting.empty() || !t.room()) {
		unix.Close(fd)
		t.await(f)
		return
	}
	t.keep(f, fd)
}

func (t *Tailer) keep(f *file, fd int) {
	f.fd = fd
	f.end.read = false
	f.look.news = t.now
	t.n.Open++
	if f.gz != nil && f.undecided() {
		t.look(f) // small ones are decided at once
		return
	}
	t.enqueue(f)
}

// shut closes the descriptor; the position stays.
func (t *Tailer) shut(f *file) {
	if f.fd >= 0 {
		unix.Close(f.fd)
		f.fd = -1
		t.n.Open--
		f.gz.close()
	}
}

// await has the file opened in its turn.
func (t *Tailer) await(f *file) {
	if !f.waits {
		f.waits = true
		t.waiting.push(f)
	}
}

// serve opens files that wait while descriptors are free.
func (t *Tailer) serve() {
	for t.n.Open < int64(t.o.MaxOpen) && !t.waiting.empty() {
		f := t.waiting.pop()
		f.waits = false
		if f.index >= 0 && f.fd < 0 {
			t.reopen(f)
		}
	}
}

// reopen opens a file that was closed to save descriptors. If its path leads
// elsewhere the scan says where it went; one without a name is looked for.
func (t *Tailer) reopen(f *file) {
	var st unix.Stat_t
	fd, err := t.open(f.pos.Path, &st)
	if err == nil && (inode{st.Dev, st.Ino}) == f.key() {
		same := t.same(f, fd, f.pos.Path, &st)
		t.keep(f, fd)
		if !same {
			t.startOver(f, reasonRewritten)
		}
		if f.pos.Offset == 0 {
			t.suspect(f, f.fd, &st)
		}
		return
	}
	if err == nil {
		unix.Close(fd)
	}
	switch {
	case f.name.count == 0:
		t.lostName(f)
	case err != nil && !gone(err) && !t.o.Once:
		t.failedRead(f, err)
	}
}

// same reports whether a file that was closed is what it was. Of one that
// something was taken of the next read tells, unless it has another name.
func (t *Tailer) same(f *file, fd int, path string, st *unix.Stat_t) bool {
	if z := zipped(path, fd, st); z || f.gz != nil {
		return z == (f.gz != nil)
	}
	return f.pos.Offset > 0 && path == f.pos.Path || t.agrees(fd, path, &f.pos)
}

// yield closes a file that was read to its end if others wait, or always with
// Once. A deleted one could not be opened again.
func (t *Tailer) yield(f *file) {
	if (t.o.Once || !t.waiting.empty()) && f.idle() && (!f.name.unlinked || f.end.final) {
		t.leave(f)
	}
}

// leave closes an idle file. One without a name is done with.
func (t *Tailer) leave(f *file) {
	if f.name.count > 0 {
		t.shut(f)
	} else {
		t.finish(f)
	}
}

// room reports whether one more descriptor may be opened, closing files that
// are read to their end if it must: those that were quiet for longest, and
// deleted ones, which may still be written to, only if there are no others.
// Files with unread bytes are not closed.
func (t *Tailer) room() bool {
	if t.n.Open < int64(t.o.MaxOpen) {
		return true
	}
	var idle, deleted []*file
	for _, f := range t.files {
		switch {
		case !f.idle():
		case f.name.count > 0 || !f.name.unlinked:
			idle = append(idle, f)
		default:
			deleted = append(deleted, f)
		}
	}
	if len(idle) == 0 {
		idle = deleted
	}
	slices.SortFunc(idle, func(a, b *file) int { return int(a.look.news - b.look.news) })
	for _, f := range idle[:min(len(idle), 1+t.o.MaxOpen/8)] {
		if f.name.count == 0 && f.name.unlinked && f.unfinished() {
			f.end.final = true // closed once the rest is read
			t.enqueue(f)
			continue
		}
		t.leave(f)
	}
	return t.n.Open < int64(t.o.MaxOpen)
}
