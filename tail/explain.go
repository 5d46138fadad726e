package tail

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/sys/unix"

	"sealtail/record"
)

// An Explanation says what a stream makes of one path, and why.
type Explanation struct {
	Include string // that takes the path; "" = none
	Exclude string // that leaves it out; "" = none
	Old     bool   // not written to for Options.IgnoreOlder: it would begin at its end

	Err      error // why there is nothing to follow there, or not for this user
	Dev      uint64
	Inode    uint64
	Size     int64
	Modified time.Time

	// Known is the position of the file, or of one that was there; nil = none.
	Known *record.Position
	// Same says that the file still is what Known says of it; else it would be
	// read from 0. It is known only where the file can be read.
	Same bool
}

// Takes reports whether the stream follows what is there.
func (x *Explanation) Takes() bool { return x.Include != "" && x.Exclude == "" && x.Err == nil }

// Explain says what a Tailer with these options makes of an absolute path. It
// reads little of the file, and changes nothing.
func Explain(o Options, path string) (x Explanation, err error) {
	o.Once = true
	t, err := New(o)
	if err != nil {
		return x, err
	}
	defer t.Close()
	x.Include = match(o.Include, path)
	if x.Exclude = match(o.Exclude, path); x.Exclude == "" {
		for dir := filepath.Dir(path); x.Exclude == ""; dir = filepath.Dir(dir) {
			if i := slices.IndexFunc(o.Exclude, func(g string) bool { return prunes(g, dir) }); i >= 0 {
				x.Exclude = o.Exclude[i]
			}
			if dir == "/" {
				break
			}
		}
	}
	var st unix.Stat_t
	fd, err := t.open(path, &st)
	if err != nil {
		if x.Err = err; stat(path, &st) != nil {
			st = unix.Stat_t{}
		}
	} else {
		defer unix.Close(fd)
	}
	if st.Ino != 0 {
		x.Dev, x.Inode, x.Size, x.Modified = st.Dev, st.Ino, st.Size, time.Unix(st.Mtim.Unix())
		x.Old = o.IgnoreOlder > 0 && time.Since(x.Modified) > o.IgnoreOlder
	}
	for i, p := range o.Positions {
		if p.Until != 0 || p.Ino != st.Ino && p.Path != path {
			continue
		}
		same := x.Err == nil && p.Ino == st.Ino && t.agrees(fd, path, &p) && p.Offset <= st.Size
		if x.Known == nil || same && !x.Same || same == x.Same && p.Offset > x.Known.Offset {
			x.Known, x.Same = &o.Positions[i], same
		}
	}
	return x, nil
}

func match(globs []string, path string) string {
	i := slices.IndexFunc(globs, func(g string) bool { return doublestar.MatchUnvalidated(g, path) })
	if i < 0 {
		return ""
	}
	return globs[i]
}

// Regular says that an error of an [Explanation] is that the path leads to
// something else than a regular file.
func Regular(err error) bool { return !errors.Is(err, errKind) }

// Vain returns why an include pattern can match nothing, "" if it may: all below
// its directory is excluded, or that is none.
func Vain(include string, exclude []string) string {
	ps, err := compile(include)
	if err != nil {
		return ""
	}
	why := ""
	for _, p := range ps {
		for dir := p.base; ; dir = filepath.Dir(dir) {
			if i := slices.IndexFunc(exclude, func(g string) bool { return g == include || prunes(g, dir) }); i >= 0 {
				why = "all of it is excluded by " + exclude[i]
				break
			}
			if info, err := os.Stat(dir); err == nil && !info.IsDir() {
				why = dir + " is no directory"
				break
			}
			if dir == "/" {
				return ""
			}
		}
	}
	return why
}

// A Taken is a file that a stream takes.
type Taken struct {
	Path       string
	Dev, Inode uint64
}

// Taken returns the files that were followed when [Tailer.Run] ended.
func (t *Tailer) Taken() (all []Taken) {
	for _, f := range t.files {
		all = append(all, Taken{f.pos.Path, f.pos.Dev, f.pos.Ino})
	}
	return all
}
