// Package dir stores sealed envelopes in files of a directory.
//
//	DIR/<stream>/<UTC start>-<counter>.se1
//	    envelope ‖ envelope ‖ … nothing between them
//	    a stub:  89 53 50 31 ‖ u32 length, big-endian ‖ stub
//
// Directories are 0700, files 0600. A file is created with O_EXCL under a name
// of its own and never opened again by a later run. It is readable while it is
// written. Each envelope is fsynced before the next is written, so a crash can
// leave at most one torn envelope, the last of its file, which readers take as
// legal: it was not acknowledged and is put again, into another file.
//
// After a write or fsync that failed the file is given up: cut back to its
// last good length where that is possible, left with its torn end otherwise.
// What it acknowledged before was fsynced. The next Put begins a new file and
// writes all of its envelopes anew, so no fsync is ever repeated over pages
// that a failed one may have dropped. Errors are ordinary ones, to be tried
// again; a full disk is one of them. The same is done where somebody removed the
// file that is being written: what it had acknowledged went with it.
//
// Files may be moved or removed once a newer one of their stream is there.
package dir

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"sealtail/internal/durable"
	"sealtail/sink"
)

var _ sink.Store = (*Store)(nil)

// Ext ends the name of every file.
const Ext = ".se1"

// stubMagic begins a stub; the first byte and the last are those of envelopes.
const stubMagic = "\x89SP1"

// Options say where and how a [Store] writes. Path and Stream must be set.
type Options struct {
	FS       durable.FS    // default: durable.OS
	Path     string        // DIR; created with its parents when first needed
	Stream   string        // name of the stream's directory: one path element
	MaxBytes int64         // a file is ended before it grows longer; default 64 MiB
	MaxAge   time.Duration // and before it takes an envelope at this age; default 1 h
}

// A Store appends envelopes to the newest file of its own. It is safe for
// concurrent use; calls are served one after the other.
type Store struct {
	o Options

	mu      sync.Mutex   // guards what follows
	f       durable.File // nil: the next Put begins one
	size    int64        // of f, all of it fsynced
	begun   time.Time    // when f was created
	counter uint32       // of the next file
	ready   bool         // the directory exists, durably
}

// New returns a Store. It touches no file.
func New(o Options) *Store {
	if o.FS == nil {
		o.FS = durable.OS
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 64 << 20
	}
	if o.MaxAge <= 0 {
		o.MaxAge = time.Hour
	}
	return &Store{o: o}
}

// Put appends the envelopes and returns once they are durable.
func (s *Store) Put(ctx context.Context, envs [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, env := range envs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.append(env); err != nil {
			return err
		}
	}
	return nil
}

// PutStub appends a stub in its frame and returns once it is durable. The
// reason stays in the agent's log: files have no place for it.
func (s *Store) PutStub(ctx context.Context, stub []byte, _ string) error {
	b := make([]byte, 0, len(stubMagic)+4+len(stub))
	b = append(b, stubMagic...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(stub)))
	return s.Put(ctx, [][]byte{append(b, stub...)})
}

// Close ends the file being written. A later Put begins another.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end()
}

// append writes b to the end of the current file and fsyncs it.
func (s *Store) append(b []byte) error {
	if s.f != nil && (s.size > 0 && s.size+int64(len(b)) > s.o.MaxBytes || time.Since(s.begun) >= s.o.MaxAge) {
		if err := s.end(); err != nil {
			return err
		}
	}
	if s.f == nil {
		if err := s.begin(); err != nil {
			return err
		}
	}
	if _, err := s.f.WriteAt(b, s.size); err != nil {
		return s.abandon(err)
	}
	if err := s.f.SyncData(); err != nil {
		return s.abandon(err)
	}
	if removed(s.f) {
		return s.abandon(fmt.Errorf("%s: removed while it was written", s.f.Name()))
	}
	s.size += int64(len(b))
	return nil
}

// removed reports whether a file has no name left. What was written to it is
// not stored then.
func removed(f durable.File) bool {
	info, err := f.Stat()
	if err != nil {
		return true
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Nlink == 0
}

// begin creates the next file, durably.
func (s *Store) begin() error {
	dir := filepath.Join(s.o.Path, s.o.Stream)
	if !s.ready {
		if err := s.makeDir(dir); err != nil {
			return fmt.Errorf("create directory %s: %w", dir, err)
		}
		s.ready = true
	}
	now := time.Now()
	for {
		name := filepath.Join(dir, fmt.Sprintf("%s-%06d%s", now.UTC().Format("20060102T150405Z"), s.counter, Ext))
		f, err := s.o.FS.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			s.counter++
			continue
		}
		if errors.Is(err, fs.ErrNotExist) {
			s.ready = false // somebody removed the directory
		}
		if err != nil {
			return err
		}
		s.f, s.size, s.begun = f, 0, now
		s.counter++
		if err := s.o.FS.SyncDir(dir); err != nil {
			return s.abandon(fmt.Errorf("sync directory %s: %w", dir, err))
		}
		return nil
	}
}

// makeDir creates the stream's directory and makes it durable, also where an
// earlier run that was killed had just created it.
func (s *Store) makeDir(dir string) error {
	if err := durable.MkdirAll(s.o.FS, dir, 0o700); err != nil {
		return err
	}
	if err := s.o.FS.SyncDir(s.o.Path); err != nil {
		return err
	}
	// A parent that may not be read is one that this program did not create.
	if err := s.o.FS.SyncDir(filepath.Dir(s.o.Path)); !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// end closes the current file, if there is one.
func (s *Store) end() error {
	if s.f == nil {
		return nil
	}
	f := s.f
	s.f = nil
	if err := f.Close(); err != nil {
		return fmt.Errorf("close %s: %w", f.Name(), err)
	}
	return nil
}

// abandon gives the current file up because of err, which it returns. What
// goes wrong here leaves a torn end, which is legal, or an empty file.
func (s *Store) abandon(err error) error {
	f := s.f
	s.f = nil
	if s.size > 0 {
		f.Truncate(s.size)
	}
	f.Close()
	if s.size == 0 {
		s.o.FS.Remove(f.Name())
	}
	return err
}
