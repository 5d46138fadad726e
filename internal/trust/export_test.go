package trust

import (
	"crypto/x509"
	"net/http"
)

// BeforeRead has f called whenever t, of [Transport], reads its file.
func BeforeRead(t http.RoundTripper, f func()) {
	t.(*following).read = func(file string) ([]byte, *x509.CertPool, error) {
		f()
		return read(file)
	}
}
