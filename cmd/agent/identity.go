package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sealtail/internal/command"
	"sealtail/internal/durable"
	"sealtail/seal"
)

// Files of a state directory that tell this host from others. Both are
// private and never leave it.
const (
	identityFile = "identity.key" // 32 random bytes: keys the hashes of what is on disk
	signingFile  = "signing.key"  // a marshalled seal.Identity
	lockFile     = "lock"
)

const machineFile = "/etc/machine-id"

var errOtherMachine = errors.New("the state directory was made on another machine")

// An identity is what tells this host from others.
type identity struct {
	key      []byte // of the hashes
	signing  *seal.Identity
	replaced bool // signing is not what the state directory's streams began with
}

// openIdentity returns the identity in stateDir, whose lock the caller holds,
// and makes what is missing of it. Where the state was made on another machine
// (a clone, a move), or one of its files is gone, the signing key is replaced,
// durably: every stream must then get a new stream_id.
func openIdentity(stateDir string) (*identity, error) {
	if err := durable.MkdirAll(durable.OS, stateDir, 0o700); err != nil {
		return nil, err
	}
	id, err := readIdentity(stateDir)
	switch {
	case err == nil:
		return id, nil
	case errors.Is(err, errOtherMachine), errors.Is(err, fs.ErrNotExist):
	default:
		return nil, err
	}
	if id == nil {
		id = &identity{key: make([]byte, 32)}
		rand.Read(id.key)
		if err := durable.WriteFile(durable.OS, filepath.Join(stateDir, identityFile), id.key, 0o600); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{signingFile, "streams"} {
		switch _, err := os.Stat(filepath.Join(stateDir, name)); {
		case err == nil:
			id.replaced = true
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	if id.signing, err = seal.NewIdentity(); err != nil {
		return nil, err
	}
	if id.signing.Machine, err = machine(id.key, machineFile); err != nil {
		return nil, err
	}
	b, err := id.signing.MarshalBinary()
	if err != nil {
		return nil, err
	}
	defer clear(b)
	return id, durable.WriteFile(durable.OS, filepath.Join(stateDir, signingFile), b, 0o600)
}

// readIdentity reads both files and changes nothing. The error is
// fs.ErrNotExist when one is missing and errOtherMachine when they were made
// on another machine; id then holds what there is, or is nil.
func readIdentity(stateDir string) (id *identity, err error) {
	keyFile, file := filepath.Join(stateDir, identityFile), filepath.Join(stateDir, signingFile)
	id = new(identity)
	if id.key, err = durable.ReadPrivate(keyFile, 32); err != nil {
		return nil, err
	}
	if len(id.key) != 32 {
		return nil, fmt.Errorf("%s: is %d bytes, not 32", keyFile, len(id.key))
	}
	b, err := durable.ReadPrivate(file, 4096)
	if err != nil {
		return id, err
	}
	defer clear(b)
	id.signing = new(seal.Identity)
	if err := id.signing.UnmarshalBinary(b); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	here, err := machine(id.key, machineFile)
	if err != nil {
		return nil, err
	}
	if id.signing.Machine != here {
		return id, errOtherMachine
	}
	return id, nil
}

// machine is a keyed hash of what the system says this machine is: the name
// of the node in Kubernetes, else what the file holds. Where there is neither,
// all machines look the same, and clones go unnoticed. A file that is there and
// cannot be read says nothing, least of all that this is another machine.
func machine(key []byte, file string) (sum [32]byte, err error) {
	name := os.Getenv("NODE_NAME")
	if name == "" {
		b, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return sum, fmt.Errorf("tell this machine from others: %w", err)
		}
		name = strings.TrimSpace(string(b))
	}
	h := hmac.New(sha256.New, key)
	io.WriteString(h, name)
	return [32]byte(h.Sum(nil)), nil
}

func identityCommand(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("identity", flag.ContinueOnError)
	load := configFlag(flags)
	if _, err := command.Parse(flags, args, 0, 0); err != nil {
		return err
	}
	cfg, err := load()
	if err != nil {
		return err
	}
	id, err := hostIdentity(cfg.Agent.StateDir)
	if err != nil {
		return err
	}
	for _, suite := range []seal.Suite{seal.AES256GCM, seal.SM4GCM} {
		if _, err := fmt.Fprintln(stdout, id.signing.SignerLine(cfg.Agent.Host, suite)); err != nil {
			return err
		}
	}
	return nil
}

// hostIdentity returns the identity in stateDir, also while an agent runs on
// it, and makes one only where there is none: what comes of a clone is for the
// agent to do, which must start new chains with it.
func hostIdentity(stateDir string) (*identity, error) {
	id, err := readIdentity(stateDir)
	switch {
	case errors.Is(err, errOtherMachine):
		return nil, command.Hinted(fmt.Errorf("%s: %w", stateDir, err),
			"start the agent first: it makes a new signing key and new chains, then ask again")
	case errors.Is(err, durable.ErrNotPrivate):
		return nil, command.Hinted(err, "run this as the agent's user; nobody else may read or change the file")
	case !errors.Is(err, fs.ErrNotExist):
		return id, err
	}
	if err := durable.MkdirAll(durable.OS, stateDir, 0o700); err != nil {
		return nil, err
	}
	if err := ours(stateDir); err != nil {
		return nil, err
	}
	lock, err := durable.Lock(filepath.Join(stateDir, lockFile))
	if err != nil {
		return nil, command.Hinted(err, "an agent is starting: try again")
	}
	defer lock.Close()
	return openIdentity(stateDir)
}
