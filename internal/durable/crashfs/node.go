package crashfs

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// A node is a *file or a *dir.
type node interface{ isNode() }

// A dir knows its names as the program sees them, as the disk has them, and
// what was done between the two.
type dir struct {
	now  map[string]node
	disk map[string]node
	todo []nameOp
}

// A nameOp is a change of names that is not synced: n gets the name to and
// loses the name from; an empty one is none.
type nameOp struct {
	from, to string
	n        node
}

func (*dir) isNode() {}

func newDir() *dir { return &dir{now: map[string]node{}, disk: map[string]node{}} }

func (d *dir) create(name string, n node) { d.do(nameOp{to: name, n: n}) }
func (d *dir) remove(name string, n node) { d.do(nameOp{from: name, n: n}) }
func (d *dir) rename(from, to string, n node) {
	if from != to {
		d.do(nameOp{from: from, to: to, n: n})
	}
}

func (d *dir) do(op nameOp) {
	op.apply(d.now)
	d.todo = append(d.todo, op)
}

// apply does op where its source is there to be moved.
func (op nameOp) apply(names map[string]node) {
	if op.from != "" {
		if names[op.from] != op.n {
			return
		}
		delete(names, op.from)
	}
	if op.to != "" {
		names[op.to] = op.n
	}
}

func (d *dir) clone(done map[node]node) *dir {
	dup := func(n node) node {
		if c, ok := done[n]; ok {
			return c
		}
		switch n := n.(type) {
		case *file:
			done[n] = n.clone()
		case *dir:
			done[n] = n.clone(done)
		}
		return done[n]
	}
	c := newDir()
	for name, n := range d.now {
		c.now[name] = dup(n)
	}
	for name, n := range d.disk {
		c.disk[name] = dup(n)
	}
	for _, op := range d.todo {
		c.todo = append(c.todo, nameOp{op.from, op.to, dup(op.n)})
	}
	return c
}

func (d *dir) survivor(rng *rand.Rand, luck func() bool, done map[*file]*file) *dir {
	names := maps.Clone(d.disk)
	for _, op := range d.todo {
		if luck() {
			op.apply(names)
		}
	}
	c := newDir()
	for _, name := range slices.Sorted(maps.Keys(names)) { // in order: a draw must be repeatable
		switch n := names[name].(type) {
		case *dir:
			c.now[name] = n.survivor(rng, luck, done)
		case *file:
			if done[n] == nil {
				done[n] = n.survivor(rng, luck)
			}
			c.now[name] = done[n]
		}
	}
	c.disk = maps.Clone(c.now)
	return c
}

// pages counts the pages that the files below d take.
func (d *dir) pages(seen map[*file]bool) (n int64) {
	for _, e := range d.now {
		switch e := e.(type) {
		case *dir:
			n += e.pages(seen)
		case *file:
			if !seen[e] {
				seen[e] = true
				n += e.blocks
			}
		}
	}
	return n
}

// A file has pages and a size, each as the program sees it and as it may be on
// disk.
type file struct {
	mode   fsMode
	pages  map[int64]*page
	blocks int64 // pages reserved: all up to the highest written or allocated

	size      int64
	diskSize  int64
	maybeSize []int64 // since the last Sync
}

// A page is never changed in place: its slices are shared by copies of the
// file system. A nil slice is all zeros.
type page struct {
	now   []byte
	disk  []byte
	maybe [][]byte // contents since the last Sync that succeeded
	dirty bool     // a Sync would write it
}

func (*file) isNode() {}

// A clone shares the contents of pages, which never change.
func (f *file) clone() *file {
	c := *f
	c.maybeSize = slices.Clone(f.maybeSize)
	c.pages = make(map[int64]*page, len(f.pages))
	for i, p := range f.pages {
		q := *p
		q.maybe = slices.Clone(p.maybe)
		c.pages[i] = &q
	}
	return &c
}

func (f *file) survivor(rng *rand.Rand, luck func() bool) *file {
	c := &file{mode: f.mode, pages: make(map[int64]*page, len(f.pages)), size: f.diskSize}
	if n := len(f.maybeSize); n > 0 && luck() {
		c.size = f.maybeSize[rng.IntN(n)]
	}
	c.diskSize, c.blocks = c.size, (c.size+PageSize-1)/PageSize
	for _, i := range slices.Sorted(maps.Keys(f.pages)) {
		p := f.pages[i]
		b := p.disk
		if n := len(p.maybe); n > 0 && luck() {
			b = p.maybe[n-1] // mostly the newest
			if rng.IntN(4) == 0 {
				b = p.maybe[rng.IntN(n)]
			}
		}
		if rest := c.size - i*PageSize; b != nil && rest > 0 {
			if rest < PageSize { // what lies beyond the size reads as zeros later
				b = append(slices.Clone(b[:rest]), make([]byte, PageSize-rest)...)
			}
			c.pages[i] = &page{now: b, disk: b}
		}
	}
	return c
}

// write puts b at off. The caller has checked that there is room.
func (f *file) write(b []byte, off int64) {
	end := off + int64(len(b))
	for len(b) > 0 {
		i, at := off/PageSize, off%PageSize
		n := min(int64(len(b)), PageSize-at)
		p := f.pages[i]
		if p == nil {
			p = &page{}
			f.pages[i] = p
		}
		next := make([]byte, PageSize)
		copy(next, p.now)
		copy(next[at:], b[:n])
		p.set(next)
		b, off = b[n:], off+n
	}
	f.blocks = max(f.blocks, (end+PageSize-1)/PageSize)
	if end > f.size {
		f.setSize(end)
	}
}

func (p *page) set(b []byte) {
	p.now, p.dirty = b, true
	p.maybe = append(p.maybe, b)
}

func (f *file) setSize(size int64) {
	f.size = size
	f.maybeSize = append(f.maybeSize, size)
}

// truncate sets the size and returns how many pages are free for it.
func (f *file) truncate(size int64) (freed int64) {
	if size < f.size {
		for i, p := range f.pages {
			switch from := i * PageSize; {
			case from >= size:
				p.set(nil)
			case from+PageSize > size && p.now != nil:
				next := make([]byte, PageSize)
				copy(next, p.now[:size-from])
				p.set(next)
			}
		}
		blocks := min(f.blocks, (size+PageSize-1)/PageSize)
		freed, f.blocks = f.blocks-blocks, blocks
	}
	if size != f.size {
		f.setSize(size)
	}
	return freed
}

func (f *file) read(b []byte, off int64) int {
	b = b[:max(0, min(int64(len(b)), f.size-off))]
	for n := 0; n < len(b); {
		i, at := (off+int64(n))/PageSize, (off+int64(n))%PageSize
		part := b[n:min(len(b), n+int(PageSize-at))]
		if p := f.pages[i]; p != nil && p.now != nil {
			copy(part, p.now[at:])
		} else {
			clear(part)
		}
		n += len(part)
	}
	return len(b)
}

func (f *file) sync() {
	for _, p := range f.pages {
		if p.dirty {
			p.disk, p.maybe, p.dirty = p.now, nil, false
		}
	}
	f.diskSize, f.maybeSize = f.size, nil
}

// failSync is what Linux does when the disk refuses: the pages count as clean,
// and read back as if all were well.
func (f *file) failSync() {
	for _, p := range f.pages {
		p.dirty = false
	}
}

func splitPath(p string) []string {
	return strings.FieldsFunc(p, func(r rune) bool { return r == '/' })
}
