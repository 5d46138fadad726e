package tail

import (
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"sealtail/record"
)

// An inode names a file as long as something holds it.
type inode struct{ dev, ino uint64 }

// A file is one followed file, or a position whose file is not found. It has
// no buffer: at rest it is this struct and its path.
type file struct {
	pos  record.Position // as of the last chunk made; Size as of the last read
	part cut
	told bool // the receiver has a position of this ID

	fd      int // -1 = closed
	index   int // in Tailer.files
	names   int // entries that name it
	at, alt *entry
	altPath string

	seen         int64 // largest size seen of this content
	shrunk       bool  // it was shorter since
	mtime, ctime int64 // unix ns, as of the last read
	verified     int64 // mtime as of the last verify
	disk         int64 // bytes it takes there
	unlinked     bool  // no name is left, also outside the pattern
	ahead        int   // bytes to read next, by the length of the lines before
	stop         int64 // where a run with Once, or after the limit, ends

	every  time.Duration // between looks
	due    time.Duration // next look, when hot
	active time.Duration // last news
	gone   time.Duration // since when it has no name; or is looked for
	limit  time.Duration // it is read no longer than this; 0 = no limit

	queued, hot, touched bool
	waits                bool   // in Tailer.waiting
	wanted               int    // 1 + index in Tailer.wanted; 0 = not looked for
	dirty, listed        bool   // to be told; in Tailer.dirty
	fresh                bool   // in Tailer.fresh
	foundSize            int64  // as told last to Options.Found
	lost                 []loss // to be told
	headed               bool   // in Tailer.heads
	ended                bool   // read to its end, as of the last read
	final                bool   // the end of the file ends its last line
	barred               bool   // its path is no longer meant: not opened again
	broken               bool   // the last read failed
	sought               bool   // its directory was searched
	reason               string
	twin                 *file // next with the same head

	copyOf *file // it may be a copy of this one: not read yet
	copyID uint64
	copyTo time.Duration
}

// unread returns the bytes known to lie past the position.
func (f *file) unread() int64 { return max(0, f.seen-f.pos.Offset) }

// note takes over what the system says of the open file.
func (f *file) note(st *unix.Stat_t) {
	f.shrunk = f.shrunk || st.Size < f.seen
	f.seen = max(f.seen, st.Size)
	f.disk = st.Blocks * 512
	f.unlinked = st.Nlink == 0
}

func (f *file) key() inode { return inode{f.pos.Dev, f.pos.Ino} }

// enqueue has the file read soon.
func (t *Tailer) enqueue(f *file) {
	if !f.queued && f.fd >= 0 && f.copyOf == nil {
		f.queued = true
		t.queue.push(f)
	}
}

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
	f.note(&st)
	t.grown(f)
	if f.queued {
		t.verify(f, &st)
		return
	}
	if f.copyOf != nil && !t.copied(f, &st) {
		return
	}
	if st.Size == f.pos.Size && st.Mtim.Nano() == f.mtime && st.Ctim.Nano() == f.ctime && !f.broken {
		f.every = min(t.o.Poll, 2*f.every)
		f.due = t.now + f.every
		return
	}
	if st.Size != f.pos.Size || st.Mtim.Nano() != f.mtime {
		f.active = t.now
		f.every = max(minLook, f.every/4)
	}
	t.enqueue(f)
	t.verify(f, &st)
}

// verify has a file begin anew whose content was replaced, while nobody takes
// chunks: it may be rotated away before it is read.
func (t *Tailer) verify(f *file, st *unix.Stat_t) {
	if !t.blocked || f.verified == st.Mtim.Nano() {
		return
	}
	f.verified = st.Mtim.Nano()
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
	if t.agrees(fd, f.pos.Path, &f.pos) {
		return
	}
	if f.shrunk {
		t.startOver(f, reasonTruncated)
	} else {
		t.startOver(f, reasonRewritten)
	}
	f.note(st)
	f.pos.Head, _ = t.printAt(fd, int(min(st.Size, printBytes)), 0)
}

// lookClosed has a file opened again that was closed to save descriptors and
// has changed. A path that leads elsewhere is for the scan to settle.
func (t *Tailer) lookClosed(f *file, st *unix.Stat_t) {
	if f.at == nil || stat(f.pos.Path, st) != nil || (inode{st.Dev, st.Ino}) != f.key() {
		return
	}
	if st.Size == f.pos.Size && st.Mtim.Nano() == f.mtime && st.Ctim.Nano() == f.ctime {
		return
	}
	f.note(st)
	t.grown(f)
	t.await(f)
	t.verify(f, st)
}

