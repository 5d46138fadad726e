package seal

import (
	"context"
	"errors"
	"fmt"
)

// A KMS makes data keys. It is all that the sealing side asks of a key
// service: it never unwraps.
type KMS interface {
	// Generate returns 32 uniform random bytes and the same bytes wrapped,
	// bound to context where the service can bind (the envelope header's
	// bytes from its context count on, see [EncodeContext]). It returns when
	// ctx ends. What it could not do is a [*KMSError]; any other error
	// counts as [Unknown]. The caller owns the answer and wipes Plain.
	Generate(ctx context.Context, context []byte) (DataKey, error)
}

// An Unwrapper opens wrapped data keys, for readers.
type Unwrapper interface {
	// Unwrap returns the data key in r, which the caller owns and wipes.
	// The error is [ErrNotMine] where r is of another type or names another
	// key; the reader then asks the next Unwrapper. The data key is to be
	// accepted only when its dek_id equals the header's.
	Unwrap(ctx context.Context, r Recipient, context []byte) (Secret, error)
}

// ErrNotMine reports a recipient that an [Unwrapper] holds no key for.
var ErrNotMine = errors.New("wrapped under another key")

// A DataKey is a fresh data key as a [KMS] hands it out.
type DataKey struct {
	Plain      Secret      // 32 bytes
	Recipients []Recipient // Plain wrapped, 1 to 8 times
}

// A Recipient is a data key wrapped to one holder.
type Recipient struct {
	Type           uint8
	KeyID, Wrapped []byte
}

// A Class says what a failed call to a KMS means for a data key in use.
type Class uint8

const (
	Unknown     Class = 0 // nobody said: taken as an Outage, and counted
	Outage      Class = 1 // out of reach, throttled, broken: passes by itself
	Credentials Class = 2 // freshly fetched credentials were refused: first taken as an Outage, then as Revoked
	Revoked     Class = 3 // disabled, to be deleted, not found, no permission: the data key must go
	Misfit      Class = 4 // the key or the parameters can never do: a person must change them
)

// String returns the word for c that logs, status and the pause event use.
func (c Class) String() string {
	switch c {
	case Unknown:
		return "unknown"
	case Outage:
		return "outage"
	case Credentials:
		return "credentials"
	case Revoked:
		return "revoked"
	case Misfit:
		return "misfit"
	}
	return fmt.Sprintf("class %d", uint8(c))
}

// A KMSError is a failed call to a KMS. Its Err never holds a key.
type KMSError struct {
	Class     Class
	Code      string // the service's own word, such as "Rejected.Disabled"; may be empty
	Throttled bool   // an Outage by too many calls: the next ones come more slowly
	Err       error  // may be nil
}

// Error says the class, the service's code, and the cause.
func (e *KMSError) Error() string {
	s := "kms: " + e.Class.String()
	if e.Code != "" {
		s += " (" + e.Code + ")"
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *KMSError) Unwrap() error { return e.Err }
