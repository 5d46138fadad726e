package trust

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
)

// maxCA is far above any file of certificates.
const maxCA = 16 << 20

// patience is how long a request waits for its file while what was read last
// would do.
const patience = time.Second

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
	pem, err = readFile(caFile)
	roots = x509.NewCertPool()
	if err == nil && !roots.AppendCertsFromPEM(pem) {
		err = fmt.Errorf("%s holds no certificate in PEM", caFile)
	}
	if err != nil {
		return nil, nil, unread(err)
	}
	return pem, roots, nil
}

func readFile(name string) ([]byte, error) {
	// O_NONBLOCK: to open a FIFO must not wait for its writer.
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it is only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	return io.ReadAll(io.LimitReader(f, maxCA))
}

func unread(err error) *Error {
	return &Error{why: err.Error(), Key: "route.ca_file", err: err,
		Fix: "put a file of certificates in PEM there that the agent's user can read, or name another in ca_file of the route"}
}

// Transport returns t, to trust the certificates in caFile in the place of the
// system's; with "" as it is. It may be used by several goroutines.
//
// The file is read with each request, which waits for that no longer than its
// context lasts. What was read last holds while it cannot be, or takes longer
// than a second; a request before that fails with an [*Error].
func Transport(t *http.Transport, caFile string) http.RoundTripper {
	if caFile == "" {
		return t
	}
	return &following{base: t, file: caFile, read: read}
}

// following is a transport for the certificates that its file holds now.
type following struct {
	base *http.Transport // never used, but cloned
	file string
	read func(file string) (pem []byte, roots *x509.CertPool, err error)

	mu      sync.Mutex      // guards what follows; never held over a call of read
	pem     []byte          // of now
	now     *http.Transport // nil: nothing was read yet
	err     error           // why the file could not be read last
	reading chan struct{}   // closed when the file has been; nil: it is not being read
}

// RoundTrip is for [http.RoundTripper].
func (f *following) RoundTrip(req *http.Request) (*http.Response, error) {
	t, err := f.transport(req.Context())
	if err != nil {
		if req.Body != nil {
			req.Body.Close() // as a RoundTripper must
		}
		return nil, err
	}
	return t.RoundTrip(req)
}

func (f *following) transport(ctx context.Context) (*http.Transport, error) {
	done, last := f.begin()
	var enough <-chan time.Time
	if last != nil {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		enough = timer.C
	}
	select {
	case <-done:
	case <-enough:
		return last, nil
	case <-ctx.Done():
		return nil, unread(fmt.Errorf("read %s: %w", f.file, ctx.Err()))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.now == nil {
		return nil, f.err
	}
	return f.now, nil
}

// begin has the file read, unless it is being read: a disk that hangs keeps one
// goroutine, which nobody has to wait for. last is what holds until done.
func (f *following) begin() (done <-chan struct{}, last *http.Transport) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reading == nil {
		f.reading = make(chan struct{})
		go f.follow()
	}
	return f.reading, f.now
}

// follow reads the file.
func (f *following) follow() {
	pem, roots, err := f.read(f.file)
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.reading)
	f.reading, f.err = nil, err
	if err != nil || f.now != nil && bytes.Equal(pem, f.pem) {
		return
	}
	if f.now != nil {
		f.now.CloseIdleConnections()
	}
	f.pem, f.now = pem, f.base.Clone()
	if f.now.TLSClientConfig == nil {
		f.now.TLSClientConfig = new(tls.Config)
	}
	f.now.TLSClientConfig.RootCAs = roots
}

// CloseIdleConnections is as that of [http.Transport].
func (f *following) CloseIdleConnections() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.now != nil {
		f.now.CloseIdleConnections()
	}
}
