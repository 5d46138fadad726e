package tail

import (
	"golang.org/x/sys/unix"
)

// look asks the file for its size and times and queues it when they are news.
func (t *Tailer) look(f *file) {
	var st unix.Stat_t
	if f.fd < 0 {
		t.lookClosed(f, &st)
		return
	}
	if err := fstat(f.fd, &st); err != nil {
		t.failedRead(f, err)
		return
	}
	if f.gz != nil && !t.lookGz(f, &st) {
		f.look.disk, f.name.unlinked = st.Blocks*512, st.Nlink == 0
		return
	}
	t.note(f, &st)
	t.grown(f)
	if f.queued {
		t.verify(f, &st)
		return
	}
	if f.copy.of != nil && !t.copied(f, &st) {
		return
	}
	if st.Size == f.pos.Size && st.Mtim.Nano() == f.look.mtime && st.Ctim.Nano() == f.look.ctime && f.end.broken == nil &&
		(f.gz == nil || f.end.read) {
		f.look.every = min(t.o.Poll, 2*f.look.every)
		f.look.due = t.now + f.look.every
		if t.overdue(f) {
			t.enqueue(f)
		}
		return
	}
	if st.Size != f.pos.Size || st.Mtim.Nano() != f.look.mtime {
		if f.gz == nil && st.Size == 0 && f.pos.Size == 0 && f.look.mtime != 0 {
			t.after(f.pos.Path, f.look.mtime) // it was written to and truncated between two looks
		}
		f.look.news = t.now
		f.look.every = max(minLook, f.look.every/4)
	}
	t.enqueue(f)
	t.verify(f, &st)
}

// lookClosed has a file opened again that was closed to save descriptors and
// has changed. A path that leads elsewhere is for the scan to settle.
func (t *Tailer) lookClosed(f *file, st *unix.Stat_t) {
	if f.name.at == nil || stat(f.pos.Path, st) != nil || (inode{st.Dev, st.Ino}) != f.key() {
		return
	}
	if st.Size == f.pos.Size && st.Mtim.Nano() == f.look.mtime && st.Ctim.Nano() == f.look.ctime && !t.overdue(f) {
		return
	}
	if f.gz != nil {
		if g := f.gz; st.Size != g.of.Size || st.Mtim != g.of.Mtim || !f.end.read {
			t.await(f)
		}
		return
	}
	t.note(f, st)
	t.grown(f)
	t.await(f)
	t.verify(f, st)
}

// verify has a file begin anew whose content was replaced, while nobody takes
// chunks or it waits for a descriptor: it may be rotated away before it is read.
// Of one that nothing was taken of it keeps what it is known by.
func (t *Tailer) verify(f *file, st *unix.Stat_t) {
	if !t.blocked && (f.fd >= 0 || f.pos.Offset > 0) || f.gz != nil || f.look.verified == st.Mtim.Nano() && f.look.as == st.Size {
		return
	}
	f.look.verified, f.look.as = st.Mtim.Nano(), st.Size
	fd := f.fd
	if fd < 0 {
		var err error
		if fd, err = t.open(f.pos.Path, st); err != nil {
			return
		}
		defer unix.Close(fd)
		if (inode{st.Dev, st.Ino}) != f.key() {
			return
		}
	}
	if st.Size < f.least() && f.fd >= 0 && !t.shorter(f, st) {
		f.look.verified = 0
		return
	}
	if t.agrees(fd, f.pos.Path, &f.pos) {
		f.look.sure = max(f.look.sure, st.Size)
		t.takeHead(f, fd, st.Size)
		return
	}
	if f.look.shrunk {
		t.startOver(f, reasonTruncated)
	} else {
		t.startOver(f, reasonRewritten)
	}
	t.note(f, st)
	f.look.sure = st.Size
	f.pos.Head, _ = t.printAt(fd, int(min(st.Size, printBytes)), 0)
	t.hasHead(f)
}
