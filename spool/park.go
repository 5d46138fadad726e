package spool

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"

	"sealtail/internal/durable"
)

// Park writes an envelope that can never be delivered to the directory rejected,
// as NAME.se1, with why in NAME.why beside it, and returns the path once both are
// durable. The name comes from the content, so that an envelope that is parked
// again after a crash is there once. Park changes nothing in the queue: Trim
// does. The directory holds as much as the segments may: Options.MaxBytes, and
// no more below Options.MinFree. An error for lack of room ([durable.NoRoom]) may
// pass; the caller tries again.
func (s *Spool) Park(env []byte, why string) (string, error) {
	s.mu.Lock()
	err := s.err
	s.mu.Unlock()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(s.dir, rejectedDir)
	if err := durable.MkdirAll(s.fs, dir, 0o700); err != nil {
		return "", err
	}
	if why := s.low(); why != "" {
		return "", fmt.Errorf("%s: %s: %w", dir, why, syscall.ENOSPC)
	}
	held, err := s.held(dir)
	if err != nil {
		return "", err
	}
	if held+int64(len(env)) > s.o.MaxBytes {
		return "", fmt.Errorf("%s holds %d bytes of max_bytes = %d, move out what is there: %w", dir, held, s.o.MaxBytes, syscall.EDQUOT)
	}
	sum := sha256.Sum256(env)
	name := filepath.Join(dir, hex.EncodeToString(sum[:16]))
	if err := durable.WriteFile(s.fs, name+".why", []byte(why+"\n"), 0o600); err != nil {
		return "", err
	}
	if err := durable.WriteFile(s.fs, name+".se1", env, 0o600); err != nil {
		return "", err
	}
	s.mu.Lock()
	s.stats.Parked++
	s.mu.Unlock()
	return name + ".se1", nil
}

// held is the number of bytes in the files of a directory.
func (s *Spool) held(dir string) (n int64, err error) {
	list, err := s.fs.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range list {
		st, err := s.fs.Stat(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // moved out
		}
		if err != nil {
			return 0, err
		}
		n += st.Size()
	}
	return n, nil
}
