package tail

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"sealtail/record"
)

// A rereading is a hole (see [record.Position]) that is being read.
type rereading struct {
	pos  record.Position // Marker: before Offset, if it is known
	fd   int             // -1 = not found yet
	ino  uint64          // of fd
	path string
	gz   *gz // of a .gz, as long as its content is needed

	failed  error         // of the last read, but of a .gz; nil = it went well
	broken  time.Duration // since when a .gz cannot be read; 0 = it can
	refused []uint64      // inodes of .gz files that are others
}

func (r *rereading) close() {
	if r.fd >= 0 {
		unix.Close(r.fd)
	}
	r.gz.close()
	r.fd, r.gz, r.broken = -1, nil, 0
}

// refuse closes a .gz that is not what is looked for.
func (r *rereading) refuse() {
	r.refused = append(r.refused, r.ino)
	r.close()
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
			if r.gz == nil { // which is not on its way: others come first
				r.close()
				t.again = append(t.again[1:], r)
			}
		}
	}
	return nil
}

// rereadOne returns the next chunk of the hole, and whether it was the last,
// which forgets the hole. One that cannot be read now is tried again: no chunk,
// not done.
func (t *Tailer) rereadOne(r *rereading) (c *record.Chunk, done bool) {
	p := &r.pos
	if r.fd < 0 && t.findAgain(r) {
		return nil, false
	}
	var st unix.Stat_t
	switch {
	case r.gz != nil:
		st.Size = r.gz.size
	case r.fd >= 0:
		if err := fstat(r.fd, &st); err != nil {
			return nil, false
		}
	}
	end := min(p.Until, st.Size)
	if p.Offset >= end {
		p.From, p.Was = p.Offset, p.Sources
		c = t.newsOf(p)
		t.n.Seen += p.Until - p.Offset
		t.n.lost(reasonSpool, p.Until-p.Offset, 0)
		t.tellLoss(p, loss{p.Offset, p.Until, reasonSpool}, c)
		p.Forget = true
		c.Moved = append(c.Moved, *p)
		return c, true
	}
	lead := min(p.Offset, printBytes)
	want := min(end-p.Offset, chunkBytes)
	f := &file{pos: *p, fd: r.fd, gz: r.gz}
	f.end.cut = slices.ContainsFunc(p.Ends, func(s record.Source) bool { return s.PartID != 0 })
	for {
		b := t.pool.take(int(lead + want))
		n, err := t.fetch(f, b.mem[:lead+want], p.Offset-lead)
		if err != nil || int64(n) < lead || p.Marker.Len > 0 && int64(p.Marker.Len) == lead && t.print(b.mem[:lead]) != p.Marker {
			b.recycle(nil)
			t.notAgain(r, err)
			return nil, false
		}
		r.broken, r.failed = 0, nil
		body := b.mem[lead:n]
		f.end.final = int64(n)-lead == end-p.Offset || int64(n) < lead+want
		g := t.records(f, b, body, f.end.final)
		if !g.moved && f.end.final && f.end.cut {
			f.end.cut = false // what is left is too little to be cut off
			continue
		}
		if !g.moved && len(body) > 0 && want < min(end-p.Offset, t.most) {
			b.recycle(nil)
			want = min(end-p.Offset, t.most)
			continue
		}
		if !g.moved {
			b.recycle(nil) // it became shorter meanwhile: seen at the next call
			return nil, false
		}
		c = t.fill(f, b, g.recs, p.Offset, g.end)
		c.Path, c.Raw, c.Taken = r.path, g.raw, int64(g.used)
		p.From, p.Offset = p.Offset, p.Offset+int64(g.used)
		p.Marker = t.print(b.mem[max(0, int(lead)+g.used-printBytes) : int(lead)+g.used])
		p.Was, p.Sources, p.Encoding = p.Sources, g.sources, f.pos.Encoding
		p.Forget = p.Offset == p.Until
		b.moved = append(b.moved[:0], *p)
		c.Moved = b.moved
		t.n.Again += int64(g.used)
		return c, p.Forget
	}
}

// notAgain settles what a file is that cannot be read on: at once by an error
// that may pass, or else another one by now.
func (t *Tailer) notAgain(r *rereading, err error) {
	switch {
	case err == errLater:
	case err != nil && r.gz == nil:
		if r.failed == nil {
			t.log.Warn("file cannot be read, trying again", zap.String("path", r.path), zap.Error(err))
		}
		r.failed = err
		t.n.ReadErrors++
	case err == nil && r.gz == nil:
		r.close()
	case err == nil || r.broken > 0 && t.now >= r.broken+gzWait:
		r.refuse()
	case r.broken == 0:
		r.broken = t.now
	}
}

// findAgain opens the file of a hole anew: one that is followed, or by its path,
// or by its inode or content in the directory of its path and where rotated
// files lie, also compressed. fd is -1 if it is not there; again says that this
// is not known now.
func (t *Tailer) findAgain(r *rereading) (again bool) {
	p := &r.pos
	for _, f := range t.files {
		if f.pos.Ino == p.Ino && f.fd >= 0 && t.openAgain(r, "/proc/self/fd/"+strconv.Itoa(f.fd), f.pos.Path) {
			return false
		}
	}
	if t.openAgain(r, p.Path, p.Path) {
		return false
	}
	dir := filepath.Dir(p.Path)
	paths := t.rotatedPaths()
	err := t.list(dir, func(_ int, name []byte, ino uint64, _ uint8) {
		path := filepath.Join(dir, string(name))
		if ino == p.Ino {
			paths = append([]string{path}, paths...)
		} else if rotated(p.Path, path) || rotated(unrotate(p.Path), path) {
			paths = append(paths, path)
		}
	})
	later := false
	for _, path := range paths {
		if t.openAgain(r, path, path) {
			return false
		}
		later = later || strings.HasSuffix(path, ".gz") && t.inflaters >= maxInflaters
	}
	return later || err != nil && !gone(err)
}

// openAgain opens path if the file, of that name, is that of the hole, or a copy
// of it.
func (t *Tailer) openAgain(r *rereading, path, name string) bool {
	p := &r.pos
	var st unix.Stat_t
	fd, err := t.open(path, &st)
	if err != nil {
		return false
	}
	r.fd, r.ino, r.path = fd, st.Ino, name
	if zipped(name, fd, &st) && (st.Ino == p.Ino || t.madeOf(name, p)) {
		if !slices.Contains(r.refused, st.Ino) && t.beginsAgain(r) {
			return true
		}
	} else if (st.Ino == p.Ino || p.Head.Len == printBytes && p.Marker.Len == printBytes) && t.agrees(fd, name, p) {
		return true
	}
	r.close()
	return false
}

// beginsAgain opens what the .gz holds, if that has the hole's head. The marker
// is checked when it is inflated that far.
func (t *Tailer) beginsAgain(r *rereading) bool {
	p := &r.pos
	n := int(p.Head.Len)
	r.gz = &gz{opened: &t.inflaters, size: max(p.Until, int64(n))}
	m, err := r.gz.read(r.fd, t.scratch[:n], 0)
	return err == nil && m == n && n > 0 && t.print(t.scratch[:n]) == p.Head
}
