package trust

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
)

// maxCA is far above any file of certificates.
const maxCA = 16 << 20

// Check returns what is wrong with the certificates in caFile, an [*Error];
// nil also where it is "".
func Check(caFile string) error {
	if caFile == "" {
		return nil
	}
	_, _, err := read(caFile)
	return err
}

func read(caFile string) (pem []byte, roots *x509.CertPool, err error) {
	f, err := os.Open(caFile)
	if err == nil {
		pem, err = io.ReadAll(io.LimitReader(f, maxCA))
		f.Close() // it was only read
	}
	roots = x509.NewCertPool()
	if err == nil && !roots.AppendCertsFromPEM(pem) {
		err = fmt.Errorf("%s holds no certificate in PEM", caFile)
	}
	if err != nil {
		return nil, nil, &Error{why: err.Error(), Key: "route.ca_file", err: err,
			Fix: "put a file of certificates in PEM there that the agent's user can read, or name another in ca_file of the route"}
	}
	return pem, roots, nil
}

// Transport returns t, to trust the certificates in caFile in the place of the
// system's; with "" as it is. The file is read with each request. What was read
// last holds while it cannot be; a request before that fails with an [*Error].
func Transport(t *http.Transport, caFile string) http.RoundTripper {
	if caFile == "" {
		return t
	}
	return &following{base: t, file: caFile}
}

// following is a transport for the certificates that its file holds now.
type following struct {
	base *http.Transport // never used, but cloned
	file string

	mu  sync.Mutex      // guards what follows
	pem []byte          // of now
	now *http.Transport // nil: nothing was read yet
}

// RoundTrip is for [http.RoundTripper].
func (f *following) RoundTrip(req *http.Request) (*http.Response, error) {
	t, err := f.transport()
	if err != nil {
		if req.Body != nil {
			req.Body.Close() // as a RoundTripper must
		}
		return nil, err
	}
	return t.RoundTrip(req)
}

func (f *following) transport() (*http.Transport, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	pem, roots, err := read(f.file)
	switch {
	case err != nil && f.now == nil:
		return nil, err
	case err != nil, f.now != nil && bytes.Equal(pem, f.pem):
		return f.now, nil
	}
	if f.now != nil {
		f.now.CloseIdleConnections()
	}
	f.pem, f.now = pem, f.base.Clone()
	f.now.TLSClientConfig.RootCAs = roots
	return f.now, nil
}

// CloseIdleConnections is as that of [http.Transport].
func (f *following) CloseIdleConnections() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.now != nil {
		f.now.CloseIdleConnections()
	}
}
