package tail

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"sealtail/record"
)

// A .gz file is read as what it holds: offsets, sizes and prints are of the
// inflated bytes. It is read once it is whole, to a valid trailer, and it is
// known whether what it holds was taken from the file that it was made of.
// Inflating goes by steps, so that it does not hold up the loop.

const (
	inflateStep  = 8 << 20          // inflated bytes of a file at once
	inflateTurn  = 32 << 20         // of all files a turn
	maxInflaters = 4                // at once: each takes up to a megabyte
	gzWait       = 60 * time.Second // how long a .gz that is not whole may stay as it is and have a loss wait for it
)

// errLater says that content is there, but takes more turns to get at.
var errLater = errors.New("not inflated that far yet")

// A gz is the state of a .gz file.
type gz struct {
	of      unix.Stat_t   // the file that was checked, or was tried to
	whole   bool          // it has a valid trailer; size is known
	settled bool          // it is known whose content it is
	failed  bool          // it was not whole
	told    bool          // … and that was said
	tried   time.Duration // when it changed last
	size    int64         // of the content
	head    record.Print  // of the content
	tail    record.Print  // its last bytes
	seek    bool          // opened to find a lost file, else because the patterns take it
	chain   bool          // opened because a file was rotated before it was seen
	back    bool          // a deleted file that an earlier Tailer followed

	in     *gzip.Reader // nil = not open
	opened *int         // how many are, of all files
	buf    []byte       // content from base on
	base   int64
	at     int64 // content inflated
	twins  []twin
}

// A twin is a position that a .gz may go on from.
type twin struct {
	f     *file
	id    uint64
	at    int64 // its offset, and the marker before it
	mark  record.Print
	agree bool
}

// A fdReader reads a descriptor from its own offset.
type fdReader struct {
	fd  int
	off int64
}

func (r *fdReader) Read(b []byte) (int, error) {
	n, err := pread(r.fd, b, r.off)
	r.off += int64(n)
	if n == 0 && err == nil && len(b) > 0 {
		err = io.EOF
	}
	return n, err
}

// zipped reports whether an open file is gzip by its name and its first bytes.
// An empty one of that name is about to be.
func zipped(path string, fd int, st *unix.Stat_t) bool {
	if !strings.HasSuffix(path, ".gz") {
		return false
	}
	var b [3]byte
	n, err := pread(fd, b[:], 0)
	return err == nil && (n == 0 && st.Size == 0 || n > 0 && bytes.HasPrefix([]byte{0x1f, 0x8b, 8}, b[:n]))
}

// undecided reports whether it is not known yet what the file is: nothing is
// read of it.
func (f *file) undecided() bool {
	return f.copy.of != nil || f.gz != nil && !(f.gz.whole && f.gz.settled)
}

func (g *gz) close() {
	if g == nil {
		return
	}
	if g.in != nil {
		*g.opened--
	}
	g.in, g.buf, g.base, g.at = nil, nil, 0, 0
}

// open begins to inflate from 0.
func (g *gz) open(fd int) error {
	g.close()
	in, err := gzip.NewReader(bufio.NewReaderSize(&fdReader{fd: fd}, 64<<10))
	if err != nil {
		return err
	}
	g.in = in
	*g.opened++
	return nil
}

