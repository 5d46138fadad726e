package tail

import (
	"time"

	"golang.org/x/sys/unix"

	"sealtail/record"
)

// An inode names a file as long as something holds it.
type inode struct{ dev, ino uint64 }

// A file is one followed file, or a position whose file is not found. It has
// no buffer: at rest it is this struct and its path.
type file struct {
	pos record.Position // as of the last chunk made; Size as of the last read

	gz    *gz // of a .gz file
	fd    int // -1 = closed
	index int // in Tailer.files; -1 = not followed
	name  naming
	look  looking
	copy  copying
	end   ending
	trail record.Trail // of this content, before pos.Marker

	ahead int    // bytes to read next, by the length of the lines before
	twin  *file  // next with the same head
	head  uint64 // that it is filed under in heads

	opens      []opening     // as of the last read that came to its end
	prev, next *file         // whose open records go on here; where those of this go on
	linked     time.Duration // when prev was found
	container  []record.Tag  // as its path tells them
	tagged     string        // that path

	told      bool          // the receiver has a position of this ID
	held      bool          // told to Options.Hold
	foreign   int64         // bytes before the offset that this position was not moved by, not told yet
	first     int64         // offset where the bytes of this position begin, if it was not committed before them
	foundSize int64         // as told last to Options.Found
	foundAt   time.Duration // when that was
	lost      []loss        // to be told
	dirty     bool          // the position is to be told

	// Whether it is in a list of Tailer, or where.
	queued, waits, hot    bool
	listed, fresh, headed bool // in dirty, fresh, heads
	wanted                int  // 1 + index; 0 = not looked for
}

// A naming says which entries name a file.
type naming struct {
	count    int
	at, alt  *entry // the one of pos.Path, and another
	altPath  string
	touched  bool // it lost one in this scan
	unlinked bool // no name is left at all, also outside the patterns
}

// A looking is what a file was when it was looked at last.
type looking struct {
	size         int64         // the largest of this content, or of what took its place
	sure         int64         // the largest that is known to be of this content
	short        time.Duration // since when it is shorter than the offset; 0 = it is not
	shrunk       bool          // it was shorter since
	mtime, ctime int64         // unix ns, as of the last read
	verified, as int64         // mtime and size as of the last verify
	disk         int64         // bytes it takes there

	every time.Duration // between looks
	due   time.Duration // next look, when hot
	news  time.Duration // when there were the last
}

// A copying says that a file may be the copy of another: it is not read yet.
type copying struct {
	of    *file
	id    uint64 // of its position then
	same  int64  // bytes that both began with when both were compared
	until time.Duration
}

// An ending says how a file is left.
type ending struct {
	read   bool          // to its end, as of the last read
	broken error         // of the last read; nil = it went well
	gone   time.Duration // since when it has no name; or is looked for
	sought bool          // its directory was searched
	limit  time.Duration // it is read no longer than this; 0 = no limit
	stop   int64         // where a run with Once, or after the limit, ends
	final  bool          // the end of the file ends its last line …
	cut    bool          // … but for records that were cut there (of a hole, see record.Position)
	barred bool          // its path is no longer meant: not opened again
	reason string        // of the loss of what is unread
}

func (f *file) key() inode { return inode{f.pos.Dev, f.pos.Ino} }

// unread returns the bytes known to lie past the position.
func (f *file) unread() int64 { return max(0, f.look.size-f.pos.Offset) }

// least returns how much there is of the file's content for certain.
func (f *file) least() int64 { return max(f.pos.Offset, int64(f.pos.Head.Len)) }

// note takes over what the system says of the open file.
func (t *Tailer) note(f *file, st *unix.Stat_t) {
	f.look.shrunk = f.look.shrunk || st.Size < f.look.size
	t.resize(f, max(f.look.size, st.Size))
	f.look.disk = st.Blocks * 512
	f.name.unlinked = st.Nlink == 0
}

// resize says that the content of f ends at size: what it grew by was seen.
func (t *Tailer) resize(f *file, size int64) {
	t.n.Seen += size - f.look.size
	f.look.size = size
}

// rename gives the position another ID: under one, sizes never become less.
func (t *Tailer) rename(f *file) {
	if f.told {
		old := &file{pos: f.pos, told: true, fd: -1, index: -1}
		old.pos.Forget = true
		t.tell(old)
		f.foreign, f.first = f.pos.Offset, f.pos.Offset
	}
	f.pos.ID, f.told = newID(), false
}

// sure says that what the file has up to size goes on what was taken. If it
// was seen to have more, that was cut off.
func (t *Tailer) sure(f *file, st *unix.Stat_t) {
	if st.Size < f.look.size && !t.shorter(f, st) {
		return // it is what it was, with an old size
	}
	f.look.short = 0
	if st.Size < f.look.size {
		f.look.shrunk = false
		t.n.Truncated++
		t.rename(f)
		t.lose(f, max(st.Size, f.pos.Offset), f.look.size, reasonTruncated)
	}
	t.note(f, st)
	f.look.sure = st.Size
}

// idle reports whether nothing is to be read of an open file now. One that
// just lost a name is not: where it went is not known yet.
func (f *file) idle() bool {
	return f.fd >= 0 && f.end.read && !f.queued && !f.name.touched && !f.undecided()
}

// enqueue has the file read soon.
func (t *Tailer) enqueue(f *file) {
	if !f.queued && f.fd >= 0 && !f.undecided() {
		f.queued = true
		t.queue.push(f)
	}
}

// bind joins a position with its open file.
func (t *Tailer) bind(f *file, fd int, st *unix.Stat_t) {
	t.takeUnbound(f)
	if f.told && (f.pos.Closed != 0 || f.pos.Deleted || f.pos.Ino != st.Ino) {
		t.tell(f)
	}
	f.pos.Dev, f.pos.Ino = st.Dev, st.Ino
	f.pos.Closed, f.pos.Deleted = 0, false
	t.takeHead(f, fd, st.Size)
	t.hasHead(f)
	f.ahead, f.look.every, f.end.stop = chunkBytes, 4*minLook, st.Size
	f.look.mtime, f.look.ctime = 0, 0
	f.end.final, f.end.sought, f.end.gone = false, false, 0
	t.note(f, st)
	f.look.sure = max(f.look.sure, st.Size)
	f.index = len(t.files)
	t.files = append(t.files, f)
	t.bound[f.key()] = f
	t.opened(f, fd)
	t.resume(f)
}

// release takes a file off those followed. Its position may live on.
func (t *Tailer) release(f *file) {
	t.shut(f)
	if t.bound[f.key()] == f {
		delete(t.bound, f.key())
	}
	last := t.files[len(t.files)-1]
	t.files[f.index], last.index = last, f.index
	t.files[len(t.files)-1] = nil
	t.files = t.files[:len(t.files)-1]
	f.copy.of = nil
	f.index = -1
}
