package keyring

import (
	"bytes"
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
// it and what to do about that.
func parse(b []byte) (*file, error) {
	f := &file{}
	var version int
	var keys []json.RawMessage
	if err := members(b, map[string]any{"keyring": &version, "primary": &f.primary, "keys": &keys}); err != nil {
		return nil, err
	}
	if version != 1 {
		return nil, fmt.Errorf(`"keyring" is %d: this version reads 1`, version)
	}
	for i, raw := range keys {
		k, err := parseKey(raw)
		if err != nil && k.id == "" {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", k.id, err)
		}
		if f.key(k.id) != nil {
			return nil, fmt.Errorf("key %q: is there twice; remove one", k.id)
		}
		f.keys = append(f.keys, k)
	}
	if f.key(f.primary) == nil {
		return nil, fmt.Errorf(`"primary" is %q: name one of the keys`, f.primary)
	}
	return f, nil
}

func parseKey(b []byte) (k key, err error) {
	var id string
	if err := members(b, map[string]any{
		"id": &id, "kind": &k.kind, "state": &k.state, "created": &k.created,
		"key": &k.secret, "public": &k.public, "private": &k.private,
	}); err != nil {
		k.id = id
		return k, err
	}
	if !validID(id) {
		return k, fmt.Errorf("id %q: use 1 to 100 letters, digits, and . _ -", id)
	}
	k.id = id
	return k, k.check()
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

// marshal returns the one canonical text of f.
func (f *file) marshal() ([]byte, error) {
	type jsonKey struct {
		ID      string    `json:"id"`
		Kind    Kind      `json:"kind"`
		State   State     `json:"state"`
		Created time.Time `json:"created"`
		Key     []byte    `json:"key,omitempty"`
		Public  []byte    `json:"public,omitempty"`
		Private []byte    `json:"private,omitempty"`
	}
	out := struct {
		Keyring int       `json:"keyring"`
		Primary string    `json:"primary"`
		Keys    []jsonKey `json:"keys"`
	}{Keyring: 1, Primary: f.primary}
	for _, k := range f.keys {
		out.Keys = append(out.Keys, jsonKey{k.id, k.kind, k.state, k.created, k.secret, k.public, k.private})
	}
	b, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// members decodes a JSON object: each member once, by its exact name, into the
// pointer that fields has for it. encoding/json by itself takes repeated and
// differently cased names.
func members(b []byte, fields map[string]any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("is no JSON object")
	}
	seen := make(map[string]bool)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return fmt.Errorf("is no JSON: %w", err)
		}
		name := t.(string) // the grammar has nothing else here
		to, known := fields[name]
		if !known {
			return fmt.Errorf("unknown field %q; remove it", name)
		}
		if seen[name] {
			return fmt.Errorf("field %q is there twice; remove one", name)
		}
		seen[name] = true
		if err := d.Decode(to); err != nil {
			return fmt.Errorf("field %q: %w", name, err)
		}
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("is no JSON: %w", err)
	}
	if d.More() {
		return errors.New("something follows the JSON object; remove it")
	}
	return nil
}

func validID(id string) bool {
	for _, c := range []byte(id) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return len(id) >= 1 && len(id) <= 100
}
