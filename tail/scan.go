package tail

import (
	"bytes"
	"encoding/binary"
	"path"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const maxDepth = 64 // directories below a pattern's base

// A dir is one directory that may hold files of the stream.
type dir struct {
	path   string
	up     *dir
	depth  int
	states []state
	subs   map[string]*dir
	names  map[string]*entry
	gen    uint32 // of the last listing; 0 = none yet
	seen   uint32 // listing of the directory above that had this one
	err    error  // of the last listing

	listed  time.Duration // when, and what it cost
	cost    time.Duration
	late    bool // in Tailer.late
	watched bool
	events  int           // hints since the time below
	since   time.Duration // …
	noisy   time.Duration // when it was unwatched because of too many hints; 0 = never
	stamp   int64         // while noisy: its mtime as of the last look, unix ns
	stamped int64         // when that was
	looked  time.Duration // next look at its files
}

// root adds the directory where a pattern begins.
func (t *Tailer) root(p pattern) {
	d := t.dirs[p.base]
	if d == nil {
		d = t.newDir(p.base, nil, nil)
		t.roots = append(t.roots, d)
	}
	d.states = states(append(d.states, p.rest))
}

func (t *Tailer) newDir(p string, up *dir, ss []state) *dir {
	d := &dir{path: p, up: up, states: ss, subs: map[string]*dir{}, names: map[string]*entry{}}
	if up != nil {
		d.depth = up.depth + 1
	}
	t.dirs[p] = d
	return d
}

// scan lists all directories and opens what is new in them.
func (t *Tailer) scan() {
	t.scans++
	t.n.Scans++
	t.failed = false
	for _, d := range t.roots {
		t.scanDir(d, true)
	}
	t.settle()
}

// relist lists one directory because of a hint, but not more often than it is
// worth.
func (t *Tailer) relist(d *dir) {
	const least = 10 * time.Millisecond
	if due := d.listed + least + 10*d.cost; t.now < due {
		if !d.late {
			d.late = true
			t.late = append(t.late, d)
		}
		t.nextHot = min(t.nextHot, due)
		return
	}
	t.scanDir(d, false)
	t.settle()
}

// scanDir lists one directory; deep goes on to those below it, which new ones
// get in any case. A directory that cannot be listed says nothing of its files.
func (t *Tailer) scanDir(d *dir, deep bool) {
	t.turns()
	start := time.Now()
	d.gen++
	d.listed = t.now
	err := t.listDir(d, t.scans%verifyEach == 0)
	switch {
	case err == nil:
		for name, e := range d.names {
			if e.gen != d.gen {
				t.detach(e)
				t.unname(d, name, e)
				delete(d.names, name)
			}
		}
		for name, s := range d.subs {
			if s.seen != d.gen {
				t.dropDir(s)
				delete(d.subs, name)
			}
		}
		t.watchDir(d)
	case gone(err):
		t.empty(d)
	default:
		t.n.ScanErrors++
		t.closed[d.path] = err
		t.failed = t.failed || err != unix.EACCES && err != unix.EPERM
		if d.err == nil || d.err.Error() != err.Error() {
			t.log.Warn("directory cannot be listed, trying again", zap.String("path", d.path), zap.Error(err))
		}
	}
	if d.err != nil && (err == nil || gone(err)) {
		delete(t.closed, d.path)
	}
	d.err = err
	d.cost = time.Since(start)
	for _, s := range d.subs {
		if deep || s.gen == 0 {
			t.scanDir(s, true)
		}
	}
}

// empty takes everything off a directory that is not there.
func (t *Tailer) empty(d *dir) {
	for name, e := range d.names {
		t.detach(e)
		t.unname(d, name, e)
	}
	for _, s := range d.subs {
		t.dropDir(s)
	}
	clear(d.names)
	clear(d.subs)
	t.unwatchDir(d)
}

// unname takes a name off those that cannot be read.
func (t *Tailer) unname(d *dir, name string, e *entry) {
	if e.refused {
		delete(t.closed, path.Join(d.path, name))
	}
}

// dropDir forgets a directory that lost its name.
func (t *Tailer) dropDir(d *dir) {
	t.empty(d)
	delete(t.closed, d.path)
	if t.dirs[d.path] == d {
		delete(t.dirs, d.path)
	}
}

// listDir goes through the names of d. Where the patterns name each one, they
// are asked for one by one: the directory may hold many others.
func (t *Tailer) listDir(d *dir, verify bool) error {
	if slices.ContainsFunc(d.states, func(s state) bool { return isGlob(s[0]) }) {
		return t.list(d.path, func(fd int, name []byte, ino uint64, kind uint8) {
			t.name(d, fd, name, ino, kind, verify)
		})
	}
	fd, err := openDir(d.path, unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, s := range d.states {
		var st unix.Stat_t
		err := fstatat(fd, s[0], &st, unix.AT_SYMLINK_NOFOLLOW)
		switch {
		case err == nil:
			t.name(d, fd, []byte(s[0]), st.Ino, uint8(st.Mode&unix.S_IFMT>>12), true)
		case !gone(err):
			return err
		}
	}
	return nil
}

// list calls each for every name in a directory but . and .. with the open
// directory, and what it says of the name's inode and kind. name is valid
// until each returns.
func (t *Tailer) list(path string, each func(fd int, name []byte, ino uint64, kind uint8)) error {
	fd, err := openDir(path, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for {
		n, err := unix.ReadDirent(fd, t.dirents)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			return nil
		}
		for b := t.dirents[:n]; len(b) > 0; {
			// linux_dirent64: u64 inode ‖ i64 offset ‖ u16 length ‖ u8 kind ‖ name ‖ NUL
			e := b[:binary.NativeEndian.Uint16(b[16:])]
			b = b[len(e):]
			name := e[19:]
			name = name[:bytes.IndexByte(name, 0)]
			if s := string(name); s == "." || s == ".." {
				continue
			}
			each(fd, name, binary.NativeEndian.Uint64(e), e[18])
		}
	}
}

// sub adds the directory n of d if files below it can be meant. It is listed
// once d is.
func (t *Tailer) sub(d *dir, n string) {
	ss := step(d.states, n)
	p := path.Join(d.path, n)
	if len(ss) == 0 || d.depth >= maxDepth || t.pruned(p) {
		return
	}
	s := t.newDir(p, d, ss)
	s.seen = d.gen
	d.subs[n] = s
}

// loops reports whether a link in d leads to d or to a directory above it.
func (t *Tailer) loops(d *dir, to *unix.Stat_t) bool {
	for ; d != nil; d = d.up {
		var st unix.Stat_t
		if stat(d.path, &st) != nil || st.Dev == to.Dev && st.Ino == to.Ino {
			return true
		}
	}
	return false
}
