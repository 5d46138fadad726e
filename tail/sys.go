package tail

import (
	"errors"

	"golang.org/x/sys/unix"
)

// errKind reports a path that is no regular file.
var errKind = errors.New("not a regular file")

// The calls below are those of the kernel, tried again when a signal
// interrupts them. Descriptors are plain numbers: an [os.File] a followed file
// would cost more memory than the rest of it.

func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// gone reports whether an error says that there is nothing at a path, rather
// than that it cannot be seen.
func gone(err error) bool { return err == unix.ENOENT || err == unix.ENOTDIR }

func fstat(fd int, st *unix.Stat_t) error {
	for {
		if err := unix.Fstat(fd, st); err != unix.EINTR {
			return err
		}
	}
}

func stat(path string, st *unix.Stat_t) error {
	return again(func() error { return unix.Stat(path, st) })
}

// pread fills b from off; it returns less only at the end of the file.
func pread(fd int, b []byte, off int64) (n int, err error) {
	for n < len(b) {
		m, err := unix.Pread(fd, b[n:], off+int64(n))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return n, err
		case m == 0:
			return n, nil
		default:
			n += m
		}
	}
	return n, nil
}

// open opens a regular file and says in st which. A FIFO or device that was
// put at the path meanwhile neither blocks nor is read.
func (t *Tailer) open(path string, st *unix.Stat_t) (fd int, err error) {
	err = again(func() error {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		return err
	})
	if err != nil {
		return -1, err
	}
	if err := fstat(fd, st); err != nil {
		unix.Close(fd)
		return -1, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return -1, errKind
	}
	return fd, nil
}

func openDir(path string, how int) (fd int, err error) {
	err = again(func() error {
		fd, err = unix.Open(path, how|unix.O_DIRECTORY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		return err
	})
	return fd, err
}

func fstatat(fd int, name string, st *unix.Stat_t, flags int) error {
	return again(func() error { return unix.Fstatat(fd, name, st, flags) })
}
