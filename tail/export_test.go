package tail

import (
	"time"

	"github.com/fsnotify/fsnotify"

	"sealtail/record"
)

// Step does one round at d after the one before and returns what there is to
// send then. The caller releases the chunks.
func (t *Tailer) Step(d time.Duration) []*record.Chunk {
	t.blocked = false
	t.roundAt(d)
	var all []*record.Chunk
	for c := t.next(); c != nil; c = t.next() {
		all = append(all, c)
	}
	t.found()
	t.count()
	t.publish()
	return all
}

// Round scans and looks at d after the round before, while nobody takes chunks.
func (t *Tailer) Round(d time.Duration) {
	t.blocked = true
	t.roundAt(d)
}

func (t *Tailer) roundAt(d time.Duration) {
	t.now += d
	t.wall = t.born.Add(t.now)
	t.nextScan = 0
	t.round()
	t.found()
	t.count()
	t.publish()
}

// List lists all directories, as hints have it done: files are not looked at.
func (t *Tailer) List() { t.scan() }

// NoPoll leaves only hints after the first round.
func (t *Tailer) NoPoll() { t.o.Poll = time.Hour }

// Next returns the next chunk, nil if there is none.
func (t *Tailer) Next() *record.Chunk { return t.next() }

// Leave does what Run does when it ends, but for Close.
func (t *Tailer) Leave() {
	t.blocked = true
	t.lastNews()
	t.bequeath()
}

// SetFree replaces the share of free disk space.
func (t *Tailer) SetFree(share float64) {
	t.free = func(int) (float64, bool) { return share, true }
}

// A Part is a record being cut.
type Part struct{ p cut }

func NewPart() *Part { return new(Part) }

// Split cuts lines at most max bytes long, limit bytes of them.
func (p *Part) Split(b []byte, at int64, max, limit int) (recs []record.Record, n int, full bool) {
	return cutter{max: max, id: newID}.split(nil, b, at, &p.p, limit, open)
}

// Split cuts lines at most max bytes long, limit bytes of them.
func Split(b []byte, max, limit int, ended bool) (recs []record.Record, n int, full bool) {
	var p cut
	e := open
	if ended {
		e = final
	}
	return cutter{max: max, id: newID}.split(nil, b, 0, &p, limit, e)
}

// Expand tests the braces of patterns.
func Expand(glob string) []string { return expand(glob) }

// Ledger adds up what only all files together tell, and returns the counts.
func (t *Tailer) Ledger() Stats {
	t.count()
	return t.n
}

// Decided reports whether it is known of every .gz what it is.
func (t *Tailer) Decided() bool {
	for _, f := range t.files {
		if f.gz != nil && f.undecided() {
			return false
		}
	}
	return true
}

// Inflaters returns how many .gz files are being inflated.
func (t *Tailer) Inflaters() int { return t.inflaters }

// SetRemote has all files lie on a network file system.
func (t *Tailer) SetRemote() { t.remote = func(int) bool { return true } }

// Pass makes records of text as it grows to each of ends, the last of which is
// final. What a position says is all that it knows from one read to the next.
// Records at most window bytes apart are read at once.
func (t *Tailer) Pass(text []byte, ends []int, window int) (all []record.Record) {
	f := &file{fd: -1}
	for i, end := range ends {
		f.end.final = i == len(ends)-1
		for want := window; ; {
			at := int(f.pos.Offset)
			body := text[at:min(end, at+want)]
			b := t.pool.take(0)
			b.mem = append(b.mem[:0], body...) // what is kept of it shows when it is used again
			g := t.records(f, b, b.mem, at+len(body) == end)
			for _, r := range g.recs {
				r.Content = append([]byte{}, r.Content...)
				all = append(all, r)
			}
			f.pos.Offset += int64(g.used)
			f.pos.Sources = g.sources
			f.opens = nil
			clear(b.mem)
			b.recycle(nil)
			switch {
			case g.moved:
				want = window
			case at+len(body) == end:
				want = 0
			default:
				want *= 2
			}
			if want == 0 {
				break
			}
		}
	}
	return all
}

// ParseCRI, ParseDocker read a line of a container runtime.
func ParseCRI(line []byte) (source string, time int64, text []byte, last, ok bool) {
	p, ok := cri{}.unwrap(line, nil)
	return p.source, p.time, p.text, p.last, ok
}

func ParseDocker(line []byte) (source string, time int64, text []byte, last, ok bool) {
	p, ok := docker{}.unwrap(line, nil)
	return p.source, p.time, p.text, p.last, ok
}

// PodTags tests what paths of containers' logs tell.
func PodTags(path string) []record.Tag { return podTags(path) }

// SetWatcher replaces what gives watchers.
func (t *Tailer) SetWatcher(w func() (*fsnotify.Watcher, error)) { t.watcher = w }

// TryWatch begins to watch, as Run does.
func (t *Tailer) TryWatch() { t.tryWatch() }

// SetRead replaces the reading of files.
func (t *Tailer) SetRead(read func(fd int, b []byte, off int64) (int, error)) { t.pread = read }

// Deaf takes all watches off.
func (t *Tailer) Deaf() {
	for _, p := range t.watch.w.WatchList() {
		t.watch.w.Remove(p)
	}
}

// Overflow is what the system says when it dropped events.
func (t *Tailer) Overflow() { t.watch.w.Errors <- fsnotify.ErrEventOverflow }

// Vacant returns how many paths are remembered for files that may go on there.
func (t *Tailer) Vacant() int { return len(t.vacant) + len(t.awaited) }

// Unrotate tests what rotation makes of names.
func Unrotate(path string) string { return unrotate(path) }