// read fills b with the content from off on; it returns less only at the end.
// Reading on from where it was is cheap, up to the length of b back, else it
// begins anew. It inflates at most a step of what lies before.
func (g *gz) read(fd int, b []byte, off int64) (int, error) {
	if g.in == nil && *g.opened >= maxInflaters {
		return 0, errLater
	}
	if g.in == nil || off < g.base {
		if err := g.open(fd); err != nil {
			return 0, err
		}
	}
	end := min(off+int64(len(b)), g.size)
	for limit := g.at + inflateStep; g.at < end; {
		if g.at < off { // of what is skipped nothing is kept
			if g.at >= limit {
				return 0, errLater
			}
			n, err := io.CopyN(io.Discard, g.in, min(off, limit)-g.at)
			g.buf = g.buf[:0]
			g.at += n
			g.base = g.at
			if err != nil {
				return 0, err
			}
			continue
		}
		if drop := off - g.base; drop > 0 {
			g.buf = g.buf[:copy(g.buf, g.buf[drop:])]
			g.base = off
		}
		n := len(g.buf)
		g.buf = slices.Grow(g.buf, int(end-g.at))[:n+int(end-g.at)]
		m, err := io.ReadFull(g.in, g.buf[n:])
		g.buf = g.buf[:n+m]
		g.at += int64(m)
		if err != nil {
			return 0, err // it was whole before
		}
	}
	return copy(b, g.buf[min(off-g.base, int64(len(g.buf))):]), nil
}

// newGz takes a .gz file that nothing is known of. It takes over the descriptor.
func (t *Tailer) newGz(path string, fd int, st *unix.Stat_t, seek, chain bool) *file {
	f := t.asGz(path)
	f.gz.seek, f.gz.chain = seek, chain
	t.bindGz(f, fd, st)
	return f
}

func (t *Tailer) asGz(path string) *file {
	return &file{pos: record.Position{ID: newID(), Path: path}, fd: -1, gz: &gz{opened: &t.inflaters, tried: t.now}}
}

func (t *Tailer) bindGz(f *file, fd int, st *unix.Stat_t) {
	empty := *st
	empty.Size = 0
	t.bind(f, fd, &empty)
	t.zips = append(t.zips, f)
}

// lookGz goes on checking a .gz file, and reports whether its content is known
// and it is to be looked at like others, with the size of its content in st.
func (t *Tailer) lookGz(f *file, st *unix.Stat_t) bool {
	g := f.gz
	if same := st.Size == g.of.Size && st.Mtim == g.of.Mtim; !same {
		first := g.of.Ino == 0
		g.of = *st
		g.whole, g.failed, g.tried = false, false, t.now
		g.close()
		if !first && !t.o.Once {
			return false // it is being written: wait for a quiet look
		}
	}
	if !g.whole && !g.failed {
		t.check(f)
		for t.o.Once && !g.whole && !g.failed {
			t.check(f)
		}
	}
	if !g.whole {
		if g.failed && f.name.count == 0 && t.now >= g.tried+gzWait && !g.settled {
			t.abandon(f)
		}
		return false
	}
	if !g.settled && !t.decide(f) {
		return false
	}
	st.Size = g.size
	return true
}

// check inflates one step more of the whole file.
func (t *Tailer) check(f *file) {
	g := f.gz
	fail := func(err error) {
		g.close()
		g.failed, g.twins = true, nil
		if !g.told && !(errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
			g.told = true
			t.log.Warn("file is no whole gzip, waiting for it to change", zap.String("path", f.pos.Path), zap.Error(err))
		}
	}
	if g.in == nil {
		if *g.opened >= maxInflaters {
			return
		}
		g.size, g.twins, g.head, g.tail = 0, nil, record.Print{}, record.Print{}
		if err := g.open(f.fd); err != nil {
			fail(err)
			return
		}
		t.freshHeads()
	}
	// buf has the last bytes before base = at.
	step := t.scratch
	if t.inflatedAt != t.now {
		t.inflatedAt, t.inflated = t.now, 0
	}
	for n := 0; n < inflateStep && t.inflated < inflateTurn; {
		m, err := io.ReadFull(g.in, step)
		if m > 0 {
			if g.at == 0 {
				g.head = t.print(step[:min(m, printBytes)])
				if !g.settled {
					t.findTwins(f, step[:min(m, printBytes)])
				}
			}
			t.passTwins(g, step[:m])
		}
		n += m
		t.inflated += m
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF && g.ended():
			if g.at == 0 {
				g.head = t.print(nil)
			}
			g.size, g.whole = g.at, true
			g.tail = t.print(g.buf)
			g.close()
			return
		case err != nil:
			fail(err)
			return
		}
	}
	f.look.every, f.look.due = minLook, t.now
	t.rest(f)
}

