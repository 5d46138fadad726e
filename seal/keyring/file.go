package keyring

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A State is what a key may do.
type State string

const (
	Enabled     State = "enabled"      // wrap and unwrap
	DecryptOnly State = "decrypt-only" // unwrap
	Disabled    State = "disabled"     // nothing
	Destroyed   State = "destroyed"    // nothing ever again: only its id is left
)

// A key is one key of a file. Its secrets are wiped by file.wipe.
type key struct {
	id      string
	kind    Kind
	state   State
	created time.Time
	secret  []byte // symmetric kinds
	public  []byte // HPKE
	private []byte // HPKE; nil where only the public half is here
}

// A file is the parsed content of a keyring file.
type file struct {
	primary string
	keys    []key
}

// key returns the key with this id, or nil.
func (f *file) key(id string) *key {
	for i := range f.keys {
		if f.keys[i].id == id {
			return &f.keys[i]
		}
	}
	return nil
}

// wipe zeroes the secrets.
func (f *file) wipe() {
	for _, k := range f.keys {
		clear(k.secret)
		clear(k.private)
	}
}

// parse returns the content of a keyring file, or the first thing wrong with
// it and what to do about that. It keeps nothing of b, and leaves no secret in
// memory but those of the file that it returns.
func parse(b []byte) (*file, error) {
	f := &file{}
	if err := f.parse(b); err != nil {
		f.wipe()
		return nil, err
	}
	return f, nil
}

func (f *file) parse(b []byte) error {
	if b = bytes.TrimLeft(b, " \t\r\n"); len(b) == 0 || b[0] != '{' {
		return errors.New("is no JSON object")
	}
	if err := json.Unmarshal(b, new(struct{})); err != nil {
		return fmt.Errorf("is no JSON: %w", err)
	}
	var version int
	var keys []byte
	err := members(b, func(name string, value []byte) error {
		switch name {
		case "keyring":
			return json.Unmarshal(value, &version)
		case "primary":
			return json.Unmarshal(value, &f.primary)
		case "keys":
			keys = value
			if value[0] != '[' {
				return errors.New("is no array")
			}
			return nil
		}
		return errUnknown
	})
	if err != nil {
		return err
	}
	if version != 1 {
		return fmt.Errorf(`"keyring" is %d: this version reads 1`, version)
	}
	for raw := range values(keys) {
		k, err := parseKey(raw)
		f.keys = append(f.keys, k) // to be wiped with the others, whatever comes
		if err != nil && k.id == "" {
			return fmt.Errorf("key %d: %w", len(f.keys), err)
		}
		if err == nil && f.key(k.id) != &f.keys[len(f.keys)-1] {
			err = errors.New("is there twice; remove one")
		}
		if err != nil {
			return fmt.Errorf("key %q: %w", k.id, err)
		}
	}
	if f.key(f.primary) == nil {
		return fmt.Errorf(`"primary" is %q: name one of the keys`, f.primary)
	}
	return nil
}

// parseKey returns what could be read of a key also when there is an error.
func parseKey(b []byte) (k key, err error) {
	if b[0] != '{' {
		return k, errors.New("is no JSON object")
	}
	id := ""
	err = members(b, func(name string, value []byte) (err error) {
		switch name {
		case "id":
			err = json.Unmarshal(value, &id)
		case "kind":
			err = json.Unmarshal(value, &k.kind)
		case "state":
			err = json.Unmarshal(value, &k.state)
		case "created":
			err = json.Unmarshal(value, &k.created)
		case "key":
			k.secret, err = material(value)
		case "public":
			k.public, err = material(value)
		case "private":
			k.private, err = material(value)
		default:
			err = errUnknown
		}
		return err
	})
	if err == nil && !validID(id) {
		return k, fmt.Errorf("id %q: use 1 to 100 letters, digits, and . _ -", id)
	}
	k.id = id
	if err == nil {
		err = k.check()
	}
	return k, err
}

// check tells whether k is sound: its material there, of the right size, and
// that which its id says.
func (k *key) check() error {
	switch k.state {
	case Enabled, DecryptOnly, Disabled:
	case Destroyed:
		if k.secret != nil || k.public != nil || k.private != nil {
			return errors.New("is destroyed and yet has material; remove the material, or set another state")
		}
	default:
		return fmt.Errorf("state %q: use %s, %s, %s or %s", k.state, Enabled, DecryptOnly, Disabled, Destroyed)
	}
	if k.created.IsZero() {
		return errors.New(`has no "created"; add the time, as 2006-01-02T15:04:05Z`)
	}
	if !k.kind.known() {
		return fmt.Errorf("kind %q: use %s, %s or %s", k.kind, AES256GCM, SM4GCM, HPKE)
	}
	if k.state == Destroyed {
		return nil
	}
	if k.kind == HPKE {
		if k.secret != nil {
			return errors.New(`has "key": this kind has "public", and where it may unwrap "private"`)
		}
		pub, err := kem().NewPublicKey(k.public)
		if err != nil {
			return errors.New(`"public" is no such key; restore it from a copy`)
		}
		if k.private != nil {
			priv, err := kem().NewPrivateKey(k.private)
			if err != nil {
				return errors.New(`"private" is no such key; restore it from a copy`)
			}
			if !bytes.Equal(priv.PublicKey().Bytes(), pub.Bytes()) {
				return errors.New(`"public" and "private" are of different keys; restore them from a copy`)
			}
		}
	} else {
		if k.public != nil || k.private != nil {
			return errors.New(`has "public" or "private": this kind has "key"`)
		}
		if want := k.kind.size(); len(k.secret) != want {
			return fmt.Errorf(`"key" has %d bytes, want %d; restore it from a copy`, len(k.secret), want)
		}
	}
	if mark, ok := strings.CutPrefix(k.id, string(k.kind)+"-"); ok && len(mark) == 8 && k.id != k.fingerprint() {
		return fmt.Errorf("its material is that of %s; restore it from a copy", k.fingerprint())
	}
	return nil
}

// marshal returns the one canonical text of f, which is nowhere else in memory.
func (f *file) marshal() []byte {
	size := 256
	for _, k := range f.keys {
		size += 512 + base64.StdEncoding.EncodedLen(len(k.secret)+len(k.public)+len(k.private)+6)
	}
	b := make([]byte, 0, size) // never outgrown: ids, kinds and states are short
	b = fmt.Appendf(b, "{\n  \"keyring\": 1,\n  \"primary\": %q,\n  \"keys\": [", f.primary)
	for i, k := range f.keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, "\n    {\n      \"id\": %q,\n      \"kind\": %q,\n      \"state\": %q,\n      \"created\": %q",
			k.id, k.kind, k.state, k.created.Format(time.RFC3339Nano))
		for _, m := range []struct {
			name  string
			bytes []byte
		}{{"key", k.secret}, {"public", k.public}, {"private", k.private}} {
			if len(m.bytes) > 0 {
				b = append(append(b, ",\n      \""...), m.name...)
				b = append(base64.StdEncoding.AppendEncode(append(b, "\": \""...), m.bytes), '"')
			}
		}
		b = append(b, "\n    }"...)
	}
	return append(b, "\n  ]\n}\n"...)
}

func validID(id string) bool {
	for _, c := range []byte(id) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return len(id) >= 1 && len(id) <= 100
}
