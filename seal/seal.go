// Package seal makes and opens SE1 envelopes: batches of log records sealed
// under a data key, chained to one another, and signed by their host.
//
// An envelope is
//
//	header ‖ commitment(32) ‖ key section ‖ payload ‖ signature section
//
// with all integers unsigned and big-endian and all times in Unix nanoseconds.
// docs/FORMAT.md is the whole of it. From the data key and the hash of the
// header, which holds a random salt, each envelope gets a key, a nonce and a
// commitment of its own, so no nonce is ever counted. The header names the
// stream, epoch, sequence and the digest of the envelope before; the host
// signs that. Whoever has the host's public key can check a chain without
// being able to read it.
//
// The sealing side is a [Chain] for each stream, over [Keys] that many chains
// share, signing with the host's [Identity]. [Head] is what must be kept to go
// on with a chain. Nothing here writes to disk: a crash leaves nothing behind.
//
// The reading side goes in this order, and each step has its error:
//
//	Parse, ParsePrefix       ErrMalformed, ErrTorn
//	Envelope.Verify          ErrForged
//	Unwrap                   ErrUnwrap
//	Envelope.Open            ErrCommitment, ErrDecrypt, ErrPadding
//	Decompress               ErrTooLarge, ErrDecompress
//
// No error holds a byte of a record or of a key.
package seal

import (
	"errors"
	"fmt"
)

// What is wrong with something that was to be opened. Match with [errors.Is].
var (
	// ErrMalformed is the error for bytes that the format does not allow.
	ErrMalformed = errors.New("malformed")
	// ErrTorn is the ErrMalformed for bytes that end too early and are well
	// formed up to there.
	ErrTorn = fmt.Errorf("%w: ends early", ErrMalformed)
	// ErrForged is the error for a public key that is not the signer's, and
	// for a signature that does not fit.
	ErrForged = errors.New("forged: signature does not fit")
	// ErrUnwrap is the error for a data key that no recipient yields, or that
	// is not the one that the header names.
	ErrUnwrap = errors.New("data key not unwrapped")
	// ErrCommitment is the error for an envelope that was not made under this
	// data key and header.
	ErrCommitment = errors.New("commitment differs")
	// ErrDecrypt is the error for a payload whose tag does not fit.
	ErrDecrypt = errors.New("payload does not authenticate")
	// ErrPadding is the error for a frame of a wrong length or padding.
	ErrPadding = errors.New("wrong frame length or padding")
	// ErrTooLarge is the error for content beyond [MaxDecompressed].
	ErrTooLarge = errors.New("content too large")
	// ErrDecompress is the error for content that is not in its codec.
	ErrDecompress = errors.New("content does not decompress")
)

func malformed(format string, a ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, a...)...)
}
