package tail

import (
	"path/filepath"
	"slices"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"sealtail/record"
)

// want has the content of a position without a file looked for.
func (t *Tailer) want(f *file) {
	f.end.gone = t.now
	f.end.sought = false
	if f.wanted == 0 {
		t.wanted = append(t.wanted, f)
		f.wanted = len(t.wanted)
		t.wantedAt[f.pos.Path] = append(t.wantedAt[f.pos.Path], f)
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
	at := t.wantedAt[f.pos.Path]
	if i := slices.Index(at, f); i >= 0 {
		if at = slices.Delete(at, i, i+1); len(at) == 0 {
			delete(t.wantedAt, f.pos.Path)
		} else {
			t.wantedAt[f.pos.Path] = at
		}
	}
}

// seek looks for the files of wanted positions in all directories that are
// known, and in those where they were last: a rotated file that the patterns do
// not match is known by its inode, a copy beside it by its content.
func (t *Tailer) seek() {
	dirs := map[string][]string{} // → beginnings of the names that copies have
	inos := map[uint64]bool{}
	add := func(dir string) {
		if _, known := dirs[dir]; !known {
			dirs[dir] = nil
		}
	}
	var fs []*file
	for _, f := range t.wanted {
		if f.end.sought {
			continue
		}
		f.end.sought = true
		fs = append(fs, f)
		inos[f.pos.Ino] = true
		dir, base := filepath.Split(f.pos.Path)
		dir = filepath.Clean(dir)
		stems := dirs[dir]
		if stem := strings.TrimSuffix(base, filepath.Ext(base)); stem != "" {
			base = stem
		}
		if f.pos.Head.Len > 0 && !slices.Contains(stems, base) {
			stems = append(stems, base)
		}
		dirs[dir] = stems
		if p, err := filepath.EvalSymlinks(f.pos.Path); err == nil {
			add(filepath.Dir(p))
		}
	}
	if len(fs) == 0 {
		return
	}
	for dir := range t.dirs {
		add(dir)
	}
	for _, p := range t.rotatedPaths() {
		if slices.ContainsFunc(fs, func(f *file) bool { return strings.HasPrefix(filepath.Base(p), stem(f.pos.Path)) }) {
			t.tryWanted(p)
		}
	}
	for dir, stems := range dirs {
		if err := t.seekIn(dir, inos, stems); err != nil && !gone(err) {
			for _, f := range fs {
				// Nothing is said of those that were here.
				f.end.sought = f.end.sought && filepath.Dir(f.pos.Path) != dir
			}
		}
	}
}

// seekIn tries the files of one directory that have a wanted inode, or a name
// that a copy may have.
func (t *Tailer) seekIn(dir string, inos map[uint64]bool, stems []string) error {
	const mostCopies = 64
	stems = stems[:min(len(stems), mostCopies)]
	return t.list(dir, func(_ int, name []byte, ino uint64, kind uint8) {
		if kind != unix.DT_REG && kind != unix.DT_UNKNOWN {
			return
		}
		n := string(name)
		if inos[ino] || slices.ContainsFunc(stems, func(s string) bool { return strings.HasPrefix(n, s) }) {
			t.tryWanted(filepath.Join(dir, n))
		}
	})
}

// follows reports whether the file at path is followed. One that has neither a
// name nor a descriptor may be gone, and another have its inode.
func (t *Tailer) follows(path string, st *unix.Stat_t) bool {
	f := t.bound[inode{st.Dev, st.Ino}]
	if f == nil || f.fd >= 0 || f.name.count > 0 || path == f.pos.Path {
		return f != nil
	}
	var now unix.Stat_t
	fd, err := t.open(path, &now)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	if (inode{now.Dev, now.Ino}) != f.key() || t.same(f, fd, path, &now) {
		return true
	}
	t.lostName(f)
	return false
}

// tryWanted opens a file and binds the wanted position that it agrees with. A
// file that cannot be opened now is tried again.
func (t *Tailer) tryWanted(path string) {
	var st unix.Stat_t
	if stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || t.follows(path, &st) {
		return
	}
	fd, err := t.open(path, &st)
	if err != nil {
		for _, f := range t.unbound[st.Ino] {
			f.end.sought = f.end.sought && gone(err)
		}
		return
	}
	if t.bound[inode{st.Dev, st.Ino}] != nil {
		unix.Close(fd)
		return
	}
	if zipped(path, fd, &st) {
		t.newGz(path, fd, &st, true, false)
		return
	}
	var same []*file
	for _, f := range t.unbound[st.Ino] {
		if f.wanted > 0 {
			same = append(same, f)
		}
	}
	f := t.among(same, fd, path)
	if f == nil || f.pos.Head.Len == 0 { // an empty one may be any
		if c := t.copyOfWanted(fd, path, &st); c != nil {
			f = c
		}
	}
	known := t.among(t.unbound[st.Ino], fd, path)
	if f != nil && f.pos.Head.Len == 0 && known != nil && known.pos.Head.Len > 0 {
		f = nil // and one that is done with is known better
	}
	own := f != nil && f.pos.Path == path
	if f == nil && known == nil {
		// One that ends before the position is to be known, so that it is not taken
		// for one that was rotated before anybody saw it.
		if n := (&file{pos: record.Position{ID: newID(), Path: path}, fd: -1}); t.taken(n, fd, &st) {
			f = n
		}
	}
	if f == nil {
		unix.Close(fd)
		return
	}
	t.unwant(f)
	if f.pos.Path != path {
		t.afterBoth(f.pos.Path, st.Mtim.Nano())
	}
	f.pos.Path = path
	t.bind(f, fd, &st)
	f.end.gone = t.now
	if !t.matches(path) {
		// Rotated and not finished, or no longer meant: what it has is read,
		// and what is written soon. Of the first more is read when it has grown.
		f.end.limit = t.now + t.o.RotateWait
		f.end.barred = own
	}
	t.tell(f)
	t.log.Info("file found again", zap.String("path", path), zap.Int64("offset", f.pos.Offset))
}

// settleWanted gives up what was looked for long enough: its unread bytes, as
// far as they are known, are lost. A scan that could not see everything says
// nothing.
func (t *Tailer) settleWanted() {
	if len(t.wanted) == 0 {
		return
	}
	copies := map[uint64]bool{} // that another file may have the content of
	for _, f := range t.files {
		if f.copy.of != nil {
			copies[f.copy.id] = true
		}
	}
	for i := len(t.wanted) - 1; i >= 0; i-- {
		f := t.wanted[i]
		if t.now < f.end.gone+copyWait || t.failed || !f.end.sought || t.pending(f) || copies[f.pos.ID] {
			continue
		}
		t.unwant(f)
		t.dropHead(f)
		t.sinceLast(f.pos.Path)
		f.pos.Closed = t.wall.Unix()
		lost := f.unread()
		if f.end.reason != reasonDeleted && f.end.reason != reasonUnopened || t.bound[f.key()] != nil {
			// The content is gone for good, the inode is another's.
			t.takeUnbound(f)
			f.pos.Forget = f.told
		}
		if lost > 0 {
			t.lose(f, f.pos.Offset, f.pos.Offset+lost, f.end.reason)
		} else {
			t.tell(f)
		}
	}
}

// revisit opens files again that lost their name to the patterns, were done
// with, and have grown. Who has the inode of one that was empty may be another
// file, which is known better.
func (t *Tailer) revisit() {
	var grown []*file
	for _, fs := range t.unbound {
		for _, f := range fs {
			var st unix.Stat_t
			if f.pos.Closed == 0 || f.pos.Deleted || f.end.barred || f.pos.Forget || f.look.mtime == 0 || f.gz != nil {
				continue
			}
			if stat(f.pos.Path, &st) == nil && st.Ino == f.pos.Ino && st.Size > f.pos.Size && t.bound[inode{st.Dev, st.Ino}] == nil {
				grown = append(grown, f)
			}
		}
	}
	for _, f := range grown {
		var st unix.Stat_t
		fd, err := t.open(f.pos.Path, &st)
		if err != nil {
			continue
		}
		if st.Ino != f.pos.Ino || t.among(t.unbound[st.Ino], fd, f.pos.Path) != f {
			unix.Close(fd)
			continue
		}
		t.bind(f, fd, &st)
		f.end.gone = t.now
	}
}
