// Package crashfs is a file system in memory for crash tests. It tells what a
// program sees (the cache) from what the disk holds, and lets a test cut the
// power at any operation.
//
//	write, truncate ──▶ cache ── Sync ──▶ disk      per page of 4096 bytes, and the size
//	create, rename, remove ──▶ cache ── SyncDir ──▶ disk      per operation
//
// After a power cut ([FS.Survivor]) each page that was written and not synced
// has, at random, its old content or any that it was given since; a file has
// its old size or any since; and of the unsynced operations on names any
// subset happened, a rename wholly or not at all. After a failed Sync, pages
// read back as written and count as clean, so that no later Sync writes them:
// what Linux does.
//
// [FS.CrashAt] cuts the power at the n-th operation that changes something:
// that operation reaches the cache, and every call from then on returns
// [ErrPowerCut]. [FS.Restart] is the milder case, the end of the process
// alone: the cache survives. [FS.Inject] makes operations fail,
// [FS.SetCapacity] fills the disk.
package crashfs

import (
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"sync"
	"syscall"
	"time"

	"sealtail/internal/durable"
)

// PageSize is the unit in which unsynced content survives or not.
const PageSize = 4096

// ErrPowerCut is what every operation returns once the power is off.
var ErrPowerCut = errors.New("crashfs: the power is off")

// Kinds of operations, as [FS.Inject] sees them. All but Open (of a file that
// exists), Read and Stat change something and are counted by [FS.CrashAt].
const (
	Open     = "open"
	Create   = "create"
	Read     = "read"
	Write    = "write"
	Truncate = "truncate"
	Allocate = "allocate"
	Sync     = "sync"
	Rename   = "rename"
	Remove   = "remove"
	Mkdir    = "mkdir"
	SyncDir  = "syncdir"
	Stat     = "stat"
)

// An Op is one operation on the file system.
type Op struct {
	Kind string
	Name string // of the file; of a rename, the new name
}

// An FS is a file system in memory. It is safe for concurrent use.
type FS struct {
	mu      sync.Mutex
	root    *dir
	free    int64 // pages
	total   int64 // pages
	ops     int   // operations that changed something, so far
	crashAt int   // the power goes off at this one; 0 = never
	off     bool
	life    int // of the process; handles of an earlier one are dead
	inject  func(Op) error
}

var _ durable.FS = (*FS)(nil)

// New returns an empty file system of 1 GiB.
func New() *FS {
	f := &FS{root: newDir()}
	f.SetCapacity(1 << 30)
	return f
}

// SetCapacity sets the size of the disk in bytes. It may be less than what is
// in use; then there is no room until enough is removed.
func (f *FS) SetCapacity(bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	pages := bytes / PageSize
	f.free += pages - f.total
	f.total = pages
}

// Inject has fn called before each operation; an error that it returns is the
// operation's. A write that fails so writes nothing; a Sync that fails so
// leaves its pages at risk for ever. nil ends it.
func (f *FS) Inject(fn func(Op) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inject = fn
}

// CrashAt cuts the power at the n-th changing operation from now; 0 = never.
func (f *FS) CrashAt(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashAt = 0
	if n > 0 {
		f.crashAt = f.ops + n
	}
}

// Ops returns how many operations have changed something so far.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// Restart ends the process: open files are lost, the cache is not. The power
// is on again.
func (f *FS) Restart() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.life++
	f.off, f.crashAt, f.inject = false, 0, nil
}

// Clone returns a copy: the same cache over the same disk, without open files.
func (f *FS) Clone() *FS {
	return f.copy(func(d *dir) *dir { return d.clone(map[node]node{}) })
}

// Survivor returns the file system as it may be after a power cut now, drawn
// with rng. The receiver stays as it is.
func (f *FS) Survivor(rng *rand.Rand) *FS {
	// Each cut leans another way, so that "all of it", "none of it" and mixtures all come up often.
	keep := []float64{0, 1, 0.5, 0.1, 0.9}[rng.IntN(5)]
	luck := func() bool { return rng.Float64() < keep }
	return f.copy(func(d *dir) *dir { return d.survivor(rng, luck, map[*file]*file{}) })
}

