package tail

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"sealtail/record"
)

// A file that was rotated lies where [Options.Rotated] say, or beside the one
// that took its path, under its name and a number or date. Files that were born
// and rotated between two looks lie there too: those that are not known and
// were written to since the one before them. What lies there otherwise was
// rotated before this stream began, and is not read.

func checkRotated(glob string) error {
	if !path.IsAbs(glob) {
		return fmt.Errorf("rotated %q: not an absolute path", glob)
	}
	if !doublestar.ValidatePattern(glob) {
		return fmt.Errorf("rotated %q: %w", glob, doublestar.ErrBadPattern)
	}
	return nil
}

// isRotated reports whether Options.Rotated name the path.
func (t *Tailer) isRotated(p string) bool {
	return slices.ContainsFunc(t.o.Rotated, func(g string) bool { return doublestar.MatchUnvalidated(g, p) })
}

// rotatedPaths returns the files that Options.Rotated name now. A directory that
// cannot be read has none.
func (t *Tailer) rotatedPaths() (all []string) {
	for _, g := range t.o.Rotated {
		ps, err := doublestar.FilepathGlob(g, doublestar.WithFilesOnly(), doublestar.WithFailOnIOErrors())
		if err != nil {
			t.n.ScanErrors++
		}
		all = append(all, ps...)
	}
	return all
}

func stem(p string) string {
	base := filepath.Base(p)
	if s := strings.TrimSuffix(base, filepath.Ext(base)); s != "" {
		return s
	}
	return base
}

// unrotate returns the path that a rotated one had before, or the path itself.
func unrotate(p string) string {
	p = strings.TrimSuffix(p, ".gz")
	dir, name := filepath.Split(p)
	ext := filepath.Ext(name)
	if strings.ContainsAny(ext, "-_") { // a date behind it
		ext = ""
	}
	for i := 1; i+1 < len(name); i++ {
		if strings.IndexByte("-._", name[i]) < 0 || name[i+1] < '0' || name[i+1] > '9' {
			continue
		}
		if strings.Trim(ext, ".0123456789") == "" { // the number itself
			ext = ""
		}
		return dir + name[:i] + ext
	}
	return p
}

// before is unrotate where the name alone may mislead: of a name that the
// patterns take, a number may be part, as in web-01.log.
func (t *Tailer) before(p string) string {
	dir, name := filepath.Split(strings.TrimSuffix(p, ".gz"))
	meant, best := t.matches(p), ""
	for _, from := range unrotated(name) {
		if len(from) > len(best) && (!meant || strings.HasPrefix(name, from)) && t.matches(dir+from) {
			best = from
		}
	}
	switch {
	case best != "":
		return dir + best
	case meant:
		return p
	}
	return unrotate(p)
}

// after has the files looked for that were at p after a file that was written
// to last at mtime, and are rotated too by now.
func (t *Tailer) after(p string, mtime int64) {
	if old, known := t.chains[p]; t.o.Once || known && old <= mtime {
		return
	}
	t.chains[p] = mtime
}

// afterBoth is after for p and for where p was before it was rotated.
func (t *Tailer) afterBoth(p string, mtime int64) {
	t.after(p, mtime)
	t.after(t.before(p), mtime)
}

// sinceLast has the files looked for that were at p, or where p was before it
// was rotated, since an earlier Tailer looked there last, which it did each Poll.
func (t *Tailer) sinceLast(p string) {
	if since := t.o.Since; !since.IsZero() {
		t.afterBoth(p, since.Add(-t.o.Poll).UnixNano())
	}
}

