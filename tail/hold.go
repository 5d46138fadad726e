package tail

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// lostName is called when the last name of a file is gone: it was deleted,
// replaced or moved to where the patterns do not reach.
func (t *Tailer) lostName(f *file) {
	f.gone = t.now
	f.at = nil
	if f.fd < 0 {
		// It may have been written to after it was closed.
		t.release(f)
		t.unbind(f)
		f.reason = reasonDeleted
		t.want(f)
		return
	}
	var st unix.Stat_t
	if fstat(f.fd, &st) == nil {
		f.note(&st)
		t.verify(f, &st)
	}
	if !f.unlinked {
		if p, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(f.fd)); err == nil && strings.HasPrefix(p, "/") {
			f.pos.Path = p
		}
	}
	f.pos.Deleted = f.unlinked
	f.copyOf = nil
	t.enqueue(f)
	t.tell(f)
}

// settleGone lets go of files without a name that are read and quiet. What is
// left of a deleted one then ends its last line.
func (t *Tailer) settleGone() {
	for i := len(t.files) - 1; i >= 0; i-- {
		f := t.files[i]
		if f.names > 0 || f.fd < 0 {
			continue
		}
		if f.limit > 0 && t.now >= f.limit && (f.ended || f.pos.Offset >= f.stop) {
			t.finish(f)
			continue
		}
		if f.queued || !f.ended || t.now < max(f.active, f.gone)+t.o.RotateWait {
			continue
		}
		if f.unlinked && f.unread() > 0 && !f.final {
			f.final = true
			t.enqueue(f)
			continue
		}
		t.finish(f)
	}
}

// finish closes a file that is not followed any more.
func (t *Tailer) finish(f *file) {
	f.pos.Closed = t.wall.Unix()
	f.pos.Deleted = f.unlinked
	t.release(f)
	t.dropHead(f)
	if !f.told {
		return
	}
	t.unbind(f)
	t.tell(f)
}

// hold lets deleted files go while they take more of the disk than they may:
// first those that are read, then the oldest.
func (t *Tailer) hold() {
	var held []*file
	t.n.HeldBytes = 0
	for _, f := range t.files {
		if f.names == 0 && f.unlinked && f.fd >= 0 {
			held = append(held, f)
			t.n.HeldBytes += f.disk
		}
	}
	if len(held) == 0 {
		return
	}
	slices.SortStableFunc(held, func(a, b *file) int {
		if a, b := a.unread() > 0, b.unread() > 0; a != b {
			if a {
				return 1
			}
			return -1
		}
		return int(a.gone - b.gone)
	})
	full := map[uint64]bool{} // devices below their floor
	for _, f := range held {
		if _, known := full[f.pos.Dev]; !known {
			full[f.pos.Dev] = t.below(f)
		}
		over := t.o.HoldMaxBytes > 0 && t.n.HeldBytes > t.o.HoldMaxBytes
		if !over && !full[f.pos.Dev] {
			continue
		}
		delete(full, f.pos.Dev)
		t.n.HeldBytes -= f.disk
		if lost := f.unread(); lost > 0 {
			t.log.Error("deleted file let go, its unread bytes are lost", zap.String("path", f.pos.Path),
				zap.Uint64("inode", f.pos.Ino), zap.Int64("bytes", lost))
			to := f.seen
			t.finish(f)
			t.lose(f, f.pos.Offset, to, reasonHeld)
			continue
		}
		t.finish(f)
	}
}

// below reports whether the disk of an open file has less free space than it
// must.
func (t *Tailer) below(f *file) bool {
	if t.o.HoldMinFree < 0 {
		return false
	}
	free, ok := t.free(f.fd)
	return ok && free < t.o.HoldMinFree
}

// statfsFree returns the share of free blocks.
func statfsFree(fd int) (float64, bool) {
	var fs unix.Statfs_t
	if err := again(func() error { return unix.Fstatfs(fd, &fs) }); err != nil || fs.Blocks == 0 {
		return 0, false
	}
	return float64(fs.Bavail) / float64(fs.Blocks), true
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
		if f.sought {
			continue
		}
		f.sought = true
		fs = append(fs, f)
		inos[f.pos.Ino] = true
		dir, base := filepath.Split(f.pos.Path)
		dir = filepath.Clean(dir)
		stems := dirs[dir]
		if stem := strings.TrimSuffix(base, filepath.Ext(base)); stem != "" {
			base = stem
		}
		if f.pos.Offset >= printBytes && !slices.Contains(stems, base) {
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
	for dir, stems := range dirs {
		if err := t.seekIn(dir, inos, stems); err != nil && !gone(err) {
			for _, f := range fs {
				// Nothing is said of those that were here.
				f.sought = f.sought && filepath.Dir(f.pos.Path) != dir
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

// tryWanted opens a file and binds the wanted position that it agrees with. A
// file that cannot be opened now is tried again.
func (t *Tailer) tryWanted(path string) {
	var st unix.Stat_t
	if stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || t.bound[inode{st.Dev, st.Ino}] != nil {
		return
	}
	fd, err := t.open(path, &st)
	if err != nil {
		for _, f := range t.unbound[st.Ino] {
			f.sought = f.sought && gone(err)
		}
		return
	}
	if t.bound[inode{st.Dev, st.Ino}] != nil {
		unix.Close(fd)
		return
	}
	var same []*file
	for _, f := range t.unbound[st.Ino] {
		if f.wanted > 0 {
			same = append(same, f)
		}
	}
	f := t.among(same, fd, path)
	if f == nil {
		f = t.copyOfWanted(fd, &st)
	}
	if f == nil {
		unix.Close(fd)
		return
	}
	own := f.pos.Path == path
	f.pos.Path = path
	t.bind(f, fd, &st)
	f.gone = t.now
	if !t.matches(path) {
		// Rotated and not finished, or no longer meant: what it has is read,
		// and what is written soon. Of the first more is read when it has grown.
		f.limit = t.now + t.o.RotateWait
		f.barred = own
	}
	t.tell(f)
	t.log.Info("file found again", zap.String("path", path), zap.Int64("offset", f.pos.Offset))
}

// revisit opens files again that lost their name to the patterns, were done
// with, and have grown.
func (t *Tailer) revisit() {
	var grown []*file
	for _, fs := range t.unbound {
		for _, f := range fs {
			var st unix.Stat_t
			if f.pos.Closed == 0 || f.pos.Deleted || f.barred || f.pos.Forget || f.mtime == 0 {
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
		if st.Ino != f.pos.Ino || !t.agrees(fd, f.pos.Path, &f.pos) {
			unix.Close(fd)
			continue
		}
		t.bind(f, fd, &st)
		f.gone = t.now
	}
}
