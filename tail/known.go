package tail

import (
	"encoding/binary"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sealtail/record"
)

// load takes a position of an earlier run.
func (t *Tailer) load(p record.Position) {
	f := &file{pos: p, trail: slices.Clone(p.Trail), told: true, fd: -1}
	f.pos.Trail = nil
	f.look.size, f.look.sure, f.end.reason = p.Offset, max(p.Size, p.Offset), reasonDeleted
	t.resize(f, f.look.sure)
	t.unbind(f)
	t.hasHead(f)
	t.vacated(f)
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
// another file has now: there is nothing that they could be found by, unless
// they were rotated and may be found compressed, or a .gz waits for them.
func (t *Tailer) forgetClosed(st *unix.Stat_t) {
	fs := t.unbound[st.Ino]
	for i := len(fs) - 1; i >= 0; i-- {
		if f := fs[i]; f.pos.Closed != 0 && f.pos.Deleted && f.pos.Dev == st.Dev && unrotate(f.pos.Path) == f.pos.Path && !t.pending(f) {
			t.drop(f)
		}
	}
}

// drop takes a position without a file off.
func (t *Tailer) drop(f *file) {
	t.takeUnbound(f)
	f.pos.Forget = true
	if lost := f.unread(); lost > 0 {
		t.lose(f, f.pos.Offset, f.look.size, reasonDeleted)
	}
	t.tell(f)
}

func headKey(p record.Print) uint64 { return binary.BigEndian.Uint64(p.Sum[:]) }

// hasHead files f under its head, if that is full and f is not done with.
func (t *Tailer) hasHead(f *file) {
	if f.headed || f.pos.Head.Len < printBytes || f.pos.Closed != 0 {
		return
	}
	f.headed, f.head = true, headKey(f.pos.Head)
	f.twin = t.heads[f.head]
	t.heads[f.head] = f
}

func (t *Tailer) dropHead(f *file) {
	if !f.headed {
		return
	}
	f.headed = false
	at := t.heads[f.head]
	if at == f {
		if f.twin == nil {
			delete(t.heads, f.head)
		} else {
			t.heads[f.head] = f.twin
		}
	}
	for ; at != nil; at = at.twin {
		if at.twin == f {
			at.twin = f.twin
		}
	}
	f.twin = nil
}