// firstSeen has the files looked for that were at paths of which nothing is
// known, and were written to since somebody could have known them.
func (t *Tailer) firstSeen() {
	if t.o.Since.IsZero() || t.o.Once {
		return
	}
	since := t.o.Since.Add(-t.o.Poll).UnixNano()
	for _, f := range t.files {
		if !f.told && f.gz == nil {
			t.after(f.pos.Path, since)
		}
	}
	for _, d := range t.dirs { // and nothing is there again
		t.list(d.path, func(_ int, name []byte, _ uint64, kind uint8) {
			n := string(name)
			if kind != unix.DT_REG && kind != unix.DT_UNKNOWN || matches(d.states, n) {
				return
			}
			for i := 1; i+1 < len(n); i++ {
				if strings.IndexByte("-._", n[i]) < 0 || n[i+1] < '0' || n[i+1] > '9' {
					continue
				}
				if p := filepath.Join(d.path, n[:i]); d.names[n[:i]] == nil && len(t.wantedAt[p]) == 0 && t.matches(p) {
					t.after(p, since)
				}
			}
		})
	}
}

// siblings finds them, and has them read from 0, oldest first.
func (t *Tailer) siblings() {
	if len(t.chains) == 0 {
		return
	}
	type found struct {
		path string
		st   unix.Stat_t
	}
	var all []found
	try := func(p string, since int64) {
		var st unix.Stat_t
		if t.matches(p) || t.excluded(p) || stat(p, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG ||
			st.Mtim.Nano() < since || t.follows(p, &st) {
			return
		}
		all = append(all, found{p, st})
	}
	dirs := map[string]bool{}
	for p := range t.chains {
		dirs[filepath.Dir(p)] = true
	}
	for dir := range dirs {
		t.list(dir, func(_ int, name []byte, _ uint64, kind uint8) {
			if kind != unix.DT_REG && kind != unix.DT_UNKNOWN {
				return
			}
			n := string(name)
			for i := 1; i+1 < len(n); i++ {
				if strings.IndexByte("-._", n[i]) < 0 || n[i+1] < '0' || n[i+1] > '9' {
					continue
				}
				if since, ok := t.chains[filepath.Join(dir, n[:i])]; ok {
					try(filepath.Join(dir, n), since)
					return
				}
			}
		})
	}
	stems := map[string]int64{}
	if len(t.o.Rotated) > 0 {
		for c, m := range t.chains {
			if since, ok := stems[stem(c)]; !ok || m < since {
				stems[stem(c)] = m
			}
		}
	}
	for _, p := range t.rotatedPaths() {
		since, ok := int64(0), false
		for n, i := filepath.Base(p), 1; i <= len(n); i++ {
			if m, is := stems[n[:i]]; is && (!ok || m < since) {
				since, ok = m, true
			}
		}
		if ok && !slices.ContainsFunc(all, func(f found) bool { return f.path == p }) {
			try(p, since)
		}
	}
	clear(t.chains)
	slices.SortFunc(all, func(a, b found) int { return int(a.st.Mtim.Nano() - b.st.Mtim.Nano()) })
	for _, f := range all {
		t.sibling(f.path)
	}
}

// sibling follows a rotated file if it is not known.
func (t *Tailer) sibling(p string) {
	var st unix.Stat_t
	fd, err := t.open(p, &st)
	if err != nil {
		return
	}
	known := t.bound[inode{st.Dev, st.Ino}] != nil
	for _, f := range t.unbound[st.Ino] {
		known = known || !f.pos.Deleted && (strings.HasSuffix(f.pos.Path, ".gz") || t.agrees(fd, p, &f.pos))
	}
	switch {
	case known:
		unix.Close(fd)
	case zipped(p, fd, &st):
		t.newGz(p, fd, &st, true, true)
	default:
		t.forgetClosed(&st)
		f := &file{pos: record.Position{ID: newID(), Path: p}, fd: -1}
		f.pos.Head, _ = t.printAt(fd, int(min(st.Size, printBytes)), 0)
		t.suspect(f, fd, &st)
		t.bind(f, fd, &st)
		f.end.gone = t.now
		if f.copy.of == nil {
			t.tell(f)
		}
		t.log.Info("rotated file found", zap.String("path", p))
	}
}
