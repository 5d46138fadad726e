package cred

import (
	"context"
	"errors"
	"os"

	"sealtail/internal/hidden"
)

// The variables that [Environment] reads, as Alibaba Cloud's own tools name them.
const (
	VarAccessKeyID     = "ALIBABA_CLOUD_ACCESS_KEY_ID"
	VarAccessKeySecret = "ALIBABA_CLOUD_ACCESS_KEY_SECRET"
	VarSecurityToken   = "ALIBABA_CLOUD_SECURITY_TOKEN"
)

// Environment finds credentials in the process's environment. Others can often
// see that, and nothing can change it from outside: [Files] are the better way.
type Environment struct{}

var _ Provider = Environment{}

// Fetch reads the variables. A security token may be absent.
func (Environment) Fetch(context.Context) (c Credentials, err error) {
	id, err := variable(VarAccessKeyID)
	if err != nil {
		return Credentials{}, err
	}
	c.AccessKeyID = id.Reveal()
	if c.AccessKeySecret, err = variable(VarAccessKeySecret); err != nil {
		return Credentials{}, err
	}
	if os.Getenv(VarSecurityToken) != "" {
		if c.SecurityToken, err = variable(VarSecurityToken); err != nil {
			return Credentials{}, err
		}
	}
	return c, nil
}

// Stamp is always the same.
func (Environment) Stamp() string { return "environment" }

func variable(name string) (hidden.Text, error) {
	s := os.Getenv(name)
	if s == "" {
		return hidden.Text{}, &Error{Missing, name, errors.New("is not set")}
	}
	return value(name, []byte(s))
}
