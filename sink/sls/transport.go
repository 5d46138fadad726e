package sls

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"sealtail/internal/trust"
)

// check returns the endpoint's scheme, or all that is wrong with o.
func (o *Options) check() (scheme string, err error) {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	u, err := url.Parse(o.Endpoint)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		fault("endpoint %q: want https://HOST", o.Endpoint)
	case u.Path != "" && u.Path != "/":
		fault("endpoint %q: want no path", o.Endpoint)
	case u.Scheme != "https" && u.Scheme != "http":
		fault("endpoint %q: want https://", o.Endpoint)
	default:
		o.Endpoint = u.Scheme + "://" + u.Host
		scheme = u.Scheme
	}
	if scheme == "http" {
		if !o.Proxy.Empty() || o.ProxyFromEnvironment {
			fault("endpoint %q: http:// does not go through a proxy", o.Endpoint)
		}
		host := o.DialAddress
		if host == "" {
			host = u.Host
		}
		if host = hostOnly(host); host != "localhost" && !net.ParseIP(host).IsLoopback() {
			fault("endpoint %q: http:// is for loopback addresses only; use https://", o.Endpoint)
		}
	}
	if o.Region == "" {
		fault("region is not set")
	}
	if !isName(o.Project, "-") {
		fault("project %q: want 2 to 63 lower-case letters, digits and -", o.Project)
	}
	if !isName(o.Logstore, "-_") {
		fault("logstore %q: want 2 to 63 lower-case letters, digits, - and _", o.Logstore)
	}
	if o.Credentials == nil {
		fault("credentials are not set")
	}
	if o.DialAddress != "" && (!o.Proxy.Empty() || o.ProxyFromEnvironment) {
		fault("dial address and proxy exclude each other")
	}
	return scheme, errors.Join(faults...)
}

// isName reports whether s is a name of SLS; the project's becomes a part of a
// host name, the Logstore's of a path.
func isName(s, marks string) bool {
	if len(s) < 2 || len(s) > 63 || strings.ContainsAny(s[:1]+s[len(s)-1:], marks) {
		return false
	}
	for _, c := range s {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.ContainsRune(marks, c)) {
			return false
		}
	}
	return true
}

func hostOnly(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return strings.Trim(address, "[]")
}

// errNotLoopback refuses to send over http to another host.
var errNotLoopback = errors.New("http:// is for loopback addresses only; use https://")

// transport returns what opens connections as o says.
func (o *Options) transport(scheme string) (http.RoundTripper, error) {
	t := &http.Transport{
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    10 * time.Second,
		IdleConnTimeout:        30 * time.Second,
		MaxIdleConnsPerHost:    8,
		MaxResponseHeaderBytes: 64 << 10,
		WriteBufferSize:        64 << 10,
	}
	switch {
	case o.ProxyFromEnvironment:
		t.Proxy = http.ProxyFromEnvironment
	case !o.Proxy.Empty():
		u, err := url.Parse(o.Proxy.Reveal())
		if err != nil || u.Host == "" {
			return nil, errors.New("proxy: want a URL with a host") // the URL may hold a password
		}
		t.Proxy = http.ProxyURL(u)
	}
	d := net.Dialer{Timeout: 10 * time.Second}
	if scheme == "http" {
		d.Control = func(_, address string, _ syscall.RawConn) error {
			if ip := net.ParseIP(hostOnly(address)); ip == nil || !ip.IsLoopback() {
				return errNotLoopback
			}
			return nil
		}
	}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if o.DialAddress != "" {
			to := o.DialAddress
			if _, _, err := net.SplitHostPort(to); err != nil {
				_, port, _ := net.SplitHostPort(address) // the transport's own addresses have one
				to = net.JoinHostPort(hostOnly(to), port)
			}
			address = to
		}
		return d.DialContext(ctx, network, address)
	}
	return trust.Transport(t, o.CAFile), nil
}
