package tail

import (
	"path"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// refusedWait is how long a file that cannot be opened is tried each Poll, and
// then the most between two tries.
const refusedWait = 30 * time.Second

// An entry is one name in a directory that the stream takes. What the
// directory says of its inode is believed as long as it does not change.
type entry struct {
	ino     uint64
	kind    uint8
	gen     uint32
	file    *file
	refused bool          // no regular file, or not to be opened: told once
	since   time.Duration // … then
	retry   time.Duration // not opened before
	wait    time.Duration
}

// name takes one name of a directory: nothing, when all is as it was.
func (t *Tailer) name(d *dir, fd int, name []byte, ino uint64, kind uint8, verify bool) {
	if e := d.names[string(name)]; e != nil {
		e.gen = d.gen
		if kind != unix.DT_REG || e.kind != kind || e.ino != ino || e.file == nil || e.file.name.at == nil || verify {
			t.enter(d, fd, string(name), e, ino, kind)
		}
		return
	}
	if s := d.subs[string(name)]; s != nil && kind != unix.DT_REG && s.err != unix.ENOTDIR {
		s.seen = d.gen
		return
	}
	n := string(name)
	if kind == unix.DT_DIR {
		t.sub(d, n)
		return
	}
	file := matches(d.states, n) && !t.excluded(path.Join(d.path, n))
	if kind == unix.DT_LNK || kind == unix.DT_UNKNOWN {
		if !file && len(step(d.states, n)) == 0 {
			return
		}
		var st unix.Stat_t
		if fstatat(fd, n, &st, 0) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			if !t.loops(d, &st) {
				t.sub(d, n)
			}
			return
		}
	}
	if file {
		e := &entry{gen: d.gen}
		d.names[n] = e
		t.enter(d, fd, n, e, ino, kind)
	}
}

// enter finds out which file the name n of d stands for now.
func (t *Tailer) enter(d *dir, dirfd int, n string, e *entry, ino uint64, kind uint8) {
	var st unix.Stat_t
	err := fstatat(dirfd, n, &st, 0)
	p := path.Join(d.path, n)
	switch {
	case err != nil && gone(err):
		t.detach(e)
		t.unname(d, n, e)
		return
	case err != nil:
		t.refuse(e, p, err)
		return
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		t.detach(e)
		t.unname(d, n, e)
		t.refuse(e, p, errKind)
		return
	}
	k := inode{st.Dev, st.Ino}
	f := e.file
	if f == nil || f.key() != k {
		if f = t.bound[k]; f == nil || f.fd < 0 {
			if t.now < e.retry {
				return
			}
			f = t.admit(p, &st, e)
		}
	}
	if f == nil {
		return
	}
	if e.refused {
		delete(t.closed, p)
	}
	e.kind, e.refused, e.wait = kind, false, 0
	switch {
	case f != e.file:
		t.detach(e)
		t.attach(e, f, p)
		t.succeed(f, p)
		if t.o.Format == "cri" && !t.o.Once && f.pos.Offset == 0 && f.gz == nil {
			t.unseen = append(t.unseen, f)
		}
	case f.name.at == nil:
		f.name.count--
		t.attach(e, f, p)
	}
	e.ino = ino
}

// admit opens a file that a name was found for.
func (t *Tailer) admit(p string, st *unix.Stat_t, e *entry) *file {
	t.turns()
	fd, err := t.open(p, st)
	if err != nil {
		t.refuse(e, p, err)
		return nil
	}
	t.n.Opened++
	return t.identify(p, fd, st)
}

// refuse leaves a file that cannot be opened for later, and says so once.
func (t *Tailer) refuse(e *entry, p string, err error) {
	if gone(err) {
		return
	}
	if err != errKind {
		t.n.OpenErrors++
	}
	if !e.refused {
		e.refused, e.since = true, t.now
		t.log.Warn("file cannot be followed, trying again", zap.String("path", p), zap.Error(err))
	}
	if err != errKind {
		t.closed[p] = err
	}
	if err == unix.EMFILE || err == unix.ENFILE {
		return // tried at each scan: others may close theirs
	}
	// Who creates a file may give it its owner and mode a moment later.
	if e.wait = min(max(2*e.wait, t.o.Poll), refusedWait); t.now < e.since+refusedWait {
		e.wait = t.o.Poll
	}
	e.retry = t.now + e.wait
}

// attach says that e names f.
func (t *Tailer) attach(e *entry, f *file, p string) {
	e.file = f
	f.name.count++
	if f.name.at != nil {
		f.name.alt, f.name.altPath = e, p
		return
	}
	f.name.at, f.end.gone, f.end.limit, f.end.barred = e, 0, 0, false
	if f.pos.Path != p {
		f.pos.Path = p
		t.renamed = append(t.renamed, f)
		if f.told {
			t.tell(f)
		}
	}
}

// detach says that e names nothing. What that means for its file is settled
// after the scan, which may find it under another name.
func (t *Tailer) detach(e *entry) {
	f := e.file
	if f == nil {
		return
	}
	e.file, e.ino = nil, 0
	f.name.count--
	if f.name.at == e {
		f.name.at = nil
		t.vacate(f)
	}
	if f.name.alt == e {
		f.name.alt, f.name.altPath = nil, ""
	}
	if !f.name.touched {
		f.name.touched = true
		t.touched = append(t.touched, f)
	}
}

// settle says what became of the files that lost a name in a scan.
func (t *Tailer) settle() {
	t.chain()
	for _, f := range t.touched {
		f.name.touched = false
		switch {
		case f.index < 0 || f.name.at != nil:
		case f.name.count == 0:
			t.lostName(f)
		case f.name.alt != nil:
			e, p := f.name.alt, f.name.altPath
			f.name.count--
			f.name.alt, f.name.altPath = nil, ""
			t.attach(e, f, p)
		}
	}
	t.touched = t.touched[:0]
	for _, f := range t.renamed {
		if f.index >= 0 && f.fd < 0 {
			t.look(f) // the rest of what was written under the old name
		}
	}
	t.renamed = t.renamed[:0]
}
