package main

import (
	"context"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"sealtail/internal/command"
	"sealtail/internal/durable"
	"sealtail/reader"
	"sealtail/seal"
	"sealtail/seal/keyring"
)

// trust is what open and verify know beforehand.
type trust struct {
	signers, state string
	suites         []string
}

// maxState bounds the state file: some 300 bytes a stream.
const maxState = 64 << 20

func (t *trust) flags(fs *flag.FlagSet) {
	fs.StringVar(&t.signers, "signers", "", "`FILE` of host keys")
	fs.StringVar(&t.state, "state", "", "`FILE` that remembers")
}

// verify reads all inputs and verifies them.
func (t *trust) verify(ctx context.Context, in *inputs, stdin io.Reader, again bool) (*reader.Reader, *reader.Report, error) {
	var o reader.Options
	for _, name := range t.suites {
		suite, err := seal.ParseSuite(name)
		if err != nil {
			return nil, nil, command.Usage("%w", err)
		}
		o.Suites = append(o.Suites, suite)
	}
	if t.signers != "" {
		f, err := os.Open(t.signers)
		if err != nil {
			return nil, nil, command.Hinted(err, "sealtail identity -c FILE prints a host's keys for it")
		}
		defer f.Close()
		if o.Signers, err = seal.ParseSigners(f); err != nil {
			return nil, nil, command.Hinted(fmt.Errorf("%s: %w", t.signers, err), "one line a key: host ed25519|sm2 base64")
		}
		if o.Signers == nil {
			return nil, nil, command.Hinted(fmt.Errorf("%s: names no signer", t.signers), "sealtail identity -c FILE prints a host's keys for it")
		}
	}
	if t.state != "" {
		b, err := durable.ReadFile(durable.OS, t.state, maxState)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, err
		}
		if err == nil {
			if o.State, err = reader.ParseState(b); err != nil {
				return nil, nil, command.Hinted(fmt.Errorf("%s: %w", t.state, err), "restore it from a copy; removing it forgets what was seen")
			}
		}
	}
	o.Accept = in.accept
	r := reader.New(o)
	err := in.each(ctx, stdin, again, func(i input) error {
		if i.logs != nil {
			return r.AddLogs(i.Source, i.logs)
		}
		return r.Add(i.Source, i.in)
	})
	if err != nil {
		return nil, nil, err
	}
	return r, r.Verify(), nil
}

// remember writes the state for the next run.
func (t *trust) remember(r *reader.Reader) error {
	if t.state == "" {
		return nil
	}
	if err := durable.WriteFile(durable.OS, t.state, r.Remember().Marshal(), 0o600); err != nil {
		return fmt.Errorf("remember in %s: %w", t.state, err)
	}
	return nil
}

// keys are what open opens with.
type keys struct {
	keyrings, sm2 []string
}

func (k *keys) flags(fs *flag.FlagSet) {
	fs.Func("keyring", "`FILE` of keys", to(&k.keyrings))
	fs.Func("sm2-key", "`FILE` of an SM2 private key", to(&k.sm2))
}

// unwrappers are what the flags name, and what [reader] does.
func (k *keys) unwrappers(in *logstores) (us []seal.Unwrapper, err error) {
	keyrings := k.keyrings
	if in.cfg != nil {
		keyrings = slices.Concat(keyrings, in.cfg.Reader.Keyrings)
	}
	for _, name := range keyrings {
		r := keyring.Open(name)
		opens, err := r.Opens()
		if errors.Is(err, fs.ErrNotExist) {
			err = command.Hinted(err, "give the keyring that the hosts' public halves were exported from")
		}
		if err != nil {
			return nil, err
		}
		if !opens {
			return nil, command.Hinted(fmt.Errorf("keyring %s: holds no key that opens", name), "give the keyring with the private half: the one that export-public was made from")
		}
		us = append(us, r)
	}
	for _, name := range k.sm2 {
		b, err := durable.ReadPrivate(name, 64<<10)
		if errors.Is(err, fs.ErrNotExist) {
			err = command.Hinted(err, "give the private half of the key that the data keys were wrapped to, PKCS #8")
		}
		if err != nil {
			return nil, err
		}
		der := b
		if block, _ := pem.Decode(b); block != nil {
			der = block.Bytes
		}
		key, err := seal.ParseSM2PrivateKey(der)
		clear(b)
		clear(der)
		if err != nil {
			return nil, command.Hinted(fmt.Errorf("%s: %w", name, err), "it must be an SM2 private key, PKCS #8, not encrypted")
		}
		us = append(us, key)
	}
	services, err := in.unwrappers()
	return append(us, services...), err
}