// ended reports whether the inflater is at the end of a valid file, rather than
// at a sudden one: both end a full read short.
func (g *gz) ended() bool {
	var b [1]byte
	n, err := g.in.Read(b[:])
	return n == 0 && err == io.EOF
}

// passTwins takes the next bytes of the content, which follow g.buf, and the
// markers of the offsets that lie in them.
func (t *Tailer) passTwins(g *gz, b []byte) {
	from := g.at - int64(len(g.buf))
	all := append(g.buf, b...)
	g.at += int64(len(b))
	for i := range g.twins {
		w := &g.twins[i]
		if n := int64(w.mark.Len); w.at-n >= from && w.at <= g.at && !w.agree {
			w.agree = n == 0 || t.print(all[w.at-n-from:w.at-from]) == w.mark
		}
	}
	keep := min(len(all), printBytes)
	g.buf = append(g.buf[:0], all[len(all)-keep:]...)
	g.base = g.at - int64(keep)
}

// freshHeads has the heads known of files that were empty, or short, when they
// were found, and that nothing was taken of since.
func (t *Tailer) freshHeads() {
	for _, f := range t.files {
		var st unix.Stat_t
		if f.pos.Offset == 0 && f.pos.Head.Len < printBytes && f.fd >= 0 && f.gz == nil && fstat(f.fd, &st) == nil {
			t.note(f, &st)
			t.takeHead(f, f.fd, st.Size)
		}
	}
}

// findTwins collects the positions whose head the content has: of this very
// file, and of files that it may have been made of.
func (t *Tailer) findTwins(z *file, head []byte) {
	try := func(f *file) {
		p := &f.pos
		if f == z || f.gz != nil && p.Ino != z.pos.Ino || p.Until != 0 || int(p.Head.Len) > len(head) {
			return
		}
		if p.Ino != z.pos.Ino && !t.madeOf(z.pos.Path, p) {
			return
		}
		if p.Deleted && p.Ino == z.pos.Ino && !z.gz.back || p.Head.Len == 0 || t.print(head[:p.Head.Len]) != p.Head {
			return
		}
		z.gz.twins = append(z.gz.twins, twin{f: f, id: p.ID, at: p.Offset, mark: p.Marker})
	}
	for _, fs := range t.unbound {
		for _, f := range fs {
			try(f)
		}
	}
	for _, f := range t.files {
		try(f)
	}
}

// madeOf reports whether a .gz may have been made of the file of p. What less
// than a full print is known of must not be that of a file with a name of its
// own, as web-01.log beside web.log.
func (t *Tailer) madeOf(path string, p *record.Position) bool {
	plain, from := strings.TrimSuffix(path, ".gz"), p.Path
	switch {
	case plain == from:
		return true
	case !rotated(from, plain) && !rotated(unrotate(from), plain) && !(t.isRotated(path) && strings.HasPrefix(filepath.Base(path), stem(from))):
		return false
	case p.Head.Len == printBytes:
		return true
	}
	of := t.before(filepath.Join(filepath.Dir(from), filepath.Base(plain)))
	return of == from || of == t.before(from) || len(t.wantedAt[of]) == 0 && t.entryOf(of) == nil
}

// entryOf returns the entry of a path, nil if there is none.
func (t *Tailer) entryOf(path string) *entry {
	if d := t.dirs[filepath.Dir(path)]; d != nil {
		return d.names[filepath.Base(path)]
	}
	return nil
}

