package seal

import (
	"context"
	"crypto/subtle"
	"errors"
)

// Names reports whether dek is the data key that h names.
func (h *Header) Names(dek []byte) bool {
	if len(dek) != dekSize {
		return false
	}
	id := h.Suite.dekID(dek)
	return subtle.ConstantTimeCompare(id[:], h.DEKID[:]) == 1
}

// Unwrap returns the data key that h names. It tries the recipients in order,
// each with all of us, and takes a data key only where [Header.Names] it. The
// caller wipes it. The error is an [ErrUnwrap], with what the Unwrappers said
// but for [ErrNotMine].
//
// The recipients may be the envelope's or re-wrapped ones: they are not signed.
// So an Unwrapper asks nobody that its user did not name.
func Unwrap(ctx context.Context, h *Header, recipients []Recipient, us ...Unwrapper) (Secret, error) {
	errs := []error{ErrUnwrap}
	for _, r := range recipients {
		for _, u := range us {
			dek, err := u.Unwrap(ctx, r, h.Context)
			if err == nil && h.Names(dek.Bytes()) {
				return dek, nil
			}
			dek.Wipe()
			if err != nil && !errors.Is(err, ErrNotMine) {
				errs = append(errs, err)
			}
		}
	}
	return Secret{}, errors.Join(errs...)
}
