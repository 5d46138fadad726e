package seal

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"sealtail/seal/internal/sm"
)

// A HostKey is a public key that a reader trusts to be a host's.
type HostKey struct {
	Host   string
	Suite  Suite
	Public []byte
}

// Signer returns what headers name k by.
func (k HostKey) Signer() [32]byte { return k.Suite.sum(k.Public) }

// ParseSigners reads lines of "host ed25519|sm2 base64", as
// [Identity.SignerLine] gives them. Empty lines and those that begin with #
// are passed over. It tells of all bad lines at once.
func ParseSigners(r io.Reader) ([]HostKey, error) {
	var ks []HostKey
	var errs []error
	s := bufio.NewScanner(r)
	for n := 1; s.Scan(); n++ {
		line := strings.TrimSpace(s.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		k, err := parseHostKey(line)
		if err != nil {
			errs = append(errs, fmt.Errorf("line %d: %w", n, err))
			continue
		}
		ks = append(ks, k)
	}
	if err := s.Err(); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return ks, nil
}

func parseHostKey(line string) (k HostKey, err error) {
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return k, fmt.Errorf("%d words, want 3: host, ed25519 or sm2, base64", len(fields))
	}
	k.Host = fields[0]
	switch fields[1] {
	case AES256GCM.signature():
		k.Suite = AES256GCM
	case SM4GCM.signature():
		k.Suite = SM4GCM
	default:
		return k, fmt.Errorf("key of kind %q, want ed25519 or sm2", fields[1])
	}
	k.Public, err = base64.StdEncoding.Strict().DecodeString(fields[2])
	if err != nil {
		return k, err
	}
	if len(k.Public) != k.Suite.publicSize() {
		return k, fmt.Errorf("%s key of %d bytes, want %d", fields[1], len(k.Public), k.Suite.publicSize())
	}
	if k.Suite == SM4GCM {
		_, err = sm.NewPublicKey(k.Public)
	}
	return k, err
}
