package sls

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	api "github.com/aliyun/aliyun-log-go-sdk"

	"sealtail/internal/hidden"
)

// Options say where a [Client] sends requests and how. Endpoint, Region,
// Project, Logstore and Credentials must be set.
type Options struct {
	// Endpoint is https://HOST[:PORT]; the project becomes a label before
	// HOST. http:// is allowed where connections end on a loopback address.
	Endpoint string
	Region   string
	Project  string
	Logstore string

	Credentials Credentials

	// DialAddress is HOST[:PORT] to connect to whatever name the endpoint
	// has: for private links and emulators. Certificates are still verified
	// against the endpoint's name.
	DialAddress string
	// CAFile is a file of PEM certificates that are trusted in the place of the
	// system's, read with each request. What was read last holds while it cannot
	// be read; before that a request fails.
	CAFile string
	// Proxy is the URL of a proxy. ProxyFromEnvironment takes it from
	// HTTPS_PROXY and NO_PROXY instead. Default: none, whatever the
	// environment says.
	Proxy                hidden.Text
	ProxyFromEnvironment bool

	// NoCMK says that the Logstore has no CMK of its own, so that no refusal is
	// put down to one. Default: it may have one.
	NoCMK bool

	Timeout   time.Duration // of one request, its answer included; default 60 s
	UserAgent string        // default "sealtail"
}

// A Client sends requests to one Logstore. It is safe for concurrent use.
type Client struct {
	o      Options
	scheme string
	base   http.RoundTripper

	skew atomic.Int64 // a time.Duration: see Skew

	mu        sync.Mutex // guards what follows
	refreshed time.Time  // when fresh credentials were last asked for
}

// refreshEvery is how often credentials that are refused are looked up anew.
const refreshEvery = 30 * time.Second

// The SDK logs to the standard output, or to a file that the environment
// names, unless it is told not to.
var silence sync.Once

type silent struct{}

func (silent) Log(...any) error { return nil }

// New returns a Client. It opens no connection.
func New(o Options) (*Client, error) {
	silence.Do(func() { api.Logger = silent{} })
	if o.Timeout <= 0 {
		o.Timeout = 60 * time.Second
	}
	if o.UserAgent == "" {
		o.UserAgent = "sealtail"
	}
	scheme, err := o.check()
	if err != nil {
		return nil, err
	}
	t, err := o.transport(scheme)
	if err != nil {
		return nil, err
	}
	return &Client{o: o, scheme: scheme, base: t}, nil
}

// Close closes idle connections. The Client may still be used.
func (c *Client) Close() {
	if t, ok := c.base.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// Destination returns the names of the project and the Logstore.
func (c *Client) Destination() (project, logstore string) { return c.o.Project, c.o.Logstore }

// Skew returns the service's clock less this host's, in whole seconds, as its
// newest answer of success tells; 0 also where there was none.
func (c *Client) Skew() time.Duration { return time.Duration(c.skew.Load()) }

// A request is one request without its signature.
type request struct {
	op      string // what it does, for errors
	method  string
	uri     string
	header  map[string]string // without x-log-bodyrawsize
	body    []byte
	raw     int           // size of body before compression
	readers *atomic.Int32 // of body, counted if set: a connection may go on sending what was refused
	limit   int64         // of the answer's body; default 1 MiB
	empty   bool          // the answer has no body
	noCMK   bool          // the Logstore has none of its own
}

// An answer is an answer of status 200.
type answer struct {
	header http.Header
	body   []byte
	skew   time.Duration // the service's clock less this host's, in whole seconds; 0 also if not known or below 2 s
}

// logstore returns the path of the Logstore followed by rest.
func (c *Client) logstore(rest string) string { return "/logstores/" + c.o.Logstore + rest }

// do sends a request. Where the service refuses the credentials it sends it
// once more with fresh ones. The error is an [*Error], or ctx's.
func (c *Client) do(ctx context.Context, r request) (*answer, error) {
	r.noCMK = r.noCMK || c.o.NoCMK
	a, err := c.try(ctx, r, false)
	var e *Error
	if errors.As(err, &e) && e.do == refresh && c.mayRefresh() {
		a, err = c.try(ctx, r, true)
	}
	return a, err
}

func (c *Client) mayRefresh() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if !c.refreshed.IsZero() && now.Sub(c.refreshed) < refreshEvery {
		return false
	}
	c.refreshed = now
	return true
}

// lookedInVain has the next request that is refused look again: only so is it
// told why there are no fresh credentials, and not what became of the old ones.
func (c *Client) lookedInVain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refreshed = time.Time{}
}

