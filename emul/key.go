package emul

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/emmansun/gmsm/sm4"
)

// Specs of keys.
const (
	AES256 = "Aliyun_AES_256"
	SM4    = "Aliyun_SM4"
)

// States of keys. In all but Enabled a key can only be described.
const (
	Enabled         = "Enabled"
	Disabled        = "Disabled"
	PendingDeletion = "PendingDeletion"
	PendingImport   = "PendingImport"
	Unavailable     = "Unavailable"
)

// A Key is a customer master key of KMS.
type Key struct {
	ID                 string   `json:"id"`             // "" = made up
	ARN                string   `json:"arn"`            // set by the emulator
	Spec               string   `json:"spec,omitzero"`  // AES256 or SM4; "" = AES256
	State              string   `json:"state,omitzero"` // "" = Enabled
	Aliases            []string `json:"aliases,omitzero"`
	DeletionProtection bool     `json:"deletion_protection,omitzero"`
}

// A cmk is a key and its material.
type cmk struct {
	Key
	version string // id of the only one
	created time.Time
	aead    cipher.AEAD
}

func newCMK(k Key, now time.Time) *cmk {
	c := &cmk{Key: k, version: strings.ToLower(randomID()), created: now}
	c.aead = newAEAD(k.Spec == SM4, random(keySize(k.Spec == SM4)))
	return c
}

func keySize(sm bool) int {
	if sm {
		return sm4.BlockSize
	}
	return 32
}

// newAEAD returns SM4-GCM or AES-GCM.
func newAEAD(sm bool, key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if sm {
		block, err = sm4.NewCipher(key)
	}
	if err != nil {
		panic("emul: " + err.Error()) // the size of a key is ours
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("emul: " + err.Error())
	}
	return aead
}

// SetKey adds a key or changes the state, aliases and protection of the one of
// this id. The spec of a key never changes.
func (s *Server) SetKey(k Key) (Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.ID == "" {
		k.ID = "key-" + strings.ToLower(randomHex(8))
	}
	k.ARN = s.keyARN(k.ID)
	known := s.keys[k.ID]
	if known != nil {
		k.Spec = or(k.Spec, known.Spec)
	}
	k.Spec, k.State = or(k.Spec, AES256), or(k.State, Enabled)
	switch {
	case len(k.ID) > 128:
		return Key{}, fmt.Errorf("the id of a key has at most 128 bytes")
	case k.Spec != AES256 && k.Spec != SM4:
		return Key{}, fmt.Errorf("the spec of a key is %s or %s, not %q", AES256, SM4, k.Spec)
	case !slices.Contains([]string{Enabled, Disabled, PendingDeletion, PendingImport, Unavailable}, k.State):
		return Key{}, fmt.Errorf("no key is in state %q", k.State)
	case known != nil && known.Spec != k.Spec:
		return Key{}, fmt.Errorf("key %s is of spec %s", k.ID, known.Spec)
	case known == nil:
		s.keys[k.ID] = newCMK(k, s.now())
	default:
		known.Key = k
	}
	return k, nil
}

// SetKeyState changes the state of a key.
func (s *Server) SetKeyState(id, state string) error {
	s.mu.Lock()
	var changed Key
	if k := s.keys[id]; k != nil {
		changed = k.Key
	}
	s.mu.Unlock()
	if changed.ID == "" {
		return fmt.Errorf("there is no key %q", id)
	}
	changed.State = state
	_, err := s.SetKey(changed)
	return err
}

// DeleteKey removes a key. What it has wrapped cannot be unwrapped any more.
func (s *Server) DeleteKey(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, id)
}

func (s *Server) keyARN(id string) string {
	return fmt.Sprintf("acs:kms:%s:%s:key/%s", s.o.Region, s.o.Account, id)
}

// key returns the key that an id, an alias or an ARN names.
func (s *Server) key(name string) (*cmk, error) {
	prefix := fmt.Sprintf("acs:kms:%s:%s:", s.o.Region, s.o.Account)
	rest, isARN := strings.CutPrefix(name, prefix)
	if isARN {
		name = strings.TrimPrefix(rest, "key/")
	}
	if strings.HasPrefix(name, "alias/") {
		for _, k := range s.keys {
			if slices.Contains(k.Aliases, name) {
				return k, nil
			}
		}
		return nil, kmsError("Forbidden.AliasNotFound", "")
	}
	if k := s.keys[name]; k != nil {
		return k, nil
	}
	return nil, kmsError("Forbidden.KeyNotFound", "")
}

// usable returns an error unless the key is Enabled.
func (k *cmk) usable() error {
	if k.State != Enabled {
		return kmsError("Rejected."+k.State, "")
	}
	return nil
}

var errBlob = errors.New("not a ciphertext of this key and context")

// wrap returns a CiphertextBlob.
func (k *cmk) wrap(plain []byte, context string) []byte {
	head := append([]byte{1, byte(len(k.ID))}, k.ID...)
	nonce := random(k.aead.NonceSize())
	aad := append(slices.Clone(head), context...)
	return k.aead.Seal(append(head, nonce...), nonce, plain, aad)
}

// unwrap opens a CiphertextBlob of this key.
func (k *cmk) unwrap(blob []byte, context string) ([]byte, error) {
	id, rest, err := splitBlob(blob)
	if err != nil || id != k.ID || len(rest) < k.aead.NonceSize() {
		return nil, errBlob
	}
	aad := append(slices.Clone(blob[:2+len(id)]), context...)
	n := k.aead.NonceSize()
	plain, err := k.aead.Open(nil, rest[:n], rest[n:], aad)
	if err != nil {
		return nil, errBlob
	}
	return plain, nil
}

// splitBlob returns the id of the key that made a CiphertextBlob, and what
// follows it.
func splitBlob(blob []byte) (id string, rest []byte, err error) {
	if len(blob) < 2 || blob[0] != 1 || len(blob) < 2+int(blob[1]) {
		return "", nil, errBlob
	}
	n := 2 + int(blob[1])
	return string(blob[2:n]), blob[n:], nil
}
