package tail

import (
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"sealtail/record"
)

// read takes one chunk from the file, or nil if there is no whole record. It
// reads from the marker on, in one read, so that what is taken is known to
// follow what was taken before.
func (t *Tailer) read(f *file) *record.Chunk {
	var st unix.Stat_t
	for f.fd >= 0 {
		if err := t.fstat(f, &st); err != nil {
			t.failedRead(f, err)
			return nil
		}
		if f.undecided() || f.prev != nil {
			return nil
		}
		if st.Size < f.least() && !t.shorter(f, &st) {
			f.end.read = true
			f.look.mtime = 0
			return nil
		}
		if st.Size < f.least() {
			t.startOver(f, reasonTruncated)
			continue
		}
		c, again := t.readAt(f, &st)
		if !again {
			return c
		}
	}
	return nil
}

// readAt reads what st says there is. again means that the file began anew.
func (t *Tailer) readAt(f *file, st *unix.Stat_t) (c *record.Chunk, again bool) {
	lead := int(f.pos.Marker.Len)
	at := f.pos.Offset
	unread := st.Size - at
	if t.o.Once {
		unread = max(0, min(unread, f.end.stop-at))
	}
	want := min(unread, int64(f.ahead))
	if t.rate.limit > 0 {
		want = min(want, max(t.rate.limit, smallChunk))
	}
	for {
		b := t.pool.take(lead + int(want))
		n, err := t.fetch(f, b.mem[:lead+int(want)], at-int64(lead))
		if err == errLater {
			b.recycle(nil)
			f.look.every = minLook
			t.rest(f)
			return nil, false
		}
		if err != nil {
			b.recycle(nil)
			t.failedRead(f, err)
			return nil, false
		}
		known := 0 // of what nothing was taken of
		if at == 0 && f.gz == nil && int64(f.pos.Head.Len) <= want {
			known = int(f.pos.Head.Len)
		}
		if n < max(lead, known) || lead > 0 && t.print(b.mem[:lead]) != f.pos.Marker || known > 0 && t.print(b.mem[:known]) != f.pos.Head {
			b.recycle(nil)
			if n < max(lead, known) || f.look.shrunk || st.Size < f.look.size {
				t.startOver(f, reasonTruncated)
			} else {
				t.startOver(f, reasonRewritten)
			}
			return nil, true
		}
		f.end.broken = nil
		t.sure(f, st)
		if at == 0 && n > 0 && b.mem[0] == 0 && f.gz == nil {
			if t.skipHole(f, st.Size) {
				b.recycle(nil)
				return nil, true
			}
			if allHole(f.fd) {
				b.recycle(nil)
				f.pos.Size, f.look.mtime, f.look.ctime = st.Size, st.Mtim.Nano(), st.Ctim.Nano()
				f.end.read = true
				t.rest(f)
				return nil, false
			}
		}
		body := b.mem[lead:n]
		end := int64(len(body)) == unread
		g := t.records(f, b, body, end)
		if !g.moved && !end && want < min(unread, t.most) {
			b.recycle(nil)
			want = min(unread, t.most)
			continue
		}
		f.pos.Size, f.look.mtime, f.look.ctime = st.Size, st.Mtim.Nano(), st.Ctim.Nano()
		if f.end.read = end && !g.full; !f.end.read && (g.moved || end) {
			t.enqueue(f)
		}
		if !f.queued {
			t.rest(f)
			f.gz.close()
		}
		if f.end.read && f.next != nil {
			t.enqueue(f.next)
		}
		if !g.moved {
			b.recycle(nil)
			return nil, false
		}
		f.ahead = min(2*f.ahead, chunkBytes)
		if g.full {
			f.ahead = min(g.seen+g.seen/8, chunkBytes)
		}
		t.advance(f, b.mem[:lead+g.used], g.used, g.sources)
		t.n.Bytes += int64(g.used)
		t.n.Records += int64(len(g.recs))
		c = t.fill(f, b, g.recs, at, g.end)
		c.Raw, c.Taken = g.raw, int64(g.used)
		return c, false
	}
}

// fetch fills b with the content of f from off; it returns less only at the end.
func (t *Tailer) fetch(f *file, b []byte, off int64) (int, error) {
	if f.gz != nil {
		return f.gz.read(f.fd, b, off)
	}
	return t.pread(f.fd, b, off)
}

// fstat says in st what an open file is now, Size being that of its content.
func (t *Tailer) fstat(f *file, st *unix.Stat_t) error {
	err := fstat(f.fd, st)
	if g := f.gz; g != nil && err == nil {
		g.whole = g.whole && st.Size == g.of.Size && st.Mtim == g.of.Mtim
		st.Size = g.size
	}
	return err
}