// try sends a request once.
func (c *Client) try(parent context.Context, r request, fresh bool) (*answer, error) {
	ctx, cancel := context.WithTimeoutCause(parent, c.o.Timeout, fmt.Errorf("no answer within %v", c.o.Timeout))
	defer cancel()
	id, secret, token, err := c.o.Credentials.AccessKey(ctx, fresh)
	if err != nil {
		if parent.Err() != nil {
			return nil, parent.Err()
		}
		if fresh {
			c.lookedInVain()
		}
		return nil, &Error{Class: Refused, Op: r.op, Hint: "make the access key available", err: err}
	}
	if r.limit == 0 {
		r.limit = 1 << 20
	}
	t := &trip{ctx: ctx, client: c, limit: r.limit, readers: r.readers}
	p, err := t.project(id, secret, token)
	if err != nil {
		return nil, &Error{Class: Config, Op: r.op, err: err}
	}
	header := map[string]string{api.HTTPHeaderBodyRawSize: strconv.Itoa(r.raw)}
	for k, v := range r.header {
		header[k] = v
	}
	resp, err := p.RawRequest(r.method, r.uri, header, r.body)
	var body []byte
	if err == nil {
		body, err = io.ReadAll(resp.Body)
		resp.Body.Close() // it was only read
	}
	foreign := ""
	switch {
	case err != nil:
	case resp.Header.Get(api.RequestIDHeader) == "":
		foreign = "it has no request id"
	case r.empty && len(body) > 0:
		foreign = "it has a body"
	default:
		a := &answer{resp.Header, body, skewOf(resp.Header)}
		c.skew.Store(int64(a.skew))
		return a, nil
	}
	switch { // what answers while the connection is closed does not count
	case parent.Err() != nil:
		return nil, parent.Err()
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case foreign != "":
		return nil, &Error{Class: Network, Op: r.op, Hint: hintOther, err: errors.New("the answer is not the service's: " + foreign)}
	}
	return nil, c.explain(r, t, err, secret, token)
}

// A trip is the transport of one request: it gives the SDK, which knows no
// context, the caller's one.
type trip struct {
	ctx     context.Context
	client  *Client
	limit   int64
	readers *atomic.Int32
	ready   bool // the SDK has made its LogProject

	status int // of the answer; 0 = there was none
	header http.Header
}

// project returns the SDK's LogProject over t. The SDK makes one with another
// transport than its own only after asking the service about the project: t
// answers that itself, so it takes neither a request nor a permission.
func (t *trip) project(id string, secret, token hidden.Text) (*api.LogProject, error) {
	o := &t.client.o
	client := (&api.Client{
		Endpoint:       o.Endpoint,
		RequestTimeOut: o.Timeout,
		RetryTimeOut:   o.Timeout,
		HTTPClient: &http.Client{
			Transport:     t,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		Region:      o.Region,
		AuthVersion: api.AuthV4,
		UserAgent:   o.UserAgent,
	}).WithCredentialsProvider(api.NewStaticCredentialsProvider(id, secret.Reveal(), token.Reveal()))
	p, err := client.GetProject(o.Project)
	t.ready = true
	return p, err
}

func (t *trip) RoundTrip(r *http.Request) (*http.Response, error) {
	if !t.ready {
		return &http.Response{
			StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
			Body: io.NopCloser(strings.NewReader("{}")), Request: r,
		}, nil
	}
	if r.URL.Scheme != t.client.scheme {
		return nil, fmt.Errorf("refusing to send over %s", r.URL.Scheme)
	}
	r = r.WithContext(t.ctx)
	if t.readers != nil {
		again := r.GetBody
		r.Body = t.reader(r.Body)
		r.GetBody = func() (io.ReadCloser, error) {
			body, err := again()
			return t.reader(body), err
		}
	}
	resp, err := t.client.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	t.status, t.header = resp.StatusCode, resp.Header
	resp.Body = &bounded{resp.Body, t.limit}
	return resp, nil
}

// A reader is a body that somebody reads until it is closed.
type reader struct {
	io.ReadCloser
	close func()
}

func (t *trip) reader(body io.ReadCloser) io.ReadCloser {
	t.readers.Add(1)
	return reader{body, sync.OnceFunc(func() { t.readers.Add(-1) })}
}

func (r reader) Close() error {
	defer r.close()
	return r.ReadCloser.Close()
}

var errAnswerTooLong = errors.New("the answer is too long")

// bounded is a body that fails beyond n bytes.
type bounded struct {
	io.ReadCloser
	n int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if int64(len(p)) > b.n+1 {
		p = p[:b.n+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.n -= int64(n); b.n < 0 {
		return 0, errAnswerTooLong
	}
	return n, err
}
