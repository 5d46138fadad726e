package crashfs

import (
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"syscall"

	"sealtail/internal/durable"
)

type fsMode = fs.FileMode

// A handle is an open file.
type handle struct {
	fs   *FS
	file *file
	name string
	flag int
	life int // of the process that opened it

	mu  sync.Mutex
	pos int64 // guarded by mu; of Read and Write

	closed bool // guarded by fs.mu
}

var _ durable.File = (*handle)(nil)

func (h *handle) Name() string { return h.name }

// begin is [FS.begin] for an open file; it returns with fs.mu held.
func (h *handle) begin(kind string) (cut bool, err error) {
	cut, err = h.fs.begin(kind, h.name)
	if err == nil && (h.closed || h.life != h.fs.life) {
		err = &fs.PathError{Op: kind, Path: h.name, Err: os.ErrClosed}
	}
	if kind == Write || kind == Truncate || kind == Allocate {
		if err == nil && h.flag&(os.O_WRONLY|os.O_RDWR) == 0 {
			err = &fs.PathError{Op: kind, Path: h.name, Err: syscall.EBADF}
		}
	}
	return cut, err
}

func (h *handle) Read(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, err := h.ReadAt(b, h.pos)
	h.pos += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func (h *handle) ReadAt(b []byte, off int64) (int, error) {
	_, err := h.begin(Read)
	defer h.fs.mu.Unlock()
	if err != nil {
		return 0, err
	}
	n := h.file.read(b, off)
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (h *handle) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.flag&os.O_APPEND != 0 {
		h.fs.mu.Lock()
		h.pos = h.file.size
		h.fs.mu.Unlock()
	}
	n, err := h.WriteAt(b, h.pos)
	h.pos += int64(n)
	return n, err
}

func (h *handle) WriteAt(b []byte, off int64) (int, error) {
	n, err := h.WritevAt(off, b)
	return int(n), err
}

func (h *handle) WritevAt(off int64, bufs ...[]byte) (int64, error) {
	cut, err := h.begin(Write)
	defer h.fs.mu.Unlock()
	if err != nil {
		return 0, err
	}
	var done int64
	for _, b := range bufs {
		room := (h.file.blocks+max(h.fs.free, 0))*PageSize - (off + done)
		part := b[:max(0, min(int64(len(b)), room))]
		before := h.file.blocks
		if len(part) > 0 {
			h.file.write(part, off+done)
		}
		h.fs.free -= h.file.blocks - before
		done += int64(len(part))
		if len(part) < len(b) {
			return done, &fs.PathError{Op: Write, Path: h.name, Err: syscall.ENOSPC}
		}
	}
	return done, end(cut, Write, h.name)
}

func (h *handle) Sync() error {
	cut, err := h.begin(Sync)
	defer h.fs.mu.Unlock()
	switch {
	case err == nil && !cut:
		h.file.sync()
	case err != nil && !h.fs.off && !h.closed:
		h.file.failSync() // what was injected is the disk's refusal
	}
	if err == nil {
		err = end(cut, Sync, h.name)
	}
	return err
}

func (h *handle) SyncData() error { return h.Sync() }

func (h *handle) Truncate(size int64) error {
	cut, err := h.begin(Truncate)
	defer h.fs.mu.Unlock()
	if err != nil {
		return err
	}
	h.fs.free += h.file.truncate(size)
	return end(cut, Truncate, h.name)
}

func (h *handle) Allocate(size int64) error {
	cut, err := h.begin(Allocate)
	defer h.fs.mu.Unlock()
	if err != nil {
		return err
	}
	more := max(0, (size+PageSize-1)/PageSize-h.file.blocks)
	if more > max(h.fs.free, 0) {
		return &fs.PathError{Op: Allocate, Path: h.name, Err: syscall.ENOSPC}
	}
	h.file.blocks += more
	h.fs.free -= more
	if size > h.file.size {
		h.file.setSize(size)
	}
	return end(cut, Allocate, h.name)
}

func (h *handle) Stat() (fs.FileInfo, error) {
	_, err := h.begin(Stat)
	defer h.fs.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return infoOf(path.Base(h.name), h.file), nil
}

func (h *handle) Close() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.closed {
		return os.ErrClosed
	}
	h.closed = true
	return nil
}
