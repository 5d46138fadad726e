package alikms

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"sealtail/internal/trust"
	"sealtail/seal"
)

const (
	version   = "2016-01-20"
	maxAnswer = 64 << 10
	maxHeader = 16 << 10
)

// A gateway is the service as seen from here.
type gateway struct {
	endpoint    *url.URL
	transport   http.RoundTripper
	credentials Credentials
	timeout     time.Duration
	caFile      string
	inQuery     bool
	skew        atomic.Int64 // a time.Duration: see Skew
}

// Skew returns the KMS's clock less this host's, in whole seconds, as its
// newest answer of success tells; 0 also where there was none.
func (g *gateway) Skew() time.Duration { return time.Duration(g.skew.Load()) }

// configure takes from o what concerns the way to the service, or returns all
// that is wrong with it.
func (g *gateway) configure(o Options) error {
	var errs []error
	fault := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }

	g.credentials, g.timeout, g.inQuery, g.caFile = o.Credentials, o.Timeout, o.QueryParameters, o.CAFile
	if g.credentials == nil {
		fault("no credentials")
	}
	if g.timeout == 0 {
		g.timeout = 5 * time.Second
	}

	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		u.Path != "" && u.Path != "/" || u.Scheme != "https" && u.Scheme != "http" {
		fault("endpoint: want https://HOST or https://HOST:PORT")
		u = &url.URL{Scheme: "https"}
	}
	g.endpoint = &url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/"}

	dialer := &net.Dialer{Timeout: g.timeout}
	dial := dialer.DialContext
	host := u.Hostname()
	if o.DialAddress != "" {
		if host, _, err = net.SplitHostPort(o.DialAddress); err != nil || host == "" {
			fault("dial address: want HOST:PORT")
		}
		dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, o.DialAddress)
		}
	}
	if u.Scheme == "http" {
		if ip := net.ParseIP(host); host != "localhost" && !ip.IsLoopback() || !o.Proxy.Empty() {
			fault("endpoint: http:// is for loopback addresses; use https://")
		}
		dialer.Control = loopbackOnly // localhost is what the resolver says
	}

	var proxy func(*http.Request) (*url.URL, error)
	if !o.Proxy.Empty() {
		p, err := url.Parse(o.Proxy.Reveal()) // its error would repeat the password
		if err != nil || p.Host == "" || p.Scheme != "http" && p.Scheme != "https" && p.Scheme != "socks5" {
			fault("proxy: want http://, https:// or socks5://HOST:PORT")
		}
		if o.DialAddress != "" {
			fault("proxy and dial address: use one")
		}
		proxy = http.ProxyURL(p)
	}

	g.transport = trust.Transport(&http.Transport{
		Proxy:                  proxy,
		DialContext:            dial,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    g.timeout,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
	}, o.CAFile)
	return errors.Join(errs...)
}

func loopbackOnly(_, address string, _ syscall.RawConn) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil || !net.ParseIP(host).IsLoopback() {
		return fmt.Errorf("%s is no loopback address, which http:// needs", address)
	}
	return nil
}

// call makes one call and decodes its answer. A refused access key is looked up
// again; if it has changed, the call is made once more.
func (g *gateway) call(ctx context.Context, action string, parameters map[string]string, answer any) error {
	var k accessKey
	var err error
	if k.id, k.secret, k.token, err = g.credentials.Get(ctx); err != nil {
		return &seal.KMSError{Class: seal.Outage, Code: "NoCredentials", Err: fmt.Errorf("%s: %w", action, err)}
	}
	refused := g.try(ctx, k, action, parameters, answer)
	if refused == nil || refused.Class != seal.Credentials {
		return orNil(refused)
	}
	was := k
	if k.id, k.secret, k.token, err = g.credentials.Refresh(ctx); err != nil {
		return &seal.KMSError{Class: seal.Outage, Code: "NoCredentials", Err: fmt.Errorf("%w; then %w", refused.Err, err)}
	}
	if k.equal(was) {
		return refused
	}
	return orNil(g.try(ctx, k, action, parameters, answer))
}

func orNil(e *seal.KMSError) error {
	if e == nil {
		return nil
	}
	return e
}

// try sends one request, signed with k, and reads its answer.
func (g *gateway) try(ctx context.Context, k accessKey, action string, parameters map[string]string, answer any) *seal.KMSError {
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	req, err := g.request(ctx, k, action, parameters)
	if err != nil {
		return failure(action, seal.Misfit, "Request", err)
	}
	// Not http.Client: it follows redirects, and its errors repeat the URL.
	resp, err := g.transport.RoundTrip(req)
	if refused := trust.Explain(err, g.caFile); refused != nil {
		return failure(action, seal.Outage, "Certificate", refused)
	}
	if err != nil {
		return unreachable(ctx, action, err)
	}
	defer resp.Body.Close()
	s, n, err := readAnswer(resp.Body)
	defer s.Wipe()
	if err != nil {
		return unreachable(ctx, action, err)
	}
	body := s.Bytes()[:n]
	if resp.StatusCode != http.StatusOK {
		return refusal(action, resp, body, k)
	}
	if !decode(body, answer) {
		return noAnswer(action)
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		g.skew.Store(int64(time.Until(date).Round(time.Second)))
	}
	return nil
}

func (g *gateway) request(ctx context.Context, k accessKey, action string, parameters map[string]string) (*http.Request, error) {
	u := *g.endpoint
	var body []byte
	if g.inQuery {
		u.RawQuery = canonical(parameters)
	} else {
		form := make(url.Values, len(parameters))
		for name, v := range parameters {
			form.Set(name, v)
		}
		body = []byte(form.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the request cannot be made") // err would repeat the URL
	}
	if !g.inQuery {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "sealtail")
	req.Header.Set("x-acs-action", action)
	req.Header.Set("x-acs-version", version)
	nonce := make([]byte, 16)
	rand.Read(nonce)
	k.sign(req, body, time.Now(), hex.EncodeToString(nonce))
	return req, nil
}

// readAnswer reads all of r into locked memory, for the caller to wipe.
func readAnswer(r io.Reader) (s seal.Secret, n int, err error) {
	s = seal.NewSecret(4 << 10)
	for {
		m, err := r.Read(s.Bytes()[n:])
		n += m
		switch {
		case n > maxAnswer:
			return s, n, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
		case err == io.EOF:
			return s, n, nil
		case err != nil:
			return s, n, err
		}
		if n == len(s.Bytes()) {
			grown := seal.NewSecret(min(4*n, maxAnswer+1))
			copy(grown.Bytes(), s.Bytes())
			s.Wipe()
			s = grown
		}
	}
}

// unreachable is a failure on the way to the service or back.
func unreachable(ctx context.Context, action string, err error) *seal.KMSError {
	code := "Network"
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code, err = "Timeout", ctx.Err()
	} else if ctx.Err() != nil {
		err = ctx.Err()
	} else if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() {
		code = "Timeout"
	}
	return failure(action, seal.Outage, code, err)
}

// noAnswer is a success without what was asked for in it: of something in
// between, perhaps. It says nothing about the CMK.
func noAnswer(action string) *seal.KMSError {
	return failure(action, seal.Outage, "Answer", errors.New("HTTP 200 without the service's answer in it"))
}

func failure(action string, class seal.Class, code string, err error) *seal.KMSError {
	return &seal.KMSError{Class: class, Code: code, Err: fmt.Errorf("%s: %w", action, err)}
}

// short returns s if it is a word of a service, and "" if it may be anything.
func short(s string) string {
	if len(s) > 64 {
		return ""
	}
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._-", c) >= 0) {
			return ""
		}
	}
	return s
}
