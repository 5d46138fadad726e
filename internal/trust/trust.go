// Package trust is about whose certificates a connection trusts: it follows the
// file that names them, and says of a server's certificate that is refused which
// one it is, why it is refused, and what mends it.
package trust

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// An Error tells why a server's certificate is refused, or no file tells which to
// trust. It wraps the error of crypto/tls, or of the file.
type Error struct {
	why string
	Key string // of the configuration's section, to mend it: route.ca_file, endpoint; "" = none
	Fix string // what a person can do
	err error
}

// Error names the certificate or the file, then says what is wrong with it.
func (e *Error) Error() string { return e.why }

// Unwrap returns the error that it is in the place of.
func (e *Error) Unwrap() error { return e.err }

// Explain returns the error in the place of err, nil if that is none of a
// server's certificate or of caFile, the file of the authorities that are trusted;
// "" = the system's are.
func Explain(err error, caFile string) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	verify, ok := errors.AsType[*tls.CertificateVerificationError](err)
	if !ok {
		return nil
	}
	e := &Error{err: err}
	var cert *x509.Certificate
	if len(verify.UnverifiedCertificates) > 0 {
		cert = verify.UnverifiedCertificates[0]
	}
	why := verify.Err.Error()
	e.Fix = "have the server's certificate replaced"
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	switch {
	case errors.As(err, new(x509.UnknownAuthorityError)):
		e.Key = "route.ca_file"
		why, e.Fix = "its authority is not in ca_file "+caFile, "put the authority that issued it into ca_file of the route"
		if caFile == "" {
			why, e.Fix = "its authority is none of the system's, and the route has no ca_file", "name in ca_file of the route the authority that issued it, if it is your own"
		}
	case errors.As(err, &host):
		why = fmt.Sprintf("it is not for %q", clean(host.Host))
		e.Key = "endpoint"
		e.Fix = "see whether endpoint and dial_address lead to that server"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		if cert = invalid.Cert; time.Now().Before(cert.NotBefore) {
			why = "it is not valid before " + day(cert.NotBefore)
		} else {
			why = "it expired on " + day(cert.NotAfter)
		}
		e.Fix = "have it renewed, or set this host's clock right"
	}
	e.why = "certificate" + describe(cert) + " is refused: " + why
	return e
}

// describe tells a certificate by its names and its issuer.
func describe(c *x509.Certificate) string {
	if c == nil {
		return ""
	}
	names := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, net.IP.String(ip))
	}
	if len(names) == 0 {
		names = []string{c.Subject.String()}
	}
	const most = 4
	more := ""
	if n := len(names) - most; n > 0 {
		names, more = names[:most], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf(" for %s%s, issued by %q,", clean(strings.Join(names, ", ")), more, clean(c.Issuer.String()))
}

func day(t time.Time) string { return t.UTC().Format(time.DateTime) + " UTC" }

// clean bounds what a server says of itself, and takes what is not printable
// ASCII out of it.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	const most = 160
	if len(s) > most {
		s = s[:most] + "..."
	}
	return s
}