// read takes one chunk from the file, or nil if there is no whole record. It
// reads from the marker on, in one read, so that what is taken is known to
// follow what was taken before.
func (t *Tailer) read(f *file) *record.Chunk {
	var st unix.Stat_t
	for f.fd >= 0 {
		if err := fstat(f.fd, &st); err != nil {
			t.failedRead(f, err)
			return nil
		}
		if st.Size < f.pos.Offset {
			t.startOver(f, reasonTruncated)
			continue
		}
		if st.Size < f.seen {
			from, to := st.Size, f.seen
			f.seen, f.shrunk = st.Size, false // before the loss is told: the position must not tell it again
			t.n.Truncated++
			t.lose(f, from, to, reasonTruncated)
		}
		f.note(&st)
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
		unread = max(0, min(unread, f.stop-at))
	}
	want := min(unread, int64(f.ahead))
	for {
		b := t.pool.take(lead + int(want))
		n, err := pread(f.fd, b.mem[:lead+int(want)], at-int64(lead))
		if err != nil {
			b.recycle(nil)
			t.failedRead(f, err)
			return nil, false
		}
		if n < lead || lead > 0 && t.print(b.mem[:lead]) != f.pos.Marker {
			b.recycle(nil)
			if n < lead {
				t.startOver(f, reasonTruncated)
			} else {
				t.startOver(f, reasonRewritten)
			}
			return nil, true
		}
		f.broken = false
		body := b.mem[lead:n]
		end := int64(len(body)) == unread
		recs, used, full := t.cut.split(b.recs[:0], body, at, &f.part, chunkBytes, f.final && end)
		if most := int64(t.cut.max) + 1; used == 0 && !end && want < min(unread, most) {
			b.recycle(nil)
			want = min(unread, most)
			continue
		}
		f.pos.Size, f.mtime, f.ctime = st.Size, st.Mtim.Nano(), st.Ctim.Nano()
		if f.ended = end && !full; !f.ended && (used > 0 || end) {
			t.enqueue(f)
		}
		if !f.queued {
			t.rest(f)
		}
		if used == 0 {
			b.recycle(nil)
			return nil, false
		}
		f.ahead = min(2*f.ahead, chunkBytes)
		if full {
			f.ahead = min(used+used/8, chunkBytes)
		}
		b.recs = recs
		b.parts = f.part.id != 0 || recs[0].Part != nil
		t.advance(f, b.mem[:lead+used], used)
		b.chunk.Path, b.chunk.Inode = f.pos.Path, f.pos.Ino
		b.chunk.Offset, b.chunk.End = at, f.pos.Offset
		b.chunk.Time = t.wall.UnixNano()
		b.chunk.Records = recs
		b.moved = append(b.moved, f.pos)
		b.chunk.Moved = b.moved
		b.chunk.Events = t.takeLosses(f, nil)
		f.told, f.dirty = true, false
		return &b.chunk, false
	}
}

// advance moves the position by used bytes, the last of b, which begins at
// the marker before them.
func (t *Tailer) advance(f *file, b []byte, used int) {
	p := &f.pos
	p.From = p.Offset
	p.Offset += int64(used)
	p.Marker = t.print(b[max(0, len(b)-printBytes):])
	switch {
	case p.Offset <= printBytes:
		p.Head = p.Marker
	case p.From < printBytes:
		p.Head = t.print(b[:printBytes])
	}
	t.hasHead(f)
	p.Deleted = f.unlinked && f.names == 0
	p.Sources = f.part.sources()
}

// rest waits for more.
func (t *Tailer) rest(f *file) {
	if f.every >= t.o.Poll {
		return
	}
	f.due = t.now + f.every
	t.nextHot = min(t.nextHot, f.due)
	if !f.hot {
		f.hot = true
		t.hot = append(t.hot, f)
	}
}

// failedRead waits for a file that cannot be read now.
func (t *Tailer) failedRead(f *file, err error) {
	if !f.broken {
		t.log.Warn("file cannot be read, trying again", zap.String("path", f.pos.Path), zap.Error(err))
	}
	t.n.ReadErrors++
	f.broken, f.ended = true, false
	f.every = t.o.Poll
	if t.o.Once {
		t.shut(f)
	}
	if err == unix.ESTALE {
		// The descriptor will not read again; its path may.
		f.mtime = 0
		t.shut(f)
		if f.names == 0 {
			t.lostName(f)
		}
	}
}
