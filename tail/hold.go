package tail

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lostName is called when the last name of a file is gone: it was deleted,
// replaced or moved to where the patterns do not reach.
func (t *Tailer) lostName(f *file) {
	f.end.gone = t.now
	f.name.at = nil
	if f.gz != nil && f.undecided() && f.fd < 0 {
		t.abandon(f)
		return
	}
	if f.fd < 0 {
		// It may have been written to after it was closed, to save descriptors.
		f.end.reason = reasonUnopened
		if f.end.broken != nil {
			f.end.reason = reasonDeleted
		}
		t.release(f)
		t.unbind(f)
		t.want(f)
		t.find(f)
		return
	}
	var st unix.Stat_t
	if t.fstat(f, &st) == nil {
		t.note(f, &st)
		t.verify(f, &st)
	}
	if !f.name.unlinked {
		if p, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(f.fd)); err == nil && strings.HasPrefix(p, "/") {
			t.after(f.pos.Path, st.Mtim.Nano())
			f.pos.Path = p
		}
	} else {
		t.after(f.pos.Path, st.Mtim.Nano())
	}
	f.pos.Deleted = f.name.unlinked
	t.holds(f)
	t.enqueue(f)
	t.tell(f)
}

// settleGone lets go of files without a name that are read and quiet. What is
// left of a deleted one then ends its last line.
func (t *Tailer) settleGone() {
	for i := len(t.files) - 1; i >= 0; i-- {
		f := t.files[i]
		if f.name.count > 0 || f.fd < 0 || f.next != nil {
			continue
		}
		if f.end.limit > 0 && t.now >= f.end.limit && (f.end.read || f.pos.Offset >= f.end.stop) {
			t.finish(f)
			continue
		}
		if f.queued || !f.end.read || t.now < max(f.look.news, f.end.gone)+t.o.RotateWait {
			continue
		}
		if f.name.unlinked && f.unfinished() && !f.end.final {
			f.end.final = true
			t.enqueue(f)
			continue
		}
		t.finish(f)
	}
}

// finish closes a file that is not followed any more.
func (t *Tailer) finish(f *file) {
	f.pos.Closed = t.wall.Unix()
	f.pos.Deleted = f.name.unlinked
	t.release(f)
	t.dropHead(f)
	if !f.told {
		t.letGo(f)
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
		if f.name.count == 0 && f.name.unlinked && f.fd >= 0 {
			t.holds(f)
			held = append(held, f)
			t.n.HeldBytes += f.look.disk
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
		return int(a.end.gone - b.end.gone)
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
		t.n.HeldBytes -= f.look.disk
		t.letGo(f)
		if f.unread() > 0 {
			t.lose(f, f.pos.Offset, f.look.size, reasonHeld)
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
