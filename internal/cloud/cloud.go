// Package cloud opens the services of Alibaba Cloud that a configuration
// names, for the agent and for the reader. It opens no connection, and reads
// neither access key nor certificates yet: what is wrong with those is told when
// a service is called, and may be mended until the next call. An error is of the
// configuration.
package cloud

import (
	"context"
	"errors"
	"time"

	"sealtail/conf"
	"sealtail/cred"
	"sealtail/internal/hidden"
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
		if e, ok := errors.AsType[*cred.Error](err); ok && e.Class == cred.Missing {
			return AccessKey{cred.New(nowhere{e})}, nil
		}
		return AccessKey{cred.New(files)}, err
	}
	return AccessKey{cred.New(cred.Files{
		AccessKeyID: c.AccessKeyIDFile, AccessKeySecret: c.AccessKeySecretFile, SecurityToken: c.SecurityTokenFile,
	})}, nil
}

// nowhere provides no access key: the service manager gave this process none.
type nowhere struct{ err error }

// Fetch is for [cred.Provider].
func (n nowhere) Fetch(context.Context) (cred.Credentials, error) { return cred.Credentials{}, n.err }

// Stamp is for [cred.Provider].
func (nowhere) Stamp() string { return "" }

// Trouble returns why the newest look-up failed, and since when they do, while
// the access key that was found last is used in its place; nil = there is none.
func (access AccessKey) Trouble() (since time.Time, err error) {
	s := access.source.State()
	if s.Err == nil || s.Fetched.IsZero() || !s.Expires.IsZero() && !time.Now().Before(s.Expires) {
		return time.Time{}, nil // Get tells the rest
	}
	return s.Failing, s.Err
}

// Get is for [alikms.Credentials].
func (access AccessKey) Get(ctx context.Context) (id string, secret, token hidden.Text, err error) {
	return parts(access.source.Get(ctx))
}

// Refresh is for [alikms.Credentials].
func (access AccessKey) Refresh(ctx context.Context) (id string, secret, token hidden.Text, err error) {
	return parts(access.source.Refresh(ctx))
}

// AccessKey is for [sls.Credentials].
func (access AccessKey) AccessKey(ctx context.Context, fresh bool) (id string, secret, token hidden.Text, err error) {
	if fresh {
		return access.Refresh(ctx)
	}
	return access.Get(ctx)
}

func parts(c cred.Credentials, err error) (id string, secret, token hidden.Text, _ error) {
	return c.AccessKeyID, c.AccessKeySecret, c.SecurityToken, err
}

// KMS returns the client of a key of provider "alikms". allow are the CMKs
// that may be asked to decrypt.
func KMS(k conf.Key, allow ...string) (*alikms.Client, error) {
	access, err := Credentials(k.Credentials)
	if err != nil {
		return nil, err
	}
	return access.KMS(k, allow...)
}

// KMS is as the function, with an access key of its own.
func (access AccessKey) KMS(k conf.Key, allow ...string) (*alikms.Client, error) {
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
	return access.Logstore(s, userAgent)
}

// Logstore is as the function, with an access key of its own.
func (access AccessKey) Logstore(s conf.Sink, userAgent string) (*sls.Client, error) {
	return sls.New(sls.Options{
		Endpoint: s.Endpoint, Region: s.Region, Project: s.Project, Logstore: s.Logstore, Credentials: access,
		DialAddress: s.Route.DialAddress, Proxy: s.Route.Proxy, CAFile: s.Route.CAFile, UserAgent: userAgent,
		NoCMK: s.Encryption.Type != "" && s.Encryption.CMKKeyID == "",
	})
}
