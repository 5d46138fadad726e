// Package hidden holds text that is not to be seen: secrets, from where they are
// read to where they are used.
package hidden

import (
	"fmt"
	"io"
)

// A Text is hidden: however it is printed or marshalled, it reads "[redacted]".
// [Text.Reveal] alone returns it. The zero Text is empty; two Texts are compared
// by [Text.Equal] or [reflect.DeepEqual], not by ==.
type Text struct {
	// Package fmt shows a struct's unexported fields, but not the string that
	// a pointer among them leads to.
	s *string
}

// New returns s as a Text.
func New(s string) Text {
	if s == "" {
		return Text{}
	}
	return Text{&s}
}

// Reveal returns the text itself.
func (t Text) Reveal() string {
	if t.s == nil {
		return ""
	}
	return *t.s
}

// Empty reports that there is no text.
func (t Text) Empty() bool { return t.s == nil }

// Equal reports whether t and u are the same text.
func (t Text) Equal(u Text) bool { return t.Reveal() == u.Reveal() }

const redacted = "[redacted]"

// String returns "[redacted]".
func (Text) String() string { return redacted }

// GoString returns "[redacted]".
func (Text) GoString() string { return redacted }

// Format writes "[redacted]" for every verb.
func (Text) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText returns "[redacted]".
func (Text) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON returns "[redacted]" as a JSON string.
func (Text) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
