package keyring

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"sealtail/internal/durable"
)

// New makes a keyring with one key of this kind, which is the primary, and
// returns the key's id. It never overwrites: an existing file is an error that
// matches [fs.ErrExist].
func New(path string, kind Kind) (id string, err error) {
	k, err := newKey(kind)
	if err != nil {
		return "", err
	}
	k.created = today()
	f := &file{primary: k.id, keys: []key{k}}
	defer f.wipe()
	return k.id, create(path, f)
}

// Rotate adds a key, which becomes the primary, and returns its id. The
// primary before it goes on as decrypt-only if it was enabled. An empty kind
// means the kind of the primary before.
//
// It refuses to make a key where only public halves are: its private half
// would lie on the host that must not have it.
func Rotate(path string, kind Kind) (id string, err error) {
	err = change(path, func(f *file) error {
		old := f.key(f.primary)
		if old.kind == HPKE && old.private == nil && old.state != Destroyed {
			return errors.New("holds public halves only: rotate where the private halves are, and export again")
		}
		if kind == "" {
			kind = old.kind
		}
		k, err := newKey(kind)
		if err != nil {
			return err
		}
		if f.key(k.id) != nil {
			return fmt.Errorf("key %q: is there already; rotate again", k.id) // one in 2^32
		}
		if old.state == Enabled {
			old.state = DecryptOnly
		}
		k.created = today()
		f.keys, f.primary, id = append(f.keys, k), k.id, k.id
		return nil
	})
	return id, err
}

// Enable lets a key wrap, if it is the primary, and unwrap.
func Enable(path, id string) error { return setState(path, id, Enabled) }

// Disable takes a key out of use until it is enabled again: agents that wrap
// under it stop sealing, readers cannot unwrap.
func Disable(path, id string) error { return setState(path, id, Disabled) }

// Destroy removes a key's material from the file: what was sealed under it can
// never be opened again, unless a copy of it is left. A copy is what the disk
// keeps of the file before: its blocks are free, not overwritten. It refuses the
// primary, always: a keyring without one would only be found out by the agents
// that stop. Rotate first.
func Destroy(path, id string) error { return setState(path, id, Destroyed) }

func setState(path, id string, to State) error {
	return change(path, func(f *file) error {
		k := f.key(id)
		switch {
		case k == nil:
			return fmt.Errorf("key %q: is not in it", id)
		case k.state == Destroyed && to != Destroyed:
			return fmt.Errorf("key %q: is destroyed for good", id)
		case id == f.primary && to == Destroyed:
			return fmt.Errorf("key %q: is the primary; rotate first", id)
		}
		k.state = to
		if to == Destroyed {
			clear(k.secret)
			clear(k.private)
			k.secret, k.public, k.private = nil, nil, nil
		}
		return nil
	})
}

// ExportPublic writes a keyring with the public halves of the one at path, for
// hosts that seal. Symmetric keys are left out; where one is the primary there
// is nothing to export, and it refuses. Like [New] it never overwrites.
func ExportPublic(path, to string) error {
	f, err := Open(path).read()
	if err != nil {
		return err
	}
	defer f.wipe()
	if k := f.key(f.primary); k.kind != HPKE {
		return fmt.Errorf("keyring %s: key %q: is symmetric and has no public half; rotate to %s", path, k.id, HPKE)
	}
	public := &file{primary: f.primary}
	for _, k := range f.keys {
		if k.kind == HPKE {
			k.private = nil
			public.keys = append(public.keys, k)
		}
	}
	return create(to, public)
}

// create writes a file that is not there yet.
func create(path string, f *file) error {
	lock, err := durable.LockOnce(path + ".lock")
	if err != nil {
		return err
	}
	defer lock.Close()
	err = write(path, f, func(b []byte) error { return durable.Create(path, b, 0o600) })
	if errors.Is(err, fs.ErrExist) {
		err = fmt.Errorf("keyring %s: %w", path, fs.ErrExist)
	}
	return err
}

// change reads, changes and writes a file, while no other change can. Whoever
// could read it still can, and whose it was it stays.
func change(path string, do func(*file) error) error {
	// What a link leads to is changed, not the link: a key destroyed there must be gone.
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	lock, err := durable.LockOnce(path + ".lock")
	if err != nil {
		return err
	}
	defer lock.Close()
	f, err := Open(path).read()
	if err != nil {
		return err
	}
	defer f.wipe()
	if err := do(f); err != nil {
		return fmt.Errorf("keyring %s: %w", path, err)
	}
	return write(path, f, func(b []byte) error { return durable.Replace(path, b) })
}

// write has put write the text of f.
func write(path string, f *file, put func([]byte) error) error {
	b := f.marshal()
	defer clear(b)
	// What cannot be read again must not replace what can.
	again, err := parse(b)
	if err != nil {
		return fmt.Errorf("keyring %s: %w", path, err)
	}
	again.wipe()
	return put(b)
}

func today() time.Time { return time.Now().UTC().Truncate(time.Second) }