// got is what one read of a file came to.
type got struct {
	recs    []record.Record
	used    int   // bytes that the position moves by
	seen    int   // bytes that were looked at
	end     int64 // one past the bytes of recs
	raw     int64 // bytes of recs where that is not end − the offset before
	sources []record.Source
	full    bool // there is more in the bytes
	moved   bool // there is anything to tell
}

// records makes records of body, which begins at the position of f; end says
// that it ends where the file does.
func (t *Tailer) records(f *file, b *buffer, body []byte, end bool) (g got) {
	due := t.overdue(f)
	if t.join != nil {
		p := &t.last
		*p = pass{joiner: t.join, conv: t.converter(f), b: b, body: body, at: f.pos.Offset, limit: chunkBytes,
			recs: b.recs[:0], final: f.end.final, eof: end, once: t.o.Once, waited: f.opens}
		if f.pos.Until != 0 {
			p.hole, p.cutOff = &f.pos, f.end.cut
		}
		p.run(f.pos.Sources)
		t.counted(p)
		f.opens = t.stillOpen(f.opens, p.opens())
		return p.got()
	}
	at, part := f.pos.Offset, cutAt(f.pos.Sources)
	e := open
	switch {
	case f.end.final && end && f.end.cut:
		e = flushed
	case f.end.final && end:
		e = final
	}
	g.recs, g.used, g.full = t.cut.split(b.recs[:0], body, at, &part, chunkBytes, e)
	if due && end && g.used == 0 && f.opens[0].begin == at {
		g.recs, g.used, g.full = t.cut.split(b.recs[:0], body, at, &part, chunkBytes, flushed)
	}
	g.seen, g.end, g.sources = g.used, at+int64(g.used), part.sources()
	g.moved = len(g.recs) > 0
	b.parts = part.id != 0 || g.moved && g.recs[0].Part != nil
	if t.filter != nil {
		var d dropped
		g.recs, d = t.filter.apply(g.recs, g.end)
		t.n.Filtered += d.records
		t.n.Dropped += d.bytes
		g.raw = int64(g.used) - d.bytes
	}
	if end && g.used < len(body) && !g.full {
		f.opens = t.stillOpen(f.opens, []opening{{begin: g.end, end: at + int64(len(body)), mid: true}})
	} else {
		f.opens = f.opens[:0]
	}
	return g
}

// fill makes the buffer's chunk: recs of f, from at to end, and where it stands.
func (t *Tailer) fill(f *file, b *buffer, recs []record.Record, at, end int64) *record.Chunk {
	b.recs = recs
	c := &b.chunk
	c.Path, c.Inode, c.Time = f.pos.Path, f.pos.Ino, t.wall.UnixNano()
	c.Offset, c.End = at, max(at, end)
	c.Records = recs
	c.Tags = t.tags(f)
	b.moved = append(b.moved, f.pos)
	c.Moved, c.Events = b.moved, nil
	t.takeLosses(f, c)
	b.moved = c.Moved
	f.told, f.dirty = true, false
	return c
}

// advance moves the position by used bytes, the last of b, which begins at
// the marker before them.
func (t *Tailer) advance(f *file, b []byte, used int, sources []record.Source) {
	p := &f.pos
	f.leave()
	was := p.Offset
	p.From, p.Was = was-f.foreign, p.Sources
	if f.foreign > 0 {
		f.foreign, p.Was = 0, nil
	}
	p.Offset += int64(used)
	p.Marker = t.print(b[max(0, len(b)-printBytes):])
	switch {
	case p.Offset <= printBytes:
		p.Head = p.Marker
	case was < printBytes:
		p.Head = t.print(b[:printBytes])
	}
	if f.headed && headKey(p.Head) != f.head {
		t.dropHead(f)
	}
	t.hasHead(f)
	p.Deleted = f.name.unlinked && f.name.count == 0
	p.Sources = sources
}

// rest waits for more.
func (t *Tailer) rest(f *file) {
	if f.look.every >= t.o.Poll {
		return
	}
	f.look.due = t.now + f.look.every
	t.nextHot = min(t.nextHot, f.look.due)
	if !f.hot {
		f.hot = true
		t.hot = append(t.hot, f)
	}
}

// failedRead waits for a file that cannot be read now.
func (t *Tailer) failedRead(f *file, err error) {
	if f.end.broken == nil {
		t.log.Warn("file cannot be read, trying again", zap.String("path", f.pos.Path), zap.Error(err))
	}
	t.n.ReadErrors++
	f.end.broken, f.end.read = err, false
	f.look.every = t.o.Poll
	if t.o.Once {
		t.shut(f)
	}
	if err == unix.ESTALE {
		// The descriptor will not read again; its path may.
		f.look.mtime = 0
		t.shut(f)
		if f.name.count == 0 {
			t.lostName(f)
		}
	}
}