func (f *FS) copy(root func(*dir) *dir) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := &FS{root: root(f.root), total: f.total}
	c.free = c.total - c.root.pages(map[*file]bool{})
	return c
}

// begin admits an operation. It returns with f.mu held. With cut the operation
// is the one at which the power goes off: it is done in the cache, and then
// fails.
func (f *FS) begin(kind, name string) (cut bool, err error) {
	f.mu.Lock()
	inject, off := f.inject, f.off
	f.mu.Unlock()
	if inject != nil && !off {
		err = inject(Op{kind, name})
	}
	f.mu.Lock()
	if f.off {
		return false, &fs.PathError{Op: kind, Path: name, Err: ErrPowerCut}
	}
	if err != nil {
		return false, &fs.PathError{Op: opName(kind), Path: name, Err: err}
	}
	switch kind {
	case Open, Read, Stat:
	default:
		f.ops++
		if f.ops == f.crashAt {
			f.off = true
			return true, nil
		}
	}
	return false, nil
}

// opName is what package os calls a kind of operation in its errors.
func opName(kind string) string {
	if kind == SyncDir {
		return "sync"
	}
	return kind
}

// end is the error of an operation that was done.
func end(cut bool, kind, name string) error {
	if cut {
		return &fs.PathError{Op: kind, Path: name, Err: ErrPowerCut}
	}
	return nil
}

// find returns the directory that holds name, and the node name leads to, if any.
func (f *FS) find(kind, name string) (parent *dir, base string, n node, err error) {
	name = path.Clean("/" + name)
	if name == "/" {
		return nil, "", f.root, nil
	}
	d := f.root
	elems, base := path.Split(name)
	for _, e := range splitPath(elems) {
		switch n := d.now[e].(type) {
		case *dir:
			d = n
		case nil:
			return nil, "", nil, &fs.PathError{Op: kind, Path: name, Err: syscall.ENOENT}
		default:
			return nil, "", nil, &fs.PathError{Op: kind, Path: name, Err: syscall.ENOTDIR}
		}
	}
	return d, base, d.now[base], nil
}

// OpenFile implements [durable.FS].
func (f *FS) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	kind := Open
	f.mu.Lock()
	if _, _, n, err := f.find(Open, name); err == nil && n == nil && flag&syscall.O_CREAT != 0 {
		kind = Create
	} else if flag&syscall.O_TRUNC != 0 {
		kind = Truncate
	}
	f.mu.Unlock()
	cut, err := f.begin(kind, name)
	defer f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	parent, base, n, err := f.find(Open, name)
	if err != nil {
		return nil, err
	}
	fail := func(errno syscall.Errno) (durable.File, error) {
		return nil, &fs.PathError{Op: kind, Path: name, Err: errno}
	}
	var file_ *file
	switch n := n.(type) {
	case *dir:
		return fail(syscall.EISDIR)
	case nil:
		if flag&syscall.O_CREAT == 0 {
			return fail(syscall.ENOENT)
		}
		if f.free <= 0 {
			return fail(syscall.ENOSPC)
		}
		file_ = &file{mode: perm.Perm(), pages: map[int64]*page{}}
		parent.create(base, file_)
	case *file:
		if flag&syscall.O_CREAT != 0 && flag&syscall.O_EXCL != 0 {
			return fail(syscall.EEXIST)
		}
		file_ = n
		if flag&syscall.O_TRUNC != 0 {
			f.free += n.truncate(0)
		}
	}
	if err := end(cut, kind, name); err != nil {
		return nil, err
	}
	return &handle{fs: f, file: file_, name: name, flag: flag, life: f.life}, nil
}

// Rename implements [durable.FS], within one directory.
func (f *FS) Rename(oldname, newname string) error {
	cut, err := f.begin(Rename, newname)
	defer f.mu.Unlock()
	if err != nil {
		return err
	}
	from, oldbase, n, err := f.find(Rename, oldname)
	if err != nil {
		return err
	}
	to, newbase, over, err := f.find(Rename, newname)
	if err != nil {
		return err
	}
	switch {
	case n == nil || from == nil:
		return &fs.PathError{Op: Rename, Path: oldname, Err: syscall.ENOENT}
	case from != to:
		return &fs.PathError{Op: Rename, Path: newname, Err: syscall.EXDEV}
	}
	if d, ok := over.(*dir); ok && len(d.now) > 0 {
		return &fs.PathError{Op: Rename, Path: newname, Err: syscall.ENOTEMPTY}
	}
	if old, ok := over.(*file); ok && over != n {
		f.free += old.blocks
	}
	from.rename(oldbase, newbase, n)
	return end(cut, Rename, newname)
}

