package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrLocked is returned by [Lock] while another process holds the lock.
var ErrLocked = errors.New("locked by another process")

// ErrNotPrivate is returned by [ReadPrivate] for a file that others may read or
// change. The text around it says what to do.
var ErrNotPrivate = errors.New("not private")

// Lock takes the lock that the file name stands for, and makes the file if it
// is missing. The lock is held until the returned value is closed or the
// process ends; the file stays.
func Lock(name string) (io.Closer, error) {
	f, err := flock(name)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// LockOnce is [Lock], but the file goes when the returned value is closed.
func LockOnce(name string) (io.Closer, error) {
	for {
		f, err := flock(name)
		if err != nil {
			return nil, err
		}
		held, err := f.Stat()
		if err == nil {
			var now fs.FileInfo
			if now, err = os.Stat(name); err == nil && os.SameFile(held, now) {
				return once{f}, nil
			}
		}
		f.Close()
		// Who held it before removed it, so that this lock keeps nobody out.
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
}

// once is a held lock whose file goes with it: first the name, so that nobody
// waits for a lock on a file that has none.
type once struct{ f *os.File }

func (l once) Close() error {
	err := os.Remove(l.f.Name())
	if cerr := l.f.Close(); err == nil {
		err = cerr
	}
	return err
}

func flock(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = osFile{f}.do("flock", func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("%s: %w", name, ErrLocked)
		}
		return nil, err
	}
	return f, nil
}

// ReadPrivate reads a file that holds a secret, of at most max bytes. The file
// must be a regular one, belong to root or to this process's user, and be
// closed to others; its group may read it. That is checked on the open
// descriptor, so the file read is the file checked.
//
// The answer is all that is in memory of the file: whoever clears it has wiped
// it. Nothing is left behind an error.
func ReadPrivate(name string, max int64) ([]byte, error) {
	// O_NONBLOCK: to open a FIFO must not wait for its writer.
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := private(name, info); err != nil {
		return nil, err
	}
	// One byte more than there is tells the end.
	b := make([]byte, min(info.Size(), max)+1)
	n, err := io.ReadFull(f, b)
	switch {
	case err == io.EOF, err == io.ErrUnexpectedEOF:
		return b[:n], nil
	case err == nil && info.Size() > max:
		err = fmt.Errorf("%s: longer than %d bytes", name, max)
	case err == nil:
		err = fmt.Errorf("%s: grows while it is read", name)
	}
	clear(b)
	return nil, err
}

func private(name string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: %w: not a regular file", name, ErrNotPrivate)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		if euid := os.Geteuid(); st.Uid != 0 && int(st.Uid) != euid {
			return fmt.Errorf("%s: %w: belongs to user %d, must belong to root or user %d", name, ErrNotPrivate, st.Uid, euid)
		}
	}
	if mode := info.Mode().Perm(); mode&0o037 != 0 {
		return fmt.Errorf("%s: %w: mode %04o, must be 0640 or less", name, ErrNotPrivate, mode)
	}
	return nil
}

// Create makes the file name with the content data, as [WriteFile] does on
// [OS], but never in place of another: then the error is [fs.ErrExist].
func Create(name string, data []byte, perm fs.FileMode) error {
	return write(OS, name, data, perm, func(File) error { return nil }, func(tmp string) error {
		if err := os.Link(tmp, name); err != nil {
			return err
		}
		return os.Remove(tmp)
	})
}

// Replace gives a file that there is the content data, as [WriteFile] does on
// [OS], and leaves it its owner, group and permissions (not an access control
// list). Where it may not give them, the file stays as it is.
func Replace(name string, data []byte) error {
	info, err := os.Lstat(name)
	if err != nil {
		return err
	}
	keep := func(f File) error {
		tmp := f.(osFile)
		if err := keepOwner(tmp.File, info); err != nil {
			return err
		}
		return tmp.Chmod(info.Mode().Perm())
	}
	return write(OS, name, data, 0o600, keep, func(tmp string) error { return os.Rename(tmp, name) })
}

// keepOwner gives f the owner and group that info names.
func keepOwner(f *os.File, info fs.FileInfo) error {
	now, err := f.Stat()
	if err != nil {
		return err
	}
	want, ok := info.Sys().(*syscall.Stat_t)
	has, ok2 := now.Sys().(*syscall.Stat_t)
	if !ok || !ok2 || has.Uid == want.Uid && has.Gid == want.Gid {
		return nil
	}
	if err := f.Chown(int(want.Uid), int(want.Gid)); err != nil {
		return fmt.Errorf("keep owner %d:%d: %w", want.Uid, want.Gid, err)
	}
	return nil
}
