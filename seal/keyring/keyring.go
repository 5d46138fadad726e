// Package keyring is a key service in a file: data keys are wrapped under keys
// that lie beside the agent, so that sealing works without any service.
//
// The file is JSON, mode 0600 (0640 where the group must read it):
//
//	{
//	  "keyring": 1,
//	  "primary": "aes256-gcm-5f0c11d2",
//	  "keys": [
//	    {"id": "aes256-gcm-5f0c11d2", "kind": "aes256-gcm", "state": "enabled",
//	     "created": "2026-11-01T00:00:00Z", "key": "base64, 32 bytes"}
//	  ]
//	}
//
// A symmetric key has "key"; a key of kind hpke-mlkem768-x25519 has "public",
// and "private" where it may unwrap. A destroyed key has neither. The primary
// wraps; ids end in a fingerprint of the material, so that a wrong file of the
// right name is seen at once. Nothing else is allowed: no unknown field, no
// field or id twice.
//
// What a keyring protects depends on the kind. With a symmetric key or a
// private half on the host, whoever takes the host over can open what it
// shipped; with the public half alone ([ExportPublic]) nobody there can.
// [Keyring.Opens] tells the two apart.
//
// The file is read again at each use, so a change of it bites without a
// restart, and what was read is wiped: text, keys, and what AES and SM4 make of
// them. What crypto/hpke makes of a private half stays in memory until that is
// used again; where it must not be there at all, give the host the public half.
// Wrapping follows the SE1 format, recipients of type 5 and 6.
//
// Errors of [Keyring.Generate] are [*seal.KMSError]; the code is the key's
// state ("Disabled" …), "NoFile", "NotPrivate", "Malformed" or "Unreadable".
// The functions that change a file leave it whole or as it was, also when the
// machine stops between, and leave it its owner, group and mode; meanwhile they
// hold a lock on NAME.lock.
package keyring

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"sealtail/internal/durable"
	"sealtail/seal"
	"sealtail/seal/internal/schedule"
)

// maxFile is far above any keyring: an HPKE key takes 2 KB.
const maxFile = 1 << 20

// A Keyring wraps and unwraps with the keys of a file. It is safe for
// concurrent use.
type Keyring struct{ path string }

var (
	_ seal.KMS       = (*Keyring)(nil)
	_ seal.Unwrapper = (*Keyring)(nil)
)

// Open returns the keyring in the file path. It reads nothing yet: what is
// wrong with the file is told by each use, and by [Keyring.SelfTest].
func Open(path string) *Keyring { return &Keyring{path} }

// Generate makes a data key wrapped under the primary. A key that is not
// enabled is [seal.Revoked], and so is a missing file: whoever removed it took
// the key away, and that must bite. (A file being replaced is never missing.)
// A file that is malformed or open to others is a [seal.Misfit]; one that
// cannot be read just now an [seal.Outage].
func (r *Keyring) Generate(ctx context.Context, context []byte) (seal.DataKey, error) {
	return r.GenerateIf(ctx, context, func([]Key) error { return nil })
}

// GenerateIf is Generate unless fits, which is shown the keys that the file has
// just then, returns an error.
func (r *Keyring) GenerateIf(ctx context.Context, context []byte, fits func([]Key) error) (seal.DataKey, error) {
	if err := ctx.Err(); err != nil {
		return seal.DataKey{}, &seal.KMSError{Class: seal.Outage, Err: err}
	}
	f, err := r.read()
	if err != nil {
		return seal.DataKey{}, err
	}
	defer f.wipe()
	if err := fits(f.list()); err != nil {
		return seal.DataKey{}, err
	}
	k := f.key(f.primary)
	if k.state != Enabled {
		return seal.DataKey{}, r.refuse(k)
	}
	dek := seal.NewSecret(dekSize)
	var w seal.Recipient
	// Apart: a stack that crypto/hpke has grow would leave a copy of the first's.
	schedule.Do(func() { rand.Read(dek.Bytes()) })
	schedule.Do(func() { w, err = k.wrap(dek.Bytes(), context) })
	if err != nil {
		dek.Wipe()
		return seal.DataKey{}, &seal.KMSError{Class: seal.Misfit, Code: "Wrap", Err: r.at(k, err)}
	}
	return seal.DataKey{Plain: dek, Recipients: []seal.Recipient{w}}, nil
}

