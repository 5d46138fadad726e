package seal

import (
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"sealtail/seal/internal/schedule"
)

// A Secret is key bytes outside the garbage-collected heap: in a mapping of
// their own, so that nothing copies them, locked against swapping where the
// system permits it, left out of core dumps, and wiped by [Secret.Wipe].
//
// However it is printed or marshalled, it reads "[redacted]". Copies of a
// Secret are the same Secret. The zero Secret is empty.
type Secret struct {
	// A function, as package fmt shows a struct's unexported fields, and what
	// a pointer among them points to, but never what a function has closed over.
	mapping func() *mapping
}

type mapping struct {
	b      []byte // whole pages, or heap where the system has no mapping to give
	n      int
	mapped bool
	locked bool // cannot be swapped
}

// NewSecret returns n zero bytes to be filled by the caller, who must Wipe
// them. It does not fail: without a mapping or a lock it goes on without, and
// [Secret.Locked] says so.
func NewSecret(n int) Secret {
	m := &mapping{n: n}
	page := unix.Getpagesize()
	b, err := unix.Mmap(-1, 0, max(1, (n+page-1)/page)*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err == nil {
		m.b, m.mapped = b, true
		m.locked = unix.Mlock(b) == nil // RLIMIT_MEMLOCK may refuse
		_ = unix.Madvise(b, unix.MADV_DONTDUMP)
	} else {
		m.b = make([]byte, n)
	}
	return Secret{func() *mapping { return m }}
}

// MoveSecret returns a Secret of the bytes of b, and wipes b.
func MoveSecret(b []byte) Secret {
	s := NewSecret(len(b))
	schedule.Do(func() { copy(s.Bytes(), b) })
	clear(b)
	return s
}

// Bytes returns the key bytes themselves: never a slice to keep, as they are
// unmapped by Wipe. It returns nil after Wipe.
func (s Secret) Bytes() []byte {
	if s.mapping == nil {
		return nil
	}
	m := s.mapping()
	if m.b == nil {
		return nil
	}
	return m.b[:m.n:m.n]
}

// Locked reports that the bytes cannot be swapped to disk.
func (s Secret) Locked() bool { return s.mapping != nil && s.mapping().locked }

// Wipe zeroes the bytes and gives their memory back. Whoever calls it sees to
// it that nobody uses them; a second call does nothing.
func (s Secret) Wipe() {
	if s.mapping == nil {
		return
	}
	m := s.mapping()
	clear(m.b)
	if m.mapped {
		_ = unix.Munmap(m.b) // unlocks as well
	}
	*m = mapping{}
}

// HideMemory keeps the memory of this process, in which secrets are, out of core
// dumps, and from all processes but root's. A program calls it first of all.
func HideMemory() error {
	// Where the kernel pipes cores to a program, RLIMIT_CORE alone does not count.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make this process undumpable: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("limit core dumps: %w", err)
	}
	return nil
}

const redacted = "[redacted]"

// String returns "[redacted]".
func (Secret) String() string { return redacted }

// GoString returns "[redacted]".
func (Secret) GoString() string { return redacted }

// Format writes "[redacted]" for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText returns "[redacted]".
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON returns "[redacted]" as a JSON string.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
