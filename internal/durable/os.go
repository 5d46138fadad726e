package durable

import (
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// OS is the file system of the machine.
var OS FS = osFS{}

type osFS struct{}

func (osFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err // not f: a nil *os.File in a File is not nil
	}
	return osFile{f}, nil
}

func (osFS) Rename(oldname, newname string) error        { return os.Rename(oldname, newname) }
func (osFS) Remove(name string) error                    { return os.Remove(name) }
func (osFS) ReadDir(dir string) ([]fs.DirEntry, error)   { return os.ReadDir(dir) }
func (osFS) MkdirAll(dir string, perm fs.FileMode) error { return os.MkdirAll(dir, perm) }
func (osFS) Stat(name string) (fs.FileInfo, error)       { return os.Stat(name) }

// descriptorWait is how long SyncDir waits for a descriptor. To find none is no
// failed sync, and others give theirs back soon.
const descriptorWait = 30 * time.Second

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	for start := time.Now(); err != nil && NoRoom(err) && time.Since(start) < descriptorWait; d, err = os.Open(dir) {
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

func (osFS) Free(dir string) (free, total uint64, err error) {
	var st unix.Statfs_t
	err = again(func() error { return unix.Statfs(dir, &st) })
	if err != nil {
		return 0, 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return st.Bavail * uint64(st.Bsize), st.Blocks * uint64(st.Bsize), nil
}

type osFile struct{ *os.File }

func (f osFile) SyncData() error {
	return f.do("fdatasync", unix.Fdatasync)
}

func (f osFile) Allocate(size int64) error {
	return f.do("fallocate", func(fd int) error { return unix.Fallocate(fd, 0, 0, size) })
}

func (f osFile) WritevAt(off int64, bufs ...[]byte) (int64, error) {
	iov := make([][]byte, 0, len(bufs))
	for _, b := range bufs {
		if len(b) > 0 {
			iov = append(iov, b)
		}
	}
	var done int64
	err := f.do("pwritev", func(fd int) error {
		for len(iov) > 0 {
			n, err := unix.Pwritev(fd, iov, off+done)
			if err != nil {
				return err
			}
			if n == 0 {
				return io.ErrUnexpectedEOF
			}
			done += int64(n)
			for n > 0 && n >= len(iov[0]) {
				n -= len(iov[0])
				iov = iov[1:]
			}
			if n > 0 {
				iov[0] = iov[0][n:]
			}
		}
		return nil
	})
	return done, err
}

// do calls fn with the descriptor, which stays open meanwhile, until no signal
// interrupts it.
func (f osFile) do(op string, fn func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	err = conn.Control(func(fd uintptr) {
		ferr = again(func() error { return fn(int(fd)) })
	})
	if ferr != nil {
		err = &fs.PathError{Op: op, Path: f.Name(), Err: ferr}
	}
	return err
}

// again calls fn until it is not interrupted by a signal.
func again(fn func() error) error {
	for {
		if err := fn(); err != unix.EINTR {
			return err
		}
	}
}
