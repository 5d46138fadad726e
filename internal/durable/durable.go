// Package durable does file operations that are still done after the power
// fails: what it reports as written is on disk under its final name.
//
// [FS] and [File] are the file system as the durable parts of this program see
// it. [OS] is the real one; package crashfs is one in memory that forgets.
//
//	WriteFile:  NAME.tmp ── write ── fsync ── rename to NAME ── fsync of the directory
//
// A crash leaves NAME as it was or as it is to be, and perhaps a NAME.tmp,
// which the next WriteFile replaces. [Replace] does the same and keeps owner
// and mode, [Create] never replaces. The reasons for each step are those of
// [All File Systems Are Not Created Equal] and [Can Applications Recover from
// fsync Failures?]: after a failed fsync nothing read back proves anything, so
// its error is final and never retried.
//
// Errors: [ErrLocked] from [Lock], [ErrNotPrivate] from [ReadPrivate], all
// others are those of package os.
//
// [All File Systems Are Not Created Equal]: https://www.usenix.org/conference/osdi14/technical-sessions/presentation/pillai
// [Can Applications Recover from fsync Failures?]: https://www.usenix.org/conference/atc20/presentation/rebello
package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// An FS is the part of a file system that durable code needs. Names are paths
// as package os takes them. It is safe for concurrent use.
type FS interface {
	// OpenFile opens a file as [os.OpenFile] does.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Rename gives a file another name, in place of what had that name. It is
	// durable after SyncDir only.
	Rename(oldname, newname string) error
	// Remove unlinks a file or an empty directory. It is durable after SyncDir
	// only.
	Remove(name string) error
	// ReadDir lists a directory, sorted by name.
	ReadDir(dir string) ([]fs.DirEntry, error)
	// MkdirAll makes a directory and its parents, as [os.MkdirAll] does. The
	// function [MkdirAll] of this package makes them durable too.
	MkdirAll(dir string, perm fs.FileMode) error
	// Stat describes what a name leads to.
	Stat(name string) (fs.FileInfo, error)
	// SyncDir makes the names in a directory durable. Its error is an
	// [fs.PathError] whose Op is "sync".
	SyncDir(dir string) error
	// Free tells how many bytes an unprivileged process may still write to the
	// file system that holds dir, and how large that file system is.
	Free(dir string) (free, total uint64, err error)
}

// A File is an open file of an [FS]. ReadAt and WriteAt may be called at the
// same time from several goroutines.
type File interface {
	io.Reader
	io.Writer
	io.ReaderAt
	io.WriterAt
	// WritevAt writes bufs one behind the other from off on, in one call to
	// the system where it can. It returns the bytes written; short of all of
	// them, an error.
	WritevAt(off int64, bufs ...[]byte) (int64, error)
	// Sync makes content, size and metadata durable. Its error is an
	// [fs.PathError] whose Op is "sync".
	Sync() error
	// SyncData makes content durable, and of the metadata what is needed to
	// find it (the size, when it changed). Its error is an [fs.PathError] whose
	// Op is "sync" or "fdatasync".
	SyncData() error
	// Truncate sets the size.
	Truncate(size int64) error
	// Allocate makes the file at least size bytes long, zeros where nothing was
	// written, and reserves the room for them. An error that is
	// [errors.ErrUnsupported] says that this file system cannot.
	Allocate(size int64) error
	Stat() (fs.FileInfo, error)
	Close() error
	Name() string
}

// NoRoom reports whether err says that room is short: of disk, quota or
// descriptors. What failed this way may be tried again later. A sync that
// failed is never such, whatever it says: what it was to write may be lost.
func NoRoom(err error) bool {
	var op *fs.PathError
	if errors.As(err, &op) && (op.Op == "sync" || op.Op == "fdatasync") {
		return false
	}
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// WriteFile gives the file name the content data, wholly or not at all, and
// returns when that is durable. Two calls for one name must not overlap.
func WriteFile(fsys FS, name string, data []byte, perm fs.FileMode) error {
	return write(fsys, name, data, perm,
		func(File) error { return nil },
		func(tmp string) error { return fsys.Rename(tmp, name) })
}

// write writes NAME.tmp, which prepare gets while it is empty, and has place
// give it its final name.
func write(fsys FS, name string, data []byte, perm fs.FileMode, prepare func(File) error, place func(tmp string) error) error {
	tmp := name + ".tmp"
	if err := fsys.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := fsys.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	err = prepare(f)
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = place(tmp)
	}
	if err != nil {
		// The error that counts is the first; a file left behind is replaced by the next call.
		_ = fsys.Remove(tmp)
		return err
	}
	return fsys.SyncDir(filepath.Dir(name))
}

// MkdirAll makes dir and what is missing above it, and returns when all of it
// is durable.
func MkdirAll(fsys FS, dir string, perm fs.FileMode) error {
	dir = filepath.Clean(dir)
	var missing []string // from dir upwards
	d := dir
	for ; ; d = filepath.Dir(d) {
		info, err := fsys.Stat(d)
		if err == nil {
			if !info.IsDir() {
				return &fs.PathError{Op: "mkdir", Path: d, Err: syscall.ENOTDIR}
			}
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || d == filepath.Dir(d) {
			return err
		}
		missing = append(missing, d)
	}
	// The lowest that exists may be where an earlier call was cut off, its name
	// not synced yet; above it nothing is, because each is synced before the next
	// is made. A parent that may not be read is not one that we made it in.
	if err := fsys.SyncDir(filepath.Dir(d)); err != nil && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("sync directory %s: %w", filepath.Dir(d), err)
	}
	for i := len(missing) - 1; i >= 0; i-- {
		d := missing[i]
		if err := fsys.MkdirAll(d, perm); err != nil {
			return err
		}
		if err := fsys.SyncDir(filepath.Dir(d)); err != nil {
			return fmt.Errorf("sync directory %s: %w", filepath.Dir(d), err)
		}
	}
	return nil
}

// ReadFile reads a whole file, of at most max bytes.
func ReadFile(fsys FS, name string, max int64) (data []byte, err error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err = io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > max {
		return nil, fmt.Errorf("%s: longer than %d bytes", name, max)
	}
	return data, nil
}
