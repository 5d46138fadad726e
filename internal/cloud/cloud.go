// Package cloud opens the services of Alibaba Cloud that a configuration
// names, for the agent and for the reader. It opens no connection and reads no
// access key yet: what is wrong with those is told when a service is called.
// An error is of the configuration.
package cloud

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"

	"sealtail/conf"
	"sealtail/cred"
	"sealtail/seal/alikms"
	"sealtail/sink/sls"
)

// An AccessKey fits a source of credentials to those who sign with it.
type AccessKey struct{ source *cred.Source }

var (
	_ alikms.Credentials = AccessKey{}
	_ sls.Credentials    = AccessKey{}
)

// Credentials returns the access key that c tells where to find.
func Credentials(c conf.Credentials) (AccessKey, error) {
	switch c.Type {
	case "env":
		return AccessKey{cred.New(cred.Environment{})}, nil
	case "systemd":
		files, err := cred.Systemd(c.AccessKeyIDName, c.AccessKeySecretName, c.SecurityTokenName)
		return AccessKey{cred.New(files)}, err
	}
	return AccessKey{cred.New(cred.Files{
		AccessKeyID: c.AccessKeyIDFile, AccessKeySecret: c.AccessKeySecretFile, SecurityToken: c.SecurityTokenFile,
	})}, nil
}

// Get is for [alikms.Credentials].
func (k AccessKey) Get(ctx context.Context) (id, secret, token string, err error) {
	return reveal(k.source.Get(ctx))
}

// Refresh is for [alikms.Credentials].
func (k AccessKey) Refresh(ctx context.Context) (id, secret, token string, err error) {
	return reveal(k.source.Refresh(ctx))
}

// AccessKey is for [sls.Credentials].
func (k AccessKey) AccessKey(ctx context.Context, fresh bool) (id, secret, token string, err error) {
	if fresh {
		return k.Refresh(ctx)
	}
	return k.Get(ctx)
}

func reveal(c cred.Credentials, err error) (id, secret, token string, _ error) {
	return c.AccessKeyID, c.AccessKeySecret.Reveal(), c.SecurityToken.Reveal(), err
}

// KMS returns the client of a key of provider "alikms". allow are the CMKs
// that may be asked to decrypt.
func KMS(k conf.Key, allow ...string) (*alikms.Client, error) {
	access, err := Credentials(k.Credentials)
	if err != nil {
		return nil, err
	}
	if _, err := readCA(k.Route.CAFile); err != nil {
		return nil, err
	}
	return alikms.New(alikms.Options{
		Endpoint: k.Endpoint, KeyID: k.KeyID, Allow: allow, Credentials: access, Timeout: k.CallTimeout,
		CAFile: k.Route.CAFile, Proxy: k.Route.Proxy, DialAddress: k.Route.DialAddress,
		QueryParameters: k.Parameters == "query",
	})
}

// Logstore returns the client of a sink of type "sls".
func Logstore(s conf.Sink, userAgent string) (*sls.Client, error) {
	access, err := Credentials(s.Credentials)
	if err != nil {
		return nil, err
	}
	ca, err := readCA(s.Route.CAFile)
	if err != nil {
		return nil, err
	}
	return sls.New(sls.Options{
		Endpoint: s.Endpoint, Region: s.Region, Project: s.Project, Logstore: s.Logstore, Credentials: access,
		DialAddress: s.Route.DialAddress, Proxy: s.Route.Proxy, CA: ca, CAFile: s.Route.CAFile, UserAgent: userAgent,
		NoCMK: s.Encryption.Type != "" && s.Encryption.CMKKeyID == "",
	})
}

// A CAError says that a file of certificates to trust cannot be used.
type CAError struct{ Err error }

// Error says which file, and why.
func (e *CAError) Error() string { return e.Err.Error() }

// Unwrap returns why.
func (e *CAError) Unwrap() error { return e.Err }

// readCA returns the certificates in a file, or none where there is no file.
func readCA(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err == nil && !x509.NewCertPool().AppendCertsFromPEM(b) {
		err = fmt.Errorf("%s holds no certificate in PEM", file)
	}
	if err != nil {
		return nil, &CAError{err}
	}
	return b, nil
}
