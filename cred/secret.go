package cred

import (
	"fmt"
	"io"
)

// A Secret is text that is not to be seen. However it is printed or
// marshalled, it reads "[redacted]"; [Secret.Reveal] alone returns it. The zero
// Secret is empty.
type Secret struct {
	// A function, as package fmt shows a struct's unexported fields, but never
	// what a function has closed over.
	reveal func() string
}

// NewSecret returns s as a Secret.
func NewSecret(s string) Secret {
	if s == "" {
		return Secret{}
	}
	return Secret{func() string { return s }}
}

// Reveal returns the text itself.
func (s Secret) Reveal() string {
	if s.reveal == nil {
		return ""
	}
	return s.reveal()
}

// Empty reports that there is no text.
func (s Secret) Empty() bool { return s.reveal == nil }

const redacted = "[redacted]"

// String returns "[redacted]".
func (Secret) String() string { return redacted }

// GoString returns "[redacted]".
func (Secret) GoString() string { return redacted }

// Format writes "[redacted]" for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText returns "[redacted]".
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON returns "[redacted]" as a JSON string.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