// Remove implements [durable.FS]. The room of a file is free at once, even
// while it is open.
func (f *FS) Remove(name string) error {
	cut, err := f.begin(Remove, name)
	defer f.mu.Unlock()
	if err != nil {
		return err
	}
	parent, base, n, err := f.find(Remove, name)
	if err != nil {
		return err
	}
	switch n := n.(type) {
	case nil:
		return &fs.PathError{Op: Remove, Path: name, Err: syscall.ENOENT}
	case *dir:
		if parent == nil || len(n.now) > 0 {
			return &fs.PathError{Op: Remove, Path: name, Err: syscall.ENOTEMPTY}
		}
	case *file:
		f.free += n.blocks
	}
	parent.remove(base, n)
	return end(cut, Remove, name)
}

// MkdirAll implements [durable.FS].
func (f *FS) MkdirAll(name string, perm fs.FileMode) error {
	cut, err := f.begin(Mkdir, name)
	defer f.mu.Unlock()
	if err != nil {
		return err
	}
	d := f.root
	for _, e := range splitPath(path.Clean("/" + name)) {
		switch n := d.now[e].(type) {
		case *dir:
			d = n
		case *file:
			return &fs.PathError{Op: Mkdir, Path: name, Err: syscall.ENOTDIR}
		default:
			sub := newDir()
			d.create(e, sub)
			d = sub
		}
	}
	return end(cut, Mkdir, name)
}

// SyncDir implements [durable.FS].
func (f *FS) SyncDir(name string) error {
	cut, err := f.begin(SyncDir, name)
	defer f.mu.Unlock()
	if err != nil {
		return err
	}
	_, _, n, err := f.find(SyncDir, name)
	if err != nil {
		return err
	}
	d, ok := n.(*dir)
	switch {
	case n == nil:
		return &fs.PathError{Op: SyncDir, Path: name, Err: syscall.ENOENT}
	case !ok:
		return &fs.PathError{Op: SyncDir, Path: name, Err: syscall.ENOTDIR}
	case cut:
		return end(cut, SyncDir, name)
	}
	d.disk, d.todo = maps.Clone(d.now), nil
	return nil
}

// ReadDir implements [durable.FS].
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	_, err := f.begin(Read, name)
	defer f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	_, _, n, err := f.find(Read, name)
	if err != nil {
		return nil, err
	}
	d, ok := n.(*dir)
	if !ok {
		return nil, &fs.PathError{Op: Read, Path: name, Err: syscall.ENOENT}
	}
	var list []fs.DirEntry
	for _, base := range slices.Sorted(maps.Keys(d.now)) {
		list = append(list, fs.FileInfoToDirEntry(infoOf(base, d.now[base])))
	}
	return list, nil
}

// Stat implements [durable.FS].
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	_, err := f.begin(Stat, name)
	defer f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	_, base, n, err := f.find(Stat, name)
	if err != nil {
		return nil, err
	}
	if n == nil {
		return nil, &fs.PathError{Op: Stat, Path: name, Err: syscall.ENOENT}
	}
	return infoOf(base, n), nil
}

// Free implements [durable.FS].
func (f *FS) Free(name string) (free, total uint64, err error) {
	_, err = f.begin(Stat, name)
	defer f.mu.Unlock()
	if err != nil {
		return 0, 0, err
	}
	return uint64(max(f.free, 0)) * PageSize, uint64(f.total) * PageSize, nil
}

// info describes a file or directory.
type info struct {
	name string
	size int64
	mode fs.FileMode
}

func infoOf(base string, n node) info {
	switch n := n.(type) {
	case *file:
		return info{base, n.size, n.mode}
	default:
		return info{base, 0, fs.ModeDir | 0o700}
	}
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return nil }