// decide settles what a whole .gz is: what it was already known as, what is
// left of a file that it was made of, or a file of its own. It reports whether
// that is known.
func (t *Tailer) decide(z *file) bool {
	g := z.gz
	var best *file
	for i := range g.twins {
		w := &g.twins[i]
		if w.f.pos.ID != w.id || w.f.index < 0 {
			w.f = t.lostAs(w)
		}
		if w.f.pos.ID != w.id || w.f.pos.Forget || !w.agree || w.f.pos.Offset > g.size {
			continue
		}
		if best == nil || w.f.pos.Offset > best.pos.Offset || w.f.pos.Offset == best.pos.Offset && w.f.pos.Ino == z.pos.Ino {
			best = w.f
		}
	}
	switch {
	case best != nil && slices.ContainsFunc(t.files, func(f *file) bool { return f.copy.of != nil && f.copy.id == best.pos.ID }):
		return false // the copy that it was made of goes on, if any
	case best != nil && best.index < 0 && g.back && best.pos.Closed != 0 && best.pos.Ino == z.pos.Ino:
		t.abandon(z) // it is done with
		return false
	case best != nil && best.index < 0:
		if best.pos.Ino != z.pos.Ino {
			t.n.Copies++
			t.afterBoth(best.pos.Path, g.of.Mtim.Nano())
			t.log.Info("file goes on compressed", zap.String("path", z.pos.Path), zap.Int64("offset", best.pos.Offset))
		}
		t.inherit(z, best)
		g.settled, g.twins = true, nil
		return true
	case best != nil && (best.name.count == 0 || t.now < g.tried+copyWait):
		return false // it is read to its end from its own descriptor; or still has its name
	}
	g.settled, g.twins = true, nil
	if g.seek && !g.chain && !t.matches(z.pos.Path) {
		t.abandon(z)
		return false
	}
	if t.old(&g.of) && !g.back {
		t.pass(z)
	} else {
		z.pos.Head = g.head
	}
	t.tell(z)
	return true
}

// lostAs returns what has the position of a twin now: its file began anew, and
// a copy may go on.
func (t *Tailer) lostAs(w *twin) *file {
	for _, fs := range [][]*file{t.files, t.unbound[w.f.pos.Ino]} {
		if i := slices.IndexFunc(fs, func(f *file) bool { return f.pos.ID == w.id }); i >= 0 {
			return fs[i]
		}
	}
	return w.f
}

// pass moves a whole .gz, not read yet, to its end.
func (t *Tailer) pass(z *file) {
	g := z.gz
	z.pos.Offset, z.pos.Size, z.pos.Head, z.pos.Marker, z.foreign, z.first = g.size, g.size, g.head, g.tail, g.size, g.size
	t.resize(z, g.size)
	t.n.Seen -= g.size // which is not meant
	t.hasHead(z)
}

// gzToEnd moves a .gz that nothing is known of to its end, if it is whole.
func (t *Tailer) gzToEnd(z *file, st *unix.Stat_t) bool {
	g := z.gz
	g.of = *st
	for !g.whole && !g.failed {
		t.turns()
		t.check(z)
	}
	if !g.whole {
		return false
	}
	t.pass(z)
	g.settled, g.twins, z.told, z.dirty = true, nil, true, false
	return true
}

// abandon lets go of a .gz that is of no use.
func (t *Tailer) abandon(z *file) {
	t.resize(z, 0)
	t.letGo(z)
	t.release(z)
	z.gz.settled, z.gz.whole = true, true
}

// pending reports whether some .gz that may have been made of f is not checked
// yet and may still become whole.
func (t *Tailer) pending(f *file) bool {
	return slices.ContainsFunc(t.zips, func(z *file) bool {
		g := z.gz
		if g.whole {
			return slices.ContainsFunc(g.twins, func(w twin) bool { return w.id == f.pos.ID && w.agree })
		}
		return t.madeOf(z.pos.Path, &f.pos) && !(g.failed && t.now >= g.tried+gzWait)
	})
}

// settleZips keeps the list of undecided .gz files.
func (t *Tailer) settleZips() {
	t.zips = slices.DeleteFunc(t.zips, func(z *file) bool { return z.index < 0 || z.gz.settled })
}
