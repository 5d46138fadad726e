package spool

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"

	"sealtail/internal/durable"
)

// Park writes an envelope that can never be delivered to the directory rejected,
// as NAME.se1, with why in NAME.why beside it, and returns the path once both are
// durable. The name comes from the content, so that an envelope that is parked
// again after a crash is there once. Park changes nothing in the queue: Trim
// does. An error for lack of room may pass; the caller tries again.
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
