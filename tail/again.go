package tail

import (
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"sealtail/record"
)

// A rereading is a hole (see [record.Position]) that is being read.
type rereading struct {
	pos  record.Position
	fd   int // -1 = not found yet
	path string
}

func (r *rereading) close() {
	if r.fd >= 0 {
		unix.Close(r.fd)
		r.fd = -1
	}
}

// reread returns the next chunk of the first range, every other time it is
// asked.
func (t *Tailer) reread() *record.Chunk {
	if t.turned = !t.turned; t.turned && !t.queue.empty() {
		return nil
	}
	for len(t.again) > 0 && t.now >= t.againAt {
		r := t.again[0]
		c, done := t.rereadOne(r)
		if done {
			r.close()
			t.again = t.again[1:]
		}
		if c != nil {
			return c
		}
		if !done {
			t.againAt = t.now + t.o.Poll
		}
	}
	return nil
}

// rereadOne returns the next chunk of the hole, and whether it was the last,
// which forgets the hole. One that cannot be read now is tried again: no chunk,
// not done.
func (t *Tailer) rereadOne(r *rereading) (c *record.Chunk, done bool) {
	p := &r.pos
	if r.fd < 0 {
		var again bool
		if r.fd, r.path, again = t.findAgain(p); again {
			return nil, false
		}
	}
	var st unix.Stat_t
	if r.fd >= 0 {
		if err := fstat(r.fd, &st); err != nil {
			return nil, false
		}
	}
	end := min(p.Until, st.Size)
	if p.Offset >= end {
		p.From, p.Was = p.Offset, p.Sources
		c = t.newsOf(p)
		t.n.Seen += p.Until - p.Offset
		t.n.lost(reasonSpool, p.Until-p.Offset)
		t.tellLoss(p, loss{p.Offset, p.Until, reasonSpool}, c)
		p.Forget = true
		c.Moved = append(c.Moved, *p)
		return c, true
	}
	want := min(end-p.Offset, chunkBytes)
	f := &file{pos: *p, fd: r.fd}
	f.end.cut = slices.ContainsFunc(p.Ends, func(s record.Source) bool { return s.PartID != 0 })
	for {
		b := t.pool.take(int(want))
		n, err := pread(r.fd, b.mem[:want], p.Offset)
		if err != nil {
			b.recycle(nil)
			return nil, false
		}
		f.end.final = p.Offset+int64(n) == end || n < int(want)
		g := t.records(f, b, b.mem[:n], f.end.final)
		if !g.moved && f.end.final && f.end.cut {
			f.end.cut = false // what is left is too little to be cut off
			continue
		}
		if !g.moved && n > 0 && want < min(end-p.Offset, t.most) {
			b.recycle(nil)
			want = min(end-p.Offset, t.most)
			continue
		}
		if !g.moved {
			b.recycle(nil) // it became shorter meanwhile: seen at the next call
			return nil, false
		}
		c = t.fill(f, b, g.recs, p.Offset, g.end)
		c.Path, c.Raw = r.path, g.raw
		p.From, p.Offset = p.Offset, p.Offset+int64(g.used)
		p.Was, p.Sources, p.Encoding = p.Sources, g.sources, f.pos.Encoding
		p.Forget = p.Offset == p.Until
		b.moved = append(b.moved[:0], *p)
		c.Moved = b.moved
		t.n.Again += int64(g.used)
		return c, p.Forget
	}
}

// findAgain opens the file of a position anew: one that is followed, or by its
// path, or by its inode in the directory of its path. fd is -1 if it is not
// there; again says that this is not known now.
func (t *Tailer) findAgain(p *record.Position) (fd int, path string, again bool) {
	for _, f := range t.files {
		if f.pos.Ino != p.Ino || f.fd < 0 {
			continue
		}
		if fd := t.openAgain("/proc/self/fd/"+strconv.Itoa(f.fd), f.pos.Path, p); fd >= 0 {
			return fd, f.pos.Path, false
		}
	}
	if fd := t.openAgain(p.Path, p.Path, p); fd >= 0 {
		return fd, p.Path, false
	}
	fd = -1
	dir := filepath.Dir(p.Path)
	err := t.list(dir, func(_ int, name []byte, ino uint64, _ uint8) {
		if ino == p.Ino && fd < 0 {
			path = filepath.Join(dir, string(name))
			fd = t.openAgain(path, path, p)
		}
	})
	return fd, path, err != nil && !gone(err) && fd < 0
}

// openAgain opens path if the file, of that name, is that of p.
func (t *Tailer) openAgain(path, name string, p *record.Position) int {
	var st unix.Stat_t
	fd, err := t.open(path, &st)
	if err != nil {
		return -1
	}
	if st.Ino != p.Ino || !t.agrees(fd, name, p) {
		unix.Close(fd)
		return -1
	}
	return fd
}
