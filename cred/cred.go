// Package cred is where the access keys for Alibaba Cloud come from.
//
// A [Provider] looks them up: [Files] reads files, also those that systemd
// hands over ([Systemd]), and [Environment] reads variables. A [Source] caches
// what its Provider found, looks again when that may have changed, and goes on
// with the last good value while looking fails.
//
// A file with a secret is read only where nobody else can read or change it;
// [Files] says how that is judged. Exactly one newline at its end is no part
// of the value.
//
// What a Provider could not do is an [*Error], whose Class says what a person
// has to mend. No error and no printed value holds a secret.
package cred

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sealtail/internal/hidden"
)

// Credentials are an access key, and for temporary ones what goes with it.
type Credentials struct {
	AccessKeyID     string
	AccessKeySecret hidden.Text
	SecurityToken   hidden.Text // empty where the access key is a lasting one
	Expires         time.Time   // zero = not known to end
}

// Equal reports whether c and d are the same access key and token, whenever
// they expire.
func (c Credentials) Equal(d Credentials) bool {
	return c.AccessKeyID == d.AccessKeyID && c.AccessKeySecret.Equal(d.AccessKeySecret) && c.SecurityToken.Equal(d.SecurityToken)
}

// A Provider looks credentials up. A [Source] makes its calls one at a time
// to Fetch, but any number to Stamp.
type Provider interface {
	// Fetch returns the credentials as they are now, or an [*Error]. It
	// returns when ctx ends.
	Fetch(ctx context.Context) (Credentials, error)

	// Stamp is cheap and tells without a Fetch whether one would find
	// something else: while it stays the same, what was fetched holds until
	// it expires. An empty Stamp says that only a Fetch can tell.
	Stamp() string
}

// A Class says what is wrong with where credentials come from.
type Class string

const (
	Missing    Class = "missing"     // no such file or variable
	NotPrivate Class = "not_private" // others may read or change the file
	Malformed  Class = "malformed"   // what is there is no credential
	Unreadable Class = "unreadable"  // it could not be read just now
	Expired    Class = "expired"     // the last good ones ended before new ones came
)

// An Error is credentials that could not be had.
type Error struct {
	Class Class
	Name  string // of the file or variable
	Err   error  // never holds a secret
}

// Error names the place and says what is wrong there.
func (e *Error) Error() string { return "credentials: " + e.Name + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// value returns what was found under name as hidden text, without the one newline
// that editors put at its end. Access keys go into headers: they are printable
// ASCII without spaces.
func value(name string, b []byte) (hidden.Text, error) {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
	}
	if len(b) == 0 {
		return hidden.Text{}, &Error{Malformed, name, errors.New("is empty; put the credential there")}
	}
	for i, c := range b {
		if c < '!' || c > '~' {
			return hidden.Text{}, &Error{Malformed, name, fmt.Errorf("byte %d is a space, a line break or no ASCII; remove it", i+1)}
		}
	}
	return hidden.New(string(b)), nil
}
