package tail

import (
	"bytes"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// A writer without O_APPEND goes on at its old offset after a truncation: the
// file then begins with a hole up to there, which reads as NULs and may be
// larger than the disk. Where the system knows of the hole, no byte of it is
// read; NULs that were written are data.

// skipHole moves a file that nothing was taken of, and whose content begins with
// a NUL, behind its hole, and reports whether there was one. A file that is all
// hole waits for its first byte.
func (t *Tailer) skipHole(f *file, size int64) bool {
	from, err := unix.Seek(f.fd, 0, unix.SEEK_DATA)
	if err != nil || from <= 0 || from >= size {
		return false
	}
	// Holes end with a block of the file system, the rest of which is NULs too.
	b := t.scratch[:min(int64(len(t.scratch)), size-from)]
	n, err := pread(f.fd, b, from)
	if err != nil {
		return false
	}
	from += int64(len(b[:n]) - len(bytes.TrimLeft(b[:n], "\x00")))
	p := &f.pos
	head, ok := t.printAt(f.fd, int(min(from, printBytes)), 0)
	mark, ok2 := t.printAt(f.fd, int(min(from, printBytes)), from-min(from, printBytes))
	if !ok || !ok2 {
		return false
	}
	t.dropHead(f)
	p.Offset, p.From, p.Head, p.Marker = from, from, head, mark
	f.foreign = from
	t.n.Hole += from
	t.log.Info("file begins with a hole, skipped", zap.String("path", p.Path), zap.Int64("bytes", from))
	return true
}

// allHole reports whether nothing was ever written to the file.
func allHole(fd int) bool {
	_, err := unix.Seek(fd, 0, unix.SEEK_DATA)
	return err == unix.ENXIO
}