// Unwrap opens what Generate wrapped, under any key that is enabled or
// decrypt-only.
func (r *Keyring) Unwrap(ctx context.Context, w seal.Recipient, context []byte) (seal.Secret, error) {
	if w.Type != seal.TypeKeyring && w.Type != seal.TypeHPKE {
		return seal.Secret{}, seal.ErrNotMine
	}
	if err := ctx.Err(); err != nil {
		return seal.Secret{}, err
	}
	f, err := r.read()
	if err != nil {
		return seal.Secret{}, err
	}
	defer f.wipe()
	k := f.key(string(w.KeyID))
	if k == nil || (k.kind == HPKE) != (w.Type == seal.TypeHPKE) {
		return seal.Secret{}, seal.ErrNotMine
	}
	if k.state != Enabled && k.state != DecryptOnly {
		return seal.Secret{}, r.refuse(k)
	}
	var dek []byte
	schedule.Do(func() { dek, err = k.unwrap(w.Wrapped, context) })
	if err != nil {
		return seal.Secret{}, r.at(k, err)
	}
	return seal.MoveSecret(dek), nil
}

// SelfTest reads the file and has every key that may do so wrap and unwrap, or
// wrap alone where its private half is not here.
func (r *Keyring) SelfTest() error {
	f, err := r.read()
	if err != nil {
		return err
	}
	defer f.wipe()
	dek, context := make([]byte, dekSize), []byte("\x00\x00")
	rand.Read(dek)
	defer clear(dek)
	for i := range f.keys {
		k := &f.keys[i]
		if k.state == Destroyed {
			continue
		}
		w, err := k.wrap(dek, context)
		if err == nil && k.opens() {
			var again []byte
			again, err = k.unwrap(w.Wrapped, context)
			if err == nil && !bytes.Equal(again, dek) {
				err = errors.New("another data key came back than was wrapped")
			}
			clear(again)
		}
		if err != nil {
			return r.at(k, fmt.Errorf("self-test: %w", err))
		}
	}
	return nil
}

// Opens reports whether the file holds what it takes to open what was sealed
// under it: a symmetric key or a private half. On a host that seals it should
// not.
func (r *Keyring) Opens() (bool, error) {
	f, err := r.read()
	if err != nil {
		return false, err
	}
	defer f.wipe()
	for i := range f.keys {
		if f.keys[i].opens() {
			return true, nil
		}
	}
	return false, nil
}

func (k *key) opens() bool { return k.secret != nil || k.private != nil }

// A Key describes a key of a keyring.
type Key struct {
	ID      string
	Kind    Kind
	State   State
	Created time.Time
	Primary bool // wraps new data keys
	Opens   bool // can unwrap: it is symmetric or has its private half
}

// List returns the keys, in the order of the file.
func (r *Keyring) List() ([]Key, error) {
	f, err := r.read()
	if err != nil {
		return nil, err
	}
	defer f.wipe()
	return f.list(), nil
}

func (f *file) list() (keys []Key) {
	for i := range f.keys {
		k := &f.keys[i]
		keys = append(keys, Key{k.id, k.kind, k.state, k.created, k.id == f.primary, k.opens()})
	}
	return keys
}

// read returns what the file holds now, for the caller to wipe.
func (r *Keyring) read() (*file, error) {
	b, err := durable.ReadPrivate(r.path, maxFile)
	if err != nil {
		e := &seal.KMSError{Class: seal.Outage, Code: "Unreadable", Err: fmt.Errorf("keyring: %w", err)}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			e.Class, e.Code = seal.Revoked, "NoFile"
		case errors.Is(err, durable.ErrNotPrivate), errors.Is(err, fs.ErrPermission):
			e.Class, e.Code = seal.Misfit, "NotPrivate"
		}
		return nil, e
	}
	defer clear(b)
	f, err := parse(b)
	if err != nil {
		return nil, &seal.KMSError{Class: seal.Misfit, Code: "Malformed", Err: fmt.Errorf("keyring %s: %w", r.path, err)}
	}
	return f, nil
}

func (r *Keyring) at(k *key, err error) error {
	return fmt.Errorf("keyring %s: key %q: %w", r.path, k.id, err)
}

// refuse says why k may not be used.
func (r *Keyring) refuse(k *key) error {
	code, err := "Disabled", errors.New("is disabled; enable it")
	switch k.state {
	case DecryptOnly:
		code, err = "DecryptOnly", errors.New("is primary but decrypt-only; rotate, or enable it")
	case Destroyed:
		code, err = "Destroyed", errors.New("is destroyed; rotate, or restore the keyring from a copy")
	}
	return &seal.KMSError{Class: seal.Revoked, Code: code, Err: r.at(k, err)}
}
