package tail

import (
	"context"

	"golang.org/x/sys/unix"

	"sealtail/record"
)

// Ends returns positions at the ends of the files that are there now and have
// none, each behind the last whole line, and goes on from them: a stream that
// begins at the end of its files keeps them before Run. Files that come later
// are read from 0.
func (t *Tailer) Ends(ctx context.Context) ([]record.Position, error) {
	if t.scans == 0 {
		t.scan()
	}
	defer t.lively.Store(nil)
	var ends []record.Position
	for _, f := range t.files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		t.turns()
		if !f.told && t.toEnd(f) {
			ends = append(ends, f.pos)
		}
	}
	return ends, nil
}

// toEnd moves the position of a file that was not read to its end, and reports
// whether the file could be read.
func (t *Tailer) toEnd(f *file) bool {
	var st unix.Stat_t
	fd := f.fd
	if fd < 0 {
		var err error
		if fd, err = t.open(f.pos.Path, &st); err != nil {
			return false
		}
		defer unix.Close(fd)
	}
	if err := fstat(fd, &st); err != nil || (inode{st.Dev, st.Ino}) != f.key() {
		return false
	}
	if f.gz != nil {
		was := f.fd
		f.fd = fd
		ok := t.gzToEnd(f, &st)
		f.fd = was
		return ok
	}
	was := f.fd
	f.fd = fd
	conv := t.converter(f)
	f.fd = was
	end := t.lastLine(fd, st.Size, conv)
	n := int(min(end, printBytes))
	head, ok := t.printAt(fd, n, 0)
	mark, ok2 := t.printAt(fd, n, end-int64(n))
	if !ok || !ok2 {
		return false
	}
	f.pos.Offset, f.pos.Size, f.foreign = end, st.Size, end
	t.note(f, &st)
	t.n.Seen -= end // which is not meant
	if n > 0 {
		f.pos.Head, f.pos.Marker = head, mark
	}
	t.hasHead(f)
	f.told, f.dirty, f.copy.of = true, false, nil
	return true
}

// lastLine returns the offset behind the last line feed before size. A line
// longer than the longest record is given up.
func (t *Tailer) lastLine(fd int, size int64, c *converter) int64 {
	if c != nil {
		size -= size % int64(c.unit)
	}
	for to := size; to > 0 && size-to <= int64(t.cut.max); {
		from := max(0, to-int64(len(t.scratch)))
		b := t.scratch[:to-from]
		if n, err := pread(fd, b, from); err != nil || n < len(b) {
			return size
		}
		if n := c.lines(b); n > 0 {
			return from + int64(n)
		}
		if from == 0 {
			return 0
		}
		to = from
	}
	return size
}
