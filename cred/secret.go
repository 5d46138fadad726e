package cred

import "sealtail/internal/hidden"

// A Secret is text that is not to be seen.
type Secret = hidden.Text

// NewSecret returns s as a Secret.
func NewSecret(s string) Secret { return hidden.New(s) }
